"""Landmarks -> pictures, drawn on the device: the sketch that Theta reads, and the regions that it must not copy.

Landmarks are in crop pixels of the 256 x 256 crop; a picture of `size` px shows that crop (design, Sec. 3).
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from talkinghead_jax.geometry.face import BROWS, JAW, LEFT_EYE, RIGHT_EYE
from talkinghead_jax.specs import CROP_SIZE

_OUTER_LIPS, _INNER_LIPS = tuple(range(48, 60)), tuple(range(60, 68))
_BRIDGE, _NOSTRILS = tuple(range(27, 31)), tuple(range(31, 36))
# Points joined by strokes, and whether the last is joined to the first. No forehead: no landmark is there.
STROKES = (
    (JAW, False), (BROWS[:5], False), (BROWS[5:], False), (_BRIDGE, False), (_NOSTRILS, False),
    (RIGHT_EYE, True), (LEFT_EYE, True), (_OUTER_LIPS, True), (_INNER_LIPS, True),
)
SEGMENTS = np.array([pair for points, closed in STROKES
                     for pair in zip(points, (*points[1:], points[0]) if closed else points[1:], strict=False)])
MOUTH_BOX = (48, 50, 51, 54, 57)  # the points whose box is the mouth's
_GROUP = 21  # segments unrolled in one kernel: 63 = 3 x 21


def draw(landmarks: jax.Array, size: int, thickness: float = 2.0) -> jax.Array:
    """Sketch of the face's outlines: anti-aliased polylines. Differentiable in the landmarks.

    Args:
      landmarks: (..., 68, 2 or 3) crop px; z is not used.
      size: side of the picture in px.
      thickness: of the strokes in crop px, but never less than one px of the picture.

    Returns:
      (..., size, size) float32 in [0, 1]: 1 on a stroke, falling to 0 over one px at its rim.
    """
    points = to_pixels(landmarks[..., :2].astype(jnp.float32), size).reshape(-1, 68, 2)
    half = max(thickness * size / CROP_SIZE, 1.0) / 2
    squared = _squared_distance(_segments(points), size)
    # The small number keeps the gradient of the root finite on the line itself.
    picture = jnp.clip(half + 0.5 - jnp.sqrt(squared + 1e-12), 0, 1)
    return picture.reshape(*landmarks.shape[:-2], size, size)


def to_pixels(crop: jax.Array, size: int) -> jax.Array:
    """Crop px -> px of a size x size picture of the crop; pixel centres at integers in both."""
    return (crop + 0.5) * (size / CROP_SIZE) - 0.5


def _segments(points: jax.Array) -> jax.Array:
    """(N, 68, 2) -> (N, S, 5): start x, y, extent x, y and inverse squared length of each segment."""
    ends = points[:, SEGMENTS]
    start, along = ends[:, :, 0], ends[:, :, 1] - ends[:, :, 0]
    inverse = 1 / jnp.maximum((along ** 2).sum(-1, keepdims=True), 1e-6)  # points may coincide: a closed mouth
    return jnp.concatenate([start, along, inverse], axis=-1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _squared_distance(table: jax.Array, size: int) -> jax.Array:
    """Squared distance (px^2) of each pixel to the nearest of the (N, S, 5) segments: (N, size, size)."""
    return _nearest(table, size, False)[0]


def _forward(table: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    return _nearest(table, size, False)[0], table


def _backward(size: int, table: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    # The gradient of a minimum is that of the segment which attains it.
    index = _nearest(table, size, True)[1]

    def chosen(table: jax.Array) -> jax.Array:
        segments = jax.vmap(lambda rows, at: rows[at])(table, index)  # (N, size, size, 5)
        return _distance_to(jnp.moveaxis(segments, -1, 0), size)

    return jax.vjp(chosen, table)[1](gradient)


_squared_distance.defvjp(_forward, _backward)


def _nearest(table: jax.Array, size: int, numbered: bool) -> tuple[jax.Array, jax.Array]:
    """Squared distance to the nearest of the (N, S, 5) segments and, if asked, its number: (N, size, size) both."""

    def nearer(best: tuple[jax.Array, jax.Array], group: tuple[jax.Array, jax.Array],
               ) -> tuple[tuple[jax.Array, jax.Array], None]:
        squared, index = best
        segments, first = group
        for k in range(_GROUP):
            found = _distance_to(segments[:, k].T[:, :, None, None], size)
            if numbered:
                index = jnp.where(found < squared, first + k, index)
            squared = jnp.minimum(found, squared)
        return (squared, index), None

    groups = table.reshape(len(table), -1, _GROUP, 5).swapaxes(0, 1)
    # Loop carries must vary over the same mesh axes as the landmarks if this is inside jax.shard_map.
    zero = jnp.broadcast_to(0 * table[:, :1, :1], (len(table), size, size))
    first = jnp.arange(0, len(SEGMENTS), _GROUP, dtype=jnp.int32)
    return lax.scan(nearer, (zero + jnp.inf, zero.astype(jnp.int32)), (groups, first))[0]


def _distance_to(segment: jax.Array, size: int) -> jax.Array:
    """Squared distance of each pixel to (5, N, ...) segments of start x, y, extent x, y, inverse squared length."""
    column = lax.broadcasted_iota(segment.dtype, (1, 1, size), 2)
    row = lax.broadcasted_iota(segment.dtype, (1, size, 1), 1)
    x, y, across, down, inverse = segment
    dx, dy = column - x, row - y
    t = jnp.clip((dx * across + dy * down) * inverse, 0, 1)
    return (dx - t * across) ** 2 + (dy - t * down) ** 2


def region_mask(landmarks: jax.Array, points: Sequence[int], size: int, margin: float = 0.0) -> jax.Array:
    """1 inside the upright box of some landmarks, else 0.

    Args:
      landmarks: (..., 68, 2 or 3) crop px.
      points: whose box.
      size: side of the mask in px.
      margin: by which the box is widened on every side, in crop px.

    Returns:
      (..., size, size) float32, 0 or 1.
    """
    box = landmarks[..., np.array(points), :2]
    low, high = box.min(-2) - margin, box.max(-2) + margin
    crop = (jnp.arange(size, dtype=jnp.float32) + 0.5) * (CROP_SIZE / size) - 0.5
    axis = crop.reshape((1,) * (landmarks.ndim - 1) + (size,))
    inside = (axis >= low[..., None]) & (axis <= high[..., None])  # (..., 2, size)
    return (inside[..., 1, :, None] & inside[..., 0, None, :]).astype(jnp.float32)


def eye_mouth_mask(landmarks: jax.Array, size: int, eye_margin: float = 2.0, mouth_margin: float = 5.0) -> jax.Array:
    """Blanking template: 1 inside the boxes of both eyes and the mouth, else 0 (design, Sec. 4, Blanking).

    Args:
      landmarks: (..., 68, 2 or 3) crop px.
      size: side of the mask in px.
      eye_margin: crop px around each eye.
      mouth_margin: crop px around the mouth.

    Returns:
      (..., size, size) float32, 0 or 1.
    """
    mouth = region_mask(landmarks, MOUTH_BOX, size, mouth_margin)
    eyes = [region_mask(landmarks, eye, size, eye_margin) for eye in (RIGHT_EYE, LEFT_EYE)]
    return jnp.maximum(jnp.maximum(*eyes), mouth)
