"""Batch normalisation in inference is a scale and a shift: weights are converted with it folded into its neighbour.

PyTorch's ONNX export folds in the same way, so that a network converted from either file is the same one.
"""

from collections.abc import Mapping

import numpy as np

EPSILON = 1e-5  # PyTorch's default
Tensors = Mapping[str, np.ndarray]


def checked(tensors: Tensors, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor in float64; KeyError(name) where it is missing, ValueError where it has another shape."""
    if tensors[name].shape != shape:
        raise ValueError(f'tensor {name} has the shape {tensors[name].shape}; the network wants {shape}')
    return tensors[name].astype(np.float64)


def scale_and_shift(tensors: Tensors, name: str, width: int,
                    epsilon: float = EPSILON) -> tuple[np.ndarray, np.ndarray]:
    """What the normalisation `name` of `width` channels does to its input: (C,) and (C,) float64."""
    weight, bias, mean, variance = (checked(tensors, f'{name}.{kind}', (width,))
                                    for kind in ('weight', 'bias', 'running_mean', 'running_var'))
    scale = weight / np.sqrt(variance + epsilon)
    return scale, bias - scale * mean


def fold(tensors: Tensors, convolution: str, norm: str, shape: tuple[int, int, int, int],
         epsilon: float = EPSILON) -> dict[str, np.ndarray]:
    """A convolution and the normalisation after it, as one convolution.

    Args:
      tensors: by their published names.
      convolution: its name; it may have a bias of its own.
      norm: the normalisation's name.
      shape: (O,I,H,W) of the convolution's weight.
      epsilon: of the normalisation.

    Returns:
      {'kernel': (H,W,I,O), 'bias': (O,)}, float32.

    Raises:
      KeyError: a tensor is missing; its argument is the name.
      ValueError: a tensor has another shape.
    """
    weight = checked(tensors, f'{convolution}.weight', shape)
    scale, shift = scale_and_shift(tensors, norm, shape[0], epsilon)
    if f'{convolution}.bias' in tensors:
        shift = shift + scale * checked(tensors, f'{convolution}.bias', shape[:1])
    kernel = (weight * scale[:, None, None, None]).transpose(2, 3, 1, 0)
    return {'kernel': np.ascontiguousarray(kernel, np.float32), 'bias': shift.astype(np.float32)}


def neutral(name: str, width: int) -> dict[str, np.ndarray]:
    """The tensors of a normalisation that changes nothing: for what an export has folded already."""
    return named(name, np.ones(width), np.zeros(width), np.zeros(width), np.ones(width), 0.0)


def named(name: str, weight: np.ndarray, bias: np.ndarray, mean: np.ndarray, variance: np.ndarray,
          epsilon: float) -> dict[str, np.ndarray]:
    """The tensors of a normalisation by their published names; another `epsilon` goes into the variance."""
    return {f'{name}.weight': weight, f'{name}.bias': bias, f'{name}.running_mean': mean,
            f'{name}.running_var': variance.astype(np.float64) + (epsilon - EPSILON)}
