"""torchvision's published classifiers and LPIPS's published heads into the parameters of LPIPS."""

import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from third_party import torch_file
from third_party.batch_norm import checked
from third_party.convert import Published
from third_party.lpips.network import WIDTHS, Conv, layers


def _backbone(file: str, sha256: str, page: str) -> Published:
    origin = f"torchvision's model page, https://docs.pytorch.org/vision/stable/models/{page}.html "
    return Published(file, sha256, f'{origin}(https://download.pytorch.org/models/{file})')


def _heads(file: str, sha256: str) -> Published:
    return Published(file, sha256, 'https://github.com/richzhang/PerceptualSimilarity, folder lpips/weights/v0.1, '
                                   'or the Python package lpips 0.1.4')


PUBLISHED: Mapping[str, Published] = {
    'alexnet': _backbone('alexnet-owt-7be5be79.pth', '7be5be79', 'alexnet'),
    'vgg16': _backbone('vgg16-397923af.pth', '397923af', 'vgg'),
    'squeezenet1_1': _backbone('squeezenet1_1-b8a52dc0.pth', 'b8a52dc0', 'squeezenet'),
    'lpips_alex': _heads('alex.pth', 'df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0'),
    'lpips_vgg': _heads('vgg.pth', 'a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868'),
    'lpips_squeeze': _heads('squeeze.pth', '4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76'),
}
BACKBONES: Mapping[str, str] = {'lpips_alex': 'alexnet', 'lpips_vgg': 'vgg16', 'lpips_squeeze': 'squeezenet1_1'}


def read(path: str | os.PathLike, network: str) -> dict[str, np.ndarray]:
    """The tensors of the published file that are used; raises as `torch_file.read` does."""
    if network in BACKBONES:
        return torch_file.read(path)
    used = {f'{entry}.{kind}' for entry, *_ in _convolutions(network, WIDTHS[network]) for kind in ('weight', 'bias')}
    return torch_file.read(path, used.__contains__)


def convert(tensors: Mapping[str, np.ndarray], network: str,
            widths: Sequence[int | tuple[int, int]] | None = None) -> dict[str, dict]:
    """Rename and transpose.

    Args:
      tensors: by their published names: features.N.weight (O,I,k,k) and features.N.bias (O,), with SqueezeNet's
        parts between N and the kind; or of heads, linL.model.1.weight (1,C,1,1).
      network: one of `PUBLISHED`.
      widths: of the backbone, as in `network.WIDTHS`.

    Returns:
      Float32, of a backbone the parameters of `network.Backbone`: 'convN' or 'fireN' -> ... -> {'kernel': (k,k,I,O),
      'bias': (O,)}; of heads {'linL': {'weight': (C,)}}.

    Raises:
      KeyError: a tensor is missing; its argument is the name.
      ValueError: a tensor has another shape than the network's.
    """
    backbone = BACKBONES.get(network, network)
    widths = WIDTHS[backbone] if widths is None else widths
    if network in BACKBONES:
        heads = {f'lin{i}': checked(tensors, f'lin{i}.model.1.weight', (1, channels, 1, 1))
                 for i, channels in enumerate(_channels(backbone, widths))}
        return {name: {'weight': weight.reshape(-1).astype(np.float32)} for name, weight in heads.items()}
    params: dict[str, dict] = {}
    for entry, path, kernel, inputs, outputs in _convolutions(network, widths):
        weight = checked(tensors, f'{entry}.weight', (outputs, inputs, kernel, kernel))
        node = params
        for name in path:
            node = node.setdefault(name, {})
        node |= {'kernel': np.ascontiguousarray(weight.transpose(2, 3, 1, 0), np.float32),
                 'bias': checked(tensors, f'{entry}.bias', (outputs,)).astype(np.float32)}
    return params


def _convolutions(network: str, widths: Sequence[int | tuple[int, int]]
                  ) -> Iterator[tuple[str, tuple[str, ...], int, int, int]]:
    """Of each convolution: its published entry, its place here, its kernel, the channels that go in and come out."""
    inputs = 3
    for layer, width in zip(layers(network), widths, strict=True):
        entry = f'features.{layer.entry}'
        if isinstance(layer, Conv):
            yield entry, (f'conv{layer.entry}',), layer.kernel, inputs, width
            inputs = width
            continue
        squeeze, expand = width
        for part, kernel, before, after in (('squeeze', 1, inputs, squeeze), ('expand1x1', 1, squeeze, expand),
                                            ('expand3x3', 3, squeeze, expand)):
            yield f'{entry}.{part}', (f'fire{layer.entry}', part), kernel, before, after
        inputs = 2 * expand


def _channels(network: str, widths: Sequence[int | tuple[int, int]]) -> list[int]:
    """Of each feature map that is read."""
    return [width if isinstance(width, int) else 2 * width[1]
            for layer, width in zip(layers(network), widths, strict=True) if layer.read]
