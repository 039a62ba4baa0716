"""What an evaluation found is read back as it was; half of it is not."""

import dataclasses

import numpy as np
import pytest
from protocol_results import POOLED, make_results

from talkinghead_jax.errors import UserError
from talkinghead_jax.protocols.results import YAW_EDGES, load, save


@pytest.fixture
def full():
    """With NaN of every kind, a row of nothing, and names that are not ASCII."""
    results = make_results()
    results.per_clip['reference'], results.by_yaw['reference'] = {}, {}
    for table in (results.by_yaw, results.counted):
        for row in results.labels:
            table.setdefault(row, {})
    results.per_clip['phi']['beat_gain@driving'][:] = np.nan
    results.pooled['phi'][POOLED] = float('nan')
    results.clips['clip_id'][0] = 'Łódź/кл'
    return results


def assert_same(found, wanted):
    assert type(found) is type(wanted) or {type(found), type(wanted)} == {tuple, list}
    if isinstance(wanted, dict):
        assert list(found) == list(wanted)
        for name, of in wanted.items():
            assert_same(found[name], of)
    elif isinstance(wanted, tuple):  # JSON has no tuples
        assert tuple(found) == wanted
    else:
        np.testing.assert_array_equal(found, wanted)


def test_round_trip(full, tmp_path):
    save(tmp_path / 'new', full)
    found = load(tmp_path / 'new')
    assert found.clips['clip_id'].dtype.kind == 'U'
    for field in dataclasses.fields(full):
        mine, theirs = (getattr(results, field.name) for results in (found, full))
        if field.name in ('clips', 'per_clip', 'by_yaw', 'counted'):  # the archive keeps no order but the rows'
            mine, theirs = ({name: dict(sorted(of.items())) if isinstance(of, dict) else of
                             for name, of in sorted(both.items())} for both in (mine, theirs))
        assert_same(mine, theirs)
    assert isinstance(found.baselines, tuple)
    assert found.metrics() == full.metrics()
    for row in full.labels:
        for metric in full.metrics():
            np.testing.assert_equal(found.mean(row, metric), full.mean(row, metric))
            assert found.count(row, metric) == full.count(row, metric)


def test_means_and_bins_are_over_what_has_a_value(full):
    values = full.per_clip['phi']['lmd@mean20-mediapipe']
    values[1] = np.nan
    assert full.mean('phi', 'lmd@mean20-mediapipe') == pytest.approx(np.delete(values, 1).mean())
    assert full.count('phi', 'lmd@mean20-mediapipe') == 5
    assert full.mean('true', POOLED) == 60
    assert np.isnan(full.mean('phi', 'beat_gain@driving'))
    assert np.isnan(full.mean('reference', 'ssim@authors'))
    means, frames = full.yaw_means('true', 'ssim@authors')
    assert len(means) == len(frames) == len(YAW_EDGES) - 1
    total = full.by_yaw['true']['ssim@authors']
    assert means[1] == pytest.approx(sum(total[i, 1, 0] for i in range(6)) / sum(total[i, 1, 1] for i in range(6)))
    assert frames.tolist() == [275, 120, 60, 0]
    assert np.isnan(means[3])


@pytest.mark.parametrize('damage', ['results.json', 'results.npz', 'half', 'empty', 'text', '[]', '{}'])
def test_what_is_not_whole_is_not_read(full, tmp_path, damage):
    save(tmp_path, full)
    archive = tmp_path / 'results.npz'
    content = archive.read_bytes()
    if damage in ('results.json', 'results.npz'):
        (tmp_path / damage).unlink()
    elif damage in ('[]', '{}'):  # of another program, of another version
        (tmp_path / 'results.json').write_text(damage)
    else:
        archive.write_bytes({'half': content[:len(content) // 2], 'empty': b'', 'text': b'text'}[damage])
    with pytest.raises(UserError, match=r'holds no results of an evaluation; want a folder with results\.json and'):
        load(tmp_path)
