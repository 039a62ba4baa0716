"""The constants of one call of a rasterizer, in pixels of its image, and the camera's depth."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

EYE, NEAR, FAR = 6000.0, 1.0, 10_000.0  # the paper's camera, in pixels of its 256 px images
PAPER_SIZE = 256
EPSILON = 1e-3  # SoftRas's eps: background is a fragment of normalised depth 2 eps and D = 1


class Settings(NamedTuple):
    """Static."""

    size: int
    sigma: float  # px^2
    gamma: float  # of normalised depth
    reach: float  # px^2: squared distance at which D falls to the cutoff
    eye: float
    near: float
    far: float
    exact: bool  # gradients: of the formulas, or those of the published kernel

    @classmethod
    def of(cls, size: int, sigma: float, gamma: float, far: float, cutoff: float, exact: bool) -> 'Settings':
        """From SoftRas's constants (see `soft_rasterizer.rasterize`)."""
        sigma_px = sigma * (size / 2) ** 2
        scale = size / PAPER_SIZE
        reach = math.log(1 / cutoff - 1) * sigma_px
        return cls(size, sigma_px, gamma, reach, EYE * scale, NEAR * scale, far * scale, exact)

    @property
    def e_fold(self) -> float:
        """Depth in px that multiplies a fragment's weight by e."""
        return (self.far - self.near) * self.gamma

    @property
    def background_log_weight(self) -> float:
        """Of SoftRas's background, on the scale on which a fragment at z = 0 with D = 1 has 0."""
        return (2 * EPSILON - (self.far - self.eye) / (self.far - self.near)) / self.gamma


def inverse_depth(z: jax.Array, eye: float) -> jax.Array:
    """q = z / (1 - z / eye): the perspective depth of a blend of vertices is `depth` of the blend of their q.

    SoftRas's 1 / sum_k (n_k / (eye - z_k)), without its loss of digits in float32.
    """
    rest = 1 - z / eye
    return z / jnp.where(jnp.abs(rest) < 1e-6, 1e-6, rest)


def depth(q: jax.Array, eye: float) -> tuple[jax.Array, jax.Array]:
    """z of a blended q, and dz / dq."""
    rest = 1 + q / eye
    scale = 1 / jnp.where(jnp.abs(rest) < 1e-6, 1e-6, rest)
    return q * scale, scale ** 2
