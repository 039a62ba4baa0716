"""A prepared dataset on disk: its metadata, and any record of any split by number."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipeline import index, statistics
from talkinghead_jax import specs
from talkinghead_jax.errors import UserError

MARKER = 'prepared.json'  # in the data directory: what is prepared there
FIELDS = {'clips': specs.CLIP, 'position_maps': specs.POSITION_MAP}


class Records(Sequence):
    """The records of one split: `records[i]` reads one of them, from its place in its shard.

    Args:
      directory: a TFDS directory whose shards have an index.
      split: name of the split.
      fields: `specs.CLIP` or `specs.POSITION_MAP`.
    """

    def __init__(self, directory: pathlib.Path, split: str, fields: Mapping[str, specs.Field]):
        self._shards = index.shards(directory, split)
        self._fields = fields
        tables = [index.read(shard) for shard in self._shards]
        self._table = np.concatenate([np.insert(table, 0, i, axis=1) for i, table in enumerate(tables)])

    @property
    def frames(self) -> np.ndarray:
        """(N,) int64: frames of each clip."""
        return self._table[:, 3]

    @property
    def bytes(self) -> int:
        """Total size of the records."""
        return int(self._table[:, 2].sum())

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, number: int) -> dict[str, Any]:
        shard, offset, length, _ = map(int, self._table[number])
        with open(self._shards[shard], 'rb', buffering=0) as file:
            return parse(os.pread(file.fileno(), length, offset), self._fields)


class MemoryRecords(list):
    """Records in memory, with the interface of `Records`."""

    @property
    def frames(self) -> np.ndarray:
        """(N,) int64: frames of each clip."""
        return np.array([len(record['pose']) if 'pose' in record else 0 for record in self])


class Dataset:
    """Metadata and records; use `open_dataset`.

    Attributes:
      metadata: field of `specs.METADATA` -> array.
      directory: where it lies.
    """

    def __init__(self, directory: pathlib.Path, parts: Mapping[str, str]):
        self.directory = directory
        self.metadata: dict[str, np.ndarray] = {}
        self._records = {}
        for kind in ('position_maps', 'clips'):  # the triangles of the clips' meshes win
            if kind in parts:
                folder = directory / parts[kind]
                self.metadata.update(statistics.load(folder))
                self._records |= {(kind, split): Records(folder, split, FIELDS[kind])
                                  for split in index.splits(folder)}

    def records(self, kind: str, split: str) -> Records:
        """All records of a split: a sequence that reads one at a time.

        Raises:
          UserError: there are none.
        """
        if (kind, split) not in self._records:
            found = ', '.join('/'.join(key) for key in sorted(self._records))
            raise UserError(f'{self.directory} holds no {split} split of {kind}; it holds {found}')
        return self._records[kind, split]

    def splits(self, kind: str) -> dict[str, Records]:
        """The splits of a kind of records, by name."""
        return {split: records for (found, split), records in self._records.items() if found == kind}

    def size(self, split: str, kind: str = 'clips') -> int:
        """Number of records of a split."""
        return len(self.records(kind, split))

    def read(self, split: str, number: int, kind: str = 'clips') -> dict[str, Any]:
        """One record: `specs.CLIP`, or `specs.POSITION_MAP`."""
        return self.records(kind, split)[number]

    @property
    def axes(self) -> dict[str, int]:
        """`vertices`, `triangles` and `components` of the dataset: what `stages.registry.make_stage` takes."""
        if ('clips', 'train') in self._records:
            vertices = len(self.read('train', 0)['mesh_vertices'])
        else:
            vertices = int(self.metadata['uv_mask'].sum())
        return {'vertices': vertices, 'triangles': len(self.metadata['triangles']),
                'components': len(self.metadata.get('pca_basis', ()))}


def open_dataset(directory: str | os.PathLike) -> Dataset:
    """Open what `--mode=prepare` left in a data directory.

    Raises:
      UserError: nothing is prepared there, or not completely.
    """
    directory = pathlib.Path(directory)
    marker = read_marker(directory)
    if not marker.get('complete'):
        state = 'half-prepared data' if marker else 'no prepared data'
        raise UserError(f'{directory} holds {state}; run launch.py with --mode=prepare and the same --workdir first')
    return Dataset(directory, marker['parts'])


def read_marker(directory: pathlib.Path) -> dict[str, Any]:
    """What `--mode=prepare` noted about its progress; empty where it has not run."""
    path = directory / MARKER
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text())
    except ValueError:
        return {}


def parse(payload: bytes, fields: Mapping[str, specs.Field]) -> dict[str, Any]:
    """A record from its serialized `tf.train.Example`, as the builders write it."""
    stored = tf.train.Example.FromString(payload).features.feature
    return {name: _value(stored[name], field) for name, field in fields.items()}


def frames_of(payload: bytes) -> int:
    """Number of frames in a serialized record; 0 for one that is no clip."""
    stored = tf.train.Example.FromString(payload).features.feature
    return len(stored['video'].bytes_list.value) if 'video' in stored else 0


def _value(stored: Any, field: specs.Field) -> Any:
    if field.dtype == 'str':
        return stored.bytes_list.value[0].decode()
    if field.dtype == 'bytes':
        return list(stored.bytes_list.value) if field.shape else stored.bytes_list.value[0]
    if not field.shape:
        numbers = stored.float_list if np.dtype(field.dtype).kind == 'f' else stored.int64_list
        return np.asarray(numbers.value[0], field.dtype)
    flat = np.frombuffer(stored.bytes_list.value[0], field.dtype)
    known = int(np.prod([axis for axis in field.shape if not isinstance(axis, str)]))
    letters = sum(isinstance(axis, str) for axis in field.shape)
    side = round((flat.size / known) ** (1 / letters))  # equal letters are equal axes
    return flat.reshape([side if isinstance(axis, str) else axis for axis in field.shape])
