"""Reading the folders of a published dataset: one scan a folder, and hidden files are not there.

VoxCeleb2 has 1.1 million files in 150 thousand folders: reading a tree asks no film for anything but its name.
"""

import operator
import os
import pathlib
from collections.abc import Iterator

from input_pipeline.datasets.media_builder import Source
from talkinghead_jax.errors import UserError

_SHOWN = 4  # names in a message


def listing(folder: str | os.PathLike) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in `folder`, each sorted; both are empty where there is no such folder.

    Raises:
      UserError: the folder cannot be read.
    """
    folders, files = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith('.'):
                    (folders if entry.is_dir() else files).append(entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return [], []
    except OSError as error:
        raise UserError(f'cannot read the folder {folder}: {error.strerror}; want one that can be read') from error
    return sorted(folders), sorted(files)


def walk(root: str | os.PathLike) -> Iterator[tuple[str, tuple[str, ...], list[str]]]:
    """Every folder from `root` down: its path, the names that lead to it from `root`, and its files, sorted.

    Raises:
      UserError: a folder cannot be read.
    """
    places = [(os.fspath(root), ())]
    while places:
        path, parts = places.pop()
        folders, files = listing(path)
        yield path, parts, files
        places += [(f'{path}/{name}', (*parts, name)) for name in reversed(folders)]


def lines(path: str | os.PathLike) -> list[str]:
    """The lines of a small text file; none where it cannot be read: no clip is lost for want of its words."""
    try:
        with open(path, encoding='utf-8', errors='replace') as file:
            return file.read().splitlines()
    except OSError:
        return []


def checked(sources: list[Source], root: pathlib.Path, tree: str) -> list[Source]:
    """The sources sorted by path.

    Args:
      sources: what was found.
      root: where.
      tree: what was wanted there, in words.

    Raises:
      UserError: there is none, or two of them would be one clip.
    """
    if not sources:
        folders, files = listing(root)
        names = folders + files
        found = ', '.join(names[:_SHOWN]) + (f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else '')
        raise UserError(f'{root} holds {found or "nothing"}; want {" ".join(tree.split())}')
    known: dict[str, str] = {}
    for source in sources:
        if known.setdefault(source.clip_id, source.path) != source.path:
            raise UserError(f'{known[source.clip_id]} and {source.path} are both the clip {source.clip_id}; '
                            'want only one of them')
    return sorted(sources, key=operator.attrgetter('path'))
