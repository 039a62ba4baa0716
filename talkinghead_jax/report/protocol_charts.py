"""Charts of an evaluation of whole videos: clips, yaw, number of references, and the offset of sound and mouth."""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from talkinghead_jax.protocols.results import TRUTH, YAW_EDGES, Results
from talkinghead_jax.report import catalogue, figures
from talkinghead_jax.report.figures import Chart, Theme
from talkinghead_jax.report.protocol_model import Table, entry

OFFSET = 'lse_offset@syncnet'
REACH = 15  # frames: how far SyncNet looks
_COLUMNS = 3
_DOTS = 150  # of a strip: more would be a block
_LONGEST_LABEL = 26
_MARKERS = 'os^vDPX'
_K = re.compile(r'[\s,(]*\bK\s*=\s*(\d+)\)?')


def distributions(results: Results, metrics: Sequence[str]) -> Chart:
    """A chart a metric: the clips of each row as dots and as a box of quartiles with the median."""
    rows = [row for row in results.labels if any(_values(results, row, metric).size for metric in metrics)]

    def draw(theme: Theme) -> Figure:
        figure, grid = _grid(len(metrics), 0.24 * len(rows) + 0.5)
        for place, (axes, metric) in enumerate(zip(grid, metrics, strict=False)):
            figures.style_axes(axes, theme, _title(results, metric), 8)
            for y, row in enumerate(rows):
                _box(axes, theme, y, _values(results, row, metric), _color(results, row, theme))
            axes.set_ylim(len(rows) - 0.4, -0.6)
            named = place % _COLUMNS == 0
            axes.set_yticks(range(len(rows)), [_short(results.labels[row]) if named else '' for row in rows])
            axes.tick_params(axis='y', labelsize=7.5, labelcolor=theme.text)
            axes.grid(visible=False, axis='y')
            axes.margins(x=0.04)
            axes.xaxis.set_major_locator(MaxNLocator(5))
        return figure

    return draw


def _box(axes: Axes, theme: Theme, y: int, values: np.ndarray, color: str) -> None:
    if not values.size:
        return
    dots = np.sort(values)[np.linspace(0, len(values) - 1, min(len(values), _DOTS)).round().astype(int)]
    jitter = 0.16 * np.sin(np.arange(len(dots)) * 2.4)  # the golden angle: neighbours apart, every time the same
    axes.plot(dots, y + jitter, '.', color=color, alpha=0.6, markersize=4.5, markeredgewidth=0)
    low, median, high = np.percentile(values, [25, 50, 75])
    axes.barh(y, high - low, left=low, height=0.56, color=color, alpha=0.2, edgecolor=color, linewidth=0.8)
    axes.plot([median, median], [y - 0.28, y + 0.28], color=theme.text, linewidth=1.6)


def yaw(results: Results, metrics: Sequence[str]) -> Chart:
    """A chart a metric: mean over the frames of each bin of |yaw|, a line a row, the frames counted below."""
    def draw(theme: Theme) -> Figure:
        figure, grid = _grid(len(metrics), 1.75)
        for axes, metric in zip(grid, metrics, strict=False):
            figures.style_axes(axes, theme, _title(results, metric), 8)
            counts = np.zeros(len(YAW_EDGES) - 1, int)
            for row, style in styles(results, theme).items():
                if metric in results.by_yaw.get(row, {}):
                    means, seen = results.yaw_means(row, metric)
                    counts = np.maximum(counts, seen)
                    axes.plot(means, label=_short(results.labels[row]), **style)
            axes.set_xticks(range(len(counts)), [
                f'{low:.0f}–{high:.0f}°\nn = {count:,}'
                for low, high, count in zip(YAW_EDGES, YAW_EDGES[1:], counts, strict=False)])
            axes.margins(x=0.08)
            axes.yaxis.set_major_locator(MaxNLocator(5))
        _legend(figure, theme, grid)
        return figure

    return draw


def by_references(table: Table, metrics: Sequence[str]) -> Chart:
    """A chart a metric: mean and 95 % interval over the number of references K, a line a method."""
    results = table.results
    found = number_of_references(results)
    numbers = sorted(set(found.values()))
    lines: dict[str, list[str]] = {}
    for row in sorted(found, key=found.get):
        lines.setdefault(_K.sub('', results.labels[row]), []).append(row)

    def draw(theme: Theme) -> Figure:
        figure, grid = _grid(len(metrics), 1.75)
        style = styles(results, theme)
        for axes, metric in zip(grid, metrics, strict=False):
            figures.style_axes(axes, theme, _title(results, metric), 8)
            for name, rows in lines.items():
                x = [numbers.index(found[row]) for row in rows]
                bounds = np.array([_bounds(table, row, metric) for row in rows])
                axes.errorbar(x, bounds[:, 0], yerr=bounds[:, 1:].T, label=_short(name), capsize=3, elinewidth=0.9,
                              **style[rows[0]])
            for row in results.labels:
                if row not in found and row != TRUTH and math.isfinite(results.mean(row, metric)):
                    flat = {**style[row], 'marker': '', 'linewidth': 1.0}
                    axes.plot([0, len(numbers) - 1], [results.mean(row, metric)] * 2,
                              label=_short(results.labels[row]), **flat)
            axes.set_xticks(range(len(numbers)), [f'K = {k}' for k in numbers])
            axes.margins(x=0.08, y=0.12)
            axes.yaxis.set_major_locator(MaxNLocator(5))
        _legend(figure, theme, grid)
        return figure

    return draw


def number_of_references(results: Results) -> dict[str, int]:
    """Row -> K, of the rows whose label says it, as 'Ours (K = 8)' does."""
    found = {row: _K.search(label) for row, label in results.labels.items()}
    return {row: int(match[1]) for row, match in found.items() if match}


def _bounds(table: Table, row: str, metric: str) -> tuple[float, float, float]:
    """Mean, and how far its interval reaches below and above: 0 where there is none."""
    if metric not in table.cells[row]:
        return math.nan, 0.0, 0.0
    found = table.cells[row][metric].interval
    if not math.isfinite(found.low + found.high):
        return found.mean, 0.0, 0.0
    return found.mean, max(0.0, found.mean - found.low), max(0.0, found.high - found.mean)


def offsets(results: Results) -> Chart:
    """A chart a row: how many clips have each offset of sound and mouth, in frames."""
    rows = rows_with(results, OFFSET)

    def draw(theme: Theme) -> Figure:
        figure, grid = _grid(len(rows), 1.35)
        for axes, row in zip(grid, rows, strict=False):
            values = np.clip(_values(results, row, OFFSET).round().astype(int), -REACH, REACH)
            figures.style_axes(axes, theme, f'{results.labels[row]}, {np.mean(values == 0):.0%} at 0', 8)
            axes.bar(np.arange(-REACH, REACH + 1), np.bincount(values + REACH, minlength=2 * REACH + 1), width=0.8,
                     color=_color(results, row, theme))
            axes.set_xlim(-REACH - 1, REACH + 1)
            axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        shown = entry(results, OFFSET)
        figure.supxlabel(f'{shown.unit}; {shown.meaning}', color=theme.muted, fontsize=7.5)
        return figure

    return draw


def rows_with(results: Results, metric: str) -> list[str]:
    """The rows of which some clip has a value."""
    return [row for row in results.labels if _values(results, row, metric).size]


def styles(results: Results, theme: Theme) -> dict[str, dict[str, Any]]:
    """How the line of each row is drawn: methods solid and in colour, baselines dashed and grey, the truth dotted."""
    found: dict[str, dict[str, Any]] = {}
    colors, markers = (theme.model, *theme.baselines), {'methods': 0, 'baselines': 0}
    for row in results.labels:
        if row == TRUTH:
            found[row] = {'color': theme.truth, 'linestyle': ':', 'linewidth': 1.3, 'marker': '.', 'markersize': 4}
            continue
        kind = 'baselines' if row in results.baselines else 'methods'
        place, markers[kind] = markers[kind], markers[kind] + 1
        look = ({'color': colors[place % len(colors)], 'linestyle': '-', 'linewidth': 1.6} if kind == 'methods' else
                {'color': theme.muted, 'linestyle': (0, (3, 2)), 'linewidth': 1.1})
        found[row] = {**look, 'marker': _MARKERS[place % len(_MARKERS)], 'markersize': 4}
    return found


def _color(results: Results, row: str, theme: Theme) -> str:
    return theme.truth if row == TRUTH else theme.muted if row in results.baselines else theme.model


def _values(results: Results, row: str, metric: str) -> np.ndarray:
    values = np.asarray(results.per_clip.get(row, {}).get(metric, ()), np.float64)
    return values[np.isfinite(values)]


def _title(results: Results, metric: str) -> str:
    shown = entry(results, metric)
    return ' '.join(filter(None, (metric, f'({shown.unit})' if shown.unit else '', catalogue.ARROWS[shown.better])))


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else label[:_LONGEST_LABEL - 1].rstrip() + '…'


def _grid(count: int, height: float) -> tuple[Figure, list[Axes]]:
    """A page-wide figure of `count` charts of `height` inches, three side by side at most."""
    columns, rows = min(_COLUMNS, count), math.ceil(count / _COLUMNS)
    share = figures.WIDTH / _COLUMNS * columns + (1.0 if columns < _COLUMNS else 0.0)
    figure = Figure(figsize=(share, height * rows + 0.4), layout='constrained')
    grid = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for axes in grid[count:]:
        axes.set_visible(False)
    return figure, grid[:count]


def _legend(figure: Figure, theme: Theme, grid: Sequence[Axes]) -> None:
    """What every line means, once, in rows above the charts."""
    named: dict[str, Any] = {}
    for axes in grid:
        named |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
                  if label not in named}
    columns = max(1, round(len(named) / math.ceil(len(named) * 1.7 / figure.get_figwidth())))
    figure.legend(named.values(), named.keys(), loc='outside upper left', ncols=columns, frameon=False, fontsize=7.5,
                  labelcolor=theme.text, handlelength=2.2, columnspacing=1.4)


