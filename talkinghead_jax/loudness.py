"""Speech at one level: in a short window nobody can tell a quiet speaker from a distant noise."""

import numpy as np

STANDARD = 2200.0  # root mean square of speech where somebody speaks, of 32768: -23.5 dB of full scale
LARGEST_GAIN = 30.0  # dB; what is fainter is no speech
_BANGS = 0.02  # share of the frames that may be louder than any speech
_CLICKS = 0.005  # share of the samples that may be clipped, so that clicks and bangs do not keep speech quiet


def frame_power(chunks: np.ndarray) -> np.ndarray:
    """Mean square of each frame: (T, 640) int16 -> (T,)."""
    return (np.asarray(chunks, np.float64) ** 2).mean(axis=-1)


def speech_level(power: np.ndarray) -> float:
    """Root mean square over the frames that speak, those of a tenth of the mean power or more: (T,) -> ().

    The loudest fiftieth of the frames counts as no louder than the rest: a bang is not speech.
    """
    if not len(power):
        return 0.0
    power = np.minimum(power, np.quantile(power, 1 - _BANGS, method='lower'))
    return float(np.sqrt(power[power >= 0.1 * power.mean()].mean()))


def standardise(chunks: np.ndarray, level: float | None = None) -> np.ndarray:
    """Bring speech to `STANDARD`, as far as no more than a click clips and `LARGEST_GAIN` is enough.

    Args:
      chunks: (T, 640) int16: all of what is said, since its level is that of the whole.
      level: its `speech_level` where that is known already, as a record's `speech_level`.

    Returns:
      (T, 640) int16; silence stays silence.
    """
    return scaled(chunks, standard_factor(chunks, level))


def standard_factor(chunks: np.ndarray, level: float | None = None) -> float:
    """What `standardise` multiplies the samples by; `scaled` does it, also to a part of them."""
    known = speech_level(frame_power(chunks)) if level is None else level
    # As records store it, so that a record's sound and a file's are the same to the bit.
    wanted = min(STANDARD / max(float(np.float32(known)), 1e-9), 10 ** (LARGEST_GAIN / 20))
    peak = max(-int(chunks.min()), int(chunks.max())) if chunks.size else 0
    if peak * wanted <= 32767:
        return wanted
    loud = np.quantile(np.abs(np.asarray(chunks, np.float64)), 1 - _CLICKS)  # takes longer than all the rest
    return min(wanted, 32767 / max(loud, 1.0))


def scaled(chunks: np.ndarray, factor: float) -> np.ndarray:
    """(..., 640) int16 times `factor`, rounded and clipped: int16."""
    return np.clip(np.rint(np.asarray(chunks, np.float64) * factor), -32768, 32767).astype(np.int16)
