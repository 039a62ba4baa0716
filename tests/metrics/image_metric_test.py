"""SSIM and PSNR against scikit-image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from talkinghead_jax.metrics import image as image_metrics


@pytest.fixture(scope='module')
def pairs():
    """Images in [-1, 1]: noise, smooth, nearly equal, flat and bright, flat and dark."""
    rng = np.random.default_rng(0)
    noise = rng.uniform(-1, 1, (2, 40, 33, 3))
    smooth = np.kron(rng.uniform(-1, 1, (2, 5, 5, 3)), np.ones((1, 8, 7, 1)))[:, :, :33]
    near = np.clip(smooth + rng.normal(0, 0.02, smooth.shape), -1, 1)
    bright = np.clip(0.97 + rng.normal(0, 0.01, smooth.shape), -1, 1)
    first = np.concatenate([noise[:1], smooth, bright, -bright, noise[:1]])
    second = np.concatenate([noise[1:], near, bright[::-1], -bright[::-1], noise[:1]])
    return first.astype(np.float32), second.astype(np.float32)


def test_ssim_is_scikit_images_default(pairs):
    got = image_metrics.ssim(*map(jnp.asarray, pairs))
    want = [structural_similarity(a, b, channel_axis=-1, data_range=2.0)
            for a, b in zip(*(p.astype(np.float64) + 1 for p in pairs), strict=True)]
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_gaussian_ssim_is_wangs(pairs):
    got = image_metrics.ssim_gaussian(*map(jnp.asarray, pairs))
    want = [structural_similarity(a, b, channel_axis=-1, data_range=2.0, gaussian_weights=True, sigma=1.5,
                                  use_sample_covariance=False)
            for a, b in zip(*(p.astype(np.float64) + 1 for p in pairs), strict=True)]
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_psnr_is_scikit_images(pairs):
    got = image_metrics.psnr(*map(jnp.asarray, pairs))
    want = [peak_signal_noise_ratio(a, b, data_range=2.0)
            for a, b in zip(*(p[:-1].astype(np.float64) for p in pairs), strict=True)]
    np.testing.assert_allclose(got[:-1], want, atol=1e-3)
    assert got[-1] == 100  # equal images


def test_gradient_of_ssim_is_finite_on_flat_and_equal_images():
    flat = jnp.zeros((1, 12, 12, 3))
    gradient = jax.grad(lambda x: image_metrics.ssim(x, flat).sum())(flat)
    assert np.isfinite(gradient).all()
