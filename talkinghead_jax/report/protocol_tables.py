"""The tables of an evaluation of whole videos, the published rows beside ours: CSV, JSON, Markdown, LaTeX, text."""

import csv
import dataclasses
import io
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from talkinghead_jax import files
from talkinghead_jax.protocols.recipes import POOL
from talkinghead_jax.protocols.results import Results
from talkinghead_jax.report import protocol_formats
from talkinghead_jax.report.protocol_model import MISSING, PUBLISHED, Table, build, entry, recipe

FILES = ('table.csv', 'table.json', 'table.md', 'table.tex', 'per_clip.csv', 'yaw.csv')


def write(folder: str | os.PathLike, results: Results) -> str:
    """Write `FILES` into `folder`, each atomically; the table as plain text, to print.

    Raises:
      UserError: the folder cannot be written.
    """
    folder = pathlib.Path(folder)
    table = build(results)
    contents = {'table.csv': _csv(_lines(table)), 'table.json': files.to_json(_json(table)),
                'table.md': protocol_formats.markdown(table).encode(),
                'table.tex': protocol_formats.latex(table).encode(), 'per_clip.csv': _csv(_clips(results)),
                'yaw.csv': _csv(_yaw_lines(table))}
    for name in FILES:
        files.write_atomically(folder / name, contents[name])
    return f'{protocol_formats.text(table)}\n\nrecipes, notes and other formats: {folder / "table.md"}'


def _csv(lines: Iterable[Iterable[Any]]) -> bytes:
    """Lines of cells; a number that is none is empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator='\n')
    for line in lines:
        writer.writerow(['' if isinstance(cell, float) and not np.isfinite(cell) else cell for cell in line])
    return buffer.getvalue().encode()


def _lines(table: Table) -> Iterator[tuple]:
    """table.csv: a line a row and metric, then the published numbers, then what was not computed."""
    results = table.results
    yield ('kind', 'row', 'label', 'metric', 'unit', 'better', 'mean', 'low', 'high', 'clips',
           'frames', 'best', 'note')
    for row, of in table.cells.items():
        first, about = (table.kind(row), row, results.labels[row]), results.row_notes.get(row, '')
        if about and not of:
            yield (*first, '', '', '', '', '', '', '', '', '', about)
        for metric, cell in of.items():
            shown = entry(results, metric)
            yield (*first, metric, shown.unit, shown.better, cell.interval.mean, cell.interval.low,
                   cell.interval.high, cell.clips, '' if cell.frames is None else cell.frames, int(cell.best),
                   '; '.join(filter(None, (results.notes.get(metric, ''), about))))
    for label, values in table.published:
        for column, value in values.items():
            metric = table.columns[column]
            shown = entry(results, metric)
            yield (PUBLISHED, '', label, metric, shown.unit, shown.better, value, '', '', '', '', '',
                   recipe(results, metric).get('incomparable', ''))
    for metric, note in table.missing.items():
        shown = entry(results, metric)
        yield MISSING, '', '', metric, shown.unit, shown.better, '', '', '', '', '', '', note


def _json(table: Table) -> dict[str, Any]:
    results = table.results
    rows = [{'kind': table.kind(row), 'row': row, 'label': label, 'note': results.row_notes.get(row, ''),
             'values': {metric: {**dataclasses.asdict(cell.interval), 'clips': cell.clips, 'frames': cell.frames,
                                 'best': cell.best}
                        for metric, cell in table.cells[row].items()}} for row, label in results.labels.items()]
    shown = (*table.metrics, *table.missing)
    return {'protocol': results.protocol, 'dataset': results.dataset,
            'clips': len(results.clips['clip_id']), 'frames': int(np.sum(results.clips['frames'])),
            'intervals': table.intervals, 'facts': results.facts,
            'metrics': {metric: {**recipe(results, metric), 'note': results.notes.get(metric, ''),
                                 'computed': metric in table.metrics} for metric in shown},
            'rows': rows,
            'published': [{'kind': PUBLISHED, 'label': label, 'columns': values,
                           'values': table.published_under(values)} for label, values in table.published],
            'yaw': [dict(zip(('row', 'metric', 'from', 'to', 'mean', 'frames'), line, strict=True))
                    for line in table.yaw],
            'footnotes': protocol_formats.footnotes(table)}


def _clips(results: Results) -> Iterator[tuple]:
    """per_clip.csv: a line a clip and row."""
    metrics = [metric for metric in results.metrics() if recipe(results, metric).get('level') != POOL]
    yield ('clip_id', 'speaker_id', 'frames', 'row', 'label', *metrics)
    empty = np.full(len(results.clips['clip_id']), np.nan)
    clips = zip(*(results.clips[name] for name in ('clip_id', 'speaker_id', 'frames')), strict=True)
    for k, clip in enumerate(clips):
        for row, label in results.labels.items():
            of = results.per_clip.get(row, {})
            yield (*clip, row, label, *(float(of.get(metric, empty)[k]) for metric in metrics))


def _yaw_lines(table: Table) -> Iterator[tuple]:
    yield 'row', 'label', 'metric', 'yaw_from_deg', 'yaw_to_deg', 'mean', 'frames'
    for row, *rest in table.yaw:
        yield row, table.results.labels[row], *rest
