"""SoftRas's soft rasterizer (Liu et al. 2019) as an exact splat: every pixel's value is the all-pairs value.

The published kernel visits every triangle at every pixel. Yet softmax over depth and the alpha product are
reductions that know no order, and a triangle reaches no further than sqrt(ln(1/cutoff - 1) sigma). So each
triangle is cut into the `window` x `window` pixel windows that its dilated box meets, the windows of the whole
batch stand in one list, and a loop takes that list in chunks: one scatter-max for the nearest depth of a pixel,
one scatter-add for the sums. There is no top-K, no sorting, no limit on a triangle's size, and memory grows with
the image and the chunk, not with their product with the triangles. The backward pass runs the same loop and
computes each fragment again. `soft_rasterizer_reference` is the plain all-pairs form.

The batch is flattened: on a sharded batch, call this inside `jax.shard_map` (design, Sec. 3).
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

T = TypeVar('T')

EYE, NEAR, FAR = 6000.0, 1.0, 10_000.0  # the paper's camera, in pixels of its 256 px images
PAPER_SIZE = 256
EPSILON = 1e-3  # SoftRas's eps: background is a fragment of normalised depth 2 eps and D = 1
FARTHEST = 1e9  # px: triangles with a vertex beyond it (or not finite) are left out
NOWHERE = 2 ** 31 - 1  # index of no pixel: scatters drop it
MOST_WINDOWS = 2 ** 31 - 2 ** 24  # in one list
SLOTS = 2 ** 15  # pixel slots a chunk on a CPU: a chunk's arrays stay in the cache


class Settings(NamedTuple):
    """The constants of one call, in pixels of the image. Static."""

    size: int
    window: int  # P: a window is P x P pixels
    sigma: float  # px^2
    gamma: float  # of normalised depth
    reach: float  # px^2: squared distance at which D falls to `cutoff`
    eye: float
    near: float
    far: float

    @classmethod
    def of(cls, size: int, sigma: float, gamma: float, far: float, cutoff: float, window: int) -> 'Settings':
        """From SoftRas's constants (see `rasterize`)."""
        sigma_px = sigma * (size / 2) ** 2
        scale = size / PAPER_SIZE
        reach = math.log(1 / cutoff - 1) * sigma_px
        return cls(size, window, sigma_px, gamma, reach, EYE * scale, NEAR * scale, far * scale)


class Plan(NamedTuple):
    """The list of windows of N = B F triangles."""

    box: jax.Array  # (N, 4) int32: first window of the triangle in the list, its first pixel x, y, windows a row
    ends: jax.Array  # (N,) int32: one past its last window
    owners: jax.Array  # (capacity,) int32: triangle of each of the first windows; the others are searched
    chunks: jax.Array  # () int32


@functools.partial(jax.jit, static_argnames=('size', 'sigma', 'gamma', 'far', 'background', 'cutoff', 'window',
                                             'chunk'))
def rasterize(vertices: jax.Array, triangles: jax.Array, attributes: jax.Array, size: int, *, sigma: float = 1e-5,
              gamma: float = 1e-4, far: float = FAR, background: float | tuple[float, ...] = 0.0,
              cutoff: float = 1e-4, window: int | None = None, chunk: int | None = None,
              ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Draw triangle meshes softly; differentiable in vertices and attributes (Liu et al. 2019; paper, Sec. 4.1).

    For pixel p and triangle j: D_j = sigmoid(+-d^2 / sigma) with d the Euclidean distance to the triangle's
    boundary, + inside; pairs outside with D_j <= `cutoff` are left out. With barycentric weights clipped to the
    triangle, z_j its perspective depth from the eye and zn_j = (far - z_j) / (far - near):
      image = sum_j w_j a_j / sum_j w_j,  w_j = D_j exp(zn_j / gamma),  alpha = 1 - prod_j (1 - D_j).
    The background takes part in the sums with w = exp(2e-3 / gamma), which is nothing wherever a triangle reaches:
    so the image is not composited, and only alpha is soft at the rim. Triangles are two-sided; fragments outside
    near .. far count in alpha alone. All this is SoftRas's. Triangles of no area are left out.

    Units: SoftRas measures d in normalised coordinates, in which the image is 2 wide, so sigma = 1e-5 is
    1e-5 (size / 2)^2 px^2. The camera is the paper's (orthographic, 6000 px from z = 0, near 1, far 10000, at
    256 px) and scales with `size`. So the same sigma and gamma give the same picture at every size: with the
    defaults D falls to the cutoff 1.23 crop px outside, and one crop px of depth is one e-fold of weight.

    Args:
      vertices: (B, V, 3) px of the size x size image: x right, y down, z towards the viewer, pixel centres at
        integers; z < 6000 size / 256.
      triangles: (F, 3) int32 vertex numbers.
      attributes: (B, V, C) colour, or whatever shall be drawn.
      size: side of the image in px.
      sigma: softness of the edges, in SoftRas's squared normalised units.
      gamma: softness in depth.
      far: distance (px at 256 px) of the far plane.
      background: value of the image where nothing is drawn; one for all channels or one each. Static.
      cutoff: SoftRas's dist_eps.
      window: side of a work window in px; None guesses from the number of triangles. Changes speed only.
      chunk: windows taken at once; None is the platform's. Changes speed and memory only.

    Returns:
      image (B, size, size, C); alpha (B, size, size) in [0, 1]; depth (B, size, size): the blend of z in px as
      given in `vertices`, 0 where nothing is drawn.
    """
    _check(vertices, triangles, attributes)
    batch, faces, channels = len(vertices), len(triangles), attributes.shape[-1]
    window = window or _guess_window(size, faces, sigma, cutoff)
    settings = Settings.of(size, sigma, gamma, far, cutoff, window)
    sane = (jnp.abs(vertices) <= FARTHEST).all(-1, keepdims=True)
    points = jnp.where(sane, vertices, 2 * FARTHEST)
    packed = jnp.concatenate([points[..., :2], _inverse_depth(points[..., 2:], settings.eye), attributes], axis=-1)
    if faces == 0:
        packed, triangles = jnp.pad(packed, ((0, 0), (0, 1), (0, 0))), jnp.zeros((1, 3), jnp.int32)

    def draw(packed: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _splat(settings, chunk, background, packed, triangles)

    # The window list is numbered in int32: a batch that could exceed it is taken in groups.
    group = max(1, min(batch, MOST_WINDOWS // (max(faces, 1) * math.ceil(size / window) ** 2)))
    while batch % group:
        group -= 1
    if group == batch:
        blend, alpha = draw(packed)
    else:
        blend, alpha = lax.map(draw, packed.reshape(batch // group, group, *packed.shape[1:]))
    blend = blend.reshape(batch, size, size, channels + 1)
    return blend[..., :channels], alpha.reshape(batch, size, size), blend[..., channels]


def _check(vertices: jax.Array, triangles: jax.Array, attributes: jax.Array) -> None:
    if vertices.ndim != 3 or vertices.shape[2] != 3:
        raise ValueError(f'vertices: found shape {vertices.shape}, want (B, V, 3)')
    if triangles.ndim != 2 or triangles.shape[1] != 3:
        raise ValueError(f'triangles: found shape {triangles.shape}, want (F, 3)')
    if attributes.ndim != 3 or attributes.shape[:2] != vertices.shape[:2]:
        raise ValueError(f'attributes: found shape {attributes.shape}, want ({vertices.shape[0]}, '
                         f'{vertices.shape[1]}, C)')


def _guess_window(size: int, faces: int, sigma: float, cutoff: float) -> int:
    """A window that holds a usual triangle: of a mesh that covers half the image."""
    reach = math.sqrt(math.log(1 / cutoff - 1) * sigma) * size / 2
    extent = size / math.sqrt(max(faces, 1))
    return max(2, min(8, math.ceil(extent + 2 * reach)))


def _inverse_depth(z: jax.Array, eye: float) -> jax.Array:
    """q = z / (1 - z / eye). The perspective depth of a blend of vertices is `_depth` of the blend of their q.

    SoftRas's 1 / sum_k (n_k / (eye - z_k)), without its loss of digits in float32.
    """
    rest = 1 - z / eye
    return z / jnp.where(jnp.abs(rest) < 1e-6, 1e-6, rest)


def _depth(q: jax.Array, eye: float) -> tuple[jax.Array, jax.Array]:
    """z of the blended q, and dz / dq."""
    rest = 1 + q / eye
    scale = 1 / jnp.where(jnp.abs(rest) < 1e-6, 1e-6, rest)
    return q * scale, scale ** 2


def _plan(settings: Settings, chunk: int, packed: jax.Array, triangles: jax.Array) -> Plan:
    """Cut the dilated box of each triangle into windows and number them."""
    xy = packed[..., :2].at[:, triangles].get(mode='clip')  # (B, F, 3, 2)
    sane = (xy <= FARTHEST).all((-1, -2))
    edges = jnp.roll(xy, -1, axis=2) - xy
    x, y = edges[..., 0], edges[..., 1]
    area = jnp.abs(_cross((x[..., 0], y[..., 0]), (x[..., 1], y[..., 1])))
    solid = sane & (area > 1e-6 * (edges ** 2).sum((-1, -2)))
    xy = jnp.where(solid[..., None, None], xy, 0)
    reach = math.sqrt(settings.reach)
    last = settings.size - 1
    # Clip before the cast: a large float has no int32.
    first = jnp.ceil(jnp.clip(xy.min(2) - reach, 0, last + 1)).astype(jnp.int32)
    beyond = jnp.floor(jnp.clip(xy.max(2) + reach, -1, last)).astype(jnp.int32)
    across = jnp.maximum((beyond - first + settings.window) // settings.window, 0)  # (B, F, 2)
    count = jnp.where(solid, across[..., 0] * across[..., 1], 0).reshape(-1)
    ends = jnp.cumsum(count)
    starts = ends - count
    number = count.size
    capacity = math.ceil(1.06 * number / chunk) * chunk
    marks = jnp.zeros(capacity, jnp.int32).at[jnp.where(count > 0, starts, capacity)].max(
        jnp.arange(number, dtype=jnp.int32), mode='drop')
    box = jnp.stack([starts, *first.reshape(-1, 2).T, across[..., 0].reshape(-1)], axis=-1)
    return Plan(box, ends, lax.cummax(marks), (ends[-1] + chunk - 1) // chunk)


class Windows(NamedTuple):
    """One chunk of N windows, S = P^2 pixel slots each."""

    rows: jax.Array  # (N, 3) int32: the corners' rows in the flattened vertices
    corners: jax.Array  # (3, 3 + C, N): x, y relative to the window's first pixel, q, attributes
    pixels: jax.Array  # (S, N) int32: index into the flattened images, or NOWHERE


def _windows(settings: Settings, chunk: int, plan: Plan, packed: jax.Array, triangles: jax.Array, step: jax.Array,
             ) -> Windows:
    batch, vertices, width = packed.shape
    faces, size, window = len(triangles), settings.size, settings.window
    number = step * chunk + jnp.arange(chunk, dtype=jnp.int32)
    # What does not fit the precomputed owners is searched: slower, as exact, and needed by large triangles only.
    owner = lax.cond(
        step < len(plan.owners) // chunk,
        lambda: lax.dynamic_slice(plan.owners, [step * chunk], [chunk]),
        lambda: jnp.searchsorted(plan.ends, number, side='right').astype(jnp.int32))
    owner = jnp.minimum(owner, batch * faces - 1)
    start, x, y, across = plan.box.at[owner].get(mode='clip').T
    across = jnp.maximum(across, 1)
    x, y = x + (number - start) % across * window, y + (number - start) // across * window
    image = owner // faces
    rows = image[:, None] * vertices + triangles.at[owner % faces].get(mode='clip')
    corners = packed.reshape(-1, width).at[rows].get(mode='clip').transpose(1, 2, 0)
    origin = jnp.stack([x, y, *[jnp.zeros_like(x)] * (width - 2)]).astype(packed.dtype)
    real = number < plan.ends[-1]  # the last chunk is padded
    corners = jnp.where(real[None, None], corners - origin[None], 0)
    slot = jnp.arange(window ** 2, dtype=jnp.int32)[:, None]
    column, row = x[None] + slot % window, y[None] + slot // window
    inside = (column < size) & (row < size) & real[None]
    pixels = jnp.where(inside, (image[None] * size + row) * size + column, NOWHERE)
    return Windows(rows, corners, pixels)


class Fragments(NamedTuple):
    """A chunk's fragments; every array is (S, N)."""

    pixels: jax.Array  # as in Windows, and NOWHERE where the triangle does not reach
    logit: jax.Array  # +-d^2 / sigma
    away: tuple[jax.Array, jax.Array]  # pixel minus nearest boundary point
    nearest: tuple[jax.Array, ...]  # weights of the corners in the nearest boundary point
    barycentric: tuple[jax.Array, ...]  # of the pixel; negative or above 1 outside
    total: jax.Array  # sum of the clipped weights
    weights: tuple[jax.Array, ...]  # n_k: clipped and normalised
    z: jax.Array  # px towards the viewer
    slope: jax.Array  # dz / dq
    visible: jax.Array  # between near and far


def _fragments(settings: Settings, windows: Windows) -> Fragments:
    x, y, q = (tuple(windows.corners[:, i, None]) for i in range(3))  # three corners of (1, N)
    dtype = windows.corners.dtype
    slot = jnp.arange(settings.window ** 2)[:, None]
    px, py = (slot % settings.window).astype(dtype), (slot // settings.window).astype(dtype)
    area = _cross((x[1] - x[0], y[1] - y[0]), (x[2] - x[0], y[2] - y[0]))
    scale = 1 / jnp.where(area == 0, 1, area)
    squared, away, nearest, barycentric = None, None, None, [None] * 3
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        edge = x[j] - x[i], y[j] - y[i]
        dx, dy = px - x[i], py - y[i]
        length = edge[0] ** 2 + edge[1] ** 2
        t = jnp.clip((dx * edge[0] + dy * edge[1]) * (1 / jnp.where(length == 0, 1, length)), 0, 1)
        rx, ry = dx - t * edge[0], dy - t * edge[1]
        barycentric[k] = _cross(edge, (dx, dy)) * scale
        beta = {i: 1 - t, j: t, k: jnp.zeros_like(t)}
        found = rx ** 2 + ry ** 2, (rx, ry), tuple(beta[c] for c in range(3))
        if i == 0:
            squared, away, nearest = found
        else:
            closer = found[0] < squared
            squared, away, nearest = jax.tree.map(functools.partial(jnp.where, closer), found,
                                                  (squared, away, nearest))
    inside = (barycentric[0] >= 0) & (barycentric[1] >= 0) & (barycentric[2] >= 0)
    clipped = [jnp.clip(w, 0, 1) for w in barycentric]
    total = jnp.maximum(sum(clipped), 1e-5)
    weights = tuple(w / total for w in clipped)
    z, slope = _depth(_dot(weights, q), settings.eye)
    distance = settings.eye - z
    return Fragments(
        pixels=jnp.where(inside | (squared < settings.reach), windows.pixels, NOWHERE),
        logit=jnp.where(inside, squared, -squared) / settings.sigma, away=away, nearest=nearest,
        barycentric=tuple(barycentric), total=total, weights=weights, z=z, slope=slope,
        visible=(distance >= settings.near) & (distance <= settings.far))


def _log_weight(settings: Settings, z: jax.Array) -> jax.Array:
    """Logarithm of exp(zn / gamma) up to a constant: z = 0 has 0, so that float32 keeps its digits."""
    return z / ((settings.far - settings.near) * settings.gamma)


def _background_log_weight(settings: Settings) -> float:
    return (2 * EPSILON - (settings.far - settings.eye) / (settings.far - settings.near)) / settings.gamma


def _cross(a: tuple[jax.Array, jax.Array], b: tuple[jax.Array, jax.Array]) -> jax.Array:
    return a[0] * b[1] - a[1] * b[0]


def _chunk(settings: Settings, chunk: int | None, packed: jax.Array, triangles: jax.Array) -> int:
    """Windows taken at once, a static number."""
    wanted = chunk or max(SLOTS // settings.window ** 2, 1)
    return min(wanted, len(packed) * len(triangles))


def _staged(plan: Plan, step: jax.Array, zero: jax.Array, stage: Callable[[], T]) -> T:
    """`stage()`, computed once for all its readers: XLA on a CPU would fuse it into each of them anew."""
    shapes = jax.eval_shape(stage)
    return lax.cond(step < plan.chunks, stage,
                    lambda: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype) + zero.astype(s.dtype), shapes))


def _zero(packed: jax.Array) -> jax.Array:
    """A 0 that varies over the same mesh axes as `packed`, as the first value of a loop must in shard_map."""
    return 0 * packed[0, 0, 0]


def _gather(image: jax.Array, pixels: jax.Array) -> jax.Array:
    """(..., pixels) at (S, N) indices."""
    return image.at[..., pixels].get(mode='clip')


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _splat(settings: Settings, chunk: int | None, background: float | tuple[float, ...], packed: jax.Array,
           triangles: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(B, V, 3 + C) of x, y, q, attributes -> blend (B, H W, C + 1) of attributes and z, alpha (B, H W)."""
    return _forward(settings, chunk, background, packed, triangles)[0]


def _forward(settings: Settings, chunk: int | None, background: float | tuple[float, ...], packed: jax.Array,
             triangles: jax.Array) -> tuple[tuple[jax.Array, jax.Array], tuple]:
    batch, _, width = packed.shape
    channels, length = width - 3, batch * settings.size ** 2
    chunk = _chunk(settings, chunk, packed, triangles)
    plan = _plan(settings, chunk, packed, triangles)
    zero = _zero(packed)

    def nearest(step: jax.Array, peak: jax.Array) -> jax.Array:
        windows = _windows(settings, chunk, plan, packed, triangles, step)

        def weigh() -> tuple[jax.Array, jax.Array]:
            fragments = _fragments(settings, windows)
            return fragments.pixels, jnp.where(fragments.visible, _log_weight(settings, fragments.z), -jnp.inf)

        pixels, weight = _staged(plan, step, zero, weigh)
        return peak.at[pixels].max(weight, mode='drop')

    floor = _background_log_weight(settings)
    peak = lax.fori_loop(0, plan.chunks, nearest, jnp.full(length, floor, packed.dtype) + zero)

    def add(step: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        windows = _windows(settings, chunk, plan, packed, triangles, step)
        fragments = _staged(plan, step, zero, lambda: _fragments(settings, windows))
        weight = jnp.where(fragments.visible, jnp.exp(
            jax.nn.log_sigmoid(fragments.logit) + _log_weight(settings, fragments.z)
            - _gather(peak, fragments.pixels)), 0)
        values = [_dot(fragments.weights, windows.corners[:, 3 + c, None])
                  for c in range(channels)]
        terms = [*(weight * value for value in [*values, fragments.z]), weight, jax.nn.softplus(fragments.logit)]
        return tuple(s.at[fragments.pixels].add(term, mode='drop') for s, term in zip(sums, terms, strict=True))

    empty = jnp.zeros(length, packed.dtype) + zero
    *blend, total, opacity = lax.fori_loop(0, plan.chunks, add, (empty,) * (channels + 3))
    behind = jnp.exp(floor - peak)
    total = total + behind
    ground = jnp.append(jnp.broadcast_to(jnp.asarray(background, packed.dtype), channels), 0).astype(packed.dtype)
    blend = (jnp.stack(blend) + ground[:, None] * behind[None]) / total[None]
    alpha = -jnp.expm1(-opacity)
    outputs = blend.T.reshape(batch, -1, channels + 1), alpha.reshape(batch, -1)
    return outputs, (packed, triangles, plan, blend, opacity, peak, total)


def _backward(settings: Settings, chunk: int | None, background: float | tuple[float, ...], residuals: tuple,
              gradients: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
    packed, triangles, plan, blend, opacity, peak, total = residuals
    width = packed.shape[-1]
    chunk = _chunk(settings, chunk, packed, triangles)
    zero = _zero(packed)
    g_blend = gradients[0].reshape(-1, width - 2).T  # (C + 1, pixels)
    g_opacity = gradients[1].reshape(-1) * jnp.exp(-opacity)
    # Per pixel: gradient of each blended channel, of the sum of softplus, its product with the blend, log of w.
    image = jnp.concatenate([g_blend, jnp.stack([g_opacity, (g_blend * blend).sum(0), peak + jnp.log(total)])])

    def add(step: jax.Array, gradient: jax.Array) -> jax.Array:
        windows = _windows(settings, chunk, plan, packed, triangles, step)
        fragments = _staged(plan, step, zero, lambda: _fragments(settings, windows))
        at_pixels = _gather(image, fragments.pixels)
        slots = _staged(plan, step, zero, lambda: _slot_gradients(settings, windows, fragments, at_pixels))
        corners = _corner_gradients(fragments, slots, at_pixels[:-4])
        return gradient.at[windows.rows].add(corners.transpose(2, 0, 1), mode='drop')

    first = jnp.zeros(packed.reshape(-1, width).shape, packed.dtype) + zero
    return lax.fori_loop(0, plan.chunks, add, first).reshape(packed.shape), None


_splat.defvjp(_forward, _backward)


class SlotGradients(NamedTuple):
    """Of a chunk's fragments; every array is (S, N)."""

    share: jax.Array  # of the fragment in the pixel's blend
    squared: jax.Array  # to the squared distance
    x: jax.Array  # to the pixel's place, through the barycentric weights
    y: jax.Array
    q: jax.Array  # to the blended q


def _slot_gradients(settings: Settings, windows: Windows, fragments: Fragments, image: jax.Array) -> SlotGradients:
    """Gradients of a chunk's fragments, from the (C + 4, S, N) gradients of their pixels.

    `peak` is a constant here, which is exact: it cancels between the weights and their sum.
    """
    g_values, g_depth, g_opacity, g_mean, log_total = image[:-4], image[-4], image[-3], image[-2], image[-1]
    x, y, q = (windows.corners[:, i, None] for i in range(3))  # (3, 1, N)
    n, w = fragments.weights, fragments.barycentric
    reached = fragments.pixels != NOWHERE
    coverage = jnp.where(reached, jax.nn.sigmoid(fragments.logit), 0)
    share = jnp.where(reached & fragments.visible, jnp.exp(
        jax.nn.log_sigmoid(fragments.logit) + _log_weight(settings, fragments.z) - log_total), 0)
    # What a corner's attributes earn: sum over channels of gradient times attribute.
    earned = [(g_values * windows.corners[k, 3:, None]).sum(0) for k in range(3)]
    g_weight = share * (_dot(n, earned) + g_depth * fragments.z - g_mean)
    g_logit = g_weight * jax.nn.sigmoid(-fragments.logit) + g_opacity * coverage
    inside = (w[0] >= 0) & (w[1] >= 0) & (w[2] >= 0)
    g_z = g_weight / ((settings.far - settings.near) * settings.gamma) + share * g_depth
    g_q = g_z * fragments.slope
    g_n = [share * earned[k] + g_q * q[k] for k in range(3)]
    mean = _dot(g_n, n)
    g_w = [jnp.where((w[k] > 0) & (w[k] < 1), (g_n[k] - mean) / fragments.total, 0) for k in range(3)]
    area = _cross((x[1] - x[0], y[1] - y[0]), (x[2] - x[0], y[2] - y[0]))
    scale = 1 / jnp.where(area == 0, 1, area)
    return SlotGradients(
        share, jnp.where(inside, g_logit, -g_logit) / settings.sigma,
        sum(g_w[k] * ((y[(k + 1) % 3] - y[(k + 2) % 3]) * scale) for k in range(3)),
        sum(g_w[k] * ((x[(k + 2) % 3] - x[(k + 1) % 3]) * scale) for k in range(3)), g_q)


def _corner_gradients(fragments: Fragments, slots: SlotGradients, g_values: jax.Array) -> jax.Array:
    """Gradient to the corners of a chunk, (3, 3 + C, N): the sum over the slots of each window.

    Moving corner k by dv moves the weights as moving the pixel by -w_k dv does, and the nearest point of the
    boundary by its own weight times dv.
    """
    rows = []
    for k in range(3):
        n, w = fragments.weights[k], fragments.barycentric[k]
        pull = -2 * slots.squared * fragments.nearest[k]
        place = [(pull * away - w * slope).sum(0)
                 for away, slope in zip(fragments.away, (slots.x, slots.y), strict=True)]
        g_attributes = ((slots.share * n)[None] * g_values).sum(1)
        rows.append(jnp.concatenate([jnp.stack([*place, (slots.q * n).sum(0)]), g_attributes]))
    return jnp.stack(rows)


def _dot(a: Sequence[jax.Array], b: Sequence[jax.Array]) -> jax.Array:
    return sum(x * y for x, y in zip(a, b, strict=True))
