"""Landmark metrics: named recipes.

The first ones take landmarks (B, T, 68, 3) in crop pixels (256 px crop) and a frame mask (B, T) or None, and return a
value a clip, (B,). `of_detections` takes what a detector found on the host, and returns values a frame.
"""

import jax
import jax.numpy as jnp
import numpy as np

from talkinghead_jax.geometry import face
from talkinghead_jax.nn.temporal import masked_mean

_MOUTH = slice(face.MOUTH[0], face.MOUTH[-1] + 1)


_EYE_CORNERS = 36, 45  # the outer ones


def of_detections(generated: np.ndarray, true: np.ndarray) -> dict[str, np.ndarray]:
    """Distances of landmarks found in generated and true frames, in the picture plane.

    Each set of points is taken about its own centroid, as in the code of Chen et al. (2018), so that where the face
    is does not count; nothing is scaled or turned.

    Args:
      generated, true: (N, 68, 2 or 3) px at 256 px.

    Returns:
      (N,) float64 each. 'mean20' and 'sum20', px: mean and sum over the 20 mouth points. 'm_lmd' and 'f_lmd', percent
      of the distance of the true face's outer eye corners: the mean over the mouth, and over all 68 points.
    """
    generated, true = (np.asarray(points, np.float64)[..., :2] for points in (generated, true))
    mouth, whole = (_centred_distance(generated[:, part], true[:, part]) for part in (_MOUTH, slice(None)))
    percent = 100 / np.maximum(np.linalg.norm(true[:, _EYE_CORNERS[0]] - true[:, _EYE_CORNERS[1]], axis=-1), 1e-6)
    return {'mean20': mouth.mean(1), 'sum20': mouth.sum(1), 'm_lmd': mouth.mean(1) * percent,
            'f_lmd': whole.mean(1) * percent}


def _centred_distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N, L) between points (N, L, 2), each set about its own centroid."""
    first, second = (points - points.mean(axis=1, keepdims=True) for points in (first, second))
    return np.linalg.norm(first - second, axis=-1)


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
