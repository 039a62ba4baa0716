"""Coherence over time: how the change from frame to frame differs from the true film's, whole and behind the head.

Both take films (N,H,W,3) of 8-bit RGB, at 256 px (`image.at_most_256`), in levels of 0 to 255; sums are of integers,
so that an unchanged pixel adds nothing. Either may be fed a film in pieces that share their border frame.
"""

import jax
import jax.numpy as jnp
import numpy as np

from talkinghead_jax.metrics.image import at_most_256

CHIN, NOSE_BRIDGE, NOSE_TIP, EARS = 8, 27, 30, (0, 16)
MARGIN = 0.25  # of the face's height
_ANGLES = (np.arange(64) + 0.5) * (2 * np.pi / 64)  # none is upright: each bounds the columns of a row
_DIRECTIONS = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)]).astype(np.float32)  # (2, 64)


def temporal_difference_error(images: jax.Array, targets: jax.Array) -> jax.Array:
    """`temporal_difference_error`: mean over pixels and channels of |(g_t - g_t-1) - (y_t - y_t-1)|.

    A constant error of colour is none; flicker is, and so is motion that the truth has not, or has elsewhere.

    Args:
      images: (N,H,W,3) uint8, g.
      targets: same, y.

    Returns:
      (N-1,) float32, 0 to 510; of frames 1 to N-1.
    """
    gap = jnp.abs(_change(images) - _change(targets))
    return gap.sum((1, 2, 3)).astype(jnp.float32) / np.prod(gap.shape[1:])


def background_flicker(images: jax.Array, targets: jax.Array, landmarks: jax.Array) -> jax.Array:
    """`background_flicker`: mean |g_t - g_t-1| less mean |y_t - y_t-1| where neither frame shows the head.

    0 is right; positive where the generated background is more restless than the true one, negative where it is more
    still (as behind a copied frame). The background is what lies outside `head_mask` in both frames; shoulders and
    hair that falls on them belong to it.

    Args:
      images: (N,H,W,3) uint8, g.
      targets: same, y.
      landmarks: (N,68,2 or 3) of the targets, in px of the pictures as they come.

    Returns:
      (N-1,) float32, -255 to 255; NaN where the head leaves no background.
    """
    moved, truly = jnp.abs(_change(images)), jnp.abs(_change(targets))
    scale = moved.shape[1] / images.shape[1]
    head = head_mask((landmarks[..., :2] + 0.5) * scale - 0.5, moved.shape[1:3])
    background = ~(head[1:] | head[:-1])
    count = background.sum((1, 2))
    excess = jnp.where(background[..., None], moved - truly, 0).sum((1, 2, 3))
    return jnp.where(count > 0, excess / jnp.maximum(count * moved.shape[3], 1), jnp.nan)


def head_mask(landmarks: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Where head, hair and neck can be, from the 68 points of the face alone.

    The convex hull of the points; of the same points moved up and down along the face's axis by the face's height
    (chin to nose bridge), for forehead and hair, and for the neck; and of these moved back by the depth of the face
    (nose tip to the middle of the ears, as it is seen: little in a frontal face, much in profile); grown by a quarter
    of the height, for ears and hair at the sides. The region is known by its extent in 64 directions, where hulls are
    maxima and movements are sums.

    Args:
      landmarks: (N,68,2 or 3) px, pixel centres at integers.
      shape: (H, W) of the pictures.

    Returns:
      (N,H,W) bool.
    """
    points = landmarks[..., :2].astype(jnp.float32)
    height = points[:, CHIN] - points[:, NOSE_BRIDGE]
    back = points[:, np.array(EARS)].mean(1) - points[:, NOSE_TIP]
    extent = _project(points).max(1) + jnp.abs(_project(height)) + jnp.maximum(_project(back), 0)
    extent = extent + MARGIN * jnp.sqrt((height ** 2).sum(-1, keepdims=True))
    rows, columns = (jnp.arange(size, dtype=jnp.float32) for size in shape)
    across, down = _DIRECTIONS[:, None, None]
    bounds = (extent[:, None] - rows[None, :, None] * down) / across  # (N, H, 64) columns
    right = jnp.where(across > 0, bounds, jnp.inf).min(-1, keepdims=True)
    left = jnp.where(across < 0, bounds, -jnp.inf).max(-1, keepdims=True)
    return (columns[None, None] >= left) & (columns[None, None] <= right)


def _project(vectors: jax.Array) -> jax.Array:
    """(..., 2) -> (..., 64): lengths along the directions; no matrix product, for those may be rounded."""
    across, down = _DIRECTIONS.reshape(2, *(1,) * (vectors.ndim - 1), -1)
    return vectors[..., :1] * across + vectors[..., 1:] * down


def _change(film: jax.Array) -> jax.Array:
    """(N,H,W,3) uint8 -> (N-1,h,w,3) int32: the difference to the frame before."""
    film = at_most_256(film).astype(jnp.int32)
    return film[1:] - film[:-1]
