"""The rasterizer for CPUs and GPUs: windows of pixels, scattered onto the image.

Softmax over depth and the alpha product are reductions that know no order. So the work list is taken in chunks,
in two passes: one scatter-max for the nearest depth of each pixel, one scatter-add for its sums. The backward pass
gathers a few numbers from each pixel, computes each fragment again and adds up what the corners of each window
get. Arrays of fragments are (S, N): S = P^2 pixels of a window, N windows of a chunk.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from talkinghead_jax.ops.rasterizing import fragments, windows
from talkinghead_jax.ops.rasterizing.settings import Settings

T = TypeVar('T')
FIELDS = len(fragments.Triangle._fields)


class Form(NamedTuple):
    """How a platform likes it. Changes speed and memory only."""

    window: int  # P
    part: int  # windows that are laid out at once
    chunk: int  # windows that are drawn at once, a divisor of `part`
    staged: bool  # a CPU: see `_stage`
    drops: bool  # scatters leave out what is not drawn, for an atomic operation costs more than a test
    integers: bool  # a GPU has an atomic maximum for integers only
    lanes: int  # rows of sums are padded to a multiple: a CPU adds 4 numbers as fast as 1


class Part(NamedTuple):
    """A part of the work list, laid out: M windows."""

    table: jax.Array  # (7 + C, 3, M): the fields of a Triangle, then each attribute
    rows: jax.Array  # (3, M) int32: the corners' rows in the flattened vertices
    grid: jax.Array  # (4, M) int32: the triangle; first pixel in the flattened images; columns, rows left from it


class Chunk(NamedTuple):
    """N windows of a part. What it derives is derived where it is used: a stage takes few operands."""

    settings: Settings
    form: Form
    part: Part
    stage: fragments.Stage

    @property
    def triangle(self) -> fragments.Triangle:
        """Arrays (3, 1, N)."""
        return fragments.Triangle(*self.part.table[:FIELDS, :, None])

    @property
    def attributes(self) -> list[jax.Array]:
        """Arrays (3, 1, N)."""
        return list(self.part.table[FIELDS:, :, None])

    @property
    def _slots(self) -> tuple[jax.Array, jax.Array]:
        slot = jnp.arange(self.form.window ** 2, dtype=jnp.int32)[:, None]
        return slot % self.form.window, slot // self.form.window

    @property
    def where(self) -> tuple[fragments.Triangle, jax.Array, jax.Array]:
        """The triangle, and x and y (S, 1) of the pixels relative to the window's first."""
        return self.triangle, *(x.astype(self.part.table.dtype) for x in self._slots)

    @property
    def drawn(self) -> jax.Array:
        """Whether there is such a pixel: (S, N) bool."""
        _, _, columns, rows = self.part.grid[:, None]
        right, down = self._slots
        return (right < columns) & (down < rows)

    @property
    def pixels(self) -> jax.Array:
        """Index into the flattened images, 0 where not `drawn`: (S, N) int32."""
        right, down = self._slots
        return jnp.where(self.drawn, self.part.grid[1, None] + down * self.settings.size + right, 0)

    def cover(self) -> tuple[fragments.Cover, jax.Array]:
        """The fragments, and `pixels`."""
        found = fragments.cover(self.settings, *self.where, self.drawn)
        return found, self.pixels_of(found.logit > -jnp.inf)

    def pixels_of(self, reached: jax.Array) -> jax.Array:
        """`pixels`, for a scatter whose updates are nothing where not `reached`."""
        return jnp.where(reached, self.pixels, windows.NOWHERE) if self.form.drops else self.pixels


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

    mode = 'drop' if form.drops else 'promise_in_bounds'

    def highest(peak: jax.Array, chunk: Chunk) -> jax.Array:
        def weigh() -> tuple[jax.Array, jax.Array]:
            reached, weight = fragments.log_weights(settings, *chunk.where)
            weight = jnp.where(reached & chunk.drawn, weight, -jnp.inf)
            return chunk.pixels_of(reached & chunk.drawn), _as_integers(weight) if form.integers else weight

        pixels, weight = chunk.stage(weigh)
        return peak.at[pixels].max(weight, mode=mode)

    peak = empty + settings.background_log_weight
    peak = _as_floats(fold(highest, _as_integers(peak)), peak.dtype) if form.integers else fold(highest, peak)

    def add(sums: jax.Array, chunk: Chunk) -> jax.Array:
        found, pixels = chunk.stage(chunk.cover)
        top = peak.at[pixels].get(mode='clip' if form.drops else mode)
        weight, z = chunk.stage(lambda: fragments.weigh(settings, chunk.triangle, found, top))
        terms = chunk.stage(lambda: fragments.terms(found, chunk.attributes, weight, z))
        terms += [jnp.zeros_like(weight)] * (sums.shape[-1] - width)
        return sums.at[pixels].add(chunk.stage(lambda: jnp.stack(terms, axis=-1)), mode=mode)

    lanes = math.ceil(width / form.lanes) * form.lanes
    sums = fold(add, empty[:, None] + jnp.zeros((1, lanes), packed.dtype))
    return peak.reshape(batch, -1), sums[:, :width].reshape(batch, -1, width)


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
    planes = list(jnp.moveaxis(pixels, 1, 0).reshape(width + 1, -1))

    def add(gradient: jax.Array, chunk: Chunk) -> jax.Array:
        (found, pixels), place = chunk.stage(lambda: (chunk.cover(), fragments.nearest_boundary(*chunk.where)[1]))
        here = [plane.at[pixels].get(mode='clip' if form.drops else 'promise_in_bounds') for plane in planes]
        to = fragments.gradients(settings, *chunk.where, found, chunk.attributes, here, chunk.stage)
        corners = fragments.corner_gradients(*chunk.where, found, place, to, here[:width - 3],
                                             lambda x: x.sum(0, keepdims=True), chunk.stage)
        rows = jnp.stack([jnp.concatenate(corner).T for corner in corners])
        return gradient.at[chunk.part.rows].add(rows, mode='promise_in_bounds')

    empty = jnp.zeros(packed.reshape(-1, width).shape, packed.dtype) + varying_zero(packed)
    return fold(add, empty).reshape(packed.shape)


def each_chunk(settings: Settings, form: Form, packed: jax.Array, triangles: jax.Array) -> Callable[..., T]:
    """A function `fold(add, carry)` that runs `carry = add(carry, chunk)` over the work list."""
    plan = windows.plan(settings, form.window, packed, triangles)

    def fold(add: Callable[[T, Chunk], T], carry: T) -> T:
        def draw(step: jax.Array, carry: T) -> T:
            part = _lay_out(settings, windows.take(form.window, form.part, plan, packed, triangles, step))
            rest = jnp.minimum(plan.ends[-1] - step * form.part, form.part)

            def body(group: jax.Array, carry: T) -> T:
                stage = functools.partial(_stage, group < rest) if form.staged else plainly
                chosen = stage(lambda: jax.tree.map(
                    lambda x: lax.dynamic_slice_in_dim(x, group * form.chunk, form.chunk, axis=x.ndim - 1), part))
                return add(carry, Chunk(settings, form, chosen, stage))

            return lax.fori_loop(0, (rest + form.chunk - 1) // form.chunk, body, carry)

        return lax.fori_loop(0, plan.parts(form.part), draw, carry)

    return fold


def _lay_out(settings: Settings, taken: windows.Windows) -> Part:
    columns = jnp.moveaxis(taken.corners, -1, 0)
    table = jnp.concatenate([jnp.stack(fragments.triangle(*columns[:3])), columns[3:]])
    first = (taken.image * settings.size + taken.y) * settings.size + taken.x
    grid = [taken.triangle, first, jnp.where(taken.real, settings.size - taken.x, 0), settings.size - taken.y]
    return Part(table, taken.rows, jnp.stack(grid))


def varying_zero(packed: jax.Array) -> jax.Array:
    """A 0 that varies over the same mesh axes as `packed`, as the first value of a loop must in shard_map."""
    return 0 * packed[0, 0, 0]


def plainly(compute: Callable[[], T]) -> T:
    """A stage that is none."""
    return compute()


def _stage(go: jax.Array, compute: Callable[[], T]) -> T:
    """`compute()` in a branch of its own; `go` is always true.

    XLA on a CPU fuses a function into each reader of its results, and so computes it for each of them anew: it
    cannot fuse through a branch. It also hands the operations of a long program from thread to thread, at more
    than they cost here: a branch of few operations stays where it is.
    """
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
