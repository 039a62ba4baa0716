"""iResNet and MobileFaceNet compute what PyTorch computed (recorded), from every form of their published files."""

import dataclasses
import pathlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from third_party import batch_norm, onnx_file, torch_file
from third_party.iresnet import convert as iresnet
from third_party.iresnet.network import DEPTHS, WIDTHS, IResNet
from third_party.mobilefacenet import convert as mobilefacenet
from third_party.mobilefacenet.network import MobileFaceNet

GOLDEN = pathlib.Path(__file__).parent / 'golden'
SIZES = (4, 4, 6, 8, 10), (1, 2, 1, 1), 12  # of the recorded iResNet: widths, depths, features

pytestmark = pytest.mark.usefixtures('quick_compilation')


@pytest.fixture(scope='module')
def golden():
    with np.load(GOLDEN / 'faces_narrow.npz') as file:
        return {**file, 'images': np.kron(file['coarse'], np.ones((1, 8, 8, 1), np.uint8))}


@pytest.fixture(scope='module')
def iresnet_tensors():
    return torch_file.read(GOLDEN / 'iresnet_narrow.pth')


def _graph():
    return onnx_file.read(GOLDEN / 'iresnet_narrow.onnx')


def _assert_close(found, wanted):
    assert 0.1 < wanted.std() < 10  # neither dead nor so large that a bound says nothing
    np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=1e-4)


def test_iresnet_is_that_of_pytorch(golden, iresnet_tensors):
    params = iresnet.convert_any(iresnet_tensors, *SIZES)
    network = IResNet.of(params)
    assert (network.widths, network.depths, network.features) == SIZES
    _assert_close(jax.jit(network.apply)({'params': params}, golden['images']), golden['iresnet'])


def test_mobilefacenet_is_that_of_pytorch(golden):
    params = mobilefacenet.convert(mobilefacenet.read(GOLDEN / 'mobilefacenet_narrow.pth'), width=2)
    network = MobileFaceNet.of(params)
    assert network.width == 2
    _assert_close(jax.jit(network.apply)({'params': params}, golden['images']), golden['mobilefacenet'])


def _assert_same(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for found, wanted in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert found.dtype == wanted.dtype == np.float32
        np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=1e-5)


def test_the_exported_iresnet_is_that_of_the_backbone(iresnet_tensors):
    wanted = iresnet.convert_any(iresnet_tensors, *SIZES)
    _assert_same(iresnet.convert_any(iresnet.from_graph(_graph(), SIZES[1]), *SIZES), wanted)


def test_an_older_export_is_understood(iresnet_tensors):
    """Another epsilon in its nodes, and the last vector made a row of pixels."""
    graph, nodes = _graph(), []
    for node in graph.nodes:
        if node.op == 'BatchNormalization':
            node = dataclasses.replace(node, attributes={'epsilon': 2e-5})
        if node.outputs == graph.outputs:
            nodes.append(onnx_file.Node('Unsqueeze', node.inputs[:1], ('row',), {'axes': [2]}))
            node = dataclasses.replace(node, inputs=('row', *node.inputs[1:]))
        nodes.append(node)
    params = iresnet.convert_any(iresnet.from_graph(dataclasses.replace(graph, nodes=tuple(nodes)), SIZES[1]), *SIZES)
    name = 'layer1.0.bn1.running_var'
    wanted = iresnet.convert_any({**iresnet_tensors, name: iresnet_tensors[name] + 1e-5}, *SIZES)['block1_1_norm']
    np.testing.assert_allclose(params['block1_1_norm']['scale'], wanted['scale'], rtol=3e-7)
    usual = iresnet.convert_any(iresnet_tensors, *SIZES)
    assert not np.allclose(usual['block1_1_norm']['scale'], wanted['scale'], rtol=1e-6, atol=0)
    assert not np.allclose(usual['embedding']['kernel'], params['embedding']['kernel'], rtol=1e-6, atol=0)


@pytest.mark.parametrize(('change', 'said'), [
    (lambda node: dataclasses.replace(node, op='Sum') if node.op == 'Add' else node, '0 nodes Add'),
    (lambda node: dataclasses.replace(node, inputs=('data', 'data')) if node.op == 'Add' else node, '0 nodes Add'),
    (lambda node: dataclasses.replace(node, attributes={}) if node.op == 'Gemm' else node, 'transposed'),
])
def test_graphs_of_other_networks_are_refused(change, said):
    graph = _graph()
    changed = dataclasses.replace(graph, nodes=tuple(map(change, graph.nodes)))
    with pytest.raises(ValueError, match=said):
        iresnet.from_graph(changed, SIZES[1])


def test_shallower_and_deeper_networks_are_told_apart(iresnet_tensors, shared_data):
    for depths in ((1, 1, 1, 1), (1, 2, 2, 1), (2, 2, 1, 1)):
        with pytest.raises(ValueError, match=r'nodes|not added'):
            iresnet.from_graph(_graph(), depths)
    with pytest.raises(ValueError, match='layer2 has more than the 1 blocks'):
        iresnet.convert_any(iresnet_tensors, SIZES[0], (1, 1, 1, 1), SIZES[2])
    with pytest.raises(KeyError, match=r'layer3\.1\.bn1\.weight'):
        iresnet.convert_any(iresnet_tensors, SIZES[0], (1, 2, 2, 1), SIZES[2])
    with pytest.raises(ValueError, match=r'MobileFaceNet\.onnx is not iresnet50: '):
        iresnet.read(shared_data / 'models/foamliu_MobileFaceNet.onnx', 'iresnet50')
    with pytest.raises(ValueError, match=r'is not MobileFaceNet\.onnx: '):
        mobilefacenet.read(shared_data / 'models/yunet_n_640_640.onnx')


def test_wrong_shapes_are_named(iresnet_tensors):
    with pytest.raises(ValueError, match=r'conv1\.weight has the shape \(4, 3, 3, 3\); .*\(64, 3, 3, 3\)'):
        iresnet.convert_any(iresnet_tensors, WIDTHS, *SIZES[1:])
    with pytest.raises(ValueError, match=r'prelu\.weight has the shape \(1,\)'):
        iresnet.convert_any({**iresnet_tensors, 'prelu.weight': np.zeros(1)}, *SIZES)


@pytest.mark.parametrize(('network', 'count'), [('iresnet50', 43_576_128), ('iresnet100', 65_130_944)])
def test_full_size_iresnets(network, count):
    """The numbers of parameters, normalisations folded, of the networks as PyTorch builds them."""
    shapes = jax.eval_shape(IResNet(WIDTHS, DEPTHS[network]).init, jax.random.key(0), jnp.zeros((1, 112, 112, 3)))
    assert sum(x.size for x in jax.tree.leaves(shapes)) == count
    assert IResNet.of(shapes['params']).depths == DEPTHS[network]


@pytest.mark.parametrize('epsilon', [1e-5, 1e-3])
def test_fold_is_convolution_then_normalisation(epsilon):
    rng = np.random.default_rng(0)
    matrix, x = rng.normal(size=(4, 3)), rng.normal(size=3)
    bias, gain, shift, mean, variance = rng.random((5, 4))
    y = (matrix @ x + bias - mean) / np.sqrt(variance + epsilon) * gain + shift
    tensors = {'c.weight': matrix[..., None, None], 'c.bias': bias, 'n.weight': gain, 'n.bias': shift,
               'n.running_mean': mean, 'n.running_var': variance}
    folded = batch_norm.fold(tensors, 'c', 'n', (4, 3, 1, 1), epsilon)
    np.testing.assert_allclose(x @ folded['kernel'][0, 0] + folded['bias'], y, rtol=1e-5)
    scale, shift = batch_norm.scale_and_shift(batch_norm.neutral('n', 2), 'n', 2)
    np.testing.assert_allclose([scale, shift], [[1, 1], [0, 0]], atol=1e-15)


@pytest.fixture(scope='module')
def published(shared_data):
    path = shared_data / 'models/foamliu_MobileFaceNet.onnx'
    return types.SimpleNamespace(path=path, params=mobilefacenet.convert(mobilefacenet.read(path)))


def test_both_published_mobilefacenets_are_one(published, shared_data):
    with np.load(shared_data / 'models/foamliu_mobilefacenet_from_pt.npz') as tensors:
        _assert_same(published.params, mobilefacenet.convert(dict(tensors)))


def test_the_published_mobilefacenet_is_that_of_opencv(published, shared_data):
    import cv2
    boxes = {'biden.jpg': (300, 250, 500), 'obama.jpg': (250, 200, 450)}  # faces, roughly: x, y, side in px
    images = []
    for name, (x, y, side) in boxes.items():
        picture = cv2.imread(str(shared_data / 'portraits' / name))[y:y + side, x:x + side, ::-1]
        images.append(cv2.resize(picture, (112, 112), interpolation=cv2.INTER_AREA))
    found = jax.jit(MobileFaceNet().apply)({'params': published.params}, np.stack(images))
    assert found.shape == (2, 128)
    reference = cv2.dnn.readNetFromONNX(str(published.path))
    for image, embedding in zip(images, found, strict=True):
        pixels = (image / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        reference.setInput(pixels.transpose(2, 0, 1)[None].astype(np.float32))
        _assert_close(embedding, reference.forward().ravel())
