"""The soft rasterizer as its formulas read: every triangle at every pixel, gradients by autodiff. For tests.

Its time grows with triangles times pixels. Same arguments and results as `soft_rasterizer.rasterize`.
"""

import functools
import math

import jax
import jax.numpy as jnp

from talkinghead_jax.ops.rasterizing.settings import EPSILON, EYE, FAR, NEAR, PAPER_SIZE


@functools.partial(jax.jit, static_argnames=('size', 'sigma', 'gamma', 'far', 'background', 'cutoff', 'grad'))
def rasterize(vertices: jax.Array, triangles: jax.Array, attributes: jax.Array, size: int, *, sigma: float = 1e-5,
              gamma: float = 1e-4, far: float = FAR, background: float = 0.0, cutoff: float = 1e-4,
              grad: str = 'exact') -> tuple[jax.Array, jax.Array, jax.Array]:
    """See `soft_rasterizer.rasterize`: image (B, H, W, C), alpha (B, H, W), depth (B, H, W)."""
    scale = size / PAPER_SIZE
    eye, near, far = (scale * value for value in (EYE, NEAR, far))
    exact = grad == 'exact'

    def one_row(points: jax.Array, values: jax.Array, row: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        column = jnp.arange(size)
        pixels = jnp.stack([column, jnp.full_like(column, row)], axis=-1)[:, None].astype(points.dtype)  # (W, 1, 2)
        corners = points[triangles]  # (F, 3, 3)
        xy = corners[..., :2]
        longest = ((jnp.roll(xy, -1, axis=1) - xy) ** 2).sum((1, 2))
        solid = jnp.abs(_cross(xy[:, 1] - xy[:, 0], xy[:, 2] - xy[:, 1])) > 1e-6 * longest
        # A triangle of no area is left out; this one stands in for it, so that its gradients are finite.
        harmless = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], xy.dtype)
        xy = jnp.where(solid[:, None, None], xy, harmless[None])
        w = _barycentric(xy, pixels)  # (W, F, 3)
        squared = _squared_distance(xy, pixels)
        inside = (w >= 0).all(-1)
        # SoftRas's sigma and the distance it belongs to are in coordinates in which the image is 2 wide.
        normalized = squared * (2 / size) ** 2
        reached = solid[None] & (inside | (normalized < math.log(1 / cutoff - 1) * sigma))
        logit = jnp.where(inside, normalized, -normalized) / sigma
        coverage = jnp.where(reached, jax.nn.sigmoid(logit), 0)
        clipped = jnp.clip(w, 0, 1)
        n = clipped / jnp.maximum(clipped.sum(-1, keepdims=True), 1e-5)
        n = n if exact else jax.lax.stop_gradient(n)
        distance = 1 / (n / (eye - corners[..., 2])[None]).sum(-1)
        visible = reached & (distance >= near) & (distance <= far)
        moves = logit if exact else jnp.where(visible, logit, jax.lax.stop_gradient(logit))
        opacity = jnp.where(reached, jax.nn.softplus(moves), 0).sum(1)  # -log of the product of 1 - D
        distance = jnp.where(visible, distance, far)
        depth = jnp.where(visible, (far - distance) / (far - near), 0)
        ground = 2 * EPSILON
        peak = jax.lax.stop_gradient(jnp.maximum(depth.max(1, initial=0), ground))
        weight = jnp.where(visible, coverage * jnp.exp((depth - peak[:, None]) / gamma), 0)
        behind = jnp.exp((ground - peak) / gamma)
        total = weight.sum(1) + behind
        painted = jnp.einsum('pf,pfk,fkc->pc', weight, n, values[triangles])
        image = (painted + behind[:, None] * background) / total[:, None]
        z = (weight * (eye - distance)).sum(1) / total
        return image, -jnp.expm1(-opacity), z

    def one(scene: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        # A row at a time, each computed again for its gradients: all pairs at once need gigabytes.
        return jax.lax.map(jax.checkpoint(lambda row: one_row(*scene, row)), jnp.arange(size))

    return jax.lax.map(one, (vertices, attributes))


def _barycentric(xy: jax.Array, pixels: jax.Array) -> jax.Array:
    """(F, 3, 2) triangles at (N, 1, 2) pixels -> (N, F, 3)."""
    area = _cross(xy[:, 1] - xy[:, 0], xy[:, 2] - xy[:, 0])
    weights = []
    for k in range(3):
        a, b = xy[None, :, (k + 1) % 3], xy[None, :, (k + 2) % 3]
        weights.append(_cross(b - a, pixels - a) / area[None])
    return jnp.stack(weights, axis=-1)


def _squared_distance(xy: jax.Array, pixels: jax.Array) -> jax.Array:
    """From (N, 1, 2) pixels to the boundary of (F, 3, 2) triangles: (N, F)."""
    distances = []
    for k in range(3):
        a, b = xy[None, :, k], xy[None, :, (k + 1) % 3]
        t = ((pixels - a) * (b - a)).sum(-1) / ((b - a) ** 2).sum(-1)
        nearest = a + jnp.clip(t, 0, 1)[..., None] * (b - a)
        distances.append(((pixels - nearest) ** 2).sum(-1))
    return functools.reduce(jnp.minimum, distances)


def _cross(a: jax.Array, b: jax.Array) -> jax.Array:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
