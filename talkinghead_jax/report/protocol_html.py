"""Tables of an evaluation of whole videos as HTML: the paper's columns, every metric, and the recipes."""

import html
from collections.abc import Mapping, Sequence

from talkinghead_jax.protocols.recipes import POOL, RECIPES
from talkinghead_jax.report import catalogue
from talkinghead_jax.report.protocol_model import BASELINE, Table, entry, plural, recipe

_BESIDE = ('lse_c@syncnet', 'lse_d@syncnet')  # shown with the paper's columns: they tell of the mouth and the sound
_MAIN = ('lmd@mean20-mediapipe', 'ssim@authors', 'psnr@rgb', 'fid@pytorch-fid', 'lpips@alex', *_BESIDE,
         'temporal_difference_error', 'background_flicker', 'rotation_deg@driving', 'rotation_deg@mediapipe')
_SOURCE = 'Published by Chen et al. 2020'
_HASH = 12  # digits shown of a SHA-256


def main(metrics: Sequence[str]) -> list[str]:
    """Those that say most, one of a kind where kinds are alike; the first few where none of them is known."""
    known = [metric for metric in metrics if metric in _MAIN or metric.startswith('csim_gt@')]
    return known or list(metrics[:6])


def headline(table: Table) -> str:
    """Rows are methods, columns those of the paper; published rows below, greyed, and why they do not compare."""
    results, metrics = table.results, _columns(table)
    head = ''.join(f'<th scope="col">{_name(table, metric)}</th>' for metric in metrics)
    body = []
    for row, label in results.labels.items():
        cells = ''.join(_cell(table, row, metric) for metric in metrics)
        kind = ' class="baseline"' if table.kind(row) == BASELINE else ''
        note = _aside('note', results.row_notes.get(row, ''))
        body.append(f'<tr{kind}><th scope="row">{html.escape(label)}{note}</th>{cells}</tr>')
    if table.published:
        body.append(f'<tr class="published rule"><th scope="rowgroup" colspan="{len(metrics) + 1}"><div>{_SOURCE}, '
                    f'{table.source}; not computed here</div></th></tr>')
        body += [_published_row(table, metrics, *row) for row in table.published]
    remarks = [f'{metric}: {results.notes[metric]}' for metric in metrics if metric in results.notes]
    return (f'<div class="scroll"><table class="wide"><thead><tr><th scope="col">method</th>'
            f'{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
            + ''.join(f'<p class="footnote warning">{html.escape(remark)}</p>' for remark in remarks)
            + _incomparable(table))


def _columns(table: Table) -> list[str]:
    """Metrics with a value that the paper has too, and those of lip synchronisation; and all that stand beside a
    published number, for that is not lost where ours was not computed."""
    chosen = {metric for metric in table.metrics if recipe(table.results, metric).get('column') or metric in _BESIDE}
    return [metric for metric in RECIPES if metric in chosen | set(table.columns.values())]


def _published_row(table: Table, metrics: Sequence[str], label: str, values: Mapping[str, float]) -> str:
    under = table.published_under(values)
    cells = ''.join(f'<td>{under[metric]:g}</td>' if metric in under else '<td>–</td>' for metric in metrics)
    return (f'<tr class="published"><th scope="row">{html.escape(label)} <span class="tag">published</span></th>'
            f'{cells}</tr>')


def _incomparable(table: Table) -> str:
    reasons = {column: recipe(table.results, metric).get('incomparable') for column, metric in table.columns.items()}
    items = ''.join(f'<li><b>{html.escape(column)}</b>: {html.escape(reason)}.</li>'
                    for column, reason in reasons.items() if reason)
    return (f'<div class="footnote">Published numbers that cannot be compared with ours:<ul>{items}</ul></div>'
            if items else '')


def everything(table: Table) -> str:
    """Rows are metrics, columns methods; metrics that were not computed come last, with the reason."""
    results, body = table.results, []
    rows = [row for row in results.labels if table.cells[row]]
    head = ''.join(f'<th scope="col">{html.escape(results.labels[row])}</th>' for row in rows)
    for metric in table.metrics:
        cells = ''.join(_cell(table, row, metric, counted=True) for row in rows)
        body.append(f'<tr><th scope="row">{_name(table, metric)}{_meaning(table, metric)}'
                    f'{_aside("warning", results.notes.get(metric, ""))}</th>{cells}</tr>')
    for metric, note in table.missing.items():
        body.append(f'<tr><th scope="row">{_name(table, metric)}{_meaning(table, metric)}</th>'
                    f'<td class="missing" colspan="{max(1, len(rows))}"><div>{html.escape(note)}</div></td></tr>')
    if not body:
        return '<p class="lead">No metric has a value.</p>'
    return (f'<div class="scroll"><table class="wide"><thead><tr><th scope="col">{_clips(table)}</th>'
            f'{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>')


def recipes(table: Table) -> str:
    """What was done for each number: version, pictures, size, crop and the hashes of the networks."""
    body = []
    for metric in table.metrics:
        found = recipe(table.results, metric)
        weights = '<br>'.join(f'{html.escape(name)} <code title="{html.escape(str(digest))}">'
                              f'{html.escape(str(digest)[:_HASH] or "unknown")}…</code>'
                              for name, digest in found.get('weights', {}).items())
        cells = (found.get('version', '–'), _level(table, found),
                 *(found.get(name) or '–' for name in ('picture', 'size', 'crop')))
        body.append(f'<tr><th scope="row">{html.escape(metric)}{_meaning(table, metric)}</th>'
                    + ''.join(f'<td>{html.escape(str(cell))}</td>' for cell in cells)
                    + f'<td>{weights or "–"}</td><td>{found.get("better") or "neither"}</td></tr>')
    head = ''.join(f'<th scope="col">{name}</th>'
                   for name in ('metric', 'version', 'of', 'pictures', 'size', 'crop', 'weights (SHA-256)', 'better'))
    return (f'<div class="scroll"><table class="wide left"><thead><tr>{head}</tr></thead>'
            f'<tbody>{"".join(body)}</tbody></table></div>')


def _level(table: Table, found: Mapping[str, str]) -> str:
    frames = f'all {int(table.results.clips["frames"].sum()):,} frames'
    return {POOL: frames, 'clip': 'clips'}.get(found.get('level', ''), 'frames, then clips')


def _clips(table: Table) -> str:
    return plural(len(table.results.clips['clip_id']), 'clips')


def _name(table: Table, metric: str) -> str:
    shown = entry(table.results, metric)
    unit = f' <span class="unit">{html.escape(shown.unit)}</span>' if shown.unit else ''
    arrow = (f'&nbsp;<span title="{shown.better} is better">{catalogue.ARROWS[shown.better]}</span>' if shown.better
             else '')
    return f'{html.escape(metric).replace("@", "<wbr>@")}{arrow}{unit}'


def _meaning(table: Table, metric: str) -> str:
    return _aside('meaning', entry(table.results, metric).meaning)


def _cell(table: Table, row: str, metric: str, counted: bool = False) -> str:
    """Mean, its interval below it, and over how many clips and frames it is where not over all."""
    cell = table.cells[row].get(metric)
    if cell is None:
        return '<td>–</td>'
    found, text = cell.interval, catalogue.number(cell.interval.mean)
    bounds = catalogue.bounds(found.mean, found.low, found.high)
    below = _aside('interval', ' to '.join(bounds or ()))
    below += ''.join(_aside('interval', part) for part in (table.partly(cell) if counted else ()))
    return f'<td>{f"<b>{text}</b>" if cell.best else text}{below}</td>'


def _aside(kind: str, text: str) -> str:
    return f'<div class="{kind}">{html.escape(text)}</div>' if text else ''
