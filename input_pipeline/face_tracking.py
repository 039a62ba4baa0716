"""Face landmark detectors behind one protocol.

MediaPipe runs in image mode, frame by frame. Measured on two VoxCeleb2 clips: its video mode is a quarter
steadier, but its filter lags up to one frame behind, lips included; image mode followed by the centred smoothing
of `preprocess` is as steady and does not lag.
"""

import contextlib
import dataclasses
import os
import pathlib
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, Self

import cv2
import numpy as np

from input_pipeline import mediapipe_import
from input_pipeline.mediapipe_mapping import IBUG, POINTS, mesh_triangles
from talkinghead_jax import files
from talkinghead_jax.errors import UserError

LANDMARKER = 'face_landmarker.task'
LANDMARKER_SHA256 = '64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff'
LANDMARKER_ORIGIN = "MediaPipe's published model bundle 'face_landmarker_v2_with_blendshapes'"
MIN_SIDE = 256  # px: smaller frames are enlarged before detection
MAX_FACES = 4  # found in a frame; the clip's main face is then followed
LEAST_CONFIDENCE = 0.5  # of a face that counts as found
CONFIDENCE_EVERY = 5  # frames: confidence is measured this often and interpolated, since measuring it is not cheap
_REACH = 0.5  # a face reappears within this share of its size of where it was last seen
_HALF_PIXEL = np.array([0.5, 0.5, 0.0])  # MediaPipe's zero is the outer edge of the first pixel


@dataclasses.dataclass(frozen=True)
class Detections:
    """One face followed through a clip; everything is zero where `detected` is False.

    Frame px, x right, y down, z towards the viewer in the same unit, pixel centres at integers. The zero of z is
    the detector's own.
    """

    landmarks: np.ndarray  # (T, 68, 3) float32, iBUG order
    dense: np.ndarray  # (T, V, 3) float32, the detector's mesh
    detected: np.ndarray  # (T,) bool
    confidence: np.ndarray  # (T,) float32, 0 .. 1: the face detector's own
    replaced: np.ndarray | None = None  # (T,) bool: this face is not there, another one is; None where not known


class LandmarkDetector(Protocol):
    """What preparation asks of a detector.

    Attributes:
      name: goes into the clip record.
      triangles: (F, 3) int32, the mesh topology of its `dense` points, wound as `specs.METADATA` has it.
    """

    name: str
    triangles: np.ndarray

    def detect(self, frames: Iterable[np.ndarray]) -> Detections:
        """Follow the main face through (H, W, 3) uint8 RGB frames, an array or any iterable."""


class MediaPipeDetector:
    """MediaPipe's FaceLandmarker, 478 points; to be used in a `with` statement.

    The main face of a clip is the one whose size, summed over the frames in which it is followed, is largest:
    a passer-by or a cut to somebody else does not take over. Confidence is the score of the face detector in the
    same bundle (BlazeFace), since the landmarker keeps its own to itself.
    """

    name = 'mediapipe'

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        self._stack = contextlib.ExitStack()
        self._landmarker = self._boxes = None

    @property
    def triangles(self) -> np.ndarray:
        """(F, 3) int32: see `mediapipe_mapping.mesh_triangles`."""
        return mesh_triangles()

    def __enter__(self) -> Self:
        vision = mediapipe_import.vision()
        from mediapipe.tasks.python import BaseOptions
        bundle = find_landmarker(self.path)
        try:
            self._landmarker = self._stack.enter_context(vision.FaceLandmarker.create_from_options(
                vision.FaceLandmarkerOptions(BaseOptions(model_asset_buffer=bundle.read_bytes()),
                                             running_mode=vision.RunningMode.IMAGE, num_faces=MAX_FACES,
                                             min_face_detection_confidence=LEAST_CONFIDENCE)))
            self._boxes = self._stack.enter_context(mediapipe_import.face_detector(bundle, LEAST_CONFIDENCE))
        except (RuntimeError, ValueError, KeyError, zipfile.BadZipFile) as error:
            self._stack.close()
            raise UserError(f'{self.path} is not a face landmarker; want {LANDMARKER} of sha256 '
                            f'{LANDMARKER_SHA256}') from error
        return self

    def __exit__(self, *error: object) -> None:
        self._landmarker = self._boxes = None
        self._stack.close()

    def detect(self, frames: Iterable[np.ndarray]) -> Detections:
        """Follow the main face through (H, W, 3) uint8 RGB frames: see `Detections`."""
        if self._landmarker is None:
            raise RuntimeError('MediaPipeDetector is used outside its `with` statement')
        faces, boxes = [], {}
        for t, frame in enumerate(frames):
            image, unit = self._image(frame)
            faces.append([
                (np.array([(point.x, point.y, point.z) for point in face]) * unit - _HALF_PIXEL).astype(np.float32)
                for face in self._landmarker.detect(image).face_landmarks])
            if t % CONFIDENCE_EVERY == 0:
                boxes[t] = list(self._scores(image, unit[0] / image.width))
        track = main_track(faces)
        dense = np.zeros((len(faces), POINTS, 3), np.float32)
        detected, replaced = np.zeros(len(faces), bool), np.array([bool(found) for found in faces], bool)
        for t, face in track.items():
            dense[t], detected[t], replaced[t] = face, True, False
        return Detections(dense[:, IBUG], dense, detected, _confidence(track, boxes, len(faces)), replaced)

    def _scores(self, image: Any, scale: float) -> Iterator[tuple[float, np.ndarray]]:
        """Score and centre, frame px, of each face in a picture; `scale` is frame px a pixel of the picture."""
        for found in self._boxes.detect(image).detections:
            box = found.bounding_box
            centre = np.array([box.origin_x + box.width / 2, box.origin_y + box.height / 2])
            yield found.categories[0].score, centre * scale - 0.5

    def _image(self, frame: np.ndarray) -> tuple[Any, np.ndarray]:
        """The frame as MediaPipe wants it, and (3,) the frame px that its units are."""
        import mediapipe
        height, width = frame.shape[:2]
        factor = MIN_SIDE / min(height, width)
        if factor > 1:
            frame = cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(frame))
        return image, np.array([width, height, -width])  # depth is in widths and grows away from the camera


def _confidence(track: Mapping[int, np.ndarray], boxes: Mapping[int, list[tuple[float, np.ndarray]]],
                frames: int) -> np.ndarray:
    """(T,) scores of the boxes nearest to the followed face, interpolated; 0 where it was not found."""
    known = sorted(track.keys() & boxes.keys())
    scores = []
    for t in known:
        distances = [np.linalg.norm(centre - track[t][:, :2].mean(axis=0)) for _, centre in boxes[t]]
        near = bool(distances) and min(distances) < _REACH * _size(track[t])
        scores.append(boxes[t][int(np.argmin(distances))][0] if near else LEAST_CONFIDENCE)
    confidence = np.zeros(frames, np.float32)
    found = sorted(track)
    confidence[found] = np.interp(found, known, scores) if known else LEAST_CONFIDENCE
    return confidence


def main_track(faces: list[list[np.ndarray]]) -> dict[int, np.ndarray]:
    """Link the faces of each frame into tracks, and return the main one.

    Args:
      faces: for each frame, the faces found in it, each (V, 3) px.

    Returns:
      Frame number -> face of the track whose face sizes add up to most; empty where there is no face.
    """
    tracks: list[dict[int, np.ndarray]] = []
    for t, found in enumerate(faces):
        pairs = sorted((_distance(track[max(track)], face), i, j)
                       for i, track in enumerate(tracks) for j, face in enumerate(found))
        taken: set[int] = set()
        for distance, i, j in pairs:  # nearest first
            if distance < _REACH and j not in taken and t not in tracks[i]:
                tracks[i][t] = found[j]
                taken.add(j)
        tracks += [{t: face} for j, face in enumerate(found) if j not in taken]
    return max(tracks, key=lambda track: sum(map(_size, track.values())), default={})


def _size(face: np.ndarray) -> float:
    return float(np.ptp(face[:, :2], axis=0).max())


def _distance(last: np.ndarray, face: np.ndarray) -> float:
    """Between two faces' centres, in face sizes."""
    return float(np.linalg.norm((face - last)[:, :2].mean(axis=0))) / max(_size(last), _size(face), 1e-6)


def fill_gaps(points: np.ndarray, detected: np.ndarray, times: np.ndarray | None = None) -> np.ndarray:
    """Interpolate linearly where the face was not found; before the first and after the last, hold.

    Args:
      points: (T, V, 3).
      detected: (T,) bool: where they are known, at least once.
      times: (N,) the frames wanted; all by default.

    Returns:
      (N, V, 3) float32.
    """
    known = np.flatnonzero(detected)
    times = np.arange(len(detected)) if times is None else times
    after = np.clip(np.searchsorted(known, times), 0, len(known) - 1)
    before = np.clip(np.searchsorted(known, times, side='right') - 1, 0, len(known) - 1)
    start, end = known[before], known[after]
    share = ((times - start) / np.maximum(end - start, 1)).clip(0, 1).astype(np.float32)[:, None, None]
    return points[start] + share * (points[end] - points[start])


def find_landmarker(flag: str | os.PathLike | None = None) -> pathlib.Path:
    """Where the MediaPipe model lies: the flag's file, else in $TALKINGHEAD_ASSETS, else in the user's cache.

    Raises:
      UserError: it is nowhere; the sentence says which file is wanted and where it comes from.
    """
    cache = files.cache_folder()
    if flag:
        places = [pathlib.Path(flag)]
    else:
        assets = os.environ.get('TALKINGHEAD_ASSETS')
        places = [pathlib.Path(folder) / LANDMARKER for folder in (assets, cache) if folder]
    for place in places:
        if place.is_file():
            return place
    raise UserError(
        f'the face landmark model is missing: no file {" or ".join(map(str, places))}; want {LANDMARKER} of sha256 '
        f'{LANDMARKER_SHA256}, which is {LANDMARKER_ORIGIN}; give it by --landmarker=FILE, or put it into the folder '
        f'$TALKINGHEAD_ASSETS or {cache}')
