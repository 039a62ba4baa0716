"""VGG19 up to relu5_1: the features that perceptual losses compare.

Configuration E of Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition"
(ICLR 2015), with the input normalisation of the weights that torchvision publishes.
"""

from collections.abc import Mapping
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp

WIDTHS = (64, 128, 256, 512, 512)  # channels in each of the five parts
DEPTHS = (2, 2, 4, 4, 1)  # convolutions in each; the last part ends after its first, three follow in the original
SMALLEST = 2 ** (len(WIDTHS) - 1)  # px: a side that four poolings leave one pixel of
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of RGB in [0, 1]


class VGG19(nn.Module):
    """Images to the five feature maps relu1_1, relu2_1, relu3_1, relu4_1, relu5_1.

    Attributes:
      widths: channels in each part.
      dtype: of the convolutions.
    """

    widths: tuple[int, ...] = WIDTHS
    dtype: Any = jnp.float32

    @classmethod
    def of(cls, params: Mapping[str, Any], dtype: Any = jnp.float32) -> Self:
        """The network that has these parameters."""
        return cls(tuple(params[f'conv{part + 1}_1']['bias'].shape[0] for part in range(len(WIDTHS))), dtype)

    @nn.compact
    def __call__(self, images: jax.Array) -> list[jax.Array]:
        """Extract features.

        Args:
          images: (B,H,W,3) RGB in [-1, 1], sides of `SMALLEST` or more.

        Returns:
          For part i of 0..4: (B, H // 2^i, W // 2^i, widths[i]), in `dtype`.

        Raises:
          ValueError: the images are too small.
        """
        if min(images.shape[1:3]) < SMALLEST:
            raise ValueError(f'images of {images.shape[1]} x {images.shape[2]} px; VGG19 wants {SMALLEST} or more')
        mean, deviation = (jnp.asarray(x, images.dtype)[None, None, None] for x in (MEAN, DEVIATION))
        x = ((images + 1) / 2 - mean) / deviation
        features = []
        for part, (width, depth) in enumerate(zip(self.widths, DEPTHS, strict=True)):
            if part:
                x = _half(x)
            for layer in range(depth):
                x = nn.relu(nn.Conv(width, (3, 3), dtype=self.dtype, name=f'conv{part + 1}_{layer + 1}')(x))
                if layer == 0:
                    features.append(x)
        return features


def _half(x: jax.Array) -> jax.Array:
    """Maximum over 2 x 2 px, an odd last row or column left out: (B,H,W,C) -> (B, H // 2, W // 2, C).

    As a reduction over axes of its own, which on a CPU runs and compiles faster than `flax.linen.max_pool`.
    """
    batch, height, width, channels = x.shape
    x = x[:, :height // 2 * 2, :width // 2 * 2]
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))
