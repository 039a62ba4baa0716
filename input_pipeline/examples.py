"""One training or evaluation example from one clip record, in plain NumPy.

`sample` returns exactly the fields of the stage's batch in `specs`, without the batch axis and without `mask`.
Frames of the reference part (`context_frames`) and frames to predict never overlap.
"""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from input_pipeline import audio, augmentation, media, noise
from talkinghead_jax import loudness, specs
from talkinghead_jax.errors import UserError
from talkinghead_jax.geometry import face, rigid
from talkinghead_jax.specs import context_frames

Example = dict[str, np.ndarray]
Record = Mapping[str, Any]


def sample(stage_name: str, record: Record, rng: np.random.Generator, stage_config: ConfigDict, image_size: int,
           training: bool, target: int = 0) -> Example:
    """Draw one example of stage `stage_name` from a record.

    Args:
      stage_name: 'expression', 'head_motion', 'unprojection' or 'generator'.
      record: `specs.CLIP`, or `specs.POSITION_MAP` for unprojection.
      rng: the only source of randomness; evaluation draws nothing.
      stage_config: the stage's config, whose `data` says how to sample.
      image_size: side of the images in the example.
      training: False for the fixed, unaugmented example of evaluation.
      target: which of the record's `targets(...)` examples, in evaluation.

    Returns:
      The fields of one example.
    """
    data = stage_config.data
    if stage_name == 'expression':
        return _expression(record, rng, data, training)
    if stage_name == 'head_motion':
        return _head_motion(record, rng, data, training)
    if stage_name == 'unprojection':
        return _unprojection(record, rng, data, image_size, training)
    if stage_name == 'generator':
        return _generator(record, rng, data, image_size, training, target)
    raise ValueError(f'unknown stage {stage_name!r}')


def batch_spec(stage_name: str, stage_config: ConfigDict, image_size: int, vertices: int, training: bool,
               batch_size: int) -> dict[str, Any]:
    """The batch of `specs` that examples of this stage and config form; see `sample` for the arguments."""
    data = stage_config.data
    if stage_name == 'expression':
        noisy = bool(_evaluation_noise(data)) and not training
        if training:
            noise.load_folder(data.noise_folder)  # what is wrong with it shows before the first batch
        return specs.expression_batch(batch_size, _length(data, training), noisy)
    if stage_name == 'head_motion':
        return specs.head_motion_batch(batch_size, data.context, _length(data, training))
    if stage_name == 'unprojection':
        return specs.unprojection_batch(batch_size, image_size)
    if stage_name == 'generator':
        return specs.generator_batch(batch_size, data.references, image_size, vertices)
    raise ValueError(f'unknown stage {stage_name!r}')


def targets(stage_name: str, stage_config: ConfigDict) -> int:
    """How many examples evaluation takes from each record."""
    return stage_config.data.targets_per_clip if stage_name == 'generator' else 1


def decode(jpeg: bytes, size: int) -> np.ndarray:
    """A stored JPEG as (size, size, 3) uint8 RGB."""
    return media.resize(media.decode_jpeg(jpeg), size)


def decode_frames(record: Record, frames: np.ndarray, size: int) -> np.ndarray:
    """Decode only the given frames: (N,) -> (N, size, size, 3) uint8 RGB."""
    return np.stack([decode(record['video'][frame], size) for frame in frames])


def _expression(record: Record, rng: np.random.Generator, data: ConfigDict, training: bool) -> Example:
    """Consecutive frames from anywhere in the clip; in evaluation, what follows the reference part."""
    length, total = _length(data, training), len(record['pose'])
    mirrored = training and data.flip and rng.random() < 0.5
    start = rng.integers(max(total - length, 0) + 1) if training else context_frames(total)
    shown = np.arange(start, min(start + length, total))
    frames = np.array([*shown, record['key_frame'], record['closed_mouth_frame']])
    frontal = rigid.frontalize(record['landmarks'][frames], record['pose'][frames])
    if mirrored:
        frontal = face.mirror(frontal).astype(np.float32)
    factor = loudness.standard_factor(record['audio'], record['speech_level'])
    speech = _rows(record['audio'], start - specs.WINDOW_RADIUS, start + length + specs.WINDOW_RADIUS)
    speech = loudness.scaled(speech, factor)
    target, key, closed, noisy = _pad(frontal[:-2], 0, length - len(shown)), frontal[-2], frontal[-1], {}
    if training:
        # Digital silence, as sound editors leave it, is unlike the room in which somebody pauses.
        if rng.random() < data.silence_probability:
            speech, target = np.zeros_like(speech), np.repeat(closed[None], length, axis=0)
        else:
            speech = _spoil(speech, record['audio'], factor, rng, data)
    elif _evaluation_noise(data):
        noisy['noisy_audio'] = _rows(_noisy_clip(record, data), start - specs.WINDOW_RADIUS,
                                     start + length + specs.WINDOW_RADIUS)
    return {
        'audio': speech, **noisy,
        'reference_frontal': key,
        'identity': face.identity_offset(closed).astype(np.float32),
        'target_frontal': target,
        'frame_mask': start + np.arange(length) < total,
    }


def _spoil(speech: np.ndarray, whole: np.ndarray, factor: float, rng: np.random.Generator,
           data: ConfigDict) -> np.ndarray:
    """Training's noise and loudness, for an excerpt of a clip whose `whole` sound (T, 640) gets louder by `factor`.

    Noise is heard as part of the speech, so that the mixture has another level than the speech alone.
    """
    gain = audio.draw_gain(rng) if data.gain else 0.0
    if rng.random() >= data.noise_probability:
        return audio.apply_gain(speech, gain)
    added = noise.draw_noise(speech.size, rng, noise.load_folder(data.noise_folder))
    powers = loudness.frame_power(loudness.scaled(whole, factor))
    ratio, power = noise.draw_ratio(rng), float(powers.mean())
    level = loudness.speech_level(powers + power * 10 ** (-ratio / 10))
    gain += 20 * np.log10(loudness.STANDARD / level) if level else 0.0
    return noise.mix(speech, added, ratio, power, gain)[0]


def _noisy_clip(record: Record, data: ConfigDict) -> np.ndarray:
    """(T, 640) int16: the whole clip with evaluation's noise, the same in every evaluation."""
    rng = np.random.default_rng(zlib.crc32(record['clip_id'].encode()))
    speech = np.asarray(record['audio'])
    added = noise.make_noise(data.evaluation_noise, speech.size, rng, noise.EVALUATION)
    return loudness.standardise(noise.mix(speech, added, data.evaluation_ratio, noise.power(speech))[0])


def _evaluation_noise(data: ConfigDict) -> str:
    """The noise of `noisy_audio` in evaluation; '' also for a network that was trained before there was any."""
    kind = data.get('evaluation_noise', '')
    if kind not in ('', *noise.KINDS):
        raise UserError(f'config.expression.data.evaluation_noise is {kind!r}; want one of '
                        f'{", ".join(noise.KINDS)}, or an empty string')
    return kind


def _head_motion(record: Record, rng: np.random.Generator, data: ConfigDict, training: bool) -> Example:
    """A reference part and, directly after it, the frames to predict; of random lengths in training."""
    total, length = len(record['pose']), _length(data, training)
    context, shown, start = min(context_frames(total), data.context), length, 0
    if training:
        context = _draw_length(rng, min(data.least_context, context), min(data.context, total - data.least_frames))
        shown = _draw_length(rng, data.least_frames, min(length, total - context))
        start = int(rng.integers(max(total - context - shown, 0) + 1))
    begin = start + context
    shown = min(shown, total - begin)
    factor = loudness.standard_factor(record['audio'], record['speech_level'])
    pose, speech = record['pose'], record['audio']
    if training and data.flip and rng.random() < 0.5:
        pose = augmentation.mirror_pose(pose)
    padding = data.context - context
    return {
        'context_pose': _pad(pose[start:begin], padding, 0),
        'context_audio': _pad(loudness.scaled(speech[start:begin], factor), padding, 0),
        'context_mask': np.arange(data.context) >= padding,
        'audio': _pad(loudness.scaled(speech[begin:begin + shown], factor), 0, length - shown),
        'pose': _pad(pose[begin:begin + shown], 0, length - shown),
        'frame_mask': np.arange(length) < shown,
    }


def _draw_length(rng: np.random.Generator, least: int, most: int) -> int:
    return int(rng.integers(least, max(least, most) + 1))


def _generator(record: Record, rng: np.random.Generator, data: ConfigDict, size: int, training: bool,
               target: int) -> Example:
    """References from the first part of the clip, the key frame with its mesh, and one later frame.

    With `data.gap` (fine-tuning: one clip has few frames) target and references come from the whole clip, that far
    apart.
    """
    later = _later_frames(record)
    if training and data.get('gap', 0):
        references, mask, chosen = _draw_apart(record, rng, data.references, data.gap)
    elif training:
        references, mask = _draw_references(record, rng, data.references)
        chosen = int(rng.choice(later))
    else:
        references, mask = _spread_references(record, data.references)
        chosen = int(later[int((target + 0.5) * len(later) / data.targets_per_clip)])
    key = int(record['key_frame'])
    order = np.array([*references, key, chosen])
    unique, place = np.unique(order, return_inverse=True)  # no frame is decoded twice
    images = decode_frames(record, unique, size)
    landmarks, pose, vertices = record['landmarks'][order], record['pose'][order], record['mesh_vertices']
    if training:
        if data.jitter:
            images = augmentation.recolour(images, augmentation.colour_table(rng, data.jitter))
        if data.flip and rng.random() < 0.5:
            images = augmentation.mirror_images(images)
            landmarks, pose = face.mirror(landmarks).astype(np.float32), augmentation.mirror_pose(pose)
            vertices = augmentation.mirror_points(vertices)
    images = images[place]
    return {
        'references': images[:-2], 'reference_landmarks': landmarks[:-2], 'reference_pose': pose[:-2],
        'reference_mask': mask,
        'key_image': images[-2], 'key_landmarks': landmarks[-2], 'key_pose': pose[-2],
        'mesh_vertices': vertices, 'mesh_visibility': record['mesh_visibility'],
        'target': images[-1], 'target_landmarks': landmarks[-1], 'target_pose': pose[-1],
    }


def _draw_references(record: Record, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Frame numbers (K,) and mask (K,): a random number of references, padded with copies of the first.

    A single reference is the key frame, as it is in evaluation with K = 1.
    """
    valid = int(rng.integers(1, count + 1))
    if valid == 1:
        chosen = np.array([record['key_frame']])
    else:
        context = _detected(record, np.arange(context_frames(len(record['pose']))))
        chosen = rng.choice(context, valid, replace=len(context) < valid)
    frames = np.concatenate([chosen, np.repeat(chosen[:1], count - valid)])
    return frames, np.arange(count) < valid


def _draw_apart(record: Record, rng: np.random.Generator, count: int,
                gap: int) -> tuple[np.ndarray, np.ndarray, int]:
    """K references (K,), all valid, their mask, and a target.

    The target is `gap` frames or more from the references and from the key frame, which the render shows.
    """
    frames = _detected(record, np.arange(len(record['pose'])))
    target = int(rng.choice(_apart(frames, int(record['key_frame']), gap)))
    apart = _apart(frames, target, gap)
    return rng.choice(apart, count, replace=len(apart) < count), np.ones(count, bool), target


def _apart(frames: np.ndarray, frame: int, gap: int) -> np.ndarray:
    """Those of `frames` that are `gap` or more from `frame`; in too short a clip, those that are others, or all."""
    for distance in (gap, 1):
        apart = frames[np.abs(frames - frame) >= distance]
        if len(apart):
            return apart
    return frames


def _spread_references(record: Record, count: int) -> tuple[np.ndarray, np.ndarray]:
    """K frames spread evenly over the reference part, the nearest of them replaced by the key frame."""
    context, key = context_frames(len(record['pose'])), int(record['key_frame'])
    valid = min(count, context)
    frames = ((np.arange(valid) + 0.5) * context / valid).astype(int)
    frames[np.abs(frames - key).argmin()] = key
    frames = np.concatenate([frames, np.repeat(frames[:1], count - valid)])
    return frames, np.arange(count) < valid


def _later_frames(record: Record) -> np.ndarray:
    """The frames after the reference part; in a short clip the key frame may lie there: it is left out."""
    total = len(record['pose'])
    later = np.arange(min(context_frames(total), total - 1), total)
    if len(later) > 1:
        later = later[later != record['key_frame']]
    return _detected(record, later)


def _detected(record: Record, frames: np.ndarray) -> np.ndarray:
    """Those of `frames` in which the face was found, or all where it was found in none."""
    found = frames[record['detected'][frames]]
    return found if len(found) else frames


def _unprojection(record: Record, rng: np.random.Generator, data: ConfigDict, size: int, training: bool) -> Example:
    image, position_map = decode(record['image'], size), record['position_map']
    if training:
        image, position_map = augmentation.shift_and_scale(image, position_map, rng, data.shift, data.scale)
        if data.jitter:
            image = augmentation.recolour(image, augmentation.colour_table(rng, data.jitter))
    return {'image': image, 'position_map': position_map}


def _length(data: ConfigDict, training: bool) -> int:
    return data.frames if training else data.evaluation_frames or data.frames


def _rows(array: np.ndarray, start: int, stop: int) -> np.ndarray:
    """array[start:stop], zeros where that reaches beyond the array."""
    before, after = max(-start, 0), max(stop - max(len(array), start), 0)
    return _pad(array[max(start, 0):max(stop, 0)], before, after)


def _pad(array: np.ndarray, before: int, after: int) -> np.ndarray:
    return np.pad(array, [(before, after)] + [(0, 0)] * (array.ndim - 1))


