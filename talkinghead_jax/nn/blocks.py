"""Convolution blocks that the image networks share."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from talkinghead_jax.nn.initialization import SUBPIXELS, Conv
from talkinghead_jax.nn.normalization import ExampleNorm


def leaky_relu(x: jax.Array) -> jax.Array:
    """Slope 0.2, as everywhere in this network family."""
    return nn.leaky_relu(x, 0.2)


def depth_to_space(x: jax.Array) -> jax.Array:
    """(B,H,W,4C) -> (B,2H,2W,C): channel (2 i + j) C + c of a pixel becomes channel c of its subpixel (i, j)."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, 2, 2, channels // 4)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, channels // 4)


def upsample_nearest(x: jax.Array) -> jax.Array:
    """Repeat every pixel 2 x 2: (B,H,W,C) -> (B,2H,2W,C)."""
    batch, height, width, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, 2, width, 2, channels))
    return x.reshape(batch, 2 * height, 2 * width, channels)


class ConvNorm(nn.Module):
    """3 x 3 convolution, per-example normalisation, leaky ReLU."""

    features: int
    stride: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B,H,W,C) -> (B,H/stride,W/stride,features)."""
        x = Conv(self.features, (3, 3), self.stride, use_bias=False, dtype=self.dtype)(x)
        return leaky_relu(ExampleNorm()(x))


class ResidualBlock(nn.Module):
    """Pre-activation residual block: (norm, leaky ReLU, 3 x 3 convolution) twice, 1 x 1 shortcut if needed."""

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B,H,W,C) -> (B,H,W,features)."""
        shortcut = x
        for _ in range(2):
            x = leaky_relu(ExampleNorm()(x))
            x = Conv(self.features, (3, 3), dtype=self.dtype)(x)
        if shortcut.shape[-1] != self.features:
            shortcut = Conv(self.features, (1, 1), use_bias=False, dtype=self.dtype)(shortcut)
        return shortcut + x


class Upsample(nn.Module):
    """Doubles height and width: the paper's transposed convolution (kernel 4, stride 2) as a plain one.

    A 3 x 3 convolution to 4C channels followed by `depth_to_space` contains every such transposed convolution
    (tests/nn/blocks_test.py) and is several times faster on CPU. Its four subpixels start with the same weights
    (`nn.initialization`), lest the first images be chequered.
    """

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B,H,W,C) -> (B,2H,2W,features)."""
        return depth_to_space(Conv(4 * self.features, (3, 3), dtype=self.dtype, name=SUBPIXELS)(x))
