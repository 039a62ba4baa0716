"""Run jobs in a pool of processes: what is done is skipped, what fails is noted, a dying worker is survived."""

import collections
import contextlib
import dataclasses
import errno
import multiprocessing
import os
import pathlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import context as contexts
from multiprocessing import queues

import cv2
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from input_pipeline import quarantine
from input_pipeline.quarantine import Refusal
from talkinghead_jax import files
from talkinghead_jax.errors import Unusable, UserError

# One thread a process: the processes already fill the cores.
_THREADS = ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS')
_QUEUE = 4  # jobs a worker that wait in the pool; all of a million would fill the memory
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # of no clip's making


@dataclasses.dataclass(frozen=True, slots=True)  # of a million
class Job:
    """One file of the cache.

    Attributes:
      split: where its records go.
      source: what it is made from, for messages: a path, or a description.
      name: the file's name in the cache; contains a digest of all that determines the content.
      make: (path) -> None, picklable: writes the file, whole or not at all.
      clip: what the quarantine table calls it; `source` if empty.
    """

    split: str
    source: str
    name: str
    make: Callable[[pathlib.Path], None]
    clip: str = ''


def run(jobs: Sequence[Job], cache: pathlib.Path, workers: int = 0, beam: str = '') -> list[Refusal]:
    """Make every file of `jobs` that `cache` lacks and has no final refusal of.

    Args:
      jobs: what to make.
      cache: folder of the files, made if need be; on a cluster one that all machines see.
      workers: processes; 0 means one a core, 1 means in this process.
      beam: options of an Apache Beam pipeline that does the work instead, as in '--runner=FlinkRunner'.

    Returns:
      What could not be made, in the order of `jobs`.

    Raises:
      UserError: the cache cannot be written.
    """
    if workers < 0:
        raise UserError(f'config.data.workers is {workers}; want a number of processes, or 0 for one a core')
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'cannot make {cache}: {error.strerror}; give a writable folder') from error
    missing = [job for job in jobs if not done(job, cache)]
    if missing and beam:
        from input_pipeline import beam_runner  # not everybody has Apache Beam
        beam_runner.run(missing, cache, beam)
    elif missing:
        workers = min(workers or os.cpu_count() or 1, len(missing))
        with tqdm(total=len(jobs), initial=len(jobs) - len(missing), desc='make records', unit='file') as bar:
            for _ in _finished(missing, cache, workers):
                bar.update()
    return refusals(jobs, cache)


def done(job: Job, cache: pathlib.Path) -> bool:
    """Whether there is nothing to do: the file is there, or it is known that it cannot be made."""
    if (cache / job.name).is_file():
        return True
    noted = quarantine.read_note(cache / job.name)
    return noted is not None and noted[0] != quarantine.FAILED


def refusals(jobs: Sequence[Job], cache: pathlib.Path) -> list[Refusal]:
    """What of `jobs` could not be made, by the notes in `cache`."""
    found = []
    for job in jobs:
        if not (cache / job.name).is_file():
            reason, detail = quarantine.read_note(cache / job.name) or (quarantine.FAILED, 'nothing is known of it')
            found.append(Refusal(job.clip or job.source, job.split, reason, detail, job.source))
    return found


def make(job: Job, cache: pathlib.Path) -> None:
    """Do one job: afterwards its file or a note of why not is in `cache`.

    Raises:
      UserError: the cache cannot be written.
    """
    path = cache / job.name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        refused = _attempt(job, path)
        if refused:
            quarantine.note(path, *refused)
        else:
            quarantine.note_path(path).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f'cannot write {path}: {error.strerror}; make room, then run the same command again'
                        ) from error


def _attempt(job: Job, path: pathlib.Path) -> tuple[str, str] | None:
    """Reason and detail where it cannot be made; OSError where that is no fault of the job's."""
    try:
        with threadpool_limits(1):  # sums over more threads end in other bits, in one process or in many
            job.make(path)
    except Unusable as error:
        return error.reason, str(error)
    except UserError as error:
        return quarantine.FAILED, str(error)
    except OSError as error:
        if error.errno in FULL:
            raise
        return quarantine.FAILED, f'{job.source}: {error}'
    except Exception as error:  # one strange file must not end a run over a million
        return quarantine.FAILED, f'{job.source}: {type(error).__name__}: {error}'
    return None


def _finished(jobs: Sequence[Job], cache: pathlib.Path, workers: int) -> Iterator[Job]:
    """Each job as it ends."""
    if workers == 1:
        for job in jobs:
            make(job, cache)
            yield job
        return
    queue = collections.deque(jobs)
    while queue:
        unfinished = []
        for job, whole in _in_processes(queue, cache, workers):
            if whole:
                yield job
            else:
                unfinished.append(job)
        # A worker died and took the pool along. Jobs start in order, so its own is one of the first that are left.
        queue.extendleft(reversed(unfinished[workers:]))
        for suspect in unfinished[:workers]:
            for job, whole in _in_processes(collections.deque([suspect]), cache, 1):
                if not whole:
                    quarantine.note(cache / job.name, quarantine.FAILED,
                                    f'{job.source}: its process died (out of memory?)')
                yield job


def _in_processes(queue: collections.deque[Job], cache: pathlib.Path, workers: int) -> Iterator[tuple[Job, bool]]:
    """Take jobs off the queue and do them: (job, True); (job, False) where the pool broke before it was done."""
    context = multiprocessing.get_context('spawn')
    with single_threaded(), futures.ProcessPoolExecutor(
            workers, mp_context=context, initializer=start_worker, initargs=(_cores(workers, context),)) as executor:
        pending: dict[futures.Future, Job] = {}
        broken = False
        try:
            while pending or (queue and not broken):
                while queue and not broken and len(pending) < _QUEUE * workers:
                    try:
                        pending[executor.submit(make, queue[0], cache)] = queue[0]
                        queue.popleft()
                    except BrokenProcessPool:
                        broken = True
                ended, _ = futures.wait(pending, return_when=futures.FIRST_COMPLETED)
                for future in [future for future in pending if future in ended]:  # in the order of their start
                    job = pending.pop(future)
                    try:
                        future.result()
                    except BrokenProcessPool:
                        broken = True
                        yield job, False
                    else:
                        yield job, True
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


def start_worker(cores: queues.Queue | None = None) -> None:
    """What every process that does jobs begins with; `cores` holds a core for each."""
    # The first process would reserve three quarters of an accelerator's memory.
    os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
    # What one worker has compiled, the others need not.
    os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(files.cache_folder() / 'xla'))
    os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.2')
    if cores is not None:
        os.sched_setaffinity(0, {cores.get()})
    cv2.setNumThreads(1)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _cores(workers: int, context: contexts.BaseContext) -> queues.Queue | None:
    """A core for each worker, where they take all: MediaPipe's threads would get into each other's way.

    Fewer workers stay free: a second preparation on the machine would be given the same cores.
    """
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else []
    if workers != len(usable):
        return None
    queue = context.Queue()
    for core in usable:
        queue.put(core)
    return queue


def _die_with_parent() -> None:
    """A killed parent must not leave its workers waiting for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """Processes started inside inherit an environment that keeps numeric libraries to one thread."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, '1'))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
