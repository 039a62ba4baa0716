"""The metric table: model beside baselines, as rows, as plain text and as HTML."""

import dataclasses
import html
from collections.abc import Iterator, Mapping

from talkinghead_jax.evaluation import MODEL, Evaluation
from talkinghead_jax.report import catalogue


@dataclasses.dataclass(frozen=True)
class Row:
    """One metric of one stage: a value a method (absent where it does not apply), and who is best."""

    metric: str
    values: Mapping[str, float]
    best: frozenset[str]


def rows(evaluation: Evaluation) -> Iterator[Row]:
    """The metrics of a stage, in the order of the catalogue; what that does not know comes last."""
    known = list(catalogue.METRICS)
    names = {name for of in evaluation.means.values() for name in of}
    for name in sorted(names, key=lambda name: (known.index(name) if name in known else len(known), name)):
        values = {method: of[name] for method, of in evaluation.means.items() if name in of}
        yield Row(name, values, catalogue.best(name, values))


def text_table(evaluations: Mapping[str, Evaluation]) -> str:
    """All stages as aligned plain text; a star marks the best value of each line."""
    lines = []
    for evaluation in evaluations.values():
        methods = (MODEL, *evaluation.baselines)
        cells = [[f'{evaluation.stage} (n = {evaluation.n})', *methods, 'better']]
        for row in rows(evaluation):
            numbers = [catalogue.number(row.values.get(method)) + ('*' if method in row.best else ' ')
                       for method in methods]
            unit = catalogue.metric(row.metric).unit
            cells.append([f'  {row.metric}' + (f' ({unit})' if unit else ''), *numbers,
                          catalogue.metric(row.metric).better])
        cells += [[f'  {name}', note] for name, note in _missing(evaluation)]
        lines += [*_aligned(cells), '']
    return '\n'.join(lines).rstrip('\n')


def _missing(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Metrics that have a note but no value: what was not computed, and why."""
    known = {row.metric for row in rows(evaluation)}
    return [(name, note) for name, note in evaluation.notes.items() if name not in known]


def _aligned(cells: list[list[str]]) -> list[str]:
    full = [row for row in cells if len(row) == len(cells[0])]
    widths = [max(len(row[i]) for row in full) for i in range(len(cells[0]))]
    widths[0] = max(widths[0], *(len(row[0]) for row in cells), 30)
    lines = []
    for row in cells:
        last = len(row) - 1
        parts = [row[0].ljust(widths[0])]
        parts += [cell if i == last else cell.rjust(max(widths[i], 9)) for i, cell in enumerate(row[1:], start=1)]
        lines.append('  '.join(parts).rstrip())
    return lines


def html_table(evaluation: Evaluation) -> str:
    """One stage as an HTML table; the best value of each row is bold."""
    methods = (MODEL, *evaluation.baselines)
    head = ''.join(f'<th scope="col">{html.escape(method.replace("_", " "))}</th>' for method in methods)
    body = []
    for row in rows(evaluation):
        entry = catalogue.metric(row.metric)
        cells = ''.join(_cell(row, method) for method in methods)
        unit = f' <span class="unit">{html.escape(entry.unit)}</span>' if entry.unit else ''
        meaning = '. '.join(filter(None, (entry.meaning, evaluation.notes.get(row.metric, ''))))
        body.append(f'<tr><th scope="row">{html.escape(row.metric)}{unit}<div class="meaning">'
                    f'{html.escape(meaning)}</div></th>{cells}<td class="better">{entry.better}</td></tr>')
    for name, note in _missing(evaluation):
        body.append(f'<tr><th scope="row">{html.escape(name)}<div class="meaning">'
                    f'{html.escape(catalogue.metric(name).meaning)}</div></th>'
                    f'<td class="missing" colspan="{len(methods) + 1}">{html.escape(note)}</td></tr>')
    return (f'<div class="scroll"><table class="metrics"><thead><tr><th scope="col">n = {evaluation.n}</th>{head}'
            f'<th scope="col" class="better">better</th></tr></thead><tbody>{"".join(body)}</tbody></table></div>')


def _cell(row: Row, method: str) -> str:
    text = catalogue.number(row.values.get(method))
    return f'<td>{f"<b>{text}</b>" if method in row.best else text}</td>'
