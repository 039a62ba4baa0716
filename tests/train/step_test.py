"""One step: gradients, averages, and the same numbers however it is spread over devices."""

import dataclasses
import functools
import re
import types

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


def _compiled(stage, layout, accumulate=1):
    """State, frozen arrays and step."""
    state = layout.create_state(functools.partial(create, stage), jax.random.key(0))
    frozen = layout.replicate(toy_stages.FROZEN)
    step = functools.partial(train_step, stage, 3, accumulate=accumulate)
    return state, frozen, sharding.compile_step(step, layout, state, frozen, stage.batch_spec)


def _run(stage, layout, steps=4):
    """Train a few steps under `layout` and bring the state home."""
    return _trained(*_compiled(stage, layout), layout, steps)


def _trained(state, frozen, step, layout, steps):
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


@pytest.mark.parametrize(('make', 'arguments'), [
    (toy_stages.regression, {'devices': jax.devices()[:1]}), (toy_stages.gan, {}),
    (toy_stages.gan, {'fsdp': 2}), (toy_stages.gan, {'mode': 'pmap'})])
def test_microbatches_change_nothing(make, arguments, monkeypatch, quickly_compiled):
    """State with averages and counters, draws, scalars; nor does a microbatch send what the whole batch does not."""
    monkeypatch.setattr(sharding, 'SMALLEST_SHARDED', 16)
    stage, layout = make(optax.sgd(0.05)), sharding.make_layout(**arguments)
    state, frozen, step = _compiled(stage, layout, accumulate=2)
    chex.assert_trees_all_close(_trained(state, frozen, step, layout, 2), _whole_batch(make), atol=1e-5)
    sent = set(re.findall(r' (all-\S+|reduce-scatter|collective-\S+)\(', step.call.as_text()))
    assert sent <= {'all-reduce'} | ({'all-gather'} if 'fsdp' in arguments else set())


@functools.cache
def _whole_batch(make):
    return _run(make(optax.sgd(0.05)), sharding.make_layout(devices=jax.devices()[:1]), 2)


def test_only_a_divisor_of_each_devices_share_can_be_accumulated():
    layout = sharding.make_layout()
    layout.check_batch_size('toy', 32, 2)
    for accumulate in (0, 3, 8):
        with pytest.raises(UserError, match=rf'config.toy.accumulate is {accumulate}, .*32, gives .* 4 exam'):
            layout.check_batch_size('toy', 32, accumulate)


def test_devices_are_in_the_order_of_processes_whose_rows_lie_together():
    device = dataclasses.make_dataclass('Device', ['process_index', 'id'], frozen=True)
    devices = [device(process, number) for number, process in enumerate([1, 0, 1, 0, 0, 0, 1, 1])]
    mesh = sharding.make_layout(fsdp=2, devices=devices).mesh
    assert [d.id for d in mesh.devices.flat] == [1, 3, 4, 5, 0, 2, 6, 7]
    assert dict(mesh.shape) == {'data': 4, 'fsdp': 2}
    assert set(mesh.axis_types) == {jax.sharding.AxisType.Auto}


def test_operations_of_one_device_are_counted():
    count = [_compiled(toy_stages.regression(), sharding.make_layout(devices=jax.devices()[:n]))[-1].flops
             for n in (1, 8)]
    assert 0 < count[1] < count[0]
    for nothing in (None, [], [{}], {'flops': -1.0}):
        assert sharding._flops(types.SimpleNamespace(cost_analysis=lambda found=nothing: found)) == 0


def test_large_arrays_are_split_by_fsdp_and_small_ones_copied():
    layout = sharding.make_layout('sharded', fsdp=2)
    tree = {'large': jax.ShapeDtypeStruct((3, 3, 32, 64), 'float32'), 'small': jax.ShapeDtypeStruct((64,), 'float32'),
            'odd': jax.ShapeDtypeStruct((81, 81), 'float32')}
    specs = {name: x.sharding.spec for name, x in layout.shard_state(tree).items()}
    assert specs['large'] == jax.sharding.PartitionSpec(None, None, None, 'fsdp')
    assert specs['small'] == specs['odd'] == jax.sharding.PartitionSpec()


def test_sharded_step_only_sums_over_devices():
    *_, step = _compiled(toy_stages.regression(), sharding.make_layout('sharded'))
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
