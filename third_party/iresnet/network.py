"""ArcFace's iResNet: an aligned face to 512 numbers that tell persons apart.

Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition" (CVPR 2019), with the improved residual
unit of Duta et al., "Improved Residual Networks for Image and Video Recognition" (ICPR 2020), in the form that
insightface's arcface_torch publishes. Normalisations are folded into the layers before them; the first of a block,
before a convolution that pads with zeros, stays.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp

SIZE = 112  # px: side of the aligned face
WIDTHS = (64, 64, 128, 256, 512)  # channels at the entry and in each of the four parts
DEPTHS: Mapping[str, tuple[int, ...]] = {'iresnet50': (3, 4, 14, 3), 'iresnet100': (3, 13, 30, 3)}  # blocks in each
FEATURES = 512


def blocks(widths: tuple[int, ...], depths: tuple[int, ...]) -> Iterator[tuple[str, str, int, int, bool]]:
    """Of each block: its name here, its published name, channels in and out, whether it halves the picture."""
    for part, depth in enumerate(depths, 1):
        for number in range(depth):
            inputs = widths[part - 1] if number == 0 else widths[part]
            yield f'block{part}_{number + 1}', f'layer{part}.{number}', inputs, widths[part], number == 0


class IResNet(nn.Module):
    """Aligned faces to embeddings.

    Attributes:
      widths: channels at the entry and in each of the four parts.
      depths: blocks in each part.
      features: size of an embedding.
      precision: of the products; a shorter one costs parity with the published network on an accelerator.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    features: int = FEATURES
    precision: Any = jax.lax.Precision.HIGHEST

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Self:
        """The network that has these parameters."""
        parts = range(1, len(WIDTHS))
        widths = [params['conv1']['bias'].shape[0], *(params[f'block{i}_1_conv2']['bias'].shape[0] for i in parts)]
        depths = [sum(name.startswith(f'block{i}_') and name.endswith('_conv2') for name in params) for i in parts]
        return cls(tuple(widths), tuple(depths), params['embedding']['bias'].shape[0])

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Embed: (B,112,112,3) RGB in 0 .. 255, aligned -> (B, features) float32 of any length."""
        x = (images.astype(jnp.float32) - 127.5) / 127.5
        x = PReLU(name='prelu1')(self._convolution('conv1', self.widths[0])(x))
        for name, _, _, outputs, halves in blocks(self.widths, self.depths):
            shortcut = self._convolution(f'{name}_shortcut', outputs, 2, 1)(x) if halves else x
            x = self._convolution(f'{name}_conv1', outputs)(Affine(name=f'{name}_norm')(x))
            x = PReLU(name=f'{name}_prelu')(x)
            x = shortcut + self._convolution(f'{name}_conv2', outputs, 2 if halves else 1)(x)
        x = x.reshape(x.shape[0], -1)
        return nn.Dense(self.features, precision=self.precision, name='embedding')(x)

    def _convolution(self, name: str, width: int, stride: int = 1, side: int = 3) -> nn.Conv:
        padding = ((side // 2, side // 2),) * 2  # as PyTorch pads: 'SAME' would leave out the first pixel
        return nn.Conv(width, (side, side), stride, padding, precision=self.precision, name=name)


class PReLU(nn.Module):
    """x where it is positive, x times a slope of its channel elsewhere."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(..., C) -> (..., C)."""
        slope = self.param('slope', nn.initializers.constant(0.25), x.shape[-1:])
        return jnp.where(x >= 0, x, x * slope.reshape((1,) * (x.ndim - 1) + (-1,)))


class Affine(nn.Module):
    """What is left of a normalisation in inference: a scale and a shift of each channel."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(..., C) -> (..., C)."""
        scale = self.param('scale', nn.initializers.ones, x.shape[-1:])
        bias = self.param('bias', nn.initializers.zeros, x.shape[-1:])
        shape = (1,) * (x.ndim - 1) + (-1,)
        return x * scale.reshape(shape) + bias.reshape(shape)
