"""One triangle at one pixel: SoftRas's formulas and their derivatives, for arrays that broadcast.

Corner values come in threes. Every function takes arrays of windows and of pixels, such as (1, N) and (S, 1),
and gives arrays of both. `stage` runs a function whose results have several readers: see `splat.Form`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from talkinghead_jax.ops.rasterizing import settings as camera
from talkinghead_jax.ops.rasterizing.settings import Settings

Three = tuple[jax.Array, jax.Array, jax.Array] | jax.Array  # (3, ...)
Stage = Callable[[Callable], tuple | jax.Array]


class Triangle(NamedTuple):
    """What the fragments of a triangle share: arrays (3, ...). Edge i runs from corner i to corner i + 1."""

    x: jax.Array
    y: jax.Array
    q: jax.Array
    along_x: jax.Array  # gradient of the place along edge i, 0 .. 1
    along_y: jax.Array
    weight_x: jax.Array  # gradient of the barycentric weight of corner k
    weight_y: jax.Array


def triangle(x: jax.Array, y: jax.Array, q: jax.Array) -> Triangle:
    """From the corners, (3, ...). All is finite for a triangle of no area, too."""
    edge_x, edge_y = (jnp.roll(c, -1, axis=0) - c for c in (x, y))
    squared = edge_x ** 2 + edge_y ** 2
    shrink = 1 / jnp.where(squared == 0, 1, squared)
    area = edge_x[0] * edge_y[1] - edge_y[0] * edge_x[1]
    scale = (1 / jnp.where(area == 0, 1, area))[None]
    return Triangle(x, y, q, edge_x * shrink, edge_y * shrink, -jnp.roll(edge_y, -1, axis=0) * scale,
                    jnp.roll(edge_x, -1, axis=0) * scale)


def barycentric(t: Triangle, px: jax.Array, py: jax.Array) -> Three:
    """Weights of the corners at the pixel: they add up to 1 and are negative or above 1 outside."""
    return tuple((px - t.x[(k + 1) % 3]) * t.weight_x[k] + (py - t.y[(k + 1) % 3]) * t.weight_y[k] for k in range(3))


def is_inside(weights: Three) -> jax.Array:
    """Whether the pixel lies in the triangle, its boundary included."""
    return (weights[0] >= 0) & (weights[1] >= 0) & (weights[2] >= 0)


def _normalize(weights: Three) -> tuple[Three, jax.Array]:
    """Weights clipped to 0 .. 1 that add up to 1, and the factor that made them do so."""
    clipped = [jnp.clip(w, 0, 1) for w in weights]
    scale = 1 / jnp.maximum(sum(clipped), 1e-5)
    return tuple(w * scale for w in clipped), scale


def blend_weights(t: Triangle, px: jax.Array, py: jax.Array) -> Three:
    """How much of each corner the fragment shows: barycentric weights, clipped and normalised."""
    return _normalize(barycentric(t, px, py))[0]


def depth(settings: Settings, n: Three, q: Three) -> tuple[jax.Array, jax.Array]:
    """z of the fragment, px towards the viewer; and dz / dq."""
    return camera.depth(dot(n, q), settings.eye)


def is_visible(settings: Settings, z: jax.Array) -> jax.Array:
    """Whether the fragment lies between near and far, so that it has a colour."""
    distance = settings.eye - z
    return (distance >= settings.near) & (distance <= settings.far)


def nearest_boundary(t: Triangle, px: jax.Array, py: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Squared distance to the boundary, and where its nearest point lies on the way round: edge i at i .. i + 1."""
    squared, place = None, None
    for i in range(3):
        dx, dy = px - t.x[i], py - t.y[i]
        along = jnp.clip(dx * t.along_x[i] + dy * t.along_y[i], 0, 1)
        edge_x, edge_y = t.x[(i + 1) % 3] - t.x[i], t.y[(i + 1) % 3] - t.y[i]
        found = (dx - along * edge_x) ** 2 + (dy - along * edge_y) ** 2
        if i == 0:
            squared, place = found, along
        else:
            closer = found < squared
            squared, place = jnp.where(closer, found, squared), jnp.where(closer, i + along, place)
    return squared, place


def _boundary_weights(place: jax.Array) -> Three:
    """Weights of the corners in the point at `place` (0 .. 3) on the way round."""
    return (jnp.maximum(1 - place, 0) + jnp.maximum(place - 2, 0),
            *(jnp.maximum(1 - jnp.abs(place - k), 0) for k in (1, 2)))


def _sigmoids(logit: jax.Array) -> tuple[jax.Array, jax.Array]:
    """D and 1 - D, with their leading digits at both ends."""
    small = jnp.exp(-jnp.abs(logit))
    large = 1 / (1 + small)
    small = small * large
    return jnp.where(logit >= 0, large, small), jnp.where(logit >= 0, small, large)


def _softplus(logit: jax.Array) -> jax.Array:
    """-log(1 - D)."""
    return jnp.maximum(logit, 0) + jnp.log(1 + jnp.exp(-jnp.abs(logit)))


def log_weights(settings: Settings, t: Triangle, px: jax.Array, py: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Whether the triangle reaches the pixel; the logarithm of its weight without D, -inf beyond near and far."""
    squared, _ = nearest_boundary(t, px, py)
    w = barycentric(t, px, py)
    z, _ = depth(settings, _normalize(w)[0], t.q)
    return (is_inside(w) | (squared < settings.reach),
            jnp.where(is_visible(settings, z), z / settings.e_fold, -jnp.inf))


class Cover(NamedTuple):
    """What two passes want to know of fragments."""

    logit: jax.Array  # +-d^2 / sigma, + inside; -inf where the triangle does not reach the pixel, so that D is 0
    n: Three  # blend weights


def cover(settings: Settings, t: Triangle, px: jax.Array, py: jax.Array, drawn: jax.Array) -> Cover:
    """Distance and blend weights of fragments; where not `drawn`, there is none."""
    squared, _ = nearest_boundary(t, px, py)
    w = barycentric(t, px, py)
    inside = is_inside(w)
    logit = jnp.where(inside, squared, -squared) / settings.sigma
    reached = drawn & (inside | (squared < settings.reach))
    return Cover(jnp.where(reached, logit, -jnp.inf), _normalize(w)[0])


def weigh(settings: Settings, t: Triangle, found: Cover, log_scale: jax.Array) -> tuple[jax.Array, jax.Array]:
    """D exp(zn / gamma) / exp(log_scale), and z."""
    z, _ = depth(settings, found.n, t.q)
    drawn = is_visible(settings, z) & (found.logit > -jnp.inf)  # elsewhere, the scale is not this fragment's
    weight = _sigmoids(found.logit)[0] * jnp.exp(jnp.where(drawn, z / settings.e_fold - log_scale, -jnp.inf))
    return weight, z


def terms(found: Cover, attributes: Sequence[Three], weight: jax.Array, z: jax.Array) -> list[jax.Array]:
    """What a fragment adds to the C + 3 sums of its pixel: see `splat.forward`."""
    return [*(weight * dot(found.n, a) for a in attributes), weight * z, weight, _softplus(found.logit)]


class Gradients(NamedTuple):
    """Of a fragment."""

    share: jax.Array  # of the fragment in the pixel's blend
    q: jax.Array  # to the blended q
    pull: jax.Array  # times (pixel - nearest boundary point): to that point
    x: jax.Array  # to the pixel's place, through the barycentric weights
    y: jax.Array


def gradients(settings: Settings, t: Triangle, px: jax.Array, py: jax.Array, found: Cover,
              attributes: Sequence[Three], pixels: Sequence[jax.Array], stage: Stage) -> Gradients:
    """Gradients of fragments from the C + 4 numbers of their pixels: see `splat.backward`.

    The peak is a constant here, which is exact: it cancels between the weights and their sum. Unless
    `settings.exact`, as in the published kernel (SoftRas, commit b569bed): colour and depth do not depend on the
    barycentric weights, and a fragment beyond near or far has no alpha gradient.
    """
    *g_values, g_depth, g_opacity, g_mean, log_total = pixels

    share = stage(lambda: weigh(settings, t, found, log_total)[0])
    earned = [dot(g_values, [a[k] for a in attributes]) for k in range(3)]

    def to_depth_and_distance() -> tuple[jax.Array, jax.Array]:
        z, slope = depth(settings, found.n, t.q)
        g_weight = share * (dot(found.n, earned) + g_depth * z - g_mean)
        covered, rest = _sigmoids(found.logit)
        if not settings.exact:
            covered = jnp.where(is_visible(settings, z), covered, 0)
        g_logit = g_weight * rest + g_opacity * covered
        inside = is_inside(barycentric(t, px, py))
        return ((g_weight / settings.e_fold + share * g_depth) * slope,
                jnp.where(inside, -2, 2) * g_logit / settings.sigma)

    q, pull = stage(to_depth_and_distance)

    def to_place() -> tuple[jax.Array, jax.Array]:
        w = barycentric(t, px, py)
        _, scale = _normalize(w)
        g_n = [share * earned[k] + q * t.q[k] for k in range(3)]
        mean = dot(g_n, found.n)
        g_w = [jnp.where((w[k] > 0) & (w[k] < 1), (g_n[k] - mean) * scale, 0) for k in range(3)]
        return dot(g_w, t.weight_x), dot(g_w, t.weight_y)

    x, y = stage(to_place) if settings.exact else (jnp.zeros_like(share),) * 2
    return Gradients(share, q, pull, x, y)


def corner_gradients(t: Triangle, px: jax.Array, py: jax.Array, found: Cover, place: jax.Array, to: Gradients,
                     g_values: Sequence[jax.Array], add: Callable[[jax.Array], jax.Array], stage: Stage,
                     ) -> list[list[jax.Array]]:
    """What the fragments of a triangle give to x, y, q and the attributes of each of its three corners.

    Moving corner k by dv moves the weights as moving the pixel by -w_k dv does, and the nearest point of the
    boundary, at `place` on it, by its own weight times dv. `add` sums over the pixels and keeps their axis.
    """
    def pulls() -> tuple[jax.Array, ...]:
        beta = _boundary_weights(place)
        return to.pull * (px - dot(beta, t.x)), to.pull * (py - dot(beta, t.y)), *beta[:2]

    *pull, beta_0, beta_1 = stage(pulls)
    earned = stage(lambda: [to.share * g for g in g_values])
    # w_k is linear in the pixel: three sums serve all corners. Weights add up to 1: so do their shares of a sum.
    moments = [(add(g), add(px * g), add(py * g)) for g in (to.x, to.y)]
    pulled = [_shared(p, (beta_0, beta_1), add) for p in pull]
    blended = [_shared(g, found.n[:2], add) for g in (to.q, *earned)]

    def moved(k: int) -> list[jax.Array]:
        x, y, (right, down) = t.x[(k + 1) % 3], t.y[(k + 1) % 3], (t.weight_x[k], t.weight_y[k])
        return [right * (m[1] - x * m[0]) + down * (m[2] - y * m[0]) for m in moments]

    return [[*(p[k] - m for p, m in zip(pulled, moved(k), strict=True)), *(b[k] for b in blended)] for k in range(3)]


def _shared(g: jax.Array, weights: Sequence[jax.Array], add: Callable[[jax.Array], jax.Array]) -> Three:
    """Sums of g times each of three weights, of which two are given and all add up to 1."""
    first, second = (add(g * w) for w in weights)
    return first, second, add(g) - first - second


def dot(a: Sequence[jax.Array], b: Sequence[jax.Array]) -> jax.Array:
    """Sum of products."""
    return sum(x * y for x, y in zip(a, b, strict=True))
