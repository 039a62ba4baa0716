"""An evaluation from its plan to its results on disk; what is known already is not computed again."""

import logging
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable

import jax

from talkinghead_jax.errors import UserError
from talkinghead_jax.protocols import job, showcase
from talkinghead_jax.protocols import results as kept
from talkinghead_jax.protocols.job import Plan
from talkinghead_jax.protocols.judges import Judges
from talkinghead_jax.protocols.results import Results
from talkinghead_jax.train import hosts

_KEY = 'evaluation'  # among the facts
_FORMER = 'former'  # beside the folders of evaluations: what another evaluation has replaced

_log = logging.getLogger(__name__)


def evaluate(folder: str | os.PathLike, plan: Plan, judges: Judges, write_video: Callable[..., object],
             progress: Callable[..., Iterable], shown: int = showcase.SHOWN) -> Results | None:
    """Score all films of `plan`, keep some videos, and save the results.

    Args:
      folder: results.json, results.npz, videos/ and, while it runs, parts/ go there; all processes see it. Results of
        another evaluation that lie there are moved to former/ beside it.
      plan: what is evaluated.
      judges: by what; the same in all processes.
      write_video: as `input_pipeline.media.write_video`.
      progress: wraps an iterable, with the keyword `desc`.
      shown: videos that are kept of the best clips of each method, and of the worst; -1 keeps those of all clips.

    Returns:
      The results in process 0, None in the others.

    Raises:
      UserError: the processes do not find the same networks; and as `job.run`.
    """
    folder, key = pathlib.Path(folder), job.key_of(plan, judges)
    number = int(key[:7], 16)
    if not hosts.all_agree(hosts.from_main(number) == number):
        raise UserError(f'the {jax.process_count()} processes do not evaluate the same: process '
                        f'{jax.process_index()} finds weights of {", ".join(judges.weights) or "no network"}; want '
                        'the same data, networks and detector on all hosts')
    done = _known(folder)
    finished = bool(done and done.facts.get(_KEY) == key)
    if hosts.from_main(finished):  # process 0 alone decides: another host may see an old state of the folder
        results = done if hosts.is_main() else None
    else:
        results = job.run(folder, plan, judges, lambda films: progress(films, desc=f'evaluate {plan.protocol}'))
    if results is None:
        return None
    chosen = showcase.choose(results, shown) if shown else []
    names = {str(results.clips['clip_id'][i]) for i in chosen if results.clips['frames'][i]}
    if finished and names == {name for of in results.videos.values() for name in of}:
        return results
    if done and not finished:
        _put_aside(folder, done)
    showcase.write_videos(folder, f'videos/{key[:8]}', plan, results, chosen, write_video,
                          lambda films: progress(films, desc=f'videos of {plan.protocol}'))
    if judges.detector is not None and hasattr(judges.detector, 'version'):
        results.facts['mediapipe'] = judges.detector.version
    results.facts |= {'jax': jax.__version__, 'device': jax.devices()[0].device_kind, _KEY: key}
    kept.save(folder, results)
    job.clear(folder)
    return results


def _known(folder: pathlib.Path) -> Results | None:
    try:
        return kept.load(folder)
    except UserError:
        return None


def _put_aside(folder: pathlib.Path, done: Results) -> None:
    """Results of another evaluation were dear, too."""
    former = folder.parent / _FORMER / f'{folder.name}-{done.facts.get(_KEY, "unknown")}'
    shutil.rmtree(former, ignore_errors=True)
    former.mkdir(parents=True)
    for entry in folder.iterdir():
        if entry.name != 'parts':
            os.replace(entry, former / entry.name)
    _log.warning('%s held another evaluation (%d clips); it is now in %s', folder, len(done.clips['clip_id']), former)
