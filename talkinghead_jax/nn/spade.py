"""SPADE, and the parallel SPADE of the non-linear composition (paper, Sec. 4.3)."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from talkinghead_jax.nn.generated import generated_conv
from talkinghead_jax.nn.initialization import Conv
from talkinghead_jax.nn.normalization import instance_norm


class ParallelSpade(nn.Module):
    """Sum of SPADE blocks in parallel: one with generated weights, one for each static guidance map.

    A SPADE block is norm(x) (1 + gamma) + beta with maps gamma and beta convolved from its guidance. Since the
    normaliser has no parameters and all blocks see the same x, their sum is
    norm(x) (n + sum of gammas) + sum of betas, and the static blocks' 1 x 1 convolutions, summed, are one
    convolution of the concatenated guidance. The normaliser is per-example instance normalisation: see
    `nn.normalization`.

    Attributes:
      scale: what norm(x) is multiplied by at first, as far as biases decide it. The bias of an optimizer of fixed
        steps, such as Adam, takes hundreds of steps from n to 0, which is where a layer that copies its guidance
        wants it.
    """

    scale: float = 1.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, guide: jax.Array, theta: jax.Array,
                 static_guides: Sequence[jax.Array]) -> jax.Array:
        """Denormalise x.

        Args:
          x: (B,H,W,C).
          guide: (B,H,W,G), guidance of the generated block.
          theta: (B,2,C,G+1), generated 1 x 1 kernels of gamma and beta, last column the bias.
          static_guides: any number of (B,H,W,.) maps, guidance of the blocks with static weights.

        Returns:
          (B,H,W,C).
        """
        channels = x.shape[-1]
        maps = generated_conv(guide, theta.reshape(theta.shape[0], 2 * channels, -1))
        if static_guides:
            static = Conv(2 * channels, (1, 1), dtype=self.dtype, bias_init=self._bias(1 + len(static_guides)))
            maps = maps + static(jnp.concatenate(static_guides, -1))
        gamma, beta = maps[..., :channels], maps[..., channels:]
        return instance_norm(x) * (1 + len(static_guides) + gamma) + beta

    def _bias(self, blocks: int) -> Callable[..., jax.Array]:
        """Initial biases of the static convolution: gammas first, then betas."""
        return lambda key, shape, dtype: jnp.repeat(
            jnp.array([self.scale - blocks, 0.0], dtype), shape[0] // 2)
