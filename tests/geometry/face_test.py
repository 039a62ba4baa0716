"""The 68-point layout, its mirror, the closed mouth and the expression basis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkinghead_jax.geometry import face


def faces(count=50):
    return face.TEMPLATE + np.random.default_rng(0).normal(scale=3, size=(count, 68, 3))


def test_template_is_its_own_mirror():
    np.testing.assert_allclose(face.mirror(face.TEMPLATE), face.TEMPLATE)


def test_mirror_is_an_involution_that_swaps_sides():
    points = faces()
    np.testing.assert_allclose(face.mirror(face.mirror(points)), points, atol=1e-12)
    assert sorted(face.MIRROR) == list(range(68))
    np.testing.assert_allclose(face.mirror(points)[:, 36, 0], 2 * face.AXIS_X - points[:, 45, 0])
    for region in (face.JAW, face.BROWS, face.NOSE, face.MOUTH):
        assert {face.MIRROR[i] for i in region} == set(region)
    assert {face.MIRROR[i] for i in face.RIGHT_EYE} == set(face.LEFT_EYE)
    assert {face.MIRROR[i] for i in face.RIGID_POINTS} == set(face.RIGID_POINTS)
    assert len(set(face.RIGID_POINTS)) == 27


def test_numpy_and_jax_agree():
    points = faces(3).astype(np.float32)
    for function in (face.mirror, face.mouth_opening, face.eye_opening, face.identity_offset, face.close_mouth):
        assert isinstance(function(points), np.ndarray)
        assert isinstance(function(jnp.asarray(points)), jax.Array)
        np.testing.assert_allclose(function(jnp.asarray(points)), function(points), atol=1e-4)


def test_close_mouth_closes_an_open_mouth_and_leaves_the_upper_face():
    opened = face.TEMPLATE.copy()
    opened[[*range(55, 60), 65, 66, 67, *range(5, 12)]] += [0, 14, 0]
    assert face.mouth_opening(opened) > 10
    closed = face.close_mouth(opened)
    assert face.mouth_opening(closed) < 1
    np.testing.assert_array_equal(closed[17:48], opened[17:48])
    assert closed[8, 1] < opened[8, 1], 'the chin follows'
    assert closed[57, 1] > closed[66, 1], 'the lower lip stays below the inner one'
    again = face.close_mouth(closed)
    assert np.abs(again - closed).max() < 1, 'a closed mouth stays as it is'


def test_eye_opening_is_the_mean_lift_of_the_lids():
    lifted = face.TEMPLATE.copy()
    before = face.eye_opening(lifted)
    distances = [np.linalg.norm(lifted[upper] - lifted[lower]) for upper, lower in face.EYELIDS]
    assert before == pytest.approx(np.mean(distances) / np.linalg.norm(lifted[36] - lifted[39]))
    assert face.eye_opening(2 * lifted) == pytest.approx(before)
    for upper, lower in face.EYELIDS:
        lifted[upper] += 2 * (lifted[upper] - lifted[lower])
    assert face.eye_opening(lifted) == pytest.approx(3 * before)
    np.testing.assert_allclose(face.eye_opening(face.mirror(lifted)), face.eye_opening(lifted))


def test_mouth_opening_has_a_finite_gradient_when_closed():
    meeting = jnp.full((68, 3), 3.0)
    assert np.isfinite(jax.grad(face.mouth_opening)(meeting)).all()


def test_identity_offset_of_the_template_is_zero():
    assert not face.identity_offset(face.TEMPLATE.astype(np.float32)).any()


def test_pca_equals_the_eigenvectors_of_the_covariance():
    rng = np.random.default_rng(1)
    modes = rng.normal(size=(6, 68 * 3)) * np.array([9, 7, 5, 3, 2, 1])[:, None]
    samples = (rng.normal(size=(300, 6)) @ modes + 40).reshape(-1, 68, 3)
    pca = face.fit_pca(samples, 6)
    flat = samples.reshape(300, -1)
    values, vectors = np.linalg.eigh(np.cov(flat.T))
    values, vectors = values[::-1][:6], vectors[:, ::-1][:, :6].T
    np.testing.assert_allclose(pca['pca_mean'].reshape(-1), flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(pca['pca_deviation'], np.sqrt(values), rtol=1e-4)
    overlap = np.abs((pca['pca_basis'].reshape(6, -1) * vectors).sum(1))
    np.testing.assert_allclose(overlap, 1, atol=1e-4)
    coefficients = face.project(pca, samples)
    np.testing.assert_allclose(coefficients.std(0, ddof=1), 1, rtol=1e-3)
    np.testing.assert_allclose(face.reconstruct(pca, coefficients), samples, atol=1e-2)
    np.testing.assert_allclose(face.project(pca, face.reconstruct(pca, coefficients)), coefficients, atol=1e-3)


def test_pca_signs_are_fixed_and_too_few_frames_are_named():
    samples = faces(40)
    one, two = face.fit_pca(samples, 5), face.fit_pca(samples[::-1], 5)
    np.testing.assert_allclose(one['pca_basis'], two['pca_basis'], atol=1e-4)
    with pytest.raises(ValueError, match='20 components'):
        face.fit_pca(samples[:20], 20)
