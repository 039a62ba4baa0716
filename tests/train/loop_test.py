"""The loop: it learns, compiles once, resumes, stops on NaN, and keeps its records in order."""

import dataclasses
import signal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_stages

from talkinghead_jax.errors import UserError
from talkinghead_jax.train import checkpoint, failures, history, loop, preemption, sharding


def _train(workdir, stage=None, config=None, frozen=toy_stages.FROZEN, devices=1, **kwargs):
    layout = sharding.make_layout(kwargs.pop('mode', 'sharded'), devices=jax.devices()[:devices])
    return loop.train(stage or toy_stages.gan(), config or toy_stages.config(), frozen, toy_stages.batches, workdir,
                      progress=False, layout=layout, **kwargs)


def _forbidden(*_):
    raise AssertionError('must not be called')


def test_loss_falls_and_history_tells_it(tmp_path):
    state = _train(tmp_path, toy_stages.regression(), toy_stages.config(steps=60))
    rows = history.read(tmp_path, 'toy')
    assert int(state.step) == 60
    assert rows[0]['step'] == 0
    assert rows[0]['timing/compile_seconds'] > 0
    assert rows[0]['timing/flops_per_step'] > 2 * toy_stages.BATCH * toy_stages.FEATURES  # of the forward pass alone
    assert [row['step'] for row in rows[1:]] == list(range(5, 61, 5))
    assert rows[-1]['loss/net'] < 0.2 * rows[1]['loss/net']
    assert {'l2', 'gradient_norm/net', 'timing/seconds_per_step', 'timing/data_wait_share'} <= set(rows[-1])
    assert 0 <= rows[-1]['timing/data_wait_share'] <= 1
    assert rows[-1]['timing/examples_per_second'] * rows[-1]['timing/seconds_per_step'] == pytest.approx(16)
    assert list((tmp_path / 'logs' / 'toy').glob('events.out.tfevents.*'))


def test_step_is_traced_once(tmp_path):
    stage, traces = toy_stages.regression(), []

    def losses(*args):
        traces.append(1)
        return toy_stages.regression().losses(*args)
    _train(tmp_path, dataclasses.replace(stage, losses=losses), toy_stages.config(steps=30))
    assert len(traces) == 1


def test_a_finished_run_returns_at_once(tmp_path, monkeypatch):
    done = _train(tmp_path)
    monkeypatch.setattr(sharding, 'compile_step', _forbidden)
    again = loop.train(toy_stages.gan(), toy_stages.config(), toy_stages.FROZEN, _forbidden, tmp_path,
                       layout=sharding.make_layout(devices=jax.devices()[:1]))
    chex.assert_trees_all_equal(again, done)


@pytest.mark.parametrize(('first', 'second'), [((8, 'sharded'), (1, 'sharded')), ((1, 'sharded'), (8, 'pmap'))])
def test_a_checkpoint_goes_on_with_other_devices(tmp_path, first, second):
    whole = _train(tmp_path / 'whole')
    part = _train(tmp_path / 'parts', steps=10, devices=first[0], mode=first[1])
    assert int(part.step) == 10
    parts = _train(tmp_path / 'parts', devices=second[0], mode=second[1])
    chex.assert_trees_all_close(jax.device_get(parts), jax.device_get(whole), atol=1e-5)
    assert [row['step'] for row in history.read(tmp_path / 'parts', 'toy')] == [0, 5, 10, 10, 15, 20]


def test_nan_stops_the_run_after_writing_and_keeps_the_last_good_checkpoint(tmp_path):
    with pytest.raises(UserError, match=r'stage toy: loss/net is nan at step 18, within steps 16 to 20'):
        _train(tmp_path, toy_stages.regression(nan_at=17))
    rows = history.read(tmp_path, 'toy')
    assert rows[-1]['step'] == 20
    assert np.isnan(rows[-1]['loss/net'])
    assert checkpoint.load_for_inference(tmp_path, 'toy').step == 10


def _with_gradient_of_nan(at):
    """The regression, whose loss stays finite while the gradient of step at + 1 does not."""
    stage = toy_stages.regression()

    def losses(params, model_state, *rest):
        values, aux = stage.losses(params, model_state, *rest)
        spoilt = jnp.where(model_state['net']['count'] == at, 0.0, 1.0) + 0.0 * jnp.sum(params['net']['bias'])
        return {'net': values['net'] + jnp.sqrt(spoilt)}, aux  # at 0 the root is infinitely steep, and times 0 nan
    return dataclasses.replace(stage, losses=losses)


def test_a_run_that_is_asked_to_stop_does_not_save_nan(tmp_path, monkeypatch):
    monkeypatch.setattr(preemption.Watch, 'requested_at', lambda watch, step: step == 18)
    with pytest.raises(failures.NotFiniteError, match=r'gradient_norm/net is nan at step 18, within steps 16 to 18'):
        _train(tmp_path, _with_gradient_of_nan(17))
    assert history.read(tmp_path, 'toy')[-1]['step'] == 18
    assert np.isfinite(history.read(tmp_path, 'toy')[-1]['l2'])
    assert checkpoint.load_for_inference(tmp_path, 'toy').step == 10


def test_a_signal_during_the_last_save_is_heard(tmp_path, monkeypatch):
    save = checkpoint.Checkpoints.save

    def interrupted(self, step, state):
        save(self, step, state)
        if step == 20:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)  # schedulers repeat themselves
    monkeypatch.setattr(checkpoint.Checkpoints, 'save', interrupted)
    with pytest.raises(preemption.PreemptedError, match='has saved step 20'):
        _train(tmp_path)
    assert checkpoint.load_for_inference(tmp_path, 'toy').step == 20


def test_data_errors_reach_the_user(tmp_path):
    def broken(first_step):
        yield next(toy_stages.batches(first_step))
        raise UserError('shard 3 is truncated')
    with pytest.raises(UserError, match='shard 3 is truncated'):
        loop.train(toy_stages.gan(), toy_stages.config(), toy_stages.FROZEN, broken, tmp_path, progress=False,
                   layout=sharding.make_layout(devices=jax.devices()[:1]))


def test_batch_size_is_checked_against_the_devices(tmp_path):
    with pytest.raises(UserError, match=r'batch_size is 16.* 3 devices'):
        _train(tmp_path, devices=3)


def test_history_drops_what_lies_beyond_the_restored_step_and_broken_lines(tmp_path):
    file = history.path(tmp_path, 'toy')
    file.parent.mkdir(parents=True)
    for step in (5, 10, 15):
        history.append(file, step, {'loss/net': float(step)})
    with file.open('a') as stream:
        stream.write('{"step": 2')
    history.rewind(file, 10)
    assert history.read(tmp_path, 'toy') == [{'step': 5, 'loss/net': 5.0}, {'step': 10, 'loss/net': 10.0}]
    assert history.read(tmp_path, 'never_trained') == []
