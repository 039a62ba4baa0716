"""What a video is made of, where the user brings media files: tracked clips, the speech, and the film it is from."""

import functools
import os
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from input_pipeline import detectors, examples, media, preprocess
from input_pipeline import prepare as preparation
from talkinghead_jax.errors import UserError


def material(inputs: Mapping[str, str], config: ConfigDict, data_dir: str | os.PathLike) -> dict[str, Any]:
    """Track what the user brought; clips go through the cache in `data_dir`.

    Args:
      inputs: flag -> file, of those of 'source', 'audio', 'driving' and 'ref_pose' that were given; see
        `synthesis.request.check`. The source may be a picture.
      config: the whole config: `image_size` and `data` count.
      data_dir: where the cache and the quarantine table lie.

    Returns:
      `source`, `driver` and `reference`: records (`specs.CLIP`), None where not given. `audio`: int16 speech at
      16 kHz, flat, or as a driver's record holds it, a row a frame. `truth`: iterable of (H, W, 3) uint8 frames of
      the film that the speech is from, or None. `path`: the source's file.

    Raises:
      UserError: a file that cannot be used.
    """
    def record(name: str) -> dict[str, Any] | None:
        return _record(name, inputs[name], config, data_dir) if name in inputs else None

    sound = media.audio_for(inputs['audio']) if 'audio' in inputs else None  # a mistake shows before the tracking
    source, driver = record('source'), record('driving')
    if driver:
        decode = functools.partial(examples.decode, size=config.image_size)
        sound, truth = driver['audio'], map(decode, driver['video'])
    else:
        truth = media.Video(inputs['audio']) if media.has_video(inputs['audio']) else None
    return {'source': source, 'driver': driver, 'reference': record('ref_pose'), 'audio': sound, 'truth': truth,
            'path': inputs['source']}


def _record(name: str, path: str, config: ConfigDict, data_dir: str | os.PathLike) -> dict[str, Any]:
    if not media.is_image(path):
        return preparation.prepare_inputs([path], config, data_dir)[0][0]
    if name != 'source':
        raise UserError(f'--{name}={path} is a picture; want a video')
    with detectors.open_detector(detectors.find(config)) as detector:
        return preprocess.prepare_image(media.read_image(path), detector, path, config.image_size)
