"""SyncNet: a film of five frames and the 0.2 s of sound that go with it, to two points that lie near each other.

Chung and Zisserman, "Out of time: automated lip sync in the wild" (ACCV 2016 workshop), in the form of the weights
that are published as syncnet_v2.model, which differs from the paper's: colour, 224 px, 1024 numbers. Batch
normalisation is part of the kernels (see `convert.py`), and the only layer that sees more than one frame, the first,
is a plane convolution of 15 channels.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import flax.linen as nn
import jax

FRAMES = 5  # of a film, at 25 a second
SIDE = 224  # px
STEPS, COEFFICIENTS = 20, 13  # of a piece of sound: MFCC, 100 a second
WIDTHS: Mapping[str, tuple[int, ...]] = {  # six convolutions, two dense layers
    'lip': (96, 256, 256, 256, 256, 512, 512, 1024),
    'aud': (64, 192, 384, 256, 256, 512, 512, 1024),
}


class Layer(NamedTuple):
    """A convolution, a ReLU, and perhaps a maximum over 3 x 3."""

    kernel: tuple[int, int] = (3, 3)
    stride: int = 1
    padding: int = 1
    pool: tuple[int, int] | None = None  # its strides
    pool_padding: int = 0


LAYERS: Mapping[str, tuple[Layer, ...]] = {
    'lip': (Layer((7, 7), 2, 0, (2, 2)), Layer((5, 5), 2, 1, (2, 2), 1), Layer(), Layer(), Layer(pool=(2, 2)),
            Layer((6, 6), 1, 0)),
    'aud': (Layer(), Layer(pool=(1, 2)), Layer(), Layer(), Layer(pool=(2, 2)), Layer((5, 4), 1, 0)),
}


class Stream(nn.Module):
    """One of the two halves of SyncNet.

    Attributes:
      stream: 'lip' or 'aud'.
      widths: as in `WIDTHS`.
    """

    stream: str
    widths: tuple[int, ...]

    @classmethod
    def of(cls, stream: str, params: Mapping[str, Any]) -> Self:
        """The half that has these parameters."""
        names = [f'conv{i + 1}' for i in range(len(LAYERS[stream]))] + ['fc1', 'fc2']
        return cls(stream, tuple(params[name]['bias'].shape[0] for name in names))

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Embed.

        Args:
          x: 'lip': (B,5,224,224,3) BGR, 0 to 255, not normalised; 'aud': (B,13,20) MFCC, coefficients by steps.

        Returns:
          (B,1024) float32, not of unit length.
        """
        highest = jax.lax.Precision.HIGHEST  # a metric is the same number on every device
        if self.stream == 'lip':
            batch, frames, height, width, channels = x.shape
            x = x.transpose(0, 2, 3, 1, 4).reshape(batch, height, width, frames * channels)
        else:
            x = x[..., None]
        for i, layer in enumerate(LAYERS[self.stream]):
            x = nn.relu(nn.Conv(self.widths[i], layer.kernel, layer.stride, layer.padding, precision=highest,
                                name=f'conv{i + 1}')(x))
            if layer.pool:
                x = nn.max_pool(x, (3, 3), layer.pool, [(layer.pool_padding,) * 2] * 2)
        x = x.reshape(len(x), -1)
        x = nn.relu(nn.Dense(self.widths[-2], precision=highest, name='fc1')(x))
        return nn.Dense(self.widths[-1], precision=highest, name='fc2')(x)
