"""The same jobs as `pool`, by Apache Beam: on this machine, or on a Flink, Spark or Dataflow cluster.

What travels through the pipeline are names of lists of jobs, and then the jobs, some hundred bytes each; media are
read and records are written by the workers, in folders that all machines see under the same path. Installed by
`pip install '.[beam]'`, on the workers, too.
"""

import functools
import multiprocessing
import os
import pathlib
import pickle
import shlex
import shutil
import threading
from collections.abc import Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool

from input_pipeline import pool, quarantine
from talkinghead_jax.errors import UserError

_LIST = 1000  # jobs in a list; the jobs themselves would make the pipeline's graph larger than Dataflow takes
_QUIET = '--default_sdk_harness_log_level=WARNING'
_one_at_a_time = threading.Lock()


def run(jobs: Sequence[pool.Job], cache: pathlib.Path, options: str) -> None:
    """Make the files of `jobs`; each ends in its file or in a note (`pool.make`).

    Args:
      jobs: what to make.
      cache: folder of the files.
      options: of the pipeline, as on a command line: '--runner=DirectRunner --direct_num_workers=2
        --direct_running_mode=multi_processing'.

    Raises:
      UserError: Apache Beam is not installed, the options name no runner, or the pipeline failed.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
    except ImportError as error:
        raise UserError(f'config.data.beam is {options!r}, but Apache Beam is not installed; '
                        "run pip install 'talkinghead_jax[beam]', or leave it out") from error
    lists = cache / f'.beam.{os.getpid()}'
    try:
        settings = PipelineOptions([_QUIET, *shlex.split(options)])
        if not settings.view_as(StandardOptions).runner:
            raise ValueError('no --runner is given')
        names = _write_lists(jobs, lists)
        with beam.Pipeline(options=settings) as pipeline:
            _ = (pipeline
                 | 'lists' >> beam.Create(names)
                 | 'spread lists' >> beam.Reshuffle()
                 | 'jobs' >> beam.FlatMap(read_list)
                 | 'spread jobs' >> beam.Reshuffle()
                 | 'make records' >> beam.Map(make_once, str(cache)))
    except SystemExit as error:  # of Beam's argument parser, which has told what is wrong
        raise UserError(f'config.data.beam={options!r} has an option with a value that Beam does not take') from error
    except (RuntimeError, ValueError, OSError) as error:
        last = (str(error).strip() or 'no message').splitlines()[-1]
        raise UserError(f'the Beam pipeline of config.data.beam={options!r} ended in {type(error).__name__}: {last}; '
                        'what was made is kept, run the same command again') from error
    finally:
        shutil.rmtree(lists, ignore_errors=True)


def _write_lists(jobs: Sequence[pool.Job], folder: pathlib.Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for first in range(0, len(jobs), _LIST):
        path = folder / f'{first:09d}.pickle'
        path.write_bytes(pickle.dumps(jobs[first:first + _LIST]))
        names.append(str(path))
    return names


def read_list(path: str) -> list[pool.Job]:
    """The jobs of one list."""
    return pickle.loads(pathlib.Path(path).read_bytes())


def make_once(job: pool.Job, cache: str) -> None:
    """`pool.make`, in a child process: a clip that kills it costs neither the worker nor the pipeline."""
    folder = pathlib.Path(cache)
    with _one_at_a_time:
        if pool.done(job, folder):  # a runner may repeat an element
            return
        try:
            _child().submit(pool.make, job, folder).result()
        except BrokenProcessPool:
            _child.cache_clear()
            quarantine.note(folder / job.name, quarantine.FAILED, f'{job.source}: its process died (out of memory?)')


@functools.lru_cache(maxsize=1)
def _child() -> futures.ProcessPoolExecutor:
    with pool.single_threaded():
        executor = futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('spawn'),
                                               initializer=pool.start_worker)
        executor.submit(os.getpid).result()  # started here, with this environment
    return executor
