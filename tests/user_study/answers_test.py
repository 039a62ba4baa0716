"""Answers as raters send them: what is read, what is refused, and the statistics against plain means."""

import itertools
import math

import numpy as np
import pytest

from talkinghead_jax.errors import UserError
from talkinghead_jax.user_study import answers
from tests.user_study import fake_answers

METHODS, CLIPS = ['audio', 'audio + Phi', 'still'], ['a', 'b', 'c', 'd']


def drawn(seed=0, raters=5, effects=(0, 1, -1), missing=0.0):
    """(raters, methods, clips, 2) ratings with strict and mild raters; 0 where missing."""
    rng = np.random.default_rng(seed)
    values = (3 + np.array(effects)[:, None, None] + rng.normal(0, 0.5, (raters, 1, 1, 1))
              + rng.normal(0, 0.4, (1, 1, len(CLIPS), 1)) + rng.normal(0, 0.6, (raters, len(effects), len(CLIPS), 2)))
    ratings = np.clip(np.rint(values), 1, 5)
    return np.where(rng.random((*ratings.shape[:3], 1)) < missing, 0, ratings)


def read(folder, ratings):
    key = fake_answers.key(folder, METHODS, CLIPS)
    return answers.read(fake_answers.write_all(folder, ratings), key)


@pytest.mark.parametrize('missing', [0.0, 0.4])
def test_scores_are_plain_means_of_the_right_ratings(tmp_path, missing):
    ratings = drawn(missing=missing)
    found = read(tmp_path, ratings)
    scores = answers.scores(found)
    assert [(score.question, score.method) for score in scores] == list(itertools.product(answers.NAMES, METHODS))
    for score in scores:
        of = ratings[:, METHODS.index(score.method), :, answers.NAMES.index(score.question)]
        given = of[of > 0]
        assert (score.n, score.raters, score.clips) == (len(given), (of > 0).any(1).sum(), (of > 0).any(0).sum())
        assert score.opinion.mean == pytest.approx(given.mean(), abs=1e-12)
        assert score.good.mean == pytest.approx((given >= 4).mean(), abs=1e-12)
        assert 1 <= score.opinion.low < score.opinion.mean < score.opinion.high <= 5
        if len(set(given >= 4)) == 2:
            assert 0 <= score.good.low < score.good.mean < score.good.high <= 1


@pytest.mark.parametrize('missing', [0.0, 0.4])
def test_differences_are_of_the_same_rater_and_clip(tmp_path, missing):
    ratings = drawn(1, missing=missing)
    found = answers.differences(read(tmp_path, ratings))
    assert [(pair.first, pair.second) for pair in found[:3]] == [
        ('audio', 'audio + Phi'), ('audio', 'still'), ('audio + Phi', 'still')]
    for pair in found:
        first, second = (ratings[:, METHODS.index(name), :, answers.NAMES.index(pair.question)]
                         for name in (pair.first, pair.second))
        both = (first > 0) & (second > 0)
        assert pair.n == both.sum()
        assert pair.opinion.mean == pytest.approx((first - second)[both].mean(), abs=1e-12)
        assert pair.clear == (not pair.opinion.low <= 0 <= pair.opinion.high)
    assert found[2].clear  # two points apart


def test_strict_raters_widen_the_score_but_not_the_difference(tmp_path):
    shift = np.array([-1, -1, 0, 1, 1])[:, None, None, None]
    ratings = np.broadcast_to(2 + shift + np.array([0, 0, 1])[:, None, None], (5, 3, 4, 2)).copy()
    ratings[2, 2, 1] = 2
    found = read(tmp_path, ratings)
    score, pair = answers.scores(found)[0].opinion, answers.differences(found)[1].opinion
    assert 0 < pair.high - pair.low < (score.high - score.low) / 2
    assert pair.mean == pytest.approx(-0.95)


def test_answers_that_are_all_the_same_give_no_interval(tmp_path):
    found = read(tmp_path, np.full((3, 3, 4, 2), 5))
    for interval, mean in ((answers.scores(found)[0].opinion, 5), (answers.scores(found)[0].good, 1),
                           (answers.differences(found)[0].opinion, 0)):
        assert interval.mean == mean
        assert math.isnan(interval.low)


def test_one_rater_gives_means_without_intervals(tmp_path):
    found = read(tmp_path, drawn(raters=1))
    for one in (*answers.scores(found), *answers.differences(found)):
        assert math.isfinite(one.opinion.mean)
        assert math.isnan(one.opinion.low)
        assert math.isnan(one.opinion.high)
    assert not any(pair.clear for pair in answers.differences(found))


def test_a_video_that_did_not_play_counts_for_nothing(tmp_path):
    key = fake_answers.key(tmp_path, METHODS, CLIPS)
    file = fake_answers.write(tmp_path / 'a.csv', [fake_answers.line('r1', 1, 0, '', ''),
                                                   fake_answers.line('r1', 2, 1, 2, 4)])
    file.write_bytes(b'\xef\xbb\xbf' + file.read_bytes().replace(b'\n', b'\r\n'))  # as a spreadsheet saves it
    found = answers.read([file], key)
    assert answers.scores(found)[0].n == 1
    assert answers.scores(found)[0].opinion.mean == 2
    assert answers.scores(found)[1].n == 0
    assert math.isnan(answers.scores(found)[1].opinion.mean)
    assert answers.habits(found) == [{'rater': 'r1', 'rated': 1, 'left_out': 1, 'realism': 2.0,
                                      'synchronisation': 4.0, 'spread': 1.0, 'seconds': 4.5}]


LINE = fake_answers.line


@pytest.mark.parametrize(('lines', 'sentence'), [
    ([LINE('r1', 1, 0, 3, 3, study='s2')], r"a.csv, line 2: answers of study 's2'; want 's1'"),
    ([LINE('r1', 1, 0, 3, 3), LINE('r1', 2, 99, 3, 3)], "line 3: video 'v099' is not in the key; want one of its 12"),
    ([LINE('r1', 1, 0, 6, 3)], "realism is '6'; want 1 to 5"),
    ([LINE('r1', 1, 0, 3, '')], "synchronisation is ''; want 1 to 5"),
    ([LINE('r1', 1, 0, '3.5', 3)], "realism is '3.5'; want 1 to 5"),
    ([LINE('', 1, 0, 3, 3)], 'line 2: no rater'),
    ([LINE('r1', 'x', 0, 3, 3)], "order is 'x'"),
    ([LINE('r1', 1, 0, 3, 3), LINE('r1', 2, 0, 3, 3)], r'line 3: rater r1 has rated video v000 already, at .*line 2'),
    (['s1,r1,1,v000,3'], 'line 2: found 5 values; want 8'),
    ([LINE('r1', 1, 0, 3, 3) + ',more'], 'line 2: found 9 values; want 8'),
    ([], 'no answers inside'),
])
def test_bad_answers_are_told(tmp_path, lines, sentence):
    key = fake_answers.key(tmp_path, METHODS, CLIPS)
    with pytest.raises(UserError, match=sentence):
        answers.read([fake_answers.write(tmp_path / 'a.csv', lines)], key)


def test_bad_files_are_told(tmp_path):
    key = fake_answers.key(tmp_path, METHODS, CLIPS)
    good = fake_answers.write(tmp_path / 'a.csv', [LINE('r1', 1, 0, 3, 3)])
    (tmp_path / 'b.csv').write_text('a,b\n1,2\n')
    (tmp_path / 'c.csv').write_bytes(b'\xff\xfe\x00')
    for paths, sentence in (([good, good], r'rater r1 has rated video v000 already, at .*a.csv, line 2; want'),
                            ([tmp_path / 'b.csv'], "b.csv has the columns 'a,b'; want 'study,"),
                            ([tmp_path / 'c.csv'], 'c.csv: no answers can be read'),
                            ([tmp_path / 'none.csv'], 'none.csv: no answers can be read'),
                            ([tmp_path], 'no answers can be read'),
                            ([], '--input names no answers')):
        with pytest.raises(UserError, match=sentence):
            answers.read(paths, key)
    (tmp_path / 'other.json').write_text('{"a": 1}')
    (tmp_path / 'list.json').write_text('3')
    for name, sentence in (('other.json', 'is no key of a user study'), ('list.json', 'no key of a user study'),
                           ('a.csv', 'no key of a user study'), ('none.json', 'no key of a user study')):
        with pytest.raises(UserError, match=sentence):
            answers.read([good], tmp_path / name)
