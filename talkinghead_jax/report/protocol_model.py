"""The table of an evaluation of whole videos before it is written: cells, published rows, bins of yaw."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from talkinghead_jax.metrics.intervals import Interval, bootstrap
from talkinghead_jax.protocols import published
from talkinghead_jax.protocols.recipes import POOL, RECIPES
from talkinghead_jax.protocols.results import YAW_EDGES, Results
from talkinghead_jax.report import catalogue

OURS, BASELINE, PUBLISHED, MISSING = 'ours', 'baseline', 'published', 'not computed'


@dataclasses.dataclass(frozen=True)
class Cell:
    """A number of ours: mean and interval, over how many clips, and whether no other method of ours is better."""

    interval: Interval
    clips: int
    best: bool


@dataclasses.dataclass(frozen=True)
class Table:
    """What the formats show.

    Attributes:
      results: what it was made of.
      grouped: what the intervals are over: '3 speakers', or '6 clips'.
      metrics: all that have a value, in the order of the recipes.
      cells: row -> metric -> cell; none where the row has no value.
      published: the paper's rows.
      columns: the paper's column -> the metric of ours that it stands under.
      yaw: of every row, metric and bin of |yaw|: (row, metric, from, to, mean, frames), degrees.
    """

    results: Results
    grouped: str
    metrics: tuple[str, ...]
    cells: Mapping[str, Mapping[str, Cell]]
    published: list[published.Row]
    columns: Mapping[str, str]
    yaw: list[tuple[str, str, float, float, float, int]]

    def kind(self, row: str) -> str:
        """'baseline' or 'ours'."""
        return BASELINE if row in self.results.baselines else OURS

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


def build(results: Results) -> Table:
    """The table of an evaluation."""
    names, kind = groups(results.clips)
    metrics = results.metrics()
    cells = {row: {metric: _cell(results, row, metric, names) for metric in metrics
                   if not np.isnan(results.mean(row, metric))} for row in results.labels}
    rows = published.published(results.protocol, results.dataset)
    beside = {recipe(results, metric).get('column'): metric for metric in reversed((*metrics, *RECIPES))}
    columns = {column: beside[column] for column in dict.fromkeys(column for _, values in rows for column in values)}
    grouped = f'{len(np.unique(names))} {kind}'
    return Table(results, grouped, tuple(metrics), cells, rows, columns, list(_yaw(results)))


def _cell(results: Results, row: str, metric: str, names: np.ndarray) -> Cell:
    mean = results.mean(row, metric)
    best = row in _best(results, metric)
    if recipe(results, metric).get('level') == POOL:
        return Cell(Interval(mean, np.nan, np.nan), len(names), best)
    return Cell(bootstrap(results.per_clip[row][metric], names), results.count(row, metric), best)


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
