"""A talking head from a source clip and speech: Psi, Phi and Theta composed (paper, Sec. 3.1).

    y^_tau+1:T = Theta(y_1:tau, Psi(y_tM, x_tau+1:T), Phi(y_1:tau, x_tau+1:T))

The source is a clip record (`specs.CLIP`; one frame where it is a picture). Only its references and its key frame
are decoded, by a function that the caller hands in. Speech of any length runs in constant device memory.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from talkinghead_jax import loudness, specs
from talkinghead_jax.errors import UserError
from talkinghead_jax.geometry import face, rigid
from talkinghead_jax.models import head_motion
from talkinghead_jax.pixels import to_uint8
from talkinghead_jax.synthesis.network import Network

Record = Mapping[str, Any]
Decode = Callable[[bytes], np.ndarray]  # a JPEG -> (S, S, 3) uint8 RGB at the model's size

WINDOW = 64  # frames of speech that Psi hears at a time

_LOG = logging.getLogger(__name__)


def audio_chunks(audio: np.ndarray) -> np.ndarray:
    """Cut speech into frames: (A,) int16, or chunks already -> (T, 640) int16, the last filled with silence.

    Raises:
      UserError: there is no sample.
    """
    audio = np.asarray(audio)
    if not audio.size:
        raise UserError('the speech holds no sample: found 0 s, want at least 0.04 s')
    if audio.dtype != np.int16 or audio.ndim > 2 or (audio.ndim == 2 and audio.shape[1] != specs.CHUNK):
        raise ValueError(f'speech is (A,) or (T, {specs.CHUNK}) int16, not {audio.shape} {audio.dtype}')
    samples = audio.reshape(-1)
    return np.pad(samples, (0, -len(samples) % specs.CHUNK)).reshape(-1, specs.CHUNK)


def is_picture(record: Record) -> bool:
    """True where the source is a single frame."""
    return len(record['video']) == 1


def reference_frontal(record: Record) -> np.ndarray:
    """(68, 3) float32 crop px: frontal landmarks of the key frame, the expression that Psi starts from."""
    return _frontal(record, int(record['key_frame']))


def identity(record: Record) -> np.ndarray:
    """(68, 3) float32 crop px: this face with its mouth closed, minus the template (design, Sec. 4).

    A clip shows the closed mouth somewhere; a picture's is closed geometrically.
    """
    closed = _frontal(record, int(record['closed_mouth_frame']))
    return face.identity_offset(face.close_mouth(closed) if is_picture(record) else closed).astype(np.float32)


def _frontal(record: Record, frame: int) -> np.ndarray:
    return rigid.frontalize(np.asarray(record['landmarks'][frame]), np.asarray(record['pose'][frame]))


def predict_expression(
    psi: Network, audio: np.ndarray, reference: np.ndarray, offset: np.ndarray, window: int = WINDOW,
) -> np.ndarray:
    """Frontal landmarks that go with speech (Psi).

    The speech is brought to one level first, and heard in windows of `window` frames with 3 chunks on either side, so
    that device memory does not grow with its length and the result is that of hearing it whole.

    Args:
      psi: the trained stage.
      audio: (A,) or (T, 640) int16, 16 kHz mono.
      reference: (68, 3) crop px, of `reference_frontal`.
      offset: (68, 3) crop px, of `identity`.
      window: frames at a time.

    Returns:
      (T, 68, 3) float32 crop px, identity included.
    """
    chunks = loudness.standardise(audio_chunks(audio))
    frames, radius = len(chunks), specs.WINDOW_RADIUS
    padded = np.pad(chunks, ((radius, radius + -frames % window), (0, 0)))
    constant = {'reference_frontal': np.asarray(reference, np.float32)[None],
                'identity': np.asarray(offset, np.float32)[None], 'frame_mask': np.ones((1, window), bool)}
    windows = [np.asarray(psi({**constant, 'audio': padded[None, start:start + window + 2 * radius]})['frontal'][0])
               for start in range(0, frames, window)]
    return np.concatenate(windows)[:frames]


def predict_motion(phi: Network, record: Record, audio: np.ndarray, window: int = 4 * WINDOW) -> np.ndarray:
    """Head poses that go with speech, in the manner of the source clip (Phi).

    The context is the clip's first 64 frames, masked where the clip is shorter; the speech is taken to follow it
    directly, and the motion continues from the context's last pose. As in `predict_expression`, the speech is heard
    in windows, with what surrounds each, and the result is that of hearing it whole.

    Args:
      phi: the trained stage.
      record: the source clip.
      audio: (A,) or (T, 640) int16, 16 kHz mono.
      window: frames at a time.

    Returns:
      (T, 6) float32: rad, crop px.
    """
    chunks, context = loudness.standardise(audio_chunks(audio)), _motion_context(record)
    before, frames, radius = context['context_audio'], len(chunks), head_motion.RADIUS
    # One sequence: the reference's speech, the new speech, and nothing up to the end of the last window.
    sound = np.concatenate([before, chunks, np.zeros((-frames % window + radius, specs.CHUNK), np.int16)])
    heard = np.concatenate([context['context_mask'], np.arange(len(sound) - len(before)) < frames])

    def stretch(start: int, stop: int) -> dict[str, np.ndarray]:
        """Sound from frame `start` to `stop` of the speech; negative frames are the reference's."""
        part = slice(len(before) + start, len(before) + stop)
        return {'audio': sound[None, part], 'frame_mask': heard[None, part]}

    person = phi.part('read', {**{name: value[None] for name, value in context.items()}, **stretch(0, radius)})
    windows = [np.asarray(phi.part('follow', {**stretch(start - radius, start + window + radius), 'person': person,
                                              'first': np.array([start])})['pose'][0])
               for start in range(0, frames, window)]
    return np.concatenate(windows)[:frames]


def _motion_context(record: Record) -> dict[str, np.ndarray]:
    """The fields of Phi's batch that describe the source clip, without the batch axis."""
    shown = min(specs.CONTEXT, len(record['pose']))
    if shown < specs.CONTEXT:
        _LOG.warning('the source clip has %d frames, Phi reads %d: its context is masked, and the head motion may '
                     'fit this person less well', shown, specs.CONTEXT)
    missing = specs.CONTEXT - shown
    padding = ((missing, 0), (0, 0))
    return {
        'context_pose': np.pad(np.asarray(record['pose'][:shown], np.float32), padding),
        'context_audio': np.pad(loudness.standardise(record['audio'])[:shown], padding),
        'context_mask': np.arange(specs.CONTEXT) >= missing,
    }


def reference_frames(record: Record, count: int) -> np.ndarray:
    """Up to `count` frame numbers, evenly spread over the first 64 frames in which the face was found.

    The key frame is always among them; it is the only one where `count` is 1.
    """
    key = int(record['key_frame'])
    candidates = np.flatnonzero(np.asarray(record['detected'][:specs.CONTEXT]))
    candidates = np.union1d(candidates, [key])
    spread = candidates[((np.arange(min(count, len(candidates))) + 0.5) * len(candidates)
                         / min(count, len(candidates))).astype(int)]
    spread[np.abs(spread - key).argmin()] = key
    return spread


def generate_frames(
    theta: Network, record: Record, frontal: np.ndarray, pose: np.ndarray, decode: Decode,
    references: int | None = None, batch_size: int = 4,
) -> Iterator[dict[str, np.ndarray]]:
    """Draw the video frame by frame (Theta); l_t is `frontal` in `pose`.

    Args:
      theta: the trained stage.
      record: the source: references, key frame and its mesh come from it.
      frontal: (T, 68, 3) crop px, of this face.
      pose: (T, 6) rad, crop px.
      decode: JPEG -> (S, S, 3) uint8 RGB, S the model's size.
      references: K; what the stage was configured for, where None.
      batch_size: frames at a time.

    Yields:
      T times {'image', 'render', 'matched'}: (S, S, 3) uint8; the result, y~_t and y_ts.
    """
    for batch, real in target_batches(theta, record, frontal, pose, decode, references, batch_size):
        outputs = theta(batch)
        frames = {name: to_uint8(np.asarray(outputs[name])) for name in ('image', 'render', 'matched')}
        for i in range(real):
            yield {name: of[i] for name, of in frames.items()}


def target_batches(
    theta: Network, record: Record, frontal: np.ndarray, pose: np.ndarray, decode: Decode,
    references: int | None = None, batch_size: int = 4, place: Callable[[Any], Any] = jax.device_put,
) -> Iterator[tuple[dict[str, Any], int]]:
    """What `generate_frames`, whose arguments these are, hands to `theta`.

    `place` sends the fields that stay the same over the video to the device, once.

    Yields:
      A batch, and how many of its frames count: the last repeats its last frame, so that all have one shape.
    """
    landmarks = rigid.apply_pose(np.asarray(frontal, np.float32), np.asarray(pose, np.float32))
    count = theta.axis('references', 1) if references is None else references
    source = place(_source_fields(record, decode, count, batch_size))
    for start in range(0, len(landmarks), batch_size):
        real = min(batch_size, len(landmarks) - start)
        index = start + np.minimum(np.arange(batch_size), real - 1)
        yield {**source, 'target_landmarks': landmarks[index].astype(np.float32),
               'target_pose': np.asarray(pose[index], np.float32)}, real


def _source_fields(record: Record, decode: Decode, count: int, batch_size: int) -> dict[str, np.ndarray]:
    """The fields of a generator batch that stay the same over the video."""
    chosen = reference_frames(record, count)
    key = int(record['key_frame'])
    pictures = {int(frame): decode(record['video'][frame]) for frame in {*chosen.tolist(), key}}
    padded = np.concatenate([chosen, np.repeat(chosen[:1], count - len(chosen))])
    fields = {
        'references': np.stack([pictures[int(frame)] for frame in padded]),
        'reference_landmarks': np.asarray(record['landmarks'][padded], np.float32),
        'reference_pose': np.asarray(record['pose'][padded], np.float32),
        'reference_mask': np.arange(count) < len(chosen),
        'key_image': pictures[key],
        'key_landmarks': np.asarray(record['landmarks'][key], np.float32),
        'key_pose': np.asarray(record['pose'][key], np.float32),
        'mesh_vertices': np.asarray(record['mesh_vertices'], np.float32),
        'mesh_visibility': np.asarray(record['mesh_visibility'], np.float32),
    }
    return {name: np.broadcast_to(value, (batch_size, *value.shape)) for name, value in fields.items()}
