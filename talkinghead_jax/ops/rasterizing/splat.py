"""The rasterizer for CPUs and GPUs: windows of pixels, scattered onto the image.

Softmax over depth and the alpha product are reductions that know no order. So the work list is taken in chunks,
in two passes: one scatter-max for the nearest depth of each pixel, one scatter-add for its sums. The backward pass
gathers a few numbers from each pixel, computes each fragment again and adds up what the corners of each window
get. Arrays of fragments are (S, N): S = P^2 pixels of a window, N windows of a chunk.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from talkinghead_jax.ops.rasterizing import fragments, windows
from talkinghead_jax.ops.rasterizing.settings import Settings

T = TypeVar('T')


class Form(NamedTuple):
    """How a platform likes it. Changes speed and memory only."""

    window: int  # P
    chunk: int  # windows at a time
    staged: bool  # XLA on a CPU fuses a function into each reader of its results, and computes it for each anew
    integers: bool  # a GPU has an atomic maximum for integers only


class Chunk(NamedTuple):
    """A part of the work list, ready for `fragments`."""

    windows: windows.Windows
    triangle: fragments.Triangle  # (1, N)
    attributes: list[fragments.Three]  # (1, N)
    x: jax.Array  # (S, 1) pixels, relative to the window's first
    y: jax.Array
    pixels: jax.Array  # (S, N) int32: index into the flattened images, or NOWHERE
    stage: fragments.Stage

    def cover(self, settings: Settings) -> tuple[fragments.Cover, jax.Array]:
        """The chunk's fragments, and `pixels`, NOWHERE where there is none."""
        found = fragments.cover(settings, self.triangle, self.x, self.y)
        reached = found.reached & (self.pixels != windows.NOWHERE)
        return found._replace(reached=reached), jnp.where(reached, self.pixels, windows.NOWHERE)


def forward(settings: Settings, form: Form, packed: jax.Array, triangles: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Splat all triangles.

    Args:
      settings: of the call.
      form: of the platform.
      packed: (B, V, 3 + C) x, y, q, attributes.
      triangles: (F, 3) int32.

    Returns:
      peak (B, H W), the largest logarithm of a weight without D, background included; sums (B, H W, C + 3) over
      the fragments: of weight / exp(peak) times each attribute, times z, times 1, and of -log(1 - D).
    """
    batch, _, width = packed.shape
    fold = each_chunk(settings, form, packed, triangles)
    empty = jnp.zeros(batch * settings.size ** 2, packed.dtype) + varying_zero(packed)

    def highest(peak: jax.Array, chunk: Chunk) -> jax.Array:
        def weigh() -> tuple[jax.Array, jax.Array]:
            reached, weight = fragments.log_weights(settings, chunk.triangle, chunk.x, chunk.y)
            return jnp.where(reached, chunk.pixels, windows.NOWHERE), weight

        pixels, weight = chunk.stage(weigh)
        return peak.at[pixels].max(_as_integers(weight) if form.integers else weight, mode='drop')

    peak = empty + settings.background_log_weight
    peak = _as_floats(fold(highest, _as_integers(peak)), peak.dtype) if form.integers else fold(highest, peak)

    def add(sums: jax.Array, chunk: Chunk) -> jax.Array:
        found, pixels = chunk.stage(lambda: chunk.cover(settings))
        terms = fragments.terms(settings, chunk.triangle, found, chunk.attributes,
                                peak.at[pixels].get(mode='clip'), chunk.stage)
        return sums.at[pixels].add(jnp.stack(terms, axis=-1), mode='drop')

    sums = fold(add, empty[:, None] + jnp.zeros((1, width), packed.dtype))
    return peak.reshape(batch, -1), sums.reshape(batch, -1, width)


def backward(settings: Settings, form: Form, packed: jax.Array, triangles: jax.Array, pixels: jax.Array) -> jax.Array:
    """Gradient to `packed`.

    Args:
      settings: of the call.
      form: of the platform.
      packed: (B, V, 3 + C) x, y, q, attributes.
      triangles: (F, 3) int32.
      pixels: (B, C + 4, H W): gradients to the blend of each attribute and of z, and to the sum of -log(1 - D);
        the sum over channels of gradient times blend; the logarithm of the sum of the weights.

    Returns:
      (B, V, 3 + C).
    """
    width = packed.shape[-1]
    fold = each_chunk(settings, form, packed, triangles)
    planes = jnp.moveaxis(pixels, 1, 0).reshape(width + 1, -1)

    def add(gradient: jax.Array, chunk: Chunk) -> jax.Array:
        there = chunk.triangle, chunk.x, chunk.y
        (found, pixels), place = chunk.stage(
            lambda: (chunk.cover(settings), fragments.nearest_boundary(*there)[1]))
        here = [plane.at[pixels].get(mode='clip') for plane in planes]
        to = fragments.gradients(settings, *there, found, chunk.attributes, here, chunk.stage)
        corners = fragments.corner_gradients(*there, found, place, to, here[:width - 3])
        return _add_to_corners(gradient, chunk.windows, [[x.sum(0) for x in corner] for corner in corners])

    empty = jnp.zeros(packed.reshape(-1, width).shape, packed.dtype) + varying_zero(packed)
    return fold(add, empty).reshape(packed.shape)


def _add_to_corners(gradient: jax.Array, chunk: windows.Windows, corners: Sequence[Sequence[jax.Array]]) -> jax.Array:
    rows = jnp.stack([jnp.stack(corner, axis=-1) for corner in corners])
    return gradient.at[chunk.rows].add(rows, mode='drop')


def varying_zero(packed: jax.Array) -> jax.Array:
    """A 0 that varies over the same mesh axes as `packed`, as the first value of a loop must in shard_map."""
    return 0 * packed[0, 0, 0]


def each_chunk(settings: Settings, form: Form, packed: jax.Array, triangles: jax.Array) -> Callable[..., T]:
    """A function `fold(add, carry)` that runs `carry = add(carry, chunk)` over the work list."""
    plan = windows.plan(settings, form.window, form.chunk, packed, triangles)

    def fold(add: Callable[[T, Chunk], T], carry: T) -> T:
        def body(step: jax.Array, carry: T) -> T:
            stage = functools.partial(_stage, step < plan.chunks) if form.staged else lambda compute: compute()
            taken = windows.take(form.window, form.chunk, plan, packed, triangles, step)
            return add(carry, _prepare(settings, form, taken, stage))

        return lax.fori_loop(0, plan.chunks, body, carry)

    return fold


def _prepare(settings: Settings, form: Form, taken: windows.Windows, stage: fragments.Stage) -> Chunk:
    columns = jnp.split(taken.corners[:, None], taken.corners.shape[-1], axis=-1)
    x, y, q, *attributes = [tuple(corner[..., 0] for corner in column) for column in columns]
    slot = jnp.arange(form.window ** 2, dtype=jnp.int32)[:, None]
    right, down = slot % form.window, slot // form.window
    column, row = taken.x[None] + right, taken.y[None] + down
    drawn = (column < settings.size) & (row < settings.size) & taken.real[None]
    pixels = jnp.where(drawn, (taken.image[None] * settings.size + row) * settings.size + column, windows.NOWHERE)
    return Chunk(taken, stage(lambda: fragments.triangle(x, y, q)), attributes, right.astype(taken.corners.dtype),
                 down.astype(taken.corners.dtype), pixels, stage)


def _stage(go: jax.Array, compute: Callable[[], T]) -> T:
    """`compute()`, once for all its readers: XLA cannot fuse through a branch. `go` is always true."""
    shapes = jax.eval_shape(compute)
    zero = jnp.where(go, 0, 0)  # varies over the mesh axes of the data, as both branches must in shard_map
    return lax.cond(go, compute, lambda: jax.tree.map(
        lambda s: jnp.zeros(s.shape, s.dtype) + zero.astype(s.dtype), shapes))


def _as_integers(x: jax.Array) -> jax.Array:
    """Integers in the order of the floats."""
    kind = jnp.dtype(f'int{8 * x.dtype.itemsize}')
    return _flip(lax.bitcast_convert_type(x, kind))


def _as_floats(keys: jax.Array, dtype: jnp.dtype) -> jax.Array:
    return lax.bitcast_convert_type(_flip(keys), dtype)


def _flip(bits: jax.Array) -> jax.Array:
    """Floats below 0 are stored with a sign, integers in two's complement: reverse the order of these."""
    return jnp.where(bits < 0, bits ^ jnp.iinfo(bits.dtype).max, bits)
