"""Normalisation with statistics of one example only.

Batch statistics would make a result depend on its neighbours, on the number of devices and on how many
references were padded; batches are small besides. Per-example statistics have none of these faults, need no
running averages, and behave equally in training and in use.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

EPSILON = 1e-5


def instance_norm(x: jax.Array) -> jax.Array:
    """Normalise every channel of every example over space: (B,H,W,C) -> same; statistics in float32."""
    return _normalize(x, (-3, -2))


def _normalize(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    wide = x.astype(jnp.float32)
    centered = wide - wide.mean(axes, keepdims=True)
    variance = jnp.square(centered).mean(axes, keepdims=True)
    return (centered * jax.lax.rsqrt(variance + EPSILON)).astype(x.dtype)


class ExampleNorm(nn.Module):
    """Normalise (B,H,W,C) over H, W and C together, then scale and shift each channel.

    Unlike instance normalisation it keeps the differences between channels, so encoders keep mean colours.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B,H,W,C) -> (B,H,W,C)."""
        shape = (1,) * (x.ndim - 1) + x.shape[-1:]
        scale = self.param('scale', nn.initializers.ones, x.shape[-1:]).reshape(shape)
        bias = self.param('bias', nn.initializers.zeros, x.shape[-1:]).reshape(shape)
        return _normalize(x, (-3, -2, -1)) * scale.astype(x.dtype) + bias.astype(x.dtype)
