"""Films of networks: which rows there are, what drives them, and that nothing of what is to be made is given away."""

import dataclasses
import types

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from toy_films import judges

from talkinghead_jax import specs
from talkinghead_jax.errors import UserError
from talkinghead_jax.geometry import face, rigid
from talkinghead_jax.models import head_motion
from talkinghead_jax.protocols import checkpoints, job
from talkinghead_jax.protocols.checkpoints import KEY_FRAME, MATCHED, Clips
from talkinghead_jax.protocols.devices import local_devices
from talkinghead_jax.protocols.results import TRUTH
from talkinghead_jax.protocols.scorers_in_time import DRIVING, Motion
from talkinghead_jax.synthesis import talking_head

SIZE = 8
POSES = ('true', 'phi', 'still')
SETTINGS = ConfigDict({'poses': POSES, 'references': (1, 4), 'split': 'test', 'clips': 0, 'frames': 0, 'grid': 0,
                       'batch_size': 2, 'shown': 1})

pytestmark = pytest.mark.usefixtures('quick_compilation')


def shades(landmarks):
    """By how much nose and lower lip brighten the fake generator's pictures; lips of the fake Psi go far."""
    return landmarks[:, 30, 0] / 4, 8 * jnp.log2(1 + jnp.abs(landmarks[:, 57, 1]))


@pytest.fixture
def theta(make_network):
    """The mean of the valid references, to the right brighter by the places of nose and lip; copied, their number."""
    def predict(params, model_state, frozen, batch):
        valid = batch['reference_mask'].astype(jnp.float32)[..., None, None, None]
        mean = (batch['references'].astype(jnp.float32) * valid).sum(1) / valid.sum(1)
        nose, lip = (of[:, None, None, None] for of in shades(batch['target_landmarks']))
        column = jnp.arange(SIZE)[None, None, :, None]
        return {'image': (mean + jnp.where(column < 4, 0, jnp.where(column < 6, nose, lip))) / 127.5 - 1}

    def baselines(batch, frozen):
        count = batch['reference_mask'].sum(-1).astype(jnp.float32)[:, None, None, None]
        return {MATCHED: {'image': jnp.zeros_like(batch['key_image'], jnp.float32) + count / 127.5 - 1}}

    network = make_network('generator', specs.generator_batch(2, 4, SIZE, 5), predict)
    return dataclasses.replace(network, stage=dataclasses.replace(network.stage, baselines=baselines))


@pytest.fixture
def hearing_phi(make_network):
    """Starts from the last pose of the context, moved by how loud it is."""
    def read(params, model_state, frozen, batch):
        loudness = jnp.abs(batch['context_audio'].astype(jnp.float32)).mean((1, 2)) / 1000
        return {'last': batch['context_pose'].sum(1) + loudness[:, None]}

    def follow(params, model_state, frozen, batch):
        frames = batch['audio'].shape[1] - 2 * head_motion.RADIUS
        return {'pose': jnp.broadcast_to(batch['person']['last'][:, None], (1, frames, 6))}

    spec = specs.head_motion_batch(1, 64, 64)
    return make_network('head_motion', spec, None, parts={'read': read, 'follow': follow})


@pytest.fixture
def make_clips(theta, psi, phi, decode):
    def make(*records, without=(), **fields):
        networks = {'generator': theta, 'expression': psi, 'head_motion': phi}
        networks = {name: network for name, network in networks.items() if name not in without}
        return Clips(**{'records': records, 'chosen': range(len(records)), 'networks': networks,
                        'decoder': lambda size: decode, 'devices': local_devices(2, 2), **fields})

    return make


def film_of(protocol, clips, number=0):
    return checkpoints.plan(protocol, clips, SETTINGS, 'toy', {}).film(number)


def watch(film):
    """Row -> its frames."""
    return {name: np.stack(list(row.frames)) for name, row in film.rows.items()}


def test_rows_of_table_1(make_clips, make_record):
    plan = checkpoints.plan('audio_driven', make_clips(make_record(seed=1), make_record(seed=2)), SETTINGS, 'lrw',
                            {'step': '3'})
    assert (plan.protocol, plan.dataset, plan.count, plan.facts) == ('audio_driven', 'lrw', 2, {'step': '3'})
    assert list(plan.labels) == ['pose_true', 'pose_phi', 'pose_still', KEY_FRAME, TRUTH]
    assert plan.labels['pose_phi'] == 'Ours (K = 1), head motion by Φ'
    assert plan.baselines == (KEY_FRAME, TRUTH)
    assert set(plan.row_notes) == {'pose_phi', 'pose_still'}  # whose head is not where the true one is
    assert plan.picture == 'prepared crop about the face, 8 px; true frames through JPEG of quality 95'
    film = plan.film(1)
    assert (film.clip_id, film.speaker_id) == ('clip2', 'nobody')
    assert set(film.rows) | {TRUTH} == set(plan.labels)


def test_rows_of_table_2(make_clips, make_record):
    plan = checkpoints.plan('landmark_driven', make_clips(make_record()), SETTINGS, 'voxceleb2', {})
    assert list(plan.labels) == ['k1', 'k4', KEY_FRAME, MATCHED, TRUTH]
    assert plan.labels['k4'] == 'Ours (K = 4)'
    assert plan.baselines == (KEY_FRAME, MATCHED, TRUTH)
    assert set(plan.film(0).rows) | {TRUTH} == set(plan.labels)


@pytest.mark.parametrize(('frames', 'key', 'longest', 'start', 'stop'), [
    (90, 7, 0, 64, 90), (90, 7, 10, 64, 74), (90, 7, 99, 64, 90), (80, 63, 0, 64, 80), (79, 7, 0, 31, 79),
    (29, 3, 0, 11, 29), (29, 20, 5, 21, 26), (29, 23, 0, 24, 29), (79, 60, 0, 61, 79)])
def test_what_follows_the_reference_part_is_the_truth(make_clips, make_record, frames, key, longest, start, stop):
    record = make_record(frames=frames, key=key)
    film = film_of('landmark_driven', make_clips(record, longest=longest))
    assert len(film) == stop - start
    part = slice(start, stop)
    assert [frame.mean() for frame in film.truth] == list(range(start, stop))
    np.testing.assert_array_equal(film.audio, record['audio'][part])
    np.testing.assert_array_equal(film.landmarks, record['landmarks'][part])
    np.testing.assert_array_equal(film.pose, record['pose'][part])
    assert (film.reference == key).all()


@pytest.mark.parametrize(('frames', 'key'), [(29, 24), (29, 28), (1, 0), (14, 3), (15, 14)])
def test_a_clip_too_short_behind_its_key_frame_is_left_out(make_clips, make_record, frames, key):
    film = film_of('audio_driven', make_clips(make_record(frames=frames, key=key)))
    assert len(film) == 0 if (frames, key) != (14, 3) else len(film) == 9


def test_poses_that_drive(make_clips, make_record):
    for frames, start in ((90, 64), (29, 11)):
        record = make_record(frames=frames)
        film = film_of('audio_driven', make_clips(record))
        pose, count = record['pose'], frames - start
        assert film.rows['pose_true'].pose is None  # it says nothing beside itself
        for still in ('pose_still', KEY_FRAME):
            np.testing.assert_array_equal(film.rows[still].pose, np.tile(pose[7], (count, 1)))
        np.testing.assert_allclose(film.rows['pose_phi'].pose, np.tile(pose[start - 1] + start * 1e-3, (count, 1)),
                                   atol=1e-5)
        film = film_of('landmark_driven', make_clips(record))
        assert {row.pose for row in film.rows.values()} == {None}  # that of the truth drives them all


def test_pictures_are_those_of_the_networks(make_clips, make_record, psi):
    record = make_record()
    film = film_of('landmark_driven', make_clips(record))
    shown = watch(film)
    chosen = talking_head.reference_frames(record, 4)
    for row, brightness in (('k1', 7), ('k4', chosen.mean())):
        assert shown[row].shape == (16, SIZE, SIZE, 3)
        np.testing.assert_allclose(shown[row][:, :, :4], brightness, atol=0.51)
        for column, shade in zip((4, 7), shades(record['landmarks'][64:]), strict=True):
            np.testing.assert_allclose(shown[row][:, 0, column, 0], brightness + shade, atol=0.51)
    assert (shown[MATCHED] == 4).all()  # references to copy from
    assert (shown[KEY_FRAME] == 7).all()
    shown = watch(film_of('audio_driven', make_clips(record)))
    identity = talking_head.identity({**record, 'closed_mouth_frame': closed(record, 64)})
    frontal = talking_head.predict_expression(psi, record['audio'], talking_head.reference_frontal(record), identity)
    assert np.ptp(frontal[64:, 57, 1]) > 100  # this Psi listens
    for row, pose in (('pose_true', record['pose'][64:]), ('pose_still', np.tile(record['pose'][7], (16, 1)))):
        np.testing.assert_allclose(shown[row][:, :, :4], 7)  # K = 1: the key frame, and nothing else
        for column, shade in zip((4, 7), shades(rigid.apply_pose(frontal[64:], pose)), strict=True):
            np.testing.assert_allclose(shown[row][:, 0, column, 0], 7 + shade, atol=0.51)


def closed(record, frames):
    """The frame of the mouth that is most closed, of the first ones."""
    openings = [face.mouth_opening(rigid.frontalize(record['landmarks'][t:t + 1], record['pose'][t:t + 1]))[0]
                for t in range(frames)]
    return int(np.argmin(openings))


def poisoned(record, start, pictures_only=False):
    """Another record, from frame `start` on, but for its key frame."""
    other = {**record, 'video': list(record['video'])}
    later = [t for t in range(start, len(record['pose'])) if t != record['key_frame']]
    for t in later:
        other['video'][t] = bytes([200 + t % 50])
    if not pictures_only:
        rng = np.random.default_rng(9)
        other |= {name: record[name].copy() for name in ('landmarks', 'pose')}
        other['landmarks'][later] += rng.normal(size=(len(later), 68, 3)) * 9
        other['pose'][later] += rng.normal(size=(len(later), 6))
        other['closed_mouth_frame'] = np.int32(later[0])
    return other


@pytest.mark.parametrize(('frames', 'start', 'key'), [(80, 64, 7), (29, 21, 20)])
def test_nothing_that_is_to_be_made_is_a_reference(make_clips, make_record, decode, hearing_phi, frames, start, key):
    record = make_record(frames=frames, key=key)
    silent, loud = ({**record, 'audio': record['audio'].copy()} for _ in range(2))
    silent['audio'][start:] = 0
    loud['audio'][:start // 2] *= 9
    clips = make_clips(record, poisoned(record, start), poisoned(record, start, pictures_only=True), silent, loud)
    clips.networks['head_motion'] = hearing_phi
    shown, wrong = (watch(film_of('audio_driven', clips, number)) for number in (0, 1))
    for row in ('pose_phi', 'pose_still', KEY_FRAME):  # the true poses drive the other
        np.testing.assert_array_equal(wrong[row], shown[row])
    shown, wrong = (watch(film_of('landmark_driven', clips, number)) for number in (0, 2))
    for row, of in shown.items():
        np.testing.assert_array_equal(wrong[row], of)
    assert max({*decode.seen} - {key}) < start
    poses = [film_of('audio_driven', clips, number).rows['pose_phi'].pose for number in (0, 3, 4)]
    np.testing.assert_array_equal(poses[1], poses[0])
    assert (poses[2] != poses[0]).all()  # this Phi does listen to what comes before


def test_frames_without_a_face_are_not_scored(make_clips, make_record):
    record = make_record(frames=29, key=20)
    record['detected'][[2, 25, 28]] = False
    film = film_of('landmark_driven', make_clips(record))
    assert np.flatnonzero(~film.scored).tolist() == [25 - 21, 28 - 21]
    assert film_of('landmark_driven', make_clips(make_record())).scored.all()


def test_the_mesh_is_lifted_as_it_would_be_in_use(make_clips, make_record, make_network, monkeypatch):
    def lift(network, record, decode):
        return {**record, 'mesh_vertices': record['mesh_vertices'] + 1}

    monkeypatch.setattr(checkpoints.mesh, 'unproject', lift)
    record = make_record()
    for mask, lifted in ((np.ones((5, 1)), 1), (np.ones((6, 1)), 0)):  # of this topology, of another
        network = make_network('unprojection', specs.unprojection_batch(1, SIZE), None)
        clips = make_clips(record)
        clips.networks['unprojection'] = dataclasses.replace(network, frozen={'uv_mask': mask})
        np.testing.assert_array_equal(clips.lifted(record)['mesh_vertices'], record['mesh_vertices'] + lifted)


def test_k_1_is_the_key_frame_only(make_clips, make_record, decode):
    film = film_of('landmark_driven', make_clips(make_record()))
    decode.seen.clear()
    list(film.rows['k1'].frames)
    assert set(decode.seen) == {7}
    decode.seen.clear()
    list(film.rows['k4'].frames)
    assert len(set(decode.seen)) == 4


@pytest.mark.parametrize(('without', 'notes'), [
    (('head_motion',), {'pose_phi': 'head_motion'}),
    (('expression',), dict.fromkeys(('pose_true', 'pose_phi', 'pose_still'), 'expression')),
    (('expression', 'head_motion'), {'pose_true': 'expression', 'pose_phi': 'expression and head_motion',
                                     'pose_still': 'expression'})])
def test_a_missing_network_empties_the_rows_that_need_it(make_clips, make_record, without, notes):
    clips = make_clips(make_record(), without=without)
    plan = checkpoints.plan('audio_driven', clips, SETTINGS, 'toy', {})
    found = {row: note for row, note in plan.row_notes.items() if note.startswith('not computed')}
    assert found == {row: f'not computed: needs a checkpoint of {names}' for row, names in notes.items()}
    assert list(plan.labels) == ['pose_true', 'pose_phi', 'pose_still', KEY_FRAME, TRUTH]
    shown = watch(plan.film(0))
    assert set(shown) == set(plan.labels) - set(notes) - {TRUTH}
    assert all(len(of) == 16 for of in shown.values())
    table_2 = checkpoints.plan('landmark_driven', clips, SETTINGS, 'toy', {})
    assert set(table_2.row_notes) == {'k4', MATCHED}  # it needs neither
    assert set(table_2.film(0).rows) == {'k1', 'k4', KEY_FRAME, MATCHED}


def test_a_table_of_motion(make_clips, make_record, tmp_path):
    clips = make_clips(make_record(seed=1), make_record(frames=29, seed=2), without=('head_motion',))
    plan = checkpoints.plan('audio_driven', clips, SETTINGS, 'toy', {})
    found = job.run(tmp_path, plan, judges(Motion(DRIVING)))
    assert found.clips['clip_id'].tolist() == ['clip1', 'clip2']
    assert found.clips['frames'].tolist() == [16, 18]
    assert found.per_clip['pose_true'] == {}
    np.testing.assert_allclose(found.per_clip['pose_still']['amplitude_error@driving'], 1, rtol=1e-6)
    assert found.per_clip['pose_phi'] == {}
    assert list(found.per_clip[TRUTH]) == ['beat_gain@driving']
    assert found.recipes['amplitude_error@driving']['picture'] == ''


@pytest.mark.parametrize(('protocol', 'settings', 'match'), [
    ('lip_reading', {}, r"config\.evaluation\.protocols holds 'lip_reading'; want some of audio_driven, "),
    ('audio_driven', {'poses': ('true', 'wild')}, r"config\.evaluation\.poses holds 'wild'; want some of true, phi"),
    ('landmark_driven', {'references': ()}, r'config\.evaluation\.references is \(\); want numbers'),
    ('landmark_driven', {'references': (8, 0)}, r'config\.evaluation\.references is \(8, 0\); want numbers')])
def test_impossible_settings_are_told_of(make_clips, make_record, protocol, settings, match):
    settings = ConfigDict({**SETTINGS.to_dict(), **settings})
    with pytest.raises(UserError, match=match):
        checkpoints.plan(protocol, make_clips(make_record()), settings, 'toy', {})


def test_clips_and_networks_are_gathered_with_what_the_numbers_depend_on(theta, psi, make_record, monkeypatch):
    trained = {'generator': theta, 'expression': psi}
    inference = types.SimpleNamespace(step=40, digest='abc')
    monkeypatch.setattr(checkpoints, 'restore', lambda workdir, name: (trained[name], inference))
    monkeypatch.setattr(checkpoints.checkpoint, 'exists', lambda workdir, name: name in trained)
    records = [make_record(seed=seed) for seed in range(5)]
    settings = ConfigDict({**SETTINGS.to_dict(), 'clips': 2, 'frames': 10})
    clips, facts = checkpoints.gather('runs', records, local_devices(2, 2), settings, lambda size: f'to {size} px',
                                      {'seed': '1'})
    assert clips.chosen == [1, 3]
    assert clips.longest == 10
    assert clips.decode == 'to 8 px'
    assert set(clips.networks) == set(trained)
    assert 'the first 64 frames' in facts.pop('reference part')
    assert facts == {'seed': '1', 'split': 'test', 'clips': '2 of 5', 'size': '8 px', 'frames': 'at most 10 a clip',
                     'generator': 'step 40, abc', 'expression': 'step 40, abc'}
    for name, number in (('clips', -1), ('frames', -5), ('batch_size', 0), ('grid', -1), ('shown', -2)):
        wrong = ConfigDict({**settings.to_dict(), name: number})
        with pytest.raises(UserError, match=rf'config\.evaluation\.{name} is {number}; want'):
            checkpoints.gather('runs', records, local_devices(2, 2), wrong, None, {})
    with pytest.raises(UserError, match=r"config\.evaluation\.split is 'test', which holds no clip"):
        checkpoints.gather('runs', [], local_devices(2, 2), settings, None, {})
