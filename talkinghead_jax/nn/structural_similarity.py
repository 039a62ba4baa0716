"""SSIM (Wang et al. 2004) with two windows; differentiable, so that metrics and losses share it."""

import jax
import jax.numpy as jnp
import numpy as np

K1, K2 = 0.01, 0.03
UNIFORM = np.full(7, 1 / 7)  # scikit-image's default
_offsets = np.arange(-5, 6)
GAUSSIAN = np.exp(-0.5 * (_offsets / 1.5) ** 2) / np.exp(-0.5 * (_offsets / 1.5) ** 2).sum()  # 11 taps, sigma 1.5


def ssim(first: jax.Array, second: jax.Array, window: np.ndarray = UNIFORM, sample_covariance: bool = True,
         data_range: float = 2.0) -> jax.Array:
    """Mean structural similarity of two batches of images, over all windows that lie inside and all channels.

    Args:
      first: (B,H,W,C).
      second: same shape.
      window: (N,) weights of a separable window that sum to 1.
      sample_covariance: divide (co)variances by n - 1 instead of n (uniform window only).
      data_range: largest minus smallest possible value; 2 for images in [-1, 1].

    Returns:
      (B,) float32.
    """
    first, second = first.astype(jnp.float32), second.astype(jnp.float32)
    # Variances are differences of nearly equal means: a common offset removed first keeps float32's digits.
    offset = jax.lax.stop_gradient((first + second).mean((1, 2), keepdims=True) / 2)
    a, b = first - offset, second - offset
    moments = _filter(jnp.concatenate([a, b, a * a, b * b, a * b], -1), window)
    mean_a, mean_b, aa, bb, ab = jnp.split(moments, 5, axis=-1)
    correction = len(window) ** 2 / (len(window) ** 2 - 1) if sample_covariance else 1.0
    variance_a = correction * (aa - mean_a * mean_a)
    variance_b = correction * (bb - mean_b * mean_b)
    covariance = correction * (ab - mean_a * mean_b)
    mean_a, mean_b = mean_a + offset, mean_b + offset
    low = -0.5 * data_range  # SSIM is defined on intensities that start at 0
    mean_a, mean_b = mean_a - low, mean_b - low
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a * mean_a + mean_b * mean_b + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return (luminance * structure).mean((1, 2, 3))


def _filter(x: jax.Array, window: np.ndarray) -> jax.Array:
    """Separable window over H and W, valid positions only; banded matrices, because those products are fast."""
    rows, columns = _band(x.shape[1], window), _band(x.shape[2], window)
    high = jax.lax.Precision.HIGHEST
    x = jnp.einsum('oh,bhwc->bowc', rows, x, precision=high)
    return jnp.einsum('ow,bhwc->bhoc', columns, x, precision=high)


def _band(length: int, window: np.ndarray) -> jax.Array:
    band = np.zeros((length - len(window) + 1, length), np.float32)
    for offset, weight in enumerate(window):
        band[np.arange(len(band)), np.arange(len(band)) + offset] = weight
    return jnp.asarray(band)
