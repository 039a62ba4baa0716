"""insightface's published iResNets, backbone.pth or an exported .onnx, into the parameters of `network.IResNet`."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from third_party import batch_norm, onnx_file, torch_file
from third_party.convert import Published
from third_party.iresnet.network import DEPTHS, FEATURES, SIZE, WIDTHS, blocks

_ORIGIN = ('the model pack {} of insightface, https://github.com/deepinsight/insightface/releases (or take a '
           'backbone.pth that its recognition/arcface_torch trained)')
PUBLISHED: Mapping[str, Published] = {
    'iresnet50': Published(
        file='w600k_r50.onnx', sha256='4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43',
        origin=_ORIGIN.format('buffalo_l.zip'), witness='copies that several repositories name'),
    'iresnet100': Published(
        file='glintr100.onnx', sha256='4ab1d6435d639628a6f3e5008dd4f929edf4c4124b1a7169e1048f9fef534cdf',
        origin=_ORIGIN.format('antelopev2.zip'), witness='copies that several repositories name'),
}
_KINDS = ('weight', 'bias', 'running_mean', 'running_var')


def read(path: str | os.PathLike, network: str) -> dict[str, np.ndarray]:
    """The tensors of a published file of `network`, by the names of backbone.pth.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no weight file, or another network's.
    """
    if not onnx_file.is_onnx(path):
        return torch_file.read(path)
    try:
        return from_graph(onnx_file.read(path), DEPTHS[network])
    except ValueError as error:
        raise ValueError(f'{path} is not {network}: {error}') from error


def convert(tensors: Mapping[str, np.ndarray], network: str) -> dict[str, dict[str, np.ndarray]]:
    """Rename, transpose and fold the tensors of `network`; see `convert_any` for what it returns and raises."""
    return convert_any(tensors, WIDTHS, DEPTHS[network], FEATURES)


def convert_any(tensors: Mapping[str, np.ndarray], widths: tuple[int, ...], depths: tuple[int, ...],
                features: int) -> dict[str, dict[str, np.ndarray]]:
    """Rename, transpose, and fold normalisations into the layers beside them.

    Args:
      tensors: by the names of backbone.pth.
      widths: channels at the entry and in each part.
      depths: blocks in each part.
      features: size of an embedding.

    Returns:
      {layer: {'kernel': (H,W,I,O) or (I,O), 'bias': (O,)}, or {'slope': (C,)}, or {'scale': (C,), 'bias': (C,)}},
      float32.

    Raises:
      KeyError: a tensor is missing; its argument is the name.
      ValueError: a tensor has another shape than the network's.
    """
    _check_depths(tensors, depths)
    params = {'conv1': batch_norm.fold(tensors, 'conv1', 'bn1', (widths[0], 3, 3, 3)),
              'prelu1': _slope(tensors, 'prelu', widths[0])}
    for name, entry, inputs, outputs, halves in blocks(widths, depths):
        if halves:
            params[f'{name}_shortcut'] = batch_norm.fold(tensors, f'{entry}.downsample.0', f'{entry}.downsample.1',
                                                         (outputs, inputs, 1, 1))
        scale, shift = batch_norm.scale_and_shift(tensors, f'{entry}.bn1', inputs)
        params |= {
            f'{name}_norm': {'scale': scale.astype(np.float32), 'bias': shift.astype(np.float32)},
            f'{name}_conv1': batch_norm.fold(tensors, f'{entry}.conv1', f'{entry}.bn2', (outputs, inputs, 3, 3)),
            f'{name}_prelu': _slope(tensors, f'{entry}.prelu', outputs),
            f'{name}_conv2': batch_norm.fold(tensors, f'{entry}.conv2', f'{entry}.bn3', (outputs, outputs, 3, 3))}
    return params | {'embedding': _embedding(tensors, widths[-1], features)}


def from_graph(graph: onnx_file.Graph, depths: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The tensors of an exported network by the names of backbone.pth, found by what follows what in the graph.

    PyTorch's export folds normalisations into the convolutions before them, and none other.

    Raises:
      ValueError: the graph is another network's.
    """
    walk = _Walk(graph)
    value, = graph.inputs
    value = walk.prelu(walk.convolution(value, 'conv1', 'bn1'), 'prelu')
    for _, entry, _, _, halves in blocks(WIDTHS, depths):
        inner = walk.norm(value, f'{entry}.bn1')
        inner = walk.convolution(inner, f'{entry}.conv1', f'{entry}.bn2')
        inner = walk.convolution(walk.prelu(inner, f'{entry}.prelu'), f'{entry}.conv2', f'{entry}.bn3')
        if halves:
            value = walk.convolution(value, f'{entry}.downsample.0', f'{entry}.downsample.1')
        addition = graph.follow(inner, 'Add')
        if value not in addition.inputs:
            raise ValueError(f'{entry} is not added to {value}')
        value = addition.outputs[0]
    value = graph.follow(walk.norm(value, 'bn2'), 'Flatten').outputs[0]
    product = graph.follow(value, 'Gemm')
    if product.attributes.get('transB', 0) != 1:
        raise ValueError('the matrix of the last product is transposed')
    weight, bias = graph.constants(product)
    value = product.outputs[0]
    if graph.takes(value, 'Unsqueeze'):  # exports before PyTorch 1.8 normalise a vector as a row of pixels
        value = graph.follow(value, 'Unsqueeze').outputs[0]
    walk.norm(value, 'features')
    return walk.tensors | {'fc.weight': weight, 'fc.bias': bias}


class _Walk:
    """Goes through a graph node by node, and keeps the tensors that it meets under their published names."""

    def __init__(self, graph: onnx_file.Graph) -> None:
        self.graph = graph
        self.tensors: dict[str, Any] = {}

    def convolution(self, value: str, name: str, norm: str) -> str:
        node = self.graph.follow(value, 'Conv')
        weight, bias = self.graph.constants(node)
        self.tensors |= {f'{name}.weight': weight, f'{name}.bias': bias, **batch_norm.neutral(norm, len(bias))}
        return node.outputs[0]

    def norm(self, value: str, name: str) -> str:
        node = self.graph.follow(value, 'BatchNormalization')
        weight, bias, mean, variance = self.graph.constants(node)
        epsilon = node.attributes.get('epsilon', batch_norm.EPSILON)
        self.tensors |= batch_norm.named(name, weight, bias, mean, variance, epsilon)
        return node.outputs[0]

    def prelu(self, value: str, name: str) -> str:
        node = self.graph.follow(value, 'PRelu')
        slope, = self.graph.constants(node)
        self.tensors[f'{name}.weight'] = slope.reshape(-1)
        return node.outputs[0]


def _check_depths(tensors: Mapping[str, np.ndarray], depths: tuple[int, ...]) -> None:
    """A deeper network holds all tensors of a shallower one, and must not pass for it."""
    for part, depth in enumerate(depths, 1):
        if f'layer{part}.{depth}.conv1.weight' in tensors:
            raise ValueError(f'layer{part} has more than the {depth} blocks of the network')


def _slope(tensors: Mapping[str, np.ndarray], name: str, width: int) -> dict[str, np.ndarray]:
    return {'slope': batch_norm.checked(tensors, f'{name}.weight', (width,)).astype(np.float32)}


def _embedding(tensors: Mapping[str, np.ndarray], width: int, features: int) -> dict[str, np.ndarray]:
    """The last product with the normalisations around it; published flat pictures are channel by channel."""
    side = SIZE // 16
    weight = batch_norm.checked(tensors, 'fc.weight', (features, width * side * side)).reshape(features, width, -1)
    bias = batch_norm.checked(tensors, 'fc.bias', (features,))
    scale, shift = batch_norm.scale_and_shift(tensors, 'bn2', width)
    last_scale, last_shift = batch_norm.scale_and_shift(tensors, 'features', features)
    bias = last_scale * (bias + (weight.sum(-1) * shift).sum(-1)) + last_shift
    kernel = (weight * scale[:, None] * last_scale[:, None, None]).transpose(2, 1, 0).reshape(-1, features)
    return {'kernel': np.ascontiguousarray(kernel, np.float32), 'bias': bias.astype(np.float32)}
