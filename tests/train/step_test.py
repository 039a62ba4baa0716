"""One step: gradients, averages, and the same numbers however it is spread over devices."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy_stages

from talkinghead_jax.errors import UserError
from talkinghead_jax.nn import randomness
from talkinghead_jax.train import sharding
from talkinghead_jax.train.state import create
from talkinghead_jax.train.step import train_step


def _batch(step=0):
    return next(toy_stages.batches(step))


def _step(stage):
    return jax.jit(functools.partial(train_step, stage, 3))


def _run(stage, layout, steps=4):
    """Train a few steps under `layout` and bring the state home."""
    state = layout.create_state(functools.partial(create, stage), jax.random.key(0))
    frozen = layout.replicate(toy_stages.FROZEN)
    step = sharding.compile_step(functools.partial(train_step, stage, 3), layout, state, frozen, stage.batch_spec)
    with jax.transfer_guard('disallow'):
        for number in range(steps):
            state, scalars = step.call(state, frozen, layout.put_batch(_batch(number)))
    return jax.device_get((state, scalars))


def test_one_hot_cotangents_equal_separate_gradients():
    stage = toy_stages.gan(optax.sgd(1.0))
    state = create(stage, jax.random.key(0))
    new, scalars = _step(stage)(state, toy_stages.FROZEN, _batch())
    keys = randomness.example_keys(3, state.step, jnp.arange(toy_stages.BATCH))

    def loss(params, name):
        return stage.losses(params, state.model_state, toy_stages.FROZEN, _batch(), keys)[0][name]

    for name in ('gen', 'disc'):
        gradient = jax.jit(jax.grad(loss), static_argnums=1)(state.params, name)[name]
        taken = jax.tree.map(lambda a, b: a - b, state.params[name], new.params[name])
        chex.assert_trees_all_close(taken, gradient, atol=1e-6)
        np.testing.assert_allclose(scalars[f'gradient_norm/{name}'], optax.tree.norm(gradient), rtol=1e-5)
        np.testing.assert_allclose(scalars[f'loss/{name}'], loss(state.params, name), rtol=1e-6)


def test_scalars_are_float32_numbers():
    stage = toy_stages.gan()
    _, scalars = _step(stage)(create(stage, jax.random.key(0)), toy_stages.FROZEN, _batch())
    assert set(scalars) == {'loss/gen', 'loss/disc', 'gradient_norm/gen', 'gradient_norm/disc', 'fake_mean'}
    assert all(x.shape == () and x.dtype == jnp.float32 for x in scalars.values())


def test_moving_average_warms_up_and_exists_only_where_asked_for():
    stage = toy_stages.gan()
    state = create(stage, jax.random.key(0))
    assert set(state.ema) == {'gen'}
    average = state.params['gen']['kernel']
    step = _step(stage)
    for number, decay in enumerate([1 / 10, 2 / 11, 3 / 12]):
        state, _ = step(state, toy_stages.FROZEN, _batch(number))
        average = decay * average + (1 - decay) * state.params['gen']['kernel']
        np.testing.assert_allclose(state.ema['gen']['kernel'], average, rtol=1e-5)
    late = state.replace(step=jnp.int32(100_000))
    new, _ = step(late, toy_stages.FROZEN, _batch())
    np.testing.assert_allclose(new.ema['gen']['kernel'],
                               0.99 * late.ema['gen']['kernel'] + 0.01 * new.params['gen']['kernel'], rtol=1e-5)


def test_fine_tuning_starts_from_the_given_weights_and_leaves_them_alone():
    stage = toy_stages.gan()
    given = {'params': {'gen': {'kernel': jnp.full((8, 8), 2.0)}}, 'model_state': {'disc': {'mean': jnp.ones((8,))}}}
    layout = sharding.make_layout(devices=jax.devices()[:1])
    state = layout.create_state(functools.partial(create, stage), jax.random.key(0), given)
    fresh = create(stage, jax.random.key(0))
    chex.assert_trees_all_equal(state.params['gen'], given['params']['gen'])
    chex.assert_trees_all_equal(state.ema['gen'], given['params']['gen'])
    chex.assert_trees_all_equal(state.model_state['disc'], given['model_state']['disc'])
    chex.assert_trees_all_equal(state.params['disc'], fresh.params['disc'])
    jax.jit(lambda x: x, donate_argnums=0)(state)
    assert float(given['params']['gen']['kernel'].sum()) == 128.0


@pytest.mark.parametrize('make', [toy_stages.regression, toy_stages.gan])
def test_one_device_eight_devices_fsdp_and_pmap_agree(make, monkeypatch):
    monkeypatch.setattr(sharding, 'SMALLEST_SHARDED', 16)
    stage = make(optax.sgd(0.05))
    one = _run(stage, sharding.make_layout(devices=jax.devices()[:1]))
    for layout in (sharding.make_layout('sharded'), sharding.make_layout('sharded', fsdp=2),
                   sharding.make_layout('pmap')):
        chex.assert_trees_all_close(_run(stage, layout), one, atol=1e-5)


def test_large_arrays_are_split_by_fsdp_and_small_ones_copied():
    layout = sharding.make_layout('sharded', fsdp=2)
    tree = {'large': jax.ShapeDtypeStruct((3, 3, 32, 64), 'float32'), 'small': jax.ShapeDtypeStruct((64,), 'float32'),
            'odd': jax.ShapeDtypeStruct((81, 81), 'float32')}
    specs = {name: x.sharding.spec for name, x in layout.shard_state(tree).items()}
    assert specs['large'] == jax.sharding.PartitionSpec(None, None, None, 'fsdp')
    assert specs['small'] == specs['odd'] == jax.sharding.PartitionSpec()


def test_sharded_step_only_sums_over_devices():
    stage, layout = toy_stages.regression(), sharding.make_layout('sharded')
    state = layout.create_state(functools.partial(create, stage), jax.random.key(0))
    step = sharding.compile_step(functools.partial(train_step, stage, 3), layout, state,
                                 layout.replicate(toy_stages.FROZEN), stage.batch_spec)
    program = step.call.as_text()
    assert 'all-reduce' in program
    assert not any(name in program for name in ('all-gather', 'all-to-all', 'collective-permute'))


@pytest.mark.parametrize(('arguments', 'message'), [
    (('spmd',), "mode is 'spmd': use one of sharded, pmap"),
    (('pmap', 2), 'fsdp is 2, but mode pmap'),
    (('sharded', 3), 'fsdp is 3, which does not divide the number of devices, 8'),
])
def test_impossible_layouts_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        sharding.make_layout(*arguments)


def test_batch_size_must_divide_by_the_devices():
    with pytest.raises(UserError, match=r'config.toy.batch_size is 12.* 8 devices'):
        sharding.make_layout().check_batch_size('toy', 12)
