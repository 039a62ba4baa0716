"""Clip records on disk: one `.npz` a record, no pickle, written whole or not at all.

A record is a dict: arrays as they are, strings as `str`, `video` as a list of JPEG byte strings (`specs.CLIP`).
In the file a list of byte strings is its concatenation (`NAME/bytes`) and T + 1 offsets (`NAME/offsets`), a
single byte string is `NAME/bytes` alone. Equal records give equal files, byte for byte.
"""

import itertools
import os
import pathlib
import uuid
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from input_pipeline.pool import FULL
from talkinghead_jax.errors import UserError

_BYTES, _OFFSETS = '/bytes', '/offsets'


def save_record(path: str | os.PathLike, record: Mapping[str, Any]) -> None:
    """Write `record` to `path`: under a temporary name first, so that `path` is never half a file.

    Raises:
      UserError: the folder cannot be made or written.
      OSError: the disk is full or read-only (`pool.FULL`), or breaks.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f'.{path.name}.{uuid.uuid4().hex[:8]}.tmp')  # jobs of other machines may write it, too
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(temporary, 'xb')  # noqa: SIM115 (closed below; mkstemp's files others could not read)
    except OSError as error:
        if error.errno in FULL:
            raise
        raise UserError(f'cannot write {path}: {error.strerror}; give a writable folder') from error
    try:
        with file:
            np.savez(file, allow_pickle=False, **_flatten(record))
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load_record(path: str | os.PathLike) -> dict[str, Any]:
    """Read what `save_record` wrote.

    Raises:
      UserError: the file is missing or is not a record.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            flat = {name: stored[name] for name in stored.files}
    except FileNotFoundError as error:
        raise UserError(f'clip record {os.fspath(path)} does not exist') from error
    except (OSError, ValueError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f'{os.fspath(path)} is not a clip record (an .npz file): {error}') from error
    return _unflatten(flat)


def equal_records(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """True where both records hold the same fields with the same values and dtypes, bit for bit."""
    flat_a, flat_b = _flatten(a), _flatten(b)
    return flat_a.keys() == flat_b.keys() and all(
        x.dtype == flat_b[name].dtype and x.shape == flat_b[name].shape and x.tobytes() == flat_b[name].tobytes()
        for name, x in flat_a.items())


def _flatten(record: Mapping[str, Any]) -> dict[str, np.ndarray]:
    flat = {}
    for name in sorted(record):
        value = record[name]
        if isinstance(value, bytes):
            flat[name + _BYTES] = np.frombuffer(value, np.uint8)
        elif isinstance(value, (list, tuple)) and all(isinstance(item, bytes) for item in value):
            flat[name + _BYTES] = np.frombuffer(b''.join(value), np.uint8)
            flat[name + _OFFSETS] = np.cumsum([0, *map(len, value)], dtype=np.int64)
        else:
            flat[name] = np.asarray(value)
    return flat


def _unflatten(flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    record = {}
    for name, value in flat.items():
        if name.endswith(_BYTES):
            field, joined = name.removesuffix(_BYTES), value.tobytes()
            offsets = flat.get(field + _OFFSETS)
            record[field] = joined if offsets is None else [
                joined[start:end] for start, end in itertools.pairwise(offsets)]
        elif not name.endswith(_OFFSETS):
            record[name] = str(value) if value.dtype.kind == 'U' else value
    return record
