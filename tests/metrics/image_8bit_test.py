"""SSIM and PSNR of 8-bit pictures against scikit-image, and how they are brought to 256 px against OpenCV."""

import cv2
import jax
import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from talkinghead_jax.metrics import image as metrics

pytestmark = pytest.mark.usefixtures('quick_compilation')
RECIPES = [(metrics.ssim_authors, {}),
           (metrics.ssim_wang, {'gaussian_weights': True, 'sigma': 1.5, 'use_sample_covariance': False})]


def pairs(size):
    """(6, size, size, 3) uint8 twice: natural-like, noise, flat and bright, half and half, dark, equal."""
    rng = np.random.default_rng(size)
    shape = (size, size, 3)
    natural = ndimage.gaussian_filter(rng.normal(size=shape), (3, 3, 0)) * 1000 + 120
    halves = np.where(np.arange(size)[:, None, None] < size // 2, 252.0, 3.0) + np.zeros(shape)
    firsts = [natural, rng.uniform(0, 255, shape), np.full(shape, 250.0), halves, np.full(shape, 2.0), natural]
    seconds = [natural + rng.normal(0, 9, shape), rng.uniform(0, 255, shape), 250 + rng.normal(0, 0.7, shape),
               halves + rng.normal(0, 0.7, shape), 2 + rng.normal(0, 0.7, shape), natural]
    return tuple(np.clip(np.round(np.stack(x)), 0, 255).astype(np.uint8) for x in (firsts, seconds))


def as_authors(picture):
    return cv2.resize(picture, (256, 256), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize(('recipe', 'options'), RECIPES)
@pytest.mark.parametrize('size', [64, 256])
def test_ssim_of_8_bit_pictures_is_scikit_images(recipe, options, size):
    first, second = pairs(size)
    bring = as_authors if recipe is metrics.ssim_authors else np.asarray
    want = [structural_similarity(bring(a), bring(b), channel_axis=-1, **options)
            for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(jax.jit(recipe)(first, second), want, rtol=0, atol=1e-6)


@pytest.mark.parametrize(('recipe', 'options'), RECIPES)
def test_larger_pictures_are_shrunk_by_areas_first(recipe, options):
    first, second = (x[:1] for x in pairs(400))
    small = [cv2.resize(x[0], (256, 256), interpolation=cv2.INTER_AREA) for x in (first, second)]
    want = structural_similarity(*small, channel_axis=-1, **options)
    assert abs(want - structural_similarity(first[0], second[0], channel_axis=-1, **options)) > 0.01
    np.testing.assert_allclose(jax.jit(recipe)(first, second), [want], rtol=0, atol=1e-6)


def test_ssim_of_other_proportions_is_that_of_the_squeezed_pictures():
    first, second = (x[:2, 60:160, 40:180] for x in pairs(256))
    want = [structural_similarity(as_authors(a), as_authors(b), channel_axis=-1)
            for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(jax.jit(metrics.ssim_authors)(first, second), want, rtol=0, atol=1e-6)


@pytest.mark.parametrize('size', [(64, 64), (100, 140), (256, 256), (400, 400), (100, 400), (300, 255), (512, 1024),
                                  (7, 3)])
def test_squeezing_is_opencvs(size):
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    np.testing.assert_array_equal(jax.jit(metrics.squeezed)(noise[None])[0], as_authors(noise))


@pytest.mark.parametrize(('size', 'ties'), [
    ((400, 400), False), ((300, 300), False), ((512, 512), False), ((1024, 1024), False),
    ((360, 200), True), ((257, 257), True)])  # 200 to 142: means that lie on a tie or too near to one for float32
def test_shrinking_is_opencvs(size, ties):
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    got = np.asarray(metrics.at_most_256(noise[None])[0])
    want = cv2.resize(noise, got.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert max(got.shape) == 256
    gap = np.abs(got.astype(int) - want)
    assert gap.max() <= ties
    assert (gap > 0).mean() < 1e-3


def test_small_pictures_stay():
    first = pairs(64)[0]
    np.testing.assert_array_equal(metrics.at_most_256(first), first)


def test_psnr_is_scikit_images_and_nothing_wraps_around():
    first, second = (np.concatenate([x, extreme]) for x, extreme in
                     zip(pairs(64), (np.zeros((1, 64, 64, 3), np.uint8), np.full((1, 64, 64, 3), 255, np.uint8)),
                         strict=True))
    got = metrics.psnr_rgb(first, second)
    unequal = [0, 1, 2, 3, 4, 6]
    want = [peak_signal_noise_ratio(first[i], second[i]) for i in unequal]
    np.testing.assert_allclose(got[np.array(unequal)], want, rtol=1e-6, atol=1e-6)
    assert got[5] == 100  # equal pictures
    assert got[6] == 0  # black against white
