"""A trained stage, ready to be called."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from talkinghead_jax.stages.base import Stage


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A stage with its parameters; calling it predicts, compiled once for each shape of batch.

    Attributes:
      stage: what to run.
      params: by player, the moving average where there is one.
      model_state: by player.
      frozen: arrays that the stage names in `frozen_fields`.
    """

    stage: Stage
    params: Mapping[str, Any]
    model_state: Mapping[str, Any]
    frozen: Mapping[str, Any]

    @functools.cached_property
    def _predict(self) -> Callable[..., dict[str, jax.Array]]:
        return jax.jit(self.stage.predict)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, jax.Array]:
        """Outputs of a batch of input fields; targets need not be there."""
        return self._predict(self.params, self.model_state, self.frozen, dict(batch))

    @functools.cached_property
    def _baselines(self) -> Callable[..., dict[str, dict[str, jax.Array]]]:
        return jax.jit(self.stage.baselines)

    def baselines(self, batch: Mapping[str, Any]) -> dict[str, dict[str, jax.Array]]:
        """Outputs of the stage's baselines for the same batch: name -> outputs."""
        return self._baselines(dict(batch), self.frozen)

    def axis(self, field: str, axis: int) -> int:
        """Length of one axis of a field in the batches that the stage was configured for."""
        return self.stage.batch_spec[field].shape[axis]
