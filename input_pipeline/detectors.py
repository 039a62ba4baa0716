"""Which landmark detector preparation uses: `config.data.detector`, and where its files lie."""

import contextlib
import dataclasses
import pathlib

import numpy as np
from ml_collections import ConfigDict

from input_pipeline import face_tracking, fingerprints, mediapipe_mapping
from input_pipeline.face_tracking import LANDMARKER, LandmarkDetector
from input_pipeline.position_map_detector import PositionMapDetector
from talkinghead_jax.errors import UserError

KINDS = ('mediapipe', 'prnet')


@dataclasses.dataclass(frozen=True)
class Choice:
    """A detector and its files.

    Attributes:
      kind: one of `KINDS`.
      landmarker: MediaPipe's model; PRNet takes the face detector in it, or does without where this is ''.
      prnet: folder of PRNet (third_party/prnet/README.md).
    """

    kind: str
    landmarker: str
    prnet: str = ''


def find(config: ConfigDict) -> Choice:
    """The detector that `config` wants.

    Raises:
      UserError: the kind is unknown, or its files are not there.
    """
    return choose(config.data.detector, config.data.landmarker, config.data.prnet)


def choose(kind: str, landmarker: str = '', prnet: str = '') -> Choice:
    """As `find`; `landmarker` '' looks for it, with PRNet first in its folder.

    Raises:
      UserError: as `find`.
    """
    if kind not in KINDS:
        raise UserError(f'config.data.detector is {kind!r}; want one of {", ".join(KINDS)}')
    if kind == 'mediapipe':
        return Choice(kind, _found(landmarker))
    folder = pathlib.Path(prnet)
    if not prnet or not folder.is_dir():
        raise UserError(f'config.data.prnet is {prnet!r}; want a folder with the converted weights of PRNet and its '
                        'index files (third_party/prnet/README.md)')
    if not landmarker and (folder / LANDMARKER).is_file():
        landmarker = str(folder / LANDMARKER)
    try:
        landmarker = _found(landmarker)
    except UserError:
        if landmarker:
            raise
    return Choice(kind, landmarker, str(folder.absolute()))


def _found(landmarker: str) -> str:
    return str(face_tracking.find_landmarker(landmarker).absolute())  # workers may run elsewhere


def open_detector(choice: Choice) -> contextlib.AbstractContextManager[LandmarkDetector]:
    """A detector, for a `with` statement."""
    return _prnet(choice) if choice.kind == 'prnet' else face_tracking.MediaPipeDetector(choice.landmarker)


def check(choice: Choice) -> None:
    """Whether the detector can be opened, asked once before many clips are.

    Raises:
      UserError: a file is missing or damaged.
    """
    if choice.kind == 'prnet':
        _prnet(choice).check()
    else:
        with open_detector(choice):
            pass


def triangles(choice: Choice) -> np.ndarray:
    """(F, 3) int32: the mesh topology of the detector's points."""
    return _prnet(choice).triangles if choice.kind == 'prnet' else mediapipe_mapping.mesh_triangles()


def fingerprint(choice: Choice) -> str:
    """A digest of the files that decide what the detector finds."""
    files = _prnet(choice).files() if choice.kind == 'prnet' else [pathlib.Path(choice.landmarker)]
    return fingerprints.digest(kind=choice.kind, files=[fingerprints.recognise(file) for file in files])


def _prnet(choice: Choice) -> PositionMapDetector:
    return PositionMapDetector(choice.prnet, landmarker=choice.landmarker)
