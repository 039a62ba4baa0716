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
from talkinghead_jax.synthesis import mesh, talking_head
from talkinghead_jax.synthesis.network import Network, restore
from talkinghead_jax.train import checkpoint

AUDIO, LANDMARKS = 'audio_driven', 'landmark_driven'
POSES = {'true': 'true head motion', 'phi': 'head motion by Φ', 'still': 'still head'}
KEY_FRAME, MATCHED = 'key_frame', 'matched_reference'
_LABELS = {KEY_FRAME: 'Key frame, held', MATCHED: 'Reference of Eq. 2, copied', TRUTH: 'True video'}

FEWEST = 5  # frames to be made; a clip with fewer is left out

Record = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Clips:
    """The held-out clips that are evaluated, and the networks that draw them.

    Attributes:
      records: a sequence of clip records.
      chosen: their numbers, in the order of the films.
      networks: stage -> trained network; the generator must be there.
      decoder: side S -> what makes (S, S, 3) uint8 RGB of a JPEG.
      devices: where the generator runs.
      longest: frames of a clip that are made at most; 0 is all.
    """

    records: Sequence[Record]
    chosen: Sequence[int]
    networks: Mapping[str, Network]
    decoder: Callable[[int], Callable[[bytes], np.ndarray]]
    devices: Devices
    longest: int = 0

    @functools.cached_property
    def decode(self) -> Callable[[bytes], np.ndarray]:
        """JPEG -> (S, S, 3) uint8 RGB at the generator's size."""
        return self.decoder(self.networks['generator'].axis('target', 1))

    def lifted(self, record: Record) -> Record:
        """The record with its mesh as it would be in use: by the unprojection network, where its topology fits."""
        network = self.networks.get('unprojection')
        if network is None or len(record['mesh_vertices']) != np.sum(network.frozen.get('uv_mask', 0)):
            return record
        return mesh.unproject(network, record, self.decoder(network.axis('image', 1)))

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
    _check(settings)
    if not len(records):
        raise UserError(f'config.evaluation.split is {settings.split!r}, which holds no clip; want another split')
    others = ('expression', 'head_motion', 'unprojection')
    names = ['generator', *(name for name in others if checkpoint.exists(workdir, name))]
    trained = {name: restore(workdir, name) for name in names}
    chosen = showcase.spread(len(records), settings.clips)
    size = trained['generator'][0].axis('target', 1)
    facts = {**data, 'split': settings.split, 'clips': f'{len(chosen)} of {len(records)}', 'size': f'{size} px',
             'reference part': 'the first 64 frames, of clips shorter than 80 frames 40 %, but up to the key frame',
             'frames': f'at most {settings.frames} a clip' if settings.frames else 'all after the reference part',
             **{name: f'step {inference.step}, {inference.digest}' for name, (_, inference) in trained.items()}}
    networks = {name: network for name, (network, _) in trained.items()}
    return Clips(records, chosen, networks, decoder, devices, settings.frames), facts


def _check(settings: ConfigDict) -> None:
    """Raise UserError where a number of `config.evaluation` is impossible."""
    least = {'clips': 0, 'frames': 0, 'grid': 0, 'batch_size': 1, 'shown': showcase.ALL}
    for name, number in least.items():
        if settings[name] < number:
            raise UserError(f'config.evaluation.{name} is {settings[name]}; want {number} or more')


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
        if pose != 'true':
            notes[row] = 'the head is where the true one is not: numbers against the true frame say little'
        if missing:
            notes[row] = f'not computed: needs a checkpoint of {" and ".join(missing)}'
    made = [pose for pose in poses if not notes.get(f'pose_{pose}', '').startswith('not computed')]

    def rows(source: '_Source') -> dict[str, Row]:
        frontal = _speak(clips.networks['expression'], source) if made else None
        poses = {pose: _pose(clips, source, pose) for pose in made}
        # The true motion says nothing beside itself.
        return {f'pose_{name}': Row(_draw(clips, source, frontal, pose, 1), None if name == 'true' else pose)
                for name, pose in poses.items()}

    return _plan(AUDIO, clips, labels, (KEY_FRAME,), rows, dataset, facts, notes)


def landmark_driven(clips: Clips, references: Sequence[int], dataset: str, facts: Mapping[str, str]) -> Plan:
    """Table 2's protocol, a row for each K in `references`.

    Raises:
      UserError: there is none, or one of less than 1.
    """
    if not references or min(references) < 1:
        raise UserError(f'config.evaluation.references is {tuple(references)}; want numbers of frames, as in (1, 8)')
    labels = {f'k{count}': f'Ours (K = {count})' for count in references}
    notes = {f'k{count}': 'fewer references where the reference part has fewer frames with a face'
             for count in references if count > 1}
    notes[MATCHED] = f'of K = {max(references)} references'

    def rows(source: '_Source') -> dict[str, Row]:
        pose, frontal = source.pose, rigid.frontalize(source.landmarks, source.pose)
        made = {f'k{count}': Row(_draw(clips, source, frontal, pose, count)) for count in references}
        return made | {MATCHED: Row(_draw(clips, source, frontal, pose, max(references), MATCHED))}

    return _plan(LANDMARKS, clips, labels, (KEY_FRAME, MATCHED), rows, dataset, facts, notes)


def _plan(protocol: str, clips: Clips, labels: dict[str, str], baselines: tuple[str, ...],
          rows: Callable[['_Source'], dict[str, Row]], dataset: str, facts: Mapping[str, str],
          notes: Mapping[str, str]) -> Plan:
    def film(number: int) -> Film:
        source = _Source(clips.records[clips.chosen[number]], clips.longest)
        if not source.frames:
            return Film.empty(str(source.record['clip_id']), str(source.record['speaker_id']))
        source.record = clips.lifted(source.record)
        reference = clips.decode(source.record['video'][source.key])
        made, still = rows(source), [reference] * len(source.pose)
        moves = any(row.pose is not None for row in made.values())
        made[KEY_FRAME] = Row(iter(still), np.tile(source.key_pose, (len(still), 1)) if moves else None)
        return Film(
            str(source.record['clip_id']), str(source.record['speaker_id']), source.audio, reference,
            (clips.decode(source.record['video'][i]) for i in source.frames), made,
            source.scored, source.landmarks, source.pose)

    labels = {**labels, **{name: _LABELS[name] for name in (*baselines, TRUTH)}}
    size = clips.theta.axis('target', 1)
    return Plan(protocol, dataset, labels, (*baselines, TRUTH), len(clips.chosen), film,
                f'prepared crop about the face, {size} px; true frames through JPEG of quality 95', facts, notes)


class _Source:
    """A clip record, cut into its reference part and what is to be made."""

    def __init__(self, record: Record, longest: int):
        total, self.key = len(record['pose']), int(record['key_frame'])
        # The key frame of a short clip may lie behind its reference part: what comes up to it was seen, too.
        start = max(specs.context_frames(total), self.key + 1)
        stop = min(total, start + longest) if longest else total
        self.frames = range(start, stop) if total - start >= FEWEST else range(0)
        part = slice(start, stop)
        detected = np.asarray(record['detected'], bool)
        early = detected & (np.arange(total) < start)  # nothing that is to be made is a reference
        self.record = {**record, 'detected': early, 'closed_mouth_frame': _closed_mouth(record, early, self.key)}
        self.landmarks = np.asarray(record['landmarks'][part], np.float32)
        self.pose = np.asarray(record['pose'][part], np.float32)
        self.key_pose = np.asarray(record['pose'][self.key], np.float32)
        self.audio = np.asarray(record['audio'][part])
        self.scored = detected[part]


def _closed_mouth(record: Record, allowed: np.ndarray, key: int) -> int:
    """The frame of the least mouth opening among the allowed ones; the key frame where there is none."""
    frames = np.flatnonzero(allowed)
    if not len(frames):
        return key
    frontal = rigid.frontalize(np.asarray(record['landmarks'])[frames], np.asarray(record['pose'])[frames])
    return int(frames[np.asarray(face.mouth_opening(frontal)).argmin()])


def _speak(psi: Network, source: _Source) -> np.ndarray:
    """(T, 68, 3) frontal landmarks of the frames to be made, from the clip's speech up to the last of them."""
    record = source.record
    frontal = talking_head.predict_expression(
        psi, record['audio'][:source.frames.stop], talking_head.reference_frontal(record),
        talking_head.identity(record))
    return frontal[source.frames.start:]


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
