"""Speech at one level."""

import numpy as np
import pytest

from talkinghead_jax import loudness


def _speech(scale: float) -> np.ndarray:
    """Ten frames of noise, and pauses before and after."""
    chunks = np.zeros((30, 640))
    chunks[10:20] = np.random.default_rng(0).normal(size=(10, 640))
    return np.rint(scale * chunks).astype(np.int16)


@pytest.mark.parametrize('scale', [100, 1000, 6000])
def test_loud_and_quiet_speech_come_to_the_standard(scale):
    found = loudness.standardise(_speech(scale))
    assert found.dtype == np.int16
    assert loudness.speech_level(loudness.frame_power(found)) == pytest.approx(loudness.STANDARD, rel=5e-3)
    # Pauses do not count.
    assert loudness.speech_level(loudness.frame_power(_speech(scale))) == pytest.approx(scale, rel=0.02)
    assert np.abs(loudness.standardise(found).astype(int) - found).max() <= 1 + 0.005 * np.abs(found).max()


@pytest.mark.parametrize('scale', [3, 300, 9000])
def test_a_known_level_and_a_part_give_the_same_samples(scale):
    chunks = _speech(scale)
    chunks[3] = 2 * scale  # loud enough, in one case, to keep the rest from clipping
    level = np.float32(loudness.speech_level(loudness.frame_power(chunks)))
    whole = loudness.standardise(chunks)
    np.testing.assert_array_equal(loudness.standardise(chunks, level), whole)
    part = loudness.scaled(chunks[5:15], loudness.standard_factor(chunks, level))
    np.testing.assert_array_equal(part, whole[5:15])


@pytest.mark.parametrize('peak', [9000, 32000])
def test_clipping_is_judged_by_all_but_the_clicks(peak):
    """By the definition: no more than a two-hundredth of the samples clips, and no gain is lost where none would."""
    chunks = _speech(300)
    chunks[10:20:2, ::3] = peak  # loud, though on average the speech is not
    wanted = loudness.STANDARD / loudness.speech_level(loudness.frame_power(chunks))
    limit = 32767 / np.quantile(np.abs(chunks.astype(float)), 0.995)
    assert loudness.standard_factor(chunks) == pytest.approx(min(wanted, limit, 10 ** 1.5), rel=1e-6)


def test_silence_and_faint_hum_stay_quiet():
    np.testing.assert_array_equal(loudness.standardise(_speech(0)), 0)
    assert loudness.standardise(np.zeros((0, 640), np.int16)).shape == (0, 640)
    assert np.abs(loudness.standardise(_speech(1))).max() <= 5 * 10 ** 1.5


@pytest.mark.parametrize('where', [7, slice(None, None, 4)])  # a click; a bang of a frame
def test_what_is_not_speech_neither_quietens_nor_raises_it(where):
    chunks = np.tile(_speech(300), (3, 1))
    plain = loudness.standardise(chunks).astype(int)
    chunks[12, where] = -12000
    found = loudness.standardise(chunks)
    assert (found[12, where] < -32000).all()
    speech = np.delete(found, 12, axis=0), np.delete(plain, 12, axis=0)
    assert 0.9 < np.std(speech[0]) / np.std(speech[1]) < 1.1
