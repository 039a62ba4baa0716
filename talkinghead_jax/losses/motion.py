"""Losses of the head motion learner, on curves in units of the dataset's deviation (paper, Sec. 3.3).

Much of a person's motion does not follow from the speech, and a plain regression answers that with its mean: no
motion. `amplitude_error` asks for the person's amplitude beside it.
"""

import jax
import jax.numpy as jnp

from talkinghead_jax.nn.temporal import deviation, difference, masked_mean


def position_error(predicted: jax.Array, true: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean squared error of the curves: (B, T, 6) twice, (B, T)."""
    return masked_mean(((predicted - true) ** 2).mean(-1), mask)


def velocity_error(predicted: jax.Array, true: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean squared error of the frame-to-frame differences: (B, T, 6) twice, (B, T)."""
    steps, pairs = difference(predicted - true, mask)
    return masked_mean((steps ** 2).mean(-1), pairs)


def amplitude_error(predicted: jax.Array, true: jax.Array, mask: jax.Array, weights: jax.Array | None = None,
                    floor: float = 0.02) -> jax.Array:
    """Mean over clips and axes of (log std predicted - log std true)^2, std over the frames of a clip.

    Args:
      predicted, true: (B, T, 6).
      mask: (B, T), frames that count.
      weights: (B,), clips that count.
      floor: below this deviation a curve is still.
    """
    logs = [jnp.log(deviation(curve, mask, floor)) for curve in (predicted, true)]
    return masked_mean(((logs[0] - logs[1]) ** 2).mean(-1), weights)


def speed_error(predicted: jax.Array, true: jax.Array, mask: jax.Array, weights: jax.Array | None = None,
                floor: float = 0.005) -> jax.Array:
    """`amplitude_error` of the frame-to-frame differences: as lively as the person, not only as far."""
    (predicted_steps, pairs), (true_steps, _) = difference(predicted, mask), difference(true, mask)
    return amplitude_error(predicted_steps, true_steps, pairs, weights, floor)
