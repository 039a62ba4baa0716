"""LPIPS is what an independent implementation recorded, 0 for equal pictures, and symmetric."""

import pathlib

import jax
import numpy as np
import pytest
from patterns import pairs

from talkinghead_jax.errors import UserError
from talkinghead_jax.metrics.lpips import BACKBONES, lpips
from third_party.lpips import convert
from third_party.lpips.network import layers

GOLDEN = pathlib.Path(__file__).parents[1] / 'third_party' / 'golden' / 'lpips_narrow.npz'


@pytest.fixture(scope='module')
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


def narrow(golden, network):
    """The recorded backbone and heads of a network."""
    tensors = {name.removeprefix(f'{network}/'): golden[name] for name in golden if name.startswith(f'{network}/')}

    def width(entry):
        if f'{entry}.bias' in tensors:
            return len(tensors[f'{entry}.bias'])
        return len(tensors[f'{entry}.squeeze.bias']), len(tensors[f'{entry}.expand1x1.bias'])

    widths = [width(f'features.{layer.entry}') for layer in layers(network)]
    heads = next(name for name, of in convert.BACKBONES.items() if of == network)
    return convert.convert(tensors, network, widths), convert.convert(tensors, heads, widths)


@pytest.mark.parametrize('side', [64, 256])
@pytest.mark.parametrize('backbone', BACKBONES)
@pytest.mark.usefixtures('quick_compilation')
def test_distances_are_those_of_pytorch(golden, backbone, side):
    network, _ = BACKBONES[backbone]
    params, heads = narrow(golden, network)
    first, second = pairs(side)
    found = np.asarray(jax.jit(lpips, static_argnums=0)(backbone, params, heads, np.concatenate([first, second[:1]]),
                                                       np.concatenate([second[:1], second[1:], first[:1]])))
    np.testing.assert_allclose(found[:2], golden[f'{network}/distance{side}'].sum(1), rtol=1e-4)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-5)  # symmetric


@pytest.mark.usefixtures('quick_compilation')
def test_equal_pictures_are_at_no_distance(golden):
    params, heads = narrow(golden, 'alexnet')
    first, _ = pairs(64)
    first[1] = 0  # a black picture, of which some features are all zeros
    np.testing.assert_array_equal(jax.jit(lpips, static_argnums=0)('alex', params, heads, first, first), 0)


def test_mistakes_are_named():
    with pytest.raises(UserError, match="'resnet': unknown; want one of alex, vgg, squeeze"):
        lpips('resnet', {}, {}, *pairs(64))
    with pytest.raises(UserError, match='30 x 64 px; want 31 px or more'):
        lpips('alex', {}, {}, *(image[:, :30] for image in pairs(64)))
