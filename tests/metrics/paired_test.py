"""Intervals over groups, the sign-flip test and Holm's correction, against simulation, scipy and brute force."""

import itertools

import numpy as np
import pytest
from scipy import stats

from talkinghead_jax.errors import UserError
from talkinghead_jax.metrics.intervals import bootstrap, holm, paired


def grouped(rng, count, mean=0.3):
    """Values of `count` groups of 1 to 6 examples: mean + group's + own deviation; and the groups."""
    groups = np.repeat(np.arange(count), rng.integers(1, 7, count))
    return mean + 0.5 * rng.normal(size=count)[groups] + 0.5 * rng.normal(size=len(groups)), groups


@pytest.mark.parametrize('count', [4, 20])
def test_intervals_cover_the_truth_as_often_as_they_say(count):
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(800):
        interval = bootstrap(*grouped(rng, count), draws=300)
        covered += interval.low < 0.3 < interval.high
    assert 0.91 < covered / 800 < 0.97


def test_the_mean_is_over_values_not_over_groups():
    interval = bootstrap(np.array([1.0, 1, 1, 5, np.nan]), np.array(['a', 'a', 'a', 'b', 'b']))
    assert interval.mean == 2
    assert interval.low < 2 < interval.high


def test_values_of_one_group_are_not_taken_for_independent():
    values = np.repeat(np.random.default_rng(1).normal(size=10), 5)
    together, apart = (bootstrap(values, groups) for groups in (np.repeat(np.arange(10), 5), np.arange(50)))
    assert together.high - together.low > 1.8 * (apart.high - apart.low)


def test_many_groups_give_students_interval():
    values = np.random.default_rng(2).normal(size=400)
    interval = bootstrap(values, np.arange(400))
    half = stats.t.ppf(0.975, 399) * values.std(ddof=1) / 20
    want = values.mean() + half * np.array([-1, 1])
    np.testing.assert_allclose([interval.low, interval.high], want, atol=half / 15)


@pytest.mark.parametrize('groups', [1, 0])
def test_one_group_or_none_has_no_interval(groups):
    interval = bootstrap(np.full(3, 0.5) if groups else np.full(3, np.nan), np.zeros(3))
    assert np.isnan([interval.low, interval.high]).all()
    assert interval.mean == 0.5 if groups else np.isnan(interval.mean)


def test_p_values_are_uniform_where_neither_is_better():
    rng = np.random.default_rng(3)
    p_values = []
    for _ in range(500):
        values, groups = grouped(rng, 9, mean=0.0)
        p_values.append(paired(values, np.zeros(len(values)), groups, draws=2).p_value)
    assert stats.kstest(p_values, 'uniform').pvalue > 0.01
    assert 0.02 < np.mean(np.array(p_values) <= 0.05) < 0.08


def test_the_p_value_is_the_share_of_flips():
    values, groups = grouped(np.random.default_rng(4), 6)
    sums = [values[groups == group].sum() for group in range(6)]
    flipped = [abs(sum(sign * of for sign, of in zip(signs, sums, strict=True)))
               for signs in itertools.product((1, -1), repeat=6)]
    want = np.mean(np.array(flipped) >= abs(sum(sums)) - 1e-12)
    found = paired(values + 7, np.full(len(values), 7.0), groups)
    assert found.p_value == want
    assert (found.n, found.groups) == (len(values), 6)
    assert found.difference.mean == pytest.approx(values.mean())


def test_single_examples_are_scipys_permutation_test():
    rng = np.random.default_rng(5)
    first, second = rng.normal(0.4, 1, 11), rng.normal(0, 1, 11)
    want = stats.permutation_test((first, second), lambda a, b: np.mean(a - b), permutation_type='samples',
                                  n_resamples=np.inf)
    assert paired(first, second, np.arange(11)).p_value == pytest.approx(want.pvalue, abs=1e-12)


def test_many_groups_are_flipped_at_random():
    rng = np.random.default_rng(6)
    first, second = rng.normal(0.3, 1, 40), rng.normal(0, 1, 40)
    want = stats.ttest_rel(first, second).pvalue
    assert paired(first, second, np.arange(40), draws=20_000).p_value == pytest.approx(want, abs=0.02)
    assert paired(first + 9, second, np.arange(40), draws=999).p_value == 1 / 1000  # never 0


def test_only_examples_that_both_have_count():
    first, second = np.array([1.0, np.nan, 3, 4]), np.array([0.0, 1, np.nan, 3])
    found = paired(first, second, np.arange(4))
    assert (found.difference.mean, found.n, found.p_value) == (1, 2, 0.5)
    assert np.isnan(paired(first, np.full(4, np.nan), np.arange(4)).p_value)
    assert paired(first, first, np.arange(4)).p_value == 1


def test_holm_is_the_textbooks():
    np.testing.assert_allclose(holm(np.array([0.04, np.nan, 0.01, 0.03, 0.005])), [0.06, np.nan, 0.03, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1, 1])


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(UserError, match=r'found values \(3,\) and \(4,\) and groups \(3,\)'):
        paired(np.zeros(3), np.zeros(4), np.zeros(3))
