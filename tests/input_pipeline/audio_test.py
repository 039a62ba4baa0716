"""Chunks, windows, noise and gain."""

import numpy as np
import pytest

from input_pipeline import audio
from talkinghead_jax.specs import CHUNK


def level(samples):
    return 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def speechlike(rng, samples=16000):
    return (3000 * rng.standard_normal(samples) * np.abs(np.sin(np.arange(samples) / 900))).astype(np.int16)


def test_chunks_are_cut_or_padded(rng):
    sound = speechlike(rng, 5 * CHUNK + 100)
    np.testing.assert_array_equal(audio.frame_chunks(sound, 5).ravel(), sound[:5 * CHUNK])
    longer = audio.frame_chunks(sound, 8)
    assert longer.shape == (8, CHUNK)
    assert longer.dtype == np.int16
    np.testing.assert_array_equal(longer.ravel()[:len(sound)], sound)
    assert not longer.ravel()[len(sound):].any()


def test_window_of_a_frame_is_a_slice(rng):
    chunks = audio.frame_chunks(speechlike(rng), 25)
    padded = audio.pad_windows(chunks)
    assert padded.shape == (31, CHUNK)
    np.testing.assert_array_equal(padded[10:17], chunks[7:14])  # frame 10: chunks 7 .. 13
    assert not padded[:3].any()
    assert not padded[-3:].any()


@pytest.mark.parametrize('ratio', audio.NOISE_RATIOS)
def test_noise_ratio_is_exact(rng, ratio):
    speech = speechlike(rng).astype(np.float64)
    noise = audio.make_noise('white', len(speech), rng)
    added = audio.mix_noise(speech, noise, ratio) - speech
    np.testing.assert_allclose(level(speech) - level(added), ratio, atol=1e-9)


def test_silence_stays_silent(rng):
    np.testing.assert_array_equal(audio.mix_noise(np.zeros(100), rng.standard_normal(100), 6), np.zeros(100))
    with pytest.raises(ValueError, match='silent'):
        audio.mix_noise(np.ones(100), np.zeros(100), 6)


@pytest.mark.parametrize('kind', audio.NOISES)
def test_noises_have_unit_power(rng, kind):
    noise = audio.make_noise(kind, 20_001, rng)
    assert noise.shape == (20_001,)
    np.testing.assert_allclose([noise.mean(), np.mean(noise ** 2)], [0, 1], atol=1e-6)


def test_colours(rng):
    def slope(kind):
        power = np.abs(np.fft.rfft(audio.make_noise(kind, 1 << 17, rng))) ** 2
        octaves = [power[2 ** k:2 ** (k + 1)].mean() for k in range(5, 16)]
        return np.polyfit(np.arange(len(octaves)), 10 * np.log10(octaves), 1)[0]
    assert abs(slope('white')) < 0.3
    assert abs(slope('pink') + 3.01) < 0.3  # dB an octave
    babble = np.abs(np.fft.rfft(audio.make_noise('babble', 1 << 16, rng))) ** 2
    hertz = np.fft.rfftfreq(1 << 16, 1 / 16000)
    assert babble[(hertz > 80) & (hertz < 3200)].sum() > 0.8 * babble.sum()  # where voices are


def test_babble_of_given_voices(rng):
    clips = [speechlike(rng, 3000).reshape(5, 600), speechlike(rng, 9000)]
    noise = audio.make_noise('babble', 5000, rng, clips)
    np.testing.assert_allclose(np.mean(noise ** 2), 1)


def test_augmentation_is_deterministic_and_int16(rng):
    chunks = audio.frame_chunks(speechlike(rng), 25)
    for change in (audio.add_random_noise, audio.add_random_gain):
        first, again = (change(chunks, np.random.default_rng(5)) for _ in range(2))
        np.testing.assert_array_equal(first, again)
        assert first.dtype == np.int16
        assert first.shape == chunks.shape
    steps = {round(level(audio.add_random_gain(chunks, np.random.default_rng(s))) - level(chunks)) for s in range(60)}
    assert steps == set(audio.GAINS)


def test_gain_clips_instead_of_wrapping():
    loud = np.array([30000, -30000], np.int16)
    np.testing.assert_array_equal(audio.to_int16(audio.apply_gain(loud, 6)), [32767, -32768])


def test_unknown_noise(rng):
    with pytest.raises(ValueError, match='white, pink, babble'):
        audio.make_noise('brown', 10, rng)
