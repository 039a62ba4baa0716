"""The three networks whose features LPIPS compares: AlexNet, VGG16 and SqueezeNet 1.1, up to the last that is read.

Architectures: Krizhevsky, "One weird trick for parallelizing convolutional neural networks" (2014); Simonyan and
Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition" (ICLR 2015), configuration D; Iandola
et al., "SqueezeNet" (2016), version 1.1; all as torchvision publishes them. Which layers are read and how the input
is normalised: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (CVPR 2018),
version 0.1 of its published code.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import flax.linen as nn
import jax
import jax.numpy as jnp

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of RGB in [-1, 1]: LPIPS's rounding of ImageNet's
SMALLEST = 31  # px: a side of which AlexNet's second pooling leaves one pixel


class Conv(NamedTuple):
    """A convolution and a ReLU; `entry` is its number in torchvision's `features`."""

    entry: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    read: bool = False


class Fire(NamedTuple):
    """SqueezeNet's block: 1 x 1 to fewer channels, then 1 x 1 and 3 x 3 side by side, each with a ReLU."""

    entry: int
    read: bool = False


class Pool(NamedTuple):
    """Maximum over size x size px, every second px."""

    size: int
    ceil: bool = False  # whether a window may reach beyond the border


PLANS: Mapping[str, tuple[Conv | Fire | Pool, ...]] = {
    'alexnet': (Conv(0, 11, 4, 2, True), Pool(3), Conv(3, 5, 1, 2, True), Pool(3), Conv(6, read=True),
                Conv(8, read=True), Conv(10, read=True)),
    'vgg16': (Conv(0), Conv(2, read=True), Pool(2), Conv(5), Conv(7, read=True), Pool(2),
              Conv(10), Conv(12), Conv(14, read=True), Pool(2), Conv(17), Conv(19), Conv(21, read=True), Pool(2),
              Conv(24), Conv(26), Conv(28, read=True)),
    'squeezenet1_1': (Conv(0, stride=2, padding=0, read=True), Pool(3, True), Fire(3), Fire(4, True), Pool(3, True),
                      Fire(6), Fire(7, True), Pool(3, True), Fire(9, True), Fire(10, True), Fire(11, True),
                      Fire(12, True)),
}
# Channels of each convolution; of a fire block, those between and those of either half that comes out.
WIDTHS: Mapping[str, tuple[int | tuple[int, int], ...]] = {
    'alexnet': (64, 192, 384, 256, 256),
    'vgg16': (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512),
    'squeezenet1_1': (64, (16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)),
}


def layers(network: str) -> tuple[Conv | Fire, ...]:
    """Those of `network` that have parameters, in the order of their widths."""
    return tuple(layer for layer in PLANS[network] if not isinstance(layer, Pool))


class Backbone(nn.Module):
    """Images to the feature maps that LPIPS compares: 5 of AlexNet and VGG16, 7 of SqueezeNet.

    Attributes:
      network: one of `PLANS`.
      widths: as in `WIDTHS`.
    """

    network: str
    widths: tuple[int | tuple[int, int], ...]

    @classmethod
    def of(cls, network: str, params: Mapping[str, Any]) -> Self:
        """The network that has these parameters."""
        def width(layer: Conv | Fire) -> int | tuple[int, int]:
            if isinstance(layer, Conv):
                return params[f'conv{layer.entry}']['bias'].shape[0]
            fire = params[f'fire{layer.entry}']
            return fire['squeeze']['bias'].shape[0], fire['expand1x1']['bias'].shape[0]

        return cls(network, tuple(map(width, layers(network))))

    @nn.compact
    def __call__(self, images: jax.Array) -> list[jax.Array]:
        """Extract features.

        Args:
          images: (B,H,W,3) float32 RGB in [-1, 1], sides of `SMALLEST` or more.

        Returns:
          (B,h,w,C) for every layer that is read, after its ReLU; float32.

        Raises:
          ValueError: the images are too small.
        """
        if min(images.shape[1:3]) < SMALLEST:
            raise ValueError(f'images of {images.shape[1]} x {images.shape[2]} px; LPIPS wants {SMALLEST} or more')
        shift, scale = (jnp.asarray(x, jnp.float32)[None, None, None] for x in (SHIFT, SCALE))
        x = (images - shift) / scale
        features, widths = [], iter(self.widths)
        for layer in PLANS[self.network]:
            if isinstance(layer, Pool):
                x = _pool(x, layer)
                continue
            if isinstance(layer, Conv):
                x = _convolution(x, next(widths), layer.kernel, f'conv{layer.entry}', layer.stride, layer.padding)
            else:
                x = _Fire(*next(widths), name=f'fire{layer.entry}')(x)
            if layer.read:
                features.append(x)
        return features


class _Fire(nn.Module):
    squeeze: int
    expand: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = _convolution(x, self.squeeze, 1, 'squeeze', padding=0)
        return jnp.concatenate([_convolution(x, self.expand, 1, 'expand1x1', padding=0),
                                _convolution(x, self.expand, 3, 'expand3x3')], axis=-1)


def _convolution(x: jax.Array, width: int, kernel: int, name: str, stride: int = 1, padding: int = 1) -> jax.Array:
    # A metric is the same number on every device: no TF32, no bfloat16 products.
    precision = jax.lax.Precision.HIGHEST
    return nn.relu(nn.Conv(width, (kernel, kernel), stride, padding, precision=precision, name=name)(x))


def _pool(x: jax.Array, pool: Pool) -> jax.Array:
    """A window that `ceil` lets reach beyond the border sees nothing there, as in PyTorch."""
    beyond = [(0, (side - pool.size) % 2 if pool.ceil else 0) for side in x.shape[1:3]]
    return nn.max_pool(x, (pool.size, pool.size), (2, 2), beyond)
