"""Training batches from processes, for hosts with more cores than threads under one interpreter lock can use.

Batch s is a function of s alone. So of W workers, worker w makes the batches start + w, start + w + W, .., and the
parent takes them in turn: the batches are the same for any number of workers. Each has a pipe, which carries a batch
as a pickled head and its arrays' bytes as they are; copied into the pickle, they would travel at a fifth of the rate.
"""

import itertools
import logging
import multiprocessing
import os
import pathlib
import pickle
import signal
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from multiprocessing import connection
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from input_pipeline import pool
from talkinghead_jax.errors import UserError

_PATIENCE = 10  # s, for a process that was killed or has closed its pipe to be gone


class ProcessBatches(Iterator[dict[str, np.ndarray]]):
    """Endless training batches, made by processes that run ahead, by two batches each.

    Each process opens the dataset and imports TensorFlow, for its records; it uses one thread and no accelerator.
    They end with this iterator: when it is closed or forgotten, after an error, or with this process, however it
    ends. SIGTERM and SIGINT they leave to it, for a cluster sends them to all processes, and it still takes batches
    until it has saved.

    Args:
      workers: number of processes.
      directory: of the prepared dataset.
      start_step: number of the first batch.
      arguments: what else `loader.batch_maker` takes, picklable.

    Raises (while it is iterated):
      UserError: as raised where a batch was made, or a process died.
    """

    def __init__(self, workers: int, directory: pathlib.Path, start_step: int, *arguments: Any) -> None:
        context = multiprocessing.get_context('spawn')  # a fork would copy the locks that JAX's threads hold
        self._processes, self._pipes, self._step = [], [], start_step
        self._finish = weakref.finalize(self, _kill, self._processes)
        for worker in range(workers):
            receiver, sender = context.Pipe(duplex=False)
            steps = range(start_step + worker, 2 ** 62, workers)
            process = context.Process(target=_work, args=(sender, steps, directory, arguments), daemon=True)
            process.start()
            sender.close()  # so that the death of the process is the end of the pipe
            self._processes.append(process)
            self._pipes.append(receiver)
        self._turns = itertools.cycle(range(workers))

    def __next__(self) -> dict[str, np.ndarray]:
        if not self._finish.alive:
            raise StopIteration
        worker = next(self._turns)
        try:
            batch, error = _receive(self._pipes[worker])
        except (EOFError, OSError):
            if not self._finish.alive:  # closed, by another thread, while this one waited
                raise StopIteration from None
            batch, error = None, self._death(self._processes[worker])
        if error is not None:
            self.close()
            raise error
        self._step += 1
        return batch

    def close(self) -> None:
        """Kill the processes, at once; safe from any thread, also while another one waits for a batch."""
        self._finish()

    def _death(self, process: multiprocessing.Process) -> UserError:
        process.join(_PATIENCE)
        code = process.exitcode
        how = f'exit code {code}'
        if code is not None and code < 0:
            how += f', {signal.Signals(-code).name}' + ('; out of memory?' if code == -signal.SIGKILL else '')
        return UserError(
            f'one of the {len(self._processes)} processes that make training batches died ({how}) before batch '
            f'{self._step}; run the same command again, with a lower config.data.loader_workers if memory is short')


def _kill(processes: Sequence[multiprocessing.Process]) -> None:
    for process in processes:
        process.kill()
    for process in processes:
        process.join(_PATIENCE)


def _work(pipe: connection.Connection, steps: range, directory: pathlib.Path, arguments: tuple) -> None:
    """What a process does: send batches `steps` until one fails or nobody takes them any more."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    os.environ['JAX_PLATFORMS'] = 'cpu'  # before the first import of JAX
    pool.start_worker()
    from input_pipeline import loader
    logging.getLogger(loader.__name__).setLevel(logging.ERROR)  # the parent has told its warnings
    with threadpool_limits(1), futures.ThreadPoolExecutor(1) as thread:
        sent = thread.submit(bool)
        for items in _results(lambda: loader.batch_maker(loader.open_dataset(directory), *arguments), steps):
            try:
                sent.result()
            except OSError:  # nobody reads
                return
            sent = thread.submit(_send, pipe, items)


def _results(prepare: Callable[[], Callable[[int], Any]], steps: range) -> Iterator[tuple[Any, Any]]:
    """(batch, None) of each step; at the first error (None, error), and the end."""
    try:
        make = prepare()
        for step in steps:
            yield make(step), None
    except UserError as error:
        yield None, error
    except Exception:  # such an error need not be picklable, and its place would be lost
        yield None, RuntimeError(f'in a process that makes training batches:\n{traceback.format_exc()}')


def _send(pipe: connection.Connection, items: Any) -> None:
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(items, 5, buffer_callback=buffers.append)
    pipe.send((len(buffers), head))
    for buffer in buffers:
        pipe.send_bytes(buffer.raw())


def _receive(pipe: connection.Connection) -> Any:
    count, head = pipe.recv()
    return pickle.loads(head, buffers=[pipe.recv_bytes() for _ in range(count)])
