"""TFDS builder of the synthetic talking heads: clips, and position maps for the unprojection network."""

import functools
import pathlib
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from input_pipeline import media, records, uv_space
from input_pipeline.datasets.builder import SPLITS, CachedRecordsBuilder
from input_pipeline.fingerprints import digest
from input_pipeline.pool import Job
from input_pipeline.synthetic import clips

_MAPS_A_FILE = 50
# First speaker and first position map of each split: far apart, so that no split changes when another grows.
_FIRST = {'train': 0, 'validation': 100_000, 'test': 200_000}


class Builder(CachedRecordsBuilder):
    """Procedural heads that speak, split by identity. Deterministic from a seed."""

    BUILDER_CONFIGS = [  # noqa: RUF012 (TFDS reads it from the class)
        tfds.core.BuilderConfig(name='clips', description='Talking heads with speech: one record a clip.'),
        tfds.core.BuilderConfig(name='position_maps', description='Single heads with their UV position maps.'),
    ]

    @classmethod
    def default_settings(cls) -> dict[str, Any]:
        """A small set: what the demo uses."""
        return {'seed': 0, 'identities': {'train': 40, 'validation': 4, 'test': 8}, 'clips': 3, 'frames': 160,
                'position_maps': 1500, 'image_size': 64, 'version': clips.VERSION}

    @classmethod
    def settings_of(cls, config: ConfigDict) -> dict[str, Any]:
        """`config.synthetic`, the seed and the generator's version."""
        return {**config.synthetic.to_dict(), 'seed': config.seed, 'version': clips.VERSION}

    def jobs(self) -> list[Job]:
        """One file a clip, or one file for every few position maps."""
        return self._clip_jobs() if self.kind == 'clips' else self._map_jobs()

    def topology(self) -> dict[str, np.ndarray]:
        """Triangles, UV mask and weights of the loss of the generator's mesh."""
        return {'triangles': np.asarray(clips.TRIANGLES, np.int32), 'uv_mask': np.asarray(clips.UV_MASK, np.float32),
                'uv_weight': uv_space.loss_weights(clips.UV_MASK, clips.KEY_POINT_UV)}

    def _clip_jobs(self) -> list[Job]:
        settings, jobs = self.settings, []
        for split in SPLITS:
            for speaker in range(_FIRST[split], _FIRST[split] + settings['identities'].get(split, 0)):
                for clip in range(settings['clips']):
                    what = {'seed': settings['seed'], 'speaker': speaker, 'clip': clip,
                            'frames': settings['frames'], 'size': settings['image_size']}
                    jobs.append(Job(split, f'synthetic clip {speaker}/{clip}',
                                    f'clip_{digest(**what, version=settings["version"])}.npz',
                                    functools.partial(write_clip, **what)))
        return jobs

    def _map_jobs(self) -> list[Job]:
        settings, jobs = self.settings, []
        held_out = max(8, settings['position_maps'] // 20)
        counts = {'train': settings['position_maps'], 'validation': held_out, 'test': held_out}
        for split in SPLITS:
            end = _FIRST[split] + counts[split]
            for start in range(_FIRST[split], end, _MAPS_A_FILE):
                what = {'seed': settings['seed'], 'start': start, 'stop': min(start + _MAPS_A_FILE, end),
                        'size': settings['image_size']}
                jobs.append(Job(split, f'synthetic position maps {start}',
                                f'maps_{digest(**what, version=settings["version"])}.npz',
                                functools.partial(write_position_maps, **what)))
        return jobs


def write_clip(path: pathlib.Path, seed: int, speaker: int, clip: int, frames: int, size: int) -> None:
    """Make one clip record and write it to `path`."""
    records.save_record(path, clips.make_clip(seed, speaker, clip, frames, size))


def write_position_maps(path: pathlib.Path, seed: int, start: int, stop: int, size: int) -> None:
    """Make position maps number `start` .. `stop` - 1 and write them to `path`."""
    made = [clips.make_position_map(seed, index, size) for index in range(start, stop)]
    records.save_record(path, {
        'index': np.arange(start, stop),
        'image': [media.encode_jpeg(example['image']) for example in made],
        'position_map': np.stack([example['position_map'] for example in made]),
    })
