import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkinghead_jax.errors import UserError
from talkinghead_jax.models import unprojection
from talkinghead_jax.models.unprojection import UnprojectionNet

_LAYOUT = ('NHWC', 'HWIO', 'NHWC')


def _draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(4).normal(size=shape).astype(np.float32)


def test_strided_convolution_is_xlas():
    x, kernel = _draw(2, 8, 6, 3), _draw(4, 4, 3, 5)
    expected = jax.lax.conv_general_dilated(x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=_LAYOUT)
    np.testing.assert_allclose(unprojection.strided_convolution(x, kernel), expected, atol=1e-4)


def test_transposed_convolution_is_the_adjoint():
    kernel, small, large = _draw(4, 4, 3, 5), _draw(2, 4, 3, 5), _draw(2, 8, 6, 3)
    forward = (unprojection.strided_convolution(large, kernel) * small).sum()
    backward = (unprojection.transposed_convolution(small, kernel) * large).sum()
    np.testing.assert_allclose(forward, backward, rtol=1e-4)


def test_stride_one_transposed_convolution_is_the_adjoint():
    module = unprojection.TransposedConvolution(3)
    small, large = _draw(2, 8, 6, 5), _draw(2, 8, 6, 3)
    params = module.init(jax.random.key(0), small)
    kernel = params['params']['kernel']
    forward = jax.lax.conv_general_dilated(large, kernel, (1, 1), 'SAME', dimension_numbers=_LAYOUT)
    np.testing.assert_allclose((forward * small).sum(), (module.apply(params, small) * large).sum(), rtol=1e-4)


@pytest.mark.parametrize('residual', [False, True])
def test_positions_lie_in_the_crop(residual):
    net = UnprojectionNet(width=2, residual=residual)
    image, mean = jnp.clip(_draw(2, 16, 16, 3), -1, 1), jnp.full((16, 16, 3), 100.0)
    variables = net.init(jax.random.key(0), image, mean)
    positions, state = jax.jit(lambda v: net.apply(v, image, mean, train=True, mutable=['batch_stats']))(variables)
    assert positions.shape == (2, 16, 16, 3)
    assert jax.tree.structure(state['batch_stats']) == jax.tree.structure(variables['batch_stats'])
    if not residual:
        assert positions[..., :2].min() >= 0
        assert positions[..., :2].max() <= 281.6
        assert np.abs(positions[..., 2]).max() <= 140.8


def test_full_size_is_the_published_network():
    net = UnprojectionNet()
    image = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    variables = jax.eval_shape(net.init, jax.random.key(0), image, jax.ShapeDtypeStruct((256, 256, 3), jnp.float32))
    shapes = {'/'.join(k.key for k in path): leaf.shape
              for path, leaf in jax.tree_util.tree_leaves_with_path(variables['params'])}
    assert not any('bias' in name for name in shapes if 'norm' not in name)
    up = ['bottom', *(f'up{level}_{i}' for level in (4, 3, 2) for i in range(3)),
          *(f'up{level}_{i}' for level in (1, 0) for i in range(2)), 'out0', 'out1', 'out2']
    widths = [shapes[f'{name}/kernel'][2] for name in up]
    assert widths == [512, 256, 256, 256, 128, 128, 128, 64, 64, 64, 32, 32, 16, 16, 3, 3, 3]
    assert [shapes[f'down{level}_0/wide/kernel'][3] for level in range(1, 6)] == [32, 64, 128, 256, 512]


@pytest.mark.parametrize('size', [8, 48, 100])
def test_other_sizes_are_the_users_mistake(size):
    with pytest.raises(UserError, match=f'image_size is {size}'):
        unprojection.levels(size)
