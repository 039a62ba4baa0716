"""A film in pieces is scored as a plain loop over its frames scores it, whatever the pieces."""

import functools
import gc
import pathlib
import tracemalloc
import weakref

import jax
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from toy_films import Levels, NumberDetector, Sums, film, frames, judges, landmarks, poses, shorten_moments

from talkinghead_jax.geometry import face
from talkinghead_jax.metrics import sync, temporal
from talkinghead_jax.protocols import films, scorers, scoring
from talkinghead_jax.protocols import scorers_in_time as in_time
from talkinghead_jax.protocols.devices import local_devices
from talkinghead_jax.protocols.films import Row
from talkinghead_jax.protocols.results import TRUTH, YAW_EDGES
from third_party.syncnet import convert

GOLDEN = pathlib.Path(__file__).parents[1] / 'third_party' / 'golden' / 'syncnet_narrow.npz'
LENGTH, SIDE = 70, 32
MISSING = (0, 3, 31, 40)  # frames in which the detector finds no face

pytestmark = pytest.mark.usefixtures('quick_compilation')


@pytest.fixture(autouse=True)
def few_features(monkeypatch):
    shorten_moments(monkeypatch.setattr)


def in_pieces(monkeypatch, size):
    monkeypatch.setattr(scoring, 'chunks', functools.partial(films.chunks, size=size))


def yaw(pose):
    """Degrees by which the nose points to the side, from SciPy's rotations."""
    nose = Rotation.from_rotvec(pose[:, :3]).inv().apply([0, 0, 1])
    return np.abs(np.degrees(np.arctan2(nose[:, 0], nose[:, 2])))


def mean(values):
    values = [value for value in values if not np.isnan(value)]
    return sum(values) / len(values) if values else float('nan')


@pytest.mark.parametrize('count', [1, 31, 32, 33, 70])
def test_means_and_bins_are_those_of_a_plain_loop(count):
    pose, scored = poses(5, count), np.random.default_rng(count).random(count) < 0.7
    pose[count // 2, 1] = 2.0  # beyond the last edge
    scored[count // 2] = True
    found = scoring.score(film(0, count, pose=pose, scored=scored), judges())
    assert (found.clip_id, found.speaker_id, found.frames) == ('clip0', 'speaker0', count)
    true, angles = frames(0, count), yaw(pose)
    for row in ('ours', 'other'):
        made = np.stack(list(film(0, count).rows[row].frames))
        levels, dark, bins = [], [], np.zeros((4, 2))
        for t in range(count):
            dark.append(float(made[t, -1, -1, 0] < 64))
            if scored[t] and not dark[t]:
                levels.append(made[t].mean() / true[t].mean())
                place = sum(angles[t] >= edge for edge in YAW_EDGES[1:-1])
                bins[place] += levels[-1], 1
        assert found.values[row]['ssim@authors'] == pytest.approx(mean(levels), rel=1e-12, nan_ok=True)
        assert found.values[row]['detection_failure@mediapipe'] == pytest.approx(mean(dark), rel=1e-12)
        highest = (made.mean((1, 2, 3)) / true.mean((1, 2, 3))).max()
        assert found.values[row]['lse_d@syncnet'] == pytest.approx(highest)
        np.testing.assert_allclose(found.by_yaw[row]['ssim@authors'], bins, rtol=1e-12)
        assert np.sum(found.by_yaw[row]['detection_failure@mediapipe'], 0)[1] == count
        assert 'lse_d@syncnet' not in found.by_yaw[row]  # of which a clip has one
    assert found.values[TRUTH] == {}
    assert sum(angle >= 45 for angle in angles) >= 1


def test_yaw_is_how_far_the_nose_points_aside():
    pose = np.zeros((5, 6), np.float32)
    pose[1:, :3] = [[0, 0.5, 0], [0, -0.5, 0], [0.7, 0, 0], [0, 0, 0.7]]  # nods and tilts are none
    np.testing.assert_allclose(scoring.yaw_degrees(pose), np.degrees([0, 0.5, 0.5, 0, 0]), atol=1e-5)
    wandering = poses(3, 50)
    np.testing.assert_allclose(scoring.yaw_degrees(wandering), yaw(wandering), atol=1e-4)
    assert np.isnan(scoring.yaw_degrees(np.full((1, 6), np.nan))).all()


@pytest.fixture(scope='module')
def scene():
    """Pictures, the detector, and what every frame scores, by loops or in one piece."""
    true, made = frames(1, LENGTH, SIDE), frames(2, LENGTH, SIDE)
    made[:, 16:, 16:] = true[:, 16:, 16:] // 2 + made[:, 16:, 16:] // 2
    # The generated face nods; its number in the corner counts from 100 on.
    made[:, :SIDE // 2, :SIDE // 2] += 100
    pose = np.stack([poses(7, LENGTH), poses(8, LENGTH)])
    table = np.zeros((200, 68, 3), np.float32)
    table[:LENGTH], table[100:100 + LENGTH] = landmarks(pose[0]), landmarks(pose[1])
    detector = NumberDetector(table, (*MISSING, 105, 140))
    return true, made, pose, detector


def per_frame(scene):
    true, made, pose, detector = scene
    found = [t not in detector.missing and 100 + t not in detector.missing for t in range(LENGTH)]
    there = [t not in detector.missing for t in range(LENGTH)]
    both = made.astype(int), true.astype(int)
    change = [np.abs(both[0][t] - both[0][t - 1] - both[1][t] + both[1][t - 1]).mean()
              if t and there[t] and there[t - 1] else float('nan') for t in range(LENGTH)]
    flicker = np.asarray(jax.jit(temporal.background_flicker)(
        made, true, films.in_picture(detector.table[:LENGTH], SIDE)))
    flicker = [flicker[t - 1] if t and there[t] and there[t - 1] else float('nan') for t in range(LENGTH)]
    lmd = []
    for t in range(LENGTH):
        mouths = [detector.table[number, list(face.MOUTH), :2].astype(np.float64) for number in (t, 100 + t)]
        gaps = [np.hypot(*(a - mouths[0].mean(0) - b + mouths[1].mean(0))) for a, b in zip(*mouths, strict=True)]
        lmd.append(np.mean(gaps) if found[t] else float('nan'))
    angles = [np.degrees((Rotation.from_rotvec(a[:3]).inv() * Rotation.from_rotvec(b[:3])).magnitude()) if ok
              else float('nan') for a, b, ok in zip(*pose, found, strict=True)]
    failure = [float(100 + t in detector.missing) for t in range(LENGTH)]
    return {'temporal_difference_error': change, 'background_flicker': flicker, 'lmd@mean20-mediapipe': lmd,
            'rotation_deg@mediapipe': angles, 'detection_failure@mediapipe': failure}


@pytest.fixture(scope='module')
def wanted(scene):
    return per_frame(scene)


@pytest.mark.parametrize(('count', 'size'), [(1, 32), (31, 32), (32, 32), (33, 32), (70, 32), (70, 1), (70, 31),
                                             (70, 33), (70, 70)])
def test_neither_length_nor_pieces_change_anything(scene, wanted, monkeypatch, count, size):
    true, made, _, detector = scene
    in_pieces(monkeypatch, size)
    sums = Sums()
    show = film(1, count, SIDE, truth=iter(true[:count]), pose=None, rows={'ours': Row(iter(made[:count]))})
    found = scoring.score(show, judges(scorers.Landmarks(), in_time.Temporal(), in_time.Motion('mediapipe'), sums,
                                       detector=detector))
    for name, values in wanted.items():
        value = found.values['ours'].get(name, float('nan'))
        bound = 1e-4 if name == 'rotation_deg@mediapipe' else 1e-6  # in float32
        assert value == pytest.approx(mean(values[:count]), rel=bound, abs=bound, nan_ok=True), name
    assert found.values[TRUTH] == {'detection_failure@mediapipe': pytest.approx(
        np.mean([t in MISSING for t in range(count)]))}
    assert set(sums.moments) == {'truth/0', 'ours'}
    for row, images in (('truth/0', true), ('ours', made)):
        features = Sums._features(images[:count]).astype(np.float64)
        assert sums.moments[row].n == count
        np.testing.assert_allclose(sums.moments[row].products, features.T @ features, rtol=1e-12)
        np.testing.assert_allclose(sums.moments[row].total, features.sum(0), rtol=1e-12)
    # Frames without a face have no yaw; of those in which it is found, all are in a bin.
    bins = np.array(found.by_yaw['ours']['detection_failure@mediapipe'])
    assert bins[:, 1].sum() == count - sum(t in MISSING for t in range(count))


def test_pieces_are_the_same_to_the_last_digits(scene, monkeypatch):
    true, made, _, detector = scene
    found = []
    for size in (1, 32, 70):
        in_pieces(monkeypatch, size)
        show = film(1, LENGTH, SIDE, truth=iter(true), pose=None, rows={'ours': Row(iter(made))})
        found.append(scoring.score(show, judges(scorers.Landmarks(), in_time.Temporal(), in_time.Motion('mediapipe'),
                                                detector=detector)).values['ours'])
    assert len(found[0]) == 13 - 1  # no sound, no beats
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-12, abs=1e-12)


def test_given_poses_are_compared_and_the_truth_with_the_speech_only():
    audio = (np.random.default_rng(0).normal(size=(40, 640)) * 3000).astype(np.int16)
    pose, true, scored = poses(0, 40), frames(0, 40), np.arange(40) != 30
    driven = {'same': pose, 'still': np.tile(pose[:1], (40, 1)), 'unknown': None}
    family = in_time.Motion('driving')

    def score(pose):
        show = film(0, audio=audio, pose=pose, scored=scored, rows={name: Row(iter(true), of) for name, of in
                                                                    driven.items()})
        return scoring.score(show, judges(family)).values

    found = score(pose)
    assert list(found[TRUTH]) == ['beat_gain@driving']
    assert found['same'] == pytest.approx(dict.fromkeys(family.names[:5], 0) | found[TRUTH], abs=1e-3)
    assert found['still']['amplitude_error@driving'] == pytest.approx(1)
    assert found['still']['translation_px@driving'] == pytest.approx(
        np.linalg.norm(pose[:, 3:] - pose[:1, 3:], axis=1)[scored].mean(), rel=1e-5)
    assert found['still']['beat_gain@driving'] == 0
    assert found['unknown'] == {}
    assert score(None) == {row: {} for row in found}


@pytest.fixture(scope='module')
def syncnet():
    with np.load(GOLDEN) as golden:
        tensors = {name.removeprefix('tensors/'): golden[name] for name in golden.files if 'tensors/' in name}
        return convert.convert(tensors, {'lip': golden['lip'], 'aud': golden['aud']})


def test_speech_is_compared_in_pieces_as_in_one(scene, syncnet, monkeypatch):
    true, made, _, detector = scene
    count, audio = 30, np.random.default_rng(3).integers(-9999, 9999, (30, 640)).astype(np.int16)
    monkeypatch.setattr(in_time, 'CHUNK', 8)
    in_pieces(monkeypatch, 7)
    show = film(1, count, SIDE, truth=iter(true[:count]), audio=audio, rows={'ours': Row(iter(made[:count]))})
    found = scoring.score(show, judges(in_time.Sync(local_devices(4, 1), syncnet), detector=detector)).values
    assert list(found[TRUTH]) == list(in_time.Sync.names)
    places = [detector.table[100 + t] for t in range(count)]
    places[5] = places[4]  # where no face is found, it is where it was last
    crops = jax.jit(sync.face_crops)(made[:count], films.in_picture(np.stack(places), SIDE))
    whole = sync.scores(jax.jit(sync.video_embeddings)(syncnet, crops),
                        sync.audio_embeddings(syncnet, audio.reshape(-1), count))
    assert np.isfinite(whole).all()
    for name, value in zip(in_time.Sync.names, (whole.confidence, whole.distance, whole.distance_at_0, whole.offset),
                           strict=True):
        assert found['ours'][name] == pytest.approx(value, rel=1e-5, abs=1e-6), name


def test_without_sound_there_is_nothing_to_compare(syncnet):
    assert in_time.Sync(local_devices(8), syncnet).begin(film(0), 'ours') is None


def test_a_method_that_ends_early_is_told_of():
    show = film(0, rows={'ours': Row(iter(frames(0, 39)))})
    with pytest.raises(ValueError, match='ours ends 1 frames early'):
        scoring.score(show, judges())


def test_memory_does_not_grow_with_the_film(scene, monkeypatch):
    monkeypatch.setattr(films, 'upscale', lambda images, size: images)
    living, most = [0], [0]

    def gone():
        living[0] -= 1

    def stream(seed, count):
        rng = np.random.default_rng(seed)
        for t in range(count):
            frame = rng.integers(0, 256, (64, 64, 3), np.uint8)
            frame[:32, :32] = t % LENGTH
            weakref.finalize(frame, gone)
            living[0] += 1
            most[0] = max(most[0], living[0])
            yield frame

    def peak(count):
        show = film(1, count, reference=None, truth=stream(2, count), rows={'ours': Row(stream(1, count))}, pose=None)
        by = judges(Levels(), scorers.Landmarks(), in_time.Temporal(), Sums(), detector=scene[-1])
        gc.collect()
        tracemalloc.start()
        try:
            scoring.score(show, by)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(40)  # what is compiled and kept on the first call
    short, long = peak(100), peak(400)
    assert most[0] <= 2 * films.CHUNK + 2  # pieces of the truth and of a method, and the one that is made
    assert long - short < 0.1 * 600 * 64 * 64 * 3  # of what the further frames would take
