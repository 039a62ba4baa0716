"""Ops that take their batch example by example: on each device for the examples that it holds, and under vmap.

The compiler cannot split a gather or scatter that flattens the batch, nor a loop over it: given a batch spread over
devices, it sends all of it to all of them, in every iteration (design, Sec. 3). `jax.shard_map` shows it one
device's examples only. The devices are found in JAX's context mesh, which `train/sharding.py` sets while a step is
traced: so what calls an op need not know of them, and `jit` compiles anew where they differ.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

BATCH_AXES = ('data', 'fsdp')  # the mesh's axes over which a batch is split, together
MAPPED_AXIS = 'device'  # of pmap; a name of its own, so that the axes within `per_shard` are not taken for it


def per_shard(function: Callable[..., Any], in_axes: tuple[int | None, ...]) -> Callable[..., Any]:
    """`function` on each device's examples, without a message between devices. Differentiable as `function` is.

    Where the context mesh does not have the axes of `BATCH_AXES` (one device, evaluation, `init`), or the code is
    already one device's (`pmap`, inside `jax.shard_map`), it is `function`.

    Args:
      function: of arrays, none of whose examples depends on another; every output has the batch as its first axis.
        Arrays that it closes over must be constants, not tracers.
      in_axes: as of `jax.vmap`: 0 for an argument whose first axis is the batch, None for one that all share.

    Returns:
      A function of the same arguments and outputs. It raises ValueError where the batch does not divide by the
      number of devices: run plainly, it would send everything everywhere and nobody would know.
    """
    def call(*arguments: jax.Array) -> Any:
        mesh = jax.sharding.get_abstract_mesh()
        axes = _open_axes(mesh)
        shards = math.prod(mesh.shape[axis] for axis in axes)
        if shards == 1:
            return function(*arguments)
        for argument, axis in zip(arguments, in_axes, strict=True):
            if axis is not None and argument.shape[0] % shards:
                raise ValueError(f'found a batch of {argument.shape[0]} on a mesh of {shards} devices '
                                 f'({dict(mesh.shape)}), want a multiple of {shards}')
        split, whole = PartitionSpec(axes), PartitionSpec()
        return jax.shard_map(function, in_specs=tuple(whole if axis is None else split for axis in in_axes),
                             out_specs=split, axis_names=set(axes))(*arguments)

    return call


def mapped_axis() -> str | None:
    """`MAPPED_AXIS` where a train step is traced by `pmap`, and sees only one device's examples; else None."""
    return MAPPED_AXIS if MAPPED_AXIS in jax.sharding.get_abstract_mesh().axis_names else None


def mean_over_devices(x: jax.Array) -> jax.Array:
    """The mean of `pmap`'s devices' values; elsewhere `x`, which is of the whole batch already. Any shape."""
    axis = mapped_axis()
    return x if axis is None else jax.lax.pmean(x, axis)


def joins_the_batch(function: Callable[..., Any], shared: int = 0) -> Callable[..., Any]:
    """`function` with a rule for `jax.vmap`: the mapped axis and the batch become one, instead of a loop.

    Args:
      function: of arrays with the batch as their first axis, but for the first `shared` ones, which serve the
        whole batch; every output has the batch first. Where a shared one is mapped, there is a loop after all.
      shared: how many arguments have no batch.
    """
    folded = jax.custom_batching.custom_vmap(function)

    @folded.def_vmap
    def rule(size: int, mapped: list[bool], *arrays: jax.Array) -> tuple[Any, Any]:
        full = [x if is_mapped else jnp.broadcast_to(x, (size, *x.shape))
                for x, is_mapped in zip(arrays, mapped, strict=True)]
        if any(mapped[:shared]):
            results = jax.lax.map(lambda one: folded(*one), full)
        else:
            batch = full[-1].shape[1]
            results = folded(*arrays[:shared], *(x.reshape(size * batch, *x.shape[2:]) for x in full[shared:]))
            results = jax.tree.map(lambda x: x.reshape(size, batch, *x.shape[1:]), results)
        return results, jax.tree.map(lambda _: True, results)

    return folded


def _open_axes(mesh: AbstractMesh) -> tuple[str, ...]:
    """The batch axes that `mesh` has and that no enclosing `shard_map` or `pmap` has taken already."""
    types = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    return tuple(axis for axis in BATCH_AXES if types.get(axis, AxisType.Manual) != AxisType.Manual)
