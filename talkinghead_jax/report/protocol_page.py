"""The report of an evaluation of whole videos: one HTML page from the results of one or several protocols."""

import html
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from talkinghead_jax import files
from talkinghead_jax.protocols.results import Results
from talkinghead_jax.report import elements, pictures, protocol_charts, protocol_clips, protocol_html, protocol_model
from talkinghead_jax.report.figures import Chart

_TITLES = {'audio_driven': 'Audio-driven', 'landmark_driven': 'Landmark-driven', 'folders': 'Folders of videos'}

STYLE = """
h2.protocol { font-size: 1.45rem; margin: 2.4rem 0 0; scroll-margin-top: 1rem; }
.facts dl { display: flex; flex-wrap: wrap; gap: .2rem 1.6rem; margin: .3rem 0 0; font-size: .9rem; }
.facts dt { color: var(--muted); } .facts dd { margin: 0; overflow-wrap: anywhere; }
.facts dl > div { display: flex; gap: .4rem; }
.wide { width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
.wide th, .wide td { padding: .42rem .8rem; text-align: right; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
.wide th { font-weight: 500; }
.wide thead th { color: var(--muted); font-size: .92em; vertical-align: bottom; overflow-wrap: anywhere; }
.wide thead th:not(:first-child) { white-space: normal; min-width: 7rem; }
.wide th:first-child { position: sticky; left: 0; z-index: 1; text-align: left; white-space: normal; padding-left: 0;
  min-width: 9rem; max-width: 24rem; background: var(--card); }
.wide tbody tr:last-child > * { border-bottom: 0; }
.wide b { color: var(--accent); }
.wide .missing { color: var(--muted); text-align: left; white-space: normal; }
.wide.left th, .wide.left td { text-align: left; white-space: normal; }
.interval { color: var(--muted); font-size: .85em; line-height: 1.3; }
.wide .meaning, .wide .note { font-size: .87em; }
.wide .note { color: var(--muted); line-height: 1.35; }
.warning { color: var(--warning); font-size: .87em; line-height: 1.35; font-weight: 400; }
.baseline th, .baseline td { font-weight: 400; }
.published > *, .wide .published th:first-child { color: var(--muted); background: var(--greyed); font-weight: 400; }
.wide .published th:first-child { padding-left: .6rem; }
.published.rule > * { font-size: .92em; border-top: 2px solid var(--muted); }
.tag { border: 1px solid currentColor; border-radius: 4px; padding: 0 .35em; font-size: .8em; white-space: nowrap;
  color: var(--muted); }
.tag.best { color: var(--good); } .tag.worst { color: var(--warning); }
.footnote { color: var(--muted); font-size: .86rem; margin: .8rem 0 0; }
.footnote.warning { color: var(--warning); }
.footnote ul { margin: .2rem 0 0; padding-left: 1.2rem; }
details { margin-top: .8rem; }
summary { cursor: pointer; color: var(--accent); }
.tall { max-height: 34rem; overflow: auto; margin-top: .5rem; }
.tall thead th { position: sticky; top: 0; z-index: 2; background: var(--card); }
.tall thead th:first-child { z-index: 3; }
.tall th:first-child { min-width: 15rem; overflow-wrap: anywhere; }
.sortable.ready thead th { cursor: pointer; }
.sortable.ready thead th:hover { color: var(--accent); }
.sortable th[aria-sort=ascending]::after { content: ' ▲'; }
.sortable th[aria-sort=descending]::after { content: ' ▼'; }
.clips { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); gap: 1rem;
  margin-top: .6rem; }
.pair { margin: 0; min-width: 0; border: 1px solid var(--line); border-radius: 8px; padding: .7rem; }
.pair figcaption { margin: 0 0 .4rem; overflow-wrap: anywhere; }
.pair b { color: var(--text); }
.players { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: .5rem; font-size: .8rem; }
.players > * { min-width: 0; }
.players video { width: 100%; aspect-ratio: 1; min-height: 0; object-fit: contain; border-radius: 6px; }
.novideo { display: grid; place-items: center; aspect-ratio: 1; max-height: 12rem; width: 100%; padding: .6rem;
  border: 1px dashed var(--line); border-radius: 6px; color: var(--muted); overflow-wrap: anywhere; }
.pair dl { display: grid; grid-template-columns: 1fr; gap: 0; margin: .5rem 0 0; font-size: .8rem; }
.pair dl > div { display: flex; justify-content: space-between; gap: .8rem; }
.pair dt { color: var(--muted); overflow-wrap: anywhere; } .pair dd { margin: 0; font-variant-numeric: tabular-nums; }
:root { --good: #0b7a5b; --warning: #b54708; --greyed: #f2f4f7; }
@media (prefers-color-scheme: dark) { :root { --good: #3fcf9f; --warning: #f5a350; --greyed: #1f2731; } }
@media (max-width: 600px) {
  section { padding: 1rem .9rem; }
  .wide th:first-child, .tall th:first-child { min-width: 7.5rem; max-width: 9.5rem; }
  .wide th, .wide td { padding: .4rem .5rem; }
  .wide .meaning { display: none; }
}
@media print {
  :root { --page: #fff; --card: #fff; --text: #1f2733; --muted: #667085; --line: #e4e7ec; --greyed: #f2f4f7; }
  section { break-inside: auto; }
  .scroll, .tall { overflow: visible; max-height: none; }
  .wide, .wide thead th { font-size: .58rem; } .wide th, .wide td { padding: .2rem .3rem; }
  .wide th:first-child { position: static; min-width: 0; padding-left: 0; }
  .wide thead th:not(:first-child) { min-width: 0; }
  tr, figure { break-inside: avoid; }
  .chart { min-width: 0 !important; max-width: 100%; }
}
"""


def write(path: str | os.PathLike, results: Mapping[str, Results], *, title: str, facts: Mapping[str, str],
          grids: Mapping[str, str | os.PathLike] | None = None) -> pathlib.Path:
    """Write the page at `path`, atomically. It needs no other file, but for videos too large to be inside.

    Args:
      path: of the HTML file.
      results: name -> results of one protocol, in the order of the page. The paths of their videos are relative to
        the folder of this name beside the page.
      title: of the page.
      facts: name -> value, shown under the title.
      grids: name in `results` -> PNG of `expression_grid.write`; one that does not exist is left out.

    Returns:
      the path of the page.

    Raises:
      UserError: the folder cannot be written.
    """
    path, room = pathlib.Path(path), protocol_clips.Room()
    body = [elements.header(title, facts, [(_anchor(key), _title(of)) for key, of in results.items()])]
    for key, of in results.items():
        anchor, methods = _anchor(key), [row for row in of.labels if row not in of.baselines]
        body += _numbers(anchor, protocol_model.build(of))
        grid = (grids or {}).get(key)
        if grid is not None and pathlib.Path(grid).is_file():
            body.append(elements.section(f'{anchor}-grid', 'The same moments', _grid(grid)))
        players = [protocol_clips.best_and_worst(of, row, path.parent / key, path.parent, room) for row in methods]
        tables = [protocol_clips.table(of, row) for row in of.labels if of.per_clip.get(row)]
        if tables:
            body.append(elements.section(f'{anchor}-clips', 'Best and worst clips', _CLIPS, *players,
                                         '<h3>All clips</h3>', *tables))
    body.append(f'<script>{protocol_clips.SCRIPT}</script>')
    files.write_atomically(path, elements.document(title, ''.join(body), STYLE).encode())
    return path


def _numbers(anchor: str, table: protocol_model.Table) -> Iterator[str]:
    """The title of a protocol, its tables and its charts."""
    results = table.results
    yield (f'<h2 class="protocol" id="{anchor}">{html.escape(_title(results))}</h2>'
           f'<div class="facts">{elements.definitions(_facts(results))}</div>')
    yield elements.section(
        f'{anchor}-numbers', 'Numbers', _LEAD.format(html.escape(table.intervals)),
        protocol_html.headline(table), '<h3>All metrics</h3>', protocol_html.everything(table),
        f'<details><summary>How each number is made</summary>{protocol_html.recipes(table)}</details>')
    charts = ''.join(_charts(table))
    if charts:
        yield elements.section(f'{anchor}-charts', 'Where the numbers come from', charts)


_LEAD = ('<p class="lead">Means over clips, of a clip over its frames; {}. Bold: ' + protocol_model.BEST
         + '. A metric of all frames together has one value, and no interval.</p>')
_CLIPS = ('<p class="lead">The generated video beside the true one, where it was kept; playing the generated one '
          'plays the other, muted.</p>')


def _charts(table: protocol_model.Table) -> Iterator[str]:
    """Distributions over clips, means by |yaw|, over K, and the offset: of the metrics that have them."""
    results = table.results
    binned = [metric for metric in results.metrics()
              if any(of[metric][..., 1].sum() for of in results.by_yaw.values() if metric in of)]
    scored = [metric for metric in results.metrics() if protocol_charts.rows_with(results, metric)]
    yield from _folded('Clips', 'A dot a clip, a box its quartiles, a line the median. The arrow points to better.',
                       scored, protocol_charts.distributions, results)
    yield from _folded('Turned heads', 'Mean over the frames by how far the true head is turned to the side; n '
                       'frames. Methods are solid, baselines dashed.', binned, protocol_charts.yaw, results)
    references = protocol_charts.number_of_references(results)
    if len(set(references.values())) > 1:
        means = [metric for metric in table.metrics if any(metric in table.cells[row] for row in references)]
        yield from _folded('Number of reference frames',
                           'Mean, with its 95 % interval where there is one, over K reference frames.', means,
                           lambda _, metrics: protocol_charts.by_references(table, metrics), results)
    if protocol_charts.OFFSET in scored:
        yield '<h3>Offset of sound and mouth</h3>'
        yield elements.chart(protocol_charts.offsets(results), 'histograms of the offset',
                             'Clips by the offset at which SyncNet finds sound and mouth nearest to each other.')


def _folded(heading: str, caption: str, metrics: Sequence[str], chart: Callable[[Results, Sequence[str]], Chart],
            results: Results) -> Iterator[str]:
    """The charts of the main metrics; below them, folded, those of all others."""
    shown = protocol_html.main(metrics)
    others = [metric for metric in metrics if metric not in shown]
    if not shown:
        return
    yield f'<h3>{heading}</h3>' + elements.chart(chart(results, shown), f'{heading} by metric', caption, 110)
    if others:
        yield (f'<details><summary>{len(others)} more metrics</summary>'
               + elements.chart(chart(results, others), f'{heading} by metric, the others', caption, 110)
               + '</details>')


def _facts(results: Results) -> dict[str, str]:
    speakers = len(set(results.clips['speaker_id'].tolist()) - {''})
    whose = f' of {speakers} speaker{"s" * (speakers > 1)}' if speakers else ''
    return {'clips': f'{len(results.clips["clip_id"])}{whose}', **results.facts}


def _grid(path: str | os.PathLike) -> str:
    source = pictures.data_url(pathlib.Path(path).read_bytes())
    return (f'<figure><div class="scroll"><img class="chart" style="width:100%;min-width:700px" src="{source}" '
            'alt="frames of the same moments by every method"></div><figcaption>Frames of some clips at times evenly '
            'spread over each, true and generated, as in Fig. 7 of the paper.</figcaption></figure>')


def _title(results: Results) -> str:
    return ' · '.join(filter(None, (_TITLES.get(results.protocol, results.protocol), results.dataset)))


def _anchor(key: str) -> str:
    return re.sub(r'[^A-Za-z0-9_-]+', '-', key)
