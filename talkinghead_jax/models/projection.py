"""The 3D-aware module and the motion matcher: what Theta knows before any learned weight (paper, Sec. 4.1)."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from talkinghead_jax.geometry import rigid
from talkinghead_jax.geometry.sketch import to_pixels
from talkinghead_jax.nn.sampling import sample_points
from talkinghead_jax.ops import batch_parallel, soft_rasterizer
from talkinghead_jax.specs import CROP_SIZE

BLACK = -1.0  # of the render's background, in images of [-1, 1]
BLUR = 0.04  # deviation of the Gaussian that fills blanked boxes, as a share of the image's side


class Projection(NamedTuple):
    """The key frame's mesh seen in the target's pose.

    Attributes:
      image: (B,S,S,3) in [-1, 1], black where there is no visible surface.
      alpha: (B,S,S) in [0, 1], coverage by surface that the key frame sees.
      displacement: (B,S,S,2) px of the image: where each point lies in the other pose, minus where it lies here.
    """

    image: jax.Array
    alpha: jax.Array
    displacement: jax.Array


def mesh_pixels(points: jax.Array, size: int) -> jax.Array:
    """Crop px (..., V, 3) -> px of an image of `size`, pixel centres at integers; z is only scaled."""
    return jnp.concatenate([to_pixels(points[..., :2], size), points[..., 2:] * (size / CROP_SIZE)], -1)


def project(vertices: jax.Array, visibility: jax.Array, triangles: jax.Array, key_image: jax.Array,
            key_pose: jax.Array, target_pose: jax.Array, other_pose: jax.Array) -> Projection:
    """Turn the textured mesh from `key_pose` to `target_pose` (Eq. 1) and rasterize it.

    Colour, visibility and displacement are attributes of one pass. The mesh has no trained parameters; the
    result is differentiable with respect to vertices, poses and colours for those who want it.

    Args:
      vertices: (B,V,3) crop px, in the key frame's pose.
      visibility: (B,V), 1 where the key frame sees the vertex.
      triangles: (F,3) int32.
      key_image: (B,S,S,3) in [-1, 1].
      key_pose: (B,6).
      target_pose: (B,6).
      other_pose: (B,6), the pose that `displacement` leads to: the matched reference's.
    """
    size = key_image.shape[1]
    colours = sample_points(key_image, to_pixels(vertices[..., :2], size))
    here = mesh_pixels(rigid.repose(vertices, key_pose, target_pose), size)
    there = mesh_pixels(rigid.repose(vertices, key_pose, other_pose), size)
    attributes = jnp.concatenate([colours, visibility[..., None], (there - here)[..., :2]], -1)
    rasterize = batch_parallel.per_shard(functools.partial(soft_rasterizer.rasterize, size=size), (0, None, 0))
    image, alpha, _ = rasterize(here, triangles, attributes)
    # Where a pixel lies inside any triangle, alpha is at least 1/2, yet less than 1 near the seams of triangles
    # smaller than a pixel: doubled, the surface is whole, and only its rim is soft.
    alpha = jnp.minimum(2 * alpha, 1) * jnp.clip(image[..., 3], 0, 1)
    colour = BLACK + alpha[..., None] * (jnp.clip(image[..., :3], -1, 1) - BLACK)
    return Projection(colour, alpha, image[..., 4:])


def pose_costs(target_pose: jax.Array, poses: jax.Array, mask: jax.Array, deviation: jax.Array) -> jax.Array:
    """The costs of Eq. 2: squared distance of head motions, in units of `deviation`; inf where masked.

    Args:
      target_pose: (B,6).
      poses: (B,K,6).
      mask: (B,K) bool.
      deviation: (6,): the dataset's `pose_deviation`, or ones for the literal equation.

    Returns:
      (B,K).
    """
    difference = (poses - target_pose[:, None]) / deviation.reshape(1, 1, 6)
    return jnp.where(mask, jnp.square(difference).sum(-1), jnp.inf)


def match(costs: jax.Array) -> jax.Array:
    """Index (B,) of the reference of least cost (B,K)."""
    return jnp.argmin(costs, -1)


def match_harder(costs: jax.Array, keys: jax.Array, probability: float) -> jax.Array:
    """The matcher in training: with `probability`, any valid reference but the best one ("increasing the cost").

    Args:
      costs: (B,K), inf where masked.
      keys: (B,) random keys.
      probability: of a worse match.

    Returns:
      (B,) index; the best where no other is valid.
    """
    best = match(costs)

    def draw(key: jax.Array, cost: jax.Array, best: jax.Array) -> jax.Array:
        whether, which = jax.random.split(key)
        others = jnp.isfinite(cost) & (jnp.arange(cost.shape[0]) != best)
        score = jnp.where(others, jax.random.uniform(which, cost.shape), -1.0)
        worse = jax.random.bernoulli(whether, probability) & others.any()
        return jnp.where(worse, jnp.argmax(score), best)

    return jax.vmap(draw)(keys, costs, best)


def take(values: jax.Array, index: jax.Array) -> jax.Array:
    """Each example's entry: (B,K,...), (B,) -> (B,...); per example, so that a sharded batch stays sharded."""
    return jax.vmap(lambda value, i: value[i])(values, index)


def blank(image: jax.Array, boxes: jax.Array, surface: jax.Array) -> jax.Array:
    """Erase the eye and mouth boxes: they take the colours around them, more and more blurred towards the middle.

    The original blackens them, which leaves edges that the network must learn to remove; a smooth fill says as
    little about the expression and has none. It is a Gaussian average of what is outside the boxes, divided by that
    of its coverage (normalised convolution, Knutsson and Westin 1993).

    Args:
      image: (B,S,S,3) in [-1, 1].
      boxes: (B,S,S), 0 or 1.
      surface: (B,S,S) in [0, 1]: where `image` shows anything at all.

    Returns:
      (B,S,S,3); black in boxes that have nothing around them.
    """
    known = (surface * (1 - boxes))[..., None]
    sums = _blur(jnp.concatenate([(image - BLACK) * known, known], -1))
    fill = BLACK + sums[..., :3] / jnp.maximum(sums[..., 3:], 1e-20)
    return jnp.where(boxes[..., None] > 0.5, fill, image)


def _blur(image: jax.Array) -> jax.Array:
    """Gaussian average of (B,S,S,C), one product of matrices a side; not normalised at the border."""
    pixels = jnp.arange(image.shape[1], dtype=jnp.float32)
    distance = (pixels[:, None] - pixels[None]) / (BLUR * image.shape[1])
    kernel = jnp.exp(-0.5 * jnp.square(distance))
    return jnp.einsum('ij,bjkc,lk->bilc', kernel, image, kernel, precision='highest')
