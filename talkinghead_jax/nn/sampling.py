"""Bilinear sampling of images at arbitrary points."""

import jax
import jax.numpy as jnp


def sample_points(image: jax.Array, points: jax.Array) -> jax.Array:
    """Sample each image at its own points, bilinearly; points outside take the border's value.

    Args:
      image: (B,H,W,C).
      points: (B,N,2), (x, y) in pixels, pixel centres at integers.

    Returns:
      (B,N,C).
    """
    return jax.vmap(_sample)(image, points)  # an example at a time, so that a sharded batch stays sharded


def _sample(image: jax.Array, points: jax.Array) -> jax.Array:
    height, width, _ = image.shape
    limit = jnp.array([[width - 1, height - 1]], points.dtype)
    points = jnp.clip(points, 0, limit)
    low = jnp.clip(jnp.floor(points), 0, jnp.maximum(limit - 1, 0))
    fraction = points - low
    x0, y0 = low[:, 0].astype(jnp.int32), low[:, 1].astype(jnp.int32)
    x1, y1 = jnp.minimum(x0 + 1, width - 1), jnp.minimum(y0 + 1, height - 1)
    fx, fy = fraction[:, :1], fraction[:, 1:]
    top = image[y0, x0] * (1 - fx) + image[y0, x1] * fx
    bottom = image[y1, x0] * (1 - fx) + image[y1, x1] * fx
    return top * (1 - fy) + bottom * fy
