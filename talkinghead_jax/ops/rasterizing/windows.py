"""The work list: which pixel windows each triangle of a batch must visit.

A triangle reaches no further than sqrt(ln(1/cutoff - 1) sigma). So its dilated box is cut into windows of
P x P pixels, and the windows of the whole batch stand in one list, which is never stored: window number n belongs
to the triangle whose run holds n, and its place in the run says where it lies.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from talkinghead_jax.ops.rasterizing.settings import Settings, inverse_depth

FARTHEST = 1e9  # px: triangles with a vertex beyond it (or not finite) are left out
NOWHERE = 2 ** 31 - 1  # index of no pixel: scatters drop it
MOST = 2 ** 31 - 2 ** 24  # windows in one list, which is numbered in int32


def check(vertices: jax.Array, triangles: jax.Array, attributes: jax.Array) -> None:
    """Raise ValueError unless the shapes and types fit each other."""
    if vertices.ndim != 3 or vertices.shape[2] != 3:
        raise ValueError(f'vertices: found shape {vertices.shape}, want (B, V, 3)')
    if triangles.ndim != 2 or triangles.shape[1] != 3 or not jnp.issubdtype(triangles.dtype, jnp.integer):
        raise ValueError(f'triangles: found shape {triangles.shape} of {triangles.dtype}, want (F, 3) integers')
    if attributes.ndim != 3 or attributes.shape[:2] != vertices.shape[:2]:
        raise ValueError(f'attributes: found shape {attributes.shape}, want ({vertices.shape[0]}, '
                         f'{vertices.shape[1]}, C)')
    if len(triangles) and not vertices.shape[1]:
        raise ValueError(f'vertices: found none, want those that {len(triangles)} triangles name')


def pack(settings: Settings, vertices: jax.Array, triangles: jax.Array, attributes: jax.Array,
         ) -> tuple[jax.Array, jax.Array]:
    """What the forms take: (B, V, 3 + C) x, y, q, attributes, in float32 at least, and triangles (F, 3), F > 0."""
    dtype = jnp.promote_types(jnp.result_type(vertices, attributes), jnp.float32)
    vertices, attributes, triangles = vertices.astype(dtype), attributes.astype(dtype), triangles.astype(jnp.int32)
    if len(triangles) == 0:
        vertices, attributes = (jnp.pad(x, ((0, 0), (0, 1), (0, 0))) for x in (vertices, attributes))
        triangles = jnp.zeros((1, 3), jnp.int32)
    sane = (jnp.abs(vertices) <= FARTHEST).all(-1, keepdims=True)
    points = jnp.where(sane, vertices, 2 * FARTHEST)
    q = inverse_depth(points[..., 2:], settings.eye)
    # In shard_map, loops must vary over the mesh axes of all that they read: packed gets those of the triangles.
    packed = jnp.concatenate([points[..., :2], q, attributes], axis=-1) + (0 * triangles[0, 0]).astype(dtype)
    return packed, jnp.clip(triangles, 0, vertices.shape[1] - 1)


class Plan(NamedTuple):
    """The list of windows of N = B F triangles."""

    box: jax.Array  # (N, 4) int32: first window of the triangle in the list, its first pixel x, y, windows a row
    ends: jax.Array  # (N,) int32: one past its last window

    def parts(self, length: int) -> jax.Array:
        """How many parts of `length` windows the list has: () int32."""
        return (self.ends[-1] + length - 1) // length


class Windows(NamedTuple):
    """A part of the list: N windows."""

    rows: jax.Array  # (3, N) int32: the corners' rows in the flattened vertices
    corners: jax.Array  # (3, N, 3 + C): x, y relative to the window's first pixel, q, attributes
    triangle: jax.Array  # (N,) int32
    image: jax.Array  # (N,) int32: number in the batch
    x: jax.Array  # (N,) int32: the first pixel
    y: jax.Array
    real: jax.Array  # (N,) bool: the last part is padded


def plan(settings: Settings, window: int, packed: jax.Array, triangles: jax.Array, *, aligned: bool = False) -> Plan:
    """Cut the dilated box of each triangle into windows and number them.

    Args:
      settings: of the call.
      window: P.
      packed: (B, V, 3 + C) x, y, q, attributes. x > FARTHEST says that the vertex cannot be drawn.
      triangles: (F, 3) int32.
      aligned: windows are tiles of the image, rather than beginning at the triangle's box.
    """
    x, y = (packed[..., axis].at[:, triangles.T].get(mode='clip') for axis in (0, 1))  # (B, 3, F)
    ex, ey = jnp.roll(x, -1, axis=1) - x, jnp.roll(y, -1, axis=1) - y
    area = jnp.abs(ex[:, 0] * ey[:, 1] - ey[:, 0] * ex[:, 1])
    solid = (x.max(1) <= FARTHEST) & (area > 1e-6 * (ex ** 2 + ey ** 2).sum(1))
    reach = math.sqrt(settings.reach)
    first, across = [], []
    for corners in (x, y):
        # Clip before the cast: a large float has no int32.
        low = jnp.ceil(jnp.clip(corners.min(1) - reach, 0, settings.size)).astype(jnp.int32)
        high = jnp.floor(jnp.clip(corners.max(1) + reach, -1, settings.size - 1)).astype(jnp.int32)
        if aligned:
            start = low // window * window
            low, high = start, jnp.where(high >= low, high, start - 1)
        first.append(low)
        across.append(jnp.maximum((high - low + window) // window, 0))
    count = jnp.where(solid, across[0] * across[1], 0).reshape(-1)
    ends = jnp.cumsum(count)
    starts = ends - count
    box = jnp.stack([starts, first[0].reshape(-1), first[1].reshape(-1), jnp.maximum(across[0], 1).reshape(-1)],
                    axis=-1)
    return Plan(box, ends)


def take(window: int, length: int, plan: Plan, packed: jax.Array, triangles: jax.Array, step: jax.Array) -> Windows:
    """Part number `step`, of `length` windows."""
    _, vertices, width = packed.shape
    faces = len(triangles)
    number = step * length + jnp.arange(length, dtype=jnp.int32)
    owner = _owners(plan, length, step)
    start, x, y, across = plan.box.at[owner].get(mode='promise_in_bounds').T
    x, y = x + (number - start) % across * window, y + (number - start) // across * window
    image, triangle = owner // faces, owner % faces
    rows = image[None] * vertices + triangles.at[triangle].get(mode='promise_in_bounds').T
    corners = packed.reshape(-1, width).at[rows].get(mode='promise_in_bounds')
    origin = jnp.stack([x, y, *[jnp.zeros_like(x)] * (width - 2)], axis=-1).astype(packed.dtype)
    real = number < plan.ends[-1]
    return Windows(rows, jnp.where(real[None, :, None], corners - origin[None], 0), triangle, image, x, y, real)


def _owners(plan: Plan, length: int, step: jax.Array) -> jax.Array:
    """The triangle of each window of a part: the last one whose run begins at it or before. (length,) int32."""
    starts = plan.box[:, 0] - step * length
    begins = (starts >= 0) & (starts < length) & (plan.ends > plan.box[:, 0])
    numbers = jnp.arange(len(starts), dtype=jnp.int32)
    before = jnp.searchsorted(plan.ends, step * length, side='right').astype(jnp.int32)
    marks = jnp.zeros(length, jnp.int32).at[jnp.where(begins, starts, length)].max(numbers, mode='drop')
    return jnp.minimum(lax.cummax(jnp.maximum(marks, before)), len(starts) - 1)
