"""MobileFaceNet: an aligned face to 128 numbers that tell persons apart.

Chen et al., "MobileFaceNets: Efficient CNNs for Accurate Real-Time Face Verification on Mobile Devices" (CCBR 2018),
as foamliu/MobileFaceNet trained it: ReLU and ReLU6 where the paper has PReLU. Normalisations are folded into the
convolutions.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp

SIZE = 112  # px: side of the aligned face
WIDTH = 64  # channels at the entry; every other number of channels is a multiple
BLOCKS = ((2, 1, 5, 2), (4, 2, 1, 2), (2, 2, 6, 1), (4, 2, 1, 2), (2, 2, 2, 1))  # expansion, width, count, stride
LAST, FEATURES = 8, 2  # widths before and after the embedding
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of RGB in [0, 1]


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution with its normalisation: names, sizes, and what comes after.

    Attributes:
      name: here.
      convolution: its published name.
      norm: the published name of its normalisation.
      inputs: channels; a depthwise one has as many outputs.
      outputs: channels.
      side: px of the kernel.
      stride: px.
      depthwise: whether each channel is convolved by itself.
      activation: 'Clip' (to 0 .. 6), 'Relu' or '', as ONNX calls them.
      adds: whether what went into the block is added to the result.
    """

    name: str
    convolution: str
    norm: str
    inputs: int
    outputs: int
    side: int = 1
    stride: int = 1
    depthwise: bool = False
    activation: str = ''
    adds: bool = False


def layers(width: int = WIDTH) -> Iterator[Layer]:
    """All layers in the order of computation; a block begins with the one whose name ends in 'expand'."""
    yield Layer('conv1', 'conv1.0', 'conv1.1', 3, width, 3, 2, activation='Clip')
    yield Layer('depthwise', 'dw_conv.depthwise', 'dw_conv.bn1', width, width, 3, depthwise=True, activation='Relu')
    yield Layer('pointwise', 'dw_conv.pointwise', 'dw_conv.bn2', width, width, activation='Relu')
    inputs, number = width, 0
    for expansion, factor, count, first_stride in BLOCKS:
        for stride in [first_stride] + [1] * (count - 1):
            wide, outputs, entry = inputs * expansion, width * factor, f'features.{number}.conv'
            yield Layer(f'block{number}_expand', f'{entry}.0.0', f'{entry}.0.1', inputs, wide, activation='Clip')
            yield Layer(f'block{number}_depthwise', f'{entry}.1.0', f'{entry}.1.1', wide, wide, 3, stride,
                        depthwise=True, activation='Clip')
            yield Layer(f'block{number}_project', f'{entry}.2', f'{entry}.3', wide, outputs,
                        adds=stride == 1 and inputs == outputs)
            inputs, number = outputs, number + 1
    last = width * LAST
    yield Layer('conv2', 'conv2.0', 'conv2.1', inputs, last, activation='Clip')
    yield Layer('global_depthwise', 'gdconv.depthwise', 'gdconv.bn', last, last, SIZE // 16, depthwise=True)
    yield Layer('embedding', 'conv3', 'bn', last, width * FEATURES)


class MobileFaceNet(nn.Module):
    """Aligned faces to embeddings.

    Attributes:
      width: channels at the entry.
      precision: of the convolutions; a shorter one costs parity with the published network on an accelerator.
    """

    width: int = WIDTH
    precision: Any = jax.lax.Precision.HIGHEST

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Self:
        """The network that has these parameters."""
        return cls(params['conv1']['bias'].shape[0])

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Embed: (B,112,112,3) RGB in 0 .. 255, aligned -> (B, 2 width) float32 of any length."""
        mean, deviation = (jnp.asarray(x, jnp.float32)[None, None, None] for x in (MEAN, DEVIATION))
        x = (images.astype(jnp.float32) / 255 - mean) / deviation
        entered = x
        for layer in layers(self.width):
            if layer.name.endswith('expand'):
                entered = x
            # Around a picture as PyTorch pads it; the global one covers all of it.
            padding = (0, 0) if layer.name == 'global_depthwise' else (layer.side // 2,) * 2
            x = nn.Conv(layer.outputs, (layer.side,) * 2, layer.stride, (padding,) * 2,
                        feature_group_count=layer.inputs if layer.depthwise else 1, precision=self.precision,
                        name=layer.name)(x)
            x = x + entered if layer.adds else _ACTIVATIONS[layer.activation](x)
        return x.reshape(x.shape[0], -1)


_ACTIVATIONS = {'Clip': nn.relu6, 'Relu': nn.relu, '': lambda x: x}
