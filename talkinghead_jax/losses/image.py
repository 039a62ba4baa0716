"""Reconstruction losses of images in [-1, 1]. Each returns one value an example."""

import jax
import jax.numpy as jnp

from talkinghead_jax.nn.structural_similarity import ssim


def l1(image: jax.Array, target: jax.Array, weight: jax.Array | None = None) -> jax.Array:
    """Mean absolute difference over pixels and channels.

    Args:
      image: (B,H,W,C).
      target: (B,H,W,C).
      weight: (B,H,W) >= 0; the mean is weighted by it, and 0 where it vanishes everywhere.

    Returns:
      (B,) float32.
    """
    difference = jnp.abs(image - target).astype(jnp.float32).mean(-1)
    if weight is None:
        return difference.mean((1, 2))
    return (difference * weight).sum((1, 2)) / jnp.maximum(weight.sum((1, 2)), 1.0)


def reconstruction(image: jax.Array, target: jax.Array, ssim_share: float,
                   weight: jax.Array | None = None) -> jax.Array:
    """(1 - share) L1 + share (1 - SSIM); SSIM costs nothing where its share is 0.

    Args:
      image: (B,H,W,3) in [-1, 1].
      target: same.
      ssim_share: in [0, 1].
      weight: (B,H,W) >= 0 of the L1, see `l1`; SSIM weighs all pixels alike.

    Returns:
      (B,) float32.
    """
    loss = (1 - ssim_share) * l1(image, target, weight)
    return loss + ssim_share * (1 - ssim(image, target)) if ssim_share else loss
