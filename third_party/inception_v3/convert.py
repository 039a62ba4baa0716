"""pytorch-fid's published Inception-v3 into the parameters of `network.InceptionV3`."""

import os
from collections.abc import Mapping

import jax
import numpy as np

from third_party import batch_norm, torch_file
from third_party.convert import Published
from third_party.inception_v3.network import SMALLEST, InceptionV3

PUBLISHED = Published(
    file='pt_inception-2015-12-05-6726825d.pth', sha256='6726825d',
    origin='the releases of pytorch-fid, https://github.com/mseitzer/pytorch-fid/releases/tag/fid_weights')
_EPSILON = 1e-3  # of the batch normalisation
_NORMALISATION = ('weight', 'bias', 'running_mean', 'running_var')


def wanted(name: str) -> bool:
    """Whether a tensor of the published file is used: the classifier and the batch counters are not."""
    return name.endswith(('.conv.weight', *(f'.bn.{kind}' for kind in _NORMALISATION)))


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The wanted tensors of the published file; raises as `torch_file.read` does."""
    return torch_file.read(path, wanted)


def convert(tensors: Mapping[str, np.ndarray], divisor: int = 1) -> dict[str, dict[str, np.ndarray]]:
    """Rename, transpose, and fold each batch normalisation into the convolution before it.

    Args:
      tensors: by their published names, LAYER.conv.weight (O,I,h,w), and LAYER.bn.weight, .bias, .running_mean and
        .running_var (O,).
      divisor: of all channels, as in `network.InceptionV3`.

    Returns:
      {LAYER: {'kernel': (h,w,I,O), 'bias': (O,)}}, float32, rounded once.

    Raises:
      KeyError: a tensor is missing; its argument is the name.
      ValueError: a tensor has another shape than the network's.
    """
    return {name: batch_norm.fold(tensors, f'{name}.conv', f'{name}.bn', (outputs, inputs, height, width), _EPSILON)
            for name, (height, width, inputs, outputs) in _layers(divisor).items()}


def _layers(divisor: int) -> dict[str, tuple[int, ...]]:
    """Of each convolution its name, there and here, and the shape (h,w,I,O) of its kernel."""
    images = jax.ShapeDtypeStruct((1, SMALLEST, SMALLEST, 3), np.float32)
    params = jax.eval_shape(InceptionV3(divisor).init, jax.random.key(0), images)['params']
    return {name: layer['kernel'].shape for name, layer in params.items()}
