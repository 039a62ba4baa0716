"""Frames over all devices of this process: batches of one size, the last one filled up, examples split evenly."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from talkinghead_jax.ops.batch_parallel import BATCH_AXES
from talkinghead_jax.synthesis.network import Network
from talkinghead_jax.train.sharding import Layout, make_layout


@dataclasses.dataclass(frozen=True, eq=False)
class Devices:
    """This process's devices, and how many frames go to them at a time.

    Attributes:
      layout: a mesh of them.
      batch_size: frames at a time, a multiple of their number.
    """

    layout: Layout
    batch_size: int

    @functools.cached_property
    def split(self) -> NamedSharding:
        """Where a batch's examples lie."""
        return NamedSharding(self.layout.mesh, PartitionSpec(BATCH_AXES))

    def place(self, batch: Any) -> Any:
        """Send arrays (B, ...) to the devices, each its share; those that lie there already stay."""
        return jax.device_put(batch, self.split)

    def spread(self, function: Callable[..., Any], params: Any = None) -> Callable[..., Any]:
        """`function(params, *arrays)` of (N, ...) arrays for any N, compiled once and run on all devices.

        Args:
          function: jittable; every example's output depends on that example only.
          params: copied to each device, once.

        Returns:
          A function of NumPy arrays (N, ...), N of 1 or more, that returns NumPy arrays (N, ...).
        """
        run, params = jax.jit(function), self.layout.replicate(params)

        def call(*arrays: np.ndarray) -> Any:
            count, parts = len(arrays[0]), []
            for start in range(0, count, self.batch_size):
                index = np.minimum(start + np.arange(self.batch_size), count - 1)
                with self.layout.context:
                    outputs = run(params, *self.place([np.asarray(x)[index] for x in arrays]))
                parts.append(jax.tree.map(np.asarray, outputs))
            return jax.tree.map(lambda *xs: np.concatenate(xs)[:count], *parts)

        return call

    def network(self, network: Network) -> Network:
        """`network`, whose batches are split over the devices; they must hold `batch_size` examples."""
        return _Spread(network.stage, self.layout.replicate(network.params),
                       self.layout.replicate(network.model_state), self.layout.replicate(dict(network.frozen)), self)


@dataclasses.dataclass(frozen=True, eq=False)
class _Spread(Network):
    devices: Devices

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, jax.Array]:
        with self.devices.layout.context:
            return super().__call__(self.devices.place(dict(batch)))

    def baselines(self, batch: Mapping[str, Any]) -> dict[str, dict[str, jax.Array]]:
        with self.devices.layout.context:
            return super().baselines(self.devices.place(dict(batch)))


def local_devices(batch_size: int, count: int | None = None) -> Devices:
    """All devices of this process, or the first `count`; `batch_size` is rounded up to a multiple of them."""
    devices = jax.local_devices()[:count]
    return Devices(make_layout(devices=devices), math.ceil(batch_size / len(devices)) * len(devices))
