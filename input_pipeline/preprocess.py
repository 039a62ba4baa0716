"""Media to clip record: track, crop, landmarks, pose, key frame, mesh, sound (design, Sec. 3 and 7)."""

import dataclasses
import json
import logging
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from input_pipeline import media
from input_pipeline.audio import frame_chunks
from input_pipeline.crop import Crop, centred_hanning, smoothed_crops, static_crop
from input_pipeline.face_tracking import Detections, LandmarkDetector, fill_gaps
from input_pipeline.one_person import colours, find_change, sample
from talkinghead_jax import loudness
from talkinghead_jax.errors import Unusable, UserError
from talkinghead_jax.geometry import face, rigid
from talkinghead_jax.ops.hard_rasterizer import vertex_visibility
from talkinghead_jax.specs import CHUNK, CONTEXT, CROP_SIZE, FRAME_RATE

VERSION = 4  # raise it when the same media would give another record
CROPS = ('static', 'smoothed')
MAX_REPLACED = 0.15  # share of frames in which another face is there instead of the one that is followed
TOLERATED_DIFFERENCE = 0.5  # s, between the lengths of picture and sound, that passes without a warning
# More than this makes a clip unusable: its sound is another film's, or most of it was lost.
MAX_DIFFERENCE, MAX_DIFFERENCE_SHARE = 1.0, 0.5  # s; share of the picture's length

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Options:
    """What may be chosen about preparation; all of it goes into the record.

    Attributes:
      image_size: side of the stored frames, px.
      crop: 'static', one square a clip, or 'smoothed', a square that follows the head.
      smoothing: length of the Hanning window over landmarks and mesh, frames; 1 for none.
      min_frames: shortest clip taken.
      max_missing: share of the frames that may be without a face.
    """

    image_size: int = 256
    crop: str = 'static'
    smoothing: int = 5
    min_frames: int = FRAME_RATE
    max_missing: float = 0.5

    def __post_init__(self):
        if self.crop not in CROPS:
            raise UserError(f'config.data.crop is {self.crop!r}; want one of {", ".join(CROPS)}')
        if not 0 <= self.max_missing < 1:
            raise UserError(f'config.data.max_missing is {self.max_missing}; want a share of at least 0 and below 1')


def prepare_clip(frames: Iterable[np.ndarray], audio: np.ndarray | None, detector: LandmarkDetector, clip_id: str,
                 speaker_id: str, options: Options = Options(), source: str = '',
                 transcript: str = '') -> tuple[dict[str, Any], Crop]:
    """Turn a film of one speaking face into a clip record.

    Args:
      frames: (T, H, W, 3) uint8 RGB at 25 a second, or a `media.Video`: anything that can be iterated twice.
      audio: (A,) int16 16 kHz mono; cut or padded with silence to the picture's length. None: silent on purpose.
      detector: opened.
      clip_id: unique within its dataset.
      speaker_id: who speaks.
      options: see `Options`.
      source: what messages call the clip; by default `clip_id`.
      transcript: what is said, where the dataset tells.

    Returns:
      The record (`specs.CLIP`) and the key frame's crop, in pixels of the frames.

    Raises:
      Unusable: see `errors.REASONS`; all but 'failed' are found here or in `media`.
    """
    source = source or clip_id
    _check_sound(audio, source)
    detections = detector.detect(frames)
    _check_picture(detections, options, source)
    _check_lengths(audio, len(detections.detected), source)
    count, seen = len(detections.detected), detections.detected
    crops, shift, landmarks, points = _place(detections, options)
    pose = rigid.estimate_pose(landmarks.astype(np.float64))
    frontal = rigid.frontalize(landmarks.astype(np.float64), pose)
    early = seen & (np.arange(count) < CONTEXT)
    key_frame = _least(np.linalg.norm(pose[:, :3], axis=-1), early if early.any() else seen)
    crop = crops[key_frame]
    mesh = (crop.to_crop(_smoothed_mesh(detections, key_frame, options.smoothing)) - shift).astype(np.float32)
    confidence = detections.confidence
    del detections  # PRNet's mesh takes 0.5 MB a frame
    pictures, looks, frame_size = _pictures(frames, crops, points, options.image_size)
    _check_person(find_change(looks, landmarks, pose, seen), source)
    chunks = frame_chunks(np.zeros(0, np.int16) if audio is None else audio, count)
    record = {
        'clip_id': clip_id,
        'speaker_id': speaker_id,
        'transcript': transcript,
        'preparation': _preparation(detector, crop, options),
        'video': pictures,
        'audio': chunks,
        'speech_level': np.float32(loudness.speech_level(loudness.frame_power(chunks))),
        'landmarks': landmarks,
        'pose': pose.astype(np.float32),
        'detected': seen,
        'confidence': confidence,
        'key_frame': np.int32(key_frame),
        'closed_mouth_frame': np.int32(_least(face.mouth_opening(frontal), seen)),
        'mesh_vertices': mesh,
        'mesh_visibility': (_visible(mesh, detector.triangles) * crop.shows(mesh, frame_size)).astype(np.float32),
    }
    return record, crop


def prepare_media(path: str | os.PathLike, detector: LandmarkDetector, clip_id: str = '', speaker_id: str = '',
                  options: Options = Options(), sound: str = '', transcript: str = '',
                  max_frames: int | None = None) -> dict[str, Any]:
    """The clip record of a video file.

    Decodes the film twice instead of holding it: memory does not grow with its frames' size.

    Args:
      path: the video.
      detector: opened.
      clip_id: by default the file's name without its suffix.
      speaker_id: as `clip_id`.
      options: see `Options`.
      sound: file of the sound; where it is damaged, the video's own is taken. By default the video's own, or one
        beside it (`media.audio_for`).
      transcript: what is said, where the dataset tells.
      max_frames: only so much of the beginning.

    Raises:
      Unusable: what `media` cannot read, and as `prepare_clip`.
      UserError: a file is missing or may not be read.
    """
    path = pathlib.Path(path)
    audio = _sound(path, sound)
    if max_frames is not None:
        audio = audio[:max_frames * CHUNK]
    record, _ = prepare_clip(media.Video(path, max_frames), audio, detector, clip_id or path.stem,
                             speaker_id or path.stem, options, str(path), transcript)
    return record


def _sound(path: pathlib.Path, sound: str) -> np.ndarray:
    if not sound:
        return media.audio_for(path)
    try:
        return media.read_audio(sound)
    except Unusable as error:
        _log.warning('%s; the sound of %s is taken', error, path)
        return media.read_audio(path)  # not what lies beside it, which the record's name in the cache ignores


def prepare_image(image: np.ndarray, detector: LandmarkDetector, clip_id: str = 'image',
                  image_size: int = 256) -> dict[str, Any]:
    """The record of a single picture: a silent clip of one frame, its mouth as it is (paper, Fig. 8).

    Args:
      image: (H, W, 3) uint8 RGB.
      detector: opened.
      clip_id: what messages call it, too.
      image_size: side of the stored frame, px.

    Raises:
      Unusable: no face.
    """
    options = Options(image_size=image_size, smoothing=1, min_frames=1)
    record, _ = prepare_clip([image], None, detector, clip_id, clip_id, options)
    return record


def find_squares(frames: Iterable[np.ndarray], detector: LandmarkDetector, options: Options = Options(),
                 source: str = '') -> list[Crop]:
    """Where `prepare_clip` would cut the frames of a film, one crop each; sound and record are not wanted here.

    Args:
      frames: as for `prepare_clip`.
      detector: opened.
      options: of which the crop, the smoothing, the shortest length and the share of missing faces count.
      source: what messages call the film.

    Raises:
      Unusable: too short, without a face, or of another person for too long.
    """
    detections = detector.detect(frames)
    _check_picture(detections, options, source)
    return _crops(_steady(detections.landmarks, detections, options), detections.detected, options.crop)


def crop_of(record: Mapping[str, Any]) -> Crop:
    """The crop of a record's key frame: needed to paste a result back."""
    return Crop(**json.loads(record['preparation'])['crop'])


def _check_sound(audio: np.ndarray | None, source: str) -> None:
    if audio is not None and not (len(audio) and audio.min() < audio.max()):
        found = 'has nothing but digital silence' if len(audio) else 'has no sound'
        raise Unusable('no_sound', f'{source} {found}; want speech')


def _check_picture(detections: Detections, options: Options, source: str) -> None:
    count, missing = len(detections.detected), int((~detections.detected).sum())
    if count < options.min_frames:
        raise Unusable('too_short', f'{source} has {count} frames at 25 a second; want at least {options.min_frames} '
                                    f'({options.min_frames / FRAME_RATE:g} s)')
    replaced = 0 if detections.replaced is None else int(detections.replaced.sum())
    if replaced > MAX_REPLACED * count:
        raise Unusable('two_people', f'{source}: another face is there instead of the one that is followed in '
                                     f'{replaced} of {count} frames; want at most {MAX_REPLACED:.0%}')
    if missing > options.max_missing * count:
        raise Unusable('no_face', f'{source}: no face in {missing} of {count} frames; want at most '
                                  f'{options.max_missing:.0%} of them without')


def _check_lengths(audio: np.ndarray | None, count: int, source: str) -> None:
    if audio is None:
        return
    length, difference = count / FRAME_RATE, (len(audio) / CHUNK - count) / FRAME_RATE
    words = (f'{source}: the sound is {abs(difference):.2f} s {"longer" if difference > 0 else "shorter"} than '
             'the picture')
    if abs(difference) > max(MAX_DIFFERENCE, MAX_DIFFERENCE_SHARE * length):
        raise Unusable('length', f'{words} of {length:.2f} s; want a difference of at most half of that, or of a '
                                 'second')
    if abs(difference) > TOLERATED_DIFFERENCE:
        _log.warning('%s; it is %s', words, 'cut' if difference > 0 else 'padded with silence')


def _check_person(change: int | None, source: str) -> None:
    if change is not None:
        raise Unusable('two_people', f'{source}: from frame {change} on, the face that is followed is another '
                                     'person\'s; want a clip of one person')


def _place(detections: Detections, options: Options) -> tuple[list[Crop], np.ndarray, np.ndarray, np.ndarray]:
    """Crops; what to subtract from crop px for the depth to be right, (3,); landmarks and mesh `sample`, crop px."""
    seen = detections.detected
    landmarks, points = (_steady(found, detections, options)
                         for found in (detections.landmarks, sample(detections.dense)))
    crops = _crops(landmarks, seen, options.crop)
    landmarks, points = _to_crop(crops, landmarks), _to_crop(crops, points)
    shift = _too_deep(landmarks, seen)
    return crops, shift, (landmarks - shift).astype(np.float32), (points - shift).astype(np.float32)


def _steady(points: np.ndarray, detections: Detections, options: Options) -> np.ndarray:
    """(T, N, 3) points without gaps and jitter."""
    return centred_hanning(fill_gaps(points, detections.detected), options.smoothing)


def _crops(landmarks: np.ndarray, seen: np.ndarray, kind: str) -> list[Crop]:
    """One for each frame."""
    if kind == 'smoothed':
        return smoothed_crops(landmarks, seen)
    return [static_crop(landmarks[seen])] * len(seen)


def _smoothed_mesh(detections: Detections, frame: int, window: int) -> np.ndarray:
    """(V, 3): what filling and smoothing the whole film's meshes would make of one frame's."""
    times = np.arange(frame - window // 2, frame + (window + 1) // 2)
    times = times.clip(0, len(detections.detected) - 1)
    return centred_hanning(fill_gaps(detections.dense, detections.detected, times), window)[window // 2]


def _visible(mesh: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(V,) float32, 0 or 1: what the viewer sees; by the CPU, so that records do not depend on the machine."""
    try:
        device = jax.local_devices(backend='cpu')[0]
    except RuntimeError:  # $JAX_PLATFORMS leaves it out
        device = None
    with jax.default_device(device):
        return np.asarray(vertex_visibility(mesh[None], triangles, CROP_SIZE)[0])


def _pictures(frames: Iterable[np.ndarray], crops: Sequence[Crop], mesh_points: np.ndarray,
              size: int) -> tuple[list[bytes], list[np.ndarray], tuple[int, int]]:
    """JPEG and look (`one_person.colours`) of every frame's crop, and the frames' own (height, width)."""
    pictures, looks, shape = [], [], (0, 0)
    for frame, crop, points in zip(frames, crops, mesh_points, strict=True):
        picture = crop.apply(frame, size)
        pictures.append(media.encode_jpeg(picture))
        looks.append(colours(picture, points))
        shape = frame.shape[:2]
    return pictures, looks, shape


def _to_crop(crops: Sequence[Crop], points: np.ndarray) -> np.ndarray:
    """(T, N, 3) frame px to crop px."""
    return np.stack([crop.to_crop(frame) for crop, frame in zip(crops, points, strict=True)])


def _too_deep(landmarks: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(3,): without it the rigid points are on average as deep as the template's.

    One shift for the whole clip: the detector's own zero lies elsewhere, but its motion in depth is kept.
    """
    rigid_points = list(face.RIGID_POINTS)
    depth = landmarks[seen][:, rigid_points, 2].mean() - face.TEMPLATE[rigid_points, 2].mean()
    return np.array([0.0, 0.0, depth])


def _least(values: np.ndarray, allowed: np.ndarray) -> int:
    """Index of the smallest allowed value."""
    return int(np.argmin(np.where(allowed, values, np.inf)))


def _preparation(detector: LandmarkDetector, crop: Crop, options: Options) -> str:
    return json.dumps({'version': VERSION, 'detector': detector.name, 'options': dataclasses.asdict(options),
                       'crop': dataclasses.asdict(crop)}, sort_keys=True)
