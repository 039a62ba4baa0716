"""A look at prepared data: a page of random clips with everything that preparation found, and what it left out."""

import html
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from talkinghead_jax import files, specs
from talkinghead_jax.report import elements, quarantine
from talkinghead_jax.report.record_section import Decode, Record, show

NAME = 'preview.html'

_STYLE = """
section > header { margin-bottom: 1rem; }
.spoken { margin: .2rem 0 0; font-style: italic; }
.views { display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 8fr); gap: 1.2rem; align-items: start; }
.frames { display: grid; grid-template-columns: repeat(auto-fill, minmax(128px, 1fr)); gap: .7rem; }
.faces { display: grid; grid-template-columns: repeat(auto-fill, minmax(220px, 1fr)); gap: 1rem; max-width: 900px; }
.views figure, .frames figure, .faces figure { margin: 0; }
.views img, .faces img { display: block; width: 100%; height: auto; border-radius: 8px; }
.frames figcaption { line-height: 1.3; }
.mark { display: block; color: var(--text); font-weight: 600; }
.guessed { color: #b03fd0; }
.key { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin: 0 .3em 0 .6em; }
.quarantine { width: 100%; margin-top: 1.2rem; }
.quarantine th { text-align: left; color: var(--muted); font-weight: 500; font-size: .86rem;
  padding: 0 .9rem .4rem 0; }
.quarantine td { vertical-align: top; padding: .5rem .9rem .5rem 0; border-top: 1px solid var(--line);
  overflow-wrap: anywhere; }
.quarantine td:first-child { width: 132px; }
.quarantine td:nth-child(2) { overflow-wrap: normal; }
.quarantine img { display: block; max-width: 120px; max-height: 96px; border-radius: 6px; }
.quarantine .none { color: var(--muted); font-size: .82rem; }
h2 { overflow-wrap: anywhere; }
@media (max-width: 760px) {
  section { padding: 1.1rem 1rem; }
  .views { grid-template-columns: minmax(0, 1fr); }
  .quarantine thead { display: none; }
  .quarantine tr { display: grid; grid-template-columns: 132px minmax(0, 1fr); border-top: 1px solid var(--line);
    padding: .5rem 0; }
  .quarantine td { border: 0; padding: 0; grid-column: 2; }
  .quarantine td:first-child { grid-column: 1; grid-row: 1 / span 3; }
}
"""


def write(folder: str | os.PathLike, splits: Mapping[str, Sequence[Record]], metadata: Mapping[str, np.ndarray],
          decode: Decode, count: int, seed: int = 0, quarantined: Sequence[quarantine.Row] = (),
          thumbnail: Callable[[str], np.ndarray | None] = lambda path: None,
          title: str = 'prepared data') -> pathlib.Path:
    """Write `NAME` into `folder`, whole or not at all; nothing but what is in the page is needed to read it.

    Args:
      folder: where to.
      splits: name of the split -> records (`specs.CLIP` or `specs.POSITION_MAP`) with the attribute `frames`, the
        (N,) lengths of all; only the records that are shown are read.
      metadata: of the dataset (`specs.METADATA`): `triangles`, and `uv_mask` for position maps.
      decode: JPEG -> (S, S, 3) uint8.
      count: of records to show, shared by the splits; all of them where there are fewer.
      seed: which ones; the same seed gives the same page.
      quarantined: rows of quarantine.csv.
      thumbnail: path of a quarantined file -> (H, W, 3) uint8, or None where there is no picture of it. Not asked
        about files that killed the process which worked on them.
      title: of the page.

    Returns:
      the page's path.

    Raises:
      UserError: the folder cannot be written.
    """
    places = choose({split: len(records) for split, records in splits.items()}, count, seed)
    shown = [show(f'record{i}', split, number, splits[split][number], metadata, decode)
             for i, (split, number) in enumerate(places)]
    used = sum(map(len, splits.values()))
    links = [('summary', 'Summary'), *([('quarantine', 'Quarantine')] if quarantined else []),
             *((f'record{i}', name) for i, (name, _) in enumerate(shown))]
    facts = {'usable': f'{used:,}', 'in quarantine': _share(len(quarantined), used), 'shown': str(len(shown)),
             'drawn by seed': str(seed)}
    body = [
        elements.header(title, facts, links),
        elements.section('summary', 'Summary', _summary(splits)),
        elements.section('quarantine', 'Quarantine', '<p class="lead">What preparation could not use.</p>',
                         quarantine.counts(quarantined),
                         quarantine.table(quarantined, thumbnail)) if quarantined else '',
        *(section for _, section in shown),
    ]
    path = pathlib.Path(folder) / NAME
    files.write_atomically(path, elements.document(title, ''.join(body), _STYLE).encode())
    return path


def choose(sizes: Mapping[str, int], count: int, seed: int) -> list[tuple[str, int]]:
    """Random (split, number) of `count` records, every split having its share, in order."""
    chosen = []
    for i, quota in enumerate(quarantine.share(list(sizes.values()), count)):
        split, size = list(sizes.items())[i]
        numbers = np.random.default_rng([seed, i]).choice(size, quota, replace=False) if quota else []
        chosen += [(split, int(number)) for number in sorted(numbers)]
    return chosen


def _share(quarantined: int, used: int) -> str:
    return f'{quarantined:,} ({quarantined / max(quarantined + used, 1):.1%})'


def _summary(splits: Mapping[str, Sequence[Record]]) -> str:
    rows = [(name, len(records), int(np.sum(records.frames))) for name, records in splits.items()]
    together = ('together', *(sum(row[i] for row in rows) for i in (1, 2)))
    cells = [f'<tr><th scope="row">{html.escape(name)}</th><td>{records:,}</td><td>{_duration(frames)}</td></tr>'
             for name, records, frames in (*rows, together)]
    return ('<div class="scroll"><table class="metrics narrow"><thead><tr><th scope="col">split</th>'
            '<th scope="col">records</th><th scope="col">length</th></tr></thead>'
            f'<tbody>{"".join(cells[:-1])}</tbody><tfoot>{cells[-1]}</tfoot></table></div>')


def _duration(frames: int) -> str:
    seconds = frames / specs.FRAME_RATE
    for unit, length in (('h', 3600), ('min', 60), ('s', 1)):
        if seconds >= length:
            return f'{seconds / length:,.1f} {unit}'
    return '–' if not frames else f'{seconds:.2f} s'
