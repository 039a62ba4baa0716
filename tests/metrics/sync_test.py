"""SyncNet's scores: as recorded, exact offsets, and crops as the published code cuts them."""

import pathlib

import cv2
import jax
import numpy as np
import pytest
from patterns import film, noise

from talkinghead_jax.metrics import sync
from third_party.syncnet import convert
from third_party.syncnet.network import Stream

GOLDEN = pathlib.Path(__file__).parents[1] / 'third_party' / 'golden' / 'syncnet_narrow.npz'
SHIFTS = range(-10, 11)  # frames by which the sound is late


@pytest.fixture(scope='module')
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.fixture(scope='module')
def params(golden):
    tensors = {name.removeprefix('tensors/'): golden[name] for name in golden if name.startswith('tensors/')}
    return convert.convert(tensors, {'lip': golden['lip'], 'aud': golden['aud']})


@pytest.mark.usefixtures('quick_compilation')
def test_embeddings_are_those_of_the_published_recipe(golden, params):
    frames = film(7)
    found = sync.video_embeddings(params, np.concatenate([frames, frames[:6], frames]))  # 16 windows, a part, and one
    assert found.shape == (16, 10)
    np.testing.assert_allclose(found[:3], golden['films'], atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(found[13:], golden['films'], atol=1e-4, rtol=1e-4)
    sound = sync.audio_embeddings(params, golden['audio'], 7)
    np.testing.assert_allclose(sound, golden['sounds'], atol=1e-4, rtol=1e-4)
    assert sync.audio_embeddings(params, golden['audio'][:-1], 7).shape == (1, 10)  # the sound ends before the film
    assert sync.audio_embeddings(params, golden['audio'], 5).shape == (0, 10)
    assert sync.video_embeddings(params, frames[:4]).shape == (0, 10)
    with pytest.raises(ValueError, match='float64; SyncNet wants int16'):
        sync.audio_embeddings(params, golden['audio'] / 32768, 7)


def test_scores_are_those_of_the_published_recipe(golden):
    found = sync.scores(golden['first'], golden['second'])
    np.testing.assert_allclose(found, golden['scores'], rtol=1e-6)
    assert sync.scores(golden['first'], np.pad(golden['second'], ((0, 3), (0, 0)))) == found  # the end is left out


@pytest.mark.parametrize('late', SHIFTS)
def test_offsets_of_shifted_embeddings_are_exact(late):
    rng = np.random.default_rng(late + 10)
    walk = np.cumsum(rng.normal(size=(90, 32)), axis=0)  # neighbours resemble each other, as in speech
    found = sync.scores(walk[15:75], walk[15 - late:75 - late] + rng.normal(size=(60, 32)) / 2)
    assert found.offset == -late
    assert found.distance <= found.distance_at_0
    assert found.confidence > 1


def test_a_short_clip_has_no_score_and_equal_embeddings_are_at_the_least_distance():
    embeddings = np.random.default_rng(0).normal(size=(20, 8))
    assert np.isnan(sync.scores(embeddings[:19], embeddings)).all()
    found = sync.scores(embeddings, embeddings)
    assert found.offset == 0
    np.testing.assert_allclose(found.distance, 1e-6 * np.sqrt(8))  # PyTorch's epsilon


def random_params(rng, stream, widths):
    """A random half of SyncNet without biases."""
    sample = np.zeros((1, 5, 224, 224, 3) if stream == 'lip' else (1, 13, 20), np.float32)
    shapes = jax.eval_shape(Stream(stream, widths).init, jax.random.key(0), sample)['params']

    def fill(x):
        values = rng.normal(size=x.shape) * np.sqrt(2 / np.prod(x.shape[:-1]))
        return values.astype(np.float32) if x.ndim > 1 else np.zeros(x.shape, np.float32)

    return jax.tree.map(fill, shapes)


def flicker(rng, count):
    """A film (count,224,224,3) of grey frames, and a sound as loud as they are bright, from 15 frames earlier on."""
    bright = rng.uniform(size=count + 30)
    time = np.arange(640 * (count + 30)) / 16_000
    chord = sum(np.sin(2 * np.pi * pitch * time) for pitch in (300, 700, 1500, 3100))
    sound = chord * np.exp(2 + 5 * np.repeat(bright, 640))
    shades = np.round(255 * bright[15:-15]).astype(np.uint8)
    return np.broadcast_to(shades[:, None, None, None], (count, 224, 224, 3)), sound.astype(np.int16)


@pytest.mark.usefixtures('quick_compilation')
def test_offsets_of_shifted_sound_are_exact_through_the_network():
    """Both halves are random but for the last layer of the sound's, fitted to one film; another is then shifted."""
    rng = np.random.default_rng(0)
    params = {'lip': random_params(rng, 'lip', (4, 4, 4, 4, 4, 16, 16, 8)),
              'aud': random_params(rng, 'aud', (8, 8, 8, 8, 8, 64, 64, 64))}
    embed = jax.jit(sync.video_embeddings)
    params['aud']['fc2']['kernel'] = np.eye(64, dtype=np.float32)  # what comes before the last layer
    (seen, heard), (frames, sound) = flicker(rng, 84), flicker(rng, 84)
    hidden = sync.audio_embeddings(params, heard[15 * 640:], len(seen)).astype(np.float64)
    ridge = 1e-3 * np.trace(hidden.T @ hidden) / 64 * np.eye(64)
    last = np.linalg.solve(hidden.T @ hidden + ridge, hidden.T @ np.asarray(embed(params, seen))[:len(hidden)])
    params['aud']['fc2'] = {'kernel': last.astype(np.float32), 'bias': np.zeros(8, np.float32)}
    video = embed(params, frames)
    for late in SHIFTS:
        found = sync.scores(video, sync.audio_embeddings(params, sound[(15 - late) * 640:], len(frames)))
        assert found.offset == -late
        assert found.confidence > 0.2 * found.distance


def published_crops(images, boxes):
    """Crops of (N, 4) boxes (left, top, right, bottom) as the published script cuts them, but for the film's ends."""
    half = np.maximum(boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]) / 2
    track = np.stack([(boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2, half], axis=1)
    track = np.pad(track, ((6, 6), (0, 0)), mode='edge')
    crops = []
    for i, image in enumerate(images):
        x, y, size = np.median(track[i:i + 13], axis=0)
        margin = 2 * image.shape[0]
        padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), constant_values=110).astype(np.float32)
        x, y = x + margin, y + margin
        face = padded[int(y - size):int(y + 1.8 * size), int(x - 1.4 * size):int(x + 1.4 * size)]
        crops.append(cv2.resize(face, (224, 224)))
    return np.stack(crops)


@pytest.mark.usefixtures('quick_compilation')
def test_crops_are_those_of_the_published_script():
    rng = np.random.default_rng(0)
    images = noise(16, 90, 120, 3)
    images[:, :, :60] //= 2
    centres = np.linspace((20.3, 30.2), (80.7, 60.9), 16) + rng.normal(size=(16, 2)) * 3  # partly outside
    landmarks = np.concatenate([centres[:, None] + rng.uniform(-30, 30, size=(16, 68, 2)), np.zeros((16, 68, 1))], -1)
    low, high = landmarks[..., :2].min(1), landmarks[..., :2].max(1)
    low[:, 1] -= 0.3 * (high - low)[:, 1]
    wanted = published_crops(images, np.concatenate([low, high], axis=1))
    found = jax.jit(sync.face_crops)(images, landmarks.astype(np.float32))
    assert found.dtype == np.uint8
    assert (wanted == 110).all(-1).any()  # some of a crop is outside the picture
    np.testing.assert_allclose(found, wanted, atol=0.51)
