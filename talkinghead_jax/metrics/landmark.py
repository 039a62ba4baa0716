"""Landmark metrics: named recipes, one value a clip.

All take landmarks (B, T, 68, 3) in crop pixels (256 px crop) and a frame mask (B, T) or None, and return (B,).
"""

import jax
import jax.numpy as jnp

from talkinghead_jax.geometry import face
from talkinghead_jax.nn.temporal import masked_mean

_MOUTH = slice(face.MOUTH[0], face.MOUTH[-1] + 1)


def lmd(predicted: jax.Array, true: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """`lmd@mean20`: landmark distance of the mouth, px (Chen et al. 2018).

    Mean over frames and the 20 mouth points of |(p - mean p) - (q - mean q)|, x and y only: each mouth is centred on
    its own centroid. Not rescaled by the face's size.
    """
    gap = predicted[..., _MOUTH, :2] - true[..., _MOUTH, :2]
    gap = gap - gap.mean(-2, keepdims=True)  # the difference of two centred sets
    return masked_mean(jnp.sqrt((gap ** 2).sum(-1)).mean(-1), mask, axis=-1)


def mouth_error(predicted: jax.Array, true: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Mean over frames and the 20 mouth points of the distance in three dimensions, px; nothing is centred."""
    gap = predicted[..., _MOUTH, :] - true[..., _MOUTH, :]
    return masked_mean(jnp.sqrt((gap ** 2).sum(-1)).mean(-1), mask, axis=-1)


def opening_correlation(predicted: jax.Array, true: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Pearson correlation over time of `face.mouth_opening`, in [-1, 1]; 0 where either is constant."""
    curves = [face.mouth_opening(landmarks) for landmarks in (predicted, true)]
    return correlation(*curves, mask)


def correlation(first: jax.Array, second: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Pearson correlation over the last axis: (..., T) twice, (..., T) or None -> (...,); 0 for a constant."""
    first, second = (x - masked_mean(x, mask, axis=-1)[..., None] for x in (first, second))
    product = masked_mean(first * second, mask, axis=-1)
    power = masked_mean(first ** 2, mask, axis=-1) * masked_mean(second ** 2, mask, axis=-1)
    moving = power > 1e-12
    return jnp.where(moving, product / jnp.sqrt(jnp.where(moving, power, 1.0)), 0.0)
