"""Mel-frequency cepstral coefficients as SyncNet was trained on: the defaults of python_speech_features 0.6.

Davis and Mermelstein, "Comparison of parametric representations for monosyllabic word recognition in continuously
spoken sentences" (1980); the particulars, documented by that library, are: pre-emphasis 0.97, rectangular windows of
25 ms every 10 ms, 26 triangular filters up to 8 kHz on 512 points, an orthonormal cosine transform, a lifter of 22,
and the logarithm of the window's energy in the place of the first coefficient.
"""

import numpy as np

RATE = 16_000  # Hz
WINDOW, STEP = 400, 160  # samples
COEFFICIENTS = 13
_POINTS, _FILTERS, _LIFTER, _EMPHASIS = 512, 26, 22, 0.97
_CHUNK = 4096  # windows at a time, so that an hour of sound needs no more memory than a minute


def mfcc(audio: np.ndarray) -> np.ndarray:
    """Coefficients of a sound.

    Args:
      audio: (A,) at 16 kHz, A >= 1; int16 values as they are, not divided by 32768.

    Returns:
      (1 + ceil((A - 400) / 160), 13) float64, at least one row: zeros are appended until the last window is full.

    Raises:
      ValueError: there is no sample.
    """
    if not len(audio):
        raise ValueError('a sound without samples has no MFCC; want one at least')
    signal = np.asarray(audio, np.float64)
    signal = np.append(signal[0], signal[1:] - _EMPHASIS * signal[:-1])
    count = 1 + max(0, -(-(len(signal) - WINDOW) // STEP))
    signal = np.pad(signal, (0, (count - 1) * STEP + WINDOW - len(signal)))
    windows = np.lib.stride_tricks.sliding_window_view(signal, WINDOW)[::STEP]
    return np.concatenate([_cepstra(windows[start:start + _CHUNK]) for start in range(0, count, _CHUNK)])


def _cepstra(windows: np.ndarray) -> np.ndarray:
    power = np.square(np.abs(np.fft.rfft(windows, _POINTS))) / _POINTS
    energy, bands = power.sum(1), power @ _filters().T
    energy, bands = (np.where(x == 0, np.finfo(np.float64).eps, x) for x in (energy, bands))  # digital silence
    number = np.arange(COEFFICIENTS)
    cosines = np.cos(np.pi / _FILTERS * number[:, None] * (np.arange(_FILTERS) + 0.5)) * np.sqrt(2 / _FILTERS)
    # The first coefficient's own factor does not matter: the energy takes its place.
    cepstra = np.log(bands) @ cosines.T * (1 + _LIFTER / 2 * np.sin(np.pi * number / _LIFTER))
    cepstra[:, 0] = np.log(energy)
    return cepstra


def _filters() -> np.ndarray:
    """(26, 257): triangles between whole bins, at equal distances on the mel scale of O'Shaughnessy (1987)."""
    mel = np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), _FILTERS + 2)
    edges = np.floor((_POINTS + 1) * 700 * (10 ** (mel / 2595) - 1) / RATE)[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    bins = np.arange(_POINTS // 2 + 1)[None]
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    return np.where((bins >= low) & (bins < middle), rising, np.where((bins >= middle) & (bins < high), falling, 0))
