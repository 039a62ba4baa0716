"""What one process knows of its films so far, as arrays of a few kB a film, and as a file."""

import io
import json
import logging
import os
import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from talkinghead_jax import files
from talkinghead_jax.metrics.fid import Moments
from talkinghead_jax.protocols.results import YAW_EDGES
from talkinghead_jax.protocols.scoring import Score

_log = logging.getLogger(__name__)

_BINS = len(YAW_EDGES) - 1


class Part:
    """The scores of some films, in their order.

    Attributes:
      rows, metrics: names, which number the axes below.
      clips: of each film, [clip_id, speaker_id, frames].
      values: of each film, (rows, metrics) float64, NaN where there is none.
      counted: of each film, (rows, metrics) int32: frames that a value is the mean of.
      yaw: (rows, metrics, bins, 2) float64: sum and number of the frames' values, of all films.
      moments: row -> sums of features, for FID; empty where nobody asks for it.
    """

    def __init__(self, rows: Sequence[str], metrics: Sequence[str]):
        self.rows, self.metrics = list(rows), list(metrics)
        self.clips: list[list[Any]] = []
        self.values: list[np.ndarray] = []
        self.counted: list[np.ndarray] = []
        self.yaw = np.zeros((len(self.rows), len(self.metrics), _BINS, 2))
        self.moments: dict[str, Moments] = {}

    def __len__(self) -> int:
        return len(self.clips)

    def add(self, score: Score) -> None:
        """Take in the next film; what is of an unknown row or metric is left out."""
        shape = (len(self.rows), len(self.metrics))
        values, counted = np.full(shape, np.nan), np.zeros(shape, np.int32)
        for table, of in ((values, score.values), (counted, score.counted)):
            for place, value in self._places(of):
                table[place] = value
        for place, bins in self._places(score.by_yaw):
            self.yaw[place] += bins
        self.clips.append([score.clip_id, score.speaker_id, score.frames])
        self.values.append(values)
        self.counted.append(counted)

    def _places(self, table: Mapping[str, Mapping[str, Any]]) -> list[tuple[tuple[int, int], Any]]:
        rows, metrics = ({name: i for i, name in enumerate(names)} for names in (self.rows, self.metrics))
        return [((rows[row], metrics[name]), value) for row, of in table.items() if row in rows
                for name, value in of.items() if name in metrics]

    def write(self, path: str | os.PathLike, key: str) -> None:
        """One file, atomically; `read` gives the same again, bit for bit."""
        about = json.dumps({'key': key, 'rows': self.rows, 'metrics': self.metrics, 'clips': self.clips})
        arrays = {'about': np.frombuffer(about.encode(), np.uint8), 'yaw': self.yaw}
        if self.clips:
            arrays |= {'values': np.stack(self.values), 'counted': np.stack(self.counted)}
        for row, moments in self.moments.items():
            arrays |= {f'moments/{row}/{name}': array for name, array in moments.as_arrays().items()}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        files.write_atomically(path, buffer.getvalue())


def read(path: str | os.PathLike, key: str) -> Part | None:
    """What `Part.write` wrote under the same key; None where there is nothing of it."""
    try:
        with np.load(path) as archive:
            about = json.loads(archive['about'].tobytes())
            if about['key'] != key:
                return None
            arrays = {name: archive[name] for name in archive.files}
            part = Part(about['rows'], about['metrics'])
            part.clips, part.yaw = about['clips'], arrays['yaw']
            part.values, part.counted = ([*arrays.get(name, ())] for name in ('values', 'counted'))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        _log.warning('%s cannot be read (%s): its clips are evaluated again', pathlib.Path(path), error)
        return None
    rows = {name.removeprefix('moments/').rpartition('/')[0] for name in arrays if name.startswith('moments/')}
    part.moments = {row: Moments.from_arrays({name: arrays[f'moments/{row}/{name}'] for name in
                                              ('n', 'total', 'products')}) for row in sorted(rows)}
    return part
