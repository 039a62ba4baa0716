"""Sound of a clip: frame-aligned chunks, windows' padding, noise mixing and gain (paper, Sec. 3.2 and 5).

Samples are int16 16 kHz mono as stored; mixing runs in float64 on the same scale.
"""

from collections.abc import Sequence

import numpy as np
import scipy.signal

from talkinghead_jax.specs import CHUNK, SAMPLE_RATE, WINDOW_RADIUS

NOISE_RATIOS = tuple(range(6, 31, 3))  # dB: the signal-to-noise ratios of the paper
GAINS = (-12, -9, -6, -3, 0, 3, 6)  # dB
NOISES = ('white', 'pink', 'babble')


def frame_chunks(audio: np.ndarray, frames: int) -> np.ndarray:
    """(A,) int16 -> (frames, 640) int16: cut, or padded with silence, to the picture's length."""
    samples = np.zeros(frames * CHUNK, np.int16)
    kept = audio[:len(samples)]
    samples[:len(kept)] = kept
    return samples.reshape(frames, CHUNK)


def pad_windows(chunks: np.ndarray) -> np.ndarray:
    """(T, 640) -> (T + 6, 640): silence on both ends, so that rows t .. t + 6 are the window of frame t."""
    return np.pad(chunks, ((WINDOW_RADIUS, WINDOW_RADIUS), (0, 0)))


def mix_noise(speech: np.ndarray, noise: np.ndarray, ratio: float) -> np.ndarray:
    """Add noise so that the signal-to-noise ratio is exactly `ratio` dB.

    Args:
      speech: any shape, float, zero-mean.
      noise: the same shape, not silent, any loudness.
      ratio: dB, of mean squares over the whole arrays.

    Returns:
      speech + scaled noise; silent speech stays as it is.
    """
    power = np.mean(np.square(noise, dtype=np.float64))
    if power == 0:
        raise ValueError('cannot mix in noise that is silent')
    scale = np.sqrt(np.mean(np.square(speech, dtype=np.float64)) / power * 10 ** (-ratio / 10))
    return speech + scale * noise


def apply_gain(audio: np.ndarray, gain: float) -> np.ndarray:
    """Louder by `gain` dB, as float."""
    return audio * 10 ** (gain / 20)


def to_int16(audio: np.ndarray) -> np.ndarray:
    """Float samples on the int16 scale, rounded and clipped."""
    return np.clip(np.rint(audio), -32768, 32767).astype(np.int16)


def make_noise(kind: str, length: int, rng: np.random.Generator,
               speech: Sequence[np.ndarray] = ()) -> np.ndarray:
    """`length` samples of noise with mean square 1.

    Args:
      kind: one of `NOISES`: white; pink (power falls by 3 dB an octave); babble (several voices at once).
      length: samples.
      rng: the only source of randomness.
      speech: clips (A,) that babble is mixed from; without them it is made of vowel-like sounds.
    """
    if kind == 'white':
        noise = rng.standard_normal(length)
    elif kind == 'pink':
        noise = _pink(length, rng)
    elif kind == 'babble':
        voices = [_excerpt(speech[i], length, rng) for i in rng.integers(len(speech), size=6)] if speech else [
            _voice(length, rng) for _ in range(6)]
        noise = np.sum([voice / max(np.sqrt(np.mean(voice ** 2)), 1e-9) for voice in voices], axis=0)
    else:
        raise ValueError(f'unknown noise {kind!r}; want one of {", ".join(NOISES)}')
    noise = noise - noise.mean()
    return noise / max(np.sqrt(np.mean(noise ** 2)), 1e-9)


def add_random_noise(audio: np.ndarray, rng: np.random.Generator, speech: Sequence[np.ndarray] = ()) -> np.ndarray:
    """Training's noise: a random kind at a random ratio of 6, 9, .. 30 dB; int16 in and out, any shape."""
    noise = make_noise(NOISES[rng.integers(len(NOISES))], audio.size, rng, speech).reshape(audio.shape)
    return to_int16(mix_noise(audio.astype(np.float64), noise, float(rng.choice(NOISE_RATIOS))))


def add_random_gain(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Training's loudness: a random gain of -12, -9, .. 6 dB; int16 in and out."""
    return to_int16(apply_gain(audio, float(rng.choice(GAINS))))


def _pink(length: int, rng: np.random.Generator) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal(length))
    frequency = np.maximum(np.arange(len(spectrum)), 1)
    return np.fft.irfft(spectrum / np.sqrt(frequency), n=length)


def _excerpt(clip: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """A random stretch of a clip, repeated where the clip is too short."""
    clip = np.asarray(clip, np.float64).reshape(-1)
    start = rng.integers(len(clip))
    return np.take(clip, np.arange(start, start + length), mode='wrap')


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
