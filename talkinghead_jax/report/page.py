"""The report: one self-contained HTML page, and its numbers as JSON.

Nothing is loaded from elsewhere: pictures, charts and videos are inside the page. It follows the reader's light
or dark setting, for which each chart is there twice.
"""

import html
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from talkinghead_jax import files, identity_study
from talkinghead_jax.evaluation import Evaluation
from talkinghead_jax.report import catalogue, elements, figures, identities, pictures, table
from talkinghead_jax.report.curves import curves

LARGEST_VIDEO = 16 * 2 ** 20  # bytes: a larger video is linked, not embedded

_CHARTS = {'expression': figures.expression, 'head_motion': figures.head_motion}
_PICTURES = {'generator': pictures.generator, 'unprojection': pictures.unprojection}
_EXPLAINED = {
    'expression': 'Held-out clips: how wide the mouth opens over time, and the predicted face (blue) over the '
                  'true one.',
    'head_motion': 'Held-out speakers: the reference clip that Φ reads (shaded), then predicted and true motion. '
                   'It should move as this speaker moves; it cannot know every turn.',
    'unprojection': 'Held-out faces: the UV position map (red, green, blue = x, y, z) and its points over the '
                    'picture (bright = near).',
    'generator': 'Held-out speakers, driven by the true landmarks and head pose.',
}


def write_report(
    path: str | os.PathLike,
    evaluations: Mapping[str, Evaluation],
    histories: Mapping[str, Sequence[Mapping[str, float]]] | None = None,
    *,
    timings: Mapping[str, Any] | None = None,
    videos: Sequence[str | os.PathLike] = (),
    title: str = 'talkinghead_jax',
    facts: Mapping[str, str] | None = None,
    ablations: str = '',
) -> pathlib.Path:
    """Write the page at `path` and the numbers beside it, as .json; both atomically.

    Args:
      path: of the HTML file.
      evaluations: stage -> what `evaluation.evaluate` (or `load`) returned, in the order of the page; that of
        `identity_study` is shown with head motion.
      histories: stage -> what `train.history.read` returned; an absent or empty one leaves the curves out.
      timings: step -> seconds, or step -> {column: seconds} (e.g. {'seconds': 80.1, 'compilation': 12.3}).
      videos: files to show; one that does not exist is left out.
      title: of the page.
      facts: name -> value, shown under the title (config, device, versions).
      ablations: HTML of `report.ablations.section`, '' without a study.

    Returns:
      the path of the JSON file.

    Raises:
      UserError: the folder cannot be written.
    """
    path = pathlib.Path(path)
    histories, timings, facts = histories or {}, timings or {}, facts or {}
    shown = [video for video in map(pathlib.Path, videos) if video.is_file()]
    numbers = {'title': title, 'facts': facts, 'stages': {name: of.as_dict() for name, of in evaluations.items()}}
    evaluations = dict(evaluations)
    test = evaluations.pop(identity_study.NAME, None)
    stages = list(dict.fromkeys([*evaluations, *(name for name in histories if histories[name])]))
    body = [
        _header(title, facts, stages, bool(shown), bool(ablations), bool(timings)),
        elements.section('results', 'Results on held-out data', _results(evaluations)) if evaluations else '',
        elements.section('videos', 'Videos', *(_video(video, path.parent) for video in shown)) if shown else '',
        *(_stage(name, evaluations.get(name), histories.get(name, ()), test) for name in stages),
        elements.section('ablations', 'Ablations', ablations) if ablations else '',
        elements.section('timings', 'Time', _timings(timings)) if timings else '',
    ]
    numbers |= {'timings': timings, 'videos': [os.path.relpath(video, path.parent) for video in shown]}
    target = path.with_suffix('.json')
    files.write_atomically(target, files.to_json(numbers))
    files.write_atomically(path, elements.document(title, ''.join(body)).encode())
    return target


def _header(title: str, facts: Mapping[str, str], stages: Iterable[str], videos: bool, ablations: bool,
            timings: bool) -> str:
    links = [('results', 'Results')] + [('videos', 'Videos')] * videos
    links += [(name, catalogue.stage_title(name)) for name in stages]
    links += [('ablations', 'Ablations')] * ablations + [('timings', 'Time')] * timings
    return elements.header(title, facts, links)


def _results(evaluations: Mapping[str, Evaluation]) -> str:
    """All tables side by side where there is room; the best value of each row is bold."""
    cards = ''.join(f'<div class="card"><h3>{html.escape(catalogue.stage_title(name))}</h3>'
                    f'{table.html_table(evaluation)}</div>' for name, evaluation in evaluations.items())
    return f'<p class="lead">The model beside what a trivial method reaches. Best value in bold.</p>{cards}'


def _stage(name: str, evaluation: Evaluation | None, history: Sequence[Mapping[str, float]],
           test: Evaluation | None) -> str:
    content = []
    if name in catalogue.STAGES:
        content.append(f'<p class="lead">{html.escape(catalogue.STAGES[name][1])}</p>')
    if evaluation is not None and evaluation.examples:
        if name in _CHARTS:
            content.append(elements.chart(_CHARTS[name](evaluation.examples), f'examples of {name}',
                                          _EXPLAINED[name]))
        elif name in _PICTURES:
            content.append(_grid(_PICTURES[name](evaluation.examples), _EXPLAINED[name]))
    if name == 'head_motion' and test is not None:
        content.append(f'<h3>Whose style, which speech</h3><p class="lead">{html.escape(identities.LEAD)}</p>'
                       f'{table.html_table(test)}')
        content.append(elements.chart(identities.chart(test.examples), 'identity test', identities.EXPLAINED))
    found = curves(history)
    if found:
        content.append(elements.chart(figures.training_curves(found), f'training curves of {name}',
                              'Training: logged values and their running mean.'))
    return elements.section(name, catalogue.stage_title(name), *content)


def _grid(columns: Sequence[tuple[str, list[np.ndarray]]], caption: str) -> str:
    head = ''.join(f'<th scope="col">{html.escape(heading)}</th>' for heading, _ in columns)
    rows = []
    for i in range(len(columns[0][1])):
        cells = ''.join(f'<td><img src="{pictures.data_url(pictures.png(column[i]))}" '
                        f'alt="{html.escape(heading)} {i + 1}"></td>' for heading, column in columns)
        rows.append(f'<tr>{cells}</tr>')
    return (f'<figure><div class="scroll"><table class="grid"><thead><tr>{head}</tr></thead>'
            f'<tbody>{"".join(rows)}</tbody></table></div><figcaption>{html.escape(caption)}</figcaption></figure>')


def _video(video: pathlib.Path, folder: pathlib.Path) -> str:
    relative = pathlib.PurePath(os.path.relpath(video, folder)).as_posix()
    size = video.stat().st_size
    source = pictures.data_url(video.read_bytes(), 'video/mp4') if size <= LARGEST_VIDEO else relative
    return (f'<figure class="video"><video controls playsinline preload="metadata" src="{html.escape(source)}">'
            f'</video><figcaption><a href="{html.escape(relative)}">{html.escape(video.name)}</a></figcaption>'
            '</figure>')


def _timings(timings: Mapping[str, Any]) -> str:
    """Seconds a step; columns are the union of the steps' own."""
    as_columns = {step: of if isinstance(of, Mapping) else {'seconds': of} for step, of in timings.items()}
    columns = list(dict.fromkeys(column for of in as_columns.values() for column in of))
    head = ''.join(f'<th scope="col">{html.escape(column)}</th>' for column in columns)
    body = ''.join(
        f'<tr><th scope="row">{html.escape(step)}</th>'
        + ''.join(f'<td>{_seconds(of.get(column))}</td>' for column in columns) + '</tr>'
        for step, of in as_columns.items())
    total = ''.join(f'<td>{_seconds(sum(of.get(column) or 0 for of in as_columns.values()))}</td>'
                    for column in columns)
    return (f'<div class="scroll"><table class="metrics narrow"><thead><tr><th scope="col">step</th>{head}</tr>'
            f'</thead><tbody>{body}</tbody><tfoot><tr><th scope="row">together</th>{total}</tr></tfoot></table>'
            '</div>')


def _seconds(value: float | None) -> str:
    return '–' if value is None else f'{value:.1f} s'
