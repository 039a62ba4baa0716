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

from talkinghead_jax.ops.rasterizing.settings import Settings

FARTHEST = 1e9  # px: triangles with a vertex beyond it (or not finite) are left out
NOWHERE = 2 ** 31 - 1  # index of no pixel: scatters drop it
MOST = 2 ** 31 - 2 ** 24  # windows in one list, which is numbered in int32


class Plan(NamedTuple):
    """The list of windows of N = B F triangles."""

    box: jax.Array  # (4, N) int32: first window of the triangle in the list, its first pixel x, y, windows a row
    ends: jax.Array  # (N,) int32: one past its last window
    owners: jax.Array  # (capacity,) int32: triangle of each of the first windows; the others are searched
    chunks: jax.Array  # () int32


class Windows(NamedTuple):
    """One chunk of N windows."""

    rows: jax.Array  # (3, N) int32: the corners' rows in the flattened vertices
    corners: jax.Array  # (3, N, 3 + C): x, y relative to the window's first pixel, q, attributes
    triangle: jax.Array  # (N,) int32
    image: jax.Array  # (N,) int32: number in the batch
    x: jax.Array  # (N,) int32: the first pixel
    y: jax.Array
    real: jax.Array  # (N,) bool: the last chunk is padded


def plan(settings: Settings, window: int, chunk: int, packed: jax.Array, triangles: jax.Array, *,
         aligned: bool = False) -> Plan:
    """Cut the dilated box of each triangle into windows and number them.

    Args:
      settings: of the call.
      window: P.
      chunk: windows that are taken at once.
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
    number = count.size
    capacity = math.ceil(1.06 * number / chunk) * chunk
    marks = jnp.zeros(capacity, jnp.int32).at[jnp.where(count > 0, starts, capacity)].max(
        jnp.arange(number, dtype=jnp.int32), mode='drop')
    box = jnp.stack([starts, first[0].reshape(-1), first[1].reshape(-1), jnp.maximum(across[0], 1).reshape(-1)])
    return Plan(box, ends, lax.cummax(marks), (ends[-1] + chunk - 1) // chunk)


def take(window: int, chunk: int, plan: Plan, packed: jax.Array, triangles: jax.Array, step: jax.Array) -> Windows:
    """Chunk number `step` of the list."""
    batch, vertices, width = packed.shape
    faces = len(triangles)
    number = step * chunk + jnp.arange(chunk, dtype=jnp.int32)
    # What does not fit the precomputed owners is searched: slower, as exact, and needed by large triangles only.
    owner = lax.cond(
        step < len(plan.owners) // chunk,
        lambda: lax.dynamic_slice(plan.owners, [step * chunk], [chunk]),
        lambda: jnp.searchsorted(plan.ends, number, side='right').astype(jnp.int32))
    owner = jnp.minimum(owner, batch * faces - 1)
    start, x, y, across = (row.at[owner].get(mode='clip') for row in plan.box)
    x, y = x + (number - start) % across * window, y + (number - start) // across * window
    image, triangle = owner // faces, owner % faces
    rows = image[None] * vertices + triangles.T.at[:, triangle].get(mode='clip')
    corners = packed.reshape(-1, width).at[rows].get(mode='clip')
    origin = jnp.stack([x, y, *[jnp.zeros_like(x)] * (width - 2)], axis=-1).astype(packed.dtype)
    real = number < plan.ends[-1]
    return Windows(rows, jnp.where(real[None, :, None], corners - origin[None], 0), triangle, image, x, y, real)
