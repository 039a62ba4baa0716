"""Adversarial losses (paper, Eq. 8): hinge and feature matching. Each returns one value an example."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def discriminator_hinge(real_scores: Sequence[jax.Array], fake_scores: Sequence[jax.Array]) -> jax.Array:
    """max(0, 1 - real) + max(0, 1 + fake), mean over patches, sum over scales.

    Args:
      real_scores: a (B,h,w,1) map of scores for each scale.
      fake_scores: same.

    Returns:
      (B,) float32.
    """
    return sum(_mean(jax.nn.relu(1 - real)) + _mean(jax.nn.relu(1 + fake))
               for real, fake in zip(real_scores, fake_scores, strict=True))


def generator_hinge(fake_scores: Sequence[jax.Array]) -> jax.Array:
    """-score, mean over patches, sum over scales: (B,). Not clipped, unlike the original's by oversight."""
    return sum(-_mean(fake) for fake in fake_scores)


def feature_matching(real_features: Sequence[Sequence[jax.Array]],
                     fake_features: Sequence[Sequence[jax.Array]]) -> jax.Array:
    """L1 between the discriminators' hidden features of real and generated images ([32], Sec. 3).

    Args:
      real_features: for each scale the features of every layer, (B,h,w,C) each, without the scores; no gradient.
      fake_features: same.

    Returns:
      (B,) float32: mean over a layer, sum over layers and scales.
    """
    return sum(_mean(jnp.abs(jax.lax.stop_gradient(real) - fake))
               for reals, fakes in zip(real_features, fake_features, strict=True)
               for real, fake in zip(reals, fakes, strict=True))


def _mean(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32).mean(tuple(range(1, x.ndim)))
