"""Losses of the facial expression learner, in crop pixels of the frontal landmarks (paper, Sec. 3.2).

The PCA basis is orthonormal, so an error of coefficients in pixels is the error of all 68 landmarks together.
"""

import jax

from talkinghead_jax.geometry import face
from talkinghead_jax.nn.temporal import difference, masked_mean


def coefficient_error(predicted: jax.Array, true: jax.Array, deviation: jax.Array, mask: jax.Array) -> jax.Array:
    """Squared landmark error within the PCA's span, px^2, averaged over frames and the 68 points.

    Args:
      predicted, true: (B, T, P) coefficients in units of `deviation`.
      deviation: (P,) px.
      mask: (B, T), frames that count.
    """
    squared = ((predicted - true) * deviation[None, None]) ** 2
    return masked_mean(squared.sum(-1), mask) / 68


def mouth_error(predicted: jax.Array, true: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean squared distance of the 20 mouth points, px^2: (B, T, 68, 3) twice, (B, T)."""
    mouth = slice(face.MOUTH[0], face.MOUTH[-1] + 1)
    squared = ((predicted[..., mouth, :] - true[..., mouth, :]) ** 2).sum(-1)
    return masked_mean(squared.mean(-1), mask)


def velocity_error(predicted: jax.Array, true: jax.Array, deviation: jax.Array, mask: jax.Array) -> jax.Array:
    """`coefficient_error` of the frame-to-frame differences: the movement must match, not only the position."""
    steps, pairs = difference(predicted - true, mask)
    return masked_mean(((steps * deviation[None, None]) ** 2).sum(-1), pairs) / 68
