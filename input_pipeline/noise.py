"""Noise for training and evaluation: white, pink, babble and files of any folder, mixed in at an exact ratio.

Samples are on the int16 scale at 16 kHz. A ratio refers to the speech of the whole clip: its pauses stay as noisy
as its words.
"""

import functools
import os
import pathlib
import threading
from collections.abc import Sequence

import numpy as np
import scipy.signal

from input_pipeline import media
from talkinghead_jax.errors import UserError
from talkinghead_jax.specs import SAMPLE_RATE

RATIOS = tuple(range(6, 31, 3))  # dB: the signal-to-noise ratios of the paper
KINDS = ('white', 'pink', 'babble')
TRAINING, EVALUATION = 0, 1
_DRAWN = ('white', 'pink', 'babble', 'babble')  # in training: other voices are the hardest to tell from the speaker's
_POOL = 24, 15 * SAMPLE_RATE  # voices that babble is mixed from, and their length in samples
_LARGEST = 32767.0
_ACCURACY = 10 ** (0.02 / 10)  # of the noise's power: a ratio within 0.02 dB wherever int16 can express it
_ATTEMPTS = 20  # at halving what is left between too much and too little noise; mostly the first one fits
_loading = threading.Lock()  # the threads of tf.data share what one of them decoded


def power(audio: np.ndarray) -> float:
    """Mean square of samples of any shape."""
    return float(np.mean(np.square(audio, dtype=np.float64)))


def make_noise(kind: str, length: int, rng: np.random.Generator, pool: int = TRAINING) -> np.ndarray:
    """`length` samples of noise with mean 0 and mean square 1.

    Args:
      kind: one of `KINDS`: white; pink (power falls by 3 dB an octave); babble (six vowel-like voices at once).
      length: samples.
      rng: the only source of randomness.
      pool: whose voices babble, `TRAINING` or `EVALUATION`: nobody is tested on voices that were trained on.

    Raises:
      UserError: another kind.
    """
    if kind == 'white':
        noise = rng.standard_normal(length)
    elif kind == 'pink':
        noise = _pink(length, rng)
    elif kind == 'babble':
        noise = np.zeros(length)
        for voice, start in zip(rng.choice(_POOL[0], 6, replace=False), rng.integers(_POOL[1], size=6), strict=True):
            noise += _repeated(_voices(pool)[voice], int(start), length)
    else:
        raise UserError(f'noise is {kind!r}; want one of {", ".join(KINDS)}')
    return _normalised(noise)


def draw_ratio(rng: np.random.Generator) -> float:
    """One of `RATIOS`, the low ones more often: with a probability proportional to 1 / (its decibels)^2."""
    weights = 1 / np.square(RATIOS)
    return float(rng.choice(RATIOS, p=weights / weights.sum()))


def draw_noise(length: int, rng: np.random.Generator, files: Sequence[np.ndarray] = ()) -> np.ndarray:
    """Noise of a random kind with mean 0 and mean square 1.

    The kind is drawn first: white, pink, babble (twice as often) or, where there are any, files; then which file.

    Args:
      length: samples.
      rng: the only source of randomness.
      files: what `load_folder` gave.
    """
    kind = rng.integers(len(_DRAWN) + bool(files))
    if kind == len(_DRAWN):
        return _excerpt(files[rng.integers(len(files))], length, rng)
    return make_noise(_DRAWN[kind], length, rng)


def load_folder(folder: str | os.PathLike) -> tuple[np.ndarray, ...]:
    """The sound of every file in a folder and its subfolders, decoded once a process: (A,) int16 at 16 kHz each.

    What holds no sound that can be decoded, or only silence, is left out. '' is no folder: no files. All sound is
    kept in memory, 1.9 MB a minute.

    Raises:
      UserError: there is no such folder, or no sound in it.
    """
    if not str(folder):
        return ()
    with _loading:
        return _load_folder(str(pathlib.Path(folder).absolute()))


@functools.cache
def _load_folder(folder: str) -> tuple[np.ndarray, ...]:
    name = 'config.expression.data.noise_folder'
    if not os.path.isdir(folder):
        raise UserError(f'{name} is {folder}, which is no folder; want a folder of sound files, or an empty string')
    found = []
    for path in sorted(pathlib.Path(folder).rglob('*')):
        if not path.is_file() or path.name.startswith('.'):
            continue
        try:
            sound = media.read_audio(path)
        except UserError:  # lists and licences lie among the sounds of most collections
            continue
        if len(sound) and np.ptp(sound):
            found.append(sound)
    if not found:
        raise UserError(f'{name} is {folder}, which holds no sound that can be decoded; want a folder of sound files')
    return tuple(found)


def mix(speech: np.ndarray, noise: np.ndarray, ratio: float, speech_power: float,
        gain: float = 0.0) -> tuple[np.ndarray, float]:
    """Add noise to an excerpt so that the int16 result has the signal-to-noise ratio asked for.

    A mixture that would clip is turned down as a whole; one whose noise would drown in the rounding to int16 is
    turned up until the noise has a power of 1. The noise is scaled by its power after rounding, since rounding adds
    to it, and swallows its quiet places.

    Args:
      speech: int16, any shape: the excerpt.
      noise: (speech.size,), not silent, any loudness.
      ratio: dB: `speech_power` over the mean square of the added noise.
      speech_power: mean square of the clip that the excerpt is from; 0 leaves the excerpt without noise.
      gain: dB, of the whole mixture, as far as the above allows.

    Returns:
      The mixture, int16 in the shape of `speech`, and the factor by which the speech in it was scaled: mixture -
      factor * speech is the noise, and factor^2 * speech_power over its mean square is the ratio.
    """
    if not noise.any():
        raise ValueError('cannot mix in noise that is silent')
    clean, noise = speech.astype(np.float64).reshape(-1), noise.reshape(-1) / np.sqrt(power(noise))
    wanted = np.sqrt(speech_power * 10 ** (-ratio / 10))  # root mean square of the noise, before the gain
    louder = max(10 ** (gain / 20), 1 / wanted) if wanted else 10 ** (gain / 20)

    def mixed(scale: float) -> tuple[np.ndarray, float, float]:
        """The mixture, its speech's factor, and the power of its noise as a multiple of the power asked for."""
        both = clean + scale * noise
        factor = min(louder, _LARGEST / max(np.abs(both).max(), 1e-9))
        rounded = np.rint(factor * both)
        return rounded, factor, power(rounded - factor * clean) / max((factor * wanted) ** 2, 1e-30)

    low, scale, high = 0.0, wanted, 2 * wanted
    for _ in range(_ATTEMPTS if wanted else 0):
        excess = mixed(scale)[2]
        if 1 / _ACCURACY < excess < _ACCURACY:
            break
        low, high = (low, scale) if excess > 1 else (scale, high)
        scale = (low + high) / 2
    result, factor, _ = mixed(scale)
    return result.astype(np.int16).reshape(speech.shape), factor


def _normalised(noise: np.ndarray) -> np.ndarray:
    noise = noise - noise.mean()
    return noise / max(np.sqrt(power(noise)), 1e-9)


def _excerpt(sound: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """A random stretch of a file, repeated where the file is too short; not a pause in it if that can be had."""
    loudest, enough, best = -1.0, 0.01 * power(sound), sound
    for start in rng.integers(len(sound), size=8):
        stretch = np.take(sound, np.arange(start, start + length), mode='wrap').astype(np.float64)
        variance = float(stretch.var())
        if variance > loudest:
            loudest, best = variance, stretch
        if loudest >= enough:
            break
    # Nothing but pauses eight times: some noise is better than a silent division by nothing.
    return _normalised(best) if loudest > 0 else make_noise('white', length, rng)


def _repeated(sound: np.ndarray, start: int, length: int) -> np.ndarray:
    """`length` samples from `start` on of a sound that is repeated for ever."""
    times = -(-(start + length) // len(sound))
    return (sound if times == 1 else np.tile(sound, times))[start:start + length]


def _pink(length: int, rng: np.random.Generator) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal(length))
    frequency = np.maximum(np.arange(len(spectrum)), 1)
    return np.fft.irfft(spectrum / np.sqrt(frequency), n=length)


@functools.cache
def _voices(pool: int) -> np.ndarray:
    """`_POOL` of voices of equal power, float32: made once, because training needs some in every batch."""
    rng = np.random.default_rng(pool)
    return np.stack([_normalised(_voice(_POOL[1], rng)).astype(np.float32) for _ in range(_POOL[0])])


def _voice(length: int, rng: np.random.Generator) -> np.ndarray:
    """A pulse train through three resonances that change every fifth of a second, as loud as syllables are."""
    sound = np.zeros(length)
    step, state = SAMPLE_RATE // 5, np.zeros((3, 2))
    pitch, start = rng.uniform(90, 230), rng.integers(SAMPLE_RATE // 5)
    for low in range(-int(start), length, step):
        period = int(SAMPLE_RATE / (pitch * rng.uniform(0.85, 1.15)))
        piece = 0.05 * rng.standard_normal(step)
        piece[::period] += 1.0
        for i, centre in enumerate((rng.uniform(280, 800), rng.uniform(850, 2300), rng.uniform(2300, 3000))):
            radius = np.exp(-np.pi * 90.0 / SAMPLE_RATE)
            poles = [1.0, -2 * radius * np.cos(2 * np.pi * centre / SAMPLE_RATE), radius ** 2]
            piece, state[i] = scipy.signal.lfilter([1 - radius], poles, piece, zi=state[i])
        piece *= rng.uniform(0.1, 1.0) * np.hanning(step + 2)[1:-1]
        begin, end = max(low, 0), min(low + step, length)
        sound[begin:end] = piece[begin - low:end - low]
    return sound
