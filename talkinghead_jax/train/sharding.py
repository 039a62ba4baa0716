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
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from talkinghead_jax.errors import UserError
from talkinghead_jax.ops.batch_parallel import BATCH_AXES

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

    def check_batch_size(self, stage_name: str, batch_size: int) -> None:
        """Raise UserError unless every device gets the same number of examples."""
        if batch_size % self.mesh.size:
            raise UserError(f'config.{stage_name}.batch_size is {batch_size}, which does not divide by the '
                            f'{self.mesh.size} devices in use: make it a multiple of {self.mesh.size}')

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
        return create(*jax.device_put(args, self.replicated))

    def replicate(self, tree: Any) -> Any:
        """Put a copy of each array on each device."""
        return jax.device_put(tree, self.replicated)

    def put_batch(self, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """Send this process's share of a batch, (B / processes, ...) a field, to its devices."""
        if self.mode == 'pmap':
            local = self._local_mesh()
            split = {name: np.reshape(x, (local.size, -1, *x.shape[1:])) for name, x in batch.items()}
            return jax.device_put(split, NamedSharding(local, PartitionSpec('data')))
        return {name: jax.make_array_from_process_local_data(self._batch_sharding, x) for name, x in batch.items()}

    def abstract_batch(self, batch_spec: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.ShapeDtypeStruct]:
        """What `put_batch` returns for a global batch of `batch_spec`, without the numbers."""
        if self.mode == 'pmap':
            local = self._local_mesh()
            sharding = NamedSharding(local, PartitionSpec('data'))
            return {name: jax.ShapeDtypeStruct((local.size, x.shape[0] // self.mesh.size, *x.shape[1:]), x.dtype,
                                               sharding=sharding) for name, x in batch_spec.items()}
        return {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._batch_sharding)
                for name, x in batch_spec.items()}

    @property
    def context(self) -> contextlib.AbstractContextManager:
        """In which a step is traced: where `ops.batch_parallel` finds the mesh. Under `pmap`, none is to be found."""
        return contextlib.nullcontext() if self.mode == 'pmap' else jax.set_mesh(self.mesh)

    @property
    def _batch_sharding(self) -> NamedSharding:
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

    def _local_mesh(self) -> Mesh:
        devices = [device for device in self.mesh.devices.flat if device.process_index == jax.process_index()]
        return Mesh(np.array(devices), ('data',))


def make_layout(mode: str = 'sharded', fsdp: int = 1, devices: Sequence[jax.Device] | None = None) -> Layout:
    """Lay out `devices` (default: all) for `config.parallel.mode` and `.fsdp`.

    Raises:
      UserError: the mode is unknown, or `fsdp` does not fit it or the number of devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    if mode not in MODES:
        raise UserError(f'config.parallel.mode is {mode!r}: use one of {", ".join(MODES)}')
    if mode == 'pmap' and fsdp != 1:
        raise UserError(f'config.parallel.fsdp is {fsdp}, but mode pmap copies parameters to every device: use 1')
    if fsdp < 1 or len(devices) % fsdp:
        raise UserError(f'config.parallel.fsdp is {fsdp}, which does not divide the number of devices, '
                        f'{len(devices)}: use 1 or another divisor')
    shape = (len(devices) // fsdp, fsdp)
    return Layout(mode, jax.make_mesh(shape, BATCH_AXES, axis_types=(AxisType.Auto,) * 2, devices=devices))


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """A step ready to run: `call(state, frozen, batch) -> (state, scalars)`; the state given is used up."""

    call: Callable[..., tuple[Any, dict[str, jax.Array]]]
    compile_seconds: float


def compile_step(step: Callable[..., Any], layout: Layout, state: Any, frozen: Any,
                 batch_spec: Mapping[str, jax.ShapeDtypeStruct]) -> CompiledStep:
    """Compile `step(state, frozen, batch, *, axis_name)` ahead of its first call, exactly once.

    Args:
      step: `step.train_step` with its stage and seed bound.
      layout: mode and devices.
      state: a `TrainState`, of arrays or abstract with shardings.
      frozen: replicated arrays, or abstract.
      batch_spec: field -> abstract array of the global batch.
    """
    if layout.mode == 'pmap':
        compiled = jax.pmap(functools.partial(step, axis_name='data'), axis_name='data', in_axes=(None, None, 0),
                            out_axes=(None, None), donate_argnums=0, devices=list(layout.mesh.devices.flat))
    else:
        shardings = jax.tree.map(lambda x: x.sharding, state)
        compiled = jax.jit(_gather_weights(step, layout), donate_argnums=0,
                           in_shardings=(shardings, layout.replicated, layout._batch_sharding),
                           out_shardings=(shardings, layout.replicated))
    start = time.perf_counter()
    with layout.context:
        executable = compiled.lower(state, frozen, layout.abstract_batch(batch_spec)).compile()
    return CompiledStep(executable, time.perf_counter() - start)


def _gather_weights(step: Callable[..., Any], layout: Layout) -> Callable[..., Any]:
    """`step` of a state whose weights each device gathers, once; optimizer states and averages stay split.

    Left to itself, the compiler may multiply by a split weight's parts and exchange activations instead, which
    grow with the batch.
    """
    def sharded_step(state: Any, frozen: Any, batch: Any) -> Any:
        params, model_state = jax.lax.with_sharding_constraint((state.params, state.model_state), layout.replicated)
        return step(state.replace(params=params, model_state=model_state), frozen, batch)

    return sharded_step
