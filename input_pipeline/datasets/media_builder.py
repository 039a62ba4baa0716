"""What datasets of films share: a tree of media files becomes one job of the cache a clip."""

import abc
import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from input_pipeline import detectors, fingerprints, media, preprocess, records
from input_pipeline.datasets.builder import CachedRecordsBuilder
from input_pipeline.pool import Job
from talkinghead_jax.errors import UserError


class Source(NamedTuple):
    """A media file and what its record is called.

    `sound` is the file of its sound; '' means its own, or what lies beside it (`media.audio_for`).
    """

    path: str
    split: str = 'train'
    clip_id: str = ''
    speaker_id: str = ''
    sound: str = ''
    transcript: str = ''


class MediaBuilder(CachedRecordsBuilder, skip_registration=True):
    """A dataset of films of speaking people; a subclass says which files a tree as published holds."""

    BUILDER_CONFIGS = [  # noqa: RUF012 (TFDS reads it from the class)
        tfds.core.BuilderConfig(name='clips', description='One record a clip.'),
    ]
    PLACES = ('media', 'landmarker', 'prnet')
    MIN_FRAMES = 25  # at 25 a second; shorter clips go to quarantine

    @classmethod
    @abc.abstractmethod
    def sources(cls, root: pathlib.Path) -> list[Source]:
        """Every clip of the tree at `root`, in a fixed order.

        Raises:
          UserError: the tree is not what the publisher ships.
        """

    @classmethod
    def default_settings(cls) -> dict[str, Any]:
        """Full size, with the media in TFDS's folder for manual downloads."""
        return cls._settings(preprocess.Options(min_frames=cls.MIN_FRAMES))

    @classmethod
    def settings_of(cls, config: ConfigDict) -> dict[str, Any]:
        """The options of `config.data` and `config.image_size`, and where media and detector lie."""
        data = config.data
        return cls._settings(options_of(config, cls.MIN_FRAMES), media=data.media, landmarker=data.landmarker,
                             prnet=data.prnet, detector=data.detector)

    @classmethod
    def _settings(cls, options: preprocess.Options, media: str = '', landmarker: str = '', prnet: str = '',
                  detector: str = 'mediapipe') -> dict[str, Any]:
        return {'media': media, 'landmarker': landmarker, 'prnet': prnet, 'detector': detector,
                'options': dataclasses.asdict(options), 'version': preprocess.VERSION}

    @functools.cached_property
    def _detector(self) -> detectors.Choice:
        return detectors.choose(*(self.settings[name] for name in ('detector', 'landmarker', 'prnet')))

    def jobs(self) -> list[Job]:
        """One file a clip."""
        return self._jobs

    @functools.cached_property
    def _jobs(self) -> list[Job]:
        root = pathlib.Path(self.settings['media']).absolute()  # workers may run elsewhere
        if not self.settings['media'] or not root.is_dir():
            raise UserError(f'config.data.media is {self.settings["media"]!r}; want the folder of {self.name}: '
                            + ' '.join(self.MANUAL_DOWNLOAD_INSTRUCTIONS.split()))
        found = self.sources(root)
        detectors.check(self._detector)  # not once a clip
        return media_jobs(found, self.cache, preprocess.Options(**self.settings['options']), self._detector)

    def topology(self) -> dict[str, np.ndarray]:
        """Triangles of the tracked mesh."""
        return {'triangles': np.asarray(detectors.triangles(self._detector), np.int32)}

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        if not self.settings['media']:
            self.settings['media'] = str(dl_manager.manual_dir)
        return super()._split_generators(dl_manager)


def options_of(config: ConfigDict, min_frames: int = preprocess.Options.min_frames) -> preprocess.Options:
    """How `config` wants clips prepared."""
    data = config.data
    return preprocess.Options(image_size=config.image_size, crop=data.crop, min_frames=data.min_frames or min_frames,
                              max_missing=data.max_missing)


def media_jobs(sources: Sequence[Source], cache: pathlib.Path, options: preprocess.Options,
               detector: detectors.Choice) -> list[Job]:
    """One job a media file; a file that cannot be read fails when its job runs.

    Args:
      sources: what to prepare.
      cache: where the table of the files' fingerprints lies.
      options: how.
      detector: which.
    """
    names = functools.lru_cache(maxsize=16)(_names)  # a listing a folder: a question a file takes long on networks
    used = [[source.path, *([source.sound] if source.sound else
                            media.beside(source.path, names(os.path.dirname(source.path))))] for source in sources]
    every = sorted({file for files in used for file in files})
    content = dict(zip(every, fingerprints.recognise_all(every, cache), strict=True))
    what = {'detector': detectors.fingerprint(detector), 'options': dataclasses.asdict(options),
            'version': preprocess.VERSION}
    jobs = []
    for source, files in zip(sources, used, strict=True):
        name = fingerprints.digest(files=[content[file] for file in files],
                                   names=[source.clip_id, source.speaker_id, source.transcript], **what)
        make = functools.partial(write_record, source=source, options=options, detector=detector)
        # A folder of a million files is slow in many ways.
        jobs.append(Job(source.split, source.path, f'media/{name[:2]}/{name}.npz', make, source.clip_id))
    return jobs


def _names(folder: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder or '.'))
    except OSError:
        return frozenset()


def write_record(path: pathlib.Path, source: Source, options: preprocess.Options, detector: detectors.Choice) -> None:
    """Prepare one media file and write its record to `path`."""
    with detectors.open_detector(detector) as opened:  # takes 40 ms
        record = preprocess.prepare_media(source.path, opened, source.clip_id, source.speaker_id, options,
                                          source.sound, source.transcript)
    records.save_record(path, record)
