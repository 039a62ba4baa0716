"""docs/scaling.md: scaling_page.md with tables of what benchmarks/aot_compile.py found (docs/scaling.json)."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.scaling import CHIPS, GIB, chip, chips, efficiency, estimate, largest_batch, memory, moved

Row = Mapping[str, Any]
NAMES = ('stage', 'slice', 'batch a chip', 'options')  # what every table says of a case first


def document(rows: Sequence[Row]) -> str:
    """The page."""
    compiled = [row for row in rows if 'failed' not in row]
    versions = ', '.join(sorted({f'jax {row["jax"]} with libtpu {row["libtpu"]}' for row in rows}))
    return pathlib.Path(__file__).with_suffix('.md').read_text().format(
        versions=versions, chips=chips_table(), memory=memory_table(rows), seconds=seconds_table(compiled),
        weak=weak_table(compiled), messages=messages_table(compiled), largest=largest_table(rows),
        loops=loops_table(compiled))


def _table(head: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    """Markdown; one line that says so where there is nothing."""
    if not lines:
        return 'None was compiled.'
    return '\n'.join(f'| {" | ".join(map(str, cells))} |' for cells in [head, ['---'] * len(head), *lines])


def _names(row: Row) -> list[Any]:
    """What every table says of a case first."""
    options = [row['dtype'], *(f'{name}={row[name]}' for name in ('fsdp', 'remat') if row[name] not in (1, ''))]
    return [row['stage'].replace('_', ' '), row['topology'].replace(':', ' '), row['batch_per_chip'],
            ', '.join(options)]


def chips_table() -> str:
    """What the estimate takes from Google's pages."""
    return _table(('chip', 'HBM', 'HBM GB/s', 'bfloat16 TFLOP/s', 'link, one way, GB/s', 'links', 'clock GHz'), [
        (x.name, f'{x.memory // GIB} GB', f'{x.bandwidth / 1e9:.0f}', f'{x.peak / 1e12:.0f}', f'{x.link / 1e9:.0f}',
         4, f'{x.clock / 1e9:.2f}') for x in CHIPS.values()])


def memory_table(rows: Sequence[Row]) -> str:
    """Seconds of compilation and bytes of one chip; a case that failed says why."""
    lines = []
    for row in rows:
        if 'failed' in row:
            lines.append([*_names(row), row['failed'], *[''] * 6])
            continue
        sizes = [row['arguments'], row['temporaries'], row['code'], memory(row)]
        share = memory(row) / chip(row['topology']).memory
        lines.append([*_names(row), f'{row["compile_seconds"]:.0f}', *(f'{x / GIB:.2f}' for x in sizes),
                      f'{share:.0%}', f'{row["flops"] / 1e9:,.0f}'])
    return _table((*NAMES, 'compile s', 'arguments GiB', 'temporaries GiB', 'program GiB', 'together GiB', 'of HBM',
                   'GFLOP'), lines)


def seconds_table(rows: Sequence[Row]) -> str:
    """The estimate of each case."""
    lines = []
    for row in rows:
        found = estimate(row)
        lines.append([*_names(row), f'{1e3 * found.roofline:.2f}', f'{1e3 * found.compute:.2f}',
                      f'{found.sent / 1e6:,.1f}', f'{1e3 * found.sending:.2f}', f'{1e3 * found.step:.2f}',
                      f'{row["batch_per_chip"] / found.step:,.1f}',
                      f'{row["batch_per_chip"] * row["chips"] / found.step:,.0f}'])
    return _table((*NAMES, 'optimal ms', 'cycles ms', 'sent MB', 'sending ms', 'step ms', 'examples/s a chip',
                   'examples/s'), lines)


def weak_table(rows: Sequence[Row]) -> str:
    """Cases on 4 and 16 chips; where only one of the two was compiled, the other has its arrays in another ring."""
    groups: dict[tuple, dict[int, Row]] = {}
    for row in rows:
        fields = ('stage', 'batch_per_chip', 'dtype', 'fsdp', 'remat')
        kind = (chip(row['topology']).name, *(row[field] for field in fields))
        groups.setdefault(kind, {})[row['chips']] = row
    lines = []
    for (name, *_), known in groups.items():
        some = next(iter(known.values()))
        few, many = (known.get(chips(slice_)) or moved(some, slice_) for slice_ in (f'{name}:2x2', f'{name}:4x4'))
        stage, _, *rest = _names(some)
        rates = (f'{row["batch_per_chip"] * row["chips"] / estimate(row).step:,.1f}' for row in (few, many))
        lines.append([stage, name, *rest, ' and '.join(map(str, sorted(known))), *rates,
                      f'{efficiency(few, many):.1%}', f'{estimate(many).compute / estimate(many).step:.1%}'])
    return _table(('stage', 'chip', *NAMES[2:], 'chips compiled for', 'examples/s on 4', 'on 16', '4 to 16',
                   '16 of no messages'), lines)


def messages_table(rows: Sequence[Row]) -> str:
    """How often each collective runs in a step, and the bytes of its arrays."""
    lines = []
    for row in rows:
        kinds: dict[tuple, list[Row]] = {}
        for one in row['messages']:
            kinds.setdefault((one['collective'], one['group'] or row['chips']), []).append(one)
        for kind, found in kinds.items():
            lines.append([*_names(row), *kind, sum(one['times'] for one in found),
                          f'{sum(one["times"] * one["bytes"] for one in found) / 1e6:,.2f}',
                          f'{max(one["bytes"] for one in found) / 1e6:,.2f}'])
    return _table((*NAMES, 'collective', 'chips in a group', 'times', 'MB', 'largest MB'), lines)


def largest_table(rows: Sequence[Row]) -> str:
    """The line through the bytes of a stage's batch sizes, where two were compiled; and what was tried near it."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        kind = tuple(row[name] for name in ('stage', 'topology', 'dtype', 'fsdp', 'remat'))
        groups.setdefault(kind, []).append(row)
    lines = []
    for group in groups.values():
        points = sorted((row['batch_per_chip'], memory(row)) for row in group if 'failed' not in row)
        if len(points) == 1:  # then all temporaries count as the batch's
            points.insert(0, (0, points[0][1] - next(x for x in group if 'failed' not in x)['temporaries']))
        if not points or points[0][1] == points[-1][1]:
            continue
        names = _names(group[0])
        each = (points[-1][1] - points[0][1]) / (points[-1][0] - points[0][0]) / GIB
        tried = [f'{row["batch_per_chip"]}: {row.get("failed", "compiled")}' for row in group]
        most = largest_batch(points[:2], chip(group[0]['topology']).memory)
        lines.append([names[0], names[1], names[3], f'{each:.2f}', most, '; '.join(tried)])
    return _table(('stage', 'slice', 'options', 'GiB an example', 'largest by the line', 'compiled'), lines)


def loops_table(rows: Sequence[Row]) -> str:
    """What the cycles leave out of each program."""
    lines = []
    for row in rows:
        silent = sorted(row['silent'].items(), key=lambda x: -x[1])[:6]
        lines.append([*_names(row), row['loops'], row['open_loops'], row['custom_calls'],
                      ', '.join(f'{times} {name}' for name, times in silent)])
    return _table((*NAMES, 'loops', 'of unknown length', 'custom calls', 'without an estimate'), lines)
