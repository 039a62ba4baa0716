"""The rasterizer for TPUs: blocks of triangles against tiles of pixels, without a scatter of fragments.

A TPU computes densely and scatters slowly. So the windows of the work list are the image's tiles, the list is
sorted by tile and padded so that each block of it belongs to one tile, and a block is one dense
(triangles, pixels) computation whose sums are whole rows of the image. The exactness is `splat`'s: what does not
fit one sorted list goes into the next.

Arrays of fragments are (N, K, P): N blocks taken at once, K triangles of a block, P pixels of a tile.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from talkinghead_jax.ops.rasterizing import fragments, splat, windows
from talkinghead_jax.ops.rasterizing.settings import Settings

T = TypeVar('T')


class Form(NamedTuple):
    """Changes speed and memory only."""

    side: int  # of a tile, px
    block: int  # K
    blocks: int  # N
    part: int  # entries of the list that are sorted together, a multiple of K

    def tiles(self, settings: Settings) -> int:
        """Tiles along a side of the image."""
        return math.ceil(settings.size / self.side)


class Blocks(NamedTuple):
    """N blocks, ready for `fragments`."""

    tile: jax.Array  # (N,) int32 number of the tile in the batch; past the last one for padding
    rows: jax.Array  # (3, N, K) int32: the corners' rows in the flattened vertices
    triangle: fragments.Triangle  # (3, N, K, 1)
    attributes: list[jax.Array]  # (3, N, K, 1)
    real: jax.Array  # (N, K, 1) bool
    x: jax.Array  # (1, 1, P) pixels, relative to the tile's first
    y: jax.Array

    def cover(self, settings: Settings) -> fragments.Cover:
        """Of the block's fragments; padding reaches nothing."""
        return fragments.cover(settings, self.triangle, self.x, self.y, self.real)


def forward(settings: Settings, form: Form, packed: jax.Array, triangles: jax.Array) -> tuple[jax.Array, jax.Array]:
    """As `splat.forward`."""
    batch, _, width = packed.shape
    tiles, pixels = batch * form.tiles(settings) ** 2, form.side ** 2
    fold = _each_blocks(settings, form, packed, triangles)
    zero = splat.varying_zero(packed)

    def highest(peak: jax.Array, blocks: Blocks) -> jax.Array:
        reached, weight = fragments.log_weights(settings, blocks.triangle, blocks.x, blocks.y)
        weight = jnp.where(reached & blocks.real, weight, -jnp.inf)
        return peak.at[blocks.tile].max(weight.max(1), mode='drop', indices_are_sorted=True)

    peak = fold(highest, jnp.full((tiles, pixels), settings.background_log_weight, packed.dtype) + zero)

    def add(sums: jax.Array, blocks: Blocks) -> jax.Array:
        top = peak.at[blocks.tile].get(mode='clip')[:, None]
        found = blocks.cover(settings)
        terms = fragments.terms(found, blocks.attributes, *fragments.weigh(settings, blocks.triangle, found, top))
        return sums.at[blocks.tile].add(jnp.stack([term.sum(1) for term in terms], axis=1), mode='drop',
                                        indices_are_sorted=True)

    sums = fold(add, jnp.zeros((tiles, width, pixels), packed.dtype) + zero)
    image = _untile(settings, form, jnp.concatenate([peak[:, None], sums], axis=1))
    return image[:, 0], jnp.moveaxis(image[:, 1:], 1, 2)


def backward(settings: Settings, form: Form, packed: jax.Array, triangles: jax.Array, pixels: jax.Array) -> jax.Array:
    """As `splat.backward`."""
    width = packed.shape[-1]
    fold = _each_blocks(settings, form, packed, triangles)
    image = _tile(settings, form, pixels)

    def add(gradient: jax.Array, blocks: Blocks) -> jax.Array:
        there = blocks.triangle, blocks.x, blocks.y
        found, place = blocks.cover(settings), fragments.nearest_boundary(*there)[1]
        here = list(jnp.moveaxis(image.at[blocks.tile].get(mode='clip'), 1, 0)[:, :, None])
        to = fragments.gradients(settings, *there, found, blocks.attributes, here, splat.plainly)
        corners = fragments.corner_gradients(*there, found, place, to, here[:width - 3],
                                             lambda x: x.sum(-1, keepdims=True), splat.plainly)
        corners = jnp.stack([jnp.concatenate(corner, axis=-1) for corner in corners])
        return gradient.at[blocks.rows].add(jnp.where(blocks.real[None], corners, 0), mode='drop')

    empty = jnp.zeros(packed.reshape(-1, width).shape, packed.dtype) + splat.varying_zero(packed)
    return fold(add, empty).reshape(packed.shape)


def _each_blocks(settings: Settings, form: Form, packed: jax.Array, triangles: jax.Array) -> Callable[..., T]:
    """`fold(add, carry)`, which runs `carry = add(carry, blocks)` over the work list."""
    plan = windows.plan(settings, form.side, packed, triangles, aligned=True)
    across = form.tiles(settings)
    tiles = len(packed) * across ** 2

    def fold(add: Callable[[T, Blocks], T], carry: T) -> T:
        def draw(step: jax.Array, carry: T) -> T:
            taken = windows.take(form.side, form.part, plan, packed, triangles, step)
            tile = (taken.image * across + taken.y // form.side) * across + taken.x // form.side
            tile, order = lax.sort([jnp.where(taken.real, tile, tiles), jnp.arange(form.part, dtype=jnp.int32)],
                                   num_keys=1)
            start = jnp.searchsorted(tile, jnp.arange(tiles + 1, dtype=jnp.int32)).astype(jnp.int32)
            ends = jnp.cumsum((start[1:] - start[:-1] + form.block - 1) // form.block)  # of each tile's blocks

            def body(group: jax.Array, carry: T) -> T:
                return add(carry, _take(form, taken, order, start, ends, group))

            return lax.fori_loop(0, (ends[-1] + form.blocks - 1) // form.blocks, body, carry)

        return lax.fori_loop(0, plan.parts(form.part), draw, carry)

    return fold


def _take(form: Form, taken: windows.Windows, order: jax.Array, start: jax.Array, ends: jax.Array, group: jax.Array,
          ) -> Blocks:
    """The N blocks of a group."""
    number = group * form.blocks + jnp.arange(form.blocks, dtype=jnp.int32)
    tile = jnp.searchsorted(ends, number, side='right').astype(jnp.int32)
    before = jnp.where(tile > 0, ends.at[tile - 1].get(mode='clip'), 0)
    entry = (start.at[tile].get(mode='clip') + (number - before) * form.block)[:, None] + jnp.arange(
        form.block, dtype=jnp.int32)[None]
    real = entry < start.at[tile + 1].get(mode='clip')[:, None]  # a tile past the last one has no entries
    window = order.at[jnp.where(real, entry, 0)].get(mode='clip')
    corners = jnp.where(real[None, :, :, None], taken.corners.at[:, window].get(mode='clip'), 0)
    columns = jnp.moveaxis(corners, -1, 0)[..., None]
    slot = jnp.arange(form.side ** 2, dtype=jnp.int32)[None, None]
    return Blocks(tile, taken.rows.at[:, window].get(mode='clip'), fragments.triangle(*columns[:3]),
                  list(columns[3:]), real[:, :, None], (slot % form.side).astype(corners.dtype),
                  (slot // form.side).astype(corners.dtype))


def _tile(settings: Settings, form: Form, image: jax.Array) -> jax.Array:
    """The C = `pixels` of `splat.backward`: (B, C, H W) -> (tiles, C, P)."""
    batch, channels, _ = image.shape
    across, side = form.tiles(settings), form.side
    margin = across * side - settings.size
    image = image.reshape(batch, channels, settings.size, settings.size)
    edges = (0, 0), (0, 0), (0, margin), (0, margin)
    # No fragment weighs anything beside an endless sum of weights: the last channel is its logarithm.
    image = jnp.concatenate([jnp.pad(image[:, :-1], edges), jnp.pad(image[:, -1:], edges, constant_values=jnp.inf)],
                            axis=1)
    image = image.reshape(batch, channels, across, side, across, side)
    return image.transpose(0, 2, 4, 1, 3, 5).reshape(batch * across ** 2, channels, side ** 2)


def _untile(settings: Settings, form: Form, tiled: jax.Array) -> jax.Array:
    """(tiles, C, P) -> (B, C, H W)."""
    across, side, size = form.tiles(settings), form.side, settings.size
    image = tiled.reshape(-1, across, across, tiled.shape[1], side, side).transpose(0, 3, 1, 4, 2, 5)
    image = image.reshape(-1, tiled.shape[1], across * side, across * side)[:, :, :size, :size]
    return image.reshape(*image.shape[:2], -1)
