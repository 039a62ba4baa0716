"""The chart of one prepared clip: head pose, sound and confidence of the face detector over the same seconds."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from talkinghead_jax import specs
from talkinghead_jax.report import figures
from talkinghead_jax.report.figures import Chart, Theme

_COLUMNS = 1200  # of the waveform: more would not be seen
_GAP = 0.22  # opacity of the shading where no face was found
_FULL_SCALE = 2 ** 15  # of int16


def chart(record: Mapping[str, Any]) -> Chart:
    """Rotation (degrees), translation (crop px), sound (share of full scale) and confidence over seconds.

    Args:
      record: `specs.CLIP`. Where the face was not found the charts are shaded; what is drawn there is interpolated.
    """
    seconds = np.arange(len(record['pose'])) / specs.FRAME_RATE
    pose = figures.readable(np.asarray(record['pose'], np.float64))
    confidence = np.where(record['detected'], record['confidence'], np.nan)
    dot = '.' if len(seconds) == 1 else None  # a line of one point is not seen

    def draw(theme: Theme) -> Figure:
        figure = Figure(figsize=(figures.WIDTH, 3.9), layout='constrained')
        grid = figure.subplots(2, 2, sharex=True)
        colors = (theme.model, *theme.baselines)
        for axes, part, title in ((grid[0, 0], slice(0, 3), 'head rotation'),
                                  (grid[1, 0], slice(3, 6), 'head translation')):
            for curve, color, name in zip(pose[:, part].T, colors, figures.AXES[part], strict=False):
                axes.plot(seconds, curve, color=color, linewidth=1.2, marker=dot, label=name)
            _finish(axes, theme, title)
        _waveform(grid[0, 1], theme, np.asarray(record['audio']).reshape(-1))
        grid[1, 1].plot(seconds, confidence, color=theme.model, linewidth=1.2, marker=dot)
        grid[1, 1].set_ylim(0, 1.05)
        _finish(grid[1, 1], theme, 'confidence of the face detector')
        for axes in grid.flat:
            _mark(axes, theme, record)
            axes.set_xlim(-0.5 / specs.FRAME_RATE, len(seconds) / specs.FRAME_RATE)
        for axes in grid[1]:
            axes.set_xlabel('seconds', color=theme.muted, fontsize=7.5)
        figure.legend(handles=_legend(theme), loc='outside upper right', ncols=3, frameon=False, fontsize=8,
                      labelcolor=theme.text)
        return figure

    return draw


def gaps(detected: np.ndarray) -> list[tuple[int, int]]:
    """(T,) bool -> first and last frame of each run without a face."""
    missing = np.flatnonzero(~np.asarray(detected, bool))
    runs = np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1)
    return [(int(run[0]), int(run[-1])) for run in runs if len(run)]


def envelope(samples: np.ndarray, columns: int = _COLUMNS) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest of (A,) samples in each of at most `columns` equal parts: what a waveform shows."""
    edges = np.linspace(0, len(samples), min(columns, len(samples)), endpoint=False).astype(int)
    return np.minimum.reduceat(samples, edges), np.maximum.reduceat(samples, edges)


def _waveform(axes: Axes, theme: Theme, samples: np.ndarray) -> None:
    low, high = envelope(samples / _FULL_SCALE)
    seconds = np.arange(len(low)) / len(low) * len(samples) / specs.SAMPLE_RATE
    axes.fill_between(seconds, low, high, color=theme.model, linewidth=0.4)
    peak = max(0.01, 1.05 * float(np.abs([low, high]).max()))
    axes.set_ylim(-peak, peak)
    _finish(axes, theme, 'sound (share of full scale)')


def _finish(axes: Axes, theme: Theme, title: str) -> None:
    figures.style_axes(axes, theme, title)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc='lower right', bbox_to_anchor=(1.01, 0.97), ncols=3, frameon=False, fontsize=7.5,
                    labelcolor=theme.text, handlelength=1.2, columnspacing=1, borderaxespad=0.2)


def _mark(axes: Axes, theme: Theme, record: Mapping[str, Any]) -> None:
    """The key frame, the frame with the mouth most closed, and where no face was found."""
    for first, last in gaps(record['detected']):
        axes.axvspan((first - 0.5) / specs.FRAME_RATE, (last + 0.5) / specs.FRAME_RATE, color=theme.baselines[2],
                     alpha=_GAP, linewidth=0)
    for name, style in _LINES.items():
        axes.axvline(int(record[name]) / specs.FRAME_RATE, color=theme.text, linewidth=1, linestyle=style)


_LINES = {'key_frame': (0, (5, 2)), 'closed_mouth_frame': (0, (1, 2))}


def _legend(theme: Theme) -> list[Any]:
    names = ('key frame', 'mouth most closed')
    lines = [Line2D([], [], color=theme.text, linewidth=1, linestyle=style, label=name)
             for name, style in zip(names, _LINES.values(), strict=True)]
    return list(itertools.chain(lines, [Patch(color=theme.baselines[2], alpha=_GAP, linewidth=0,
                                              label='face not found, interpolated')]))
