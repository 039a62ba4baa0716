"""The same jobs as `pool`, by Apache Beam: on this machine, or on a Flink, Spark or Dataflow cluster.

What travels through the pipeline are the jobs, some hundred bytes each; media are read and records are written by
the workers, in folders that all machines see under the same path. Installed by `pip install '.[beam]'`.
"""

import pathlib
import shlex
from collections.abc import Sequence

from input_pipeline import pool, quarantine
from talkinghead_jax.errors import UserError


def run(jobs: Sequence[pool.Job], cache: pathlib.Path, options: str) -> None:
    """Make the files of `jobs`; each ends in its file or in a note (`pool.make`).

    Args:
      jobs: what to make.
      cache: folder of the files.
      options: of the pipeline, as on a command line: '--runner=DirectRunner --direct_num_workers=2
        --direct_running_mode=multi_processing'.

    Raises:
      UserError: Apache Beam is not installed, or its pipeline failed.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise UserError(f'config.data.beam is {options!r}, but Apache Beam is not installed; '
                        "run pip install 'talkinghead_jax[beam]', or leave it out") from error
    try:
        with beam.Pipeline(options=PipelineOptions(shlex.split(options))) as pipeline:
            _ = (pipeline
                 | 'jobs' >> beam.Create(jobs)
                 | 'spread' >> beam.Reshuffle()
                 | 'make records' >> beam.Map(make_once, str(cache)))
    except (RuntimeError, ValueError, OSError) as error:
        last = (str(error).strip() or 'no message').splitlines()[-1]
        raise UserError(f'the Beam pipeline of config.data.beam={options!r} ended in {type(error).__name__}: {last}; '
                        'what was made is kept, run the same command again') from error


def make_once(job: pool.Job, cache: str) -> None:
    """`pool.make`, but not again where a runner repeats an element; why it failed last is forgotten first."""
    folder = pathlib.Path(cache)
    if not pool.done(job, folder):
        quarantine.note_path(folder / job.name).unlink(missing_ok=True)
        pool.make(job, folder)
