"""Where each record of a TFRecord shard begins: random access without scanning.

TFRecord framing: length (uint64), checksum of the length (uint32), payload, checksum of the payload (uint32),
all little-endian. The index of `SHARD` is `SHARD.index`, an `.npy` table with one row a record: offset of the
payload, its length in bytes, and the number of frames in it (0 where a record is no clip).
"""

import os
import pathlib
import re
import struct
from collections.abc import Callable, Iterator

import numpy as np

from talkinghead_jax.errors import UserError

_LENGTH = struct.Struct('<Q')
_HEADER, _FOOTER = 12, 4  # bytes before and after a payload


def payloads(shard: str | os.PathLike) -> Iterator[tuple[int, bytes]]:
    """(offset, payload) of each record of a TFRecord file, in order.

    Raises:
      UserError: the file ends within a record.
    """
    with open(shard, 'rb') as file:
        while header := file.read(_HEADER):
            length = _LENGTH.unpack_from(header)[0] if len(header) == _HEADER else 0
            offset = file.tell()
            payload = file.read(length + _FOOTER)
            if len(header) < _HEADER or len(payload) < length + _FOOTER:
                raise UserError(f'{os.fspath(shard)} ends within a record, at byte {offset}; delete the data set '
                                'and run --mode=prepare again')
            yield offset, payload[:length]


def write(shard: str | os.PathLike, frames: Callable[[bytes], int]) -> None:
    """Write the index of `shard`; `frames(payload)` gives the number of frames in a record."""
    rows = [(offset, len(payload), frames(payload)) for offset, payload in payloads(shard)]
    path = index_path(shard)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    with open(temporary, 'wb') as file:
        np.save(file, np.array(rows, np.int64).reshape(-1, 3))
    os.replace(temporary, path)


def read(shard: str | os.PathLike) -> np.ndarray:
    """(N, 3) int64: offset, bytes and frames of each record of `shard`.

    Raises:
      UserError: there is no index, or it does not belong to the shard.
    """
    path = index_path(shard)
    if not path.is_file():
        raise UserError(f'{path} is missing; run --mode=prepare to write it')
    rows = np.load(path)
    end = int(rows[-1, 0] + rows[-1, 1] + _FOOTER) if len(rows) else 0
    if end != os.path.getsize(shard):
        raise UserError(f'{path} describes {end} bytes, but {os.fspath(shard)} has {os.path.getsize(shard)}; '
                        'run --mode=prepare again')
    return rows


def index_path(shard: str | os.PathLike) -> pathlib.Path:
    """Where the index of `shard` lies."""
    return pathlib.Path(f'{os.fspath(shard)}.index')


def shards(directory: str | os.PathLike, split: str) -> list[pathlib.Path]:
    """The TFRecord files of a split in a TFDS directory, in order; empty where there is no such split."""
    name = re.compile(rf'.*-{re.escape(split)}\.tfrecord-\d+-of-\d+')
    return sorted(path for path in pathlib.Path(directory).glob('*.tfrecord-*') if name.fullmatch(path.name))


def splits(directory: str | os.PathLike) -> list[str]:
    """The splits that a TFDS directory holds."""
    found = (re.fullmatch(r'.*-([^-]+)\.tfrecord-\d+-of-\d+', path.name)
             for path in pathlib.Path(directory).glob('*.tfrecord-*'))
    return sorted({match.group(1) for match in found if match})
