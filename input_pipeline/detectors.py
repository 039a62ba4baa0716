"""Which landmark detector preparation uses: `config.data.detector`, and where its files lie."""

import atexit
import contextlib
import functools
import pathlib
from collections.abc import Iterator

import numpy as np
from ml_collections import ConfigDict

from input_pipeline import face_tracking, fingerprints, mediapipe_mapping
from input_pipeline.face_tracking import LandmarkDetector
from talkinghead_jax.errors import UserError

KINDS = ('mediapipe', 'prnet')


def find(config: ConfigDict) -> tuple[str, str]:
    """The kind of detector that `config` wants, and the path of its files.

    Raises:
      UserError: the kind is unknown, or its files are not there.
    """
    kind, folder = config.data.detector, config.data.prnet
    return kind, locate(kind, folder if kind == 'prnet' else config.data.landmarker)


def locate(kind: str, path: str) -> str:
    """Where the files of a detector lie; see `find`. `path` '' looks for MediaPipe's."""
    if kind not in KINDS:
        raise UserError(f'config.data.detector is {kind!r}; want one of {", ".join(KINDS)}')
    if kind == 'mediapipe':
        return str(face_tracking.find_landmarker(path))
    if not path or not pathlib.Path(path).is_dir():
        raise UserError(f'config.data.prnet is {path!r}; want a folder with the converted weights of PRNet and its '
                        'index files (third_party/prnet/README.md)')
    return path


@contextlib.contextmanager
def open_detector(kind: str, path: str) -> Iterator[LandmarkDetector]:
    """A detector, while the context is open; arguments as `find` gives them."""
    if kind == 'prnet':
        from input_pipeline.position_map_detector import PositionMapDetector
        detector = PositionMapDetector(path)
    else:
        detector = face_tracking.MediaPipeDetector(path)
    with detector as opened:
        yield opened


@functools.lru_cache(maxsize=1)
def kept_open(kind: str, path: str) -> LandmarkDetector:
    """As `open_detector`, but open until the process ends: a worker prepares one clip after the other."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(open_detector(kind, path))


def triangles(kind: str, path: str) -> np.ndarray:
    """(F, 3) int32: the mesh topology of the detector's points."""
    if kind == 'prnet':
        from input_pipeline.position_map_detector import PositionMapDetector
        return PositionMapDetector(path).triangles
    return mediapipe_mapping.mesh_triangles()


def fingerprint(kind: str, path: str) -> str:
    """A digest of the files that decide what the detector finds."""
    if kind == 'prnet':
        from input_pipeline.position_map_detector import PositionMapDetector
        files = PositionMapDetector(path).files()
    else:
        files = [pathlib.Path(path)]
    return fingerprints.digest(kind=kind, files=[fingerprints.recognise(file) for file in files])
