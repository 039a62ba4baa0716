"""The newest checkpoint that can be read; what cannot is passed over with a warning, and never deleted."""

import contextlib
import gc
import logging
import pathlib
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp

from talkinghead_jax.errors import UserError
from talkinghead_jax.train import hosts

_log = logging.getLogger(__name__)
T = TypeVar('T')

# With these TensorStore tells what the file system refused (EACCES, ESTALE, EMFILE, EIO ..), whatever the file holds.
_REFUSED = re.compile('(PERMISSION_DENIED|UNAVAILABLE|RESOURCE_EXHAUSTED|UNKNOWN): ')


class BrokenError(Exception):
    """A checkpoint cannot be read; the text says in short what is wrong with it."""


def steps(folder: pathlib.Path) -> list[int]:
    """The steps whose checkpoints lie in `folder`, newest first; [] if it is not there."""
    if not folder.is_dir():
        return []
    return sorted((int(path.name) for path in folder.iterdir() if path.name.isdigit()), reverse=True)


def newest(folder: pathlib.Path, read_step: Callable[[pathlib.Path], T], *, training: bool) -> T | None:
    """What `read_step` gives for the newest step in `folder` for which it raises no BrokenError; None without steps.

    Args:
      folder: of the checkpoints, each under the number of its step.
      read_step: reads one of them, in this process alone.
      training: whether every process calls this, so that all must agree on the step; broken steps are then put
        aside as corrupt-STEP, for training will save them again. Otherwise another process may train, and delete
        old steps, meanwhile.

    Raises:
      UserError: there are steps and all are broken (they stay where they are, or the next run would start anew); or
        `read_step` raises it, in whichever process.
    """
    listed = steps(folder)
    mine, broken = iter(listed), {}
    while (step := _same(next(mine, -1), training)) >= 0:
        found, problem, refusal = None, '', None
        try:
            found = read_step(folder / str(step))
        except BrokenError as error:
            if not training and (now := steps(folder)) != listed:  # it may not be broken, but deleted: begin again
                listed, mine = now, iter([number for number in now if number not in broken])
                continue
            problem = str(error)
        except UserError as error:
            refusal = error
        if not _all(refusal is None, training):
            raise refusal or UserError(f'{folder} is refused by another process, which says why')
        if _all(not problem, training):
            if broken:
                _pass_over(folder, broken, step, training)
            return found
        broken[step] = problem or 'another process cannot read it'
    if broken:
        raise UserError(f'{folder} holds no checkpoint that can be read: {_listed(broken)}; want a copy of one, or '
                        'this folder out of the way to train anew')
    return None


def read(folder: pathlib.Path, item: str, args: ocp.args.CheckpointArgs) -> Any:
    """One item of the checkpoint in `folder`, read by this process for itself.

    Raises:
      BrokenError: it is missing, cut short or does not parse.
      UserError: the file system does not let it be read, now.
    """
    with _named(folder, item), ocp.Checkpointer(ocp.CompositeCheckpointHandler(),
                                                multiprocessing_options=alone()) as reader:
        return reader.restore(folder, args=ocp.args.Composite(**{item: args}))[item]


def shapes(folder: pathlib.Path, item: str) -> Any:
    """The tree of an item's arrays, with shape and dtype only; raises as `read` does."""
    handler = ocp.CompositeCheckpointHandler(**{item: ocp.PyTreeCheckpointHandler()})
    with _named(folder, item), ocp.Checkpointer(handler, multiprocessing_options=alone()) as reader:
        return reader.metadata(folder).item_metadata[item].tree


def alone() -> ocp.options.MultiprocessingOptions:
    """For Orbax: to wait for no other process, that may have failed or have other things to do."""
    me = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me})


@contextlib.contextmanager
def _named(folder: pathlib.Path, item: str) -> Iterator[None]:
    """Turn what Orbax raises for a broken `item` into a BrokenError that is short.

    What the file system refuses becomes a UserError: it says nothing of the checkpoint, which may well be whole.
    """
    chatter, hook = logging.getLogger('asyncio'), sys.unraisablehook
    level = chatter.level
    # Many arrays are read at once; when one cannot be, the others' complaints would fill pages.
    chatter.setLevel(logging.CRITICAL + 1)
    sys.unraisablehook = lambda _: None
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError):
        raise  # no fault of the checkpoint
    except Exception as error:
        refused = _refused(error)
        text = textwrap.shorten(next(iter(str(error).splitlines()), ''), 120, placeholder=' ..')
        problem = f'{item}: {type(error).__name__}: {text}'
        error.__traceback__ = None  # it holds the readers that were left behind
        del error
        gc.collect()
        if refused:
            raise UserError(f'cannot read {folder / item}: {refused}; it stays as it is; mend that and start '
                            'again') from None
        raise BrokenError(problem) from None
    finally:
        chatter.setLevel(level)
        sys.unraisablehook = hook


def _refused(error: BaseException | None) -> str:
    """What the file system said, if that was the cause of `error`, or ''."""
    while error is not None:
        absent = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
        if isinstance(error, OSError) and not absent:
            return error.strerror or str(error)
        if _REFUSED.match(str(error)):
            return str(error).split(' [')[0].rsplit(': ')[-1]  # TASK: FILE: REASON [more of it]
        error = error.__cause__ or error.__context__
    return ''


def _same(step: int, training: bool) -> int:
    return hosts.from_main(step) if training else step


def _all(ok: bool, training: bool) -> bool:
    return hosts.all_agree(ok) if training else ok


def _pass_over(folder: pathlib.Path, broken: dict[int, str], step: int, training: bool) -> None:
    """Warn, once for all of them; in training, put them aside."""
    if hosts.is_main() or not training:
        _log.warning('%s: passed over %s; going on from step %d%s', folder, _listed(broken), step,
                     '; it is kept as corrupt-STEP' if training else '')
    if training:
        if hosts.is_main():
            for number in broken:
                _put_aside(folder / str(number))
        hosts.wait_for_all('checkpoints put aside')


def _put_aside(path: pathlib.Path) -> None:
    names = (path.with_name(f'corrupt-{path.name}{again}') for again in ('', *(f'-{i}' for i in range(2, 1000))))
    path.rename(next(name for name in names if not name.exists()))


def _listed(broken: dict[int, str]) -> str:
    return ', '.join(f'step {step} ({problem})' for step, problem in broken.items())
