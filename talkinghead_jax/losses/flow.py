"""Supervision of flows by geometry, in place of the second flow network of [32] (design, Sec. 4).

All flows are in pixels of their own resolution. Each function returns one value an example.
"""

import jax
import jax.numpy as jnp

from talkinghead_jax.nn.sampling import sample_points


def mesh_flow(flow: jax.Array, displacement: jax.Array, weight: jax.Array) -> jax.Array:
    """L1 to the flow that the mesh induces between two poses.

    Args:
      flow: (B,H,W,2).
      displacement: (B,H,W,2), rasterized with the mesh.
      weight: (B,H,W): visible coverage, 0 in the eye and mouth boxes.

    Returns:
      (B,) px; 0 where no pixel counts.
    """
    error = jnp.abs(flow - displacement).sum(-1)
    return (error * weight).sum((1, 2)) / jnp.maximum(weight.sum((1, 2)), 1.0)


def landmark_flow(flow: jax.Array, target_points: jax.Array, source_points: jax.Array) -> jax.Array:
    """L1 between the flow at the target's landmarks and the way from there to the source's landmarks.

    Args:
      flow: (B,H,W,2).
      target_points: (B,68,2) px of the flow's resolution.
      source_points: (B,68,2).

    Returns:
      (B,) px. Landmarks outside the image do not count.
    """
    size = jnp.asarray([[[flow.shape[2] - 1, flow.shape[1] - 1]]], target_points.dtype)
    inside = ((target_points >= 0) & (target_points <= size)).all(-1).astype(jnp.float32)
    error = jnp.abs(sample_points(flow, target_points) - (source_points - target_points)).sum(-1)
    return (error * inside).sum(1) / jnp.maximum(inside.sum(1), 1.0)
