"""Multi-scale patch discriminators D_1, D_2 (paper, Sec. 4.4)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from talkinghead_jax.nn.blocks import leaky_relu
from talkinghead_jax.nn.normalization import instance_norm
from talkinghead_jax.nn.spectral import SpectralConv


class PatchDiscriminator(nn.Module):
    """Stride-2 layers, one stride-1 layer, one score a patch; 4 x 4 kernels, spectral and instance norm."""

    width: int
    max_width: int
    layers: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """(B,H,W,C) -> features of every layer; the last are the scores (B,h,w,1), float32."""
        features = []
        for level in range(self.layers + 1):
            width = min(self.width * 2 ** level, self.max_width)
            x = SpectralConv(width, 4, 2 if level < self.layers else 1, use_bias=level == 0, dtype=self.dtype)(x)
            # Instance statistics of a handful of pixels say nothing, and of a single one erase it.
            if level and x.shape[1] * x.shape[2] > 16:
                x = instance_norm(x)
            x = leaky_relu(x)
            features.append(x)
        return [*features, SpectralConv(1, 4, dtype=self.dtype)(x).astype(jnp.float32)]


class MultiScaleDiscriminator(nn.Module):
    """`scales` patch discriminators, each on half the resolution of the one before."""

    width: int
    max_width: int
    layers: int
    scales: int = 2
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, condition: jax.Array, real: jax.Array,
                 fake: jax.Array) -> tuple[list[list[jax.Array]], list[list[jax.Array]]]:
        """Judge real and generated images in one pass, so that spectral norm iterates once.

        Args:
          condition: (B,H,W,C): what both images are judged by (sketches, matched reference).
          real: (B,H,W,3) in [-1, 1].
          fake: same.

        Returns:
          features of `real` and of `fake`: one list a scale, whose last entry holds the scores.
        """
        pair = jnp.stack([jnp.concatenate([condition, image], -1) for image in (real, fake)], 1)
        # Joined behind the batch axis: joining along it would move data between devices.
        x = pair.reshape(-1, *pair.shape[2:])
        real_features, fake_features = [], []
        for scale in range(self.scales):
            if scale:
                x = nn.avg_pool(x, (2, 2), (2, 2))
            net = PatchDiscriminator(self.width, self.max_width, self.layers, self.dtype, name=f'scale{scale}')
            features = [f.reshape(-1, 2, *f.shape[1:]) for f in net(x)]
            real_features.append([f[:, 0] for f in features])
            fake_features.append([f[:, 1] for f in features])
        return real_features, fake_features
