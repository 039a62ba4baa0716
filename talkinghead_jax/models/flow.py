"""FlowNet: from two sets of landmarks and the source image to a flow and an attention map (paper, Sec. 4.3)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from talkinghead_jax.nn.blocks import ConvNorm, ResidualBlock, Upsample, leaky_relu
from talkinghead_jax.nn.initialization import Conv
from talkinghead_jax.nn.normalization import ExampleNorm
from talkinghead_jax.ops import flow_warp

MULTIPLIER = 20.0  # px at 256: the flow that a head's output of 1 stands for, as in the original


class FlowNet(nn.Module):
    """Encoder, residual blocks, decoder with skips, two heads.

    The flow head starts at zero: the first warp is the identity, and the warped images are useful guidance from
    the first step on.
    """

    width: int
    max_width: int
    downs: int
    blocks: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, target_sketch: jax.Array, source_sketch: jax.Array,
                 source: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Estimate where each pixel of the target comes from.

        Args:
          target_sketch: (B,H,W,1) in [0, 1].
          source_sketch: (B,H,W,1).
          source: (B,H,W,3) in [-1, 1].

        Returns:
          flow (B,H,W,2) px of this resolution, float32, and attention (B,H,W,1) in [0, 1].
        """
        x = jnp.concatenate([target_sketch, source_sketch, source], -1)
        x = ConvNorm(self.width, dtype=self.dtype)(x)
        skips = []
        for level in range(self.downs):
            skips.append(x)
            x = ConvNorm(min(self.width * 2 ** (level + 1), self.max_width), 2, self.dtype)(x)
        for _ in range(self.blocks):
            x = ResidualBlock(x.shape[-1], self.dtype)(x)
        for skip in reversed(skips):
            x = leaky_relu(ExampleNorm()(Upsample(skip.shape[-1], self.dtype)(x) + skip))
        x = x.astype(jnp.float32)
        flow = nn.Conv(2, (3, 3), kernel_init=nn.initializers.zeros, name='flow')(x)
        mask = Conv(1, (3, 3), name='attention')(x)
        return flow * (MULTIPLIER * source.shape[1] / 256), nn.sigmoid(mask)


def warp(image: jax.Array, flow: jax.Array) -> jax.Array:
    """Bilinear sample of (B,H,W,C) at x + flow (B,H,W,2) px, border padding; float32."""
    return flow_warp.warp(image.astype(jnp.float32), flow.astype(jnp.float32))
