"""Whether a difference between two trained methods would be there with other seeds and other speakers, too."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from scipy import special

from talkinghead_jax.errors import UserError

_EXACT = 14  # groups: up to 2^14 flips of signs are all tried
_BLOCK = 4096  # flips at a time


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean and the bounds of its confidence interval; NaN bounds where there is none."""

    mean: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Paired:
    """Two methods on the same examples: first minus second, and whether chance alone would give as much.

    Attributes:
      difference: its mean and interval.
      p_value: two-sided; NaN without any example.
      n: examples that both have.
      groups: of these examples.
    """

    difference: Interval
    p_value: float
    n: int
    groups: int


def bootstrap(values: np.ndarray, groups: np.ndarray, *, level: float = 0.95, draws: int = 10_000,
              seed: int = 0) -> Interval:
    """Bootstrap interval of the mean of all values, over random groups of examples.

    The cluster bootstrap (Davison and Hinkley, Bootstrap Methods and their Application, 1997, Sec. 3.8): a draw takes
    whole groups with replacement, one fewer than there are, as in `paired_bootstrap`, and averages over all their
    values. Percentiles alone are too narrow with few groups (Hesterberg, The American Statistician 69(4), 2015,
    Sec. 5): their distances from the mean are stretched by Student's quantile over the normal one. In
    simulations with 3 to 40 groups of unequal size, 95 % intervals of Gaussian values then cover the truth in 92 to
    95 % of cases (without: in 75 % with 3 groups). A bound may lie beyond what a bounded metric can reach:
    tables cut it there.

    Args:
      values: (N,); NaN where an example has none.
      groups: (N,) what examples have in common, as the speaker's name.
      level, draws, seed: as in `paired_bootstrap`.

    Returns:
      The mean over all values, and the interval; its bounds are NaN with one group. All NaN without any value.

    Raises:
      UserError: the shapes do not fit.
    """
    values, groups = _checked('bootstrap', groups, values)
    known = ~np.isnan(values)
    if not known.any():
        return Interval(np.nan, np.nan, np.nan)
    sums, counts = _group_sums(values[known], groups[known])
    if len(sums) < 2:
        return Interval(float(sums.sum() / counts.sum()), np.nan, np.nan)
    taken = np.random.default_rng(seed).multinomial(len(sums) - 1, np.full(len(sums), 1 / len(sums)), draws)
    mean, tail = sums.sum() / counts.sum(), (1 + level) / 2
    low, high = np.percentile((taken @ sums) / (taken @ counts), [100 * (1 - tail), 100 * tail])
    stretch = special.stdtrit(len(sums) - 1, tail) / special.ndtri(tail)
    return Interval(float(mean), float(mean + stretch * (low - mean)), float(mean + stretch * (high - mean)))


def paired(first: np.ndarray, second: np.ndarray, groups: np.ndarray, *, level: float = 0.95, draws: int = 10_000,
           seed: int = 0) -> Paired:
    """First minus second over the examples that have both, its bootstrap interval, and a sign-flip test.

    If neither method is better, the differences of each group might as well have had the other sign: the p-value is
    the share of all flips of whole groups' signs whose mean is at least as far from 0 (Fisher, The Design of
    Experiments, 1935, Sec. 21; blocks of dependent examples as in Winkler et al., NeuroImage 92, 2014). Up to 14
    groups all flips are tried, so it is exact; with more, `draws` random ones and the observed one (Phipson and
    Smyth, Statistical Applications in Genetics and Molecular Biology 9(1), 2010). No p-value of G groups lies below
    2^(1 - G): five speakers cannot show a difference at the level of 5 %.

    Args:
      first: (N,) of one method; NaN where an example has no value.
      second: (N,) of the other.
      groups: (N,) as in `bootstrap`.
      level, draws, seed: as in `bootstrap`.

    Returns:
      `Paired`.

    Raises:
      UserError: the shapes do not fit.
    """
    first, second, groups = _checked('paired', groups, first, second)
    both = ~np.isnan(first - second)
    differences, groups = (first - second)[both], groups[both]
    interval = bootstrap(differences, groups, level=level, draws=draws, seed=seed)
    if not both.any():
        return Paired(interval, np.nan, 0, 0)
    sums, _ = _group_sums(differences, groups)
    reached = np.abs(sums.sum()) - 1e-12 * np.abs(sums).sum()  # rounding makes no flip smaller
    exact = len(sums) <= _EXACT
    hits = [int((np.abs(flips @ sums) >= reached).sum()) for flips in _flips(len(sums), exact, draws, seed)]
    p_value = sum(hits) / 2 ** len(sums) if exact else (1 + sum(hits)) / (1 + draws)
    return Paired(interval, p_value, int(both.sum()), len(sums))


def holm(p_values: np.ndarray) -> np.ndarray:
    """P-values of several tests, corrected so that any false alarm among all is as rare as each promises.

    Holm, Scandinavian Journal of Statistics 6(2), 1979: the k-th smallest of m is multiplied by m - k + 1, never
    below one before it, never above 1. NaN stays and does not count: (M,) -> (M,).
    """
    p_values = np.asarray(p_values, np.float64)
    order = np.argsort(p_values)[:int((~np.isnan(p_values)).sum())]
    corrected = np.full(p_values.shape, np.nan)
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1.0)
    return corrected


def paired_bootstrap(differences: np.ndarray, groups: np.ndarray, *, level: float = 0.95, draws: int = 10_000,
                     seed: int = 0) -> Interval:
    """Percentile interval of the mean of paired differences, over random seeds and random groups of examples.

    Seeds and groups are crossed (each seed is evaluated on every group), so each draw takes seeds and, independently,
    groups with replacement: the pigeonhole bootstrap (Owen, Annals of Applied Statistics 1(2), 2007). It draws one
    fewer than there are of each, for with few seeds drawing all of them gives too narrow intervals (Rao and Wu,
    JASA 83(401), 1988: with n - 1 draws the variance of a mean is unbiased).

    In simulations with 3 seeds and 8 groups, 95 % intervals of Gaussian differences cover the truth in 90 to 99 % of
    cases, but in 77 % only where all variation is between seeds: three seeds cannot tell more.

    Args:
      differences: (S, N), seed by example, of one method minus the other; NaN where an example has no value.
      groups: (N,) what examples have in common, as the speaker's name; examples of one group are drawn together.
      level: of confidence, in (0, 1).
      draws: of the bootstrap.
      seed: of the draws; the same arguments give the same interval.

    Returns:
      The mean over all values, and the interval; its bounds are NaN with one seed or one group, where nothing tells
      how much another would differ. All NaN without any value.

    Raises:
      UserError: the shapes do not fit.
    """
    differences, groups = np.asarray(differences, np.float64), np.asarray(groups)
    if differences.ndim != 2 or groups.shape != differences.shape[1:]:
        raise UserError(f'paired_bootstrap: found differences {differences.shape} and groups {groups.shape}; '
                        'want (S, N) and (N,)')
    known = ~np.isnan(differences)
    member = np.unique(groups, return_inverse=True)[1][:, None] == np.arange(len(np.unique(groups)))
    sums, counts = np.where(known, differences, 0.0) @ member, known.astype(np.float64) @ member  # (S, G)
    if not known.any():
        return Interval(np.nan, np.nan, np.nan)
    mean = float(sums.sum() / counts.sum())
    if min(sums.shape) < 2:
        return Interval(mean, np.nan, np.nan)
    rng = np.random.default_rng(seed)
    taken_seeds, taken_groups = (rng.multinomial(n - 1, np.full(n, 1 / n), draws) for n in sums.shape)
    totals, weights = (((taken_seeds @ table) * taken_groups).sum(axis=1) for table in (sums, counts))
    means = totals[weights > 0] / weights[weights > 0]
    low, high = np.percentile(means, [50 * (1 - level), 50 * (1 + level)])
    return Interval(mean, float(low), float(high))


def _checked(name: str, groups: np.ndarray, *values: np.ndarray) -> list[np.ndarray]:
    """The values as float64, then the groups: all (N,)."""
    arrays = [*(np.asarray(x, np.float64) for x in values), np.asarray(groups)]
    if arrays[0].ndim != 1 or len({x.shape for x in arrays}) > 1:
        shapes = ' and '.join(str(x.shape) for x in arrays[:-1])
        raise UserError(f'{name}: found values {shapes} and groups {arrays[-1].shape}; want (N,) each')
    return arrays


def _group_sums(values: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the values of each group."""
    member = np.unique(groups, return_inverse=True)[1]
    return np.bincount(member, values), np.bincount(member).astype(np.float64)


def _flips(groups: int, exact: bool, draws: int, seed: int) -> Iterator[np.ndarray]:
    """(at most _BLOCK, groups) of +1 and -1: all of them once, or `draws` random ones."""
    rng = np.random.default_rng(seed)
    total = 2 ** groups if exact else draws
    for start in range(0, total, _BLOCK):
        numbers = np.arange(start, min(start + _BLOCK, total))
        bits = numbers[:, None] >> np.arange(groups) & 1 if exact else rng.integers(0, 2, (len(numbers), groups))
        yield 1.0 - 2.0 * bits
