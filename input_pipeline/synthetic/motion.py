"""Head motion: the speech's rhythm, played on the axes that an identity's style prefers, and a little idle sway.

Two rhythm signals come from the audio alone, from within a second of each frame: `stress` (faster: louder or softer
than the surrounding second) and `phrase` (slower: speaking or pausing). A style is one pose vector for each; what
the sound does not explain is the sway.
"""

import numpy as np

from input_pipeline.synthetic.identity import Style
from talkinghead_jax.specs import FRAME_RATE

_RADIUS = 25  # frames: nothing further away matters
_STRESS_MEAN, _STRESS_DEVIATION = 0.012, 0.163  # over many clips
_PHRASE_MEAN, _PHRASE_DEVIATION = 0.518, 0.177


def loudness(audio: np.ndarray) -> np.ndarray:
    """(T, 640) int16 -> (T,): compressed root mean square, about 0 in silence and 1 in loud vowels."""
    level = np.sqrt((audio.astype(np.float64) ** 2).mean(axis=1))
    return np.minimum(np.sqrt(level / 3000.0), 1.5)


def _smooth(signal: np.ndarray, deviation: float) -> np.ndarray:
    """Gaussian mean within `_RADIUS` frames; silence beyond the ends."""
    kernel = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / deviation) ** 2)
    padded = np.pad(signal, _RADIUS)
    return np.convolve(padded, kernel / kernel.sum(), mode='valid')


def rhythm(audio: np.ndarray) -> np.ndarray:
    """(T, 640) int16 -> (T, 2): the stress and phrase signals, of about zero mean and unit deviation."""
    loud = loudness(audio)
    slow = _smooth(loud, 8.0)
    stress = _smooth(loud, 2.2) - slow
    return np.stack([(stress - _STRESS_MEAN) / _STRESS_DEVIATION, (slow - _PHRASE_MEAN) / _PHRASE_DEVIATION], axis=1)


def make_motion(style: Style, audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Head poses (T, 6) in the convention of `geometry.rigid` for (T, 640) int16 audio."""
    time = np.arange(len(audio))[:, None] / FRAME_RATE
    phases = rng.uniform(0, 2 * np.pi, (2, 6))
    frequency = style.sway_frequency * np.linspace(0.8, 1.2, 6)
    sway = np.sin(2 * np.pi * frequency * time + phases[0])
    sway += 0.5 * np.sin(2 * np.pi * 1.7 * frequency * time + phases[1])
    return style.rest + rhythm(audio) @ np.stack([style.stress, style.phrase]) + style.sway * sway
