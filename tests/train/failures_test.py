"""What spoils a run is told in one sentence: numbers that are not finite, memory that does not suffice, no data."""

import dataclasses
import logging
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_stages
from ml_collections import ConfigDict

from talkinghead_jax.train import failures, loop, sharding

TOO_MUCH = 2 ** 23, 2 ** 23  # of float32: more bytes than a process has addresses, so that no machine tries
GPU = 'RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9.33GiB.\nBufferAssignment OOM Debugging.\n'
TPU = ('RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 17.20G of '
       '15.75G hbm. Exceeded hbm capacity by 1.45G.\n\nTotal hbm usage >= 17.70G:\n    reserved 530.00M')
FULL = ('RESOURCE_EXHAUSTED: Attempting to allocate 2.00G. That was not possible. There are 1.22G free.; '
        '(0x0x0_HBM0)')


@pytest.mark.parametrize(('values', 'told'), [
    ({'l2': [1, 2, 3], 'loss/net': [1, np.inf, 3]}, 'loss/net is infinite at step 12, within steps 11 to 13'),
    ({'loss/net': [1, 2, 3], 'gradient_norm/net': [1, 2, np.nan]}, 'gradient_norm/net is nan at step 13'),
    ({'a': [1, np.nan, 3], 'loss/net': [1, -np.inf, 3]}, 'loss/net is infinite at step 12'),  # a loss first
    ({'a': [np.nan, 2, 3], 'loss/net': [1, np.nan, 3]}, 'a is nan at step 11'),
])
def test_the_first_scalar_that_is_not_finite_is_named(values, told):
    with pytest.raises(failures.NotFiniteError, match=f'^stage toy: {told}'):
        failures.raise_if_not_finite('toy', 10, {name: np.asarray(x, np.float32) for name, x in values.items()})


def test_finite_scalars_pass():
    failures.raise_if_not_finite('toy', 0, {'loss/net': np.array([1e38, -1e-45], np.float32)})


def _layout(devices=1, mode='sharded', fsdp=1):
    return sharding.make_layout(mode, fsdp, jax.devices()[:devices])


def _sum_of_too_much(x):
    numbers = jax.lax.stop_gradient(x) * jax.lax.broadcasted_iota(jnp.float32, TOO_MUCH, 0)
    return jnp.sum(jnp.sort(numbers, axis=0)[0, :2])  # nobody computes a sorted array piece by piece


def _with_losses_of_too_much(stage):
    def losses(params, *rest):
        values, (state, terms) = stage.losses(params, *rest)
        return values, (state, {**terms, 'sum': _sum_of_too_much(values['net'])})
    return dataclasses.replace(stage, losses=losses)


def _with_weights_of_too_much(stage):
    def init(key):
        params, state = stage.init(key)
        return {'net': {**params['net'], 'idle': jnp.zeros(TOO_MUCH)}}, state
    return dataclasses.replace(stage, init=init)


@pytest.mark.parametrize('spoil', [_with_losses_of_too_much, _with_weights_of_too_much])
def test_a_stage_that_takes_too_much_memory_ends_in_one_sentence(tmp_path, spoil):
    """The step's failure comes up where the loop waits for it, the weights' where they are made."""
    with pytest.raises(failures.OutOfMemoryError) as caught:
        loop.train(spoil(toy_stages.regression()), toy_stages.config(), toy_stages.FROZEN, toy_stages.batches,
                   tmp_path, progress=False, layout=_layout())
    sentence = str(caught.value)
    assert '\n' not in sentence
    assert sentence.startswith('stage toy takes more than the memory of its device with config.toy.batch_size 16, 16 '
                               'a device (Out of memory allocating ')
    assert sentence.endswith("raise config.toy.accumulate, now 1; or lower config.toy.batch_size; or set "
                             "config.dtype to 'bfloat16'")


def _explained(message, layout, dtype='float32', **stage):
    config = ConfigDict({'dtype': dtype, 'generator': {'model': {'remat': ''}, **stage}})
    with failures.out_of_memory_explained('generator', 8, config, layout):
        raise jax.errors.JaxRuntimeError(message)


@pytest.mark.parametrize(('message', 'told'), [(GPU, 'Out of memory while trying to allocate 9.33GiB'),
                                               (TPU, 'Ran out of memory in memory space hbm. Used 17.20G of 15.75G'),
                                               (FULL, 'Attempting to allocate 2.00G. That was not possible.')])
def test_what_saves_memory_is_recommended(message, told):
    with pytest.raises(failures.OutOfMemoryError) as caught:
        _explained(message, _layout(4), accumulate=1)
    sentence = str(caught.value)
    assert 'config.generator.batch_size 8, 2 a device' in sentence
    assert told in sentence
    assert '\n' not in sentence
    for remedy in ('generator.accumulate, now 1', 'lower config.generator.batch_size', "remat to 'full'",
                   "config.dtype to 'bfloat16'", 'raise config.parallel.fsdp'):
        assert remedy in sentence


def test_what_is_in_use_already_is_not_recommended():
    with pytest.raises(failures.OutOfMemoryError) as caught:
        _explained(GPU, _layout(2, fsdp=2), 'bfloat16', accumulate=4, model={'remat': 'full'})
    assert str(caught.value).endswith('want devices with more memory, or a smaller config.generator.model')
    with pytest.raises(failures.OutOfMemoryError, match=r"parallel\.mode to 'sharded'"):
        _explained(GPU, _layout(2, 'pmap'))


@pytest.mark.parametrize('message', [
    'INTERNAL: something else', 'RESOURCE_EXHAUSTED: Received message larger than max (4718592 vs. 4194304)',
    'RESOURCE_EXHAUSTED: Failed to open "/data/part-00000": Too many open files'])
def test_other_failures_stay_what_they_are(message):
    with pytest.raises(jax.errors.JaxRuntimeError, match=re.escape(message)):
        _explained(message, _layout())


def test_waiting_for_data_is_told_once_and_not_of_the_first_window(caplog):
    warning = failures.WaitingWarning('expression')
    with caplog.at_level(logging.WARNING):
        for share in (0.9, 0.5, 0.1):
            warning.check(share)
        assert not caplog.messages
        warning.check(0.62)
        warning.check(0.99)
    assert len(caplog.messages) == 1
    assert 'stage expression waits for data for 62% of its time' in caplog.messages[0]
    assert 'more processes (config.data.loader_workers)' in caplog.messages[0]
    assert '\n' not in caplog.messages[0]
