"""Generated weights, parallel SPADE and spectral norm against naive NumPy versions."""

import jax
import jax.numpy as jnp
import naive_layers as naive
import numpy as np
import pytest

from talkinghead_jax.nn import generated, spade, spectral
from talkinghead_jax.nn.initialization import initialize


def test_generated_conv_uses_each_examples_own_kernel():
    rng = np.random.default_rng(0)
    x, theta = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(2, 6, 6))
    got = generated.generated_conv(jnp.asarray(x, jnp.float32), jnp.asarray(theta, jnp.float32))
    np.testing.assert_allclose(got, [naive.generated_conv(*pair) for pair in zip(x, theta, strict=True)], atol=1e-4)


def test_row_mlp_against_loops():
    matrix = np.random.default_rng(3).normal(size=(2, 4, 4))
    module = generated.RowMlp(3, 5)
    variables = naive.randomized(initialize(module, jax.random.key(1), jnp.asarray(matrix, jnp.float32)))
    got = module.apply(variables, jnp.asarray(matrix, jnp.float32))
    want = [naive.row_mlp(example, variables['params'], 5) for example in matrix]
    np.testing.assert_allclose(got, want, atol=1e-4)


def spade_block(x, gamma, beta):
    return naive.instance_norm(x) * (1 + gamma) + beta


def test_parallel_spade_is_the_sum_of_three_separate_blocks():
    """One with generated weights, two with static ones, whose kernels are the rows of the joint convolution."""
    rng = np.random.default_rng(1)
    x, guide = rng.normal(size=(2, 4, 5, 3)), rng.normal(size=(2, 4, 5, 6))
    statics = [rng.normal(size=(2, 4, 5, 2)), rng.normal(size=(2, 4, 5, 4))]
    theta = rng.normal(size=(2, 2, 3, 7))
    module = spade.ParallelSpade()
    arguments = [jnp.asarray(a, jnp.float32) for a in (x, guide, theta)]
    static_arguments = [jnp.asarray(a, jnp.float32) for a in statics]
    variables = naive.randomized(initialize(module, jax.random.key(0), *arguments, static_arguments))
    conv = variables['params']['Conv_0']
    blocks = [{'kernel': conv['kernel'][:, :, :2], 'bias': conv['bias']}, {'kernel': conv['kernel'][:, :, 2:]}]
    got = module.apply(variables, *arguments, static_arguments)
    for b in range(2):
        want = spade_block(x[b], *(naive.generated_conv(guide[b], theta[b, i]) for i in range(2)))
        for static, params in zip(statics, blocks, strict=True):
            want = want + spade_block(x[b], *np.split(naive.conv(static[b], params), 2, -1))
        np.testing.assert_allclose(got[b], want, atol=2e-4)


@pytest.mark.parametrize('scale', [0.0, 1.0])
def test_parallel_spade_starts_at_its_scale(scale):
    """Where the guidance says nothing, the initial biases of the three blocks leave norm(x) times the scale."""
    rng = np.random.default_rng(2)
    x = jnp.asarray(rng.normal(size=(1, 4, 5, 3)), jnp.float32)
    nothing = jnp.zeros((1, 4, 5, 2))
    module = spade.ParallelSpade(scale)
    arguments = (x, nothing, jnp.zeros((1, 2, 3, 3)), [nothing, nothing])
    got = module.apply(initialize(module, jax.random.key(0), *arguments), *arguments)
    np.testing.assert_allclose(got[0], scale * naive.instance_norm(np.asarray(x[0])), atol=1e-4)


def test_spectral_norm_brings_the_largest_singular_value_to_one():
    module = spectral.SpectralConv(6, 3)
    x = jax.random.normal(jax.random.key(0), (1, 5, 5, 4))
    variables = initialize(module, jax.random.key(1), x)
    params, state = {'params': variables['params']}, {'spectral': variables['spectral']}
    step = jax.jit(lambda state: module.apply({**params, **state}, x, mutable=['spectral'])[1])
    for _ in range(100):
        state = step(state)
    # The layer is linear, so its kernel shows in what it makes of single bright pixels.
    bright = jnp.zeros((36, 5, 5, 4))
    for tap, (row, column, channel) in enumerate(np.ndindex(3, 3, 4)):
        bright = bright.at[tap, 1 + row, 1 + column, channel].set(1.0)
    matrix = np.asarray(module.apply({**params, **state}, bright))[:, 2, 2]  # the bias starts at 0
    np.testing.assert_allclose(np.linalg.svd(matrix, compute_uv=False)[0], 1, atol=1e-4)
    plain = np.asarray(params['params']['kernel']).reshape(-1, 6)
    np.testing.assert_allclose(matrix, plain / np.linalg.svd(plain, compute_uv=False)[0], atol=1e-4)


def test_spectral_state_moves_in_training_only():
    module = spectral.SpectralConv(6, 3)
    x = jnp.ones((1, 5, 5, 4))
    variables = initialize(module, jax.random.key(1), x)
    _, state = module.apply(variables, x, mutable=['spectral'])
    assert not np.array_equal(state['spectral']['u'], variables['spectral']['u'])
    assert module.apply(variables, x).shape == (1, 5, 5, 6)
