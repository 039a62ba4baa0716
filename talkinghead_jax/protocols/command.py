"""An evaluation from its plan to its results on disk; what is known already is not computed again."""

import os
import pathlib
from collections.abc import Callable, Iterable

import jax

from talkinghead_jax.errors import UserError
from talkinghead_jax.protocols import job, showcase
from talkinghead_jax.protocols import results as kept
from talkinghead_jax.protocols.job import Plan
from talkinghead_jax.protocols.judges import Judges
from talkinghead_jax.protocols.results import Results

_KEY = 'evaluation'  # among the facts


def evaluate(folder: str | os.PathLike, plan: Plan, judges: Judges, write_video: Callable[..., object],
             progress: Callable[..., Iterable], shown: int = showcase.SHOWN) -> Results | None:
    """Score all films of `plan`, keep the videos of the best and the worst, and save the results.

    Args:
      folder: results.json, results.npz, videos/ and, while it runs, parts/ go there; all processes see it.
      plan: what is evaluated.
      judges: by what.
      write_video: as `input_pipeline.media.write_video`.
      progress: wraps an iterable, with the keyword `desc`.
      shown: videos that are kept of the best clips of each method, and of the worst.

    Returns:
      The results in process 0, None in the others.
    """
    folder, key = pathlib.Path(folder), job.key_of(plan, judges)
    done = _known(folder)
    if done and done.facts.get(_KEY) == key:
        return done if jax.process_index() == 0 else None
    results = job.run(folder, plan, judges, lambda numbers: progress(numbers, desc=f'evaluate {plan.protocol}'))
    if results is None:
        return None
    if shown:
        chosen = showcase.choose(results, shown)
        showcase.write_videos(folder, plan, results, chosen, write_video,
                              lambda numbers: progress(numbers, desc=f'videos of {plan.protocol}'))
    results.facts |= {'jax': jax.__version__, 'device': jax.devices()[0].device_kind, _KEY: key}
    kept.save(folder, results)
    job.clear(folder)
    return results


def _known(folder: pathlib.Path) -> Results | None:
    try:
        return kept.load(folder)
    except UserError:
        return None
