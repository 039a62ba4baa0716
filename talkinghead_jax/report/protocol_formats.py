"""How `protocol_model.Table` looks as plain text, as Markdown and as LaTeX."""

from collections.abc import Callable, Iterator

from talkinghead_jax.report import catalogue
from talkinghead_jax.report.protocol_model import BEST, PUBLISHED, Cell, Table, entry, plural, recipe

NOTHING = '–'
_WIDTH = 5  # metrics side by side in Markdown and LaTeX


def title(table: Table) -> str:
    """One line: protocol, dataset, and how much was evaluated."""
    results = table.results
    what = ' '.join(filter(None, (results.protocol.replace('_', '-'), results.dataset)))
    clips, frames = len(results.clips['clip_id']), int(sum(results.clips['frames']))
    return f'{what}: {plural(clips, "clips")}, {plural(frames, "frames")}'


def footnotes(table: Table, metrics: tuple[str, ...] | None = None) -> list[str]:
    """What one must know to read the numbers, a sentence each; of all metrics, or of some."""
    results = table.results
    shown = metrics or tuple(dict.fromkeys((*table.metrics, *table.missing, *table.columns.values())))
    lines = [f'{_means(table)}. A metric of all frames together has one value, and no interval.', f'Bold: {BEST}.']
    under = {column: metric for column, metric in table.columns.items() if metric in shown}
    if under:
        lines.append(f'Published rows: {table.source} of Chen et al. 2020, copied as they are: '
                     'of other test clips, and by the recipes of their authors.')
    for column, metric in under.items():
        reason = recipe(results, metric).get('incomparable')
        lines += [f'Published {column} cannot be compared with {metric}: {reason}.'] if reason else []
    for metric in shown:
        lines += [_recipe(table, metric)] if metric in table.metrics else []
        lines += [f'{metric}: {results.notes[metric].rstrip(".")}.'] if metric in results.notes else []
    lines += [f'{results.labels.get(row, row)}: {note.rstrip(".")}.' for row, note in results.row_notes.items()]
    return lines


def _means(table: Table) -> str:
    bounds = f'{"in brackets " if table.groups > 1 else ""}{table.intervals}'
    return f'Means over clips, of a clip over its frames; {bounds}'


def _recipe(table: Table, metric: str) -> str:
    of = recipe(table.results, metric)
    parts = [of.get('meaning', ''), *(f'{name}: {of[name]}' for name in ('picture', 'size', 'crop')
                                      if of.get(name) not in (None, '', '-'))]
    parts += [f'weights of {name}: {digest[:12] or "unknown"}' for name, digest in (of.get('weights') or {}).items()]
    version = f' (version {of["version"]})' if 'version' in of else ''
    return f'{metric}{version}: {"; ".join(filter(None, parts))}.'


def text(table: Table) -> str:
    """Aligned plain text: a line a metric, a column a method; a star marks the best of ours. Then the published."""
    results = table.results
    lines = [[title(table), *results.labels.values(), 'better']]
    for metric in table.metrics:
        shown = entry(results, metric)
        cells = [_number(table, row, metric, '{}*', '{} ') for row in results.labels]
        lines.append([f'  {metric}' + (f' ({shown.unit})' if shown.unit else ''), *cells, shown.better])
    lines += [[f'  {metric}', note] for metric, note in table.missing.items()]
    parts = [*_aligned(lines)]
    if table.published:
        parts += ['', *_aligned([['published, not of the same clips', *table.columns],
                                 *([f'  {label}', *(_plain(values.get(column)) for column in table.columns)]
                                   for label, values in table.published)])]
    warned = [f'{metric}: {note}' for metric, note in results.notes.items() if metric in table.metrics]
    warned += [f'{results.labels.get(row, row)}: {note}' for row, note in results.row_notes.items()]
    return '\n'.join([*parts, '', f'{_means(table)}; *: {BEST}', *warned])


def _aligned(lines: list[list[str]]) -> list[str]:
    """Columns of numbers to the right; a line of another length, as a note, runs on."""
    full = [line for line in lines if len(line) == len(lines[0])]
    widths = [max(map(len, column)) for column in zip(*full, strict=True)]
    widths[0] = max(len(line[0]) for line in lines)
    texts = []
    for line in lines:
        rest = line[1:]
        if line in full:
            rest = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        texts.append('  '.join([line[0].ljust(widths[0]), *rest]).rstrip())
    return texts


def markdown(table: Table) -> str:
    """A table of the paper's columns with its rows, tables of the other metrics, footnotes, and the bins of yaw."""
    lines = [f'# {escape_markdown(title(table))}']
    for block in _blocks(table):
        lines += ['', *_md_table(['', *(_heading(table, metric) for metric in block)],
                                 _rows(table, block, '**{}**', escape_markdown))]
    lines += ['', '## Notes', '', *(f'- {escape_markdown(line)}' for line in footnotes(table)),
              *(f'- {escape_markdown(f"{name}: {value}")}' for name, value in table.results.facts.items())]
    if table.yaw:
        lines += ['', '## By yaw of the true frame', '', 'Mean over frames, and their number, by |yaw|.']
        lines += ['', *_md_table(*_yaw_table(table))]
    return '\n'.join(lines) + '\n'


def _md_table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f'| {" | ".join(map(escape_markdown, head))} |', '|---' + '|---:' * (len(head) - 1) + '|',
            *(f'| {" | ".join(row)} |' for row in rows)]


def latex(table: Table) -> str:
    """The same tables in LaTeX, which needs \\usepackage{booktabs} and nothing else; footnotes under each."""
    parts = ['% Needs \\usepackage{booktabs}.']
    for place, block in enumerate(_blocks(table)):
        rows = _rows(table, block, '\\textbf{{{}}}', _tex)
        ours = rows[:len(table.results.labels)]
        lines = [f'{" & ".join(row)} \\\\' for row in ours]
        if len(rows) > len(ours):
            lines += ['\\midrule', *(f'{" & ".join(row)} \\\\' for row in rows[len(ours):])]
        head = ' & '.join(['', *(_tex_heading(table, metric) for metric in block)])
        caption = title(table) + ('.' if place == 0 else ' (continued).')
        shown = block if place else (*block, *table.missing)
        notes = footnotes(table, tuple(dict.fromkeys(shown)))
        notes += [f'{name}: {value}.' for name, value in table.results.facts.items()] if place == 0 else []
        parts.append(_tex_table(caption, len(block), head, lines, notes))
    return '\n'.join(parts)


def _tex_table(caption: str, columns: int, head: str, lines: list[str], notes: list[str]) -> str:
    body = '\n'.join(lines)
    under = ''.join(f'\\par {_tex(note)}\n' for note in notes)
    return (f'\\begin{{table}}\n\\centering\n\\caption{{{_tex(caption)}}}\n\\footnotesize\n\\setlength{{\\tabcolsep}}'
            f'{{4pt}}\n\\begin{{tabular}}{{l{"r" * columns}}}\n\\toprule\n{head} \\\\\n\\midrule\n{body}\n'
            f'\\bottomrule\n\\end{{tabular}}\n\\begin{{minipage}}{{\\linewidth}}\\scriptsize\n{under}'
            '\\end{minipage}\n\\end{table}\n')


def _blocks(table: Table) -> Iterator[tuple[str, ...]]:
    """The metrics of each table: those that stand beside the paper's first; then the others, a few at a time."""
    first = tuple(table.columns.values()) or tuple(
        metric for metric in table.metrics if recipe(table.results, metric).get('column'))
    others = [metric for metric in table.metrics if metric not in first]
    yield from filter(None, (first, *(tuple(others[k:k + _WIDTH]) for k in range(0, len(others), _WIDTH))))


def _rows(table: Table, block: tuple[str, ...], bold: str, escape: Callable[[str], str]) -> list[list[str]]:
    """Ours, then the published where the block has their columns: escaped cells, the label first."""
    rows = [[escape(label), *(_number(table, row, metric, bold, escape=escape) for metric in block)]
            for row, label in table.results.labels.items()]
    if set(block) & set(table.columns.values()):
        for label, values in table.published:
            under = table.published_under(values)
            rows.append([escape(f'{label} ({PUBLISHED})'), *(escape(_plain(under.get(metric))) for metric in block)])
    return rows


def _yaw_table(table: Table) -> tuple[list[str], list[list[str]]]:
    bins = list(dict.fromkeys((low, high) for _, _, low, high, _, _ in table.yaw))
    head = ['', 'metric', *(f'{low:g}–{high:g}°' for low, high in bins)]
    found = {(row, metric, low, high): (mean, frames) for row, metric, low, high, mean, frames in table.yaw}
    rows = []
    for row, metric in dict.fromkeys((row, metric) for row, metric, *_ in table.yaw):
        cells = [found[row, metric, low, high] for low, high in bins]
        texts = [f'{catalogue.number(mean)} ({frames})' if frames else NOTHING for mean, frames in cells]
        rows.append([*map(escape_markdown, (table.results.labels[row], metric, *texts))])
    return head, rows


def _heading(table: Table, metric: str) -> str:
    shown = entry(table.results, metric)
    return ' '.join(filter(None, (metric, f'({shown.unit})' if shown.unit else '', catalogue.ARROWS[shown.better])))


def _tex_heading(table: Table, metric: str) -> str:
    """Long names take two lines, at the @."""
    lines = _heading(table, metric).replace('@', '\n@', 1).split('\n')
    return '\\shortstack[r]{' + ' \\\\ '.join(map(_tex, lines)) + '}'


def _number(table: Table, row: str, metric: str, bold: str, usual: str = '{}',
            escape: Callable[[str], str] = str) -> str:
    cell = table.cells[row].get(metric)
    if cell is None:
        return usual.format(escape(NOTHING))
    return (bold if cell.best else usual).format(escape(_with_interval(cell, table.partly(cell))))


def _with_interval(cell: Cell, partly: list[str]) -> str:
    """'3.30 [3.27, 3.33] (5 of 6 clips, 400 of 455 frames)': what is not there, or not special, is left out."""
    found = cell.interval
    bounds = catalogue.bounds(found.mean, found.low, found.high)
    return (catalogue.number(found.mean) + (f' [{", ".join(bounds)}]' if bounds else '')
            + (f' ({", ".join(partly)})' if partly else ''))


def _plain(value: float | None) -> str:
    """A published number with the paper's digits: two where it is below 1."""
    if value is None:
        return NOTHING
    return f'{value:.2f}' if value < 1 else f'{value:g}'


def escape_markdown(words: str) -> str:
    """Plain words as Markdown, on one line and in one cell."""
    for special in '\\|<*`':
        words = words.replace(special, f'\\{special}')
    return ' '.join(words.split())


_TEX = {'\\': '\\textbackslash{}', '{': '\\{', '}': '\\}', '$': '\\$', '&': '\\&', '%': '\\%', '#': '\\#', '_': '\\_',
        '~': '\\textasciitilde{}', '^': '\\textasciicircum{}', '|': '$|$', '<': '$<$', '>': '$>$', '[': '{[}',
        '–': '--', '—': '---', '’': "'", '‘': '`', '“': '``', '”': "''", '°': '$^\\circ$', '±': '$\\pm$',
        '×': '$\\times$', '↓': '$\\downarrow$', '↑': '$\\uparrow$', '→': '$\\to$', 'Φ': '$\\Phi$', 'Ψ': '$\\Psi$',
        'Θ': '$\\Theta$', 'σ': '$\\sigma$', 'τ': '$\\tau$', 'φ': '$\\varphi$'}


def _tex(words: str) -> str:
    """Plain words as LaTeX; letters that are not here stay as they are, for UTF-8 input."""
    return ' '.join(''.join(_TEX.get(letter, letter) for letter in words).split())
