"""torchvision's published VGG19 into the parameters of `network.VGG19`."""

import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from third_party import torch_file
from third_party.batch_norm import checked
from third_party.convert import Published
from third_party.vgg19.network import DEPTHS, WIDTHS

PUBLISHED = Published(
    file='vgg19-dcbb9e9d.pth', sha256='dcbb9e9d',
    origin="torchvision's model page, https://docs.pytorch.org/vision/stable/models/vgg.html "
           '(https://download.pytorch.org/models/vgg19-dcbb9e9d.pth)')


def wanted(name: str) -> bool:
    """Whether a tensor of the published file is used: the classifier, six sevenths of it, and the end are not."""
    return name in {f'{entry}.{kind}' for entry, *_ in _layers(WIDTHS) for kind in ('weight', 'bias')}


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The wanted tensors of the published file; raises as `torch_file.read` does."""
    return torch_file.read(path, wanted)


def convert(tensors: Mapping[str, np.ndarray], widths: Sequence[int] = WIDTHS) -> dict[str, dict[str, np.ndarray]]:
    """Rename and transpose.

    Args:
      tensors: by their published names, features.N.weight (O,I,3,3) and features.N.bias (O,).
      widths: channels in each part.

    Returns:
      {'convP_L': {'kernel': (3,3,I,O), 'bias': (O,)}}, float32.

    Raises:
      KeyError: a tensor is missing; its argument is the name.
      ValueError: a tensor has another shape than the network's.
    """
    params = {}
    for entry, layer, inputs, outputs in _layers(widths):
        weight = checked(tensors, f'{entry}.weight', (outputs, inputs, 3, 3))
        bias = checked(tensors, f'{entry}.bias', (outputs,))
        params[layer] = {'kernel': np.ascontiguousarray(weight.transpose(2, 3, 1, 0), np.float32),
                         'bias': bias.astype(np.float32)}
    return params


def _layers(widths: Sequence[int]) -> Iterator[tuple[str, str, int, int]]:
    """Of each convolution: its published entry, its name here, the channels that go in and come out."""
    number, inputs = 0, 3  # torchvision counts convolutions, activations and poolings alike
    for part, (width, depth) in enumerate(zip(widths, DEPTHS, strict=True), 1):
        for layer in range(1, depth + 1):
            yield f'features.{number}', f'conv{part}_{layer}', inputs, width
            number, inputs = number + 2, width
        number += 1
