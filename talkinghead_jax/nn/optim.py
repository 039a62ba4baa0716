"""The optimizer that every stage uses: Adam, constant learning rate, then linear decay to zero."""

import optax
from ml_collections import ConfigDict


def learning_rate_schedule(optim: ConfigDict, steps: int) -> optax.Schedule:
    """Constant for `optim.constant_share` of `steps`, then linear to zero (schedule of [32] in the paper)."""
    constant = round(optim.get('constant_share', 0.5) * steps)
    decay = optax.linear_schedule(optim.learning_rate, 0.0, max(steps - constant, 1))
    return optax.join_schedules([optax.constant_schedule(optim.learning_rate), decay], [constant])


def make_optimizer(optim: ConfigDict, steps: int) -> optax.GradientTransformation:
    """Adam with `learning_rate_schedule`.

    Args:
      optim: `learning_rate`, `b1`, `b2`; optional `constant_share` (default 0.5) and `clip`, the largest global
        norm of a gradient (default 0: not clipped).
      steps: total number of training steps; the learning rate is 0 from there on.
    """
    adam = optax.adam(learning_rate_schedule(optim, steps), b1=optim.b1, b2=optim.b2)
    clip = optim.get('clip', 0.0)
    return optax.chain(optax.clip_by_global_norm(clip), adam) if clip else adam
