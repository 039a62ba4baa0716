"""Converted networks on disk: NAME.npz in $TALKINGHEAD_ASSETS, or in the user's cache. Nothing is ever downloaded."""

import os
import pathlib
import tempfile
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

_SOURCE = 'source_sha256'  # beside the arrays: what the file was converted from


def folders() -> list[pathlib.Path]:
    """Where networks are looked for; the first is where they are written."""
    cache = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache') / 'talkinghead_jax'
    assets = os.environ.get('TALKINGHEAD_ASSETS')
    return [pathlib.Path(assets), cache] if assets else [cache]


def find(name: str) -> pathlib.Path:
    """The file of the converted network `name`.

    Raises:
      FileNotFoundError: it is nowhere; the message says where it was looked for.
    """
    places = [folder / f'{name}.npz' for folder in folders()]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(f'the weights of {name} are missing: no file {" or ".join(map(str, places))}')


def save(name: str, params: Mapping[str, Any], source_sha256: str) -> pathlib.Path:
    """Write a converted network; a reader never meets half of it.

    Args:
      name: the network.
      params: nested dict of arrays; keys without '/'.
      source_sha256: of the published file that they come from.

    Returns:
      The file written.

    Raises:
      OSError: the folder cannot be made or written.
    """
    path = folders()[0] / f'{name}.npz'
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
        with os.fdopen(handle, 'wb') as file:
            np.savez(file, **{_SOURCE: np.array(source_sha256)}, **_flatten(params))
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes files private
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(f'cannot write {path}: {error.strerror or error}; want a writable folder') from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
    return path


def load(name: str) -> dict[str, Any]:
    """The arrays of the converted network `name`, as the nested dict that was saved.

    Raises:
      FileNotFoundError: it is nowhere.
      ValueError: the file is damaged.
    """
    return read(find(name))


def read(path: str | os.PathLike) -> dict[str, Any]:
    """The arrays in the file `path`, as the nested dict that was saved; ValueError where it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return _nest({key: file[key] for key in file.files if key != _SOURCE})
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f'{path} is damaged ({error})') from error


def source_sha256(name: str) -> str:
    """SHA-256 of the published file that the converted network `name` comes from; raises as `load` does."""
    path = find(name)
    try:
        with np.load(path, allow_pickle=False) as file:
            return str(file[_SOURCE])
    except (KeyError, ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f'{path} is damaged ({error})') from error


def _flatten(tree: Mapping[str, Any], prefix: str = '') -> dict[str, np.ndarray]:
    flat = {}
    for key, value in tree.items():
        flat |= _flatten(value, f'{prefix}{key}/') if isinstance(value, Mapping) else {f'{prefix}{key}': value}
    return flat


def _nest(flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, leaf = path.split('/')
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree
