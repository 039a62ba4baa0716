"""One triangle at one pixel: SoftRas's formulas and their derivatives, for arrays that broadcast.

Corner values are tuples of three. Every function takes arrays of windows and of pixels, such as (1, N) and (S, 1),
and gives arrays of both. `stage` runs a function whose results have several readers: see `splat.Form`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from talkinghead_jax.ops.rasterizing import settings as camera
from talkinghead_jax.ops.rasterizing.settings import Settings

Three = tuple[jax.Array, jax.Array, jax.Array]
Stage = Callable[[Callable], tuple | jax.Array]


class Triangle(NamedTuple):
    """What the fragments of a triangle share. Edge i runs from corner i to corner i + 1."""

    x: Three
    y: Three
    q: Three
    edge_x: Three
    edge_y: Three
    along_x: Three  # gradient of the place along the edge, 0 .. 1
    along_y: Three
    weight_x: Three  # gradient of the barycentric weight of corner k
    weight_y: Three


def triangle(x: Three, y: Three, q: Three) -> Triangle:
    """From the corners. All is finite for a triangle of no area, too."""
    edge_x, edge_y = (tuple(c[(i + 1) % 3] - c[i] for i in range(3)) for c in (x, y))
    area = edge_x[0] * edge_y[1] - edge_y[0] * edge_x[1]
    scale = 1 / jnp.where(area == 0, 1, area)
    squared = [a ** 2 + b ** 2 for a, b in zip(edge_x, edge_y, strict=True)]
    shrink = [1 / jnp.where(s == 0, 1, s) for s in squared]
    return Triangle(
        x, y, q, edge_x, edge_y,
        tuple(edge_x[i] * shrink[i] for i in range(3)), tuple(edge_y[i] * shrink[i] for i in range(3)),
        tuple(-edge_y[(k + 1) % 3] * scale for k in range(3)), tuple(edge_x[(k + 1) % 3] * scale for k in range(3)))


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
        found = (dx - along * t.edge_x[i]) ** 2 + (dy - along * t.edge_y[i]) ** 2
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

    reached: jax.Array  # bool
    logit: jax.Array  # +-d^2 / sigma, + inside
    n: Three  # blend weights


def cover(settings: Settings, t: Triangle, px: jax.Array, py: jax.Array) -> Cover:
    """Distance and blend weights of fragments."""
    squared, _ = nearest_boundary(t, px, py)
    w = barycentric(t, px, py)
    inside = is_inside(w)
    logit = jnp.where(inside, squared, -squared) / settings.sigma
    return Cover(inside | (squared < settings.reach), logit, _normalize(w)[0])


def _share(settings: Settings, found: Cover, z: jax.Array, log_scale: jax.Array) -> jax.Array:
    """D exp(zn / gamma) / exp(log_scale), 0 where there is no fragment: also where the scale is another's."""
    drawn = found.reached & is_visible(settings, z)
    return _sigmoids(found.logit)[0] * jnp.exp(jnp.where(drawn, z / settings.e_fold - log_scale, -jnp.inf))


def terms(settings: Settings, t: Triangle, found: Cover, attributes: Sequence[Three], peak: jax.Array, stage: Stage,
          ) -> list[jax.Array]:
    """What a fragment adds to the C + 3 sums of its pixel: see `splat.forward`."""
    def weigh() -> tuple[jax.Array, jax.Array]:
        z, _ = depth(settings, found.n, t.q)
        return _share(settings, found, z, peak), z

    weight, z = stage(weigh)
    return [*(weight * dot(found.n, a) for a in attributes), weight * z, weight,
            jnp.where(found.reached, _softplus(found.logit), 0)]


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

    def weigh() -> jax.Array:
        return _share(settings, found, depth(settings, found.n, t.q)[0], log_total)

    share = stage(weigh)
    earned = [dot(g_values, [a[k] for a in attributes]) for k in range(3)]

    def to_depth_and_distance() -> tuple[jax.Array, jax.Array]:
        z, slope = depth(settings, found.n, t.q)
        g_weight = share * (dot(found.n, earned) + g_depth * z - g_mean)
        covered, rest = _sigmoids(found.logit)
        counts = found.reached if settings.exact else found.reached & is_visible(settings, z)
        g_logit = g_weight * rest + jnp.where(counts, g_opacity * covered, 0)
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
                     g_values: Sequence[jax.Array]) -> list[list[jax.Array]]:
    """What each fragment gives to x, y, q and the attributes of each of the three corners.

    Moving corner k by dv moves the weights as moving the pixel by -w_k dv does, and the nearest point of the
    boundary, at `place` on it, by its own weight times dv.
    """
    w, beta = barycentric(t, px, py), _boundary_weights(place)
    away_x, away_y = px - dot(beta, t.x), py - dot(beta, t.y)
    return [[to.pull * beta[k] * away_x - w[k] * to.x, to.pull * beta[k] * away_y - w[k] * to.y,
             to.q * found.n[k], *(to.share * found.n[k] * g for g in g_values)] for k in range(3)]


def dot(a: Sequence[jax.Array], b: Sequence[jax.Array]) -> jax.Array:
    """Sum of products."""
    return sum(x * y for x, y in zip(a, b, strict=True))
