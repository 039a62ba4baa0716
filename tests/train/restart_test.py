"""A run that is killed and started again ends in the very parameters of a run that was left alone."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import chex
import jax
import pytest
import toy_stages

from talkinghead_jax.train import checkpoint, history, loop, sharding

HERE = pathlib.Path(__file__).resolve().parent
STEPS = 60


def _finish(workdir):
    config = toy_stages.config(steps=STEPS)
    config.log.update({'every_steps': 4, 'checkpoint_every_steps': 8})
    return loop.train(toy_stages.gan(), config, toy_stages.FROZEN, toy_stages.batches, workdir, progress=False,
                      layout=sharding.make_layout(devices=jax.devices()[:1]))


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
    return _finish(tmp_path_factory.mktemp('uninterrupted'))


def _start_and_kill(workdir, number, rng):
    """Start the toy run, wait until it has logged a few steps, and send it `number` at a random moment."""
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(HERE.parent.parent), str(HERE)])}
    process = subprocess.Popen([sys.executable, str(HERE / 'toy_run.py'), str(workdir), '0.02'], env=environment,
                               stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not any(row['step'] >= 8 for row in history.read(workdir, 'toy')):
            assert process.poll() is None, 'the run ended by itself'
            assert time.monotonic() < deadline, 'the run does not get going'
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.6))
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, output


def _kill_and_compare(workdir, number, rng, uninterrupted):
    code, output = _start_and_kill(workdir, number, rng)
    if number == signal.SIGTERM:
        assert code == 128 + signal.SIGTERM
        saved = checkpoint.load_for_inference(workdir, 'toy').step
        assert f'has saved step {saved};' in output
    else:
        assert code == -number
    chex.assert_trees_all_equal(jax.device_get(_finish(workdir)), jax.device_get(uninterrupted))
    steps = [row['step'] for row in history.read(workdir, 'toy') if 'loss/gen' in row]
    assert steps == sorted(set(steps))
    assert set(range(4, STEPS + 1, 4)) <= set(steps)


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_ends_bit_for_bit_where_an_uninterrupted_one_does(tmp_path, number, uninterrupted):
    _kill_and_compare(tmp_path, number, random.Random(), uninterrupted)


@pytest.mark.soak
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize('repetition', range(5))
def test_many_killed_runs(tmp_path, number, repetition, uninterrupted):
    _kill_and_compare(tmp_path, number, random.Random(repetition), uninterrupted)
