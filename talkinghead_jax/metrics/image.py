"""Image metrics: SSIM by two recipes, and PSNR. One value an example."""

import jax
import jax.numpy as jnp

from talkinghead_jax.nn import structural_similarity


def ssim(image: jax.Array, target: jax.Array) -> jax.Array:
    """`ssim@uniform7`: scikit-image's default, which the authors call on RGB (uniform 7 x 7, sample covariance).

    Args:
      image: (B,H,W,C) in [-1, 1], at least 7 x 7.
      target: same.

    Returns:
      (B,) in [-1, 1]; 1 for equal images.
    """
    return structural_similarity.ssim(image, target)


def ssim_gaussian(image: jax.Array, target: jax.Array) -> jax.Array:
    """`ssim@gaussian11`: Wang et al. 2004 (Gaussian 11 x 11, sigma 1.5, population covariance); as `ssim`."""
    return structural_similarity.ssim(image, target, structural_similarity.GAUSSIAN, sample_covariance=False)


def psnr(image: jax.Array, target: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio (dB) over all channels of (B,H,W,C) images in [-1, 1]: (B,), at most 100."""
    error = jnp.square(image.astype(jnp.float32) - target.astype(jnp.float32)).mean((1, 2, 3))
    return 10 * jnp.log10(4 / jnp.maximum(error, 4e-10))
