"""Adversarial, reconstruction and flow losses on values worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from talkinghead_jax.losses import flow, gan, image


def scores(*values):
    return [jnp.full((1, 2, 2, 1), value) for value in values]


def test_hinge_values():
    real, fake = scores(2.0, 0.25), scores(-3.0, 0.5)
    np.testing.assert_allclose(gan.discriminator_hinge(real, fake), [0 + 0 + 0.75 + 1.5])
    np.testing.assert_allclose(gan.generator_hinge(fake), [3.0 - 0.5])


def test_the_generators_hinge_is_not_clipped():
    np.testing.assert_allclose(jax.grad(lambda s: gan.generator_hinge([s]).sum())(jnp.full((1, 1, 1, 1), 7.0)), -1)


def test_feature_matching_moves_the_fake_only():
    real = [[jnp.ones((1, 2, 2, 3)), jnp.zeros((1, 1, 1, 4))]]
    fake = [[jnp.zeros((1, 2, 2, 3)), jnp.ones((1, 1, 1, 4))]]
    np.testing.assert_allclose(gan.feature_matching(real, fake), [2.0])
    assert not any(g.any() for g in jax.tree.leaves(jax.grad(lambda r: gan.feature_matching(r, fake).sum())(real)))


def test_weighted_l1_is_zero_without_weight():
    ones = jnp.ones((2, 4, 4, 3))
    weight = jnp.zeros((2, 4, 4)).at[0, :2].set(1.0)
    np.testing.assert_allclose(image.l1(ones, -ones, weight), [2.0, 0.0])
    np.testing.assert_allclose(image.l1(ones, -ones), [2.0, 2.0])


def test_reconstruction_mixes_l1_and_ssim():
    x = jax.random.uniform(jax.random.key(0), (2, 16, 16, 3), minval=-1)
    np.testing.assert_allclose(image.reconstruction(x, x, 0.3), 0, atol=1e-5)
    np.testing.assert_allclose(image.reconstruction(x, x + 0.1, 0.0), 0.1, atol=1e-6)
    assert (image.reconstruction(x, -x, 0.5) > 0.5 * image.l1(x, -x)).all()


def test_mesh_flow_counts_weighted_pixels_only():
    predicted = jnp.zeros((1, 4, 4, 2))
    displacement = jnp.zeros((1, 4, 4, 2)).at[:, 1].set(3.0).at[:, 2].set(100.0)
    weight = jnp.zeros((1, 4, 4)).at[:, 1].set(1.0)
    np.testing.assert_allclose(flow.mesh_flow(predicted, displacement, weight), [6.0])
    np.testing.assert_allclose(flow.mesh_flow(predicted, displacement, 0 * weight), [0.0])


def test_landmark_flow_is_zero_for_the_true_flow_and_ignores_points_outside():
    target = jnp.tile(jnp.array([[[2.0, 3.0]]]), (1, 68, 1)).at[:, 5].set(-4.0)
    source = target + jnp.array([[[1.0, -2.0]]])
    true = jnp.broadcast_to(jnp.array([1.0, -2.0]), (1, 8, 8, 2))
    np.testing.assert_allclose(flow.landmark_flow(true, target, source), [0.0], atol=1e-6)
    np.testing.assert_allclose(flow.landmark_flow(0 * true, target, source), [3.0], atol=1e-6)
