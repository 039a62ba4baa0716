"""What one device holds of the state of each full-size stage; only shapes, nothing is computed."""

import functools
import math

import jax
import pytest

from configs import voxceleb2
from talkinghead_jax.stages.registry import make_stage
from talkinghead_jax.train import sharding
from talkinghead_jax.train.state import create

AXES = {'vertices': 478, 'triangles': 854, 'components': 20}
STAGES = ('expression', 'head_motion', 'unprojection', 'generator')


def _bytes(tree):
    """Of the parts of `tree` that one device holds."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


@pytest.mark.parametrize('name', STAGES)
def test_fsdp_of_two_nearly_halves_parameters_and_optimizer(name):
    stage = make_stage(name, voxceleb2.get_config(), AXES)
    abstract = jax.eval_shape(functools.partial(create, stage), jax.random.key(0))
    whole, split = (sharding.make_layout(fsdp=fsdp).shard_state(abstract) for fsdp in (1, 2))
    share = _bytes((split.params, split.opt_state)) / _bytes((whole.params, whole.opt_state))
    with_averages = _bytes((split.params, split.opt_state, split.ema)) / _bytes(
        (whole.params, whole.opt_state, whole.ema))
    assert 0.5 <= share <= 0.6
    assert 0.5 <= with_averages <= 0.6
    assert _bytes(whole) == sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(abstract))
