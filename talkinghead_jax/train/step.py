"""One optimizer step of any stage: one forward pass, one gradient a player, averages, scalars for the log."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from talkinghead_jax.nn import randomness
from talkinghead_jax.stages.base import Arrays, PerPlayer, Player, Stage
from talkinghead_jax.train.state import TrainState


def train_step(stage: Stage, seed: int, state: TrainState, frozen: Arrays, batch: Arrays, *,
               axis_name: str | None = None) -> tuple[TrainState, Arrays]:
    """Advance every player of `stage` by one step, all from the same forward pass.

    Args:
      stage: what is trained.
      seed: the run's seed.
      state: the state before the step.
      frozen: arrays that are read but not trained.
      batch: fields of `stage.batch_spec`; under `pmap`, this device's share.
      axis_name: the `pmap` axis over which gradients, statistics and scalars are averaged; None under `jit`,
        where the batch is the global one and the compiler does it.

    Returns:
      The next state, and () float32 scalars: 'loss/PLAYER', 'gradient_norm/PLAYER' and the stage's own terms.
      Under `pmap` each is the mean over devices, so masked means weigh devices, not examples.
    """
    examples = jax.tree.leaves(batch)[0].shape[0]
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * examples
    keys = randomness.example_keys(seed, state.step, first + jnp.arange(examples, dtype=jnp.int32))

    def forward(params: PerPlayer) -> tuple[Arrays, tuple[PerPlayer, Arrays]]:
        return stage.losses(params, state.model_state, frozen, batch, keys)

    losses, pullback, (model_state, terms) = jax.vjp(forward, state.params, has_aux=True)
    gradients = {player.name: _gradient(pullback, losses, player.name) for player in stage.players}
    scalars = {f'loss/{name}': loss for name, loss in losses.items()} | terms
    gradients, model_state, scalars = _mean_over_devices((gradients, model_state, scalars), axis_name)

    params, opt_state, ema = dict(state.params), dict(state.opt_state), dict(state.ema)
    for player in stage.players:
        name = player.name
        updates, opt_state[name] = player.tx.update(gradients[name], state.opt_state[name], state.params[name])
        params[name] = optax.apply_updates(state.params[name], updates)
        scalars[f'gradient_norm/{name}'] = optax.tree.norm(gradients[name])
        if name in ema:
            ema[name] = _moving_average(player, state.step, state.ema[name], params[name])
    scalars = {name: jnp.asarray(value, jnp.float32) for name, value in scalars.items()}
    return TrainState(state.step + 1, params, opt_state, model_state, ema), scalars


def _gradient(pullback: Any, losses: Arrays, name: str) -> Any:
    """Gradient of one player's loss with respect to its own parameters: the cotangent is 1 there, else 0.

    The compiler removes what the zeros make idle, so the shared forward pass runs once, not once a player.
    """
    one_hot = {other: jnp.full_like(loss, other == name) for other, loss in losses.items()}
    return pullback(one_hot)[0][name]


def _mean_over_devices(tree: Any, axis_name: str | None) -> Any:
    """`pmean` of every float leaf; counters are equal everywhere and stay what they are."""
    if axis_name is None:
        return tree
    return jax.tree.map(
        lambda x: jax.lax.pmean(x, axis_name) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def _moving_average(player: Player, step: jax.Array, average: Any, params: Any) -> Any:
    """Exponential moving average with warm-up: early on, the initial weights would weigh too much."""
    decay = jnp.minimum(player.ema_decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, p: decay * a + (1.0 - decay) * p, average, params)
