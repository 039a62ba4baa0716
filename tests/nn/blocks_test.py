"""Convolution blocks: normalisation, and the upsampling that contains the transposed convolution."""

import jax
import jax.numpy as jnp
import naive_layers as naive
import numpy as np
import pytest

from talkinghead_jax.nn import blocks, normalization, optim, sampling
from talkinghead_jax.nn.initialization import initialize


def test_instance_norm_gives_zero_mean_and_unit_variance_per_channel():
    x = np.random.default_rng(0).normal(3, 5, (2, 8, 9, 3)).astype(np.float32)
    out = np.asarray(normalization.instance_norm(jnp.asarray(x)))
    np.testing.assert_allclose(out.mean((1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(out.std((1, 2)), 1, atol=1e-4)


def test_instance_norm_of_a_constant_has_a_finite_gradient():
    gradient = jax.grad(lambda x: normalization.instance_norm(x).sum())(jnp.ones((1, 4, 4, 2)))
    assert np.isfinite(gradient).all()


def test_example_norm_knows_one_example_only():
    x = jnp.asarray(np.random.default_rng(1).normal(size=(3, 4, 4, 2)), jnp.float32)
    module = normalization.ExampleNorm()
    variables = module.init(jax.random.key(0), x)
    np.testing.assert_allclose(module.apply(variables, x)[1:2], module.apply(variables, x[1:2]), atol=1e-6)


def test_depth_to_space_against_loops():
    x = np.random.default_rng(2).normal(size=(2, 3, 2, 8)).astype(np.float32)
    want = np.zeros((2, 6, 4, 2), np.float32)
    for y in range(6):
        for column in range(4):
            for c in range(2):
                want[:, y, column, c] = x[:, y // 2, column // 2, (2 * (y % 2) + column % 2) * 2 + c]
    np.testing.assert_array_equal(blocks.depth_to_space(jnp.asarray(x)), want)


@pytest.mark.parametrize(('module', 'reference'), [
    (blocks.ConvNorm(5), naive.conv_norm),
    (blocks.ConvNorm(5, 2), lambda x, params: naive.conv_norm(x, params, 2)),
    (blocks.ResidualBlock(5), naive.residual_block),
    (blocks.ResidualBlock(3), naive.residual_block),
], ids=['norm', 'stride', 'shortcut', 'residual'])
def test_blocks_against_loops(module, reference):
    x = np.random.default_rng(4).normal(size=(2, 6, 4, 3)).astype(np.float32)
    variables = naive.randomized(initialize(module, jax.random.key(0), jnp.asarray(x)))
    got = jax.jit(module.apply)(variables, x)
    np.testing.assert_allclose(got, [reference(example, variables['params']) for example in x], atol=2e-4)


def test_upsampling_contains_the_transposed_convolution():
    """Any kernel-4, stride-2 transposed convolution has a 3 x 3 kernel to 4C channels with the same output."""
    rng = np.random.default_rng(3)
    inputs, outputs = 3, 2
    kernel = rng.normal(size=(4, 4, inputs, outputs)).astype(np.float32)
    x = jnp.asarray(rng.normal(size=(2, 5, 6, inputs)), jnp.float32)
    want = np.zeros((2, 2 * 5 + 2, 2 * 6 + 2, outputs))
    for y in range(5):
        for column in range(6):  # each input pixel stamps the kernel at twice its position
            want[:, 2 * y:2 * y + 4, 2 * column:2 * column + 4] += np.einsum(
                'bi,klio->bklo', np.asarray(x[:, y, column]), kernel)
    want = want[:, 1:-1, 1:-1]  # padding 1, as the layer with kernel 4 and stride 2 has
    dense = np.zeros((3, 3, inputs, 4, outputs), np.float32)
    # Output pixel 2 y + i takes kernel row 2 (y - y') + i + 1 of input row y', which is offset y' - y + 1 here.
    for i in range(2):
        for j in range(2):
            for row in range(4):
                for column in range(4):
                    dy, dx = (i + 1 - row) / 2, (j + 1 - column) / 2
                    if dy == int(dy) and dx == int(dx):
                        dense[int(dy) + 1, int(dx) + 1, :, 2 * i + j] = kernel[row, column]
    params = {'params': {'subpixels': {'kernel': dense.reshape(3, 3, inputs, 4 * outputs),
                                    'bias': np.zeros(4 * outputs, np.float32)}}}
    np.testing.assert_allclose(blocks.Upsample(outputs).apply(params, x), want, atol=1e-5)


def test_sample_points_interpolates_and_clamps():
    image = jnp.asarray(np.arange(12).reshape(1, 3, 4, 1), jnp.float32)
    points = jnp.asarray([[[0, 0], [3, 2], [1.5, 0.5], [-5, 1], [9, 9], [3, 1.25]]], jnp.float32)
    np.testing.assert_allclose(sampling.sample_points(image, points)[0, :, 0], [0, 11, 3.5, 4, 11, 8], atol=1e-6)


def test_learning_rate_is_constant_then_falls_to_zero():
    from ml_collections import ConfigDict
    schedule = optim.learning_rate_schedule(ConfigDict({'learning_rate': 0.5, 'constant_share': 0.5}), 10)
    np.testing.assert_allclose([schedule(i) for i in (0, 4, 5, 6, 10, 11)], [0.5, 0.5, 0.5, 0.4, 0, 0], atol=1e-7)


def test_optimizer_clips_only_when_asked():
    from ml_collections import ConfigDict
    config = {'learning_rate': 1.0, 'b1': 0.0, 'b2': 0.0}
    assert len(optim.make_optimizer(ConfigDict(config), 10).init(jnp.zeros(2))) == len(
        optim.make_optimizer(ConfigDict({**config, 'clip': 1.0}), 10).init(jnp.zeros(2)))
