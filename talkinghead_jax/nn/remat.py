"""Gradient checkpointing: compute activations again in the backward pass instead of keeping them.

Chen et al., "Training Deep Nets with Sublinear Memory Cost" (2016).
"""

from typing import Any, TypeVar

import flax.linen as nn
import jax

Module = TypeVar('Module', bound=type[nn.Module])
MODES = ('', 'light', 'full')
_HEAVY = {'conv_general_dilated', 'dot_general'}


def checkpointed(module: Module, mode: str) -> Module:
    """`module` with the same parameters, values and gradients, whose backward pass needs less memory.

    Its instances need a name of their own, as an automatic one would tell the mode.

    Args:
      module: a class of modules.
      mode: '' keeps every activation; 'light' keeps the results of convolutions and matrix products and computes
        normalisations and activations again; 'full' keeps only what enters and leaves the module.
    """
    if not mode:
        return module
    return nn.remat(module, policy=_keep_heavy if mode == 'light' else jax.checkpoint_policies.nothing_saveable)


def _keep_heavy(primitive: Any, *_: Any, **__: Any) -> bool:
    """What costs much arithmetic for its size is worth its memory."""
    return primitive.name in _HEAVY
