"""Random initial weights from a single draw.

A draw for each of some hundred kernels makes compiling the initialisation slower than compiling the train step
(45 against 38 CPU seconds in the demo). So modules state only the standard deviation of their kernels, as
constants, and `initialize` multiplies all of them by one vector of normal numbers.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def deviation(scale: float = 1.0) -> Callable[..., jax.Array]:
    """For `kernel_init`: the deviation sqrt(scale / fan-in) of every weight (LeCun's for 1), to be randomised."""
    return lambda key, shape, dtype=jnp.float32: jnp.full(shape, math.sqrt(scale / math.prod(shape[:-1])), dtype)


Conv = functools.partial(nn.Conv, kernel_init=deviation())
Dense = functools.partial(nn.Dense, kernel_init=deviation())


SUBPIXELS = 'subpixels'  # name of the layers whose kernel (..., 4C) starts with four times the same numbers


def initialize(module: nn.Module, key: jax.Array, *inputs: Any) -> dict[str, Any]:
    """`module.init`, with every parameter called 'kernel' multiplied by normal numbers.

    Those of layers called `SUBPIXELS` are drawn once for all four subpixels (Aitken et al. 2017).
    """
    variables = module.init(key, *inputs)
    leaves, tree = jax.tree_util.tree_flatten_with_path(variables['params'])
    repeats = [_repeats(jax.tree_util.keystr(path)) for path, _ in leaves]
    sizes = [leaf.size // times if times else 0 for (_, leaf), times in zip(leaves, repeats, strict=True)]
    draw = jax.random.normal(key, (sum(sizes),))
    drawn, start = [], 0
    for (_, leaf), size, times in zip(leaves, sizes, repeats, strict=True):
        numbers = jnp.tile(draw[start:start + size].reshape(*leaf.shape[:-1], -1), times) if times else 1.0
        drawn.append(leaf * numbers)
        start += size
    return {**variables, 'params': jax.tree_util.tree_unflatten(tree, drawn)}


def _repeats(path: str) -> int:
    """How often the numbers of the parameter at `path` are repeated along its last axis; 0 for constants."""
    if not path.endswith("['kernel']"):
        return 0
    return 4 if path.endswith(f"['{SUBPIXELS}']['kernel']") else 1
