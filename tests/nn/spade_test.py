"""Generated weights, parallel SPADE and spectral norm against naive NumPy versions."""

import jax
import jax.numpy as jnp
import numpy as np

from talkinghead_jax.nn import generated, spade, spectral
from talkinghead_jax.nn.initialization import initialize


def naive_norm(x):
    mean = x.mean((1, 2), keepdims=True)
    return (x - mean) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)


def naive_generated_conv(x, theta):
    out = np.zeros((*x.shape[:3], theta.shape[1]))
    for b in range(x.shape[0]):
        for y in range(x.shape[1]):
            for column in range(x.shape[2]):
                for o in range(theta.shape[1]):
                    out[b, y, column, o] = x[b, y, column] @ theta[b, o, :-1] + theta[b, o, -1]
    return out


def test_generated_conv_uses_each_examples_own_kernel():
    rng = np.random.default_rng(0)
    x, theta = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(2, 6, 6))
    got = generated.generated_conv(jnp.asarray(x, jnp.float32), jnp.asarray(theta, jnp.float32))
    np.testing.assert_allclose(got, naive_generated_conv(x, theta), atol=1e-4)


def test_row_mlp_treats_rows_alike():
    matrix = jax.random.normal(jax.random.key(0), (2, 4, 4))
    module = generated.RowMlp(3, 5)
    variables = initialize(module, jax.random.key(1), matrix)
    order = np.array([2, 0, 3, 1])
    out = module.apply(variables, matrix)
    assert out.shape == (2, 5, 4, 4)
    np.testing.assert_allclose(module.apply(variables, matrix[:, order]), out[:, :, order], atol=1e-5)


def test_parallel_spade_is_the_sum_of_its_blocks():
    rng = np.random.default_rng(1)
    x, guide = rng.normal(size=(2, 4, 5, 3)), rng.normal(size=(2, 4, 5, 6))
    statics = [rng.normal(size=(2, 4, 5, 2)), rng.normal(size=(2, 4, 5, 4))]
    theta = rng.normal(size=(2, 2, 3, 7))
    module = spade.ParallelSpade()
    arguments = [jnp.asarray(a, jnp.float32) for a in (x, guide, theta)]
    static_arguments = [jnp.asarray(a, jnp.float32) for a in statics]
    variables = initialize(module, jax.random.key(0), *arguments, static_arguments)
    conv = variables['params']['Conv_0']
    kernel, bias = np.asarray(conv['kernel'])[0, 0], np.asarray(conv['bias'])
    maps = [(naive_generated_conv(guide, theta[:, 0]), naive_generated_conv(guide, theta[:, 1]))]
    start = 0
    for i, static in enumerate(statics):
        both = static @ kernel[start:start + static.shape[-1]] + (bias if i == 0 else 0)
        maps.append((both[..., :3], both[..., 3:]))
        start += static.shape[-1]
    want = sum(naive_norm(x) * (1 + gamma) + beta for gamma, beta in maps)
    np.testing.assert_allclose(module.apply(variables, *arguments, static_arguments), want, atol=1e-4)


def test_spectral_norm_brings_the_largest_singular_value_to_one():
    module = spectral.SpectralConv(6, 3)
    x = jax.random.normal(jax.random.key(0), (1, 5, 5, 4))
    variables = initialize(module, jax.random.key(1), x)
    params, state = {'params': variables['params']}, {'spectral': variables['spectral']}
    for _ in range(60):
        _, state = module.apply({**params, **state}, x, mutable=['spectral'])
    matrix = np.asarray(params['params']['kernel']).reshape(-1, 6)
    sigma = np.linalg.svd(matrix, compute_uv=False)[0]
    plain = {'params': {'kernel': params['params']['kernel'] / sigma, 'bias': params['params']['bias']}}
    want = jax.lax.conv_general_dilated(
        x, plain['params']['kernel'], (1, 1), [(1, 1)] * 2, dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
    np.testing.assert_allclose(module.apply({**params, **state}, x), want, atol=1e-4)


def test_spectral_state_moves_in_training_only():
    module = spectral.SpectralConv(6, 3)
    x = jnp.ones((1, 5, 5, 4))
    variables = initialize(module, jax.random.key(1), x)
    _, state = module.apply(variables, x, mutable=['spectral'])
    assert not np.array_equal(state['spectral']['u'], variables['spectral']['u'])
    assert module.apply(variables, x).shape == (1, 5, 5, 6)
