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
PATIENCE = 600  # s
MORE = 20  # steps after the last that the killed run has saved


def _finish(workdir, steps):
    config = toy_stages.config(steps=steps)
    config.log.update({'every_steps': 4, 'checkpoint_every_steps': 8})
    return loop.train(toy_stages.gan(), config, toy_stages.FROZEN, toy_stages.batches, workdir, progress=False,
                      layout=sharding.make_layout(devices=jax.devices()[:1]))


def _start_and_kill(workdir, number, rng):
    """Start the toy run, wait until it has logged a few steps, and send it `number` at a random moment.

    SIGKILL, which asks nobody, comes while a checkpoint is being written.
    """
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(HERE.parent.parent), str(HERE)])}
    process = subprocess.Popen([sys.executable, str(HERE / 'toy_run.py'), f'{workdir}:sharded:1', '--pause=0.02',
                                '--steps=1000000'], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + PATIENCE
        while not any(row['step'] >= 8 for row in history.read(workdir, 'toy')):
            assert process.poll() is None, 'the run ended by itself'
            assert time.monotonic() < deadline, 'the run does not get going'
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.6))
        while number == signal.SIGKILL and not _unfinished(workdir):
            assert process.poll() is None, 'the run ended by itself'
            time.sleep(0.001)  # a checkpoint takes longer
        process.send_signal(number)
        output, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, output


def _unfinished(workdir):
    """What lies beside whole checkpoints: what is being written, or was found broken."""
    return [path for path in checkpoint.directory(workdir, 'toy').glob('*') if not path.name.isdigit()]


def _kill_and_compare(workdir, number, rng):
    killed, whole = workdir / 'killed', workdir / 'whole'
    code, output = _start_and_kill(killed, number, rng)
    saved = checkpoint.load_for_inference(killed, 'toy').step
    if number == signal.SIGTERM:
        assert code == 128 + signal.SIGTERM
        assert f'has saved step {saved};' in output
    else:
        assert code == -number
    ended, uninterrupted = (jax.device_get(_finish(folder, saved + MORE)) for folder in (killed, whole))
    assert ended.step == saved + MORE
    chex.assert_trees_all_equal(ended, uninterrupted)
    assert not _unfinished(killed)
    steps = [row['step'] for row in history.read(killed, 'toy') if 'loss/gen' in row]
    assert steps == sorted(set(steps))
    assert set(range(4, saved + MORE + 1, 4)) <= set(steps)


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_ends_bit_for_bit_where_an_uninterrupted_one_does(tmp_path, number):
    _kill_and_compare(tmp_path, number, random.Random())


@pytest.mark.soak
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize('repetition', range(5))
def test_many_killed_runs(tmp_path, number, repetition):
    _kill_and_compare(tmp_path, number, random.Random(repetition))
