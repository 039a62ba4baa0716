"""A trained stage, ready to be called."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax

from talkinghead_jax.errors import UserError
from talkinghead_jax.stages import registry
from talkinghead_jax.stages.base import Stage
from talkinghead_jax.train import checkpoint


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
    def _parts(self) -> dict[str, Callable[..., dict[str, jax.Array]]]:
        return {name: jax.jit(part) for name, part in self.stage.parts.items()}

    def part(self, name: str, batch: Mapping[str, Any]) -> dict[str, jax.Array]:
        """Outputs of one of the stage's `parts`."""
        return self._parts[name](self.params, self.model_state, self.frozen, dict(batch))

    @functools.cached_property
    def _baselines(self) -> Callable[..., dict[str, dict[str, jax.Array]]]:
        return jax.jit(self.stage.baselines)

    def baselines(self, batch: Mapping[str, Any]) -> dict[str, dict[str, jax.Array]]:
        """Outputs of the stage's baselines for the same batch: name -> outputs."""
        return self._baselines(dict(batch), self.frozen)

    def axis(self, field: str, axis: int) -> int:
        """Length of one axis of a field in the batches that the stage was configured for."""
        return self.stage.batch_spec[field].shape[axis]


def restore(workdir: str | os.PathLike, name: str) -> tuple[Network, checkpoint.Inference]:
    """The last checkpoint of a stage, with the config that it was trained with.

    Raises:
      UserError: there is none, or another version of this program trained it.
    """
    inference = checkpoint.load_for_inference(workdir, name)
    vertices = int(inference.dataset['uv_mask'].sum()) if 'uv_mask' in inference.dataset else 0
    try:
        return make_network(name, inference, inference.dataset, vertices), inference
    except (AttributeError, KeyError) as error:  # of its config, in which newer versions look for more
        path = pathlib.Path(workdir) / 'checkpoints' / name
        raise UserError(f'{path} was trained by another version of this program ({error}); train it anew, in another '
                        '--workdir') from error


def make_network(name: str, inference: checkpoint.Inference, frozen: Mapping[str, Any], vertices: int) -> Network:
    """A stage from trained parameters, for meshes of `vertices` points and the topology in `frozen`."""
    stage = registry.make_stage(name, inference.config, stage_axes(frozen, vertices))
    return Network(stage, inference.params, inference.model_state, frozen)


def stage_axes(frozen: Mapping[str, Any], vertices: int) -> dict[str, int]:
    """What `registry.make_stage` asks of a dataset, from its metadata."""
    return {'vertices': vertices, 'triangles': len(frozen['triangles']),
            'components': len(frozen.get('pca_basis', ()))}  # position maps alone have none
