"""The non-linear composition (paper, Sec. 4.3, Fig. 6): guidance embeddings and the decoder of parallel SPADEs."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from talkinghead_jax.models.embedding import LevelWeights
from talkinghead_jax.nn.blocks import Upsample, leaky_relu, upsample_nearest
from talkinghead_jax.nn.generated import generated_conv
from talkinghead_jax.nn.initialization import Conv, deviation
from talkinghead_jax.nn.remat import checkpointed
from talkinghead_jax.nn.spade import ParallelSpade


class Pyramid(nn.Module):
    """Static convolutions (red arrows of Fig. 6): an image's features at every level.

    Attributes:
      widths: channels of each level.
      keep_image: append the image itself, averaged down, to the features of each level: a picture that already is
        right then reaches the decoder as it is, without waiting for convolutions to learn the identity.
    """

    widths: tuple[int, ...]
    keep_image: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array) -> list[jax.Array]:
        """(B,H,W,C) -> level i: (B,H/2^i,W/2^i,widths[i]), or widths[i] + C channels."""
        features = []
        x = image
        for level, width in enumerate(self.widths):
            x = leaky_relu(Conv(width, (3, 3), 2 if level else 1, dtype=self.dtype)(x))
            image = nn.avg_pool(image, (2, 2), (2, 2)) if level else image
            features.append(jnp.concatenate([x, image.astype(x.dtype)], -1) if self.keep_image else x)
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
        features = Pyramid(self.widths, dtype=self.dtype)(sketch)
        for level in reversed(range(len(self.widths))):
            x = features[level]
            if level + 1 < len(self.widths):
                coarse = Conv(self.widths[level], (1, 1), dtype=self.dtype)(features[level + 1])
                x = x + upsample_nearest(coarse)
            features[level] = leaky_relu(generated_conv(x, weights[level].embed))
        return features


class DecoderLayer(nn.Module):
    """A residual block (SPADE sum, 3 x 3 convolution) and a second SPADE sum, which the upsampling follows directly.

    Attributes:
      upsampled: channels after the upsampling; 0 in the last layer, which has none.
    """

    upsampled: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, landmark: jax.Array, theta: jax.Array, guides: Sequence[jax.Array]) -> jax.Array:
        """(B,H,W,C), guidance maps of the same size, theta (B,2,2,C,.) -> (B,2H,2W,upsampled), or x's shape."""
        def denormalize(x: jax.Array, stage: int, scale: float = 1.0) -> jax.Array:
            return ParallelSpade(scale, self.dtype, name=f'spade_{stage}')(x, landmark, theta[:, stage], guides)

        x = x + Conv(x.shape[-1], (3, 3), dtype=self.dtype, name='conv')(leaky_relu(denormalize(x, 0)))
        if not self.upsampled:
            return denormalize(x, 1, scale=0.0)  # linear in the guidance, and nothing else at first
        return Upsample(self.upsampled, self.dtype, name='upsample')(leaky_relu(denormalize(x, 1)))


class Decoder(nn.Module):
    """N layers of parallel SPADE, a 1 x 1 convolution to RGB and a hyperbolic tangent.

    Attributes:
      widths: channels of each level.
      remat: one of `remat.MODES`.
    """

    widths: tuple[int, ...]
    dtype: jnp.dtype = jnp.float32
    remat: str = ''

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
            layer = checkpointed(DecoderLayer, self.remat)(
                self.widths[level - 1] if level else 0, self.dtype, name=f'layer{level}')
            x = layer(x, landmark[level], weights[level].spade, [pyramid[level] for pyramid in images])
        # 1 x 1: what the guidance shows sharply stays sharp.
        image = Conv(3, (1, 1), dtype=self.dtype, kernel_init=deviation(0.3), name='image')(x)
        return jnp.tanh(image.astype(jnp.float32))
