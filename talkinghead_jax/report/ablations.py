"""What an ablation study found: a table with paired intervals, and a grid of the same held-out frames."""

import dataclasses
import html
import json
import os
import pathlib
from collections.abc import Iterator, Mapping

import numpy as np

from talkinghead_jax import files, study
from talkinghead_jax.errors import UserError
from talkinghead_jax.evaluation import MODEL, Evaluation
from talkinghead_jax.metrics.intervals import Interval, paired_bootstrap
from talkinghead_jax.report import catalogue, pictures
from talkinghead_jax.study import FULL, Run

AHEAD, TIED, BEHIND, UNKNOWN = 'ahead', 'tied', 'behind', '–'
HEADINGS = ('variant', 'mean ± deviation over seeds', 'full - variant [95 % interval]', 'full model is')
FILES = ('study.json', 'study.md', 'grid.png')


@dataclasses.dataclass(frozen=True)
class Row:
    """One metric of one variant.

    Attributes:
      metric: name.
      variant: 'full' or an ablation.
      by_seed: seed -> mean over the held-out examples.
      mean: of `by_seed`.
      deviation: standard deviation of `by_seed`, NaN of one seed.
      difference: full model minus this variant, over the seeds and examples that both have; None for the full model.
      mark: what the full model is beside this variant: 'ahead' or 'behind' where the interval excludes 0, 'tied'
        where it does not, '–' where there is none.
    """

    metric: str
    variant: str
    by_seed: Mapping[str, float]
    mean: float
    deviation: float
    difference: Interval | None = None
    mark: str = UNKNOWN


def compare(found: Mapping[Run, Evaluation], speakers: np.ndarray) -> list[Row]:
    """Every metric that all runs have, in the order of the catalogue; a row a variant.

    Args:
      found: the finished runs of `study.run_all`.
      speakers: (n,) the speaker of each example; the intervals are over seeds and speakers.
    """
    shared = set.intersection(*(set(result.per_example[MODEL]) for result in found.values()))
    metrics = sorted(shared, key=lambda name: ([*catalogue.METRICS, name].index(name), name))
    variants = dict.fromkeys(run.variant for run in found)
    return [_row(metric, variant, found, speakers) for metric in metrics for variant in variants]


def _row(metric: str, variant: str, found: Mapping[Run, Evaluation], speakers: np.ndarray) -> Row:
    by_seed = {run.seed: result.means[MODEL][metric] for run, result in found.items() if run.variant == variant}
    means = np.array(list(by_seed.values()))
    row = Row(metric, variant, {str(seed): mean for seed, mean in by_seed.items()}, float(means.mean()),
              float(means.std(ddof=1)) if len(means) > 1 else float('nan'))
    paired = [seed for seed in by_seed if Run(FULL, seed) in found]
    if variant == FULL or not paired:
        return row
    values = [np.stack([found[Run(name, seed)].per_example[MODEL][metric] for seed in paired])
              for name in (FULL, variant)]
    difference = paired_bootstrap(values[0] - values[1], speakers)
    return dataclasses.replace(row, difference=difference, mark=_mark(metric, difference))


def _mark(metric: str, difference: Interval) -> str:
    better = catalogue.metric(metric).better
    if better == catalogue.NEAR_ONE or np.isnan([difference.low, difference.high]).any():
        return UNKNOWN
    if difference.low <= 0 <= difference.high:
        return TIED
    return AHEAD if (difference.low > 0) == (better == catalogue.HIGHER) else BEHIND


def write(root: str | os.PathLike, found: Mapping[Run, Evaluation | UserError], speakers: np.ndarray) -> str:
    """Write study.json, study.md and grid.png into `root`, each atomically; the table and their paths, to print.

    Args:
      root: the study's folder, where `study.run_all` left the pictures.
      found: of `study.run_all`; where nothing is finished yet, nothing is written.
      speakers: (n,) the speaker of each example.

    Raises:
      UserError: some runs failed; what the others found is written before.
    """
    root = pathlib.Path(root)
    finished = {run: result for run, result in found.items() if isinstance(result, Evaluation)}
    text = _write(root, finished, speakers) if finished else 'ablations: no run is finished yet'
    failed = [f'{run}: {error}' for run, error in found.items() if run not in finished]
    if failed:
        raise UserError(f'{len(failed)} of {len(found)} runs of the study failed ({"; ".join(failed)}); '
                        + (f'{root / "study.md"} shows the others' if finished else 'no run is finished yet'))
    return text


def _write(root: pathlib.Path, found: Mapping[Run, Evaluation], speakers: np.ndarray) -> str:
    table = compare(found, speakers)
    steps, n = next((result.step, result.n) for result in found.values())
    seeds = list(dict.fromkeys(run.seed for run in found))
    title = (f'{n} held-out frames of {len(np.unique(speakers))} speakers; seeds {", ".join(map(str, seeds))}; '
             f'{steps} steps each')
    files.write_atomically(root / 'study.json', files.to_json(
        {'title': title, 'steps': steps, 'n': n, 'seeds': seeds, 'rows': [dataclasses.asdict(row) for row in table]}))
    files.write_atomically(root / 'study.md', _markdown(title, table).encode())
    shown = study.pictures(root, list(dict.fromkeys(run.variant for run in found)), seeds[0])
    files.write_atomically(root / 'grid.png', pictures.png(pictures.grid(shown)))
    return f'{text_table(title, table)}\n\nstudy: {root / "study.md"}, {root / "grid.png"}'


def text_table(title: str, table: list[Row]) -> str:
    """All metrics as aligned plain text."""
    widths = [max(len(cells[i]) for cells in (HEADINGS, *map(_cells, table))) for i in range(len(HEADINGS))]
    lines = [f'ablations: {title}']
    for metric, of in _by_metric(table):
        lines += ['', metric, *('  ' + '  '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
                                for line in (HEADINGS, *map(_cells, of)))]
    return '\n'.join(line.rstrip() for line in lines)


def section(root: str | os.PathLike) -> str:
    """What `write` left in `root`, as HTML with its pictures inside; '' where there is nothing."""
    root = pathlib.Path(root)
    if not all((root / name).is_file() for name in FILES):
        return ''
    kept = json.loads((root / 'study.json').read_text())
    parts = ['<p class="lead">The generator without each of its parts, at equal budget. '
             f'{html.escape(kept["title"])}.</p>']
    for metric, of in _by_metric([_read(row) for row in kept['rows']]):
        head, *lines = ([html.escape(cell) for cell in line] for line in (HEADINGS, *map(_cells, of)))
        body = ''.join(f'<tr><th scope="row">{line[0]}</th>{"".join(f"<td>{cell}</td>" for cell in line[1:])}</tr>'
                       for line in lines)
        parts.append(f'<h3>{html.escape(metric)}</h3><div class="scroll"><table class="metrics"><thead><tr>'
                     + ''.join(f'<th scope="col">{cell}</th>' for cell in head)
                     + f'</tr></thead><tbody>{body}</tbody></table></div>')
    source = pictures.data_url((root / 'grid.png').read_bytes())
    parts.append(f'<figure><div class="scroll"><img class="chart" src="{source}" alt="one frame a row by every '
                 f'variant"></div><figcaption>Held-out frames, seed {kept["seeds"][0]}.</figcaption></figure>')
    return ''.join(parts)


def _read(row: Mapping) -> Row:
    """A row of study.json, where null stands for what is not a number."""
    def number(value: float | None) -> float:
        return float('nan') if value is None else value

    difference = row['difference']
    if difference:
        difference = Interval(**{name: number(value) for name, value in difference.items()})
    values = {name: number(row[name]) for name in ('mean', 'deviation')}
    return Row(**{**row, **values, 'difference': difference})


def _markdown(title: str, table: list[Row]) -> str:
    lines = ['# Ablations of the generator', '', f'{title}.']
    for metric, of in _by_metric(table):
        lines += ['', f'## {metric}', '', f'| {" | ".join(HEADINGS)} |', '|---' * len(HEADINGS) + '|',
                  *(f'| {" | ".join(_cells(row))} |' for row in of)]
    return '\n'.join([*lines, '', '![The same frames by every variant](grid.png)', ''])


def _by_metric(table: list[Row]) -> Iterator[tuple[str, list[Row]]]:
    for metric in dict.fromkeys(row.metric for row in table):
        entry = catalogue.metric(metric)
        unit = f' ({entry.unit})' if entry.unit else ''
        yield f'{metric}{unit}, {entry.better} is better', [row for row in table if row.metric == metric]


def _cells(row: Row) -> tuple[str, str, str, str]:
    digits = 4 if abs(row.mean) < 1 else 3
    mean = f'{row.mean:.{digits}f}' + ('' if np.isnan(row.deviation) else f' ± {row.deviation:.{digits}f}')
    if row.difference is None:
        return row.variant, mean, '', ''
    bounds = [row.difference.low, row.difference.high]
    interval = '' if np.isnan(bounds).any() else f' [{bounds[0]:+.{digits}f}, {bounds[1]:+.{digits}f}]'
    return row.variant, mean, f'{row.difference.mean:+.{digits}f}{interval}', row.mark
