"""The backbones of LPIPS compute what PyTorch computed (recorded) and fit the published shapes; so do the heads."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from patterns import pairs

from third_party import assets
from third_party.convert import convert as convert_file
from third_party.lpips import convert
from third_party.lpips.network import WIDTHS, Backbone

GOLDEN = pathlib.Path(__file__).parent / 'golden' / 'lpips_narrow.npz'
NARROW = {
    'alexnet': (4, 5, 6, 5, 4),
    'vgg16': (3, 4, 4, 4, 4, 5, 5, 5, 6, 5, 5, 6, 5),
    'squeezenet1_1': (4, (2, 3), (3, 2), (3, 3), (2, 4), (3, 4), (4, 3), (3, 5), (4, 4)),
}
ODD = {'alexnet': (71, 95), 'vgg16': (33, 38), 'squeezenet1_1': (45, 52)}
# torchvision: all parameters of the published network, less those of its classifier, which is not used.
COUNTS = {'alexnet': 61_100_840 - (9217 * 4096 + 4097 * 4096 + 4097 * 1000),
          'vgg16': 138_357_544 - (25089 * 4096 + 4097 * 4096 + 4097 * 1000),
          'squeezenet1_1': 1_235_496 - 513 * 1000}
HEADS = {'lpips_alex': ('alexnet', (64, 192, 384, 256, 256)), 'lpips_vgg': ('vgg16', (64, 128, 256, 512, 512)),
         'lpips_squeeze': ('squeezenet1_1', (64, 128, 256, 384, 384, 512, 512))}


def golden(network):
    """What is recorded of a network, without its name."""
    with np.load(GOLDEN) as file:
        return {name.removeprefix(f'{network}/'): file[name] for name in file.files if name.startswith(f'{network}/')}


@pytest.mark.parametrize('network', NARROW)
@pytest.mark.usefixtures('quickly_compiled')
def test_features_are_those_of_pytorch(network):
    recorded = golden(network)
    params = convert.convert(recorded, network, NARROW[network])
    backbone = Backbone.of(network, params)
    assert backbone.widths == NARROW[network]
    height, width = ODD[network]
    images = pairs(128)[0][:1, :height, :width] / np.float32(127.5) - 1
    features = jax.jit(backbone.apply)({'params': params}, images)
    assert len(features) == sum(name.startswith('map') for name in recorded)
    for i, found in enumerate(features):
        np.testing.assert_allclose(found, recorded[f'map{i}'], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('network', WIDTHS)
def test_the_published_shapes_are_those_of_the_network(network):
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    abstract = jax.eval_shape(Backbone(network, WIDTHS[network]).init, jax.random.key(0), images)['params']
    assert sum(x.size for x in jax.tree.leaves(abstract)) == COUNTS[network]
    tensors = {}  # as published, from the abstract parameters
    for path, leaf in jax.tree_util.tree_leaves_with_path(abstract):
        layer, *parts, kind = (key.key for key in path)
        name = '.'.join([f'features.{layer.removeprefix("conv").removeprefix("fire")}', *parts])
        shape = tuple(leaf.shape[i] for i in (3, 2, 0, 1)) if kind == 'kernel' else leaf.shape
        tensors[f'{name}.{"weight" if kind == "kernel" else "bias"}'] = np.zeros(shape, np.float32)
    found = convert.convert(tensors, network)
    assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, abstract)


@pytest.mark.parametrize('network', HEADS)
def test_the_published_heads_are_converted_and_fit_their_backbone(network, shared_data, tmp_path, monkeypatch):
    monkeypatch.setenv('TALKINGHEAD_ASSETS', str(tmp_path))
    backbone, widths = HEADS[network]
    short = network.removeprefix('lpips_')
    file = tmp_path / f'{short}.pth'  # by its published name, so that another checksum would be refused
    file.symlink_to(shared_data / 'models' / f'lpips_lin_v0.1_{short}.pth')
    assert convert_file(network, file).verdict.endswith(', as published')
    heads = assets.load(network)
    assert [heads[f'lin{i}']['weight'].shape for i in range(len(heads))] == [(width,) for width in widths]
    with np.load(shared_data / 'models' / 'lpips_lin_v0.1_all.npz') as same:  # read by other means
        for name in heads:
            stored = next(same[key] for key in same.files if short in key and name in key)
            np.testing.assert_array_equal(heads[name]['weight'], stored.ravel())
            assert heads[name]['weight'].min() >= 0  # so that the distance is none below 0
    features = jax.eval_shape(Backbone(backbone, WIDTHS[backbone]).init_with_output, jax.random.key(0),
                              jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32))[0]
    assert tuple(feature.shape[-1] for feature in features) == widths


def test_wrong_shapes_missing_tensors_and_small_pictures_are_named():
    tensors = golden('squeezenet1_1')
    with pytest.raises(ValueError, match=r'features\.0\.weight has the shape \(4, 3, 3, 3\); .*\(64, 3, 3, 3\)'):
        convert.convert(tensors, 'squeezenet1_1')
    with pytest.raises(ValueError, match=r'lin3\.model\.1\.weight has the shape \(1, 8, 1, 1\); .*\(1, 384, 1, 1\)'):
        convert.convert(tensors | {f'lin{i}.model.1.weight': np.zeros((1, c, 1, 1))
                                   for i, c in enumerate((64, 128, 256))}, 'lpips_squeeze')
    del tensors['features.12.expand3x3.bias']
    with pytest.raises(KeyError, match=r'features\.12\.expand3x3\.bias'):
        convert.convert(tensors, 'squeezenet1_1', NARROW['squeezenet1_1'])
    with pytest.raises(ValueError, match='30 x 64 px'):
        jax.eval_shape(Backbone('alexnet', NARROW['alexnet']).init, jax.random.key(0), jnp.zeros((1, 30, 64, 3)))
