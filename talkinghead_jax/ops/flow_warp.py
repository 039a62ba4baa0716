"""Bilinear warp by a flow in pixels: what the paper's flow module applies to y_ts and y~_t (Sec. 4.2).

The forward pass gathers four rows of C channels a pixel. The backward pass adds to those rows: on a CPU by a scan
over the pixels, elsewhere by scatters (measured in reference/rasterizer.md, Sec. 6).

The batch is flattened: on a sharded batch, call this inside `jax.shard_map` (design, Sec. 3).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


@jax.jit
def warp(image: jax.Array, flow: jax.Array) -> jax.Array:
    """Sample `image` at x + flow, bilinearly; beyond the border the border's values continue.

    Zero flow is the identity, exactly. The gradient to the flow is zero beyond the border, and at an integer
    position it is that of the cell to the right and below.

    Args:
      image: (B, H, W, C).
      flow: (B, H, W, 2) px as (dx, dy): x right, y down.

    Returns:
      (B, H, W, C): output[b, y, x] = image[b, y + dy, x + dx].
    """
    if image.ndim != 4 or flow.shape != (*image.shape[:3], 2):
        raise ValueError(f'flow: found shape {flow.shape}, want (B, H, W, 2) beside an image of {image.shape}')
    return _warp(image, flow)


@jax.custom_vjp
def _warp(image: jax.Array, flow: jax.Array) -> jax.Array:
    return _forward(image, flow)[0]


class _Cells(NamedTuple):
    """Where each of the N = B H W pixels samples."""

    rows: jax.Array  # (4, N) int32: upper left, upper right, lower left, lower right in the flattened image
    across: jax.Array  # (N, 1): 0 .. 1 within the cell
    down: jax.Array
    within: jax.Array  # (2, N) whether the position is inside the image in x and in y


def _cells(flow: jax.Array) -> _Cells:
    batch, height, width, _ = flow.shape
    first, fraction, within, second = [], [], [], []
    for axis, size in ((2, width), (1, height)):
        position = flow[..., 2 - axis] + lax.broadcasted_iota(flow.dtype, flow.shape[:3], axis)
        inside = jnp.clip(position, 0, size - 1)
        cell = jnp.floor(inside)
        fraction.append((inside - cell).reshape(-1, 1))
        within.append((position == inside).reshape(-1))
        first.append(cell.astype(jnp.int32))
        second.append(jnp.minimum(first[-1] + 1, size - 1))
    image = lax.broadcasted_iota(jnp.int32, (batch, height, width), 0) * height
    rows = [((image + y) * width + x).reshape(-1) for y in (first[1], second[1]) for x in (first[0], second[0])]
    return _Cells(jnp.stack(rows), fraction[0], fraction[1], jnp.stack(within))


def _corners(image: jax.Array, cells: _Cells) -> list[jax.Array]:
    flat = image.reshape(-1, image.shape[-1])
    return [flat.at[row].get(mode='clip') for row in cells.rows]


def _forward(image: jax.Array, flow: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    cells = _cells(flow)
    upper_left, upper_right, lower_left, lower_right = _corners(image, cells)
    upper = upper_left * (1 - cells.across) + upper_right * cells.across
    lower = lower_left * (1 - cells.across) + lower_right * cells.across
    warped = upper * (1 - cells.down) + lower * cells.down
    return warped.astype(image.dtype).reshape(image.shape), (image, flow)


def _backward(residuals: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    image, flow = residuals
    cells = _cells(flow)
    gradient = gradient.reshape(-1, image.shape[-1])
    upper_left, upper_right, lower_left, lower_right = _corners(image, cells)
    slope_x = (upper_right - upper_left) * (1 - cells.down) + (lower_right - lower_left) * cells.down
    slope_y = (lower_left - upper_left) * (1 - cells.across) + (lower_right - upper_right) * cells.across
    slopes = jnp.stack([_sum_channels(gradient * slope_x), _sum_channels(gradient * slope_y)])
    g_flow = jnp.where(cells.within, slopes, 0).T.reshape(flow.shape).astype(flow.dtype)
    parts = cells.rows, cells.across, cells.down, gradient
    g_image = lax.platform_dependent(*parts, cpu=_scan_rows, default=_scatter_rows)
    return g_image.astype(image.dtype).reshape(image.shape), g_flow


def _sum_channels(product: jax.Array) -> jax.Array:
    """(N, C) -> (N,). On a CPU a fused sum would gather one number at a time: a product with ones does not."""
    ones = jnp.ones(product.shape[-1], product.dtype)
    return lax.platform_dependent(product, cpu=lambda x: x @ ones, default=lambda x: x.sum(-1))


def _shares(across: jax.Array, down: jax.Array, gradient: jax.Array) -> list[jax.Array]:
    """The gradient's share of each of the four rows."""
    upper, lower = gradient * (1 - down), gradient * down
    return [upper * (1 - across), upper * across, lower * (1 - across), lower * across]


def _scatter_rows(rows: jax.Array, across: jax.Array, down: jax.Array, gradient: jax.Array) -> jax.Array:
    image = jnp.zeros_like(gradient)
    for row, share in zip(rows, _shares(across, down, gradient), strict=True):
        image = image.at[row].add(share, mode='drop')
    return image


def _scan_rows(rows: jax.Array, across: jax.Array, down: jax.Array, gradient: jax.Array) -> jax.Array:
    def add(image: jax.Array, pixel: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        row, across, down, gradient = pixel
        for index, share in zip(row, _shares(across, down, gradient), strict=True):
            here = lax.dynamic_slice_in_dim(image, index, 1)
            image = lax.dynamic_update_slice_in_dim(image, here + share[None], index, 0)
        return image, None

    # Not plain zeros: the carry of a scan inside shard_map must vary over the same mesh axes as what it gains.
    empty = jnp.where(jnp.isfinite(gradient), 0 * gradient, 0)
    return lax.scan(add, empty, (rows.T, across, down, gradient))[0]


_warp.defvjp(_forward, _backward)
