"""Every stage's train step, spread over eight devices: what they send each other, and that the numbers stay."""

import collections
import dataclasses
import functools
import math
import re

import chex
import generator_stage_test as generators
import jax
import learners_test as learners
import numpy as np
import optax
import pytest

from talkinghead_jax.stages.registry import make_stage
from talkinghead_jax.train import sharding
from talkinghead_jax.train.state import create
from talkinghead_jax.train.step import train_step

BATCH = 8
SIDE = 56  # px of the generator's images: no weight has a multiple of 7 x 7 numbers, so none looks like an image
RATE = 0.1  # of gradient descent
SMALLEST = 600  # numbers in an array that is split
STAGES = ('expression', 'head_motion', 'unprojection', 'generator')
# All-reduced arrays at most, in the programs as compiled here: without the passes that add up the gradients of a
# network's several uses, and put small messages into one. One is a gradient, or a part of it, or a mean or its
# denominator, or of one of the 13 batch normalisations of `unprojection` two moments or what flows back to them.
SUMS = {
    'expression': {'sharded': 26, 'fsdp': 34, 'pmap': 26},
    'head_motion': {'sharded': 132, 'fsdp': 148, 'pmap': 80},
    'unprojection': {'sharded': 83, 'fsdp': 85, 'pmap': 97},
    'generator': {'sharded': 192, 'fsdp': 215, 'pmap': 188},
}
MESSAGE = re.compile(r' = (\(.*?\)|\S+) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|'
                     r'collective-broadcast|ragged-all-to-all)(?:-start)?\(')


def messages(program):
    """(collective, how many numbers) -> times, from a compiled program.

    Numbers, not shapes: the compiler transposes and regroups the axes of a gradient before it sends it.
    """
    found = collections.Counter()
    for line in program.splitlines():
        match = MESSAGE.search(line)
        if match:
            for dims in re.findall(r'\w+\[([\d,]*)\]', match[1]):
                found[match[2], math.prod(int(n) for n in dims.split(',') if n)] += 1
    return found


def test_messages_are_read():
    program = ('  %a = (f32[8,3]{1,0}, /*index=1*/f32[]) all-reduce(%x, %y), metadata={op_name="all-gather"}\n'
               '  ROOT %b = s32[1,4]{1,0:T(8)} all-gather-start(%a)\n  %c = f32[2] add(%b, all-reduce.1)\n')
    assert messages(program) == {('all-reduce', 24): 1, ('all-reduce', 1): 1, ('all-gather', 4): 1}


def make(name):
    """A tiny stage trained by plain gradient descent, so that its parameters show its gradients; frozen; batch."""
    if name == 'generator':
        config = generators.tiny_config(SIDE)
        config.generator.batch_size = BATCH
        config.generator.data.references = 2
        config.generator.model.discriminator.update({'layers': 2, 'scales': 1})
        stage, frozen = make_stage(name, config, generators.AXES), generators.make_frozen()
        batch = generators.make_batch(SIDE, references=2, batch=BATCH)
    else:
        config = learners._config()
        config[name].batch_size = BATCH
        config.head_motion.losses.adversarial = 0.5
        config.unprojection.model.update({'momentum': 0.9, 'residual': False})  # batch statistics, as at full size
        stage, frozen = make_stage(name, config, learners.AXES), learners._frozen(config.image_size)
        # Weights whose sum is exact: a naive sum of two thousand times 0.6 has a relative error of 1e-5 itself.
        frozen['uv_weight'] = np.where(frozen['uv_weight'] > 1, np.float32(1), np.float32(0.5))
        batch = learners._batch(stage)
    players = tuple(dataclasses.replace(player, tx=optax.sgd(RATE), ema_decay=0.99) for player in stage.players)
    return dataclasses.replace(stage, players=players), jax.device_get(frozen), _uneven(jax.device_get(batch))


def _uneven(batch):
    """`batch` with other masks on each device: fewer frames or references in some examples, and one only pads."""
    for name in {'frame_mask', 'context_mask', 'reference_mask'} & batch.keys():
        frames = batch[name].shape[1]
        lengths = np.random.default_rng(12).integers(frames // 2, frames, BATCH, endpoint=True)
        assert len(set(lengths)) > 1
        count = np.arange(frames)[::-1] if name == 'context_mask' else np.arange(frames)  # its last frames count
        batch[name] = count[None] < lengths[:, None]
    batch['mask'] = np.arange(BATCH) != 3
    return batch


def place(abstract, layout):
    """A state of random weights; `init` would take longer to compile, and starts the flow heads at zero."""
    rng = np.random.default_rng(0)

    def fill(path, x):
        if x.dtype != np.float32 or path[0].name == 'model_state':  # variances want to be positive
            return np.full(x.shape, path[0].name == 'model_state', x.dtype)
        return rng.normal(scale=math.prod(x.shape[:-1]) ** -0.5, size=x.shape).astype(x.dtype)

    abstract = layout.shard_state(abstract)
    values = jax.tree_util.tree_map_with_path(fill, abstract)
    return jax.device_put(values, jax.tree.map(lambda x: x.sharding, abstract))


@functools.cache
def run(name, layout, accumulate=1):
    """The compiled program's text, its weights' sizes (split ones apart), and the state and scalars after a step."""
    stage, frozen, batch = make(name)
    frozen = layout.replicate(frozen)
    state = place(jax.eval_shape(functools.partial(create, stage), jax.random.key(0)), layout)
    weights = jax.tree.leaves((state.params, state.model_state))
    split = collections.Counter(x.size for x in weights if not x.sharding.is_fully_replicated)
    step = functools.partial(train_step, stage, 0, accumulate=accumulate)
    step = sharding.compile_step(step, layout, state, frozen, stage.batch_spec)
    sizes = {x.size for x in weights}
    assert not any(size % 49 == 0 for size in sizes)
    return step.call.as_text(), sizes, split, jax.device_get(step.call(state, frozen, layout.put_batch(batch)))


@pytest.fixture(autouse=True)
def _quick(monkeypatch, quickly_compiled):
    """Split every array of some size, and do not spend minutes on machine code that runs once."""
    monkeypatch.setattr(sharding, 'SMALLEST_SHARDED', SMALLEST)


def kinds(program):
    """collective -> how many arrays go through it."""
    found = collections.Counter()
    for (kind, _), times in messages(program).items():
        found[kind] += times
    return found


@pytest.mark.parametrize('name', STAGES)
@pytest.mark.parametrize('mode', sharding.MODES)
def test_devices_send_only_gradients_and_means(name, mode):
    program, weights, _, (state, _) = run(name, sharding.make_layout(mode))
    found = kinds(program)
    assert set(found) == {'all-reduce'}
    assert len(jax.tree.leaves(state.params)) <= found['all-reduce'] <= SUMS[name][mode]
    moments = {2 * size for size in weights} if mode == 'pmap' else set()  # of a batch, both in one message
    assert {size for _, size in messages(program)} <= weights | moments | {1}


@pytest.mark.parametrize('name', STAGES)
def test_split_weights_are_gathered_once_and_examples_never(name):
    program, weights, split, _ = run(name, sharding.make_layout(fsdp=2))
    found = messages(program)
    assert set(kinds(program)) == {'all-reduce', 'all-gather'}
    gathered = collections.Counter({size: times for (kind, size), times in found.items() if kind == 'all-gather'})
    assert split
    assert collections.Counter({size: times for size, times in gathered.items() if size >= SMALLEST}) == split
    # The compiler may split and gather what is small, too: the vectors of a power iteration.
    assert set(gathered) <= weights
    assert (gathered - split).total() <= 1
    assert {size for kind, size in found if kind == 'all-reduce'} <= weights | {size // 2 for size in split} | {1}
    assert kinds(program)['all-reduce'] <= SUMS[name]['fsdp']


@pytest.mark.parametrize('name', STAGES)
def test_eight_devices_compute_what_one_does_however_they_share_the_work(name):
    """Parameters and averages after a step of gradient descent, statistics, losses and their terms."""
    *_, one = run(name, sharding.make_layout(devices=jax.devices()[:1]))
    assert all(math.isfinite(value) for value in one[1].values())
    assert one[0].ema
    for layout in (sharding.make_layout(), sharding.make_layout(fsdp=2), sharding.make_layout('pmap')):
        *_, eight = run(name, layout)
        chex.assert_trees_all_close(eight, one, rtol=1e-5, atol=1e-5)


def test_microbatches_move_no_examples():
    """Four devices with two examples each, one a microbatch."""
    program, weights, *_ = run('expression', sharding.make_layout(devices=jax.devices()[:4]), accumulate=2)
    assert set(kinds(program)) == {'all-reduce'}
    assert kinds(program)['all-reduce'] <= SUMS['expression']['sharded']
    assert {size for _, size in messages(program)} <= weights | {1}
