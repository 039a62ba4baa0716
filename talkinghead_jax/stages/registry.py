"""The four stages by name."""

import importlib
from collections.abc import Mapping

from ml_collections import ConfigDict

from talkinghead_jax.errors import UserError
from talkinghead_jax.stages.base import Stage

STAGES = ('unprojection', 'expression', 'head_motion', 'generator')


def make_stage(name: str, config: ConfigDict, dataset_axes: Mapping[str, int]) -> Stage:
    """Build a stage.

    Args:
      name: one of `STAGES`.
      config: the whole config; `config.<name>` is the stage's own part.
      dataset_axes: 'vertices', 'triangles' and 'components' of the dataset.

    Raises:
      UserError: no stage has that name.
    """
    if name not in STAGES:
        raise UserError(f'unknown stage {name!r}; want one of {", ".join(STAGES)}')
    module = importlib.import_module(f'talkinghead_jax.stages.{name}')  # only what is asked for is imported
    return module.make(config, dataset_axes)
