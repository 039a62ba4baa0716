"""The interval of paired differences, against what is known of Gaussian ones."""

import numpy as np
import pytest

from talkinghead_jax.errors import UserError
from talkinghead_jax.metrics.intervals import paired_bootstrap

GROUPS = np.repeat(np.arange(12), 4)


def differences(rng, mean=0.3, seeds=6, seed_scale=0.3, group_scale=0.5, scale=0.5):
    """(S, N) = mean + seed's + group's + example's own deviation."""
    return (mean + seed_scale * rng.normal(size=(seeds, 1)) + group_scale * rng.normal(size=(1, 12))[:, GROUPS]
            + scale * rng.normal(size=(seeds, len(GROUPS))))


def test_gaussian_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        interval = paired_bootstrap(differences(rng), GROUPS, draws=400)
        covered += interval.low < 0.3 < interval.high
    assert 0.92 < covered / 1000 < 0.975


def test_the_width_is_that_of_the_analytic_variance():
    """Many seeds and groups: variance = of seeds / S + of groups / G, and the interval is 1.96 deviations wide."""
    rng = np.random.default_rng(1)
    groups = np.arange(400)
    values = 0.4 * rng.normal(size=(200, 1)) + 0.8 * rng.normal(size=(1, 400))
    interval = paired_bootstrap(values, groups)
    deviation = np.sqrt(np.var(values[:, 0], ddof=1) / 200 + np.var(values[0], ddof=1) / 400)
    np.testing.assert_allclose([interval.low, interval.high],
                               values.mean() + 1.96 * deviation * np.array([-1, 1]), atol=0.05 * deviation)


def test_examples_of_one_group_are_not_taken_for_independent():
    values = np.random.default_rng(2).normal(size=(5, 12))[:, GROUPS]
    together, apart = (paired_bootstrap(values, groups) for groups in (GROUPS, np.arange(len(GROUPS))))
    assert [together.mean, apart.mean] == pytest.approx([values.mean()] * 2)
    assert together.high - together.low > 1.3 * (apart.high - apart.low)


def test_the_interval_follows_shift_and_scale():
    values = differences(np.random.default_rng(3))
    one, other = paired_bootstrap(values, GROUPS), paired_bootstrap(2 - 3 * values, GROUPS)
    np.testing.assert_allclose([other.mean, other.low, other.high], 2 - 3 * np.array([one.mean, one.high, one.low]))


def test_values_that_are_missing_do_not_count():
    values = differences(np.random.default_rng(4))
    values[:, GROUPS == 3] = np.nan
    kept = GROUPS != 3
    missing = paired_bootstrap(values, GROUPS, draws=50_000)
    left_out = paired_bootstrap(values[:, kept], GROUPS[kept], draws=50_000)
    assert missing.mean == pytest.approx(left_out.mean)
    assert missing.high - missing.low == pytest.approx(left_out.high - left_out.low, rel=0.1)


def test_the_same_arguments_give_the_same_interval():
    values = differences(np.random.default_rng(5))
    assert paired_bootstrap(values, GROUPS) == paired_bootstrap(values, GROUPS)
    assert paired_bootstrap(values, GROUPS) != paired_bootstrap(values, GROUPS, seed=1)
    assert paired_bootstrap(values, GROUPS) == paired_bootstrap(values, np.array([f'id{g:02d}' for g in GROUPS]))


@pytest.mark.parametrize(('shape', 'groups'), [((1, 6), np.arange(6)), ((4, 6), np.zeros(6))])
def test_one_seed_or_one_group_tells_nothing_of_others(shape, groups):
    interval = paired_bootstrap(np.full(shape, 0.5), groups)
    assert interval.mean == 0.5
    assert np.isnan([interval.low, interval.high]).all()


def test_no_value_gives_no_mean():
    assert np.isnan(paired_bootstrap(np.full((3, 4), np.nan), np.arange(4)).mean)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(UserError, match=r'found differences \(3, 4\) and groups \(5,\)'):
        paired_bootstrap(np.zeros((3, 4)), np.zeros(5))
