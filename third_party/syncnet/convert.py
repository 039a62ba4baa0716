"""The published SyncNet into the parameters of `network.Stream`, batch normalisation multiplied into the kernels."""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from third_party import torch_file
from third_party.batch_norm import checked, scale_and_shift
from third_party.convert import Published
from third_party.syncnet.network import FRAMES, LAYERS, WIDTHS

PUBLISHED = Published(
    file='syncnet_v2.model', sha256='961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442',
    origin='https://www.robots.ox.ac.uk/~vgg/software/lipsync (folder data; the script download_model.sh of '
           'https://github.com/joonson/syncnet_python fetches it)',
    witness='the copies in LatentSync and other repositories')
_ENTRIES = (0, 4, 8, 11, 14, 18)  # of the convolutions, in either half; the normalisation is the next entry


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors of the published file; raises as `torch_file.read` does."""
    return torch_file.read(path)


def convert(tensors: Mapping[str, np.ndarray], widths: Mapping[str, Sequence[int]] = WIDTHS) -> dict[str, dict]:
    """Rename, transpose, and multiply the normalisation into what comes before it, in float64.

    Args:
      tensors: by their published names: netcnnlip.N.*, netfclip.N.*, netcnnaud.N.*, netfcaud.N.*.
      widths: as `network.WIDTHS`.

    Returns:
      {'lip' and 'aud': {'conv1' to 'conv6', 'fc1', 'fc2': {'kernel', 'bias'}}}, float32. Kernels are (h,w,I,O) and
      (I,O); the input of the first of 'lip' is frame by frame, B, G, R each.

    Raises:
      KeyError: a tensor is missing; its argument is the name.
      ValueError: a tensor has another shape than the network's.
    """
    return {stream: _stream(tensors, stream, widths[stream]) for stream in ('lip', 'aud')}


def _stream(tensors: Mapping[str, np.ndarray], stream: str, widths: Sequence[int]) -> dict[str, dict]:
    params, inputs = {}, 3 if stream == 'lip' else 1
    for i, (entry, layer) in enumerate(zip(_ENTRIES, LAYERS[stream], strict=True)):
        depth = () if stream == 'aud' else (FRAMES if i == 0 else 1,)
        weight, bias = _normalized(tensors, f'netcnn{stream}.', entry, (widths[i], inputs, *depth, *layer.kernel))
        if depth:
            weight = weight.swapaxes(1, 2).reshape(widths[i], depth[0] * inputs, *layer.kernel)
        params[f'conv{i + 1}'] = _layer(weight.transpose(2, 3, 1, 0), bias)
        inputs = widths[i]
    weight, bias = _normalized(tensors, f'netfc{stream}.', 0, (widths[-2], inputs))
    params['fc1'] = _layer(weight.T, bias)
    params['fc2'] = _layer(checked(tensors, f'netfc{stream}.3.weight', (widths[-1], widths[-2])).T,
                           checked(tensors, f'netfc{stream}.3.bias', widths[-1:]))
    return params


def _normalized(tensors: Mapping[str, np.ndarray], prefix: str, entry: int,
                shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of a layer and the batch normalisation after it, as of one layer."""
    weight = checked(tensors, f'{prefix}{entry}.weight', shape)
    bias = checked(tensors, f'{prefix}{entry}.bias', shape[:1])
    scale, shift = scale_and_shift(tensors, f'{prefix}{entry + 1}', shape[0])
    return weight * scale.reshape(-1, *[1] * (len(shape) - 1)), bias * scale + shift


def _layer(kernel: np.ndarray, bias: np.ndarray) -> dict[str, np.ndarray]:
    return {'kernel': np.ascontiguousarray(kernel, np.float32), 'bias': bias.astype(np.float32)}
