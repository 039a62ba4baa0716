"""VGG19 computes what PyTorch computed (recorded), from both forms of the file, and fits the published shapes."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from third_party import torch_file
from third_party.vgg19 import convert
from third_party.vgg19.network import VGG19

GOLDEN = pathlib.Path(__file__).parent / 'golden'
WIDTHS = (4, 6, 8, 10, 12)
# torchvision's vgg19().features up to conv5_1: entry -> (name here, channels in, channels out).
PUBLISHED = {
    0: ('conv1_1', 3, 64), 2: ('conv1_2', 64, 64), 5: ('conv2_1', 64, 128), 7: ('conv2_2', 128, 128),
    10: ('conv3_1', 128, 256), 12: ('conv3_2', 256, 256), 14: ('conv3_3', 256, 256), 16: ('conv3_4', 256, 256),
    19: ('conv4_1', 256, 512), 21: ('conv4_2', 512, 512), 23: ('conv4_3', 512, 512), 25: ('conv4_4', 512, 512),
    28: ('conv5_1', 512, 512),
}


@pytest.fixture(scope='module')
def golden():
    with np.load(GOLDEN / 'vgg19_narrow.npz') as file:
        return dict(file)


@pytest.mark.parametrize('form', ['zip', 'legacy'])
def test_features_are_those_of_pytorch(golden, form):
    params = convert.convert(torch_file.read(GOLDEN / f'vgg19_narrow_{form}.pth', convert.wanted), WIDTHS)
    network = VGG19.of(params)
    assert network.widths == WIDTHS
    features = jax.jit(network.apply)({'params': params}, golden['images'])
    assert len(features) == 5
    for i, found in enumerate(features):
        wanted = golden[f'relu{i + 1}_1']
        assert wanted.std() > 0.1  # not a dead layer
        np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=1e-4)


def test_bfloat16_stays_near_float32(golden):
    params = convert.convert(torch_file.read(GOLDEN / 'vgg19_narrow_zip.pth'), WIDTHS)
    features = jax.jit(VGG19.of(params, jnp.bfloat16).apply)({'params': params}, golden['images'])
    for i, found in enumerate(features):
        assert found.dtype == jnp.bfloat16
        wanted = golden[f'relu{i + 1}_1']
        assert np.abs(np.asarray(found, np.float32) - wanted).mean() < 0.05 * wanted.std()


@pytest.mark.parametrize('form', ['zip', 'legacy'])
def test_the_published_tensors_find_their_places(form):
    path = GOLDEN / f'vgg19_layout_{form}.pth'
    tensors = torch_file.read(path, convert.wanted)
    assert len(tensors) == 2 * len(PUBLISHED)  # neither the classifier nor conv5_2 to conv5_4
    assert {f'features.{entry}.weight' for entry in PUBLISHED} < set(tensors)
    params = convert.convert(tensors)
    assert {name: (layer['kernel'].shape, layer['bias'].shape) for name, layer in params.items()} == {
        name: ((3, 3, inputs, outputs), (outputs,)) for name, inputs, outputs in PUBLISHED.values()}
    rng = np.random.default_rng(0)
    for entry, (name, inputs, outputs) in PUBLISHED.items():
        kernel, bias = params[name]['kernel'], params[name]['bias']
        assert kernel.dtype == bias.dtype == np.float32
        o, i, y, x = rng.integers([outputs, inputs, 3, 3])
        assert kernel[y, x, i, o] == 4 * o + 3 * i + 2 * y + x  # what the file holds at [o, i, y, x]
        np.testing.assert_array_equal(bias, entry + np.arange(outputs))


def test_converted_parameters_are_those_of_the_network():
    abstract = jax.eval_shape(VGG19().init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))['params']
    params = convert.convert(torch_file.read(GOLDEN / 'vgg19_layout_zip.pth', convert.wanted))
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, abstract)
    assert sum(x.size for x in jax.tree.leaves(abstract)) == 12_944_960


def test_wrong_shapes_and_missing_tensors_are_named():
    tensors = torch_file.read(GOLDEN / 'vgg19_narrow_zip.pth')
    with pytest.raises(ValueError, match=r'features\.0\.weight has the shape \(4, 3, 3, 3\); .*\(64, 3, 3, 3\)'):
        convert.convert(tensors)
    with pytest.raises(ValueError, match=r'features\.5\.bias has the shape \(5,\); .*\(6,\)'):
        convert.convert({**tensors, 'features.5.bias': np.zeros(5)}, WIDTHS)
    del tensors['features.28.bias']
    with pytest.raises(KeyError, match=r'features\.28\.bias'):
        convert.convert(tensors, WIDTHS)


def test_images_without_a_pixel_at_the_end_are_refused():
    with pytest.raises(ValueError, match='15 x 64 px'):
        jax.eval_shape(VGG19(WIDTHS).init, jax.random.key(0), jnp.zeros((1, 15, 64, 3)))
