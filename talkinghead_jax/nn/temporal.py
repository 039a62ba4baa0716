"""Sequences with a mask: weighted statistics over time, convolutions that never look at what is masked.

Sequences are (B, T, C) with a mask (B, T), 1 or True where the frame counts. A masked sequence gives the same
result as the shorter one without its masked ends: every convolution pads with zeros and sees zeros there.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from talkinghead_jax.ops.batch_parallel import mean_over_devices


def masked_mean(values: jax.Array, mask: jax.Array | None = None, axis: int | None = None) -> jax.Array:
    """Mean of `values` where `mask` counts; 0 where nothing does.

    Args:
      values: any shape.
      mask: bool or weights, the leading axes of `values`; None counts everything.
      axis: the axis of `values` to average over (it must be one of the mask's), or None for all axes.

    Returns:
      The mean. Under `pmap`, for axis None, this device's share of it: the sum of its values over the mean of all
      devices' weights, so that the mean over devices weighs examples, not devices.
    """
    if mask is None:
        return values.mean(axis)
    weight = mask.astype(values.dtype).reshape(mask.shape + (1,) * (values.ndim - mask.ndim))
    if axis is None:
        weight = jnp.broadcast_to(weight, values.shape)
    total = weight.sum(axis)
    if axis is None:
        total = mean_over_devices(total)
    return (values * weight).sum(axis) / jnp.where(total > 0, total, 1.0)


def deviation(values: jax.Array, mask: jax.Array | None = None, floor: float = 1e-6) -> jax.Array:
    """Standard deviation over time, sqrt(mean (v - mean v)^2 + floor^2): (B, T, C), (B, T) -> (B, C)."""
    centred = values - masked_mean(values, mask, axis=-2)[..., None, :]
    return jnp.sqrt(masked_mean(centred ** 2, mask, axis=-2) + floor ** 2)


def difference(values: jax.Array, mask: jax.Array | None = None) -> tuple[jax.Array, jax.Array | None]:
    """v_t+1 - v_t, and the mask of the pairs whose two frames count: (B, T, C) -> (B, T-1, C), (B, T-1)."""
    steps = values[..., 1:, :] - values[..., :-1, :]
    return steps, None if mask is None else mask[..., 1:] & mask[..., :-1]


class TemporalBlock(nn.Module):
    """Residual block of two dilated convolutions over time; receptive field +-(kernel - 1) * dilation frames."""

    width: int
    dilation: int = 1
    kernel: int = 3
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """(B, T, C), (B, T) -> (B, T, width), zero where masked."""
        keep = mask[..., None].astype(x.dtype)
        shortcut = x if x.shape[-1] == self.width else nn.Dense(self.width, dtype=self.dtype)(x)
        for _ in range(2):
            # Per-frame normalisation: statistics over time would let distant or masked frames in.
            x = nn.leaky_relu(nn.LayerNorm(dtype='float32')(x), 0.2) * keep
            x = nn.Conv(self.width, (self.kernel,), kernel_dilation=self.dilation, dtype=self.dtype)(x)
        return ((shortcut + x) * keep).astype('float32')
