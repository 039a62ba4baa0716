"""The clips worth a look: by the mouth where it was measured, best and worst, none twice."""

import numpy as np
import pytest
from protocol_results import CLIP_METRICS, POOLED, make_results
from toy_films import film, frames, plan

from talkinghead_jax.protocols import showcase
from talkinghead_jax.protocols.results import TRUTH

LMD, SSIM = 'lmd@mean20-mediapipe', 'ssim@authors'


def test_the_headline_is_of_the_mouth_then_of_the_picture_then_of_what_has_a_better_end():
    results = make_results()
    assert showcase.headline(results, 'true') == LMD
    del results.per_clip['true'][LMD]
    results.per_clip['phi'][LMD][:] = np.nan
    assert showcase.headline(results, 'true') == showcase.headline(results, 'phi') == SSIM
    del results.per_clip['true'][SSIM], results.per_clip['true']['csim_gt@mobilefacenet']
    assert showcase.headline(results, 'true') == 'psnr@rgb'
    assert showcase.headline(results, TRUTH) == 'beat_gain@driving'
    results.per_clip['true'] = {POOLED: np.ones(6), 'lse_offset@syncnet': np.ones(6)}
    results.recipes['lse_offset@syncnet'] = {'level': 'clip', 'better': ''}
    assert showcase.headline(results, 'true') == ''
    assert showcase.extremes(results, 'true') == ([], [])


def test_the_best_come_first_whichever_end_is_better():
    results = make_results()
    results.per_clip['true'][LMD] = np.array([3, np.nan, 1, 2, 1, 9.0])
    results.per_clip['true'][SSIM] = np.array([0.3, np.nan, 0.1, 0.2, 0.1, 0.9])
    assert showcase.ranked(results, 'true', LMD).tolist() == [2, 4, 3, 0, 5]
    assert showcase.ranked(results, 'true', SSIM).tolist() == [5, 0, 3, 2, 4]
    assert showcase.extremes(results, 'true', 2) == ([2, 4], [5, 0])
    assert showcase.extremes(results, 'true', 9) == ([2, 4], [5, 0])  # the middle one is neither
    assert showcase.extremes(results, 'true', 1) == ([2], [5])
    assert showcase.extremes(results, 'true', 0) == ([], [])


def test_a_single_clip_is_shown_once():
    results = make_results(per_clip={'true': {LMD: np.array([3.0])}})
    assert showcase.extremes(results, 'true') == ([0], [])


def test_clips_are_chosen_for_methods_only_and_once():
    results = make_results(baselines=('phi', 'reference', TRUTH))
    results.per_clip['true'][LMD] = np.array([5, 4, 3, 2, 1, 0.0])
    for metric in CLIP_METRICS:
        results.per_clip[TRUTH][metric] = np.arange(6.0)
    assert showcase.choose(results, 1) == [0, 5]
    results.baselines = (TRUTH,)
    results.per_clip['phi'][LMD] = results.per_clip['reference'][LMD] = np.array([0, 1, 2, 3, 9, 4.0])
    assert showcase.choose(results, 1) == [0, 4, 5]
    assert showcase.choose(results, showcase.ALL) == list(range(6))


@pytest.mark.parametrize(('count', 'most', 'wanted'), [
    (5, 0, [0, 1, 2, 3, 4]), (5, 9, [0, 1, 2, 3, 4]), (10, 2, [2, 7]), (9, 1, [4]), (1, 3, [0]), (7, 7, [*range(7)])])
def test_clips_are_spread_evenly(count, most, wanted):
    assert showcase.spread(count, most) == wanted


def test_moments_are_the_same_frames_of_all_rows_under_their_labels():
    found = list(showcase.moments(plan(), [3, 1], 4))
    assert [moments.clip_id for moments in found] == ['clip3', 'clip1']
    assert list(found[0].rows) == ['True video', 'Ours', 'Other']
    assert found[0].seconds == [0, 13 / 25, 26 / 25, 39 / 25]
    np.testing.assert_array_equal(found[1].rows['True video'], frames(1, 40)[::13])
    np.testing.assert_array_equal(found[1].rows['Ours'], np.stack(list(film(1).rows['ours'].frames))[::13])
    short = next(showcase.moments(plan(make=lambda number: film(number, 2)), [0], 8))
    assert short.seconds == [0, 1 / 25]
