"""The table of an evaluation of whole videos before it is written: cells, published rows, bins of yaw."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from talkinghead_jax.metrics.intervals import Interval, bootstrap
from talkinghead_jax.protocols import published
from talkinghead_jax.protocols.recipes import POOL, RECIPES
from talkinghead_jax.protocols.results import YAW_EDGES, Results
from talkinghead_jax.report import catalogue

OURS, BASELINE, PUBLISHED, MISSING = 'ours', 'baseline', 'published', 'not computed'
BEST = 'the best of our methods, baselines aside'  # what is bold, or starred
FEW = 5  # groups: intervals over fewer are rough


@dataclasses.dataclass(frozen=True)
class Cell:
    """A number of ours.

    Attributes:
      interval: mean over clips and bounds, which lie within what the metric can be.
      clips: that have a value.
      frames: of these clips that have a value; None where it is unknown, or no value a frame.
      best: whether no other method of ours is better.
    """

    interval: Interval
    clips: int
    frames: int | None
    best: bool


@dataclasses.dataclass(frozen=True)
class Table:
    """What the formats show.

    Attributes:
      results: what it was made of.
      grouped: what the intervals are over: '3 speakers', or '1 clip'.
      groups: how many these are.
      metrics: all that have a value, in the order of the recipes.
      cells: row -> metric -> cell; none where the row has no value.
      published: the paper's rows.
      columns: the paper's column -> the metric of ours that it stands under.
      yaw: of every row, metric and bin of |yaw|: (row, metric, from, to, mean, frames), degrees.
    """

    results: Results
    grouped: str
    groups: int
    metrics: tuple[str, ...]
    cells: Mapping[str, Mapping[str, Cell]]
    published: list[published.Row]
    columns: Mapping[str, str]
    yaw: list[tuple[str, str, float, float, float, int]]

    def kind(self, row: str) -> str:
        """'baseline' or 'ours'."""
        return BASELINE if row in self.results.baselines else OURS

    @property
    def source(self) -> str:
        """The paper's table that the published rows are of, as 'Table 1'."""
        return published.TABLES[_protocol(self.results)]

    @property
    def intervals(self) -> str:
        """What the intervals are over, and what they are worth: one speaker, or one clip, tells nothing of others."""
        if self.groups < 2:
            return f'no intervals, for there is only {self.grouped}' if self.groups else 'no intervals'
        rough = f'; they are rough, being over fewer than {FEW}' if self.groups < FEW else ''
        return f'95 % bootstrap intervals over {self.grouped}, cut at what a metric can be{rough}'

    def partly(self, cell: Cell) -> list[str]:
        """Over what a number is, where that is not all: 'N of M clips', 'N of M frames'."""
        clips, frames = len(self.results.clips['clip_id']), int(np.sum(self.results.clips['frames']))
        found = [f'{cell.clips} of {clips} clips'] if cell.clips != clips else []
        return found + ([f'{cell.frames} of {frames} frames'] if cell.frames not in (None, frames) else [])

    @property
    def missing(self) -> dict[str, str]:
        """Metric -> why it was not computed."""
        return {metric: note for metric, note in self.results.notes.items() if metric not in self.metrics}

    def published_under(self, values: Mapping[str, float]) -> dict[str, float]:
        """Metric of ours -> published value, of the values of one published row."""
        return {self.columns[column]: value for column, value in values.items()}


def recipe(results: Results, metric: str) -> dict[str, Any]:
    """What was done for a metric, or would have been; {} of one that nobody knows."""
    known = dataclasses.asdict(RECIPES[metric]) if metric in RECIPES else {}
    return {**known, **results.recipes.get(metric, {})}


def entry(results: Results, metric: str) -> catalogue.Metric:
    """How a metric is shown."""
    of = recipe(results, metric)
    return catalogue.Metric(of.get('unit', ''), of.get('better', catalogue.LOWER), of.get('meaning', ''))


def groups(clips: Mapping[str, np.ndarray]) -> tuple[np.ndarray, str]:
    """What is drawn together by the bootstrap: clips of a speaker; or each clip, if speakers tell nothing.

    Returns:
      (n,) names, and what they are: 'speakers', or 'clips' where no speaker or only one is known.
    """
    speakers, names = np.asarray(clips['speaker_id']).astype(str), np.asarray(clips['clip_id']).astype(str)
    if len(set(speakers.tolist()) - {''}) < 2:
        return names, 'clips'
    return np.where(speakers == '', names, speakers), 'speakers'


def plural(count: int, kind: str) -> str:
    """'3 speakers', or '1 clip'."""
    return f'{count} {kind.removesuffix("s") if count == 1 else kind}'


def build(results: Results) -> Table:
    """The table of an evaluation."""
    names, kind = groups(results.clips)
    metrics = results.metrics()
    best = {metric: _best(results, metric) for metric in metrics}
    cells = {row: {metric: _cell(results, row, metric, names, row in best[metric]) for metric in metrics
                   if not np.isnan(results.mean(row, metric))} for row in results.labels}
    rows = published.published(_protocol(results), results.dataset)
    beside = {recipe(results, metric).get('column'): metric for metric in reversed((*metrics, *RECIPES))}
    columns = {column: beside[column] for column in dict.fromkeys(column for _, values in rows for column in values)}
    count = len(np.unique(names))
    return Table(results, plural(count, kind), count, tuple(metrics), cells, rows, columns, list(_yaw(results)))


def _protocol(results: Results) -> str:
    """That of the paper: of folders of videos, what they are said to have been made by."""
    return results.facts.get('table') or results.protocol


def _cell(results: Results, row: str, metric: str, names: np.ndarray, best: bool) -> Cell:
    of = recipe(results, metric)
    if of.get('level') == POOL:
        return Cell(Interval(results.mean(row, metric), np.nan, np.nan), len(names), None, best)
    counted = results.counted.get(row, {}).get(metric)
    found = _within(bootstrap(results.per_clip[row][metric], names), of.get('possible', (None, None)))
    return Cell(found, results.count(row, metric), None if counted is None else int(np.sum(counted)), best)


def _within(interval: Interval, possible: Sequence[float | None]) -> Interval:
    """The interval without what the metric cannot be; NaN stays."""
    least, largest = (end if bound is None else bound
                      for bound, end in zip(possible, (-np.inf, np.inf), strict=True))
    low, high = (float(np.clip(bound, least, largest)) for bound in (interval.low, interval.high))
    return Interval(interval.mean, low, high)


def _best(results: Results, metric: str) -> set[str]:
    """The best of the methods of interest; none where there is no other to be better than."""
    shown = entry(results, metric)
    ours = [row for row in results.labels if row not in results.baselines]
    badness = {row: shown.badness(results.mean(row, metric)) for row in ours}
    badness = {row: value for row, value in badness.items() if np.isfinite(value)}
    return {row for row, value in badness.items() if len(badness) > 1 and value == min(badness.values())}


def _yaw(results: Results) -> Iterator[tuple[str, str, float, float, float, int]]:
    for metric in results.metrics():
        for row in results.labels:
            if metric in results.by_yaw.get(row, {}):
                for k, (mean, frames) in enumerate(zip(*results.yaw_means(row, metric), strict=True)):
                    yield row, metric, YAW_EDGES[k], YAW_EDGES[k + 1], float(mean), int(frames)
