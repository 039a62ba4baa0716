"""The splat of `talkinghead_jax.ops.soft_rasterizer` in PyTorch, tuned: what it is timed against.

Same semantics, same windows, same two passes, hand-written backward; the windows are taken in chunks. Gathers and
scatters are PyTorch's own one-dimensional kernels, which beat those that torch.compile fuses on a CPU. Two builds
of the arithmetic between them:

- eager: masks are multiplied, not selected by, as `where` is slow there; the fragments are kept, not computed again;
- compiled: one kernel a pass, which computes the fragments again; all chunks have one length, compiled once.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

PAPER_SIZE, EYE, NEAR, FAR = 256, 6000.0, 1.0, 10_000.0  # px: the paper's image and camera
EPSILON = 1e-3  # SoftRas's eps: the background has the normalised depth 2 eps
EAGER_CHUNK, COMPILED_CHUNK = 32_768, 16_384  # windows taken at once
HIDDEN = 1e30


class Settings(NamedTuple):
    """Constants of a call, in px of the image."""

    size: int
    window: int
    sigma: float
    gamma_z: float  # px of depth that change a weight by a factor of e
    reach: float  # px^2
    eye: float
    near: float
    far: float
    floor: float  # logarithm of the background's weight

    @classmethod
    def of(cls, size: int, window: int = 4, sigma: float = 1e-5, gamma: float = 1e-4, cutoff: float = 1e-4,
           ) -> 'Settings':
        """From SoftRas's constants and the paper's camera, as `soft_rasterizer.rasterize` has them."""
        eye, near, far = (size / PAPER_SIZE * value for value in (EYE, NEAR, FAR))
        sigma = sigma * (size / 2) ** 2
        floor = (2 * EPSILON - (far - eye) / (far - near)) / gamma
        return cls(size, window, sigma, (far - near) * gamma, math.log(1 / cutoff - 1) * sigma, eye, near, far, floor)


def rasterize(vertices: torch.Tensor, triangles: torch.Tensor, attributes: torch.Tensor, size: int, *,
              compiled: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`soft_rasterizer.rasterize` with its default constants: the same arguments and results, as tensors.

    Args:
      vertices: (B, V, 3) px.
      triangles: (F, 3) int64.
      attributes: (B, V, C).
      size: side of the image in px.
      compiled: take the kernels that torch.compile makes.
    """
    settings = Settings.of(size)
    batch, channels = len(vertices), attributes.shape[-1]
    z = vertices[..., 2:]
    packed = torch.cat([vertices[..., :2], z / (1 - z / settings.eye), attributes], dim=-1)
    blend, alpha = _Splat.apply(packed, triangles, settings, compiled)
    blend = blend.reshape(batch, size, size, channels + 1)
    return blend[..., :channels], alpha.reshape(batch, size, size), blend[..., channels]


class Windows(NamedTuple):
    """The work list: M windows of the whole batch."""

    rows: torch.Tensor  # (3, M) int64: the corners' rows in the flattened vertices
    x: torch.Tensor  # (M,) int64: first pixel
    y: torch.Tensor
    image: torch.Tensor  # (M,) int64; below 0 in the padding


@torch.no_grad()
def plan(packed: torch.Tensor, triangles: torch.Tensor, settings: Settings) -> Windows:
    """Cut the dilated box of every triangle into windows."""
    window, last = settings.window, settings.size - 1
    xy = packed[..., :2][:, triangles]  # (B, F, 3, 2)
    a, b = xy[:, :, 1] - xy[:, :, 0], xy[:, :, 2] - xy[:, :, 0]
    area = (a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]).abs()
    solid = area > 1e-6 * (a ** 2 + b ** 2 + (b - a) ** 2).sum(-1)
    reach = math.sqrt(settings.reach)
    first = (xy.amin(2) - reach).clamp(0, last + 1).ceil().long()
    beyond = (xy.amax(2) + reach).clamp(-1, last).floor().long()
    across = ((beyond - first + window) // window).clamp(min=0)
    count = (across[..., 0] * across[..., 1] * solid).reshape(-1)
    owner = torch.repeat_interleave(count)
    number = torch.arange(len(owner), device=packed.device) - (count.cumsum(0) - count)[owner]
    first, wide = first.reshape(-1, 2)[owner], across[..., 0].reshape(-1)[owner]
    image = owner // len(triangles)
    rows = (triangles[owner % len(triangles)] + (image * packed.shape[1])[:, None]).T.contiguous()
    return Windows(rows, first[:, 0] + number % wide * window, first[:, 1] + number // wide * window, image)


def _chunks(windows: Windows, length: int, pad: bool) -> list[Windows]:
    if pad:
        spare = -windows.x.numel() % length
        windows = Windows(*(torch.nn.functional.pad(part, (0, spare), value=value)
                            for part, value in zip(windows, (0, 0, 0, -1), strict=True)))
    return [Windows(*parts) for parts in zip(*(part.split(length, dim=-1) for part in windows), strict=True)]


class Fragments(NamedTuple):
    """What a slot (a pixel of a window) knows of its triangle, (S, M) each; masks are floats."""

    pixel: torch.Tensor  # int64 index into the flattened images
    reach: torch.Tensor  # 1 where the triangle reaches, else 0
    sign: torch.Tensor  # 1 inside, -1 outside
    logit: torch.Tensor  # +-d^2 / sigma
    log_weight: torch.Tensor  # of the depth alone; z = 0 has 0; -HIDDEN where nothing is to be seen
    squared: tuple[torch.Tensor, ...]  # distance to the edge from corner k to k + 1
    along: tuple[torch.Tensor, ...]  # where on edge k its nearest point lies, in [0, 1]
    barycentric: tuple[torch.Tensor, ...]
    inverse: torch.Tensor  # 1 / sum of the clipped weights
    weights: tuple[torch.Tensor, ...]  # clipped, normalised
    z: torch.Tensor
    slope: torch.Tensor  # dz / dq


def _corners(packed: torch.Tensor, windows: Windows) -> torch.Tensor:
    """(3 + C, 3, 1, M): x and y relative to the window, q, attributes."""
    corners = packed.reshape(-1, packed.shape[-1]).index_select(0, windows.rows.reshape(-1)).T.contiguous()
    corners[0] -= windows.x.repeat(3)
    corners[1] -= windows.y.repeat(3)
    return corners.reshape(len(corners), 3, 1, -1)


def _slots(windows: Windows, settings: Settings) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixel index (clamped into the image) and whether the slot is in the image: (S, M) each."""
    size, window = settings.size, settings.window
    slot = torch.arange(window ** 2, device=windows.x.device)[:, None]
    column, row = windows.x + slot % window, windows.y + slot // window
    real = (column < size) & (row < size) & (windows.image >= 0)
    pixel = (windows.image.clamp(min=0) * size + row.clamp(max=size - 1)) * size + column.clamp(max=size - 1)
    return pixel, real


def _places(settings: Settings, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x and y of the slots in their window, (S, 1)."""
    slot = torch.arange(settings.window ** 2, device=like.device)[:, None]
    return (slot % settings.window).to(like.dtype), (slot // settings.window).to(like.dtype)


def _inverse_area(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    area = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])
    return 1 / torch.where(area == 0, 1, area)


def _fragments(corners: torch.Tensor, windows: Windows, settings: Settings) -> Fragments:
    x, y, q = corners[0], corners[1], corners[2]
    px, py = _places(settings, corners)
    pixel, real = _slots(windows, settings)
    scale = _inverse_area(x, y)
    barycentric, squared, along = [None] * 3, [], []
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        ex, ey = x[j] - x[i], y[j] - y[i]
        length = ex * ex + ey * ey
        dx, dy = px - x[i], py - y[i]
        inverse = 1 / torch.where(length == 0, 1, length)
        t = (dx * (ex * inverse) + dy * (ey * inverse)).clamp(0, 1)
        rx, ry = dx - t * ex, dy - t * ey
        squared.append(rx * rx + ry * ry)
        along.append(t)
        barycentric[k] = dy * (ex * scale) - dx * (ey * scale)
    inside = torch.minimum(torch.minimum(*barycentric[:2]), barycentric[2]) >= 0
    sign = 2 * inside.to(x.dtype) - 1
    signed = torch.minimum(torch.minimum(*squared[:2]), squared[2]) * sign
    reach = (signed > -settings.reach) & real
    clipped = [w.clamp(0, 1) for w in barycentric]
    inverse = 1 / (clipped[0] + clipped[1] + clipped[2]).clamp(min=1e-5)
    weights = tuple(w * inverse for w in clipped)
    blended = weights[0] * q[0] + weights[1] * q[1] + weights[2] * q[2]
    rest = 1 / (1 + blended / settings.eye)
    z = blended * rest
    visible = reach & (z <= settings.eye - settings.near) & (z >= settings.eye - settings.far)
    return Fragments(
        pixel, reach.to(x.dtype), sign, signed / settings.sigma,
        z / settings.gamma_z + HIDDEN * (visible.to(x.dtype) - 1),
        tuple(squared), tuple(along), tuple(barycentric), inverse, weights, z, rest * rest)


def _weigh(corners: torch.Tensor, windows: Windows, settings: Settings, keep: bool,
           ) -> tuple[torch.Tensor, torch.Tensor, Fragments | None]:
    """First pass: pixel and logarithm of the depth's weight of every slot, and the fragments if they are kept."""
    fragments = _fragments(corners, windows, settings)
    return fragments.pixel, fragments.log_weight, fragments if keep else None


def _terms(corners: torch.Tensor, windows: Windows, fragments: Fragments | None, peak: torch.Tensor,
           settings: Settings) -> list[torch.Tensor]:
    """Second pass: what the slots add to their pixels: weighted attributes and z, weight, -log(1 - D).

    `peak` is (S, M), of the slots' pixels. Fragments that were not kept are computed again.
    """
    fragments = fragments or _fragments(corners, windows, settings)
    weight = torch.sigmoid(fragments.logit) * torch.exp(fragments.log_weight - peak)
    opacity = fragments.reach * torch.nn.functional.softplus(fragments.logit, threshold=60)
    n = fragments.weights
    values = [n[0] * a[0] + n[1] * a[1] + n[2] * a[2] for a in corners[3:]]
    return [*(weight * value for value in values), weight * fragments.z, weight, opacity]


def _gradients(corners: torch.Tensor, windows: Windows, fragments: Fragments | None, at: list[torch.Tensor],
               settings: Settings) -> list[list[torch.Tensor]]:
    """For each corner its 3 + C gradients, (M,) each, from those of the slots' pixels: C + 4 arrays (S, M)."""
    fragments = fragments or _fragments(corners, windows, settings)
    x, y, q = corners[0], corners[1], corners[2]
    px, py = _places(settings, corners)
    g_values, (g_depth, g_opacity, g_mean, log_total) = at[:-4], at[-4:]
    n, w = fragments.weights, fragments.barycentric
    coverage = torch.sigmoid(fragments.logit)
    share = coverage * torch.exp(fragments.log_weight - log_total)
    earned = [sum(g * a[k] for g, a in zip(g_values, corners[3:], strict=True)) for k in range(3)]
    g_weight = share * (n[0] * earned[0] + n[1] * earned[1] + n[2] * earned[2] + g_depth * fragments.z - g_mean)
    g_logit = g_weight * (1 - coverage) + fragments.reach * g_opacity * coverage
    g_q = (g_weight / settings.gamma_z + share * g_depth) * fragments.slope
    g_n = [share * earned[k] + g_q * q[k] for k in range(3)]
    mean = g_n[0] * n[0] + g_n[1] * n[1] + g_n[2] * n[2]
    # The pixel moves the weights that are not clipped.
    g_w = [(g_n[k] - mean) * fragments.inverse * (w[k] * (1 - w[k]) > 0).to(x.dtype) for k in range(3)]
    scale = _inverse_area(x, y)
    slope_x = sum(g_w[k] * ((y[(k + 1) % 3] - y[(k + 2) % 3]) * scale) for k in range(3))
    slope_y = sum(g_w[k] * ((x[(k + 2) % 3] - x[(k + 1) % 3]) * scale) for k in range(3))
    columns = []
    for k in range(3):
        painted = share * n[k]
        columns.append([-(slope_x * w[k]).sum(0), -(slope_y * w[k]).sum(0), (g_q * n[k]).sum(0),
                        *((painted * g).sum(0) for g in g_values)])
    # The ends of the nearest edge move the nearest point of the boundary.
    pull = g_logit * fragments.sign * (-2 / settings.sigma)
    d = fragments.squared
    first = (d[0] <= torch.minimum(d[1], d[2])).to(x.dtype)
    second = (d[1] <= d[2]).to(x.dtype) * (1 - first)
    for i, nearest in enumerate((first, second, 1 - first - second)):
        j, t = (i + 1) % 3, fragments.along[i]
        force = pull * nearest
        for axis, (corner, place) in enumerate(((x, px), (y, py))):
            away = force * (place - corner[i] - t * (corner[j] - corner[i]))
            whole, far = away.sum(0), (away * t).sum(0)
            columns[i][axis] = columns[i][axis] + whole - far
            columns[j][axis] = columns[j][axis] + far
    return columns


def _finish(sums: torch.Tensor, peak: torch.Tensor, settings: Settings) -> tuple[torch.Tensor, ...]:
    """Blend (P, C + 1), alpha (P,), and what the backward needs beside them: the total weight."""
    total = sums[-2] + torch.exp(settings.floor - peak)
    return (sums[:-2] / total).T, -torch.expm1(-sums[-1]), total


def _image_gradients(blend: torch.Tensor, alpha: torch.Tensor, peak: torch.Tensor, total: torch.Tensor,
                     g_blend: torch.Tensor, g_alpha: torch.Tensor) -> torch.Tensor:
    """(C + 4, P): of each blended channel and z, of sum -log(1 - D), mean gradient, logarithm of the weight."""
    return torch.cat([g_blend.T, torch.stack(
        [g_alpha * (1 - alpha), (g_blend * blend).sum(1), peak + total.log()])]).contiguous()


def _take(image: torch.Tensor, pixel: torch.Tensor) -> torch.Tensor:
    return image.index_select(0, pixel.reshape(-1)).reshape(pixel.shape)


class _Kernels(NamedTuple):
    weigh: Callable
    terms: Callable
    gradients: Callable


_EAGER = _Kernels(_weigh, _terms, _gradients)
_COMPILED = _Kernels(*(torch.compile(kernel, dynamic=False) for kernel in _EAGER))


class _Splat(torch.autograd.Function):
    @staticmethod
    def forward(ctx, packed, triangles, settings, compiled):
        kernels = _COMPILED if compiled else _EAGER
        windows = plan(packed, triangles, settings)
        length = COMPILED_CHUNK if compiled else EAGER_CHUNK
        if packed.is_cuda:  # no cache to fit: all at once, padded to a multiple
            length *= max(1, math.ceil(windows.x.numel() / length))
        chunks = _chunks(windows, length, compiled)
        peak = packed.new_full((len(packed) * settings.size ** 2,), settings.floor)
        work = []
        for windows in chunks:
            corners = _corners(packed, windows)
            pixel, log_weight, fragments = kernels.weigh(corners, windows, settings, not compiled)
            peak.scatter_reduce_(0, pixel.reshape(-1), log_weight.reshape(-1), 'amax')
            work.append((corners, windows, fragments, pixel))
        sums = packed.new_zeros(packed.shape[-1], len(peak))
        for *known, pixel in work:
            terms = kernels.terms(*known, _take(peak, pixel), settings)
            for channel, term in zip(sums, terms, strict=True):
                channel.scatter_add_(0, pixel.reshape(-1), term.reshape(-1))
        blend, alpha, total = _finish(sums, peak, settings)
        ctx.save_for_backward(packed, blend, alpha, peak, total)
        ctx.work, ctx.settings, ctx.kernels = work if ctx.needs_input_grad[0] else None, settings, kernels
        return blend, alpha

    @staticmethod
    def backward(ctx, g_blend, g_alpha):
        packed, *rest = ctx.saved_tensors
        image = _image_gradients(*rest, g_blend, g_alpha)
        gradient = packed.new_zeros(packed.shape[-1], len(packed) * packed.shape[1])
        for *known, pixel in ctx.work:
            corners = ctx.kernels.gradients(*known, [_take(channel, pixel) for channel in image], ctx.settings)
            for rows, columns in zip(known[1].rows, corners, strict=True):
                for row, values in zip(gradient, columns, strict=True):
                    row.scatter_add_(0, rows, values)
        return gradient.T.reshape(packed.shape), None, None, None


@torch.no_grad()
def count(vertices: torch.Tensor, triangles: torch.Tensor, size: int) -> tuple[int, int]:
    """Pixel slots in the windows of a call, and how many of them a triangle reaches."""
    settings = Settings.of(size)
    chunks = _chunks(plan(vertices, triangles, settings), EAGER_CHUNK, False)
    reached = sum(_fragments(_corners(vertices, windows), windows, settings).reach.sum().item() for windows in chunks)
    return sum(windows.x.numel() for windows in chunks) * settings.window ** 2, round(reached)
