"""Two evaluations clip by clip: which is better in what, and whether other speakers would say so, too."""

import csv
import dataclasses
import io
import os
import pathlib
from typing import Any

import numpy as np

from talkinghead_jax import files
from talkinghead_jax.errors import UserError
from talkinghead_jax.metrics.intervals import Interval, holm, paired
from talkinghead_jax.protocols.recipes import HIGHER, NEAR_ONE, NEAR_ZERO, NEITHER, POOL
from talkinghead_jax.protocols.results import Results
from talkinghead_jax.report import catalogue, protocol_formats
from talkinghead_jax.report.protocol_model import FEW, entry, groups, plural, recipe

FILES = ('comparison.csv', 'comparison.json', 'comparison.md')
LEVEL = 0.05  # a corrected p-value below it tells the two apart
FIRST, SECOND, TIED, UNKNOWN = 'first', 'second', 'no difference shown', '–'

_MUST_AGREE = ('version', 'weights', 'picture', 'size', 'crop', 'level')  # of a recipe, or it is another metric
_FACTS_AGREE = ('data', 'split', 'size', 'frames', 'crop')  # where both runs have them
_IDEAL = {NEAR_ONE: 1.0, NEAR_ZERO: 0.0}
_HEAD = ('metric', 'first', 'second', 'first - second [95 % interval]', 'p', 'p (Holm)', 'clips', 'better')


@dataclasses.dataclass(frozen=True)
class Pair:
    """One metric of one row in both runs.

    Attributes:
      row, label, metric: which.
      first, second: mean over the clips that have a value in both; of a metric of all frames together, its value; of
        one whose ideal is 0 or 1, of the distances of the clips' values from it.
      difference: first minus second; without bounds where nothing tells how much other speakers would differ.
      p_value: of the sign-flip test; NaN where there is no test: of a metric of all frames together, of one of which
        neither more nor less is better, and of a multiple of another.
      corrected: the same by Holm's method over the metrics of the row.
      clips: that have a value in both.
      better: 'first' or 'second' where `corrected` is below 5 %, 'no difference shown' where it is not; '–' where
        there is no p-value.
    """

    row: str
    label: str
    metric: str
    first: float
    second: float
    difference: Interval
    p_value: float
    corrected: float
    clips: int
    better: str


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
      clips: that are in both runs.
      only_first, only_second: clips that are in one.
      grouped: what the intervals and tests are over: 'speakers' or 'clips'.
      groups: how many of them.
      pairs: a row and metric each.
      notes: what limits the comparison.
    """

    clips: int
    only_first: int
    only_second: int
    grouped: str
    groups: int
    pairs: list[Pair]
    notes: list[str]


def compare(first: Results, second: Results) -> Comparison:
    """Every metric of every row that both runs have, over the clips that both have (by clip_id).

    Metrics of all frames together are compared, without a test, only where both runs are of the same clips.

    Raises:
      UserError: the runs are of different protocols or data; no clip, or no metric of any row, is in both; or a
        metric was not computed by one recipe in both.
    """
    _check_same_experiment(first, second)
    _, here, there = np.intersect1d(first.clips['clip_id'], second.clips['clip_id'], return_indices=True)
    counts = [len(run.clips['clip_id']) for run in (first, second)]
    if not len(here):
        raise UserError(f'comparison: found no clip_id that is in both runs (of {counts[0]} and {counts[1]} clips); '
                        'want two evaluations of the same clips')
    clips = {name: np.asarray(values)[here] for name, values in first.clips.items()}
    names, kind = groups(clips)
    whole = len(here) == counts[0] == counts[1]
    pairs = []
    for row in first.labels:
        found = [_pair(first, second, row, metric, (here, there), names)
                 for metric in _shared(first, second, row, whole)]
        corrected = holm(np.array([pair.p_value for pair in found]))
        pairs += [_judged(dataclasses.replace(pair, corrected=float(p)), entry(first, pair.metric).better)
                  for pair, p in zip(found, corrected, strict=True) if pair.clips]
    if not pairs:
        raise UserError(f'comparison: found no metric of a row that is in both runs (rows {", ".join(first.labels)} '
                        f'and {", ".join(second.labels)}); want two evaluations of the same rows')
    tests = max(sum(not np.isnan(pair.p_value) for pair in pairs if pair.row == row) for row in first.labels)
    notes = _limits(len(np.unique(names)), kind, tests)
    unequal = int((clips['frames'] != np.asarray(second.clips['frames'])[there]).sum())
    notes += [f'another number of frames in the second run: {plural(unequal, "clips")}'] if unequal else []
    notes += [f'{metric}: means of |value{f" - {ideal:g}" if ideal else ""}|, for {ideal:g} is best'
              for metric in dict.fromkeys(pair.metric for pair in pairs)
              if (ideal := _IDEAL.get(entry(first, metric).better)) is not None]
    only = (count - len(here) for count in counts)
    return Comparison(len(here), *only, kind, len(np.unique(names)), pairs, notes)


def _check_same_experiment(first: Results, second: Results) -> None:
    """Refuse runs whose numbers are of different protocols or data, whatever their clips are called."""
    both = [(name, getattr(first, name), getattr(second, name)) for name in ('protocol', 'dataset')]
    both += [(name, first.facts.get(name), second.facts.get(name)) for name in _FACTS_AGREE]
    for name, ours, theirs in both:
        if ours and theirs and ours != theirs:
            raise UserError(f'comparison: found {name} {ours!r} in the first run and {theirs!r} in the second; want '
                            'two evaluations of the same')


def _shared(first: Results, second: Results, row: str, whole: bool) -> list[str]:
    """Metrics that have a value in both; each by the same recipe."""
    both = [metric for metric in first.metrics()
            if not np.isnan([first.mean(row, metric), second.mean(row, metric)]).any()]
    shared = [metric for metric in both if whole or recipe(first, metric).get('level') != POOL]
    for metric in shared:
        ours, theirs = recipe(first, metric), recipe(second, metric)
        for field in _MUST_AGREE:
            if ours.get(field) != theirs.get(field):
                raise UserError(f'comparison: {metric} has {field} {_told(ours.get(field))} in the first run and '
                                f'{_told(theirs.get(field))} in the second; want both evaluated by one recipe')
    return shared


def _told(value: Any) -> str:
    """Weights by the first digits of their hashes; others as they are."""
    if not isinstance(value, dict):
        return str(value)
    return ', '.join(f'{name} {digest[:12]}' for name, digest in value.items()) or 'none'


def _pair(first: Results, second: Results, row: str, metric: str, places: tuple[np.ndarray, np.ndarray],
          names: np.ndarray) -> Pair:
    label, of, better = first.labels[row], recipe(first, metric), entry(first, metric).better
    if of.get('level') == POOL:
        means = first.mean(row, metric), second.mean(row, metric)
        return Pair(row, label, metric, *means, Interval(means[0] - means[1], np.nan, np.nan), np.nan, np.nan,
                    len(names), UNKNOWN)
    values = [np.asarray(run.per_clip[row][metric], np.float64)[place]
              for run, place in zip((first, second), places, strict=True)]
    if better in _IDEAL:
        values = [np.abs(value - _IDEAL[better]) for value in values]
    both = ~np.isnan(values[0] - values[1])
    means = [float(of[both].mean()) if both.any() else float('nan') for of in values]
    found = paired(*values, names)
    tested = better != NEITHER and not of.get('multiple_of')
    return Pair(row, label, metric, *means, found.difference, found.p_value if tested else np.nan, np.nan, found.n,
                UNKNOWN)


def _judged(pair: Pair, better: str) -> Pair:
    """Which run is better, of a metric of which `better` is better."""
    if np.isnan(pair.corrected):
        return pair
    ahead = FIRST if (pair.first > pair.second) == (better == HIGHER) else SECOND
    return dataclasses.replace(pair, better=ahead if pair.corrected < LEVEL else TIED)


def _limits(count: int, kind: str, tests: int) -> list[str]:
    """What few groups cannot show: bounds to rely on, or any difference, however large."""
    least = 2.0 ** (1 - count)
    rough = [f'intervals over fewer than {FEW} {kind} are rough'] if 1 < count < FEW else []
    if not tests or least * tests < LEVEL:
        return rough
    return [*rough, f'no p-value of {plural(count, kind)} lies below {least:g}, nor below {min(least * tests, 1):g} '
                    f'when corrected for {tests} metrics: too few to show any difference']


def write(folder: str | os.PathLike, first: Results, second: Results, names: tuple[str, str]) -> str:
    """Compare two runs and write `FILES` into `folder`, each atomically; the comparison as text, to print.

    Args:
      folder: is made if need be.
      first, second: two evaluations of the same clips.
      names: what readers call them.

    Raises:
      UserError: as `compare`; or the folder cannot be written.
    """
    folder = pathlib.Path(folder)
    found = compare(first, second)
    contents = {'comparison.csv': _csv(found), 'comparison.json': files.to_json(
        {'first': names[0], 'second': names[1], **dataclasses.asdict(found)}),
        'comparison.md': _markdown(first, found, names).encode()}
    for name in FILES:
        files.write_atomically(folder / name, contents[name])
    return f'{_text(first, found, names)}\n\ncomparison: {folder / "comparison.md"}'


def _csv(found: Comparison) -> bytes:
    """A line a pair; a number that is none is empty."""
    def line(pair: Pair) -> dict[str, Any]:
        fields = dataclasses.asdict(pair)
        interval = fields.pop('difference')
        fields |= {'difference': interval['mean'], 'low': interval['low'], 'high': interval['high']}
        return {name: '' if isinstance(value, float) and np.isnan(value) else value for name, value in fields.items()}

    lines = [line(pair) for pair in found.pairs]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(lines[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(lines)
    return buffer.getvalue().encode()


def _title(found: Comparison, names: tuple[str, str]) -> str:
    apart = [f'{count} only in {name}' for count, name in
             zip((found.only_first, found.only_second), names, strict=True) if count]
    clips = f'{found.clips} clips in both' + (f' ({", ".join(apart)})' if apart else '')
    over = f'{"intervals and " if found.groups > 1 else "no intervals, "}p-values over'
    return f'{names[0]} (first) and {names[1]} (second): {clips}, {over} {plural(found.groups, found.grouped)}'


def _cells(results: Results, pair: Pair, names: tuple[str, str]) -> list[str]:
    shown = entry(results, pair.metric)
    digits = 4 if max(abs(pair.first), abs(pair.second)) < 1 else 3
    difference = f'{pair.difference.mean:+.{digits}f}'
    if np.isfinite(pair.difference.low):
        difference += f' [{pair.difference.low:+.{digits}f}, {pair.difference.high:+.{digits}f}]'
    p_values = [UNKNOWN if np.isnan(p) else f'{p:.3g}' for p in (pair.p_value, pair.corrected)]
    unit = f' ({shown.unit})' if shown.unit else ''
    better = {FIRST: names[0], SECOND: names[1]}.get(pair.better, pair.better)
    means = [catalogue.number(mean) for mean in (pair.first, pair.second)]
    return [f'{pair.metric}{unit}', *means, difference, *p_values, str(pair.clips), better]


def _by_row(results: Results, found: Comparison, names: tuple[str, str]) -> dict[str, list[list[str]]]:
    """Label of a row -> its table."""
    head = [*_HEAD]
    return {results.labels[row]: [head, *(_cells(results, pair, names) for pair in found.pairs if pair.row == row)]
            for row in dict.fromkeys(pair.row for pair in found.pairs)}


def _text(results: Results, found: Comparison, names: tuple[str, str]) -> str:
    tables = _by_row(results, found, names)
    widths = [max(len(line[k]) for table in tables.values() for line in table) for k in range(len(_HEAD))]
    lines = [_title(found, names)]
    for label, table in tables.items():
        lines += ['', label, *('  ' + '  '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
                               for line in table)]
    return '\n'.join(line.rstrip() for line in [*lines, *([''] if found.notes else []), *found.notes])


def _markdown(results: Results, found: Comparison, names: tuple[str, str]) -> str:
    escape = protocol_formats.escape_markdown
    lines = ['# Comparison', '', f'{escape(_title(found, names))}.']
    for label, table in _by_row(results, found, names).items():
        head, *rows = ([escape(cell) for cell in line] for line in table)
        lines += ['', f'## {escape(label)}', '', f'| {" | ".join(head)} |', '|---' * len(head) + '|',
                  *(f'| {" | ".join(row)} |' for row in rows)]
    lines += ['', f'p: two-sided, by flipping the signs of whole {found.grouped}; Holm: corrected over the metrics '
              f'of a row. The better run is named where that is below {LEVEL:g}.']
    lines += [line for note in found.notes for line in ('', f'{note}.')]
    return '\n'.join(lines) + '\n'
