"""What the raters found: the chart of Fig. 10(b) with confidence intervals, a page, and the numbers."""

import csv
import dataclasses
import html
import io
import math
import os
import pathlib
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from talkinghead_jax import files
from talkinghead_jax.metrics.intervals import Interval
from talkinghead_jax.report import elements, figures
from talkinghead_jax.user_study import answers
from talkinghead_jax.user_study.answers import GOOD, NAMES, Answers, Difference, Score
from talkinghead_jax.user_study.markup import HIGHEST, LOWEST, QUESTIONS

FILES = ('ratings.html', 'ratings.csv', 'ratings.json',
         'ratings.png', 'ratings.svg', 'ratings_dark.png', 'ratings_dark.svg')
HEADINGS = ('method', 'ratings', 'mean opinion', '95 % interval', f'{GOOD} or {HIGHEST}', '95 % interval')
PAIR_HEADINGS = ('first - second', 'pairs', 'difference', '95 % interval', 'first is')
_PAPER = {'': (figures.LIGHT, '#ffffff'), '_dark': (figures.DARK, '#171d25')}  # suffix: theme, background
_ROW = ('rater', 'order', 'method', 'clip', *NAMES, 'seconds', 'time')
_STYLE = """
body { max-width: 980px; }
.metrics { min-width: 560px; }
.metrics th:first-child { width: 32%; }
"""


def write(folder: str | os.PathLike, found: Answers) -> str:
    """Write `FILES` into `folder`, each atomically; the tables and the page's path, to print.

    ratings.csv has a row a rating, with the method's name; ratings.json has all that the page shows.

    Raises:
      UserError: the folder cannot be written.
    """
    folder = pathlib.Path(folder)
    scores, differences, habits = answers.scores(found), answers.differences(found), answers.habits(found)
    drawn = chart(scores)
    for suffix, (theme, background) in _PAPER.items():
        for kind in ('png', 'svg'):
            files.write_atomically(folder / f'ratings{suffix}.{kind}', _file(drawn, theme, background, kind))
    files.write_atomically(folder / 'ratings.csv', _csv(found))
    files.write_atomically(folder / 'ratings.json', files.to_json({
        'study': found.study, 'title': found.title, 'summary': _summary(found),
        'scores': [dataclasses.asdict(score) for score in scores],
        'differences': [dataclasses.asdict(pair) for pair in differences], 'raters': habits}))
    page = _page(found, scores, differences, habits)
    files.write_atomically(folder / 'ratings.html', elements.document(found.title, page, _STYLE).encode())
    return f'{text_table(found, scores, differences)}\n\nratings: {folder / "ratings.html"}'


def chart(scores: Sequence[Score]) -> figures.Chart:
    """Bars of the mean opinion, two a method, with their intervals; they begin at the lowest rating there is."""
    methods = list(dict.fromkeys(score.method for score in scores))

    def draw(theme: figures.Theme) -> Figure:
        figure = Figure(figsize=(min(figures.WIDTH, 2.4 + 1.25 * len(methods)), 3.6), layout='constrained')
        axes, width = figure.subplots(), 0.36
        for shift, color, name in zip((-width / 2, width / 2), (theme.model, theme.baselines[0]), NAMES,
                                      strict=True):
            own = [score.opinion for score in scores if score.question == name]
            places, means = np.arange(len(own)) + shift, np.array([one.mean for one in own])
            # A method that nobody could rate has no bar, and one rater alone gives no interval.
            axes.bar(places, means - LOWEST, width * 0.92, bottom=LOWEST, color=color, label=name)
            reach = np.array([(one.mean - one.low, one.high - one.mean) for one in own]).T
            axes.errorbar(places, means, reach, fmt='none', ecolor=theme.text, elinewidth=1, capsize=3)
            for place, one in zip(places, own, strict=True):
                if math.isfinite(one.mean):
                    top = one.high if math.isfinite(one.high) else one.mean
                    axes.annotate(f'{one.mean:.2f}', (place, top), (0, 3), textcoords='offset points', ha='center',
                                  color=theme.text, fontsize=8)
        figures.style_axes(axes, theme)
        axes.grid(visible=False, axis='x')
        axes.set(ylim=(LOWEST, HIGHEST + 0.25), yticks=range(LOWEST, HIGHEST + 1))
        axes.set_xticks(range(len(methods)), [textwrap.fill(name, 16) for name in methods], fontsize=8.5,
                        color=theme.text)
        axes.margins(x=0.04)
        axes.set_ylabel('mean opinion score', color=theme.muted, fontsize=8)
        figures.legend(figure, theme, axes)
        return figure

    return draw


def _file(drawn: figures.Chart, theme: figures.Theme, background: str, kind: str) -> bytes:
    """The chart as a file of its own, on a background, since it stands on no page."""
    buffer = io.BytesIO()
    unchanging = {'png': {'Software': None}, 'svg': {'Date': None, 'Creator': None}}[kind]
    with matplotlib.rc_context({'svg.hashsalt': 'ratings'}):
        drawn(theme).savefig(buffer, format=kind, dpi=200, facecolor=background, metadata=unchanging)
    return buffer.getvalue()


def _csv(found: Answers) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(_ROW)
    for one in found.ratings:
        values = ('' if math.isnan(one.scores[name]) else int(one.scores[name]) for name in NAMES)
        writer.writerow((one.rater, one.order, one.method, one.clip, *values, one.seconds, one.time))
    return text.getvalue().encode()


def text_table(found: Answers, scores: Sequence[Score], differences: Sequence[Difference]) -> str:
    """Scores and differences as aligned plain text."""
    lines = [f'user study: {_summary(found)}']
    for name, question, *_ in QUESTIONS:
        lines += ['', f'{name}: {question}', *_aligned([HEADINGS, *_cells(scores, name)])]
        if len(found.methods) > 1:
            lines += ['', *_aligned([PAIR_HEADINGS, *_pair_cells(differences, name)])]
    return '\n'.join(lines)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ['  ' + '  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows]


def _summary(found: Answers) -> str:
    rated = sum(not math.isnan(rating.scores[NAMES[0]]) for rating in found.ratings)
    missing = len(found.ratings) - rated
    return (f'{len(found.raters)} raters, {len(found.methods)} methods, {len(found.clips)} clips, {rated} ratings'
            + (f', {missing} left out that a browser could not play' if missing else ''))


def _cells(scores: Sequence[Score], question: str) -> list[tuple[str, ...]]:
    return [(score.method, str(score.n), _number(score.opinion.mean), _bounds(score.opinion),
             _number(score.good.mean, '.0%'), _bounds(score.good, '.0%'))
            for score in scores if score.question == question]


def _pair_cells(differences: Sequence[Difference], question: str) -> list[tuple[str, ...]]:
    return [(f'{pair.first} - {pair.second}', str(pair.n), _number(pair.opinion.mean, '+.2f'),
             _bounds(pair.opinion, '+.2f'), _verdict(pair)) for pair in differences if pair.question == question]


def _verdict(pair: Difference) -> str:
    if math.isnan(pair.opinion.low):
        return '–'
    return ('ahead' if pair.opinion.low > 0 else 'behind') if pair.clear else 'tied'


def _number(value: float, form: str = '.2f') -> str:
    return '–' if math.isnan(value) else f'{value:{form}}'


def _bounds(interval: Interval, form: str = '.2f') -> str:
    return '–' if math.isnan(interval.low) else f'{interval.low:{form}} to {interval.high:{form}}'


def _page(found: Answers, scores: Sequence[Score], differences: Sequence[Difference],
          habits: Sequence[Mapping[str, float | str]]) -> str:
    facts = {'raters': len(found.raters), 'clips': len(found.clips), 'methods': len(found.methods),
             'study': found.study}
    several = len(found.methods) > 1
    links = [('scores', 'Scores')] + [('differences', 'Differences')] * several + [('raters', 'Raters')]
    drawn = elements.chart(chart(scores), 'mean opinion score of every method', (
        f'Mean opinion on a scale of {LOWEST} to {HIGHEST} with 95 % intervals over raters and clips.'))
    tables = ''.join(f'<h3>{html.escape(question)}</h3>{_table(HEADINGS, _cells(scores, name))}'
                     for name, question, *_ in QUESTIONS)
    lead = f'<p class="lead">{html.escape(_summary(found))}.</p>'
    parts = [elements.header(found.title, facts, links), elements.section('scores', 'Scores', lead, drawn, tables)]
    if several:
        pairs = ''.join(f'<h3>{html.escape(question)}</h3>{_table(PAIR_HEADINGS, _pair_cells(differences, name))}'
                        for name, question, *_ in QUESTIONS)
        lead = ('<p class="lead">Of the same rater and the same clip. Each interval is of 95 % for itself, not '
                'corrected for their number.</p>')
        parts.append(elements.section('differences', 'Differences', lead, pairs))
    heads = ('rater', 'rated', 'left out', *NAMES, 'spread', 'seconds a video')
    rows = [(str(row['rater']), str(row['rated']), str(row['left_out']), *(_number(row[name]) for name in NAMES),
             _number(row['spread']), _number(row['seconds'], '.1f')) for row in habits]
    parts.append(elements.section('raters', 'Raters', '<p class="lead">Nobody is left out. A spread of 0 is the same '
                                  'answer to everything.</p>', _table(heads, rows)))
    return ''.join(parts)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = ''.join(f'<th scope="col">{html.escape(heading)}</th>' for heading in headings)
    body = ''.join(f'<tr><th scope="row">{html.escape(row[0])}</th>'
                   + ''.join(f'<td>{html.escape(cell)}</td>' for cell in row[1:]) + '</tr>' for row in rows)
    return (f'<div class="scroll"><table class="metrics"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
            '</div>')
