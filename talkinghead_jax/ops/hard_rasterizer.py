"""The z-buffer beside the soft rasterizer: for preparation and previews, not for training.

Same camera, same triangles, same work list as `soft_rasterizer`. A pixel shows the nearest triangle that contains
its centre, and no other.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from talkinghead_jax.ops.rasterizing import fragments, splat, windows
from talkinghead_jax.ops.rasterizing.settings import FAR, Settings

WINDOW = 4  # px
SLOTS = 2 ** 16  # fragments at a time
TIE = 1e-5  # of the depth (at least of 1 px): two compilations of one formula may differ by so much


class Raster(NamedTuple):
    """What a z-buffer holds."""

    image: jax.Array  # (B, size, size, C): attributes, `background` where nothing is drawn
    depth: jax.Array  # (B, size, size) z in px as given in the vertices, 0 where nothing is drawn
    triangle: jax.Array  # (B, size, size) int32 number of the triangle that is seen, -1 where there is none


@functools.partial(jax.jit, static_argnames=('size', 'far', 'background'))
def rasterize(vertices: jax.Array, triangles: jax.Array, attributes: jax.Array, size: int, *, far: float = FAR,
              background: float = 0.0) -> Raster:
    """Draw triangle meshes with a z-buffer: the limit of `soft_rasterizer.rasterize` for small sigma and gamma.

    Units and camera are those of `soft_rasterizer.rasterize`; triangles are two-sided; what lies outside near
    .. far is not drawn. Of triangles whose depths differ by less than 1e-5 of the depth (at least 1e-5 px), the one
    with the largest number is seen. The work list is the CPU's on every platform: this is not for training.
    Differentiable in the attributes, and in the vertices but for which triangle is seen.

    Args:
      vertices: (B, V, 3) px of the size x size image: x right, y down, z towards the viewer, pixel centres at
        integers.
      triangles: (F, 3) int32 vertex numbers.
      attributes: (B, V, C) colour, or whatever shall be drawn.
      size: side of the image in px.
      far: distance (px at 256 px) of the far plane.
      background: value of the image where nothing is drawn.

    Returns:
      A `Raster`.

    Raises:
      ValueError: a shape or type does not fit.
    """
    windows.check(vertices, triangles, attributes)
    batch, channels = len(vertices), attributes.shape[-1]
    settings = Settings.of(size, 1e-20, 1.0, far, 0.5, True)  # at cutoff 0.5 the reach is 0
    packed, triangles = windows.pack(settings, vertices, triangles, attributes)
    if batch == 0:
        return Raster(jnp.zeros((0, size, size, channels), packed.dtype), jnp.zeros((0, size, size), packed.dtype),
                      jnp.zeros((0, size, size), jnp.int32))
    seen = lax.map(lambda one: _nearest(settings, one[None], triangles),
                   lax.stop_gradient(packed[..., :3]))  # (B, H W)

    def shade(points: jax.Array, seen: jax.Array) -> tuple[jax.Array, jax.Array]:
        rows = triangles.at[seen].get(mode='clip')
        corners = points.at[rows].get(mode='clip')  # (H W, 3, 3 + C)
        drawn = seen >= 0
        corners = jnp.where(drawn[:, None, None], corners, 0)
        x, y, q = (corners[:, :, channel].T for channel in range(3))
        row, column = jnp.indices((size, size)).reshape(2, -1).astype(points.dtype)
        n = fragments.blend_weights(fragments.triangle(x, y, q), column, row)
        image = (jnp.stack(n, axis=-1)[..., None] * corners[..., 3:]).sum(1)
        return jnp.where(drawn[:, None], image, background), fragments.depth(settings, n, q)[0]

    image, depth = jax.vmap(shade)(packed, seen)
    return Raster(*(x.reshape(batch, size, size, *x.shape[2:]) for x in (image, depth, seen)))


def _nearest(settings: Settings, packed: jax.Array, triangles: jax.Array) -> jax.Array:
    """Number of the triangle that each pixel of one image (1, V, 3) sees, or -1: (H W,) int32."""
    chunk = min(SLOTS // WINDOW ** 2, len(triangles))
    part = math.ceil(1.06 * len(triangles) / chunk) * chunk
    form = splat.Form(WINDOW, part, chunk, staged=True, drops=False, integers=False, lanes=1)
    fold = splat.each_chunk(settings, form, packed, triangles)

    def depths(chunk: splat.Chunk) -> jax.Array:
        t, x, y = chunk.where
        w = fragments.barycentric(t, x, y)
        z, _ = fragments.depth(settings, w, t.q)
        return jnp.where(chunk.drawn & fragments.is_inside(w) & fragments.is_visible(settings, z), z, -jnp.inf)

    def highest(peak: jax.Array, chunk: splat.Chunk) -> jax.Array:
        return peak.at[chunk.pixels].max(chunk.stage(lambda: depths(chunk)), mode='promise_in_bounds')

    def name(seen: jax.Array, chunk: splat.Chunk) -> jax.Array:
        top = peak.at[chunk.pixels].get(mode='promise_in_bounds')

        def names() -> jax.Array:
            z = depths(chunk)
            near = jnp.isfinite(z) & (z >= top - TIE * jnp.maximum(1, jnp.abs(top)))
            return jnp.where(near, chunk.part.grid[0][None], -1)

        return seen.at[chunk.pixels].max(chunk.stage(names), mode='promise_in_bounds')

    zero = splat.varying_zero(packed)
    peak = fold(highest, jnp.full(settings.size ** 2, -jnp.inf, packed.dtype) + zero)
    return fold(name, jnp.full(settings.size ** 2, -1, jnp.int32) + zero.astype(jnp.int32))


@functools.partial(jax.jit, static_argnames=('size', 'tolerance'))
def vertex_visibility(vertices: jax.Array, triangles: jax.Array, size: int, tolerance: float = 2.0) -> jax.Array:
    """Which vertices the viewer sees, by the z-buffer.

    A vertex is seen where its normal faces the viewer and it lies no further than `tolerance` behind one of the
    surfaces that the four pixels around it see (nothing is a surface infinitely far away).

    Args:
      vertices: (B, V, 3) px of the size x size image, z towards the viewer.
      triangles: (F, 3) int32; a normal, the cross product of the edges from corner 0 to corners 1 and 2, with
        positive z faces the viewer.
      size: side of the image in px. A vertex that lies outside is not seen.
      tolerance: px.

    Returns:
      (B, V) float32, 0 or 1. A vertex of no triangle has no normal: only what lies before it counts.
    """
    raster = rasterize(vertices, triangles, jnp.zeros_like(vertices[..., :0]), size)
    surface = jnp.where(raster.triangle >= 0, raster.depth, -jnp.inf)

    def one(points: jax.Array, surface: jax.Array) -> jax.Array:
        corners = points.at[triangles].get(mode='clip')
        edges = corners[:, 1:] - corners[:, :1]
        area = edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]
        area = jnp.where(jnp.isfinite(area), area, 0)  # such a triangle is left out
        sums = jnp.zeros((2, len(points)), points.dtype)
        sums = sums.at[:, triangles].add(jnp.broadcast_to(jnp.stack([area, jnp.abs(area)])[..., None],
                                                          (2, *triangles.shape)), mode='drop')
        inside = ((points[:, :2] >= -0.5) & (points[:, :2] <= size - 0.5)).all(-1)
        first = jnp.floor(jnp.clip(points[:, :2], 0, size - 1)).astype(jnp.int32)
        beside = jnp.minimum(first + 1, size - 1)
        around = [surface.at[row, column].get(mode='clip') for row in (first[:, 1], beside[:, 1])
                  for column in (first[:, 0], beside[:, 0])]
        furthest = functools.reduce(jnp.minimum, around)
        facing = (sums[0] > 0) | (sums[1] == 0)
        return inside & facing & (points[:, 2] >= furthest - tolerance)

    return jax.vmap(one)(vertices, surface).astype(jnp.float32)
