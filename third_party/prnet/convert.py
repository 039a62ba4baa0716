"""PRNet's published TensorFlow checkpoint into the variables of `models.unprojection.UnprojectionNet`.

The kernels of both have the same layout: (4, 4, inputs, outputs) of convolutions, (4, 4, outputs, inputs) of
transposed ones.
"""

import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from third_party.convert import Published

WIDTH = 16  # channels at full resolution
LEVELS = 5  # halvings, 256 px to 8 px
SCOPE = 'resfcn256'
_DATA = '.data-00000-of-00001'

PUBLISHED = Published(
    file=f'256_256_resfcn256_weight{_DATA}',
    sha256='59d338bf0c21b10be813f17f84042c9d3a5bf318e588855ff2b2c041c25bb91a',
    origin="the README of PRNet, https://github.com/yfeng95/PRNet (formerly YadiraF/PRNet), with the file "
           '256_256_resfcn256_weight.index from its folder Data/net-data beside it',
    witness='a copy in a third repository')

Tensor = tuple[str, tuple[str, ...], tuple[int, ...]]  # published name, place among the variables, shape


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The network's tensors of a checkpoint, by their published names; what the optimizer kept is left out.

    Args:
      path: the .data file; its .index lies beside it.

    Raises:
      ValueError: it is no checkpoint, a half of it is missing, or TensorFlow, which reads it, is not installed.
    """
    path = pathlib.Path(path)
    prefix = str(path).removesuffix(_DATA)
    if prefix == str(path):
        raise ValueError(f'{path} is not the data of a TensorFlow checkpoint; want {PUBLISHED.file}')
    if not os.path.isfile(f'{prefix}.index'):
        raise ValueError(f'{path} is half a checkpoint; want {prefix}.index beside it')
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ValueError(f'{path} is a TensorFlow checkpoint and TensorFlow is not installed ({error}); convert it '
                         'where it is, and copy the result') from error
    try:
        reader = tf.train.load_checkpoint(prefix)
        names = reader.get_variable_to_shape_map()
        return {name: reader.get_tensor(name) for name, *_ in tensors() if name in names}
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise ValueError(f'{path} is not a whole TensorFlow checkpoint ({error})') from error


def convert(published: Mapping[str, np.ndarray], width: int = WIDTH, levels: int = LEVELS) -> dict[str, Any]:
    """Rename.

    Args:
      published: tensors by their published names.
      width: channels at full resolution.
      levels: halvings.

    Returns:
      {'params': ..., 'batch_stats': ...}, nested dicts of float32 arrays.

    Raises:
      KeyError: a tensor is missing; its argument is the name.
      ValueError: a tensor has another shape than the network's.
    """
    variables: dict[str, Any] = {}
    for name, (*parents, leaf), shape in tensors(width, levels):
        if published[name].shape != shape:
            raise ValueError(f'tensor {name} has the shape {published[name].shape}; PRNet wants {shape}')
        node = variables
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = np.asarray(published[name], np.float32)
    return variables


def tensors(width: int = WIDTH, levels: int = LEVELS) -> Iterator[Tensor]:
    """Every tensor of the network; arguments as in `convert`."""
    yield from _layer('Conv', ('enter',), (4, 4, 3, width))
    yield from _norm('Conv', ('enter_act', 'norm'), width)
    inputs = width
    for number in range(2 * levels):
        level, second = number // 2 + 1, number % 2
        yield from _block(f'resBlock{_suffix(number)}', f'down{level}_{second}', inputs, width << level, bool(second))
        inputs = width << level
    ups = [('bottom', width << levels)]
    for level in range(levels - 1, -1, -1):
        ups += [(f'up{level}_{i}', width << level) for i in range(3 if level > 1 else 2)]
    for number, (place, outputs) in enumerate([*ups, ('out0', 3), ('out1', 3), ('out2', 3)]):
        scope = f'Conv2d_transpose{_suffix(number)}'
        yield from _layer(scope, (place,), (4, 4, outputs, inputs))
        yield from _norm(scope, ('out2_norm',) if place == 'out2' else (f'{place}_act', 'norm'), outputs)
        inputs = outputs


def _block(scope: str, place: str, inputs: int, outputs: int, second: bool) -> Iterator[Tensor]:
    """A residual block; the first of a pair halves the image, so that its shortcut is a convolution."""
    half = outputs // 2
    if not second:
        yield from _layer(f'{scope}/shortcut', (place, 'shortcut'), (1, 1, inputs, outputs))
    yield from _layer(f'{scope}/Conv', (place, 'narrow'), (1, 1, inputs, half))
    yield from _norm(f'{scope}/Conv', (place, 'narrow_act', 'norm'), half)
    yield from _layer(f'{scope}/Conv_1', (place, 'middle'), (4, 4, half, half))
    yield from _norm(f'{scope}/Conv_1', (place, 'middle_act', 'norm'), half)
    yield from _layer(f'{scope}/Conv_2', (place, 'wide'), (1, 1, half, outputs))
    yield from _norm(scope, (place, 'act', 'norm'), outputs)


def _layer(scope: str, place: tuple[str, ...], shape: tuple[int, ...]) -> Iterator[Tensor]:
    yield f'{SCOPE}/{scope}/weights', ('params', *place, 'kernel'), shape


def _norm(scope: str, place: tuple[str, ...], channels: int) -> Iterator[Tensor]:
    for name, kind, leaf in (('beta', 'params', 'bias'), ('gamma', 'params', 'scale'),
                             ('moving_mean', 'batch_stats', 'mean'), ('moving_variance', 'batch_stats', 'var')):
        yield f'{SCOPE}/{scope}/BatchNorm/{name}', (kind, *place, leaf), (channels,)


def _suffix(number: int) -> str:
    """TensorFlow numbers equal scopes from the second on."""
    return f'_{number}' if number else ''
