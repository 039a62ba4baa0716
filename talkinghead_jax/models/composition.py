"""The non-linear composition (paper, Sec. 4.3, Fig. 6): guidance embeddings and the decoder of parallel SPADEs."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from talkinghead_jax.models.embedding import LevelWeights
from talkinghead_jax.nn.blocks import Upsample, leaky_relu, upsample_nearest
from talkinghead_jax.nn.generated import generated_conv
from talkinghead_jax.nn.spade import ParallelSpade


class Pyramid(nn.Module):
    """Static convolutions (red arrows of Fig. 6): an image's features at every level."""

    widths: tuple[int, ...]
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """(B,H,W,C) -> level i: (B,H/2^i,W/2^i,widths[i])."""
        features = []
        for level, width in enumerate(self.widths):
            x = leaky_relu(nn.Conv(width, (3, 3), 2 if level else 1, dtype=self.dtype)(x))
            features.append(x)
        return features


class LandmarkEmbedding(nn.Module):
    """Target landmarks -> guidance at every level, through convolutions with generated weights theta_S.

    As in the original a static encoder comes first and the generated 1 x 1 convolutions lead back up; static
    features of the same level are added before each, without which a sketch could not come back sharp.
    """

    widths: tuple[int, ...]
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, sketch: jax.Array, weights: Sequence[LevelWeights]) -> list[jax.Array]:
        """(B,H,W,1) -> level i: (B,H/2^i,W/2^i,widths[i])."""
        features = Pyramid(self.widths, self.dtype)(sketch)
        for level in reversed(range(len(self.widths))):
            x = features[level]
            if level + 1 < len(self.widths):
                coarse = nn.Conv(self.widths[level], (1, 1), dtype=self.dtype)(features[level + 1])
                x = x + upsample_nearest(coarse)
            features[level] = leaky_relu(generated_conv(x, weights[level].embed))
        return features


class Decoder(nn.Module):
    """N layers of parallel SPADE, each but the last followed by an upsampling; hyperbolic tangent at the end."""

    widths: tuple[int, ...]
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, e_y: jax.Array, landmark: Sequence[jax.Array], weights: Sequence[LevelWeights],
                 images: Sequence[Sequence[jax.Array]]) -> jax.Array:
        """Compose the image.

        Args:
          e_y: (B,h,w,widths[-1]), the image feature vector.
          landmark: guidance of the generated SPADE, one map a level.
          weights: generated weights of each level.
          images: pyramids of the warped images, guidance of the static SPADEs; may be empty.

        Returns:
          (B,H,W,3) float32 in [-1, 1].
        """
        x = e_y
        for level in reversed(range(len(self.widths))):
            guides = [pyramid[level] for pyramid in images]
            h = x
            for stage in range(2):
                spade = ParallelSpade(self.dtype, name=f'spade{level}_{stage}')
                h = leaky_relu(spade(h, landmark[level], weights[level].spade[:, stage], guides))
                h = nn.Conv(self.widths[level], (3, 3), dtype=self.dtype, name=f'conv{level}_{stage}')(h)
            x = x + h
            if level:
                x = Upsample(self.widths[level - 1], self.dtype, name=f'upsample{level}')(x)
        image = nn.Conv(3, (3, 3), dtype=self.dtype, name='image')(leaky_relu(x))
        return jnp.tanh(image.astype(jnp.float32))
