"""The quarantine table as HTML: what preparation could not use, why, and what it looks like."""

import html
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from talkinghead_jax.errors import REASONS
from talkinghead_jax.report import overlays, pictures

SHOWN = 24  # rows with a picture
_DANGEROUS = 'failed'  # of these even a look may end the process, as it may have ended preparation's

Row = Mapping[str, str]  # clip, split, reason, detail, path: a row of quarantine.csv


def counts(rows: Sequence[Row]) -> str:
    """How many for which reason, most first."""
    body = ''.join(f'<tr><th scope="row">{html.escape(reason)}<div class="meaning">'
                   f'{html.escape(REASONS.get(reason, ""))}</div></th><td>{number:,}</td></tr>'
                   for reason, number in sorted(Counter(row['reason'] for row in rows).items(),
                                                key=lambda item: (-item[1], item[0])))
    return ('<div class="scroll"><table class="metrics narrow"><thead><tr><th scope="col">reason</th>'
            f'<th scope="col">clips</th></tr></thead><tbody>{body}</tbody></table></div>')


def table(rows: Sequence[Row], thumbnail: Callable[[str], np.ndarray | None], most: int = SHOWN) -> str:
    """At most `most` rows by reason, each reason having its share, and how many more there are."""
    chosen = choose(rows, most)
    body = ''.join(_row(row, thumbnail) for row in chosen)
    more = f'<p class="lead">and {len(rows) - len(chosen):,} more in quarantine.csv</p>' * (len(rows) > len(chosen))
    return ('<table class="quarantine"><thead><tr><th scope="col">picture</th><th scope="col">reason</th>'
            f'<th scope="col">clip</th><th scope="col">detail</th></tr></thead><tbody>{body}</tbody></table>{more}')


def choose(rows: Sequence[Row], most: int) -> list[Row]:
    """At most `most` rows sorted by reason, split and clip: so many of each reason that no rare one is left out."""
    by_reason: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row['reason'], row['split'], row['clip'])):
        by_reason.setdefault(row['reason'], []).append(row)
    quotas = share([len(some) for some in by_reason.values()], most)
    return [row for some, quota in zip(by_reason.values(), quotas, strict=True) for row in some[:quota]]


def share(sizes: Sequence[int], total: int) -> list[int]:
    """Deal `total` out one by one in turns; who has no more to take is passed over."""
    quotas = [0] * len(sizes)
    left = max(0, min(total, sum(sizes)))
    while left:
        for i, size in enumerate(sizes):
            if left and quotas[i] < size:
                quotas[i], left = quotas[i] + 1, left - 1
    return quotas


def _row(row: Row, thumbnail: Callable[[str], np.ndarray | None]) -> str:
    picture = thumbnail(row['path']) if row['path'] and row['reason'] != _DANGEROUS else None
    cell = '<span class="none">no picture</span>'
    if picture is not None:
        source = pictures.data_url(overlays.jpeg(picture), 'image/jpeg')
        cell = f'<img src="{source}" alt="{html.escape(row["clip"])}">'
    clip, split, reason, detail, path = (html.escape(row[name])
                                         for name in ('clip', 'split', 'reason', 'detail', 'path'))
    return (f'<tr><td>{cell}</td><td><b>{reason}</b></td><td>{clip}<div class="meaning">{split}</div></td>'
            f'<td>{detail}<div class="meaning">{path}</div></td></tr>')
