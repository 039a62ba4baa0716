"""Media to clip record: track, crop, landmarks, pose, key frame, mesh, sound (design, Sec. 3 and 7)."""

import dataclasses
import json
import logging
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from input_pipeline import audio as sound
from input_pipeline import media
from input_pipeline.crop import Crop, static_crop
from input_pipeline.face_tracking import Detections, LandmarkDetector, fill_gaps
from input_pipeline.mediapipe_mapping import mesh_triangles
from talkinghead_jax.errors import UserError
from talkinghead_jax.geometry import face, rigid
from talkinghead_jax.ops.hard_rasterizer import vertex_visibility
from talkinghead_jax.specs import CHUNK, CONTEXT, CROP_SIZE, FRAME_RATE

VERSION = 2  # raise it when the same media would give another record
MIN_FRAMES = FRAME_RATE  # one second
MAX_MISSING = 0.5  # share of frames without a face
MAX_LENGTH_DIFFERENCE = 0.5  # s, between picture and sound, that passes without a warning
SMOOTHING = 5  # frames: Hanning window over the landmarks

_log = logging.getLogger(__name__)


def prepare_clip(frames: Iterable[np.ndarray], audio: np.ndarray, detector: LandmarkDetector, clip_id: str,
                 speaker_id: str, image_size: int = 256, *, smoothing: int = SMOOTHING, min_frames: int = MIN_FRAMES,
                 source: str = '') -> tuple[dict[str, Any], Crop]:
    """Turn a film of one speaking face into a clip record.

    Args:
      frames: (T, H, W, 3) uint8 RGB at 25 a second, or a `media.Video`: anything that can be iterated twice.
      audio: (A,) int16 16 kHz mono; cut or padded with silence to the picture's length.
      detector: opened.
      clip_id: unique within its dataset.
      speaker_id: who speaks.
      image_size: side of the stored frames, px.
      smoothing: length of the Hanning window over time, frames; 1 for none.
      min_frames: shortest clip taken.
      source: what messages call the clip; by default `clip_id`.

    Returns:
      The record (`specs.CLIP`) and the crop, in pixels of the frames.

    Raises:
      UserError: shorter than `min_frames`, no face in more than half of the frames, or no sound.
    """
    source = source or clip_id
    detections = detector.detect(frames)
    count = len(detections.detected)
    _check(detections, audio, min_frames, source)
    detections = smooth(fill_gaps(detections), smoothing)
    crop = static_crop(detections.landmarks[detections.detected])
    landmarks, dense = _to_crop(crop, detections)
    pose = rigid.estimate_pose(landmarks.astype(np.float64))
    frontal = rigid.frontalize(landmarks.astype(np.float64), pose)
    seen = detections.detected
    key_frame = _least(np.linalg.norm(pose[:, :3], axis=-1)[:CONTEXT], seen[:CONTEXT])
    pictures, frame_size = _pictures(frames, crop, image_size)
    mesh = dense[key_frame]
    seen_vertices = np.asarray(vertex_visibility(mesh[None], mesh_triangles(), CROP_SIZE)[0])
    record = {
        'clip_id': clip_id,
        'speaker_id': speaker_id,
        'preparation': _preparation(detector, crop, smoothing),
        'video': pictures,
        'audio': sound.frame_chunks(audio, count),
        'landmarks': landmarks,
        'pose': pose.astype(np.float32),
        'detected': seen,
        'key_frame': np.int32(key_frame),
        'closed_mouth_frame': np.int32(_least(face.mouth_opening(frontal), seen)),
        'mesh_vertices': mesh,
        'mesh_visibility': (seen_vertices * crop.shows(mesh, frame_size)).astype(np.float32),
    }
    return record, crop


def prepare_media(path: str | os.PathLike, detector: LandmarkDetector, clip_id: str = '', speaker_id: str = '',
                  image_size: int = 256, max_frames: int | None = None, **options: Any) -> dict[str, Any]:
    """The clip record of a video file; its sound may lie beside it (`media.audio_for`).

    Decodes the film twice instead of holding it: memory does not grow with its frames' size. `clip_id` and
    `speaker_id` are the file's name where they are not given; `options` go to `prepare_clip`.

    Raises:
      UserError: as `media.Video`, `media.audio_for` and `prepare_clip`.
    """
    path = pathlib.Path(path)
    audio = media.audio_for(path)
    if max_frames is not None:
        audio = audio[:max_frames * CHUNK]
    record, _ = prepare_clip(media.Video(path, max_frames), audio, detector, clip_id or path.stem,
                             speaker_id or path.stem, image_size, source=str(path), **options)
    return record


def prepare_image(image: np.ndarray, detector: LandmarkDetector, clip_id: str = 'image',
                  image_size: int = 256) -> dict[str, Any]:
    """The record of a single picture: a silent clip of one frame, its mouth as it is (paper, Fig. 8).

    Args:
      image: (H, W, 3) uint8 RGB.
      detector: opened.
      clip_id: what messages call it, too.
      image_size: side of the stored frame, px.

    Raises:
      UserError: no face.
    """
    silence = np.zeros(CHUNK, np.int16)
    record, _ = prepare_clip([image], silence, detector, clip_id, clip_id, image_size, smoothing=1, min_frames=1)
    return record


def crop_of(record: Mapping[str, Any]) -> Crop:
    """The crop that a record of this module was made with: needed to paste a result back."""
    return Crop(**json.loads(record['preparation'])['crop'])


def smooth(detections: Detections, window: int = SMOOTHING) -> Detections:
    """Centred Hanning window over time; the ends repeat, so nothing lags and the length stays."""
    if window < 3:
        return detections
    weights = np.hanning(window)
    weights = (weights / weights.sum()).astype(np.float32)

    def smoothed(points: np.ndarray) -> np.ndarray:
        padded = np.pad(points, ((window // 2, window // 2), (0, 0), (0, 0)), 'edge')
        return sum(weight * padded[i:i + len(points)] for i, weight in enumerate(weights))

    return dataclasses.replace(detections, landmarks=smoothed(detections.landmarks), dense=smoothed(detections.dense))


def _check(detections: Detections, audio: np.ndarray, min_frames: int, source: str) -> None:
    count, missing = len(detections.detected), int((~detections.detected).sum())
    if count < min_frames:
        raise UserError(f'{source} has {count} frames at 25 a second; want at least {min_frames} '
                        f'({min_frames / FRAME_RATE:g} s)')
    if missing > MAX_MISSING * count:
        raise UserError(f'{source}: no face in {missing} of {count} frames; want one in at least half of them')
    if not len(audio):
        raise UserError(f'{source} has no sound; want 16 kHz speech')
    difference = len(audio) / CHUNK - count
    if abs(difference) > MAX_LENGTH_DIFFERENCE * FRAME_RATE:
        _log.warning('%s: the sound is %.2f s %s than the picture; it is %s', source, abs(difference) / FRAME_RATE,
                     *(('longer', 'cut') if difference > 0 else ('shorter', 'padded with silence')))


def _pictures(frames: Iterable[np.ndarray], crop: Crop, size: int) -> tuple[list[bytes], tuple[int, int]]:
    """JPEG of every frame's crop, and the frames' own (height, width)."""
    pictures, shape = [], (0, 0)
    for frame in frames:
        pictures.append(media.encode_jpeg(crop.apply(frame, size)))
        shape = frame.shape[:2]
    return pictures, shape


def _to_crop(crop: Crop, detections: Detections) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks and mesh in crop px, float32, the rigid points on average as deep as the template's.

    One shift for the whole clip: the detector's own zero lies elsewhere, but its motion in depth is kept.
    """
    landmarks, dense = crop.to_crop(detections.landmarks), crop.to_crop(detections.dense)
    rigid_points = list(face.RIGID_POINTS)
    depth = landmarks[detections.detected][:, rigid_points, 2].mean() - face.TEMPLATE[rigid_points, 2].mean()
    shift = np.array([0.0, 0.0, depth])
    return (landmarks - shift).astype(np.float32), (dense - shift).astype(np.float32)


def _least(values: np.ndarray, allowed: np.ndarray) -> int:
    """Index of the smallest allowed value; of the smallest at all where none is allowed."""
    return int(np.argmin(np.where(allowed, values, np.inf) if allowed.any() else values))


def _preparation(detector: LandmarkDetector, crop: Crop, smoothing: int) -> str:
    return json.dumps({'version': VERSION, 'detector': detector.name, 'smoothing': smoothing,
                       'crop': dataclasses.asdict(crop)}, sort_keys=True)
