"""Generated videos of any method beside the true ones: what is needed to put published methods into one table.

Videos belong together that have the same name, up to the suffix. Sound, where a metric wants it, is the true video's.
"""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from talkinghead_jax import specs
from talkinghead_jax.errors import UserError
from talkinghead_jax.protocols.films import Film, Row
from talkinghead_jax.protocols.job import Plan
from talkinghead_jax.protocols.results import TRUTH
from talkinghead_jax.protocols.scorers import Motion

FOLDERS = 'folders'
CROPS = ('none', 'face')
MOST_SHORT = 0.1  # share of its frames by which a generated video may be shorter or longer than the truth


@dataclasses.dataclass(frozen=True)
class Reader:
    """How videos are read; `launch.py` hands it in.

    Attributes:
      suffixes: of video files.
      frames: path -> iterator of (H, W, 3) uint8 RGB at 25 a second.
      count: path -> the number of these.
      sound: path -> (A,) int16 at 16 kHz, or None where there is none.
      resize: (H, W, 3) uint8, side -> (side, side, 3), by area averages going down.
      face: path of a true video -> function of a frame, of any of the methods, that cuts out the square about the
        true face, at 256 px.
    """

    suffixes: tuple[str, ...]
    frames: Callable[[pathlib.Path], Iterator[np.ndarray]]
    count: Callable[[pathlib.Path], int]
    sound: Callable[[pathlib.Path], np.ndarray | None]
    resize: Callable[[np.ndarray, int], np.ndarray]
    face: Callable[[pathlib.Path], Callable[[np.ndarray], np.ndarray]]


def plan(generated: Mapping[str, pathlib.Path], truth: pathlib.Path, reader: Reader, crop: str = 'none') -> Plan:
    """Compare the videos that are in all folders.

    Args:
      generated: method -> its folder.
      truth: folder of the true videos.
      reader: reads them.
      crop: 'none': whole pictures, brought to 256 x 256 as the paper's authors do; 'face': the square about the face
        of the true video, cut out of all (whose pictures must then show the same scene at any size).

    Raises:
      UserError: a folder is missing or holds no video, two videos have one name, no name is in all folders, or the
        crop is unknown.
    """
    if TRUTH in generated:
        raise UserError(f'--generated={TRUTH}={generated[TRUTH]}: the name is taken; want NAME=DIR with another name')
    if crop not in CROPS:
        raise UserError(f'--crop={crop}: unknown; want one of {", ".join(CROPS)}')
    found = {name: _videos(folder, reader.suffixes) for name, folder in {TRUTH: truth, **generated}.items()}
    names = sorted(set.intersection(*(set(of) for of in found.values())))
    if not names:
        examples = ', '.join(f'{name}: {min(of)}' for name, of in found.items())
        raise UserError(f'no video is in all folders under one name (the first of each: {examples}); want the same '
                        'file names but for the suffix')
    left_out = {name: len(of) - len(names) for name, of in found.items() if len(of) > len(names)}

    def film(number: int) -> Film:
        return _film(names[number], {name: of[names[number]] for name, of in found.items()}, reader, crop)

    facts = {'truth': str(truth), **{f'method {name}': str(folder) for name, folder in generated.items()},
             'crop': crop, 'videos': str(len(names)),
             'left out': ', '.join(f'{count} of {name}' for name, count in left_out.items()) or 'none',
             'contents': _fingerprint(found, names)}
    labels = {**{name: name for name in generated}, TRUTH: 'True video'}
    crops = {'face': 'square about the face of the true video', 'none': 'whole picture, 256 x 256'}
    changes: dict[str, dict[str, Any]] = {name: {'crop': 'poses by MediaPipe'} for name in Motion.names}
    changes |= {name: {'crop': crops[crop]} for name in _WHOLE}
    return Plan(FOLDERS, '', labels, (TRUTH,), len(names), film, facts, {}, changes)


_WHOLE = ('ssim@authors', 'ssim@wang', 'psnr@rgb', 'fid@pytorch-fid', 'lpips@alex', 'lpips@vgg', 'lpips@squeeze',
          'temporal_difference_error', 'background_flicker')


def _videos(folder: pathlib.Path, suffixes: tuple[str, ...]) -> dict[str, pathlib.Path]:
    """Name without suffix -> file, also of files in subfolders."""
    if not folder.is_dir():
        raise UserError(f'{folder} is no folder; want one with videos')
    found: dict[str, pathlib.Path] = {}
    for path in sorted(folder.rglob('*')):
        if path.suffix.lower() not in suffixes:
            continue
        name = path.relative_to(folder).with_suffix('').as_posix()
        if name in found:
            raise UserError(f'{path} and {found[name]} have one name; want one video a clip')
        found[name] = path
    if not found:
        raise UserError(f'{folder} holds no video; want files with one of {", ".join(suffixes)}')
    return found


def _fingerprint(found: Mapping[str, Mapping[str, pathlib.Path]], names: list[str]) -> str:
    """Changes where a video does: by size and time, not by content."""
    digest = hashlib.sha256()
    for name in sorted(found):
        for clip in names:
            about = os.stat(found[name][clip])
            digest.update(f'{name}/{clip} {about.st_size} {about.st_mtime_ns}\n'.encode())
    return digest.hexdigest()[:16]


def _film(clip: str, paths: Mapping[str, pathlib.Path], reader: Reader, crop: str) -> Film:
    counts = {name: reader.count(path) for name, path in paths.items()}
    length = min(counts.values())
    for name, count in counts.items():
        if length < (1 - MOST_SHORT) * count:
            raise UserError(f'{paths[name]} has {count} frames at 25 a second, and the shortest of {clip} has '
                            f'{length}; want videos of one length')
    shown = reader.face(paths[TRUTH]) if crop == 'face' else lambda frame: reader.resize(frame, specs.CROP_SIZE)
    sound = reader.sound(paths[TRUTH])
    if sound is not None:
        room = max(0, length * specs.CHUNK - len(sound))
        sound = np.pad(sound, (0, room))[:length * specs.CHUNK].reshape(length, specs.CHUNK)
    reference = shown(next(iter(reader.frames(paths[TRUTH]))))
    rows = {name: Row(map(shown, reader.frames(path))) for name, path in paths.items() if name != TRUTH}
    return Film(clip, '', sound, reference, map(shown, reader.frames(paths[TRUTH])), rows, np.ones(length, bool))
