"""An evaluation of whole videos from its plan to tables, a picture grid and a page."""

import os
import pathlib
from collections.abc import Callable, Iterable

from ml_collections import ConfigDict

from talkinghead_jax.protocols import command, results, showcase
from talkinghead_jax.protocols.job import Plan
from talkinghead_jax.protocols.judges import Judges
from talkinghead_jax.report import expression_grid, protocol_page, protocol_tables

PAGE, GRID = 'videos.html', 'grid.png'
COLUMNS = 8  # moments of a clip in the grid


def evaluate(root: str | os.PathLike, plan: Plan, judges: Judges, settings: ConfigDict,
             write_video: Callable[..., object], progress: Callable[..., Iterable]) -> str:
    """Score what is planned into root/PROTOCOL, and write its tables, videos and grid.

    Args:
      root: the folder of evaluations; all processes see it.
      plan: what is evaluated.
      judges: by what.
      settings: `config.evaluation`.
      write_video: as `input_pipeline.media.write_video`.
      progress: as `protocols.command.evaluate` takes it.

    Returns:
      The table as text in process 0, '' in the others.
    """
    folder = pathlib.Path(root, plan.protocol)
    found = command.evaluate(folder, plan, judges, write_video, progress, settings.shown)
    if found is None:
        return ''
    if not settings.grid:
        (folder / GRID).unlink(missing_ok=True)
    elif not _is_newer(folder / GRID, folder / 'results.json'):
        chosen = showcase.moments(plan, showcase.spread(plan.count, settings.grid), COLUMNS)
        expression_grid.write(folder / GRID, list(chosen))
    return protocol_tables.write(folder, found)


def _is_newer(path: pathlib.Path, other: pathlib.Path) -> bool:
    return path.is_file() and path.stat().st_mtime_ns >= other.stat().st_mtime_ns


def page(root: str | os.PathLike, title: str) -> str:
    """Write the page of all evaluations in `root`; its path, '' where there is none."""
    folders = sorted(path.parent for path in pathlib.Path(root).glob('*/results.json'))
    if not folders:
        return ''
    found = {folder.name: results.load(folder) for folder in folders}
    grids = {folder.name: folder / GRID for folder in folders if (folder / GRID).is_file()}
    return str(protocol_page.write(pathlib.Path(root, PAGE), found, title=title, facts={}, grids=grids))
