"""The paper's protocols: films that trained networks make of held-out clips.

A clip's first 64 frames (of a short clip, 40 %) are the reference part: key frame, references and the reference of
Phi come from there. What follows is to be made, and is the truth.

Audio-driven (Table 1, K = 1): the expression comes from the speech by Psi, the only reference is the key frame. The
head moves as in the true video (pose_true: the headline, since errors against a true frame mean little under another
pose), as Phi says (pose_phi), or not (pose_still).

Landmark-driven (Table 2, K = 1, 8, 32): expression and pose are the true ones. Baselines hold the key frame, or copy
the reference that Eq. 2 finds.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from talkinghead_jax import specs
from talkinghead_jax.errors import UserError
from talkinghead_jax.geometry import face, rigid
from talkinghead_jax.pixels import to_uint8
from talkinghead_jax.protocols import showcase
from talkinghead_jax.protocols.devices import Devices
from talkinghead_jax.protocols.films import Film, Row
from talkinghead_jax.protocols.job import Plan
from talkinghead_jax.protocols.results import TRUTH
from talkinghead_jax.protocols.scorers import Motion
from talkinghead_jax.synthesis import talking_head
from talkinghead_jax.synthesis.network import Network, restore
from talkinghead_jax.train import checkpoint

AUDIO, LANDMARKS = 'audio_driven', 'landmark_driven'
POSES = {'true': 'true head motion', 'phi': 'head motion by Φ', 'still': 'still head'}
KEY_FRAME, MATCHED = 'key_frame', 'matched_reference'
_LABELS = {KEY_FRAME: 'Key frame, held', MATCHED: 'Reference of Eq. 2, copied', TRUTH: 'True video'}

Record = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Clips:
    """The held-out clips that are evaluated, and the networks that draw them.

    Attributes:
      records: a sequence of clip records.
      chosen: their numbers, in the order of the films.
      networks: stage -> trained network; the generator must be there.
      decode: JPEG -> (S, S, 3) uint8 RGB at the generator's size.
      devices: where the generator runs.
      longest: frames of a clip that are made at most; 0 is all.
    """

    records: Sequence[Record]
    chosen: Sequence[int]
    networks: Mapping[str, Network]
    decode: Callable[[bytes], np.ndarray]
    devices: Devices
    longest: int = 0

    @functools.cached_property
    def theta(self) -> Network:
        """The generator, on all devices."""
        return self.devices.network(self.networks['generator'])


def gather(workdir: str | os.PathLike, records: Sequence[Record], devices: Devices, settings: ConfigDict,
           decoder: Callable[[int], Callable[[bytes], np.ndarray]],
           data: Mapping[str, str]) -> tuple[Clips, dict[str, str]]:
    """The clips that `settings` choose, the trained networks of `workdir`, and the facts that the numbers depend on.

    Args:
      workdir: whose checkpoints are evaluated; those of Psi and Phi may be missing.
      records: the split.
      devices: where the generator runs.
      settings: `config.evaluation`.
      decoder: side -> what decodes JPEGs to it.
      data: facts of the dataset.

    Raises:
      UserError: there is no checkpoint of the generator, or no clip.
    """
    if not len(records):
        raise UserError(f'config.evaluation.split is {settings.split!r}, which holds no clip; want another split')
    names = ['generator', *(name for name in ('expression', 'head_motion') if checkpoint.exists(workdir, name))]
    trained = {name: restore(workdir, name) for name in names}
    chosen = showcase.spread(len(records), settings.clips)
    size = trained['generator'][0].axis('target', 1)
    facts = {**data, 'split': settings.split, 'clips': f'{len(chosen)} of {len(records)}', 'size': f'{size} px',
             'frames': f'at most {settings.frames} a clip' if settings.frames else 'all after the reference part',
             **{name: f'step {inference.step}, {inference.digest}' for name, (_, inference) in trained.items()}}
    networks = {name: network for name, (network, _) in trained.items()}
    return Clips(records, chosen, networks, decoder(size), devices, settings.frames), facts


def plan(protocol: str, clips: Clips, settings: ConfigDict, dataset: str, facts: Mapping[str, str]) -> Plan:
    """The protocol called `protocol`, with the rows that `settings`, `config.evaluation`, ask for.

    Raises:
      UserError: there is no such protocol, or no such row.
    """
    if protocol == AUDIO:
        return audio_driven(clips, settings.poses, dataset, facts)
    if protocol == LANDMARKS:
        return landmark_driven(clips, settings.references, dataset, facts)
    raise UserError(f'config.evaluation.protocols holds {protocol!r}; want some of {AUDIO}, {LANDMARKS}')


def audio_driven(clips: Clips, poses: Sequence[str], dataset: str, facts: Mapping[str, str]) -> Plan:
    """Table 1's protocol, a row for each of `poses`, of 'true', 'phi' and 'still'.

    Raises:
      UserError: another pose is asked for, or the network that all need is missing.
    """
    if unknown := [pose for pose in poses if pose not in POSES]:
        raise UserError(f'config.evaluation.poses holds {unknown[0]!r}; want some of {", ".join(POSES)}')
    labels, notes = {}, {}
    for pose in poses:
        row = f'pose_{pose}'
        labels[row] = f'Ours (K = 1), {POSES[pose]}'
        missing = [name for name in ('expression', *['head_motion'] * (pose == 'phi')) if name not in clips.networks]
        if missing:
            notes[row] = f'not computed: needs a checkpoint of {" and ".join(missing)}'
    made = [pose for pose in poses if f'pose_{pose}' not in notes]

    def rows(source: '_Source') -> dict[str, Row]:
        frontal = _speak(clips.networks['expression'], source) if made else None
        poses = {f'pose_{pose}': _pose(clips, source, pose) for pose in made}
        return {name: Row(_draw(clips, source, frontal, pose, 1), pose) for name, pose in poses.items()}

    return _plan(AUDIO, clips, labels, (KEY_FRAME,), rows, dataset, facts, notes)


def landmark_driven(clips: Clips, references: Sequence[int], dataset: str, facts: Mapping[str, str]) -> Plan:
    """Table 2's protocol, a row for each K in `references`.

    Raises:
      UserError: there is none, or one of less than 1.
    """
    if not references or min(references) < 1:
        raise UserError(f'config.evaluation.references is {tuple(references)}; want numbers of frames, as in (1, 8)')
    labels = {f'k{count}': f'Ours (K = {count})' for count in references}

    def rows(source: '_Source') -> dict[str, Row]:
        pose, frontal = source.pose, rigid.frontalize(source.landmarks, source.pose)
        made = {f'k{count}': Row(_draw(clips, source, frontal, pose, count), pose) for count in references}
        return made | {MATCHED: Row(_draw(clips, source, frontal, pose, max(references), MATCHED))}

    return _plan(LANDMARKS, clips, labels, (KEY_FRAME, MATCHED), rows, dataset, facts, {})


def _plan(protocol: str, clips: Clips, labels: dict[str, str], baselines: tuple[str, ...],
          rows: Callable[['_Source'], dict[str, Row]], dataset: str, facts: Mapping[str, str],
          notes: Mapping[str, str]) -> Plan:
    def film(number: int) -> Film:
        source = _Source(clips.records[clips.chosen[number]], clips.longest)
        reference = clips.decode(source.record['video'][source.key])
        still = Row(iter([reference] * len(source.pose)), np.tile(source.key_pose, (len(source.pose), 1)))
        return Film(
            str(source.record['clip_id']), str(source.record['speaker_id']), source.audio, reference,
            (clips.decode(source.record['video'][i]) for i in source.frames), {**rows(source), KEY_FRAME: still},
            source.scored, source.landmarks, source.pose)

    labels = {**labels, **{name: _LABELS[name] for name in (*baselines, TRUTH)}}
    changes = {name: {'crop': 'driving poses'} for name in Motion.names}
    return Plan(protocol, dataset, labels, (*baselines, TRUTH), len(clips.chosen), film, facts, notes, changes)


class _Source:
    """A clip record, cut into its reference part and what is to be made."""

    def __init__(self, record: Record, longest: int):
        total, context = len(record['pose']), specs.context_frames(len(record['pose']))
        start = min(context, total - 1)
        stop = min(total, start + longest) if longest else total
        self.frames = range(start, stop)
        part = slice(start, stop)
        self.key = int(record['key_frame'])
        detected = np.asarray(record['detected'], bool)
        early = detected & (np.arange(total) < start)  # nothing that is to be made is a reference
        self.record = {**record, 'detected': early, 'closed_mouth_frame': _closed_mouth(record, early, self.key)}
        self.landmarks = np.asarray(record['landmarks'][part], np.float32)
        self.pose = np.asarray(record['pose'][part], np.float32)
        self.key_pose = np.asarray(record['pose'][self.key], np.float32)
        self.audio = np.asarray(record['audio'][part])
        self.scored = detected[part] & (np.arange(start, stop) != self.key)  # of a short clip, it may lie there


def _closed_mouth(record: Record, allowed: np.ndarray, key: int) -> int:
    """The frame of the least mouth opening among the allowed ones; the key frame where there is none."""
    frames = np.flatnonzero(allowed)
    if not len(frames):
        return key
    frontal = rigid.frontalize(np.asarray(record['landmarks'])[frames], np.asarray(record['pose'])[frames])
    return int(frames[np.asarray(face.mouth_opening(frontal)).argmin()])


def _speak(psi: Network, source: _Source) -> np.ndarray:
    """(T, 68, 3) frontal landmarks of the frames to be made, from all of the clip's speech up to them."""
    record = source.record
    frontal = talking_head.predict_expression(psi, record['audio'], talking_head.reference_frontal(record),
                                              talking_head.identity(record))
    return frontal[source.frames.start:source.frames.stop]


def _pose(clips: Clips, source: _Source, pose: str) -> np.ndarray:
    """(T, 6) how the head moves in the frames to be made."""
    if pose == 'true':
        return source.pose
    if pose == 'still':
        return np.tile(source.key_pose, (len(source.pose), 1))
    start = source.frames.start
    heard = {**source.record, 'pose': source.record['pose'][:start], 'audio': source.record['audio'][:start]}
    return talking_head.predict_motion(clips.networks['head_motion'], heard, source.audio)


def _draw(clips: Clips, source: _Source, frontal: np.ndarray, pose: np.ndarray, references: int,
          baseline: str = '') -> Iterator[np.ndarray]:
    """The generator's frames, or those of one of its baselines."""
    for batch, real in talking_head.target_batches(
            clips.theta, source.record, frontal, pose, clips.decode, references, clips.devices.batch_size,
            clips.devices.place):
        outputs = clips.theta.baselines(batch)[baseline] if baseline else clips.theta(batch)
        yield from to_uint8(np.asarray(jax.device_get(outputs['image'])))[:real]
