"""What an evaluation of whole videos found, and how it is kept: results.json, results.npz."""

import dataclasses
import io
import json
import os
import pathlib
import zipfile
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from talkinghead_jax import files
from talkinghead_jax.errors import UserError
from talkinghead_jax.protocols.recipes import POOL, RECIPES

TRUTH = 'truth'  # the row of the true videos: what a metric says where nothing is generated
YAW_EDGES = (0.0, 15.0, 30.0, 45.0, 90.0)  # degrees of |yaw| of the true frame; a bin from each to the next


@dataclasses.dataclass
class Results:
    """A table: a row a method, a column a metric; and all that it was made of.

    Attributes:
      protocol: 'audio_driven', 'landmark_driven' or 'folders'.
      dataset: its name, as in the config; '' of folders.
      labels: row -> its name for readers ('Ours (K = 8)'), in the order of the table.
      baselines: rows that are no method of interest: trivial ones, and `TRUTH`.
      clips: 'clip_id' and 'speaker_id' (n,) str, 'frames' (n,) int: the clips, in the order of `per_clip`.
      per_clip: row -> metric -> (n,) float64, NaN where a clip has no value. Of metrics of level 'pool' there is
        none.
      by_yaw: row -> metric (of level 'frame') -> (N, bins, 2) float64: sum and number of the frames' values, by
        `YAW_EDGES`; N groups of clips, such as one of all.
      pooled: row -> metric -> value of all frames together.
      recipes: metric -> what was done: the fields of `Recipe`; 'weights' {network: sha256 of the published file};
        and 'picture', what pictures it saw: part of the frame, and size.
      notes: metric -> a warning, or 'not computed: needs FILE' where there is no value.
      row_notes: row -> why it is empty, or what to know about it.
      facts: name -> value: checkpoints, size, software, what was evaluated.
      videos: row -> clip_id -> path of a video, relative to the folder of the results.
      counted: row -> metric (of level 'frame') -> (n,) int: the frames that a clip's value is the mean of.
    """

    protocol: str
    dataset: str
    labels: dict[str, str]
    baselines: tuple[str, ...]
    clips: dict[str, np.ndarray]
    per_clip: dict[str, dict[str, np.ndarray]]
    by_yaw: dict[str, dict[str, np.ndarray]]
    pooled: dict[str, dict[str, float]]
    recipes: dict[str, dict[str, Any]]
    notes: dict[str, str] = dataclasses.field(default_factory=dict)
    row_notes: dict[str, str] = dataclasses.field(default_factory=dict)
    facts: dict[str, str] = dataclasses.field(default_factory=dict)
    videos: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    counted: dict[str, dict[str, np.ndarray]] = dataclasses.field(default_factory=dict)

    def metrics(self) -> list[str]:
        """Those that have a value in some row, in the order of the recipes; then what is unknown to them."""
        found = {name for of in (*self.per_clip.values(), *self.pooled.values()) for name in of}
        known = list(RECIPES)
        return sorted(found, key=lambda name: (known.index(name) if name in known else len(known), name))

    def mean(self, row: str, metric: str) -> float:
        """The number in the table: mean over the clips that have a value, or the pooled value; NaN where none."""
        if metric in self.recipes and self.recipes[metric].get('level') == POOL:
            return float(self.pooled.get(row, {}).get(metric, np.nan))
        values = np.asarray(self.per_clip.get(row, {}).get(metric, ()), np.float64)
        values = values[~np.isnan(values)]
        return float(values.mean()) if len(values) else float('nan')

    def count(self, row: str, metric: str) -> int:
        """Clips that have a value."""
        return int((~np.isnan(np.asarray(self.per_clip.get(row, {}).get(metric, ()), np.float64))).sum())

    def yaw_means(self, row: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """((bins,) mean over frames, NaN in an empty bin; (bins,) number of frames)."""
        total = self.by_yaw[row][metric].sum(axis=0)
        with np.errstate(invalid='ignore', divide='ignore'):
            return total[:, 0] / total[:, 1], total[:, 1].astype(int)


_ARRAYS = ('clips', 'per_clip', 'by_yaw', 'counted')


def save(folder: str | os.PathLike, results: Results) -> None:
    """Write results.npz and results.json into `folder`, each atomically; `load` reads them back."""
    folder = pathlib.Path(folder)
    fields = {field.name: getattr(results, field.name) for field in dataclasses.fields(results)}
    arrays = flatten_dict({name: fields.pop(name) for name in _ARRAYS}, sep='/')
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    (folder / 'results.json').unlink(missing_ok=True)  # the old one must not vouch for the new arrays
    files.write_atomically(folder / 'results.npz', buffer.getvalue())
    files.write_atomically(folder / 'results.json', files.to_json(fields))


def load(folder: str | os.PathLike) -> Results:
    """What `save` wrote.

    Raises:
      UserError: there is nothing, or nothing whole.
    """
    folder = pathlib.Path(folder)
    try:
        fields = json.loads((folder / 'results.json').read_text())
        with np.load(folder / 'results.npz') as archive:
            tree = unflatten_dict({name: archive[name] for name in archive.files}, sep='/')
        fields['baselines'] = tuple(fields['baselines'])
        fields['pooled'] = {row: {name: float('nan') if value is None else value for name, value in of.items()}
                            for row, of in fields['pooled'].items()}
        rows = {name: {row: tree.get(name, {}).get(row, {}) for row in fields['labels']}
                for name in _ARRAYS[1:]}
        return Results(**fields, clips=tree['clips'], **rows)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:  # or of another version
        raise UserError(f'{folder} holds no results of an evaluation; want a folder with results.json and '
                        'results.npz, as --mode=evaluate writes it') from error
