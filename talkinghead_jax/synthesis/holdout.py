"""How well generators draw frames of a clip that they were not tuned on, and whether eyes and mouth follow."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from talkinghead_jax import specs
from talkinghead_jax.geometry import face, rigid
from talkinghead_jax.metrics import image, landmark
from talkinghead_jax.pixels import to_uint8, upscale
from talkinghead_jax.synthesis import talking_head
from talkinghead_jax.synthesis.contact_sheet import spread
from talkinghead_jax.synthesis.network import Network

HELD_OUT = 0.25  # share of a clip, at its end, that fine-tuning never sees
MOST = 256  # frames that are scored, so that memory does not grow with the clip
TRUTH = 'true_frames'


@dataclasses.dataclass(frozen=True)
class Score:
    """What was drawn of the held-out frames, and how good it is.

    Attributes:
      frames: (N,) numbers of the frames in the held-out part.
      methods: method -> metric -> value. 'ssim', 'psnr' (dB): means over the frames. With a detector also 'lmd',
        the mouth's `lmd@mean20` (px at 256 px) to the landmarks detected in the true frame, 'mouth_correlation'
        and 'eye_correlation' of the openings detected in the frames with those of the target landmarks, and
        'detected', the share of frames that show a face; where one is missed, the first three leave the frame out.
      pictures: method -> (N, S, S, 3) uint8. The true frames are a method too: what the detector can reach.
    """

    frames: np.ndarray
    methods: dict[str, dict[str, float]]
    pictures: dict[str, np.ndarray]


def split(record: Mapping[str, Any], share: float = HELD_OUT) -> tuple[dict[str, Any], dict[str, Any]]:
    """Cut a clip record in time: what may be trained on, and the last `share` of its frames.

    The key frame carries the mesh, so it stays in the first part; in a clip of three seconds or less that may
    leave fewer frames, even none, for the second part. Of the second part use the frames only: its key frame and
    closed-mouth frame are numbers of the whole clip.
    """
    border = max(round((1 - share) * len(record['pose'])), int(record['key_frame']) + 1)
    timed = ('video', 'audio', 'landmarks', 'pose', 'detected')
    seen = {**record, **{name: record[name][:border] for name in timed}}
    opening = face.mouth_opening(rigid.frontalize(seen['landmarks'], seen['pose']))
    seen['closed_mouth_frame'] = np.int32(opening.argmin())
    return seen, {**record, **{name: record[name][border:] for name in timed}}


def score(networks: Mapping[str, Network], seen: Mapping[str, Any], unseen: Mapping[str, Any],
          decode: talking_head.Decode, detector: specs.Detector | None = None) -> Score:
    """Draw the held-out frames with each network, and compare with the truth beside the baselines.

    Args:
      networks: name -> generator; all draw at one size. The baselines are the last one's.
      seen: part of a clip record that references, key frame and mesh come from.
      unseen: part whose landmarks and poses drive, and whose frames are the truth. Frames without a face do not
        count; of more than `MOST`, that many are spread evenly.
      decode: JPEG -> (S, S, 3) uint8 RGB at the networks' size.
      detector: finds landmarks in frames; without it what needs them is left out.

    Raises:
      ValueError: no frame shows a face.
    """
    found = np.flatnonzero(unseen['detected'])
    if not len(found):
        raise ValueError('no held-out frame shows a face')
    frames = found[spread(len(found), MOST)]
    target, pose = unseen['landmarks'][frames], unseen['pose'][frames]
    arguments = (seen, rigid.frontalize(target, pose), pose, decode)
    pictures = {name: np.stack([drawn['image'] for drawn in talking_head.generate_frames(theta, *arguments)])
                for name, theta in networks.items()}
    pictures |= _baselines(list(networks.values())[-1], *arguments)
    pictures[TRUTH] = truth = np.stack([decode(unseen['video'][i]) for i in frames])
    methods = {name: _likeness(of, truth) for name, of in pictures.items() if name != TRUTH}
    if detector is not None:
        detections = {name: detector(upscale(of, specs.CROP_SIZE)) for name, of in pictures.items()}
        for name, detection in detections.items():
            methods.setdefault(name, {}).update(_following(detection, detections[TRUTH], target))
    return Score(frames, methods, pictures)


def _baselines(theta: Network, *arguments: Any) -> dict[str, np.ndarray]:
    drawn: dict[str, list[np.ndarray]] = {}
    for batch, real in talking_head.target_batches(theta, *arguments):
        for name, outputs in theta.baselines(batch).items():
            drawn.setdefault(name, []).append(to_uint8(np.asarray(outputs['image'])[:real]))
    return {name: np.concatenate(parts) for name, parts in drawn.items()}


def _likeness(pictures: np.ndarray, truth: np.ndarray, chunk: int = 16) -> dict[str, float]:
    """Mean SSIM and PSNR of (N, S, S, 3) uint8 frames, a few at a time."""
    values: dict[str, list[np.ndarray]] = {'ssim': [], 'psnr': []}
    for start in range(0, len(truth), chunk):
        pair = [of[start:start + chunk] / np.float32(127.5) - 1 for of in (pictures, truth)]
        values['ssim'].append(np.asarray(image.ssim(*pair)))
        values['psnr'].append(np.asarray(image.psnr(*pair)))
    return {name: float(np.concatenate(parts).mean()) for name, parts in values.items()}


def _following(detection: tuple[np.ndarray, np.ndarray], true_detection: tuple[np.ndarray, np.ndarray],
               target: np.ndarray) -> dict[str, float]:
    """How far eyes and mouth of the frames do what the target landmarks (N, 68, 3) ask for."""
    landmarks, found = (np.asarray(of) for of in detection)
    true_landmarks, true_found = (np.asarray(of) for of in true_detection)
    both = found & true_found
    scores = {'detected': float(found.mean())}
    if both.any():
        distance = landmark.lmd(landmarks[both][:, None], true_landmarks[both][:, None])
        scores['lmd'] = float(np.mean(distance))
    if found.sum() > 1:
        for name, opening in (('mouth', face.mouth_opening), ('eye', face.eye_opening)):
            scores[f'{name}_correlation'] = float(
                landmark.correlation(*(opening(points[found, :, :2]) for points in (landmarks, target))))
    return scores
