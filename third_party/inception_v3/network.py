"""Inception-v3 up to the last average pool: the 2048 features that the Frechet inception distance compares.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision" (CVPR 2016), in the variant whose weights
Heusel et al. (NeurIPS 2017) computed the distance with and pytorch-fid publishes. It is not torchvision's: averages
do not count the padding, and the last block has a maximum where the others have an average. Batch normalisation is
part of the convolutions (`convert.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import flax.linen as nn
import jax
import jax.numpy as jnp

SIZE = 299  # px: a side of the pictures that it was trained on
SMALLEST = 75  # px: a side that leaves one pixel to the last block
_STEM = 32  # channels of the first layer


class Layer(NamedTuple):
    """One convolution: its name in its block, channels that come out, kernel; VALID where it strides, or asked to."""

    name: str
    channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    valid: bool = False


class Block(NamedTuple):
    """Branches side by side, each a chain whose last tuple, where it is one, is split into layers side by side.

    `pool` is 'average' or 'maximum' (3 x 3, stride 1), followed by a convolution of `pooled` channels; or 'half', the
    maximum with stride 2, alone.
    """

    branches: tuple[tuple[Any, ...], ...]
    pool: str
    pooled: int = 0


STEM = (Layer('Conv2d_1a_3x3', _STEM, (3, 3), 2), Layer('Conv2d_2a_3x3', 32, (3, 3), valid=True),
        Layer('Conv2d_2b_3x3', 64, (3, 3)), 'half', Layer('Conv2d_3b_1x1', 80),
        Layer('Conv2d_4a_3x3', 192, (3, 3), valid=True), 'half')


def _a(pooled: int) -> Block:
    return Block(((Layer('branch1x1', 64),),
                  (Layer('branch5x5_1', 48), Layer('branch5x5_2', 64, (5, 5))),
                  (Layer('branch3x3dbl_1', 64), Layer('branch3x3dbl_2', 96, (3, 3)),
                   Layer('branch3x3dbl_3', 96, (3, 3)))), 'average', pooled)


def _c(inner: int) -> Block:
    row, column = (1, 7), (7, 1)
    return Block(((Layer('branch1x1', 192),),
                  (Layer('branch7x7_1', inner), Layer('branch7x7_2', inner, row), Layer('branch7x7_3', 192, column)),
                  (Layer('branch7x7dbl_1', inner), Layer('branch7x7dbl_2', inner, column),
                   Layer('branch7x7dbl_3', inner, row), Layer('branch7x7dbl_4', inner, column),
                   Layer('branch7x7dbl_5', 192, row))), 'average', 192)


def _e(pool: str) -> Block:
    row, column = (1, 3), (3, 1)
    return Block(((Layer('branch1x1', 320),),
                  (Layer('branch3x3_1', 384), (Layer('branch3x3_2a', 384, row), Layer('branch3x3_2b', 384, column))),
                  (Layer('branch3x3dbl_1', 448), Layer('branch3x3dbl_2', 384, (3, 3)),
                   (Layer('branch3x3dbl_3a', 384, row), Layer('branch3x3dbl_3b', 384, column)))), pool, 192)


BLOCKS: Mapping[str, Block] = {
    'Mixed_5b': _a(32), 'Mixed_5c': _a(64), 'Mixed_5d': _a(64),
    'Mixed_6a': Block(((Layer('branch3x3', 384, (3, 3), 2),),
                       (Layer('branch3x3dbl_1', 64), Layer('branch3x3dbl_2', 96, (3, 3)),
                        Layer('branch3x3dbl_3', 96, (3, 3), 2))), 'half'),
    'Mixed_6b': _c(128), 'Mixed_6c': _c(160), 'Mixed_6d': _c(160), 'Mixed_6e': _c(192),
    'Mixed_7a': Block(((Layer('branch3x3_1', 192), Layer('branch3x3_2', 320, (3, 3), 2)),
                       (Layer('branch7x7x3_1', 192), Layer('branch7x7x3_2', 192, (1, 7)),
                        Layer('branch7x7x3_3', 192, (7, 1)), Layer('branch7x7x3_4', 192, (3, 3), 2))), 'half'),
    'Mixed_7b': _e('average'), 'Mixed_7c': _e('maximum'),
}


class InceptionV3(nn.Module):
    """Images to 2048 features.

    Attributes:
      divisor: of all channels, 1 in the published network; of 16.
    """

    divisor: int = 1

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Self:
        """The network that has these parameters."""
        return cls(_STEM // params[STEM[0].name]['bias'].shape[0])

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Extract features.

        Args:
          images: (B,H,W,3) RGB in [-1, 1], sides of `SMALLEST` or more; `SIZE` for the distance.

        Returns:
          (B, 2048 / divisor) float32, at least 0: means over the last feature map.

        Raises:
          ValueError: the images are too small.
        """
        if min(images.shape[1:3]) < SMALLEST:
            raise ValueError(f'images of {images.shape[1]} x {images.shape[2]} px; '
                             f'Inception-v3 wants {SMALLEST} or more')
        x = self._chain(images, STEM)
        for name, block in BLOCKS.items():
            branches = [self._chain(x, branch, f'{name}.') for branch in block.branches]
            pooled = (Layer('branch_pool', block.pooled),) if block.pooled else ()
            x = jnp.concatenate([*branches, self._chain(x, (block.pool, *pooled), f'{name}.')], axis=-1)
        return x.mean((1, 2))

    def _chain(self, x: jax.Array, chain: Sequence[Any], block: str = '') -> jax.Array:
        for step in chain:
            if isinstance(step, str):
                x = _POOLS[step](x)
            elif isinstance(step, Layer):
                x = self._convolve(x, step, block)
            else:
                x = jnp.concatenate([self._convolve(x, layer, block) for layer in step], axis=-1)
        return x

    def _convolve(self, x: jax.Array, layer: Layer, block: str) -> jax.Array:
        # Products of TensorFloat-32 or bfloat16 are off by more than the distance of two good methods can bear.
        convolution = nn.Conv(layer.channels // self.divisor, layer.kernel, layer.stride,
                              'VALID' if layer.valid or layer.stride > 1 else 'SAME',
                              precision=jax.lax.Precision.HIGHEST, name=f'{block}{layer.name}')
        return nn.relu(convolution(x))


_POOLS = {
    'average': lambda x: nn.avg_pool(x, (3, 3), padding='SAME', count_include_pad=False),
    'maximum': lambda x: nn.max_pool(x, (3, 3), padding='SAME'),
    'half': lambda x: nn.max_pool(x, (3, 3), (2, 2)),
}
