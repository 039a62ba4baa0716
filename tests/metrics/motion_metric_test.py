import jax
import jax.numpy as jnp
import numpy as np

from talkinghead_jax.geometry import rigid
from talkinghead_jax.metrics import motion

TIME = np.arange(100) / 25
WAVE = np.float32(np.sin(2 * np.pi * 1.0 * TIME))[None, :, None] * np.ones((1, 1, 6), np.float32)  # 1 Hz, 4 periods
MASK = np.arange(100)[None] < 50


def test_rotation_error_is_the_angle_between():
    base = jnp.array([0.3, -0.5, 0.2])
    turned = rigid.rotation_matrix(base) @ rigid.rotation_matrix(jnp.deg2rad(jnp.array([0.0, 10.0, 0.0])))
    first = jnp.broadcast_to(jnp.concatenate([base, jnp.zeros(3)]), (2, 5, 6))
    second = jnp.broadcast_to(jnp.concatenate([rigid.rotation_vector(turned), jnp.zeros(3)]), (2, 5, 6))
    np.testing.assert_allclose(motion.rotation_error(first, second), 10, rtol=1e-3)
    np.testing.assert_allclose(motion.rotation_error(first, first), 0, atol=0.05)


def test_translation_and_pose_error():
    moved = WAVE + np.float32([0.1, 0.1, 0.1, 3, 4, 0])[None, None]
    np.testing.assert_allclose(motion.translation_error(moved, WAVE), 5, rtol=1e-5)
    np.testing.assert_allclose(motion.pose_error(moved, WAVE), 7.3 / 6, rtol=1e-4)


def test_amplitude_velocity_and_jerk_of_a_sine():
    np.testing.assert_allclose(motion.amplitude(WAVE), np.sqrt(0.5), rtol=1e-5)
    np.testing.assert_allclose(motion.speed(WAVE), 2 * np.pi * np.sqrt(0.5), rtol=1e-2)
    jerk, _ = motion.jerk(WAVE)
    assert jerk.shape == (1, 97, 6)
    np.testing.assert_allclose(np.abs(jerk).max(), (2 * np.pi) ** 3, rtol=2e-2)
    assert motion.jerk(WAVE, MASK)[1].sum() == 47


def test_ratios():
    np.testing.assert_allclose(motion.amplitude_ratio(0.5 * WAVE, WAVE), 0.5, rtol=1e-4)
    np.testing.assert_allclose(motion.velocity_ratio(0.5 * WAVE, WAVE), 0.5, rtol=1e-4)
    np.testing.assert_allclose(motion.amplitude_error(0.5 * WAVE, WAVE), 0.5, rtol=1e-4)
    np.testing.assert_allclose(motion.amplitude_error(1.5 * WAVE, WAVE), 0.5, rtol=1e-4)
    np.testing.assert_allclose(motion.amplitude_error(0 * WAVE, WAVE), 1, rtol=1e-4)
    # Half the axes doubled, half of them halved: right on average, wrong for each.
    mixed = WAVE * np.float32([2, 2, 2, 0.5, 0.5, 0.5])[None, None]
    np.testing.assert_allclose(motion.amplitude_ratio(mixed, WAVE), 1, rtol=1e-4)
    np.testing.assert_allclose(motion.amplitude_error(mixed, WAVE), 0.75, rtol=1e-4)


def test_correlation():
    np.testing.assert_allclose(motion.curve_correlation(3 * WAVE + 1, WAVE), 1, rtol=1e-4)
    quarter = np.roll(WAVE, 25 // 4, axis=1)
    assert abs(motion.curve_correlation(quarter, WAVE)[0]) < 0.1
    np.testing.assert_allclose(motion.curve_correlation(-WAVE, WAVE, MASK), -1, rtol=1e-4)


def test_seam_jump_is_one_where_the_motion_goes_on():
    ramp = np.arange(20, dtype=np.float32)[None, :, None] * np.ones((1, 1, 6), np.float32)
    np.testing.assert_allclose(motion.seam_jump(ramp[:, :10], ramp[:, 10:]), 1, rtol=1e-5)
    np.testing.assert_allclose(motion.seam_jump(ramp[:, :10], ramp[:, 13:]), 4, rtol=1e-5)


def test_what_is_masked_does_not_count():
    wrong = np.where(MASK[..., None], WAVE, 99).astype(np.float32)
    for metric in (motion.rotation_error, motion.translation_error, motion.pose_error, motion.amplitude_ratio,
                   motion.velocity_ratio, motion.amplitude_error, motion.curve_correlation):
        short = metric(0.7 * WAVE[:, :50], WAVE[:, :50])
        np.testing.assert_allclose(jax.jit(metric)(0.7 * wrong, wrong, MASK), short, rtol=1e-4, atol=1e-5)
