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


def reconstruction(image: jax.Array, target: jax.Array, ssim_share: float) -> jax.Array:
    """(1 - share) L1 + share (1 - SSIM): (B,H,W,3) twice -> (B,); SSIM costs nothing where its share is 0."""
    loss = (1 - ssim_share) * l1(image, target)
    return loss + ssim_share * (1 - ssim(image, target)) if ssim_share else loss
