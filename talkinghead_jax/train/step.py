"""One optimizer step of any stage: one forward pass, one gradient a player, averages, scalars for the log."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from talkinghead_jax.nn import randomness
from talkinghead_jax.stages.base import Arrays, PerPlayer, Player, Stage
from talkinghead_jax.train.state import TrainState


def train_step(stage: Stage, seed: int, state: TrainState, frozen: Arrays, batch: Arrays, *,
               axis_name: str | None = None, accumulate: int = 1) -> tuple[TrainState, Arrays]:
    """Advance every player of `stage` by one step, all from the same forward pass.

    Args:
      stage: what is trained.
      seed: the run's seed.
      state: the state before the step.
      frozen: arrays that are read but not trained.
      batch: fields of `stage.batch_spec`; under `pmap`, this device's share.
      axis_name: the `pmap` axis over which gradients, statistics and scalars are averaged; None under `jit`,
        where the batch is the global one and the compiler does it.
      accumulate: M, a divisor of the batch (of each device's share). The batch is computed in M microbatches of
        B / M examples, one after the other, and the results are averaged: less memory, more time. The numbers are
        those of M = 1 but for what a microbatch shares: masked means weigh microbatches, not examples; batch
        statistics are of a microbatch, and the running ones move once, by the microbatches' mean. `pmap` sums
        gradients over devices once a step; under `jit` the compiler may do so once a microbatch.

    Returns:
      The next state, and () float32 scalars: 'loss/PLAYER', 'gradient_norm/PLAYER' and the stage's own terms.
      Under `pmap` each is the mean over devices, and masked means weigh examples, as under `jit`.
    """
    examples = jax.tree.leaves(batch)[0].shape[0]
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * examples
    places = first + jnp.arange(examples, dtype=jnp.int32)

    def compute(batch: Arrays, places: jax.Array) -> tuple[PerPlayer, PerPlayer, Arrays]:
        return _gradients(stage, state, frozen, batch, randomness.example_keys(seed, state.step, places))

    gradients, model_state, scalars = _mean_over_devices(
        _mean_over_microbatches(compute, accumulate, batch, places), axis_name)

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


def _gradients(stage: Stage, state: TrainState, frozen: Arrays, batch: Arrays,
               keys: jax.Array) -> tuple[PerPlayer, PerPlayer, Arrays]:
    """Each player's gradient, the next model state and the scalars of one batch."""
    def forward(params: PerPlayer) -> tuple[Arrays, tuple[PerPlayer, Arrays]]:
        return stage.losses(params, state.model_state, frozen, batch, keys)

    losses, pullback, (model_state, terms) = jax.vjp(forward, state.params, has_aux=True)
    gradients = {player.name: _gradient(pullback, losses, player.name) for player in stage.players}
    return gradients, model_state, {f'loss/{name}': loss for name, loss in losses.items()} | terms


def _gradient(pullback: Any, losses: Arrays, name: str) -> Any:
    """Gradient of one player's loss with respect to its own parameters: the cotangent is 1 there, else 0.

    The compiler removes what the zeros make idle, so the shared forward pass runs once, not once a player.
    """
    one_hot = {other: jnp.full_like(loss, other == name) for other, loss in losses.items()}
    return pullback(one_hot)[0][name]


def _mean_over_microbatches(compute: Callable[..., Any], count: int, *arrays: Any) -> Any:
    """Mean of `compute` over the microbatches of `arrays`, (B, ...) each; counters as of the last one.

    Microbatch m has the examples m, m + count, m + 2 count ...: some of each device's, so that none has to move.
    """
    if count == 1:
        return compute(*arrays)
    parts = jax.tree.map(lambda x: x.reshape(x.shape[0] // count, count, *x.shape[1:]), arrays)

    def microbatch(m: jax.Array) -> Any:
        return compute(*jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, m, 1, keepdims=False), parts))

    def add(sums: Any, m: jax.Array) -> tuple[Any, None]:
        return jax.tree.map(lambda total, x: total + x / count if _is_float(x) else x, sums, microbatch(m)), None

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(microbatch, 0))
    return jax.lax.scan(add, zeros, jnp.arange(count))[0]


def _mean_over_devices(tree: Any, axis_name: str | None) -> Any:
    """`pmean` of every float leaf; counters are equal everywhere and stay what they are."""
    if axis_name is None:
        return tree
    return jax.tree.map(lambda x: jax.lax.pmean(x, axis_name) if _is_float(x) else x, tree)


def _is_float(x: jax.Array) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)


def _moving_average(player: Player, step: jax.Array, average: Any, params: Any) -> Any:
    """Exponential moving average with warm-up: early on, the initial weights would weigh too much."""
    decay = jnp.minimum(player.ema_decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, p: decay * a + (1.0 - decay) * p, average, params)
