import jax
import jax.numpy as jnp
import numpy as np

from talkinghead_jax.losses import landmark

RNG = np.random.default_rng(7)


def test_coefficient_error_is_the_landmark_error():
    basis = np.linalg.qr(RNG.normal(size=(204, 5)))[0].T.reshape(5, 68, 3)
    deviation = np.array([5, 4, 3, 2, 1.0])
    predicted, true = RNG.normal(size=(2, 2, 3, 5))
    gap = np.einsum('btp,plc->btlc', (predicted - true) * deviation, basis)
    found = landmark.coefficient_error(
        *map(jnp.float32, (predicted, true, deviation)), jnp.ones((2, 3), bool))
    np.testing.assert_allclose(found, (gap ** 2).sum(-1).mean(), rtol=1e-5)


def test_masked_frames_do_not_count():
    predicted, true = jnp.float32(RNG.normal(size=(2, 2, 4, 5)))
    mask = jnp.array([[True, True, True, False]] * 2)
    deviation = jnp.ones(5)
    for loss in (landmark.coefficient_error, landmark.velocity_error):
        short = loss(predicted[:, :3], true[:, :3], deviation, mask[:, :3])
        np.testing.assert_allclose(loss(predicted, true, deviation, mask), short, rtol=1e-5)


def test_a_constant_offset_has_no_velocity_error():
    predicted, mask, deviation = jnp.float32(RNG.normal(size=(2, 4, 5))), jnp.ones((2, 4), bool), jnp.ones(5)
    assert landmark.velocity_error(predicted, predicted + 1, deviation, mask) < 1e-9


def test_mouth_error_of_a_known_shift():
    faces = jnp.float32(RNG.normal(size=(2, 3, 68, 3)))
    shift = jnp.zeros((1, 1, 68, 3)).at[..., 48:, :].set(jnp.array([1.0, 2.0, 2.0])[None, None, None])
    found = jax.jit(landmark.mouth_error)(faces + shift, faces, jnp.ones((2, 3), bool))
    np.testing.assert_allclose(found, 9.0, rtol=1e-5)
