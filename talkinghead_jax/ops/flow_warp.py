"""Bilinear warp by a flow in pixels: what the paper's flow module applies to y_ts and y~_t (Sec. 4.2).

A pixel samples inside one cell of 2 x 2 pixels. The forward pass gathers the cell's four rows of C channels. The
backward pass on a CPU is one scan over the pixels, which reads and adds to a whole cell at a time; elsewhere it is
four gathers and four scatter-adds (measured in reference/rasterizer.md, Sec. 6).

The batch is flattened: where it is sharded, call this through `batch_parallel.per_shard` (design, Sec. 3).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from talkinghead_jax.ops import batch_parallel, cuda_scatter

FEW = 8  # channels up to which single rows are faster than whole cells, measured on a CPU


@jax.jit
def warp(image: jax.Array, flow: jax.Array) -> jax.Array:
    """Sample `image` at x + flow, bilinearly; beyond the border the border's values continue.

    Zero flow is the identity, exactly. The gradient to the flow is zero on the border and beyond it, as that of
    `torch.nn.functional.grid_sample(padding_mode='border', align_corners=True)`; at an integer position inside it
    is that of the cell to the right and below. Any flow is safe: an infinite one reads the border, and a NaN counts
    as a position beyond the left or upper border.

    Args:
      image: (B, H, W, C), floating. Blended in float32 at least.
      flow: (B, H, W, 2) px as (dx, dy), floating: x right, y down.

    Returns:
      (B, H, W, C) of the image's type: output[b, y, x] = image[b, y + dy, x + dx].

    Raises:
      ValueError: the shapes do not fit each other, or an argument is not floating.
    """
    if image.ndim != 4 or flow.shape != (*image.shape[:3], 2):
        raise ValueError(f'flow: found shape {flow.shape}, want (B, H, W, 2) beside an image of {image.shape}')
    for name, array in (('image', image), ('flow', flow)):
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f'{name}: found {array.dtype}, want floating values')
    if not image.size:
        return image
    cuda_scatter.warn_if_slow()
    if 1 in image.shape[1:3]:  # a cell needs two rows and two columns
        image = jnp.pad(image, [(0, 0), *((0, int(size == 1)) for size in image.shape[1:3]), (0, 0)], mode='edge')
    # Inside shard_map the two may vary over different mesh axes. Less a zero of the other's kind, both vary over all,
    # and JAX sums the gradient of what was shared.
    alike = (x - jnp.zeros_like(other, shape=(), dtype=x.dtype) for x, other in ((image, flow), (flow, image)))
    return _warp(*alike)


class _Cells(NamedTuple):
    """Where each of the N = B H W pixels samples."""

    column: jax.Array  # (N,) int32: of the cell's upper left pixel
    row: jax.Array  # (N,) int32: in the B H rows of all images
    across: jax.Array  # (N,): 0 .. 1 within the cell, to the right
    down: jax.Array
    within_x: jax.Array  # (N,): whether the position is strictly inside the image
    within_y: jax.Array


def _cells(image: jax.Array, flow: jax.Array) -> _Cells:
    found = []
    for axis in (2, 1):
        step, last = flow[..., 2 - axis], image.shape[axis] - 1
        step = step.astype(jnp.promote_types(step.dtype, jnp.float32))  # which counts pixels exactly
        position = step + lax.broadcasted_iota(step.dtype, step.shape, axis)
        inside = jnp.where(position > 0, jnp.minimum(position, last), 0)  # before the cast; a NaN is not > 0
        cell = jnp.minimum(jnp.floor(inside), last - 1)
        found.append((cell.astype(jnp.int32), inside - cell, (position > 0) & (position < last)))
    cells = _Cells(*(x for pair in zip(*found, strict=True) for x in pair))
    above = lax.broadcasted_iota(jnp.int32, flow.shape[:3], 0) * image.shape[1]
    return _Cells(*(x.reshape(-1) for x in cells._replace(row=cells.row + above)))


def _gather(image: jax.Array, cells: _Cells) -> tuple[list[jax.Array], list[jax.Array]]:
    """The indices (N,) and values (N, C) of the cells' upper left, upper right, lower left and lower right."""
    width, channels = image.shape[2:]
    first = cells.row * width + cells.column
    rows = [first + offset for offset in (0, 1, width, width + 1)]
    flat = image.reshape(-1, channels)
    return rows, [flat.at[row].get(mode='promise_in_bounds') for row in rows]


def _weights(cells: _Cells) -> list[jax.Array]:
    """Of the four corners, in the order of `_gather`."""
    left, upper = 1 - cells.across, 1 - cells.down
    return [upper * left, upper * cells.across, cells.down * left, cells.down * cells.across]


def _slopes(corners: Sequence[jax.Array], cells: _Cells) -> jax.Array:
    """(..., 2): how the blend of the four corners' numbers changes with the flow's x and y."""
    upper_left, upper_right, lower_left, lower_right = corners
    in_x = (upper_right - upper_left) * (1 - cells.down) + (lower_right - lower_left) * cells.down
    in_y = (lower_left - upper_left) * (1 - cells.across) + (lower_right - upper_right) * cells.across
    return jnp.stack([jnp.where(cells.within_x, in_x, 0), jnp.where(cells.within_y, in_y, 0)], -1)


@batch_parallel.joins_the_batch
def _forward(image: jax.Array, flow: jax.Array) -> tuple[jax.Array]:
    cells = _cells(image, flow)
    _, (upper_left, upper_right, lower_left, lower_right) = _gather(image, cells)
    across, down = cells.across[:, None], cells.down[:, None]
    upper = upper_left * (1 - across) + upper_right * across
    lower = lower_left * (1 - across) + lower_right * across
    warped = upper * (1 - down) + lower * down
    return (warped.astype(image.dtype).reshape(*flow.shape[:3], -1),)


@batch_parallel.joins_the_batch
def _backward(image: jax.Array, flow: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    wide = gradient.astype(jnp.result_type(gradient, flow, jnp.float32)).reshape(-1, image.shape[-1])
    g_image, g_flow = lax.platform_dependent(
        image, flow, wide, cpu=_scan_rows if image.shape[-1] <= FEW else _scan_cells, default=_scatter_rows)
    return g_image.astype(image.dtype), g_flow.astype(flow.dtype).reshape(flow.shape)


def _scatter_rows(image: jax.Array, flow: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The gradients to the image and the flow (N, 2) from that to the warped image (N, C)."""
    cells = _cells(image, flow)
    rows, corners = _gather(image, cells)
    added = jnp.zeros((image.size // image.shape[-1], image.shape[-1]), gradient.dtype)
    for row, weight in zip(rows, _weights(cells), strict=True):
        added = added.at[row].add(weight[:, None] * gradient, mode='promise_in_bounds')
    return added.reshape(image.shape), _slopes([(corner * gradient).sum(-1) for corner in corners], cells)


def _scan_cells(image: jax.Array, flow: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    """As `_scatter_rows`, a pixel at a time, in a loop that XLA:CPU compiles into one kernel.

    The sums of the four corners are taken before the slopes: the other way, many channels take twice as long.
    """
    width, channels = image.shape[2:]
    tall = image.reshape(-1, width, channels)

    def add(added: jax.Array, pixel: tuple[_Cells, jax.Array]) -> tuple[jax.Array, jax.Array]:
        cells, gradient_here = pixel
        start = cells.row, cells.column, jnp.int32(0)

        def cell(array: jax.Array) -> jax.Array:
            return lax.dynamic_slice(array, start, (2, 2, channels), allow_negative_indices=False)

        products = (cell(tall).reshape(4, channels) * gradient_here[None]).sum(-1)
        shares = jnp.stack(_weights(cells)).reshape(2, 2, 1) * gradient_here[None, None]
        added = lax.dynamic_update_slice(added, cell(added) + shares, start, allow_negative_indices=False)
        return added, _slopes(tuple(products), cells)

    # Zeros like the gradient: inside shard_map a scan's carry must vary over the mesh axes of what it gains.
    added, g_flow = lax.scan(add, jnp.zeros_like(gradient, shape=tall.shape), (_cells(image, flow), gradient))
    return added.reshape(image.shape), g_flow


def _scan_rows(image: jax.Array, flow: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    """As `_scan_cells`, a corner at a time: for few channels, whose rows are one or two registers."""
    width, channels = image.shape[2:]
    flat, cells = image.reshape(-1, channels), _cells(image, flow)

    def add(added: jax.Array, pixel: tuple[_Cells, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        cells, first, gradient_here = pixel
        starts = [(first + offset, jnp.int32(0)) for offset in (0, 1, width, width + 1)]

        def row(array: jax.Array, start: tuple[jax.Array, jax.Array]) -> jax.Array:
            return lax.dynamic_slice(array, start, (1, channels), allow_negative_indices=False)

        products = [(row(flat, start)[0] * gradient_here).sum() for start in starts]
        for start, weight in zip(starts, _weights(cells), strict=True):
            share = row(added, start) + (weight * gradient_here)[None]
            added = lax.dynamic_update_slice(added, share, start, allow_negative_indices=False)
        return added, _slopes(products, cells)

    added, g_flow = lax.scan(add, jnp.zeros_like(gradient, shape=flat.shape),
                             (cells, cells.row * width + cells.column, gradient))
    return added.reshape(image.shape), g_flow


@jax.custom_vjp
def _warp(image: jax.Array, flow: jax.Array) -> jax.Array:
    return _forward(image, flow)[0]


_warp.defvjp(lambda image, flow: (_forward(image, flow)[0], (image, flow)),
             lambda residuals, gradient: _backward(*residuals, gradient))
