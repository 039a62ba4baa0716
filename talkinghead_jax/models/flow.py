"""FlowNet: from two sets of landmarks and the source image to a flow and an attention map (paper, Sec. 4.3)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from talkinghead_jax.nn.blocks import ConvNorm, ResidualBlock, Upsample, leaky_relu
from talkinghead_jax.nn.initialization import Conv
from talkinghead_jax.nn.normalization import ExampleNorm
from talkinghead_jax.ops import batch_parallel, flow_warp

MULTIPLIER = 20.0  # px at 256: the flow that a head's output of 1 stands for, as in the original


RADIUS = 20 / 256  # of a landmark's influence, as a share of the image's side: about the distance of neighbours
REST = 0.1  # weight of "does not move": what is far from every landmark stays


def landmark_field(target_points: jax.Array, source_points: jax.Array, size: int) -> jax.Array:
    """The landmarks' displacement spread over the image: where to sample, as far as landmarks can tell.

    A normalised Gaussian average, whose separable weights make it one product of matrices.

    Args:
      target_points: (B,68,2) px of the image.
      source_points: (B,68,2).
      size: side of the image.

    Returns:
      (B,size,size,2) px: source minus target near landmarks, towards 0 far from them.
    """
    grid = jnp.arange(size, dtype=jnp.float32).reshape(1, size, 1)
    x, y = (jnp.exp(-0.5 * jnp.square((grid - target_points[:, None, :, axis]) / (RADIUS * size))) for axis in (0, 1))
    values = jnp.pad(source_points - target_points, [(0, 0), (0, 0), (0, 1)], constant_values=1.0)
    field = jnp.einsum('bhl,bwl,blc->bhwc', y, x, values, precision='highest')
    return field[..., :2] / (field[..., 2:] + REST)


class FlowNet(nn.Module):
    """Encoder, residual blocks, decoder with skips, two heads; corrects the flow that the landmarks suggest.

    The flow head starts at zero: the first warp follows the landmarks alone, and the warped images are useful
    guidance from the first step on.
    """

    width: int
    max_width: int
    downs: int
    blocks: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, target_sketch: jax.Array, source_sketch: jax.Array,
                 source: jax.Array, prior: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Estimate where each pixel of the target comes from.

        Args:
          target_sketch: (B,H,W,1) in [0, 1].
          source_sketch: (B,H,W,1).
          source: (B,H,W,3) in [-1, 1].
          prior: (B,H,W,2) px, of `landmark_field`.

        Returns:
          flow (B,H,W,2) px of this resolution, float32, and attention (B,H,W,1) in [0, 1].
        """
        unit = MULTIPLIER * source.shape[1] / 256
        x = jnp.concatenate([target_sketch, source_sketch, source, prior / unit], -1)
        x = ConvNorm(self.width, dtype=self.dtype)(x)
        skips = []
        for level in range(self.downs):
            skips.append(x)
            x = ConvNorm(min(self.width * 2 ** (level + 1), self.max_width), 2, self.dtype)(x)
        for _ in range(self.blocks):
            x = ResidualBlock(x.shape[-1], self.dtype)(x)
        for skip in reversed(skips):
            x = leaky_relu(ExampleNorm()(Upsample(skip.shape[-1], self.dtype)(x) + skip))
        x = x.astype(jnp.float32)  # in bfloat16 a flow of 20 px would be rounded to eighths
        flow = nn.Conv(2, (3, 3), kernel_init=nn.initializers.zeros, name='flow')(x)
        mask = Conv(1, (3, 3), name='attention')(x)
        return prior + unit * flow, nn.sigmoid(mask)


def warp(image: jax.Array, flow: jax.Array) -> jax.Array:
    """Bilinear sample of (B,H,W,C) at x + flow (B,H,W,2) px, border padding; float32."""
    return batch_parallel.per_shard(flow_warp.warp, (0, 0))(image.astype(jnp.float32), flow.astype(jnp.float32))
