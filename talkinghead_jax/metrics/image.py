"""Image metrics: SSIM by two recipes, and PSNR. One value an example.

The first three take floats in [-1, 1]: what a network is trained and watched with. The others take pictures as a
video holds them, 8-bit, and give what scikit-image gives.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from talkinghead_jax.nn import structural_similarity

LARGEST = 256  # px: what the 8-bit metrics look at


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


def ssim_authors(images: jax.Array, targets: jax.Array) -> jax.Array:
    """`ssim@authors`: as the authors' released code calls scikit-image, on pictures of 256 x 256 px (`squeezed`).

    Uniform 7 x 7 window, sample covariance, K1 = 0.01, K2 = 0.03, range 255, mean over the channels, no padding.

    Args:
      images: (B,H,W,C) uint8, of any size: smaller ones are enlarged, others lose their proportions.
      targets: same.

    Returns:
      (B,) float32 in [-1, 1], 1 for equal pictures; within 1e-6 of scikit-image.
    """
    window = structural_similarity.UNIFORM
    return _ssim(squeezed(images), squeezed(targets), window, len(window) ** 2 / (len(window) ** 2 - 1))


def ssim_wang(images: jax.Array, targets: jax.Array) -> jax.Array:
    """`ssim@wang`: Wang et al. 2004 (Gaussian 11 x 11, sigma 1.5, population covariance), at 256 px at most.

    Args:
      images: (B,H,W,C) uint8, at least 11 x 11; larger ones are shrunk by `at_most_256`, smaller ones stay.
      targets: same.

    Returns:
      As `ssim_authors`.
    """
    return _ssim(at_most_256(images), at_most_256(targets), structural_similarity.GAUSSIAN, 1.0)


def psnr_rgb(images: jax.Array, targets: jax.Array) -> jax.Array:
    """`psnr@rgb`: peak signal-to-noise ratio of 8-bit pictures over all channels, at 256 px at most (`at_most_256`).

    The difference is taken in 32 bits: one of 8 bits wraps around.

    Args:
      images: (B,H,W,C) uint8.
      targets: same.

    Returns:
      (B,) float32, dB; at most 100, which is what equal pictures get: infinity has no mean.
    """
    gap = at_most_256(images).astype(jnp.int32) - at_most_256(targets).astype(jnp.int32)
    rows = (gap * gap).sum((2, 3))  # exact: below 2^31 up to 256 px
    error = rows.astype(jnp.float32).mean(1) / (gap.shape[2] * gap.shape[3])
    return 10 * jnp.log10(255 ** 2 / jnp.maximum(error, 255 ** 2 * 1e-10))


def at_most_256(images: jax.Array) -> jax.Array:
    """Bring pictures whose longer side is above 256 px to 256, as OpenCV's INTER_AREA does; leave others alone.

    Each pixel is the mean over the area that it covers, rounded to 8 bits. Float32 sums lie within 1e-4 of the exact
    ones, whose distance from a tie is larger for most sizes (1/2 over the square of the reduced numerator of
    size / 256); where it is not, a value may differ by 1 from OpenCV's.

    Args:
      images: (B,H,W,C) uint8.

    Returns:
      (B,h,w,C) uint8, of the same proportions.
    """
    height, width = images.shape[1:3]
    if max(height, width) <= LARGEST:
        return images
    return _averaged(images, *(max(1, round(side * LARGEST / max(height, width))) for side in (height, width)))


def squeezed(images: jax.Array) -> jax.Array:
    """Bring pictures to 256 x 256 px as OpenCV's INTER_AREA does, whatever their size and proportions.

    Where neither side grows, by area averages (`at_most_256` says how exactly); else, as OpenCV does then, by
    interpolating between two pixels either way, with its fixed-point numbers: exactly its values.

    Args:
      images: (B,H,W,C) uint8.

    Returns:
      (B,256,256,C) uint8.
    """
    height, width = images.shape[1:3]
    if height == width == LARGEST:
        return images
    return _averaged(images, LARGEST, LARGEST) if min(height, width) >= LARGEST else _interpolated(images)


def _interpolated(images: jax.Array) -> jax.Array:
    """(B,H,W,C) uint8 -> (B,256,256,C): INTER_AREA where a side grows; 11 bits of weight, 18 between passes."""
    (top, upper, lower), (left, first, second) = (_taps(side) for side in images.shape[1:3])
    x = images.astype(jnp.int32)
    right, bottom = (np.minimum(at + 1, side - 1) for at, side in ((left, x.shape[2]), (top, x.shape[1])))
    x = x[:, :, left] * first[None, None, :, None] + x[:, :, right] * second[None, None, :, None]
    x = x >> 4
    x = (x[:, top] * upper[None, :, None, None] >> 16) + (x[:, bottom] * lower[None, :, None, None] >> 16)
    return (x + 2 >> 2).astype(jnp.uint8)


def _taps(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of 256 outputs: which of `size` pixels comes first, and the weights of it and the next, of 2048."""
    places = np.arange(LARGEST)
    first = np.floor(places * (size / LARGEST)).astype(int)
    share = ((places + 1) - (first + 1) * (LARGEST / size)).astype(np.float32)
    share = np.where((share <= 0) | (first >= size - 1), np.float32(0), share - np.floor(share))
    return first, *(np.rint(weight * np.float32(2048)).astype(np.int32) for weight in (1 - share, share))


def _averaged(images: jax.Array, height: int, width: int) -> jax.Array:
    """(B,H,W,C) uint8 to height x width by area averages; neither may be above what the pictures have."""
    former, high = images.shape[1:3], lax.Precision.HIGHEST
    x = jnp.einsum('oh,bhwc->bowc', _areas(former[0], height), images.astype(jnp.float32), precision=high)
    x = jnp.einsum('ow,bhwc->bhoc', _areas(former[1], width), x, precision=high)
    halved = former == (2 * height, 2 * width)
    x = jnp.floor(x + 0.5) if halved else jnp.round(x)  # OpenCV rounds ties up at 2:1, and to even elsewhere
    return x.astype(jnp.uint8)


def _areas(size: int, smaller: int) -> jax.Array:
    """(smaller, size): the share that each input pixel has in each output pixel; rows sum to 1."""
    edges = np.arange(smaller + 1) * (size / smaller)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return jnp.asarray(np.clip(overlap, 0, 1) * (smaller / size), jnp.float32)


def _ssim(images: jax.Array, targets: jax.Array, window: np.ndarray, correction: float) -> jax.Array:
    """Mean over windows and channels; (co)variances, which the window's weights give, are multiplied by `correction`.

    E[x^2] - E[x]^2 in float32 loses 2e-5 on bright, flat pictures. Here every window is centred on its own middle
    pixel, first along the rows, then along the columns, and the two are joined by the law of total variance: what is
    squared is small wherever the variance is.
    """
    a, b = images.astype(jnp.float32), targets.astype(jnp.float32)
    zero = jnp.zeros_like(a)
    moments = _along(1, window, _along(2, window, (a, b, zero, zero, zero)))
    mean_a, mean_b, *moments = moments
    variance_a, variance_b, covariance = (correction * moment for moment in moments)
    c1, c2 = ((k * 255) ** 2 for k in (structural_similarity.K1, structural_similarity.K2))
    luminance = (2 * mean_a * mean_b + c1) / (mean_a * mean_a + mean_b * mean_b + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    # One axis at a time: a running float32 sum over all windows would lose 1e-5.
    return (luminance * structure).mean(2).mean(1).mean(-1)


def _along(axis: int, window: np.ndarray, moments: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """Means of a and b, variances of a and b, and covariance, under the window along one more axis."""
    mean_a, mean_b, *within = moments
    count = mean_a.shape[axis] - len(window) + 1
    weights = window.astype(np.float32)

    def tap(x: jax.Array, offset: int) -> jax.Array:
        return lax.slice_in_dim(x, offset, offset + count, axis=axis)

    def average(values: list[jax.Array]) -> jax.Array:
        return sum(weight * value for weight, value in zip(weights, values, strict=True))

    middles = [tap(mean, len(window) // 2) for mean in (mean_a, mean_b)]
    gap_a, gap_b = ([tap(mean, k) - middle for k in range(len(window))]
                    for mean, middle in zip((mean_a, mean_b), middles, strict=True))
    shift_a, shift_b = average(gap_a), average(gap_b)
    between = [average([p * q for p, q in zip(first, second, strict=True)]) - shift
               for first, second, shift in ((gap_a, gap_a, shift_a * shift_a), (gap_b, gap_b, shift_b * shift_b),
                                            (gap_a, gap_b, shift_a * shift_b))]
    inside = [average([tap(moment, k) for k in range(len(window))]) for moment in within]
    return (middles[0] + shift_a, middles[1] + shift_b, *(x + y for x, y in zip(between, inside, strict=True)))
