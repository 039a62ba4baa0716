import jax
import jax.numpy as jnp
import numpy as np

from talkinghead_jax.losses import motion

RNG = np.random.default_rng(8)
CURVE = jnp.float32(RNG.normal(size=(2, 30, 6)).cumsum(1))
FULL = jnp.ones((2, 30), bool)


def test_known_values():
    np.testing.assert_allclose(motion.position_error(CURVE + 2, CURVE, FULL), 4.0, rtol=1e-5)
    assert motion.velocity_error(CURVE + 2, CURVE, FULL) < 1e-9
    assert motion.amplitude_error(CURVE + 2, CURVE, FULL) < 1e-6
    for loss in (motion.amplitude_error, motion.speed_error):
        np.testing.assert_allclose(loss(2 * CURVE, CURVE, FULL), np.log(2) ** 2, rtol=1e-2)


def test_clips_that_only_pad_do_not_count():
    wrong = CURVE.at[1].multiply(3.0)
    clips = jnp.array([True, False])
    assert motion.amplitude_error(wrong, CURVE, FULL & clips[:, None], clips) < 1e-9
    assert motion.speed_error(wrong, CURVE, FULL & clips[:, None], clips) < 1e-9


def test_gradients_are_finite_for_a_still_head():
    for loss in (motion.position_error, motion.velocity_error, motion.amplitude_error, motion.speed_error):
        gradient = jax.grad(loss)(jnp.zeros_like(CURVE), CURVE, FULL)
        assert np.isfinite(gradient).all()
