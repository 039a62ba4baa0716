"""SoftRas's soft rasterizer (Liu et al. 2019), exact: every pixel's value is the all-pairs value.

The published kernel visits every triangle at every pixel. Here each triangle visits only the pixels that it
reaches, and softmax over depth and the alpha product, which know no order, are reduced as fragments come. There
is no top-K, no sorting by depth, no limit on a triangle's size; memory grows with the image and with what is
taken at once, not with triangles times pixels. The backward pass is written by hand and computes each fragment
again. `rasterizing/` holds the parts: `windows` the work list, `fragments` the formulas, `splat` the form for CPUs
and GPUs, `tiles` that for TPUs. `soft_rasterizer_reference` is the plain all-pairs form, `hard_rasterizer` the
z-buffer.
"""

import functools
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from talkinghead_jax.ops import batch_parallel, cuda_scatter
from talkinghead_jax.ops.rasterizing import splat, tiles, windows
from talkinghead_jax.ops.rasterizing.settings import FAR, Settings

Form = Literal['cpu', 'gpu', 'tpu']
Background = float | tuple[float, ...]

CPU_SLOTS = 2 ** 14  # fragments drawn at once: they stay in the cache
CPU_PART = 2 ** 13  # windows laid out at once
GPU_SLOTS = 2 ** 24  # a whole batch, unless that would take gigabytes
TILE, BLOCK, BLOCKS = 8, 64, 16


@functools.partial(jax.jit, static_argnames=('size', 'sigma', 'gamma', 'far', 'background', 'cutoff', 'grad', 'form',
                                             'window', 'chunk'))
def rasterize(vertices: jax.Array, triangles: jax.Array, attributes: jax.Array, size: int, *, sigma: float = 1e-5,
              gamma: float = 1e-4, far: float = FAR, background: Background = 0.0, cutoff: float = 1e-4,
              grad: Literal['exact', 'softras'] = 'exact', form: Form | None = None, window: int | None = None,
              chunk: int | None = None) -> tuple[jax.Array, jax.Array, jax.Array]:
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

    The batch is one list of work: where it is sharded, call this through `batch_parallel.per_shard` (design,
    Sec. 3). Under `jax.vmap` the mapped axis joins the batch. All is computed in float32 at least. Options are
    static. Attributes must be finite.

    Args:
      vertices: (B, V, 3) px of the size x size image: x right, y down, z towards the viewer, pixel centres at
        integers; z < 6000 size / 256. A triangle with a vertex that is not finite, or beyond 1e9, is left out.
      triangles: (F, 3) vertex numbers; one out of range means the nearest in range.
      attributes: (B, V, C) colour, or whatever shall be drawn.
      size: side of the image in px.
      sigma: softness of the edges, in SoftRas's squared normalised units.
      gamma: softness in depth.
      far: distance (px at 256 px) of the far plane.
      background: value of the image where nothing is drawn; one for all channels or a tuple of one each.
      cutoff: SoftRas's dist_eps.
      grad: 'exact', the derivatives of these formulas; 'softras', those of the published kernel (commit b569bed),
        which takes colour and depth as independent of where in the triangle the pixel lies, and alpha as independent
        of fragments beyond near and far.
      form: algorithm of a platform; None is that of the platform that it is compiled for. Changes speed only.
      window: side of a work window in px ('tpu': of a tile); None guesses from the number of triangles. Changes
        speed only.
      chunk: windows taken at once ('tpu': sorted at once). Changes speed and memory only.

    Returns:
      image (B, size, size, C); alpha (B, size, size) in [0, 1]; depth (B, size, size): the blend of z in px as
      given in `vertices`, 0 where nothing is drawn.

    Raises:
      ValueError: a shape or type does not fit, an option is unknown, sigma or gamma is not positive, or cutoff is
        not between 0 and 0.5.
    """
    _check(grad, form, background, attributes.shape[-1], sigma=sigma, gamma=gamma, cutoff=cutoff)
    windows.check(vertices, triangles, attributes)
    cuda_scatter.warn_if_slow()
    batch, channels = len(vertices), attributes.shape[-1]
    options = Options(Settings.of(size, sigma, gamma, far, cutoff, grad == 'exact'), background, form,
                      window, chunk)
    packed, triangles = windows.pack(options.settings, vertices, triangles, attributes)
    if batch == 0:
        return tuple(jnp.zeros((0, size, size, *rest), packed.dtype) for rest in ((channels,), (), ()))
    blend, alpha = _draw(options, packed, triangles)
    blend = blend.reshape(batch, size, size, channels + 1)
    return blend[..., :channels], alpha.reshape(batch, size, size), blend[..., channels]


class Options(NamedTuple):
    """The static part of a call."""

    settings: Settings
    background: Background
    form: Form | None
    window: int | None
    chunk: int | None


def _check(grad: str, form: str | None, background: Background, channels: int, **numbers: float) -> None:
    if grad not in ('exact', 'softras'):
        raise ValueError(f"grad: found {grad!r}, want 'exact' or 'softras'")
    if form not in (None, 'cpu', 'gpu', 'tpu'):
        raise ValueError(f"form: found {form!r}, want 'cpu', 'gpu', 'tpu' or None")
    if isinstance(background, tuple) and len(background) != channels:
        raise ValueError(f'background: found {len(background)} numbers, want one, or {channels}')
    for name, value in numbers.items():
        if not 0 < value < (0.5 if name == 'cutoff' else math.inf):
            raise ValueError(f'{name}: found {value}, want more than 0{" and less than 0.5" * (name == "cutoff")}')


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _draw(options: Options, packed: jax.Array, triangles: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(B, V, 3 + C) of x, y, q, attributes -> blend (B, H W, C + 1) of attributes and z, alpha (B, H W)."""
    return _draw_forward(options, packed, triangles)[0]


def _draw_forward(options: Options, packed: jax.Array, triangles: jax.Array) -> tuple:
    blend, opacity, log_total = _on_platform(options, _forward, triangles, packed)
    return (blend, -jnp.expm1(-opacity)), (packed, triangles, blend, opacity, log_total)


def _draw_backward(options: Options, residuals: tuple, gradients: tuple[jax.Array, jax.Array],
                   ) -> tuple[jax.Array, None]:
    packed, triangles, *seen = residuals
    return _on_platform(options, _backward, triangles, packed, *seen, *gradients), None


_draw.defvjp(_draw_forward, _draw_backward)


def _forward(options: Options, form: Form, triangles: jax.Array, packed: jax.Array) -> tuple[jax.Array, ...]:
    """Blend (B, H W, C + 1), the sum of -log(1 - D) and the logarithm of the sum of the weights (B, H W)."""
    channels = packed.shape[-1] - 3
    module, plan = _plan(options, form, len(packed), len(triangles))
    peak, sums = module.forward(options.settings, plan, packed, triangles)
    behind = jnp.exp(options.settings.background_log_weight - peak)
    total = sums[..., channels + 1] + behind
    ground = jnp.append(jnp.broadcast_to(jnp.asarray(options.background, packed.dtype), channels), 0)
    blend = sums[..., :channels + 1] + ground.astype(packed.dtype)[None, None] * behind[..., None]
    return blend / total[..., None], sums[..., channels + 2], peak + jnp.log(total)


def _backward(options: Options, form: Form, triangles: jax.Array, packed: jax.Array, blend: jax.Array,
              opacity: jax.Array, log_total: jax.Array, g_blend: jax.Array, g_alpha: jax.Array) -> jax.Array:
    """Gradient to `packed`."""
    module, plan = _plan(options, form, len(packed), len(triangles))
    rest = [g_alpha * jnp.exp(-opacity), (g_blend * blend).sum(-1), log_total]
    pixels = jnp.concatenate([jnp.moveaxis(g_blend, -1, 1), jnp.stack(rest, axis=1)], axis=1)
    return module.backward(options.settings, plan, packed, triangles, pixels)


def _on_platform(options: Options, function: Callable, triangles: jax.Array, *batched: jax.Array) -> tuple:
    """`function(options, form, triangles, *batched)` in the form of the platform it is compiled for."""
    def of(form: Form) -> Callable:
        return lambda triangles, *batched: _in_groups(
            functools.partial(function, options, form, triangles), _images(options, form, len(triangles)), batched)

    def choose(triangles: jax.Array, *batched: jax.Array) -> tuple[jax.Array, ...]:
        if options.form:
            return of(options.form)(triangles, *batched)
        return lax.platform_dependent(triangles, *batched, cpu=of('cpu'), tpu=of('tpu'), default=of('gpu'))

    return batch_parallel.joins_the_batch(choose, shared=1)(triangles, *batched)


def _in_groups(function: Callable, images: int, batched: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """`function(*batched)` for at most so many images at a time."""
    batch = len(batched[0])
    groups = math.ceil(batch / images)
    if groups == 1:
        return function(*batched)
    group = math.ceil(batch / groups)
    margin = groups * group - batch  # of images whose vertices are all the same: they draw nothing
    grouped = [jnp.pad(x, ((0, margin), *[(0, 0)] * (x.ndim - 1))).reshape(groups, group, *x.shape[1:])
               for x in batched]
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:batch], lax.map(lambda x: function(*x), grouped))


def _images(options: Options, form: Form, faces: int) -> int:
    """How many images a form takes at once: on a CPU, memory counts; elsewhere, the list is numbered in int32."""
    return 1 if form == 'cpu' else max(1, windows.MOST // _most(options, _window(options, form, faces), faces))


def _most(options: Options, window: int, faces: int) -> int:
    """Windows of one image, if every triangle covers all of it."""
    return faces * math.ceil(options.settings.size / window) ** 2


def _window(options: Options, form: Form, faces: int) -> int:
    window = options.window or (TILE if form == 'tpu' else _guess_window(options.settings, faces))
    while _most(options, window, faces) > windows.MOST:  # the list of one image must have int32 numbers, too
        window += 1
    return window


def _plan(options: Options, form: Form, images: int, faces: int) -> tuple:
    """The module of a form, and its settings."""
    window, number = _window(options, form, faces), images * faces
    if form == 'tpu':
        part = options.chunk or math.ceil(2.3 * number)  # as many as a fine mesh of `number` triangles has
        return tiles, tiles.Form(window, BLOCK, BLOCKS, math.ceil(part / BLOCK) * BLOCK)
    most = math.ceil(1.06 * number)  # as many as a mesh of small triangles has
    if form == 'gpu':
        part = min(options.chunk or max(1, GPU_SLOTS // window ** 2), most)
        return splat, splat.Form(window, part, part, staged=False, drops=True, integers=True, lanes=1)
    chunk = min(options.chunk or max(1, CPU_SLOTS // window ** 2), most)
    part = math.ceil(min(most, CPU_PART) / chunk) * chunk
    return splat, splat.Form(window, part, chunk, staged=True, drops=False, integers=False, lanes=4)


def _guess_window(settings: Settings, faces: int) -> int:
    """A window that holds a usual triangle: of a mesh that covers half the image."""
    extent = settings.size / math.sqrt(max(faces, 1))
    return max(2, min(8, math.ceil(extent + 2 * math.sqrt(settings.reach))))
