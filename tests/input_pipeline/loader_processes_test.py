"""Batches from processes: the very same as from threads; no process outlives who takes them, and a death is told."""

import itertools
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from configs import common
from input_pipeline import loader, loader_processes
from talkinghead_jax.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]
# It opens batches without TensorFlow, to be killed at once.
PARENT = """
import pathlib, signal, sys
from input_pipeline import loader_processes
if __name__ == '__main__':
    batches = loader_processes.ProcessBatches(1, pathlib.Path(sys.argv[1]), 0)
    print('started', flush=True)
    signal.pause()
"""


def _with_workers(prepared, workers):
    config = prepared[0].copy_and_resolve_references()
    config.data.loader_workers = workers
    return config


def _assert_equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].dtype == theirs[name].dtype
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


@pytest.mark.parametrize(('index', 'count'), [(0, 1), (1, 2)])
@pytest.mark.parametrize('stage', common.STAGES)
def test_a_batch_is_a_function_of_its_step(prepared, fake_data, stage, index, count):
    make = loader.batch_maker(fake_data, stage, prepared[0], index, count)
    threads = list(itertools.islice(loader.training_batches(fake_data, stage, prepared[0], 2, index, count), 4))
    for step in (5, 2, 4, 3):
        _assert_equal(make(step), threads[step - 2])


def test_processes_make_the_same_batches_until_one_dies(prepared, fake_data):
    """Of host 1 of 2, from step 3 on; SIGTERM, which a cluster sends to all processes, is for the parent alone."""
    threads = loader.training_batches(fake_data, 'generator', prepared[0], 3, 1, 2)
    batches = loader.training_batches(fake_data, 'generator', _with_workers(prepared, 2), 3, 1, 2)
    processes, taken = list(batches._processes), [next(batches), next(batches)]
    for process in processes:  # both have begun
        os.kill(process.pid, signal.SIGTERM)
    taken += itertools.islice(batches, 10)
    os.kill(processes[1].pid, signal.SIGKILL)
    with pytest.raises(UserError, match=r'^one of the 2 processes that make training batches died \(exit code -9, '
                                        r'SIGKILL; out of memory\?\) before batch \d+; .*data.loader_workers'):
        taken.extend(batches)  # as far as they were sent
    assert len(taken) >= 12
    for one in taken:
        _assert_equal(one, next(threads))
    assert [process.exitcode for process in processes] == [-signal.SIGKILL] * 2
    with pytest.raises(StopIteration):
        next(batches)


def test_closing_ends_the_processes_and_the_waiting(prepared, fake_data):
    batches = loader.training_batches(fake_data, 'expression', _with_workers(prepared, 1))
    assert batches in loader._open  # closed at exit
    processes, waited = list(batches._processes), []
    thread = threading.Thread(target=lambda: waited.append(list(batches)))
    thread.start()
    batches.close()
    thread.join()
    assert waited == [[]]
    assert [process.exitcode for process in processes] == [-signal.SIGKILL]


def test_forgetting_ends_the_processes(prepared, fake_data):
    batches = loader.training_batches(fake_data, 'expression', _with_workers(prepared, 1))
    processes = list(batches._processes)
    del batches
    assert [process.exitcode for process in processes] == [-signal.SIGKILL]


def test_killing_the_parent_ends_the_processes(tmp_path):
    script = tmp_path / 'parent.py'
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path)], stdout=subprocess.PIPE, text=True,
                              env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert parent.stdout.readline() == 'started\n'
    parent.kill()
    assert parent.communicate(timeout=60)[0] == ''  # the pipe ends when the last process that has it is gone


def _travelled(results):
    receiver, sender = multiprocessing.Pipe(duplex=False)
    for items in results:
        loader_processes._send(sender, items)
        yield loader_processes._receive(receiver)


def test_an_error_travels_in_its_turn():
    def make(step):
        if step == 2:
            raise UserError('record 2 is broken')
        return {'x': np.arange(step + 1.0), 'mask': np.ones((1, 2), bool)}

    *made, (batch, error) = _travelled(loader_processes._results(lambda: make, range(9)))
    for step, (found, none) in enumerate(made):
        _assert_equal(found, make(step))
        assert none is None
    assert (len(made), batch, type(error), str(error)) == (2, None, UserError, 'record 2 is broken')


def test_an_error_that_is_nobodys_fault_brings_its_place():
    [(batch, error)] = _travelled(loader_processes._results(lambda: {}.__getitem__, range(4, 9)))
    assert (batch, type(error)) == (None, RuntimeError)
    assert 'loader_processes.py' in str(error)
    assert 'KeyError: 4' in str(error)


def test_what_is_wrong_shows_before_any_process_starts(prepared, fake_data):
    with pytest.raises(UserError, match='batch_size is 4; it must be a multiple of the 3 hosts'):
        loader.training_batches(fake_data, 'expression', _with_workers(prepared, 2), 0, 0, 3)
    with pytest.raises(UserError, match=r'loader_workers is -1; want a number of processes, or 0 for threads'):
        loader.training_batches(fake_data, 'expression', _with_workers(prepared, -1))
