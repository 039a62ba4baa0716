"""Inception-v3 computes what PyTorch computed (recorded), from a file with the published names, and has its size."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from third_party import torch_file
from third_party.inception_v3 import convert
from third_party.inception_v3.network import InceptionV3

GOLDEN = pathlib.Path(__file__).parent / 'golden'
DIVISOR = 16
pytestmark = pytest.mark.usefixtures('quick_compilation')


@pytest.fixture(scope='module')
def tensors():
    return convert.read(GOLDEN / 'inception_narrow.pth')


def test_features_are_those_of_pytorch(tensors):
    params = convert.convert(tensors, DIVISOR)
    network = InceptionV3.of(params)
    assert network.divisor == DIVISOR
    with np.load(GOLDEN / 'inception_narrow.npz') as golden:
        images, wanted = golden['images'].astype(np.float32), golden['features']
    assert wanted.std(0).mean() > 0.1  # the two pictures are told apart
    found = jax.jit(network.apply)({'params': params}, images)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=1e-4)


def test_no_more_than_the_needed_is_read(tensors):
    everything = torch_file.read(GOLDEN / 'inception_narrow.pth')
    assert {name for name in everything if not name.endswith('num_batches_tracked')} - set(tensors) == {
        'fc.weight', 'fc.bias'}
    assert len(tensors) == 5 * 94


def test_the_published_size():
    images = jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32)
    features, variables = jax.eval_shape(InceptionV3().init_with_output, jax.random.key(0), images)
    assert features.shape == (1, 2048)
    # torchvision's 27,161,264 less the second classifier's 3,326,696 and the last layer's 2,049,000; of each
    # channel's gain and offset one number is left.
    layers = variables['params'].values()
    assert sum(layer['kernel'].size + 2 * layer['bias'].size for layer in layers) == 21_785_568


def test_wrong_shapes_and_missing_tensors_are_named(tensors):
    with pytest.raises(ValueError, match=r'Conv2d_1a_3x3\.conv\.weight has the shape \(2, 3, 3, 3\); .*32, 3'):
        convert.convert(tensors)
    variance = 'Mixed_7c.branch_pool.bn.running_var'
    with pytest.raises(ValueError, match=r'Mixed_7c\.branch_pool\.bn\.running_var has the shape \(5,\); .*\(12,\)'):
        convert.convert({**tensors, variance: np.ones(5)}, DIVISOR)
    with pytest.raises(KeyError, match=r'Mixed_7c\.branch_pool\.bn\.running_var'):
        convert.convert({name: tensor for name, tensor in tensors.items() if name != variance}, DIVISOR)


def test_images_without_a_pixel_at_the_end_are_refused():
    with pytest.raises(ValueError, match='74 x 299 px'):
        jax.eval_shape(InceptionV3(DIVISOR).init, jax.random.key(0), jnp.zeros((1, 74, 299, 3)))
