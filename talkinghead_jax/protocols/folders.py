"""Generated videos of any method beside the true ones: what is needed to put published methods into one table.

Videos belong together that have the same name, up to the suffix. Sound, where a metric wants it, is the true video's.
"""

import dataclasses
import hashlib
import logging
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from talkinghead_jax import specs
from talkinghead_jax.errors import UserError
from talkinghead_jax.protocols.films import Film, Row
from talkinghead_jax.protocols.job import Plan
from talkinghead_jax.protocols.recipes import DETECTOR
from talkinghead_jax.protocols.results import TRUTH
from talkinghead_jax.synthesis import request

FOLDERS = 'folders'
CROPS = ('none', 'face')
MOST_SHORT = 0.1  # share of the longest video of a clip that its shortest may lack
MOST_SQUEEZED = 0.02  # by how much an aspect ratio may differ from the truth's, as a share of it

Cut = Callable[[Iterable[np.ndarray]], Iterator[np.ndarray]]  # frames of any size -> (256, 256, 3) uint8 pictures

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Reader:
    """How videos are read; `launch.py` hands it in.

    Attributes:
      suffixes: of video files.
      frames: path -> iterator of (H, W, 3) uint8 RGB at 25 a second.
      measure: path -> number of frames, their height and width.
      sound: path -> (A,) int16 at 16 kHz, or None where there is none.
      beside: path -> the files beside a video that `sound` may read.
      resize: (H, W, 3) uint8, side -> (side, side, 3), by area averages going down.
      face: path of a true video -> what cuts the squares about its face out of its frames, or out of those of
        another video of the same scene.
      face_facts: name -> value: all that `face` depends on beside the video.

    `frames`, `measure`, `sound` and `face` raise `UserError` where a file is of no use.
    """

    suffixes: tuple[str, ...]
    frames: Callable[[pathlib.Path], Iterator[np.ndarray]]
    measure: Callable[[pathlib.Path], tuple[int, int, int]]
    sound: Callable[[pathlib.Path], np.ndarray | None]
    beside: Callable[[pathlib.Path], Sequence[str]]
    resize: Callable[[np.ndarray, int], np.ndarray]
    face: Callable[[pathlib.Path], Cut] | None = None
    face_facts: Mapping[str, str] = dataclasses.field(default_factory=dict)


def plan(generated: Mapping[str, pathlib.Path], truth: pathlib.Path, reader: Reader, crop: str = 'none',
         dataset: str = '', table: str = '') -> Plan:
    """Compare the videos that are in all folders.

    A clip with a video that cannot be read, that has another length or another aspect ratio than the others, or that
    shows no face where one is wanted, is left out: its film has no frames, and a warning names the file.

    Args:
      generated: method -> its folder.
      truth: folder of the true videos.
      reader: reads them.
      crop: 'none': whole pictures, brought to 256 x 256 as the paper's authors do; 'face': the square about the face
        of the true video, cut out of all (whose pictures must then show the same scene at any size).
      dataset: that the true videos are of; '' where nobody knows.
      table: the protocol among whose published rows these stand, '' for none.

    Raises:
      UserError: a folder is missing or holds no video, two videos have one name, no name is in all folders, or the
        crop is unknown.
    """
    for name, folder in generated.items():
        if name == TRUTH or '/' in name:  # which divides names in the results
            raise UserError(f'--generated={name}={folder}: a method cannot be called {name}; want NAME=DIR with '
                            'another name, without /')
    if crop not in CROPS:
        raise UserError(f'--crop={crop}: unknown; want one of {", ".join(CROPS)}')
    found = {name: _videos(folder, reader.suffixes) for name, folder in {TRUTH: truth, **generated}.items()}
    names = sorted(set.intersection(*(set(of) for of in found.values())))
    if not names:
        examples = ', '.join(f'{name}: {min(of)}' for name, of in found.items())
        raise UserError(f'no video is in all folders under one name (the first of each: {examples}); want the same '
                        'file names but for the suffix')
    left_out = {name: len(of) - len(names) for name, of in found.items() if len(of) > len(names)}

    told: set[str] = set()

    def film(number: int) -> Film:
        clip = names[number]
        try:
            return _film(clip, {name: of[clip] for name, of in found.items()}, reader, crop)
        except UserError as error:
            if clip not in told:  # some films are asked for twice
                _log.warning('clip %s is left out: %s', clip, error)
            told.add(clip)
            return Film.empty(clip)

    facts = {'truth': str(truth), **{f'method {name}': str(folder) for name, folder in generated.items()},
             'crop': crop, **(reader.face_facts if crop == 'face' else {}), 'videos': str(len(names)),
             'left out': ', '.join(f'{count} of {name}' for name, count in left_out.items()) or 'none',
             'reference': 'first frame of the true video, which does not count',
             'contents': _fingerprint(found, names, reader)} | ({'table': table} if table else {})
    labels = {**{name: name for name in generated}, TRUTH: 'True video'}
    pictures = {'face': 'square about the face of the true video, 256 px',
                'none': 'whole picture, brought to 256 x 256 px: what is not square is squeezed'}
    return Plan(FOLDERS, dataset, labels, (TRUTH,), len(names), film, pictures[crop], facts,
                needs={'background_flicker': (DETECTOR,)})


def _videos(folder: pathlib.Path, suffixes: tuple[str, ...]) -> dict[str, pathlib.Path]:
    """Name without suffix -> file, also of files in subfolders."""
    if not folder.is_dir():
        raise UserError(f'{folder} is no folder; want one with videos')
    videos = [path for path in sorted(folder.rglob('*')) if path.suffix.lower() in suffixes and os.path.isfile(path)
              and not any(part.startswith('.') for part in path.relative_to(folder).parts)]
    beside_truth = set(map(request.concat_path, videos))
    found: dict[str, pathlib.Path] = {}
    for path in videos:
        if path in beside_truth:
            continue
        name = path.relative_to(folder).with_suffix('').as_posix()
        if name in found:
            raise UserError(f'{path} and {found[name]} have one name; want one video a clip')
        found[name] = path
    if not found:
        raise UserError(f'{folder} holds no video; want files with one of {", ".join(suffixes)}')
    return found


def _fingerprint(found: Mapping[str, Mapping[str, pathlib.Path]], names: list[str], reader: Reader) -> str:
    """Changes where a video or the sound beside a true one does: by size and time, not by content."""
    digest = hashlib.sha256()
    for name in sorted(found):
        for clip in names:
            path = found[name][clip]
            for file in (path, *(reader.beside(path) if name == TRUTH else ())):
                about, suffix = os.stat(file), os.path.splitext(file)[1]
                digest.update(f'{name}/{clip}{suffix} {about.st_size} {about.st_mtime_ns}\n'.encode())
    return digest.hexdigest()[:16]


def _film(clip: str, paths: Mapping[str, pathlib.Path], reader: Reader, crop: str) -> Film:
    """The clip as all show it; UserError where one of its files is of no use."""
    length = _length(paths, reader)
    true = paths[TRUTH]
    cut = reader.face(true) if crop == 'face' else lambda frames: (
        reader.resize(frame, specs.CROP_SIZE) for frame in frames)
    sound = reader.sound(true)
    if sound is not None:
        room = max(0, length * specs.CHUNK - len(sound))
        sound = np.pad(sound, (0, room))[:length * specs.CHUNK].reshape(length, specs.CHUNK)
    reference = next(cut(reader.frames(true)))
    rows = {name: Row(cut(reader.frames(path))) for name, path in paths.items() if name != TRUTH}
    # The first true frame is the reference that identity is compared with.
    return Film(clip, '', sound, reference, cut(reader.frames(true)), rows, np.arange(length) > 0)


def _length(paths: Mapping[str, pathlib.Path], reader: Reader) -> int:
    """How many frames all videos of a clip have; UserError where they do not fit together."""
    found = {name: reader.measure(path) for name, path in paths.items()}
    counts = {name: count for name, (count, _, _) in found.items()}
    shortest, longest = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    if counts[shortest] < (1 - MOST_SHORT) * counts[longest]:
        raise UserError(f'{paths[shortest]} has {counts[shortest]} frames at 25 a second, and {paths[longest]} has '
                        f'{counts[longest]}; want at most {MOST_SHORT:.0%} less')
    _, height, width = found[TRUTH]
    for name, (_, high, wide) in found.items():
        if abs(wide * height / (high * width) - 1) > MOST_SQUEEZED:
            raise UserError(f'{paths[name]} has frames of {wide} x {high}, and {paths[TRUTH]} of {width} x {height}; '
                            'want the same aspect ratio')
    return counts[shortest]
