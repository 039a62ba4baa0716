"""The Frechet inception distance: features as PyTorch computed them, moments however they come, distances exact."""

import pathlib

import jax
import numpy as np
import pytest
import scipy.linalg

from talkinghead_jax.errors import UserError
from talkinghead_jax.metrics import fid
from third_party import torch_file
from third_party.inception_v3 import convert

GOLDEN = pathlib.Path(__file__).parents[1] / 'third_party/golden'
SIZE = 64
pytestmark = pytest.mark.usefixtures('quick_compilation')


@pytest.fixture(scope='module')
def golden():
    with np.load(GOLDEN / 'inception_narrow.npz') as file:
        return dict(file)


def sample(seed, n, size=SIZE):
    """(n, size) float32: correlated, skew and positive, as features are; another distribution with each seed."""
    rng = np.random.default_rng(seed)
    mixture = rng.normal(size=(size, size)) * rng.uniform(0.1, 3, size) / size ** 0.5
    return np.maximum(rng.normal(size=(n, size)) @ mixture + rng.uniform(0, 2, size), 0).astype(np.float32)


def moments(*parts):
    found = fid.Moments.empty(parts[0].shape[1])
    for part in parts:
        found.add(part)
    return found


def by_square_root(first, second):
    """The textbook's formula, by other means: `np.cov` and the square root of a product that is not symmetric."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    covariances = [np.cov(x, rowvar=False) for x in (first, second)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    assert np.abs(np.imag(root)).max() < 1e-6
    gap = first.mean(0) - second.mean(0)
    return gap @ gap + np.trace(covariances[0] + covariances[1] - 2 * root.real)


def test_features_are_those_of_pytorch_whatever_else_is_in_the_batch(golden):
    params = convert.convert(torch_file.read(GOLDEN / 'inception_narrow.pth', convert.wanted), 16)
    of = jax.jit(fid.features)
    found = np.asarray(of(params, golden['small']))
    assert golden['pictured'].std() > 0.1
    np.testing.assert_allclose(found, golden['pictured'], atol=1e-4, rtol=1e-4)
    beside_another = np.asarray(of(params, np.stack([np.full_like(golden['small'][0], 255), golden['small'][0]])))
    np.testing.assert_allclose(beside_another[1], found[0], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize('name', ['small', 'large'])
def test_pictures_are_resized_as_by_pytorch(golden, name):
    found = np.asarray(fid.resized(golden[name]))
    assert found.shape == (len(golden[name]), 299, 299, 3)
    np.testing.assert_allclose(found[0, ::23, ::19], golden[f'{name}_resized'], atol=2e-6)


def test_moments_are_those_of_numpy():
    rows = sample(0, 500)
    found = moments(rows)
    np.testing.assert_allclose(found.mean(), rows.astype(np.float64).mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance(), np.cov(rows.astype(np.float64), rowvar=False), atol=1e-12)


def test_distance_is_that_of_the_textbook():
    first, second = sample(1, 600), sample(2, 400)
    wanted = by_square_root(first, second)
    assert wanted > 5
    assert fid.frechet_distance(moments(first), moments(second)) == pytest.approx(wanted, abs=1e-6)
    assert fid.frechet_distance(moments(second), moments(first)) == pytest.approx(wanted, abs=1e-6)
    pair = [(x.astype(np.float64).mean(0), np.cov(x.astype(np.float64), rowvar=False)) for x in (first, second)]
    assert fid.frechet_distance(*pair) == pytest.approx(wanted, abs=1e-6)
    assert fid.frechet_distance(moments(first), fid.rooted(moments(second))) == fid.frechet_distance(*map(moments, (
        first, second)))


def test_gaussians_with_known_distance():
    scales, means = np.array([[1.0, 2.0, 0.0], [3.0, 0.5, 2.0]]), np.array([[0.0, 1.0, 2.0], [1.0, 1.0, 0.0]])
    turn = scipy.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    pair = [(turn @ mean, turn @ np.diag(scale ** 2) @ turn.T) for scale, mean in zip(scales, means, strict=True)]
    wanted = ((scales[0] - scales[1]) ** 2).sum() + ((means[0] - means[1]) ** 2).sum()  # commuting covariances
    assert fid.frechet_distance(*pair) == pytest.approx(wanted, abs=1e-7)


@pytest.mark.parametrize('n', [2, 20, 300])  # fewer frames than features, and more
def test_identical_sets_have_no_distance(n):
    rows = sample(3, n)
    order = np.random.default_rng(0).permutation(n)
    same = moments(rows), moments(*np.array_split(rows[order], 2))
    assert abs(fid.unclamped_distance(*same)) < 1e-8
    assert fid.frechet_distance(*same) >= 0


def test_fewer_frames_than_features():
    first, second = sample(4, 30).astype(np.float64), sample(5, 20).astype(np.float64)
    found = fid.frechet_distance(moments(first), moments(second))
    # The trace of the root of S1 S2 is the sum of the singular values of X1 X2^T: no singular matrix is met.
    centred = [(x - x.mean(0)) / (len(x) - 1) ** 0.5 for x in (first, second)]
    overlap = scipy.linalg.svdvals(centred[0] @ centred[1].T).sum()
    gap = first.mean(0) - second.mean(0)
    wanted = gap @ gap + sum((x ** 2).sum() for x in centred) - 2 * overlap
    assert found == pytest.approx(wanted, abs=1e-9)
    # pytorch-fid's way around a singular product tends to the same as what it adds to the diagonals shrinks.
    errors = []
    for added in (1e-4, 1e-6, 1e-8):
        root = scipy.linalg.sqrtm((np.cov(first.T) + added * np.eye(SIZE))
                                  @ (np.cov(second.T) + added * np.eye(SIZE))).real
        errors.append(abs(wanted + 2 * overlap - 2 * np.trace(root) - found))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.01


def test_however_the_frames_come_the_moments_are_the_same():
    rows = sample(6, 90)
    whole, merged, resumed = moments(rows), moments(rows[:30]), moments(rows[:50])
    merged.merge(moments(rows[30:31], rows[31:]))
    resumed = fid.Moments.from_arrays({name: array.copy() for name, array in resumed.as_arrays().items()})
    resumed.add(rows[50:])
    for found in (merged, resumed):
        assert found.n == whole.n == 90
        np.testing.assert_allclose(found.total, whole.total, rtol=1e-14)
        np.testing.assert_allclose(found.products, whole.products, rtol=1e-13)


def test_a_snapshot_is_exact_and_apart():
    found = moments(sample(7, 10))
    copy = fid.Moments.from_arrays(found.as_arrays())
    former = found.products.copy()
    copy.add(sample(8, 5))
    np.testing.assert_array_equal(found.products, former)
    assert (found.n, copy.n) == (10, 15)


def test_mistakes_are_named():
    with pytest.raises(UserError, match='FID of 1 frames'):
        fid.frechet_distance(moments(sample(0, 1)), moments(sample(0, 9)))
    with pytest.raises(UserError, match='64 and of 32 numbers'):
        fid.frechet_distance(moments(sample(0, 9)), moments(sample(0, 9, 32)))
    with pytest.raises(UserError, match='not finite'):
        moments(np.full((2, 4), np.inf))


def test_few_frames_are_warned_of():
    assert fid.bias_warning(10_000) == fid.bias_warning(20_000, 3.0) == ''
    assert 'FID of 9999 frames' in fid.bias_warning(9999)
    assert 'halves' not in fid.bias_warning(9999)
    assert fid.bias_warning(501, 154.2).endswith(
        '; two halves of the true frames score 154.20 against each other, of different clips and about 250 frames '
        'each')
