"""Spectral normalisation of convolutions (Miyato et al. 2018)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from talkinghead_jax.nn.initialization import deviation

COLLECTION = 'spectral'  # its own: not parameters, not batch statistics


def power_iteration(matrix: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One iteration towards the largest singular value of (M,N) `matrix` from (N,) `u`: returns (v (M,), u (N,))."""
    v = _unit(matrix @ u)
    return v, _unit(v @ matrix)


def _unit(vector: jax.Array) -> jax.Array:
    return vector * jax.lax.rsqrt(jnp.square(vector).sum() + 1e-12)


class SpectralConv(nn.Module):
    """Convolution whose kernel, as a (kh kw Cin, Cout) matrix, is divided by its largest singular value.

    The singular vector is kept in the collection 'spectral'; it moves by one iteration where that collection is
    mutable (in training) and is only read elsewhere. No gradient flows through the iteration.
    """

    features: int
    kernel: int
    stride: int = 1
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B,H,W,C) -> (B,H',W',features), padding kernel // 2 on each side."""
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param('kernel', deviation(), shape)
        state = self.variable(COLLECTION, 'u', lambda: _unit(jnp.ones(self.features)))
        matrix = kernel.reshape(-1, self.features)
        v, u = jax.lax.stop_gradient(power_iteration(jax.lax.stop_gradient(matrix), state.value))
        if self.is_mutable_collection(COLLECTION) and not self.is_initializing():
            state.value = u
        kernel = (kernel / (v @ matrix @ u)).astype(self.dtype)
        x = jax.lax.conv_general_dilated(
            x.astype(self.dtype), kernel, (self.stride, self.stride), [(self.kernel // 2, self.kernel // 2)] * 2,
            dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
        if not self.use_bias:
            return x
        bias = self.param('bias', nn.initializers.zeros, (self.features,))
        return x + bias.astype(self.dtype).reshape(1, 1, 1, -1)
