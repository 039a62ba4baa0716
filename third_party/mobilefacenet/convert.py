"""foamliu's published MobileFaceNet, .pt or .onnx, into the parameters of `network.MobileFaceNet`."""

import os
from collections.abc import Mapping

import numpy as np

from third_party import batch_norm, onnx_file, torch_file
from third_party.convert import Published
from third_party.mobilefacenet.network import WIDTH, Layer, layers

PUBLISHED = Published(
    file='MobileFaceNet.onnx', sha256='b7120c095d60094f28a4a54ba6a8bf51b297a6273fb40ef6350dfec1f63d9507',
    origin='the folder weights of https://github.com/foamliu/MobileFaceNet or of a fork of it (mobilefacenet.pt, '
           'beside it, gives the same network)',
    witness='the copy that the tests were written with')


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors of either published file, by the names of the .pt.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no weight file, or no MobileFaceNet.
    """
    if not onnx_file.is_onnx(path):
        return torch_file.read(path)
    try:
        return _tensors(onnx_file.read(path))
    except ValueError as error:
        raise ValueError(f'{path} is not {PUBLISHED.file}: {error}') from error


def convert(tensors: Mapping[str, np.ndarray], width: int = WIDTH) -> dict[str, dict[str, np.ndarray]]:
    """Rename, transpose, and fold each normalisation into the convolution before it.

    Args:
      tensors: by the names of the published .pt.
      width: channels at the entry.

    Returns:
      {layer: {'kernel': (H,W,I,O), 'bias': (O,)}}, float32.

    Raises:
      KeyError: a tensor is missing; its argument is the name.
      ValueError: a tensor has another shape than the network's.
    """
    return {layer.name: batch_norm.fold(tensors, layer.convolution, layer.norm, _shape(layer))
            for layer in layers(width)}


def _shape(layer: Layer) -> tuple[int, int, int, int]:
    return layer.outputs, 1 if layer.depthwise else layer.inputs, layer.side, layer.side


def _tensors(graph: onnx_file.Graph) -> dict[str, np.ndarray]:
    """Walk the graph from its input as the network computes; what does not follow as it should is refused."""
    tensors: dict[str, np.ndarray] = {}
    value, = graph.inputs
    entered = value
    for layer in layers():
        if layer.name.endswith('expand'):
            entered = value
        convolution = graph.follow(value, 'Conv')
        weight, bias = graph.constants(convolution)
        tensors |= {f'{layer.convolution}.weight': weight, f'{layer.convolution}.bias': bias,
                    **batch_norm.neutral(layer.norm, len(bias))}
        value = convolution.outputs[0]
        if layer.adds:
            addition = graph.follow(value, 'Add')
            if entered not in addition.inputs:
                raise ValueError(f'{layer.convolution} is not added to {entered}')
            value = addition.outputs[0]
        elif layer.activation:
            value = graph.follow(value, layer.activation).outputs[0]
    return tensors
