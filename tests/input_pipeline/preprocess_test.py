"""Real clips become records that keep the contract; a clip that cannot be used says why."""

import dataclasses
import json
import logging
import shutil

import cv2
import numpy as np
import pytest

from input_pipeline import crop as crops
from input_pipeline import face_tracking, media, preprocess
from input_pipeline.face_tracking import Detections
from input_pipeline.mediapipe_mapping import mesh_triangles
from talkinghead_jax import loudness, specs
from talkinghead_jax.errors import Unusable, UserError
from talkinghead_jax.geometry import face, rigid

SMALL = preprocess.Options(image_size=64)


@pytest.fixture(scope='module')
def detector(shared_data):
    with face_tracking.MediaPipeDetector(shared_data / 'models' / face_tracking.LANDMARKER) as opened:
        yield opened


@pytest.fixture(scope='module')
def record(shared_data, detector):
    return preprocess.prepare_media(shared_data / 'clips/grid/bbaf2n.mpg', detector, 'bbaf2n', 's2',
                                    preprocess.Options(image_size=128))


class ScriptedDetector:
    """Finds the template's face, shifted by the frame's number, wherever it is told to."""

    name = 'scripted'
    triangles = mesh_triangles()

    def __init__(self, detected, replaced=None):
        self.detected, self.replaced = np.array(detected), replaced

    def detect(self, frames):
        count = sum(1 for _ in frames)
        shift = np.arange(count)[:, None, None] * np.array([1.0, 0, 0])
        points = (face.TEMPLATE + shift).astype(np.float32)
        dense = np.concatenate([points, np.zeros((count, 410, 3), np.float32)], axis=1)
        known = self.detected[:count, None, None]
        confidence = 0.9 * self.detected[:count].astype(np.float32)
        return Detections(points * known, dense * known, self.detected[:count], confidence, self.replaced)


def assert_contract(record, size):
    frames = len(record['video'])
    assert set(record) == set(specs.CLIP)
    for name, field in specs.CLIP.items():
        if field.dtype == 'str':
            assert isinstance(record[name], str)
        elif field.dtype == 'bytes':
            assert media.decode_jpeg(record[name][0]).shape == (size, size, 3)
        else:
            shape = field.array(T=frames, V=478).shape
            assert (name, np.shape(record[name]), np.asarray(record[name]).dtype) == (name, shape, field.dtype)


def test_record_keeps_the_contract(record):
    assert_contract(record, 128)
    assert (len(record['video']), record['clip_id'], record['speaker_id']) == (75, 'bbaf2n', 's2')
    assert record['detected'].all()
    assert json.loads(record['preparation'])['version'] == preprocess.VERSION
    assert np.abs(record['audio'].astype(int)).max() > 1000


def test_framing_is_the_originals(record):
    landmarks = record['landmarks']
    box = np.ptp(landmarks[..., :2], axis=1).max(-1)
    np.testing.assert_allclose(box.mean(), 112, atol=2)
    eyes = landmarks[:, face.RIGHT_EYE + face.LEFT_EYE, 1].mean()
    np.testing.assert_allclose(eyes, 100, atol=1)
    frontal = rigid.frontalize(landmarks, record['pose'])
    assert np.abs(frontal.mean(0) - face.TEMPLATE)[:, :2].mean() < 6  # a person's face is near the template


def test_frames_show_what_the_landmarks_say(record, detector):
    """Tracking the stored pictures anew finds the stored landmarks: crop and pixel centres are right."""
    frames = np.stack([media.decode_jpeg(data) for data in record['video'][:5]])
    again = (detector.detect(frames).landmarks[..., :2] + 0.5) * 2 - 0.5  # 128 px -> crop px
    offset = again - record['landmarks'][:5, :, :2]
    assert np.linalg.norm(offset, axis=-1).mean() < 2.5
    np.testing.assert_allclose(offset.mean(axis=(0, 1)), 0, atol=1)


def test_key_and_closed_mouth_frames(record):
    rotation = np.linalg.norm(record['pose'][:64, :3], axis=-1)
    assert record['key_frame'] == rotation.argmin()
    opening = face.mouth_opening(rigid.frontalize(record['landmarks'], record['pose']))
    assert opening[record['closed_mouth_frame']] <= opening.min() + 1e-3
    key = record['landmarks'][record['key_frame']]
    np.testing.assert_allclose(record['mesh_vertices'][face_tracking.IBUG], key, atol=1e-3)
    assert record['mesh_visibility'].mean() > 0.9


def test_preparation_is_deterministic(shared_data, detector):
    from input_pipeline.records import equal_records
    path = shared_data / 'clips/voxceleb2/00010.mp4'
    first, again = (preprocess.prepare_media(path, detector, options=SMALL, max_frames=26) for _ in range(2))
    assert equal_records(first, again)
    assert first['audio'].shape == (26, specs.CHUNK)


def test_sound_beside_the_film_is_taken(shared_data, detector):
    record = preprocess.prepare_media(shared_data / 'clips/styletalk/feifeili_clip1.mp4', detector, options=SMALL,
                                      max_frames=30)
    assert_contract(record, 64)
    assert np.abs(record['audio'].astype(int)).max() > 1000


def test_large_frames(shared_data, detector):
    film = media.read_video(shared_data / 'clips/hdtf/WDA_AlexandriaOcasioCortez_000.mp4', max_frames=50)
    record, crop = preprocess.prepare_clip(film, hum(50), detector, 'hdtf', 'a', SMALL)
    assert_contract(record, 64)
    assert crop.side > 512
    assert preprocess.crop_of(record) == crop


def test_portrait(shared_data, detector):
    picture = media.read_image(shared_data / 'portraits/young_woman_liveportrait_s42.jpg')
    record = preprocess.prepare_image(picture, detector)
    assert_contract(record, 256)
    assert len(record['video']) == 1
    assert record['detected'].all()
    assert not record['audio'].any()
    with pytest.raises(UserError, match='black: no face in 1 of 1 frames'):
        preprocess.prepare_image(np.zeros((200, 200, 3), np.uint8), detector, 'black')


def hum(frames):
    return np.rint(900 * np.sin(np.arange(frames * 640) / 20)).astype(np.int16)


def film(frames, size=64):
    return np.zeros((frames, size, size, 3), np.uint8)


def refused(reason, match, *arguments, **options):
    with pytest.raises(Unusable, match=match) as caught:
        preprocess.prepare_clip(*arguments, 'clip', 's', preprocess.Options(image_size=32, **options))
    assert caught.value.reason == reason


def test_unusable_clips():
    found, sound = ScriptedDetector([True] * 30), hum(30)
    refused('no_sound', 'clip has no sound; want', film(30), sound[:0], found)
    refused('no_sound', 'digital silence', film(30), np.full(30 * 640, 7, np.int16), found)
    refused('too_short', r'clip has 24 frames .* at least 25 \(1 s\)', film(24), sound, found)
    refused('too_short', 'at least 31', film(30), sound, found, min_frames=31)
    half = ScriptedDetector([True] * 14 + [False] * 16)
    refused('no_face', 'no face in 16 of 30 frames; want at most 50%', film(30), sound, half)
    preprocess.prepare_clip(film(30), sound, half, 'clip', 's', preprocess.Options(32, max_missing=0.6))
    away = ScriptedDetector([True] * 25 + [False] * 5, replaced=np.arange(30) >= 25)
    refused('two_people', 'another face .* in 5 of 30', film(30), sound, away)
    passing = ScriptedDetector([True] * 26 + [False] * 4, replaced=np.arange(30) >= 26)
    preprocess.prepare_clip(film(30), sound, passing, 'clip', 's', SMALL)


def test_unusable_files(tmp_path, shared_data):
    def refusal(name):
        with pytest.raises(UserError) as caught:
            preprocess.prepare_media(tmp_path / name, ScriptedDetector([True] * 30))
        return getattr(caught.value, 'reason', None), str(caught.value)

    media.write_video(tmp_path / 'silent.mp4', film(30))
    media.write_video(tmp_path / 'quiet.mp4', film(30), 0 * hum(30))
    (tmp_path / 'broken.mp4').write_bytes((shared_data / 'clips/voxceleb2/00010.mp4').read_bytes()[1000:9000])
    (tmp_path / 'empty.mp4').write_bytes(b'')
    reason, sentence = refusal('silent.mp4')
    assert reason == 'no_sound'
    assert 'silent.mp4 has no audio track' in sentence
    assert [refusal(name)[0] for name in ('quiet.mp4', 'broken.mp4', 'empty.mp4')] == [
        'no_sound', 'unreadable', 'unreadable']
    reason, sentence = refusal('none.mp4')
    assert reason is None  # it may come yet
    assert 'does not exist' in sentence


def test_wrong_options():
    with pytest.raises(UserError, match=r"config\.data\.crop is 'round'; want one of static, smoothed"):
        preprocess.Options(crop='round')
    with pytest.raises(UserError, match=r'config\.data\.max_missing is 1\.5'):
        preprocess.Options(max_missing=1.5)


def test_gaps_pass_and_are_flagged():
    """The frames that are chosen are never among those in which no face was found."""
    detected = np.ones(30, bool)
    detected[[0, 1, 10, 11, 12, 13]] = False
    record, _ = preprocess.prepare_clip(film(30, 256), hum(30), ScriptedDetector(detected), 'c', 's', SMALL)
    np.testing.assert_array_equal(record['detected'], detected)
    np.testing.assert_array_equal(record['confidence'] > 0, detected)
    steps = np.diff(record['landmarks'][4:-2, 30, 0])
    np.testing.assert_allclose(steps, steps[0], atol=1e-3)  # the face moves on through the gap
    assert detected[[record['key_frame'], record['closed_mouth_frame']]].all()
    late = np.arange(140) >= 70  # nobody in the frames that a key frame is looked for in
    record, _ = preprocess.prepare_clip(film(140), hum(140), ScriptedDetector(late), 'c', 's', SMALL)
    assert late[[record['key_frame'], record['closed_mouth_frame']]].all()


@pytest.mark.parametrize(('crop', 'smoothing', 'gap'), [
    ('static', 5, []), ('smoothed', 4, [7, 9, 10]), ('smoothed', 5, [0, 1, 2, 7, 9]), ('static', 1, [7])])
def test_the_mesh_is_filled_and_smoothed_as_if_every_frames_were(crop, smoothing, gap):
    detected = ~np.isin(np.arange(30), gap)
    noise = np.random.default_rng(0).normal(size=(30, 478, 3)).astype(np.float32)

    class Detector(ScriptedDetector):
        def detect(self, frames):
            found = super().detect(frames)
            found.landmarks[..., 2] += 0.03 * np.abs(np.arange(30) - 8)[:, None] * found.landmarks[..., 0]
            return dataclasses.replace(found, dense=100 + 9 * noise)

    detector, options = Detector(detected), preprocess.Options(64, crop, smoothing)
    record, key_crop = preprocess.prepare_clip(film(30, 256), hum(30), detector, 'c', 's', options)
    found, key = detector.detect(film(30)), int(record['key_frame'])
    assert key == 8

    def whole(points):
        return crops.centred_hanning(face_tracking.fill_gaps(points, detected), smoothing)[key]

    rigid_points = list(face.RIGID_POINTS)
    landmarks, mesh = key_crop.to_crop(whole(found.landmarks)), key_crop.to_crop(whole(found.dense))
    shift = (landmarks - record['landmarks'][key])[rigid_points].mean(axis=0)
    np.testing.assert_allclose(record['mesh_vertices'], mesh - shift, atol=1e-4)


def test_sound_that_is_damaged_is_replaced_by_the_films_own(tmp_path, caplog):
    """And not by what lies beside the film, which the name of the record in the cache does not know."""
    detector = ScriptedDetector([True] * 30)
    for name, sound in (('own.mp4', hum(30)), ('silent.mp4', None)):
        media.write_video(tmp_path / name, film(30), sound)
        shutil.copyfile(tmp_path / 'own.mp4', (tmp_path / name).with_suffix('.m4a'))
    (tmp_path / 'bad.wav').write_bytes(b'no sound')
    record = preprocess.prepare_media(tmp_path / 'own.mp4', detector, options=SMALL, sound=str(tmp_path / 'bad.wav'))
    assert 'bad.wav' in caplog.text
    assert np.abs(record['audio'].astype(int)).max() > 500
    preprocess.prepare_media(tmp_path / 'silent.mp4', detector, options=SMALL)
    with pytest.raises(Unusable, match=r'silent\.mp4 has no audio track'):
        preprocess.prepare_media(tmp_path / 'silent.mp4', detector, options=SMALL, sound=str(tmp_path / 'bad.wav'))


def test_lengths_that_differ(caplog):
    detector = ScriptedDetector([True] * 60)
    with caplog.at_level(logging.WARNING):
        preprocess.prepare_clip(film(60), hum(72), detector, 'c', 's', SMALL)
        assert not caplog.records
        record, _ = preprocess.prepare_clip(film(60), hum(31), detector, 'c', 's', SMALL)
    assert 'the sound is 1.16 s shorter than the picture; it is padded with silence' in caplog.text
    assert not record['audio'][31:].any()
    refused('length', 'the sound is 1.24 s shorter than the picture of 2.40 s', film(60), hum(29), detector)
    refused('length', 'the sound is 1.60 s longer', film(60), hum(100), detector)


def test_what_the_record_says_of_its_making():
    options = preprocess.Options(image_size=32, crop='smoothed', smoothing=3, min_frames=10, max_missing=0.2)
    record, crop = preprocess.prepare_clip(film(30), hum(30), ScriptedDetector([True] * 30), 'c', 's', options,
                                           transcript='SET WHITE')
    assert json.loads(record['preparation']) == {
        'version': preprocess.VERSION, 'detector': 'scripted', 'options': dataclasses.asdict(options),
        'crop': dataclasses.asdict(crop)}
    assert record['transcript'] == 'SET WHITE'
    assert record['speech_level'] == np.float32(loudness.speech_level(loudness.frame_power(record['audio'])))
    assert record['speech_level'] == pytest.approx(900 / np.sqrt(2), rel=0.01)


def test_smoothed_crop_follows_the_head():
    """A face that moves a pixel a frame, with a white nose, stays where it is in the crop; nothing lags."""
    frames = film(60, 300)
    nose = np.rint(face.TEMPLATE[30, :2]).astype(int)
    for t in range(60):
        cv2.circle(frames[t], (int(nose[0]) + t, int(nose[1])), 6, (255, 255, 255), -1)
    options = preprocess.Options(image_size=256, crop='smoothed')
    record, crop = preprocess.prepare_clip(frames, hum(60), ScriptedDetector([True] * 60), 'c', 's', options)
    assert preprocess.crop_of(record) == crop
    inner = slice(8, -8)  # the ends of the path are held
    points = record['landmarks'][inner, :, :2]
    eyes = (points[:, face.RIGHT_EYE].mean(axis=1) + points[:, face.LEFT_EYE].mean(axis=1)) / 2
    np.testing.assert_allclose(eyes, np.broadcast_to([crops.EYE_COLUMN, crops.EYE_ROW], eyes.shape), atol=0.8)
    for t in range(8, 52):
        rows, columns = np.nonzero(media.decode_jpeg(record['video'][t])[..., 0] > 127)
        np.testing.assert_allclose([columns.mean(), rows.mean()], record['landmarks'][t, 30, :2], atol=1.2)
    static, fixed = preprocess.prepare_clip(frames, hum(60), ScriptedDetector([True] * 60), 'c', 's')
    assert np.ptp(static['landmarks'][:, 30, 0]) > 50
    assert fixed.side == crop.side


def test_smoothing_is_centred():
    points = np.zeros((20, 68, 3), np.float32)
    points[9] = 1.0
    smoothed = crops.centred_hanning(points, 5)[:, 0, 0]
    np.testing.assert_allclose(smoothed, [*smoothed[18::-1], 0], atol=1e-7)  # symmetric about frame 9
    np.testing.assert_allclose(smoothed.sum(), 1, atol=1e-6)
    ramp = np.broadcast_to(np.arange(20, dtype=np.float32)[:, None, None], points.shape)
    moved = crops.centred_hanning(ramp, 5)
    np.testing.assert_allclose(moved[2:-2], ramp[2:-2], atol=1e-5)  # no lag


@pytest.mark.parametrize('crop', [crops.Crop(-7, 12, 100), crops.Crop(30, -20, 300), crops.Crop(3, 5, 64, 128)])
def test_crop_coordinates(crop):
    points = np.random.default_rng(0).normal(100, 50, (4, 68, 3))
    np.testing.assert_allclose(crop.from_crop(crop.to_crop(points)), points)
    corner = crop.to_crop(np.array([crop.left - 0.5, crop.top - 0.5, 1.0]))  # the outer corner of the square
    np.testing.assert_allclose(corner, [-0.5, -0.5, crop.scale])
    np.testing.assert_allclose(crop.to_crop(points[..., :2]), crop.to_crop(points)[..., :2])


def test_what_lies_beyond_the_frame_is_not_seen(shared_data, detector):
    """The lower half of a face, its forehead cut off by the frame."""
    whole = media.read_image(shared_data / 'portraits/young_woman_liveportrait_s42.jpg')
    record = preprocess.prepare_image(whole, detector)
    brow = record['mesh_vertices'][face_tracking.IBUG[17:27]].mean(axis=0)[None]
    cut = round(preprocess.crop_of(record).from_crop(brow)[0, 1]) - 15
    low = preprocess.prepare_image(whole[cut:], detector)
    beyond = preprocess.crop_of(low).from_crop(low['mesh_vertices'])[:, 1] < -0.5
    assert beyond.any()
    assert not low['mesh_visibility'][beyond].any()
    assert low['mesh_visibility'][~beyond].mean() > 0.9


@pytest.mark.parametrize('size', [64, 256, 400])
def test_pictures_follow_the_coordinates(size):
    """A blob in the frame appears where `to_crop` says, at every size."""
    frame = np.zeros((200, 300, 3), np.uint8)
    rows, columns = np.mgrid[:200, :300]
    frame[:] = np.rint(255 * np.exp(-((columns - 140) ** 2 + (rows - 90) ** 2) / 200))[..., None].astype(np.uint8)
    crop = crops.Crop(50, -10, 180)
    image = crop.apply(frame, size)[..., 0].astype(float)
    rows, columns = np.mgrid[:size, :size]
    found = np.array([(columns * image).sum(), (rows * image).sum()]) / image.sum()
    wanted = (crop.to_crop(np.array([140.0, 90.0])) + 0.5) * size / 256 - 0.5
    np.testing.assert_allclose(found, wanted, atol=0.1)


def test_paste_back():
    rng = np.random.default_rng(0)
    frame = cv2.GaussianBlur(rng.integers(0, 255, (150, 200, 3), np.uint8), (0, 0), 6)
    crop = crops.Crop(-20, 30, 100)
    before = frame.copy()
    same = crop.paste(frame, crop.apply(frame, 256))
    assert np.abs(same.astype(int) - frame).max() <= 4  # a crop put back changes nothing
    white = crop.paste(frame, np.full((64, 64, 3), 255, np.uint8))
    np.testing.assert_array_equal(frame, before)
    np.testing.assert_array_equal(white[:, 80:], frame[:, 80:])  # outside
    np.testing.assert_array_equal(white[:30], frame[:30])
    assert (white[60:90, 3:60] == 255).all()
    assert np.abs(white[30, :79].astype(int) - frame[30, :79]).max() < 30  # a soft border
    away = crops.Crop(500, 500, 40)
    np.testing.assert_array_equal(away.paste(frame, white[:40, :40]), frame)
    assert not away.apply(frame, 32).any()
