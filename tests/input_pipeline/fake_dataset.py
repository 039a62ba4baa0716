"""A dataset of fake records: a TFDS builder like any other, in a fraction of a second."""

import functools
import os
import pathlib

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from fake_records import fake_position_map, fake_record

from configs import common
from input_pipeline import records
from input_pipeline.datasets.builder import CachedRecordsBuilder
from input_pipeline.fingerprints import digest
from input_pipeline.pool import Job
from talkinghead_jax.errors import Unusable

COUNTS = {'train': 5, 'validation': 2, 'test': 3}
SIZE = 16


class FakeTalkingHeads(CachedRecordsBuilder):
    """Ten clips and as many position maps."""

    pkg_dir_path = epath.Path(__file__).parents[2] / 'input_pipeline/datasets/synthetic_talking_heads'
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name='clips', description='Fake clips.'),
        tfds.core.BuilderConfig(name='position_maps', description='Fake position maps.'),
    ]

    @classmethod
    def default_settings(cls):
        return {'seed': 0, 'bad': []}

    @classmethod
    def settings_of(cls, config):
        return {'seed': config.seed, 'bad': list(config.get('bad', ()))}

    def jobs(self):
        made = []
        make = write_clip if self.kind == 'clips' else write_maps
        for first, (split, count) in zip((0, 100, 200), COUNTS.items(), strict=True):
            for number in range(first, first + count):
                what = {'seed': self.settings['seed'], 'number': number, 'bad': number in self.settings['bad']}
                made.append(Job(split, f'{self.kind} {number}', f'{self.kind}_{digest(**what)}.npz',
                                functools.partial(make, **what), f'{number}'))
        return made

    def topology(self):
        return {'triangles': np.arange(12, dtype=np.int32).reshape(4, 3),
                'uv_mask': np.ones((SIZE, SIZE), np.float32), 'uv_weight': np.ones((SIZE, SIZE), np.float32)}


def write_clip(path: pathlib.Path, seed: int, number: int, bad: bool) -> None:
    if bad:
        raise Unusable('unreadable', f'clip {number} is broken')
    # A test may ask for a moment to be killed in.
    if (pause := os.environ.get('FAKE_PAUSE')):
        import time
        time.sleep(float(pause))
    with open(path.parent / 'made.log', 'a') as log:
        log.write(f'{number}\n')
    records.save_record(path, clip(seed, number))


def clip(seed: int, number: int) -> dict:
    return fake_record(1000 * seed + number, frames=60 + number % 7, size=SIZE)


def write_maps(path: pathlib.Path, seed: int, number: int, bad: bool) -> None:
    made = fake_position_map(1000 * seed + number, SIZE)
    records.save_record(path, {'index': np.array([number]), 'image': [made['image']],
                               'position_map': made['position_map'][None]})


def config():
    config = common.base('fake')
    config.image_size = SIZE
    config.data.dataset = 'fake'
    config.data.workers = 1
    for stage in common.STAGES:
        config[stage].batch_size = 4
    config.generator.data.references = 3
    config.expression.data.frames = 8
    config.head_motion.data.update({'frames': 16, 'evaluation_frames': 20})
    return config
