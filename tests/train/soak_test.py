"""Each real stage through launch.py, killed five times in one run: it ends where an uninterrupted run does."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from talkinghead_jax.train import checkpoint, fallback, history

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, 'XLA_FLAGS': ''}  # one device
STEPS = {'expression': 2000, 'head_motion': 1000, 'unprojection': 400, 'generator': 300}  # more than five kills take
KILLS = 5
PATIENCE = 600  # s
TINY = [
    '--config.synthetic.identities.train=4', '--config.synthetic.identities.validation=1',
    '--config.synthetic.identities.test=1', '--config.synthetic.clips=2', '--config.synthetic.frames=100',
    '--config.synthetic.position_maps=40', '--config.log.every_steps=1', '--config.log.checkpoint_every_steps=7',
    '--config.generator.model.width=4', '--config.generator.model.max_width=8',
]

pytestmark = pytest.mark.soak


def _command(stage: str, workdir: pathlib.Path, *arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / 'launch.py'), f'--config=configs/demo.py{stage and ":"}{stage}', *TINY,
            f'--workdir={workdir}', *(f'--config.{name}.steps={steps}' for name, steps in STEPS.items()), *arguments]


def _run(*arguments) -> None:
    result = subprocess.run(_command(*arguments), cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True,
                            timeout=900, check=False)
    assert result.returncode == 0, result.stderr[-4000:]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """The flag for a folder of prepared data."""
    workdir = tmp_path_factory.mktemp('data')
    _run('', workdir, '--mode=prepare')
    return f'--config.data.directory={workdir / "data"}'


@pytest.fixture(scope='module', params=STEPS)
def uninterrupted(request, data, tmp_path_factory):
    """(stage, the state that an uninterrupted run ends with)."""
    workdir = tmp_path_factory.mktemp(request.param)
    _run(request.param, workdir, data)
    return request.param, _state(workdir, request.param)


def _state(workdir: pathlib.Path, stage: str) -> dict:
    """All that the checkpoint of the last step holds of the state, as NumPy arrays."""
    folder = checkpoint.directory(workdir, stage) / str(STEPS[stage])
    wanted = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), fallback.shapes(folder, 'state'))
    return fallback.read(folder, 'state', ocp.args.StandardRestore(wanted))


def _starts(workdir: pathlib.Path, stage: str) -> list[int]:
    """The steps that the runs so far started from."""
    return [row['step'] for row in history.read(workdir, stage) if 'timing/compile_seconds' in row]


def _start_and_kill(stage: str, workdir: pathlib.Path, number: int, rng: random.Random, data: str) -> int:
    """Start, or go on, for some steps and a checkpoint; then send `number`. Returns the exit code."""
    before, folder = len(_starts(workdir, stage)), checkpoint.directory(workdir, stage)
    process = subprocess.Popen(_command(stage, workdir, data), cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE
        while not (len(starts := _starts(workdir, stage)) > before
                   and max(fallback.steps(folder), default=0) > starts[-1]):
            assert process.poll() is None, 'the run ended by itself'
            assert time.monotonic() < deadline, 'the run does not get going'
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.5))
        process.send_signal(number)
        return process.wait(timeout=PATIENCE)
    finally:
        process.kill()


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_a_stage_killed_five_times_ends_bit_for_bit_where_an_uninterrupted_one_does(
        data, uninterrupted, number, tmp_path):
    stage, wanted = uninterrupted
    rng = random.Random(int(number))
    for _ in range(KILLS):
        code = _start_and_kill(stage, tmp_path, number, rng, data)
        assert code == (-number if number == signal.SIGKILL else 128 + number)
    _run(stage, tmp_path, data)
    starts = _starts(tmp_path, stage)
    assert len(set(starts)) == len(starts) == KILLS + 1  # each run went on from another step
    found = _state(tmp_path, stage)
    assert found['step'] == STEPS[stage]
    assert jax.tree.leaves(found['opt_state'])
    jax.tree.map(lambda ours, theirs: np.testing.assert_array_equal(ours, theirs, strict=True), found, wanted)
