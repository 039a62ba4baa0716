"""Speech: random phrases, a source-filter synthesizer, and the mouth that goes with each phoneme.

Glottal pulses and noise pass through four time-varying resonators (a cascade formant synthesizer in the manner of
Klatt 1980). Sound and mouth follow the same phoneme track, sampled 200 times a second and smoothed (coarticulation),
so the mouth can be read off a short window of audio.
"""

import dataclasses

import numba
import numpy as np

from input_pipeline.synthetic.identity import Voice
from talkinghead_jax.specs import CHUNK, FRAME_RATE, SAMPLE_RATE

CONTROL_RATE = 200  # phoneme track samples a second
_PER_FRAME = CONTROL_RATE // FRAME_RATE
_PER_CONTROL = SAMPLE_RATE // CONTROL_RATE
_LEVEL = 2200.0  # root mean square of speech, of 32768


@dataclasses.dataclass(frozen=True)
class Phoneme:
    """Sound: formants (Hz), loudness of voice and noise, noise band (Hz). Mouth: four modes, in [0, 1]."""

    formants: tuple[float, float, float]
    voice: float
    noise: float
    band: float
    jaw: float
    width: float
    round: float
    press: float
    seconds: float


_P = Phoneme
VOWELS = {
    'a': _P((780, 1250, 2500), 1.0, 0, 2500, 1.0, 0.1, 0.0, 0, 0.15),
    'ae': _P((670, 1700, 2450), 1.0, 0, 2500, 0.8, 0.5, 0.0, 0, 0.14),
    'e': _P((500, 1950, 2550), 0.95, 0, 2500, 0.5, 0.7, 0.0, 0, 0.12),
    'i': _P((290, 2300, 3000), 0.85, 0, 2500, 0.18, 1.0, 0.0, 0, 0.13),
    'o': _P((480, 870, 2400), 0.95, 0, 2500, 0.55, 0.0, 0.75, 0, 0.14),
    'u': _P((310, 700, 2250), 0.85, 0, 2500, 0.18, 0.0, 1.0, 0, 0.13),
    'schwa': _P((520, 1450, 2450), 0.85, 0, 2500, 0.38, 0.15, 0.0, 0, 0.08),
}
CONSONANTS = {
    'm': _P((250, 1050, 2200), 0.35, 0, 2500, 0, 0.0, 0.0, 1, 0.09),
    'b': _P((200, 800, 2200), 0.06, 0, 1000, 0, 0.0, 0.0, 1, 0.08),
    'p': _P((400, 1000, 2200), 0, 0.02, 1200, 0, 0.0, 0.0, 1, 0.09),
    'n': _P((270, 1600, 2600), 0.40, 0, 2500, 0.18, 0.25, 0.0, 0, 0.07),
    'l': _P((360, 1200, 2700), 0.65, 0, 2500, 0.32, 0.2, 0.0, 0, 0.07),
    'd': _P((250, 1750, 2600), 0.15, 0.06, 4000, 0.16, 0.25, 0.0, 0, 0.07),
    't': _P((400, 1750, 2600), 0, 0.18, 4500, 0.14, 0.25, 0.0, 0, 0.08),
    'k': _P((350, 1900, 2500), 0, 0.15, 1900, 0.30, 0.1, 0.0, 0, 0.08),
    's': _P((350, 1800, 2600), 0, 0.40, 6200, 0.08, 0.5, 0.0, 0, 0.11),
    'sh': _P((350, 1800, 2400), 0, 0.40, 3000, 0.14, 0.0, 0.55, 0, 0.11),
    'f': _P((350, 1300, 2400), 0, 0.12, 5000, 0.04, 0.1, 0.0, 0.55, 0.10),
    'v': _P((280, 1300, 2400), 0.35, 0.06, 5000, 0.04, 0.1, 0.0, 0.5, 0.07),
    'w': _P((310, 680, 2250), 0.60, 0, 2500, 0.12, 0.0, 1.0, 0, 0.08),
    'r': _P((330, 1100, 1600), 0.65, 0, 2500, 0.25, 0.0, 0.5, 0, 0.07),
    'h': _P((500, 1450, 2450), 0, 0.12, 1800, 0.35, 0.1, 0.0, 0, 0.06),
}
SILENCE = _P((500, 1450, 2450), 0, 0, 2500, 0, 0, 0, 0, 0.4)


@dataclasses.dataclass(frozen=True)
class Speech:
    """What is heard, and what the mouth does."""

    audio: np.ndarray  # (T, 640) int16
    mouth: np.ndarray  # (T, 4): jaw, width, round, press, in [0, 1]


def make_speech(voice: Voice, frames: int, rng: np.random.Generator) -> Speech:
    """Draw phrases and speak them: `frames` frames of sound and mouth."""
    length = frames * _PER_FRAME
    track, stress = _phoneme_track(voice, length, rng)  # (length, 10), (length,)
    sound = _smooth(track[:, :6], 0.013 * CONTROL_RATE)
    mouth = _mouth(track[:, 6:10])
    times = np.arange(frames) * _PER_FRAME + _PER_FRAME // 2
    return Speech(audio=_synthesize(sound, stress, voice, rng), mouth=mouth[times])


def _phoneme_track(voice: Voice, length: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Phrases of stressed and unstressed syllables between pauses: features (length, 10) and stress (length,)."""
    features, stresses, total = [], [], 0

    def say(phoneme: Phoneme, stress: float, stretch: float) -> int:
        count = max(6, round(phoneme.seconds * stretch * CONTROL_RATE / voice.tempo))
        row = np.array([*phoneme.formants, phoneme.voice, phoneme.noise, phoneme.band,
                        phoneme.jaw, phoneme.width, phoneme.round, phoneme.press])
        row[6] *= 0.75 + 0.25 * stress
        features.append(np.tile(row, (count, 1)))
        stresses.append(np.full(count, stress))
        return count

    total += say(SILENCE, 0.0, rng.uniform(0.3, 1.2))
    vowels, consonants = list(VOWELS.values()), list(CONSONANTS.values())
    while total < length:
        for _ in range(rng.integers(4, 9)):
            stress = rng.uniform(0.75, 1.0) if rng.random() < 0.4 else rng.uniform(0.1, 0.4)
            total += say(consonants[rng.integers(len(consonants))], stress, rng.uniform(0.9, 1.2))
            vowel = vowels[rng.integers(len(vowels) - (stress > 0.5))]
            total += say(vowel, stress, rng.uniform(0.9, 1.1) * (0.8 + 0.7 * stress))
            if rng.random() < 0.2:
                total += say(consonants[rng.integers(len(consonants))], stress, rng.uniform(0.8, 1.1))
        total += say(SILENCE, 0.0, rng.uniform(0.8, 2.0))
    return np.concatenate(features)[:length], np.concatenate(stresses)[:length]


def _smooth(track: np.ndarray, deviation: float) -> np.ndarray:
    """Gaussian smoothing of (N, C) along time, with repeated edges; `deviation` in samples."""
    radius = int(np.ceil(3 * deviation))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / deviation) ** 2)
    padded = np.pad(track, ((radius, radius), (0, 0)), mode='edge')
    kernel = kernel / kernel.sum()
    return np.stack([np.convolve(column, kernel, mode='valid') for column in padded.T], axis=1)


def _mouth(targets: np.ndarray) -> np.ndarray:
    """Coarticulation: (N, 4) targets to movements. Lips close faster, and a closure keeps the jaw's share shut."""
    slow, press = _smooth(targets[:, :3], 0.036 * CONTROL_RATE), _smooth(targets[:, 3:], 0.020 * CONTROL_RATE)
    closure = np.clip(1.25 * press, 0, 1)
    slow[:, :1] *= 1 - closure
    return np.concatenate([slow, press], axis=1).clip(0, 1)


def _synthesize(sound: np.ndarray, stress: np.ndarray, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """Smoothed sound features (N, 6) at the control rate to (T, 640) int16."""
    length = len(sound)
    stress = _smooth(stress[:, None], 0.05 * CONTROL_RATE)[:, 0]
    drift = _smooth(rng.normal(0, 1, (length, 1)), 0.25 * CONTROL_RATE)[:, 0]
    pitch = voice.pitch * (1 + 0.22 * (stress - 0.4) + 0.5 * drift)
    loudness = 0.6 + 0.4 * stress
    noise = rng.standard_normal(length * _PER_CONTROL)
    formants = sound[:, :3] * voice.tract
    voiced, hiss, band = sound[:, 3] * loudness, sound[:, 4] * loudness, sound[:, 5]
    wave = _resonate(formants, voiced, hiss, band, pitch, voice.breath, noise)
    chunks = wave.reshape(-1, CHUNK)
    energy = (chunks ** 2).mean(axis=1)
    level = np.sqrt(energy[energy >= 0.1 * energy.mean()].mean() + 1e-9)  # of the frames that speak
    room = 3.0 * rng.standard_normal(chunks.shape)  # a silent room is not digital silence
    return np.clip(np.round(_LEVEL * chunks / level + room), -32768, 32767).astype(np.int16)


@numba.njit(cache=True)
def _resonate(formants: np.ndarray, voiced: np.ndarray, hiss: np.ndarray, band: np.ndarray, pitch: np.ndarray,
              breath: float, noise: np.ndarray) -> np.ndarray:
    """Cascade of four resonators on the voice, one on the noise; controls (N,), output (N * 80,)."""
    step, rate = 80, 16000.0
    wave = np.zeros(len(noise))
    y1, y2 = np.zeros(5), np.zeros(5)
    a, b, c = np.zeros(5), np.zeros(5), np.zeros(5)
    bandwidth = np.array([70.0, 90.0, 130.0, 220.0, 900.0])
    phase, tilt, last = 0.0, 0.0, 0.0
    for i in range(len(voiced)):
        for k in range(5):
            frequency = formants[i, k] if k < 3 else (3700.0 if k == 3 else band[i])
            r = np.exp(-np.pi * bandwidth[k] / rate)
            c[k], b[k] = -r * r, 2 * r * np.cos(2 * np.pi * frequency / rate)
            a[k] = 1 - b[k] - c[k]
        after = min(i + 1, len(voiced) - 1)
        for j in range(step):
            n, part = i * step + j, j / step
            gain = (1 - part) * voiced[i] + part * voiced[after]
            rough = (1 - part) * hiss[i] + part * hiss[after]
            phase += pitch[i] / rate
            if phase >= 1:
                phase -= 1
            # Rosenberg-like pulse: opens over 40 % of the period, closes over 16 %.
            if phase < 0.4:
                flow = 0.5 * (1 - np.cos(np.pi * phase / 0.4))
            elif phase < 0.56:
                flow = np.cos(0.5 * np.pi * (phase - 0.4) / 0.16)
            else:
                flow = 0.0
            source = gain * (6 * (flow - last) + breath * noise[n])
            last = flow
            for k in range(4):
                out = a[k] * source + b[k] * y1[k] + c[k] * y2[k]
                y2[k], y1[k] = y1[k], out
                source = out
            out = rough * 0.5 * noise[n] * np.sqrt(a[4]) + b[4] * y1[4] + c[4] * y2[4]
            y2[4], y1[4] = y1[4], out
            tilt = source + 0.4 * (out - 0.5 * y2[4])
            wave[n] = 0.5 * tilt
    return wave
