"""Who is followed: a cut to another person is found, one within a person's film is not."""

import itertools

import cv2
import numpy as np
import pytest

from input_pipeline import face_tracking, media, one_person, preprocess
from talkinghead_jax.errors import Unusable
from talkinghead_jax.geometry import face, rigid


def scene(person, light, frames, turn=0.0, seed=0):
    """Looks and landmarks of a person whose colours are partly the light's, and differ on the side of the face."""
    rng, own = np.random.default_rng(seed), np.random.default_rng(100 + person)
    colours = own.normal(size=(200, 3)) + 0.5 * np.random.default_rng(200 + light).normal(size=(200, 3))
    looks = colours + 0.1 * rng.normal(size=(frames, 200, 3))
    turn = np.broadcast_to(turn, frames)
    side = np.random.default_rng(300).normal(size=(2, 200, 3))
    looks += 1.6 * turn[:, None, None] * side[0]
    pose = np.zeros((frames, 6))
    pose[:, 1] = turn + 0.02 * rng.normal(size=frames)
    size, noise = 1 + 0.2 * person, rng.normal(size=(frames, 68, 3))
    frontal = face.TEMPLATE + 3.0 * own.normal(size=(68, 3)) + 5.0 * turn[:, None, None] * side[1, :68]
    return looks.astype(np.float32), rigid.apply_pose(size * frontal + noise, pose)


def change(*scenes, hidden=()):
    looks, landmarks = (np.concatenate(parts) for parts in zip(*scenes, strict=True))
    detected = ~np.isin(np.arange(len(looks)), hidden)
    return one_person.find_change(looks, landmarks, rigid.estimate_pose(landmarks), detected)


def test_another_person_is_found_where_he_begins():
    a, b = scene(1, 1, 30), scene(2, 1, 20)
    assert change(a, b) == 30
    assert change(a, b, scene(1, 1, 30, seed=2)) == 30
    assert change(a, b, hidden=range(28, 33)) == 33
    assert change(scene(1, 1, 12), scene(2, 1, 12)) == 12


def test_one_person_is_not_two():
    a, again = scene(1, 1, 30), scene(1, 1, 30, seed=1)
    assert change(a) is None
    assert change(a, again) is None  # a jump cut
    assert change(a, scene(1, 2, 30)) is None  # the lamp goes on: other colours, the same shape
    assert change(a, scene(2, 1, one_person.LEAST_FRAMES - 1), again) is None  # somebody passes by
    assert change(scene(1, 1, 8), scene(2, 1, 8)) is None  # too short to tell


def test_a_head_that_has_turned_is_compared_where_it_has_not(monkeypatch):
    turning = scene(1, 1, 40, turn=np.linspace(0.9, 0, 40), seed=1)
    assert change(scene(1, 1, 40), turning) is None
    monkeypatch.setattr(one_person, '_PAIRS', 1600)  # every frame with every other
    assert change(scene(1, 1, 40), turning) == 40


def test_light_and_contrast_do_not_count():
    rng = np.random.default_rng(0)
    patches = rng.normal(110, 40, (16, 16, 1)) + rng.normal(0, 10, (16, 16, 3))
    picture = cv2.resize(patches, (256, 256), interpolation=cv2.INTER_CUBIC).clip(0, 210)
    points = rng.uniform(60, 200, (900, 3))
    bright, dim = (one_person.colours(np.rint(picture * gain).astype(np.uint8), points) for gain in (1.2, 0.6))
    assert bright.shape == (900, 3)
    assert [one_person.sample(np.zeros((2, count, 3))).shape for count in (478, 43867)] == [(2, 478, 3), (2, 505, 3)]
    assert np.sqrt(((bright - dim) ** 2).mean()) < 0.5 * one_person.JUMP
    np.testing.assert_allclose(one_person.colours(cv2.resize(np.rint(picture).astype(np.uint8), (64, 64)), points),
                               bright, atol=0.3)  # nor does the picture's size


@pytest.fixture(scope='module')
def framed(shared_data):
    """26 frames from the beginning and 26 from the end of a clip, its face where everybody's is."""
    with face_tracking.MediaPipeDetector(shared_data / 'models' / face_tracking.LANDMARKER) as detector:
        def excerpts(name):
            video = list(media.Video(shared_data / 'clips' / name))
            crop = preprocess.static_crop(detector.detect(video[:3]).landmarks)
            frames = [crop.apply(frame) for frame in video]
            return frames[:26], frames[-26:]

        yield detector, excerpts


def test_spliced_films(framed):
    detector, excerpts = framed
    (first, last), (other, _) = excerpts('grid/lwbsza.mpg'), excerpts('grid/lrwp9a.mpg')
    sound = np.rint(900 * np.sin(np.arange(52 * 640) / 20)).astype(np.int16)

    def prepare(*parts):
        film = list(itertools.chain(*parts))
        return preprocess.prepare_clip(film, sound, detector, 'spliced', 's', preprocess.Options(image_size=64))

    prepare(first, last)
    with pytest.raises(Unusable, match="from frame 26 on, the face that is followed is another person's") as caught:
        prepare(first, other)
    assert caught.value.reason == 'two_people'
