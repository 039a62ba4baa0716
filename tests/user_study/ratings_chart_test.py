"""The chart of Fig. 10(b): bars where the numbers are, and the files beside it."""

import csv
import io
import json
import xml.etree.ElementTree

import numpy as np
import pytest
from PIL import Image

from talkinghead_jax.report import figures
from talkinghead_jax.user_study import answers, chart
from tests.user_study import fake_answers
from tests.user_study.answers_test import CLIPS, METHODS, drawn

EVIL = '<b>"still" & silent, of a very long name</b>'


def found(folder, raters=4, methods=(*METHODS[:2], EVIL)):
    key = fake_answers.key(folder, list(methods), CLIPS)
    ratings = drawn(raters=raters)[:, :len(methods)]
    return answers.read(fake_answers.write_all(folder, ratings), key)


def test_bars_and_whiskers_are_the_scores(tmp_path):
    scores = answers.scores(found(tmp_path))
    axes = chart.chart(scores)(figures.LIGHT).axes[0]
    tops = [bar.get_y() + bar.get_height() for bar in axes.patches]
    np.testing.assert_allclose(tops, [score.opinion.mean for score in scores], atol=1e-9)
    assert {bar.get_y() for bar in axes.patches} == {1}
    ends = [segment[:, 1] for lines in axes.collections for segment in lines.get_segments()]
    np.testing.assert_allclose(ends, [(score.opinion.low, score.opinion.high) for score in scores], atol=1e-9)
    assert [label.get_text().replace('\n', ' ') for label in axes.get_xticklabels()] == [*METHODS[:2], EVIL]
    assert [text.get_text() for text in axes.texts] == [f'{score.opinion.mean:.2f}' for score in scores]
    assert axes.get_ylim()[0] == 1


def test_all_files_are_written_and_tell_the_same(tmp_path):
    given = found(tmp_path)
    printed = chart.write(tmp_path / 'out', given)
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == sorted(chart.FILES)
    assert str(tmp_path / 'out' / 'ratings.html') in printed
    scores, differences = answers.scores(given), answers.differences(given)
    page = (tmp_path / 'out' / 'ratings.html').read_text()
    kept = json.loads((tmp_path / 'out' / 'ratings.json').read_text())
    assert [one['opinion']['mean'] for one in kept['scores']] == [one.opinion.mean for one in scores]
    assert [one['n'] for one in kept['differences']] == [one.n for one in differences]
    for score in scores:
        cell = f'{score.opinion.low:.2f} to {score.opinion.high:.2f}'
        assert f'<td>{score.opinion.mean:.2f}</td><td>{cell}</td>' in page
        assert cell in printed
    assert '<b>"still"' not in page
    rows = list(csv.DictReader(io.StringIO((tmp_path / 'out' / 'ratings.csv').read_text())))
    assert [(row['rater'], row['method'], row['clip'], float(row['realism'])) for row in rows] == [
        (one.rater, one.method, one.clip, one.scores['realism']) for one in given.ratings]
    for suffix, corner in (('', (255, 255, 255)), ('_dark', (0x17, 0x1d, 0x25))):
        picture = Image.open(tmp_path / 'out' / f'ratings{suffix}.png').convert('RGB')
        assert picture.getpixel((0, 0)) == corner
        xml.etree.ElementTree.parse(tmp_path / 'out' / f'ratings{suffix}.svg')


@pytest.mark.parametrize(('raters', 'methods'), [(1, METHODS), (3, METHODS[:1])])
def test_little_is_drawn_without_what_it_does_not_tell(tmp_path, raters, methods):
    given = found(tmp_path, raters, methods)
    printed = chart.write(tmp_path / 'out', given)
    page = (tmp_path / 'out' / 'ratings.html').read_text()
    assert ('Differences' in page) == (len(methods) > 1)
    assert ('–' in printed) == (raters == 1)
    assert 'nan' not in printed
    assert 'nan' not in page.split('<h3>')[1]
