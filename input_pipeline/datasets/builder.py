"""What all builders share: features of the records, the cache of records, and streaming it into TFRecords.

Preparation has two steps (design, Sec. 7). A dataset names its `jobs`: each makes one file of the cache from a
clip (or a parameter set), under a name that everything that determines its content goes into. The builder then
streams the cached records into TFRecords; in `tfds build` it first makes what is missing.
"""

import abc
import importlib
import os
import pathlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from ml_collections import ConfigDict
from tensorflow_datasets.core import writer
from tqdm import tqdm

from input_pipeline import pool, quarantine, records
from input_pipeline.pool import Job
from talkinghead_jax import specs
from talkinghead_jax.errors import UserError

SPLITS = ('train', 'validation', 'test')


class CachedRecordsBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A TFDS builder over cached records.

    A subclass names its jobs and settings; its builder configs are 'clips' and 'position_maps', or one of them.
    `PLACES` are the settings that say where something lies: they do not determine the dataset, only what is there
    does, which goes into the names of the jobs.

    Args:
      settings: what `settings_of` gives; the dataset's defaults if None.
      cache: folder of cached records; `DATA_DIR/cache` if None.
      make_missing: whether to make records that the cache lacks, by a pool of processes; else they are left out.
      **kwargs: of `tfds.core.GeneratorBasedBuilder`.
    """

    VERSION = tfds.core.Version('1.0.0')
    RELEASE_NOTES = {'1.0.0': 'First release.'}  # noqa: RUF012 (TFDS reads it from the class)

    PLACES: tuple[str, ...] = ()

    def __init__(self, *, settings: Mapping[str, Any] | None = None, cache: str | os.PathLike | None = None,
                 make_missing: bool = True, **kwargs: Any):
        self.settings = dict(settings if settings is not None else self.default_settings())
        self._make_missing = make_missing
        super().__init__(**kwargs)
        self.cache = pathlib.Path(cache if cache is not None else pathlib.Path(self._data_dir_root) / 'cache')

    @classmethod
    @abc.abstractmethod
    def settings_of(cls, config: ConfigDict) -> dict[str, Any]:
        """What of the config determines the dataset, and where it lies, as JSON-like values; reads no file."""

    @classmethod
    @abc.abstractmethod
    def default_settings(cls) -> dict[str, Any]:
        """The settings of a plain `tfds build`."""

    @abc.abstractmethod
    def jobs(self) -> list[Job]:
        """The files of the cache that this builder config is made of."""

    @abc.abstractmethod
    def topology(self) -> dict[str, np.ndarray]:
        """`triangles` (F, 3) int32; where there are position maps also `uv_mask` and `uv_weight` (S, S) float32."""

    def _info(self) -> tfds.core.DatasetInfo:
        features = (clip_features() if self.kind == 'clips'
                    else position_map_features(len(self.topology()['uv_mask'])))
        return self.dataset_info_from_configs(features=features, disable_shuffling=False)

    @property
    def kind(self) -> str:
        """'clips' or 'position_maps'."""
        return self.builder_config.name

    def _example_writer(self) -> writer.ExampleWriter:
        return _DeterministicWriter(super()._example_writer().file_format)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager
        jobs = self.jobs()
        if self._make_missing:
            refusals = pool.run(jobs, self.cache)
            table = self.cache.parent / f'{self.name}_{quarantine.TABLE}'
            quarantine.write(table, refusals)
            if refusals:
                logging.warning('%d of %d left out (%s), see %s', len(refusals), len(jobs),
                                quarantine.described(quarantine.counts(refusals)), table)
        jobs = [job for job in jobs if (self.cache / job.name).is_file()]
        if not jobs:
            raise UserError(f'none of the {self.kind} of {self.name} can be used')
        return {split: self._generate_examples([job for job in jobs if job.split == split])
                for split in SPLITS if any(job.split == split for job in jobs)}

    def _generate_examples(self, jobs: Sequence[Job]) -> Iterator[tuple[str, dict[str, Any]]]:
        for job in tqdm(jobs, f'write {self.kind} {jobs[0].split}', unit='file'):
            record = _load(self.cache / job.name)
            if self.kind == 'clips':
                yield record['clip_id'], record
            else:
                for number, image, position_map in zip(
                        record['index'], record['image'], record['position_map'], strict=True):
                    yield f'{job.split}{number:09d}', {'image': image, 'position_map': position_map}


def _load(path: pathlib.Path) -> dict[str, Any]:
    try:
        return records.load_record(path)
    except UserError as error:
        path.unlink(missing_ok=True)
        raise UserError(f'{error}; it is deleted: run the same command again, which makes it anew') from error


class _DeterministicWriter(writer.ExampleWriter):
    """TFDS serializes the fields of an example in another order in every process; here they are sorted."""

    def write(self, path: Any, examples: Iterable[tuple[Any, bytes]]) -> Any:
        return super().write(path, ((key, _sorted(payload)) for key, payload in examples))


def _sorted(payload: bytes) -> bytes:
    import tensorflow as tf  # seconds to import, and only needed while writing
    return tf.train.Example.FromString(payload).SerializeToString(deterministic=True)


def clip_features() -> tfds.features.FeaturesDict:
    """TFDS features of `specs.CLIP`: images stay the JPEG bytes they are, arrays are stored as raw bytes."""
    return tfds.features.FeaturesDict({name: _feature(field) for name, field in specs.CLIP.items()})


def position_map_features(size: int) -> tfds.features.FeaturesDict:
    """TFDS features of `specs.POSITION_MAP` with maps of `size` x `size`."""
    return tfds.features.FeaturesDict({
        'image': _image(),
        'position_map': tfds.features.Tensor(shape=(size, size, 3), dtype=np.float32, encoding='bytes'),
    })


def _feature(field: specs.Field) -> tfds.features.FeatureConnector:
    if field.dtype == 'str':
        return tfds.features.Text(doc=field.meaning)
    if field.dtype == 'bytes':
        return tfds.features.Sequence(_image(), doc=field.meaning)
    shape = tuple(None if isinstance(axis, str) else axis for axis in field.shape)
    encoding = 'bytes' if shape else 'none'
    return tfds.features.Tensor(shape=shape, dtype=np.dtype(field.dtype).type, encoding=encoding, doc=field.meaning)


def _image() -> tfds.features.Image:
    return tfds.features.Image(shape=(None, None, 3), encoding_format='jpeg')


def builder_class(name: str) -> type[CachedRecordsBuilder]:
    """The builder of dataset `name` (`config.data.dataset`).

    Raises:
      UserError: there is no such dataset.
    """
    folder = pathlib.Path(__file__).parent
    known = sorted(module.name for module in pkgutil.iter_modules([str(folder)]) if module.ispkg)
    if name not in known:
        raise UserError(f'config.data.dataset is {name!r}; datasets are {", ".join(known)}')
    return importlib.import_module(f'input_pipeline.datasets.{name}.{name}_dataset_builder').Builder
