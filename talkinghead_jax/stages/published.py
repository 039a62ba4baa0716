"""Published networks that stages are trained against: from the user's assets into `frozen`."""

from typing import Any

from talkinghead_jax.errors import UserError
from talkinghead_jax.stages.base import Stage
from third_party import assets, convert

_WITHOUT = {'vgg19': '--config.generator.losses.perceptual.weight=0'}


def load(stage: Stage) -> dict[str, Any]:
    """The published networks that `stage` names in `frozen_fields`: name -> nested dict of arrays.

    Raises:
      UserError: one is missing or damaged; says where to get it, and how to train without it.
    """
    return {name: _load(name) for name in stage.frozen_fields if name in convert.NETWORKS}


def _load(name: str) -> dict[str, Any]:
    try:
        return assets.load(name)
    except (FileNotFoundError, ValueError) as error:
        raise UserError(f'{error}; {convert.instructions(name)}; {_WITHOUT[name]} trains without it') from error
