"""Derived randomness: one seed, then step, then global example index, then a named stream.

Nothing random is stored, and no key depends on a device or a process, so a batch gets the same draws on one
device or on eight, under `jit` or `pmap`, before or after a restart (design, Sec. 3).
"""

import zlib

import jax
import jax.numpy as jnp


def example_keys(seed: int, step: jax.Array, example_index: jax.Array) -> jax.Array:
    """Return one key an example.

    Args:
      seed: the run's seed.
      step: scalar int32, the global step.
      example_index: (B,) int32, each example's position in the *global* batch.

    Returns:
      (B,) typed keys.
    """
    step_key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(step_key, jnp.asarray(example_index))


def stream(keys: jax.Array, name: str) -> jax.Array:
    """Derive from (B,) `keys` the (B,) keys of the stream called `name`; equal names give equal draws."""
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, zlib.crc32(name.encode()) & 0x7FFFFFFF)
