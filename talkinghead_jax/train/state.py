"""What training changes from step to step: arrays only, so that it can be sharded, donated and saved as it is."""

from typing import Any

import flax
import jax
import jax.numpy as jnp

from talkinghead_jax.stages.base import PerPlayer, Stage


@flax.struct.dataclass
class TrainState:
    """The state of one stage; every field but `step` is a dict from a player's name to a pytree of arrays.

    Attributes:
      step: () int32, optimizer steps done.
      params: what the optimizers train, float32.
      opt_state: the optimizers' own state.
      model_state: batch statistics and spectral-norm vectors; {} for a player that has none.
      ema: moving average of `params`, of those players only that have an `ema_decay`.
    """

    step: jax.Array
    params: PerPlayer
    opt_state: PerPlayer
    model_state: PerPlayer
    ema: PerPlayer


def create(stage: Stage, key: jax.Array, initial: dict[str, Any] | None = None) -> TrainState:
    """The state before the first step.

    Args:
      stage: what is trained.
      key: of the initial weights.
      initial: where to start instead, for fine-tuning: {'params': ..., 'model_state': ...}, each by player; a
        player that is missing there starts from `key`.

    Returns:
      A state whose buffers are all its own: the step donates it, and two names for one buffer cannot be donated.
    """
    params, model_state = stage.init(key)
    if initial:
        params = {**params, **initial.get('params', {})}
        model_state = {**model_state, **initial.get('model_state', {})}
    params, model_state = jax.tree.map(jnp.copy, (params, model_state))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state={player.name: player.tx.init(params[player.name]) for player in stage.players},
        model_state=model_state,
        ema={player.name: jax.tree.map(jnp.copy, params[player.name])
             for player in stage.players if player.ema_decay is not None},
    )
