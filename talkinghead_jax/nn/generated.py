"""Convolutions whose weights another network generates, one kernel an example (paper, Eq. 7)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from talkinghead_jax.nn.blocks import leaky_relu
from talkinghead_jax.nn.initialization import Dense, deviation


def generated_conv(x: jax.Array, theta: jax.Array) -> jax.Array:
    """1 x 1 convolution with a kernel of its own for every example, all examples in one product.

    Args:
      x: (B,H,W,I).
      theta: (B,O,I+1): row o holds the I weights, then the bias, of output channel o.

    Returns:
      (B,H,W,O).
    """
    batch, height, width, channels = x.shape
    theta = theta.astype(x.dtype)
    out = jnp.einsum('bpi,boi->bpo', x.reshape(batch, height * width, channels), theta[..., :-1])
    out = out + theta[:, None, :, -1]
    return out.reshape(batch, height, width, -1)


class RowMlp(nn.Module):
    """E_FP: the same two-layer perceptron on every row of a (B,C,C) matrix -> `kernels` kernels a channel.

    Rows are standardised first, since a softmax over C channels makes them shrink with C. The last layer starts
    at the scale that keeps the variance of a convolution with `inputs` channels.
    """

    inputs: int
    kernels: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, matrix: jax.Array) -> jax.Array:
        """(B,C,C) -> (B,kernels,C,inputs+1) float32, last column the bias."""
        rows = nn.LayerNorm(use_bias=False, use_scale=False, epsilon=1e-5)(matrix)
        rows = leaky_relu(Dense(matrix.shape[-1], dtype=self.dtype)(rows))
        rows = nn.Dense(self.kernels * (self.inputs + 1), kernel_init=deviation(1 / self.inputs),
                        dtype=self.dtype)(rows)
        batch, channels, _ = rows.shape
        rows = rows.reshape(batch, channels, self.kernels, self.inputs + 1)
        return rows.transpose(0, 2, 1, 3).astype(jnp.float32)
