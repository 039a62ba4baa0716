"""Two processes of four devices each: they train as one, stop together, and tell the user when they cannot meet.

That each reads its own part of every batch is shown in tests/input_pipeline/loader_test.py.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import chex
import jax
import numpy as np
import pytest
import toy_stages

from talkinghead_jax.errors import UserError
from talkinghead_jax.train import checkpoint, history, hosts, loop, sharding

HERE = pathlib.Path(__file__).resolve().parent
PATIENCE = 600  # s; only a test that fails waits
ENVIRONMENT = {**os.environ, 'XLA_FLAGS': '--xla_force_host_platform_device_count=4',
               'JAX_DISABLE_MOST_OPTIMIZATIONS': 'True',  # for programs that run a few times
               'PYTHONPATH': os.pathsep.join(map(str, [HERE.parent.parent, HERE, HERE.parent / 'stages']))}


def _free_port():
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def _pair(script, arguments):
    """Two processes of `script`, with arguments(address, process); none outlives the context."""
    address = f'127.0.0.1:{_free_port()}'
    processes = []
    try:
        for process in range(2):
            processes.append(subprocess.Popen(
                [sys.executable, str(HERE / script), *arguments(address, process)], env=ENVIRONMENT, text=True,
                cwd=HERE.parent.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _outputs(processes, code, patience=PATIENCE):
    """What each printed, when all have ended with `code`."""
    outputs = [process.communicate(timeout=patience)[0] for process in processes]
    assert [process.returncode for process in processes] == [code] * len(processes), '\n----\n'.join(outputs)
    return outputs


def _train(steps, pause, *runs):
    return _pair('toy_run.py', lambda address, process: [
        *runs, f'--steps={steps}', f'--pause={pause}', f'--address={address}', '--processes=2',
        f'--process={process}'])


def _finish(workdir, steps, layout):
    """The state at `steps`, reached from the checkpoint in `workdir` by this process."""
    config = toy_stages.config(steps=steps)
    config.log.update({'every_steps': 4, 'checkpoint_every_steps': 8})
    return jax.device_get(loop.train(toy_stages.gan(), config, toy_stages.FROZEN, toy_stages.batches, workdir,
                                     progress=False, layout=layout))


def test_one_is_asked_to_stop_both_do_and_the_same_command_goes_on(tmp_path):
    names = ('interrupted', 'whole', 'split', 'broken', 'moved')
    interrupted, whole, split, broken, moved = (tmp_path / name for name in names)
    with _train(2000, 0.02, f'{interrupted}:pmap:1') as processes:
        deadline = time.monotonic() + PATIENCE
        while not any(row['step'] >= 8 for row in history.read(interrupted, 'toy')):
            assert all(process.poll() is None for process in processes), 'a process ended by itself'
            assert time.monotonic() < deadline, 'the run does not get going'
            time.sleep(0.05)
        processes[1].send_signal(signal.SIGTERM)
        outputs = _outputs(processes, 128 + signal.SIGTERM)
    saved = checkpoint.load_for_inference(interrupted, 'toy').step
    assert all(f'has saved step {saved};' in output for output in outputs)

    shutil.copytree(interrupted, moved)
    shutil.copytree(interrupted, broken)
    shutil.rmtree(checkpoint.directory(broken, 'toy') / str(saved) / 'meta')
    steps = saved + 6
    runs = (f'{interrupted}:pmap:1', f'{whole}:pmap:1', f'{broken}:pmap:1', f'{split}:sharded:2')
    with _train(steps, 0, *runs) as processes:
        outputs = _outputs(processes, 0)
    assert [output.count(f'passed over step {saved} (meta') for output in outputs] == [1, 0]
    one = sharding.make_layout(devices=jax.devices()[:1])
    expected = _finish(whole, steps, one)
    assert int(expected.step) == steps
    chex.assert_trees_all_equal(_finish(interrupted, steps, one), expected)
    chex.assert_trees_all_equal(_finish(broken, steps, one), expected)
    chex.assert_trees_all_close(_finish(split, steps, one), expected, atol=1e-5)
    chex.assert_trees_all_close(_finish(moved, steps, sharding.make_layout()), expected, atol=1e-5)

    for workdir, starts in ((interrupted, 2), (whole, 1)):  # process 0 alone writes
        assert len(list((workdir / 'logs' / 'toy').glob('events.out.tfevents.*'))) == starts
        written = [row['step'] for row in history.read(workdir, 'toy') if 'loss/gen' in row]
        assert written == sorted(set(written))
        assert {*range(4, steps + 1, 4), steps} <= set(written)


def _compare_stages(cases, patience):
    """Process 0 compares with one device; here, that both processes have got the same."""
    with _pair('stages_run.py', lambda address, process: [address, str(process), *cases]) as processes:
        outputs = _outputs(processes, 0, patience)
    digests = [[line for line in output.splitlines() if line.startswith('digest')] for output in outputs]
    assert digests[0] == digests[1]
    assert len(digests[0]) == len(cases)


def test_a_step_on_two_processes_is_the_step_on_one_device():
    """The two that compile soonest, the one with batch statistics among them; all, below."""
    _compare_stages(['expression:sharded:2', 'unprojection:pmap:1'], PATIENCE)


@pytest.mark.soak
def test_a_step_of_every_stage_in_every_layout():
    _compare_stages([f'{name}:{layout}' for name in ('expression', 'unprojection', 'head_motion', 'generator')
                     for layout in ('sharded:1', 'sharded:2', 'pmap:1')], 5 * PATIENCE)


def test_where_one_fails_all_end(tmp_path):
    arguments = ['--config=configs/demo.py', '--mode=evaluate', f'--workdir={tmp_path}', '--num_processes=2']
    with _pair('../../launch.py', lambda address, process: [
            *arguments, f'--coordinator_address={address}', f'--process_id={process}']) as processes:
        outputs = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    sentences = [line for line in outputs[0].splitlines() if line.startswith('launch.py: ')]
    assert len(sentences) == 1
    assert '--mode=prepare' in sentences[0]
    assert processes[0].returncode == 2
    assert processes[1].returncode != 0


@pytest.mark.parametrize(('arguments', 'message'), [
    (('host:1', None, None), r'^--num_processes and --process_id missing beside --coordinator_address=host:1;'),
    (('', 2, 0), r'^--coordinator_address missing beside --num_processes=2 --process_id=0;'),
    (('host', 2, 0), r'^--coordinator_address=host; want HOST:PORT'),
    (('host:1', 2, 2), r'^--process_id=2 --num_processes=2; want ids 0 \.\. number - 1'),
    (('host:1', 0, 0), r'^--process_id=0 --num_processes=0;'),
    (('host:1', 2, -1), r'^--process_id=-1'),
])
def test_arguments_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        hosts.start(*arguments)


def test_processes_that_do_not_meet_are_told_so_and_end():
    script = """
import sys
from talkinghead_jax.errors import UserError
from talkinghead_jax.train import hosts
for arguments in ((), ('127.0.0.1:' + sys.argv[1], 2, 1)):
    try:
        hosts.start(*arguments, timeout=2.0)
    except UserError as error:
        print(error)
sys.exit(2)
"""
    environment = {name: value for name, value in ENVIRONMENT.items()
                   if not name.startswith(('JAX_COORDINATOR', 'SLURM', 'OMPI', 'KUBERNETES'))}
    found = subprocess.run([sys.executable, '-c', script, str(_free_port())], env=environment, text=True,
                           timeout=PATIENCE, stdout=subprocess.PIPE)
    nowhere, late = found.stdout.splitlines()
    assert nowhere.startswith('--distributed: JAX finds no cluster here')
    assert late.startswith('the 2 processes at --coordinator_address=127.0.0.1:')
    assert 'did not come together within 2 s' in late
    assert found.returncode == 2


def test_one_process_waits_for_nobody_and_agrees_with_itself():
    hosts.wait_for_all('here')
    assert hosts.is_main()
    assert hosts.all_agree(True)
    assert hosts.all_agree(np.bool_(False)) is False
    assert hosts.from_main(7) == 7
