"""`fid@pytorch-fid`: the Frechet inception distance of two sets of pictures (Heusel et al., NeurIPS 2017).

Features on the device in float32, a picture at a time as far as the result goes; their moments and the distance on
the host in float64, for in float32 a distance of 154 is off by 0.5.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from talkinghead_jax.errors import UserError
from third_party.inception_v3.network import SIZE, InceptionV3

NETWORK = 'inception_v3_fid'
ENOUGH = 10_000  # frames from which on the bias is not worth a warning
Gaussian = tuple[np.ndarray, np.ndarray]  # (D,) mean and (D,D) covariance


def features(params: Mapping[str, Any], images: jax.Array) -> jax.Array:
    """What the distance compares; as pytorch-fid 0.3: resized, then brought from [0, 1] to [-1, 1].

    Args:
      params: of `NETWORK`.
      images: (B,H,W,3) RGB in [0, 255], of any size.

    Returns:
      (B, 2048) float32, each row that of its picture alone.
    """
    return InceptionV3.of(params).apply({'params': params}, 2 * resized(images) - 1)


def resized(images: jax.Array) -> jax.Array:
    """(B,H,W,3) in [0, 255] to (B,299,299,3) in [0, 1]: bilinear between pixel centres, without antialiasing."""
    shape = (images.shape[0], SIZE, SIZE, images.shape[3])
    return jax.image.resize(images.astype(jnp.float32) / 255, shape, 'bilinear', antialias=False)


@dataclasses.dataclass
class Moments:
    """Sums over features, from which mean and covariance follow; float64, its size that of D x D numbers.

    Attributes:
      n: how many rows were added.
      total: (D,) their sum.
      products: (D,D) the sum of their outer products.
    """

    n: int
    total: np.ndarray
    products: np.ndarray

    @classmethod
    def empty(cls, size: int = 2048) -> Self:
        """Of no features yet, which will be `size` numbers each."""
        return cls(0, np.zeros(size), np.zeros((size, size)))

    def add(self, features: np.ndarray) -> None:
        """Take in (B,D) features; of a padded batch, the rows that count.

        Raises:
          UserError: they are not finite.
        """
        rows = np.asarray(features, np.float64)
        if not np.isfinite(rows).all():
            raise UserError(f'the features of {NETWORK} are not finite; want the published weights')
        self.n += len(rows)
        self.total += rows.sum(0)
        self.products += rows.T @ rows

    def merge(self, other: 'Moments') -> None:
        """Take in what `other` was given, as if it had been added here."""
        self.n += other.n
        self.total += other.total
        self.products += other.products

    def mean(self) -> np.ndarray:
        """(D,); NaN of no features."""
        return self.total / self.n if self.n else np.full(self.total.shape, np.nan)

    def covariance(self) -> np.ndarray:
        """(D,D), of a sample (divided by n - 1).

        Raises:
          UserError: there are fewer than two rows.
        """
        if self.n < 2:
            raise UserError(f'FID of {self.n} frames has no covariance; want 2 frames or more')
        return (self.products - np.outer(self.total, self.mean())) / (self.n - 1)

    def as_arrays(self) -> dict[str, np.ndarray]:
        """For a snapshot; `from_arrays` reads it back exactly."""
        return {'n': np.array(self.n), 'total': self.total, 'products': self.products}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """What `as_arrays` gave, as a copy of its own."""
        return cls(int(arrays['n']), np.array(arrays['total']), np.array(arrays['products']))


@dataclasses.dataclass(frozen=True)
class Rooted:
    """A Gaussian with the root of its covariance, which takes most of a distance's time: for what is compared often.

    Attributes:
      mean: (D,).
      variance: the trace of the covariance.
      root: (D,D) R with R R^T = covariance.
    """

    mean: np.ndarray
    variance: float
    root: np.ndarray


def rooted(statistics: Moments | Gaussian) -> Rooted:
    """Moments, or mean (D,) and covariance (D,D), made ready for `frechet_distance`.

    Raises:
      UserError: of moments of fewer than two rows.
    """
    mean, covariance = _gaussian(statistics)
    return Rooted(mean, float(np.trace(covariance)), _root(covariance))


def frechet_distance(first: Moments | Gaussian | Rooted, second: Moments | Gaussian | Rooted) -> float:
    """Squared Frechet distance of two Gaussians (Dowson and Landau, J. Multivariate Analysis 12, 1982).

    |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1^1/2 S2 S1^1/2)^1/2. The last trace is the sum of the singular values of
    S1^1/2 S2^1/2. Taken so, it is exact to rounding where eigenvalues of the product would lose half of the digits,
    as they do with fewer frames than features; and it is always finite, so that there is no need of the 1e-6 that
    pytorch-fid adds to the diagonals where its square root is not (and whose limit at 0 this is).

    Args:
      first, second: moments, or mean (D,) and covariance (D,D), or what `rooted` made of either.

    Returns:
      At least 0.

    Raises:
      UserError: fewer than two rows, or features of different sizes.
    """
    return max(unclamped_distance(first, second), 0.0)


def unclamped_distance(first: Moments | Gaussian | Rooted, second: Moments | Gaussian | Rooted) -> float:
    """As `frechet_distance`, but as far below 0 as rounding takes it."""
    first, second = (x if isinstance(x, Rooted) else rooted(x) for x in (first, second))
    if first.mean.shape != second.mean.shape:
        raise UserError(f'FID of features of {len(first.mean)} and of {len(second.mean)} numbers; want those of one '
                        'network')
    overlap = np.linalg.svd(first.root.T @ second.root, compute_uv=False).sum()
    return float(((first.mean - second.mean) ** 2).sum() + first.variance + second.variance - 2 * overlap)


def bias_warning(n: int, halves: float | None = None) -> str:
    """What to know about a distance of few frames: '' from `ENOUGH` on, else a sentence.

    The expectation of the distance falls with the number of frames; two samples of one distribution score well above
    0 against each other (Chong and Forsyth, "Effectively Unbiased FID", CVPR 2020).

    Args:
      n: frames, of the smaller set.
      halves: distance of two halves of the true frames, where it is known: of n / 2 frames each, and of different
        clips, so that it is more than the bias of n frames alone.
    """
    if n >= ENOUGH:
        return ''
    scale = '' if halves is None else (f'; two halves of the true frames score {halves:.2f} against each other, of '
                                       f'different clips and about {n // 2} frames each')
    return f'FID of {n} frames is biased upwards, want {ENOUGH} or more{scale}'


def _gaussian(statistics: Moments | Gaussian) -> Gaussian:
    if isinstance(statistics, Moments):
        return statistics.mean(), statistics.covariance()
    mean, covariance = (np.asarray(x, np.float64) for x in statistics)
    return mean, covariance


def _root(covariance: np.ndarray) -> np.ndarray:
    """(D,D) matrix R with R R^T = covariance; R is as good as the symmetric root, from which it differs by a turn."""
    values, vectors = np.linalg.eigh(covariance)
    # With fewer frames than features most eigenvalues are rounding errors, whose roots would add up.
    noise = len(values) * np.finfo(np.float64).eps * np.abs(values).max()
    return vectors * np.sqrt(np.where(values > noise, values, 0))
