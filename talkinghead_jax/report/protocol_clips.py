"""The clips of an evaluation of whole videos as HTML: the best and the worst with players, and all in a table."""

import dataclasses
import html
import mimetypes
import os
import pathlib

import numpy as np

from talkinghead_jax.protocols import showcase
from talkinghead_jax.protocols.results import TRUTH, Results
from talkinghead_jax.report import catalogue, pictures
from talkinghead_jax.report.protocol_html import main
from talkinghead_jax.report.protocol_model import entry

LARGEST_VIDEO = 2 * 2 ** 20  # bytes: a larger video is linked, not embedded
LARGEST_SUM = 32 * 2 ** 20  # bytes of all embedded videos: browsers open such a page at once
_BESIDE = 6  # numbers beside a video

SCRIPT = """
for (const table of document.querySelectorAll('table.sortable')) {
  for (const head of table.tHead.rows[0].cells) {
    const sort = () => {
      const up = head.getAttribute('aria-sort') !== 'ascending';
      for (const other of table.tHead.rows[0].cells) other.removeAttribute('aria-sort');
      head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
      const value = row => row.cells[head.cellIndex].textContent;
      const order = (a, b) => {
        const first = value(a), second = value(b), x = Number(first), y = Number(second);
        if (first === '–' || second === '–') return (first === '–') - (second === '–');
        const found = isNaN(x) || isNaN(y) ? first.localeCompare(second, 'en', {numeric: true}) : x - y;
        return up ? found : -found;
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
    };
    head.tabIndex = 0;
    head.addEventListener('click', sort);
    head.addEventListener('keydown', event => { if (event.key === 'Enter') sort(); });
  }
  table.classList.add('ready');
}
for (const pair of document.querySelectorAll('.pair')) {
  const [made, truth] = pair.querySelectorAll('video');
  if (!made || !truth) continue;
  made.addEventListener('play', () => {
    truth.muted = true; truth.currentTime = made.currentTime; truth.play().catch(() => {});
  });
  made.addEventListener('pause', () => truth.pause());
}
"""


@dataclasses.dataclass
class Room:
    """Bytes that may still be embedded in the page."""

    left: int = LARGEST_SUM

    def take(self, size: int) -> bool:
        """Whether a video of `size` bytes is embedded; if so, its room is taken."""
        fits = size <= min(LARGEST_VIDEO, self.left)
        self.left -= size if fits else 0
        return fits


def best_and_worst(results: Results, row: str, folder: pathlib.Path, page: pathlib.Path, room: Room) -> str:
    """The players of one method.

    Args:
      results: of one protocol.
      row: the method.
      folder: of the results, to which the paths of videos are relative.
      page: the folder of the page.
      room: for embedded videos; what is embedded is taken from it.
    """
    title = f'<h3>{html.escape(results.labels[row])}</h3>'
    metric = showcase.headline(results, row)
    if not metric:
        return f'{title}<p class="lead">No clip has a value.</p>'
    best, worst = showcase.extremes(results, row)
    groups = {'best': best, 'worst': worst} if worst else {'only': best}
    parts = [f'{title}<p class="lead">By {html.escape(metric)}, {entry(results, metric).better} is better.</p>']
    for name, chosen in groups.items():
        cards = ''.join(_card(results, row, clip, metric, name, folder, page, room) for clip in chosen)
        parts.append(f'<div class="clips">{cards}</div>')
    return ''.join(parts)


def _card(results: Results, row: str, clip: int, metric: str, group: str, folder: pathlib.Path, page: pathlib.Path,
          room: Room) -> str:
    """One clip: generated beside true, where both are there, and its numbers."""
    name = str(results.clips['clip_id'][clip])
    shown = {kind: results.videos.get(key, {}).get(name) for kind, key in (('generated', row), ('true', TRUTH))}
    players = ''.join(_player(kind, path, folder, page, room) for kind, path in shown.items()
                      if path is not None and (kind == 'generated' or row != TRUTH))
    others = [other for other in main(results.metrics())
              if other != metric and np.isfinite(_value(results, row, other, clip))][:_BESIDE]
    numbers = ''.join(f'<div><dt>{html.escape(other)}</dt><dd>{_number(results, row, other, clip)}</dd></div>'
                      for other in others)
    unit = entry(results, metric).unit
    return (f'<figure class="pair"><figcaption><span class="tag {group}">{group}</span> '
            f'<b>{_number(results, row, metric, clip)}</b>{f" {html.escape(unit)}" if unit else ""} '
            f'<span class="clip">{html.escape(name)}</span></figcaption>'
            f'<div class="players">{players or _NO_VIDEO}</div><dl>{numbers}</dl></figure>')


_NO_VIDEO = '<div class="novideo">no video was kept</div>'


def _player(kind: str, path: str, folder: pathlib.Path, page: pathlib.Path, room: Room) -> str:
    video = folder / path
    if not video.is_file() or not video.stat().st_size:
        return f'<div class="novideo">{kind}: {html.escape(path)} is missing</div>'
    relative = html.escape(pathlib.PurePath(os.path.relpath(video, page)).as_posix())
    media = mimetypes.guess_type(video.name)[0] or 'video/mp4'
    source = pictures.data_url(video.read_bytes(), media) if room.take(video.stat().st_size) else relative
    return (f'<div><video controls playsinline preload="metadata" src="{source}"></video>'
            f'<a href="{relative}">{kind}</a></div>')


def table(results: Results, row: str) -> str:
    """All clips of a row, a line each; a click on a heading sorts it where scripts run."""
    metrics = [metric for metric in results.metrics() if results.count(row, metric)]
    head = ''.join(f'<th scope="col">{html.escape(name).replace("@", "<wbr>@")}</th>'
                   for name in ('clip', 'speaker', 'frames', *metrics))
    columns = [[catalogue.number(value) for value in results.per_clip[row][metric].tolist()] for metric in metrics]
    keys = zip(*(results.clips[name].tolist() for name in ('clip_id', 'speaker_id', 'frames')), strict=True)
    body = ''.join(
        f'<tr><th scope="row">{html.escape(str(clip))}</th><td>{html.escape(str(speaker))}</td><td>{frames}</td>'
        + ''.join(f'<td>{column[i]}</td>' for column in columns) + '</tr>'
        for i, (clip, speaker, frames) in enumerate(keys))
    title = f'All clips ({len(results.clips["clip_id"])}): {results.labels[row]}'
    return (f'<details><summary>{html.escape(title)}</summary>'
            f'<div class="scroll tall"><table class="wide sortable"><thead><tr>{head}</tr></thead>'
            f'<tbody>{body}</tbody></table></div></details>')


def _value(results: Results, row: str, metric: str, clip: int) -> float:
    values = results.per_clip.get(row, {}).get(metric)
    return float('nan') if values is None else float(values[clip])


def _number(results: Results, row: str, metric: str, clip: int) -> str:
    return catalogue.number(_value(results, row, metric, clip))
