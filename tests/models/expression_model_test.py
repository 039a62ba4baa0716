import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkinghead_jax.errors import UserError
from talkinghead_jax.models.expression import ENCODERS, ExpressionNet


def _chunks(frames: int) -> np.ndarray:
    return np.random.default_rng(1).integers(-6000, 6000, (2, frames + 6, 640)).astype(np.int16)


@pytest.mark.parametrize('encoder', ENCODERS)
def test_output_t_depends_on_window_t_only(encoder):
    net = ExpressionNet(encoder, width=4, components=5)
    chunks, reference = _chunks(6), jnp.ones((2, 5))
    params = net.init(jax.random.key(0), chunks, reference)
    whole = jax.jit(net.apply)(params, chunks, reference)
    assert whole.shape == (2, 6, 5)
    parts = [net.apply(params, chunks[:, t:t + 7], reference) for t in range(6)]
    np.testing.assert_allclose(whole, jnp.concatenate(parts, axis=1), atol=1e-5)


@pytest.mark.parametrize('encoder', ENCODERS)
def test_the_whole_window_is_heard(encoder):
    net = ExpressionNet(encoder, width=4, components=5)
    chunks, reference = _chunks(1), jnp.ones((2, 5))
    params = net.init(jax.random.key(0), chunks, reference)
    usual = net.apply(params, chunks, reference)
    for chunk in range(7):
        changed = chunks.copy()
        changed[:, chunk] = 0
        assert np.abs(net.apply(params, changed, reference) - usual).max() > 1e-4, chunk


def test_the_reference_expression_counts():
    net = ExpressionNet('log_mel', width=4, components=5)
    params = net.init(jax.random.key(0), _chunks(1), jnp.ones((2, 5)))
    other = net.apply(params, _chunks(1), -jnp.ones((2, 5))) - net.apply(params, _chunks(1), jnp.ones((2, 5)))
    assert np.abs(other).max() > 1e-3


def test_unknown_encoder_is_the_users_mistake():
    with pytest.raises(UserError, match=r"'mfcc'; want one of log_mel, raw"):
        ExpressionNet('mfcc', 4, 5).init(jax.random.key(0), _chunks(1), jnp.ones((2, 5)))
