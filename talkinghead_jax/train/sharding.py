"""Where arrays live. No other file of this package knows about devices.

Two ways to run the same step on the same state: 'sharded' (`jit`, and the compiler splits the work) and 'pmap'
(data parallel, one program a device). In both, the state that goes in and out is one global `TrainState`.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from talkinghead_jax.errors import UserError
from talkinghead_jax.ops.batch_parallel import BATCH_AXES, MAPPED_AXIS

MODES = ('sharded', 'pmap')
SMALLEST_SHARDED = 4096  # numbers in an array; splitting less costs more in messages than it saves in memory


@dataclasses.dataclass(frozen=True)
class Layout:
    """A mode and the (data, fsdp) mesh of the devices that it runs on."""

    mode: str
    mesh: Mesh

    @property
    def replicated(self) -> NamedSharding:
        """One copy on each device."""
        return NamedSharding(self.mesh, PartitionSpec())

    def check_batch_size(self, stage_name: str, batch_size: int, accumulate: int = 1) -> None:
        """Raise UserError unless every device gets the same number of examples, for each of the microbatches."""
        if batch_size % self.mesh.size:
            raise UserError(f'config.{stage_name}.batch_size is {batch_size}, which does not divide by the '
                            f'{self.mesh.size} devices in use: make it a multiple of {self.mesh.size}')
        share = batch_size // self.mesh.size
        if accumulate < 1 or share % accumulate:
            raise UserError(f'config.{stage_name}.accumulate is {accumulate}, but config.{stage_name}.batch_size, '
                            f'{batch_size}, gives each device {share} examples: use 1 or another divisor of {share}')

    def shard_state(self, abstract_state: Any) -> Any:
        """`abstract_state` (from `jax.eval_shape`) with a sharding on each leaf, by the size rule."""
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._leaf_sharding(x.shape)), abstract_state)

    def create_state(self, create: Callable[..., Any], *args: Any) -> Any:
        """Run `create(*args)` with its result born sharded, so that no device ever holds all of it."""
        shardings = jax.tree.map(lambda x: x.sharding, self.shard_state(jax.eval_shape(create, *args)))
        # It runs once, so on a CPU, where optimizing a U-net's initializers takes LLVM ten times as long as
        # running them, it is not optimized.
        options = {'xla_backend_optimization_level': 0} if self.mesh.devices.flat[0].platform == 'cpu' else None
        create = jax.jit(create, out_shardings=shardings, compiler_options=options)
        # A random key stays where it is: to the devices of other processes it goes as an argument only.
        return create(*jax.tree.map(
            lambda x: x if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else self.replicate(x), args))

    def replicate(self, tree: Any) -> Any:
        """Put a copy of each array on each device; every process has the same arrays."""
        return jax.device_put(jax.tree.map(np.asarray, tree), self.replicated)  # from the host, to other hosts' too

    def put_batch(self, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """Send this process's share of a batch, (B / processes, ...) a field, to its devices."""
        if self.mode == 'pmap':
            here = sum(device.process_index == jax.process_index() for device in self.mesh.devices.flat)
            batch = {name: np.reshape(x, (here, -1, *x.shape[1:])) for name, x in batch.items()}
        return {name: jax.make_array_from_process_local_data(self._batch_sharding, x) for name, x in batch.items()}

    def abstract_batch(self, batch_spec: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.ShapeDtypeStruct]:
        """What `put_batch` returns for a global batch of `batch_spec`, without the numbers."""
        parts = self.mesh.size
        shapes = {name: (parts, x.shape[0] // parts, *x.shape[1:]) if self.mode == 'pmap' else x.shape
                  for name, x in batch_spec.items()}
        return {name: jax.ShapeDtypeStruct(shapes[name], x.dtype, sharding=self._batch_sharding)
                for name, x in batch_spec.items()}

    @property
    def context(self) -> contextlib.AbstractContextManager:
        """In which a step is traced: where `ops.batch_parallel` finds the mesh. Under `pmap`, none is to be found."""
        return contextlib.nullcontext() if self.mode == 'pmap' else jax.set_mesh(self.mesh)

    @property
    def _batch_sharding(self) -> NamedSharding:
        if self.mode == 'pmap':
            return NamedSharding(Mesh(self.mesh.devices.reshape(-1), (MAPPED_AXIS,)), PartitionSpec(MAPPED_AXIS))
        return NamedSharding(self.mesh, PartitionSpec(BATCH_AXES))

    def _leaf_sharding(self, shape: tuple[int, ...]) -> NamedSharding:
        """Split a large array along its longest axis that divides by the fsdp axis; replicate the others.

        Of equal axes the last: a kernel's first are spatial, and to flip a split axis is to exchange its parts.
        """
        parts = self.mesh.shape['fsdp']
        axes = [axis for axis, length in enumerate(shape) if length % parts == 0]
        if parts == 1 or not axes or np.prod(shape) < SMALLEST_SHARDED:
            return self.replicated
        longest = max(axes, key=lambda axis: (shape[axis], axis))
        return NamedSharding(self.mesh, PartitionSpec(*[None] * longest, 'fsdp'))


def make_layout(mode: str = 'sharded', fsdp: int = 1, devices: Sequence[jax.Device] | None = None) -> Layout:
    """Lay out `devices` (default: all) for `config.parallel.mode` and `.fsdp`.

    Raises:
      UserError: the mode is unknown, or `fsdp` does not fit it or the number of devices.
    """
    # Process by process, so that the rows of a global batch that a process's devices hold are contiguous, and are
    # the loader's part for that process, in both modes. (`jax.make_mesh` orders a TPU's devices by their links.)
    devices = sorted(jax.devices() if devices is None else devices, key=lambda d: (d.process_index, d.id))
    if mode not in MODES:
        raise UserError(f'config.parallel.mode is {mode!r}: use one of {", ".join(MODES)}')
    if mode == 'pmap' and fsdp != 1:
        raise UserError(f'config.parallel.fsdp is {fsdp}, but mode pmap copies parameters to every device: use 1')
    if fsdp < 1 or len(devices) % fsdp:
        raise UserError(f'config.parallel.fsdp is {fsdp}, which does not divide the number of devices, '
                        f'{len(devices)}: use 1 or another divisor')
    return Layout(mode, Mesh(np.array(devices).reshape(-1, fsdp), BATCH_AXES))


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """A step ready to run: `call(state, frozen, batch) -> (state, scalars)`; the state given is used up.

    `flops` are the compiler's count of one device's operations, which takes the body of a loop once; 0 where the
    platform does not count.
    """

    call: Callable[..., tuple[Any, dict[str, jax.Array]]]
    compile_seconds: float
    flops: float = 0.0


def compile_step(step: Callable[..., Any], layout: Layout, state: Any, frozen: Any,
                 batch_spec: Mapping[str, jax.ShapeDtypeStruct]) -> CompiledStep:
    """Compile `step(state, frozen, batch, *, axis_name)` ahead of its first call, exactly once.

    Args:
      step: `step.train_step` with its stage and seed bound.
      layout: mode and devices, which need not be attached (`jax.experimental.topologies`) if nothing is to run.
      state: a `TrainState`, of arrays or abstract with shardings.
      frozen: replicated arrays, or abstract.
      batch_spec: field -> abstract array of the global batch.
    """
    if layout.mode == 'pmap':
        compiled = jax.pmap(functools.partial(step, axis_name=MAPPED_AXIS), MAPPED_AXIS, in_axes=(None, None, 0),
                            out_axes=(None, None), donate_argnums=0, devices=list(layout.mesh.devices.flat))
    else:
        shardings = jax.tree.map(lambda x: x.sharding, state)
        compiled = jax.jit(_gather_weights(step, layout), donate_argnums=0,
                           in_shardings=(shardings, layout.replicated, layout._batch_sharding),
                           out_shardings=(shardings, layout.replicated))
    batch = layout.abstract_batch(batch_spec)
    if layout.mode == 'pmap' and jax.process_count() > 1:
        # With several processes `pmap` takes no abstract arrays; given those of all processes, and not each its own,
        # it also returns such, which a checkpoint can hold.
        batch = layout.put_batch({name: np.zeros((x.shape[0] // jax.process_count(), *x.shape[1:]), x.dtype)
                                  for name, x in batch_spec.items()})
    start = time.perf_counter()
    with layout.context:
        executable = compiled.lower(state, frozen, batch).compile()
    return CompiledStep(executable, time.perf_counter() - start, _flops(executable))


def _flops(executable: Any) -> float:
    counts = executable.cost_analysis()
    if isinstance(counts, (list, tuple)):  # one a program, on some backends
        counts = counts[0] if counts else None
    return max(0.0, float((counts or {}).get('flops', 0.0)))


def _gather_weights(step: Callable[..., Any], layout: Layout) -> Callable[..., Any]:
    """`step` of a state whose weights each device gathers, once; optimizer states and averages stay split.

    Left to itself, the compiler may multiply by a split weight's parts and exchange activations instead, which
    grow with the batch.
    """
    def sharded_step(state: Any, frozen: Any, batch: Any) -> Any:
        params, model_state = jax.lax.with_sharding_constraint((state.params, state.model_state), layout.replicated)
        return step(state.replace(params=params, model_state=model_state), frozen, batch)

    return sharded_step
