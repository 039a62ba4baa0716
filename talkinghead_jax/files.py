"""Writing files so that a reader never meets half of one."""

import json
import math
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

from talkinghead_jax.errors import UserError


def cache_folder() -> pathlib.Path:
    """Where this program keeps, between runs, what it can make or find again: $XDG_CACHE_HOME/talkinghead_jax."""
    return pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache') / 'talkinghead_jax'


def write_atomically(path: str | os.PathLike, content: bytes) -> None:
    """Write `content` beside `path`, then move it there: the old file stays until the new one is whole.

    Raises:
      UserError: the folder cannot be made or written.
    """
    path = pathlib.Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
        with os.fdopen(handle, 'wb') as file:
            file.write(content)
        # mkstemp makes files private; give what an ordinary open() would.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f'cannot write {path}: {error.strerror or error}; want a writable folder') from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def to_json(value: Any) -> bytes:
    """Strict, indented JSON: what is not finite becomes null, NumPy numbers and arrays become plain ones."""
    return (json.dumps(_plain(value), indent=2, allow_nan=False) + '\n').encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, 'tolist'):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
