"""Whether the head turns when the voice stresses: the beat alignment score, and what chance would give.

The score of Li et al. (AI Choreographer, ICCV 2021), mean of exp(-d^2 / (2 sigma^2)) with d the time to the nearest
beat of the other kind, taken over the beats of the sound as in Siyao et al. (Bailando, CVPR 2022), with peaks of
speech energy in place of music's beats. Kinematic beats are theirs, too: local minima of speed, where a nod turns.
A restless head is near every beat: judge the score beside its chance level, or take `beat_gain`.

A mask (..., T) or None says which frames count.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from talkinghead_jax.nn.temporal import masked_mean

SIGMA = 2.0  # frames, 80 ms: a nod and its syllable are felt as one

_RIPPLE = 0.01  # of the mean: a smaller rise is no peak
_HEAD = 1.0, 2  # frames: Gaussian deviation, and how far a peak must be the highest
_SPEECH = 1.5, 4


def head_peaks(curve: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Kinematic beats: where the head slows down most, as at the turn of a nod.

    Local minima within +-2 frames of |v_t|, v_t = (h_t+1 - h_t-1) / 2 smoothed over time by a Gaussian of 1 frame,
    norm over the six axes. A dip of less than 1 % of the mean speed is none; a still head has none.

    Args:
      curve: (..., T, 6) in units of the dataset's deviation, so that each axis counts alike.
      mask: (..., T).

    Returns:
      (..., T) bool; never the first or last frame that counts.
    """
    counts = _all(curve[..., 0], mask)
    inner = counts[..., 2:] & counts[..., :-2]
    velocity = jnp.swapaxes(curve[..., 2:, :] - curve[..., :-2, :], -1, -2) / 2
    smooth = _smooth(velocity, inner[..., None, :], _HEAD[0])
    speed = jnp.sqrt((smooth ** 2).sum(-2))
    found = _peaks(-speed, speed, inner, _HEAD[1])
    return jnp.pad(found, [(0, 0)] * (found.ndim - 1) + [(1, 1)])


def speech_peaks(audio: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Where the voice is loudest: (..., T, 640) int16 -> (..., T) bool.

    Local maxima within +-4 frames of the root mean square of each frame's samples, smoothed over time by a Gaussian
    of 1.5 frames, that lie above its mean over the frames that count. Silence has none.
    """
    samples = audio.astype(jnp.float32) / 32768
    level = jnp.sqrt((samples ** 2).mean(-1))
    counts = _all(level, mask)
    level = _smooth(level, counts, _SPEECH[0])
    return _peaks(level, level, counts, _SPEECH[1]) & (level > masked_mean(level, counts, axis=-1)[..., None])


def nearness(head: jax.Array, sigma: float = SIGMA) -> jax.Array:
    """exp(-d^2 / (2 sigma^2)), d frames to the nearest head peak: (..., T) bool -> (..., T), 0 without any peak."""
    frames = jnp.broadcast_to(jnp.arange(head.shape[-1], dtype=jnp.float32), head.shape)
    last = head.ndim - 1
    before = jax.lax.cummax(jnp.where(head, frames, -jnp.inf), axis=last)
    after = jax.lax.cummin(jnp.where(head, frames, jnp.inf), axis=last, reverse=True)
    return jnp.exp(-0.5 * (jnp.minimum(frames - before, after - frames) / sigma) ** 2)


def beat_alignment(curve: jax.Array, audio: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Mean over speech peaks of exp(-d^2 / (2 sigma^2)), d to the nearest head peak, sigma = 2 frames (80 ms).

    Args:
      curve: (..., T, 6) in units of the dataset's deviation.
      audio: (..., T, 640) int16, of the same frames.
      mask: (..., T).

    Returns:
      (...,) in [0, 1]; 0 where there is no speech peak or no head peak.
    """
    return masked_mean(nearness(head_peaks(curve, mask)), speech_peaks(audio, mask), axis=-1)


def beat_chance(curve: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """What `beat_alignment` would be, on average, if the speech peaks fell anywhere: (..., T, 6) -> (...,).

    The mean over all frames of exp(-d^2 / (2 sigma^2)); it grows with the number of head peaks.
    """
    near = nearness(head_peaks(curve, mask))
    return masked_mean(near, _all(near, mask), axis=-1)


def beat_gain(curve: jax.Array, audio: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """(alignment - chance) / (1 - chance), corrected for chance as Cohen's kappa (1960) is: (...,), at most 1.

    1 where every speech peak meets a head peak, 0 on average for a head that does not hear, and 0 where there are no
    peaks of one kind; below 0 for a head that avoids the beat. Arguments as of `beat_alignment`.
    """
    head, speech = head_peaks(curve, mask), speech_peaks(audio, mask)
    near = nearness(head)
    chance = masked_mean(near, _all(near, mask), axis=-1)
    gain = (masked_mean(near, speech, axis=-1) - chance) / jnp.maximum(1 - chance, 1e-3)
    return jnp.where(head.any(-1) & speech.any(-1), gain, 0.0)


def _all(values: jax.Array, mask: jax.Array | None) -> jax.Array:
    return jnp.ones(values.shape, bool) if mask is None else mask.astype(bool)


def _shifted(values: jax.Array, radius: int, fill: float) -> list[jax.Array]:
    """`values` (..., T) moved by -radius .. radius frames, `fill` beyond the ends."""
    edges = [(0, 0)] * (values.ndim - 1) + [(radius, radius)]
    padded = jnp.pad(values, edges, constant_values=fill)
    return [padded[..., i:i + values.shape[-1]] for i in range(2 * radius + 1)]


def _smooth(values: jax.Array, mask: jax.Array, deviation: float) -> jax.Array:
    """Gaussian mean over time of (..., T), of the frames that count only."""
    radius = math.ceil(3 * deviation)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / deviation) ** 2).tolist()
    keep = jnp.broadcast_to(mask, values.shape).astype(values.dtype)
    total, power = (sum(weight * moved for weight, moved in zip(weights, _shifted(x, radius, 0), strict=True))
                    for x in (jnp.where(mask, values, 0.0), keep))
    return total / jnp.maximum(power, 1e-6)


def _peaks(values: jax.Array, scale: jax.Array, mask: jax.Array, radius: int) -> jax.Array:
    """Local maxima of (..., T) within `radius` frames, of a plateau the first frame, neither at an end nor a ripple.

    A rise counts from `_RIPPLE` times the mean of `scale` (..., T).
    """
    around = _shifted(jnp.where(mask, values, -jnp.inf), radius, -jnp.inf)
    before, after = around[:radius], around[radius + 1:]
    highest = jnp.stack([values > x for x in before] + [values >= x for x in after]).all(0)
    lowest = jnp.stack(_shifted(jnp.where(mask, values, jnp.inf), radius, jnp.inf)).min(0)
    rises = values - lowest > _RIPPLE * masked_mean(scale, mask, axis=-1)[..., None]
    inside = mask & jnp.isfinite(before[-1]) & jnp.isfinite(after[0])
    return highest & rises & inside
