"""Two runs beside each other: pairing, tests and refusals, on tables made by hand."""

import copy
import csv
import dataclasses
import json
import re

import numpy as np
import pytest
from protocol_results import CLIP_METRICS, FRAME_METRICS, POOLED, make_results

from talkinghead_jax.errors import UserError
from talkinghead_jax.metrics.intervals import holm, paired
from talkinghead_jax.report import comparison


def chosen(results, places):
    """The same run of some of its clips only, in another order."""
    return dataclasses.replace(
        results, clips={name: values[places] for name, values in results.clips.items()},
        per_clip={row: {metric: values[places] for metric, values in of.items()}
                  for row, of in results.per_clip.items()})


def wide(shift, clips=40):
    """A run of many speakers whose SSIM is higher by `shift` and whose other metrics are noise."""
    results, rng = make_results(), np.random.default_rng(0 if shift else 1)
    names = np.array([f'c{k}' for k in range(clips)])
    per_clip = {'true': {'ssim@authors': 0.7 + shift + np.random.default_rng(2).normal(0, 0.02, clips),
                         'rotation_deg@driving': 5 - 10 * shift + np.random.default_rng(3).normal(0, 0.02, clips),
                         'psnr@rgb': 20 + rng.normal(0, 1, clips)}}
    return dataclasses.replace(results, clips={'clip_id': names, 'speaker_id': names, 'frames': np.full(clips, 9)},
                               per_clip=per_clip, pooled={})


def test_every_shared_metric_is_paired_by_clip():
    first, whole = make_results(0), make_results(1)
    second = chosen(whole, np.array([5, 4, 3, 2, 1]))
    found = comparison.compare(first, second)
    assert (found.clips, found.only_first, found.only_second, found.grouped, found.groups) == (5, 1, 0, 'speakers', 3)
    assert [(pair.row, pair.metric) for pair in found.pairs] == [
        *((row, metric) for row in ('true', 'phi', 'reference') for metric in (*FRAME_METRICS, *CLIP_METRICS)),
        ('truth', 'beat_gain@driving')]
    for row in first.labels:
        pairs = [pair for pair in found.pairs if pair.row == row]
        for pair in pairs:
            values = [run.per_clip[row][pair.metric][1:] for run in (first, whole)]
            want = paired(*values, first.clips['speaker_id'][1:])
            both = ~np.isnan(values[0] - values[1])
            assert (pair.difference, pair.p_value, pair.clips) == (want.difference, want.p_value, both.sum())
            assert pair.first - pair.second == pytest.approx(want.difference.mean, abs=1e-12)
            assert pair.first == pytest.approx(values[0][both].mean())
        np.testing.assert_array_equal([pair.corrected for pair in pairs],
                                      holm(np.array([pair.p_value for pair in pairs])))
    assert [pair.clips for pair in found.pairs if pair.metric == 'lmd@mean20-mediapipe'] == [5, 4, 5]


@pytest.mark.parametrize('swapped', [False, True])
def test_the_better_run_is_named_where_chance_cannot_explain_it(swapped):
    runs = wide(0.05), wide(0.0)
    found = comparison.compare(*(runs[::-1] if swapped else runs))
    better = {pair.metric: pair.better for pair in found.pairs}
    assert better == {'ssim@authors': 'second' if swapped else 'first',
                      'rotation_deg@driving': 'second' if swapped else 'first', 'psnr@rgb': 'no difference shown'}
    assert found.notes == []


def test_pooled_metrics_are_compared_without_a_test_and_for_the_same_clips_only():
    first, second = make_results(0), make_results(1)
    pair = next(pair for pair in comparison.compare(first, second).pairs if pair.metric == POOLED)
    assert (pair.first, pair.second, pair.difference.mean, pair.better) == (60, 60, 0, '–')
    assert np.isnan([pair.p_value, pair.corrected, pair.difference.low]).all()
    fewer = comparison.compare(first, chosen(second, np.arange(5)))
    assert POOLED not in {pair.metric for pair in fewer.pairs}


def test_too_few_speakers_are_told():
    second = make_results(1)
    second.clips['frames'] = second.clips['frames'] + [1, 0, 0, 0, 0, 0]
    assert comparison.compare(make_results(), second).notes == [
        'intervals over fewer than 5 speakers are rough',
        'no p-value of 3 speakers lies below 0.25, nor below 1 when corrected for 6 metrics: too few to show any '
        'difference', 'another number of frames in the second run: 1 clip']


@pytest.mark.parametrize(('field', 'value', 'told'), [
    ('version', 2, 'version 1 in the first run and 2'), ('size', '112 px', r'size 256 x 256 px, .* and 112 px'),
    ('picture', 'whole', r'picture prepared face crop \(JPEG 95\), 64 px in the first run and whole'),
    ('weights', {'net': 'ab' * 32}, 'weights none in the first run and net abababababab in the second')])
def test_numbers_of_different_recipes_are_not_compared(field, value, told):
    second = copy.deepcopy(make_results())
    second.recipes['ssim@authors'][field] = value
    with pytest.raises(UserError, match=f'ssim@authors has {told}'):
        comparison.compare(make_results(), second)


@pytest.mark.parametrize(('name', 'value'), [
    ('protocol', 'folders'), ('dataset', 'lrw'), ('data', 'b'), ('split', 'train'), ('size', '96 px'),
    ('crop', 'face'), ('frames', 'at most 9 a clip')])
def test_runs_of_different_data_are_not_compared(name, value):
    facts = {'data': 'a', 'split': 'test', 'size': '64 px', 'crop': 'none', 'frames': 'all', 'generator': 'step 1'}
    first, second = make_results(facts=facts), make_results(facts={**facts, 'generator': 'step 2'})
    assert comparison.compare(first, second).pairs
    former = {**facts, 'protocol': 'audio_driven', 'dataset': 'voxceleb2'}[name]
    if name in facts:
        second.facts[name] = value
    else:
        setattr(second, name, value)
    with pytest.raises(UserError, match=f"found {name} '{former}' in the first run and '{value}' in the second"):
        comparison.compare(first, second)
    if name in facts:
        del first.facts[name]  # of an older run: nothing to compare
        assert comparison.compare(first, second).pairs


FLICKER, OFFSET, SUM = 'background_flicker', 'lse_offset@syncnet', 'lmd@sum20-mediapipe'


def test_a_metric_whose_ideal_is_0_is_compared_by_its_distance_from_it():
    """A frozen background flickers less than the truth, which is as wrong as more."""
    noise = np.random.default_rng(4).normal(0, 0.1, 40)
    runs = [dataclasses.replace(wide(0), per_clip={'true': {FLICKER: values}})
            for values in (noise - 3, np.where(np.arange(40) % 2, 1, -1) + noise)]
    for swapped in (False, True):
        pair, = comparison.compare(*(runs[::-1] if swapped else runs)).pairs
        assert pair.better == ('first' if swapped else 'second')
        first, second = (np.abs(run.per_clip['true'][FLICKER]).mean() for run in runs)
        assert pair.difference.mean == pytest.approx(second - first if swapped else first - second)
    assert f'{FLICKER}: means of |value|, for 0 is best' in comparison.compare(*runs).notes


def test_what_tells_no_better_or_nothing_new_is_not_tested():
    first, second = wide(0.05), wide(0)
    former = {pair.metric: pair.corrected for pair in comparison.compare(first, second).pairs}
    for run in (first, second):
        of = run.per_clip['true']
        run.per_clip['true'] = {**of, OFFSET: of['ssim@authors'], SUM: of['ssim@authors']}
    found = {pair.metric: pair for pair in comparison.compare(first, second).pairs}
    for metric in (OFFSET, SUM):
        pair = found.pop(metric)
        assert (pair.better, pair.difference) == ('–', found['ssim@authors'].difference)
        assert np.isnan([pair.p_value, pair.corrected]).all()
    assert {metric: pair.corrected for metric, pair in found.items()} == former


def test_one_group_has_neither_bounds_nor_a_plural():
    runs = [chosen(make_results(seed), np.array([3])) for seed in (0, 1)]
    found = comparison.compare(*runs)
    assert all(np.isnan([pair.difference.low, pair.difference.high]).all() for pair in found.pairs)
    assert 'no intervals, p-values over 1 clip' in comparison._title(found, ('a', 'b'))
    assert not any('rough' in note for note in found.notes)


def test_runs_without_a_common_clip_or_metric_are_refused():
    first, second = make_results(), make_results()
    with pytest.raises(UserError, match='no metric of a row that is in both'):
        comparison.compare(first, dataclasses.replace(second, per_clip={'other': second.per_clip['true']}, pooled={}))
    second.clips['clip_id'] = np.array([f'other{k}' for k in range(6)])
    with pytest.raises(UserError, match='no clip_id that is in both runs'):
        comparison.compare(first, second)


def test_the_files_hold_what_is_printed(tmp_path):
    printed = comparison.write(tmp_path / 'out', wide(0.05), wide(0.0), ('new | run', 'old'))
    found = comparison.compare(wide(0.05), wide(0.0))
    with open(tmp_path / 'out' / 'comparison.csv', newline='') as file:
        lines = list(csv.DictReader(file))
    kept = json.loads((tmp_path / 'out' / 'comparison.json').read_text())
    assert (kept['first'], kept['second'], kept['clips']) == ('new | run', 'old', 40)
    page = (tmp_path / 'out' / 'comparison.md').read_text()
    for pair, line, of in zip(found.pairs, lines, kept['pairs'], strict=True):
        assert (float(line['first']), float(line['difference']), float(line['low']), float(line['corrected'])) == (
            pair.first, pair.difference.mean, pair.difference.low, pair.corrected)
        assert (of['metric'], of['p_value'], of['better']) == (pair.metric, pair.p_value, pair.better)
        assert f'{pair.difference.mean:+.4f} [' in printed or f'{pair.difference.mean:+.3f} [' in printed
    assert re.search(r'ssim@authors .* new \| run\n', printed)
    table = [line for line in page.split('\n') if line.startswith('|')]
    assert {len(re.findall(r'(?<!\\)\|', line)) for line in table} == {9}
    assert page.count('new \\| run') == 3
    assert str(tmp_path / 'out' / 'comparison.md') in printed
