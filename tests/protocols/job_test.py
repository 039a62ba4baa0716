"""A table is the same however often its making was cut off, and in however many parts it was made."""

import dataclasses
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from killed_job import COUNT
from toy_films import Levels, Sums, film, judges, plan, shorten_moments

from talkinghead_jax.errors import UserError
from talkinghead_jax.protocols import job
from talkinghead_jax.protocols.films import Film
from talkinghead_jax.protocols.recipes import DETECTOR, RECIPES
from talkinghead_jax.protocols.results import TRUTH
from talkinghead_jax.train import hosts

HERE = pathlib.Path(__file__).parent
FID = 'fid@pytorch-fid'


class KilledError(Exception):
    """In place of a signal."""


@pytest.fixture(autouse=True)
def few_features(monkeypatch):
    shorten_moments(monkeypatch.setattr)


@pytest.fixture
def made():
    """Numbers of the films that were made."""
    return []


def scored_by(**fields):
    return judges(Levels(), Sums(), **fields)


def planned(made, dies_at=-1, count=6, **fields):
    def make(number):
        if number == dies_at:
            raise KilledError
        made.append(number)
        return film(number)

    return plan(count, make, **fields)


def resume(folder, first, second, by=scored_by):
    """Run `first` until it dies, then `second`."""
    with pytest.raises(KilledError):
        job.run(folder, first, by(), snapshot_seconds=0)
    return job.run(folder, second, by(), snapshot_seconds=0)


def assert_same(found, wanted, rtol=0.0):
    for field in dataclasses.fields(wanted):
        mine, theirs = (getattr(results, field.name) for results in (found, wanted))
        if field.name not in ('clips', 'per_clip', 'by_yaw', 'counted', 'pooled'):
            assert mine == theirs, field.name
            continue
        mine, theirs = (jax.tree_util.tree_flatten_with_path(of)[0] for of in (mine, theirs))
        assert [path for path, _ in mine] == [path for path, _ in theirs]
        for (path, a), (_, b) in zip(mine, theirs, strict=True):
            if rtol and field.name in ('pooled', 'by_yaw'):
                assert a == pytest.approx(b, rel=rtol), path
            else:
                np.testing.assert_array_equal(a, b, str(path))


@pytest.fixture
def whole(tmp_path):
    """What one process makes of six films in one go."""
    return job.run(tmp_path / 'whole', planned([]), scored_by())


def test_a_table_of_all_rows_and_films(whole):
    assert whole.clips['clip_id'].tolist() == [f'clip{i}' for i in range(6)]
    assert whole.clips['speaker_id'].tolist() == [f'speaker{i // 2}' for i in range(6)]
    assert whole.clips['frames'].tolist() == [40] * 6
    assert set(whole.per_clip) == set(whole.labels) == {'ours', 'other', 'none', TRUTH}
    assert whole.per_clip['none'] == whole.per_clip[TRUTH] == {}
    assert set(whole.per_clip['ours']) == set(Levels.names)
    assert len(set(whole.per_clip['ours']['ssim@authors'])) == 6
    assert set(whole.by_yaw['ours']) == {'ssim@authors', 'detection_failure@mediapipe'}
    assert set(whole.pooled) == {'ours', 'other'}
    assert 0 < whole.pooled['ours'][FID] != whole.pooled['other'][FID] > 0
    assert whole.notes[FID].startswith('FID of 240 frames is biased upwards')
    assert 'two halves of the true frames score' in whole.notes[FID]
    assert whole.recipes[FID]['level'] == 'pool'
    assert set(whole.recipes) == {*Levels.names, FID}


@pytest.mark.parametrize('dies_at', [1, 3, 5])
def test_a_job_that_was_killed_ends_in_the_same_numbers(whole, tmp_path, made, dies_at, caplog):
    found = resume(tmp_path, planned(made, dies_at), planned(made))
    assert made == list(range(6))  # none twice
    assert_same(found, whole)
    assert f'goes on behind {dies_at} of 6 clips' in caplog.text


def test_a_job_that_died_before_its_first_snapshot_begins_again(whole, tmp_path, made):
    with pytest.raises(KilledError):
        job.run(tmp_path, planned(made, 3), scored_by(), snapshot_seconds=1000)
    assert_same(job.run(tmp_path, planned(made), scored_by(), snapshot_seconds=1000), whole)
    assert made == [0, 1, 2, *range(6)]


def test_a_finished_job_makes_no_film_again(whole, tmp_path):
    assert_same(job.run(tmp_path / 'whole', planned([], 0), scored_by()), whole)
    job.clear(tmp_path / 'whole')
    with pytest.raises(KilledError):
        job.run(tmp_path / 'whole', planned([], 0), scored_by())


@pytest.mark.parametrize('change', ['fact', 'count', 'label', 'dataset', 'weights', 'families', 'notes', 'version',
                                    'detector'])
def test_a_snapshot_of_another_evaluation_is_not_used(tmp_path, made, change, monkeypatch):
    second, by = planned(made), scored_by
    if change in ('weights', 'notes'):
        def by():
            return scored_by(**{change: {FID: 'other'}})
    elif change == 'families':
        def by():
            return judges(Levels())
    elif change == 'detector':
        def by():
            return scored_by(detector=lambda images: (np.zeros((len(images), 68, 3)), np.ones(len(images), bool)))
    elif change == 'version':
        later = dataclasses.replace(RECIPES[FID], version=RECIPES[FID].version + 1)
    else:
        fields = {'fact': {'facts': {'step': '11'}}, 'count': {'count': 5}, 'dataset': {'dataset': 'lrw'},
                  'label': {'labels': {'ours': 'Ours (K = 8)', 'other': 'Other', 'none': 'None', TRUTH: 'True'}}}
        second = planned(made, **fields[change])
    with pytest.raises(KilledError):
        job.run(tmp_path, planned(made, 3), scored_by(), snapshot_seconds=0)
    if change == 'version':
        monkeypatch.setattr(job, 'RECIPES', {**RECIPES, FID: later})
    found = job.run(tmp_path, second, by(), snapshot_seconds=0)
    assert made == [0, 1, 2, *range(second.count)]
    assert_same(found, job.run(tmp_path / 'anew', second, by()))


@pytest.mark.parametrize('damage', ['nothing', 'text', 'half', 'header', 'bits', 'other'])
def test_a_damaged_snapshot_is_passed_over(whole, tmp_path, made, damage, caplog):
    with pytest.raises(KilledError):
        job.run(tmp_path, planned(made, 3), scored_by(), snapshot_seconds=0)
    place, = (tmp_path / 'parts').iterdir()
    content = place.read_bytes()
    place.write_bytes({
        'nothing': b'', 'text': b'not an archive', 'half': content[:len(content) // 2], 'header': content[:30],
        'bits': content[:200] + bytes(255 - byte for byte in content[200:400]) + content[400:],
        'other': b''}[damage])
    if damage == 'other':
        with open(place, 'wb') as file:
            np.savez(file, mu=np.zeros(3))
    found = job.run(tmp_path, planned(made), scored_by(), snapshot_seconds=0)
    assert 'its clips are evaluated again' in caplog.text
    assert made == [0, 1, 2, *range(6)]
    assert_same(found, whole)


@pytest.mark.parametrize(('processes', 'count'), [(2, 6), (2, 5), (3, 2)])
def test_several_processes_make_one_table(tmp_path, monkeypatch, processes, count):
    alone = job.run(tmp_path / 'alone', planned([], count=count), scored_by())
    waited, films = [], []
    monkeypatch.setattr(jax, 'process_count', lambda: processes)
    monkeypatch.setattr(hosts, 'wait_for_all', waited.append)
    for index in reversed(range(processes)):
        made = []
        monkeypatch.setattr(jax, 'process_index', lambda index=index: index)
        found = job.run(tmp_path, planned(made, count=count), scored_by())
        assert (found is None) == (index > 0)
        assert made == list(range(index, count, processes))
        films += made
    assert sorted(films) == list(range(count))
    assert len(waited) == processes
    assert_same(found, alone, rtol=1e-9)
    assert len(list((tmp_path / 'parts').iterdir())) == processes
    job.clear(tmp_path)
    assert not list((tmp_path / 'parts').iterdir())


def test_what_was_not_computed_is_said(tmp_path):
    by = judges(Levels(), Silent(), notes={'lmd@sum20-mediapipe': 'none'})
    found = job.run(tmp_path, plan(2, needs={'background_flicker': (DETECTOR,)}), by)
    assert found.recipes['ssim@authors'] == {**dataclasses.asdict(RECIPES['ssim@authors']), 'picture': 'toys',
                                             'weights': {}}
    assert found.notes == {
        'lmd@sum20-mediapipe': 'none', 'background_flicker': f'not computed: needs {DETECTOR}',
        'temporal_difference_error': 'no value: no clip is long enough, or has the sound or the faces that it wants'}
    assert found.row_notes == {'none': 'not computed: needs a checkpoint of phi'}
    assert found.facts == {'step': '10'}


class Silent:
    """Has nothing to say."""

    names = ('temporal_difference_error', 'background_flicker')

    def begin(self, film, row):
        return None


def test_clips_without_a_frame_are_counted_not_scored(tmp_path):
    def some(number):
        return Film.empty('gone', 'nobody') if number == 1 else film(number)

    found = job.run(tmp_path / 'some', plan(3, some), scored_by())
    assert found.clips['frames'].tolist() == [40, 0, 40]
    assert np.isnan(found.per_clip['ours']['ssim@authors']).tolist() == [False, True, False]
    assert found.counted['ours']['ssim@authors'][1] == 0
    assert found.facts['left out'] == '1 of 3 clips, of which no frame can be judged'
    with pytest.raises(UserError, match='no clip of folders can be judged'):
        job.run(tmp_path / 'none', plan(2, lambda number: Film.empty('gone')), scored_by())


def test_frames_are_counted(whole):
    failures = whole.per_clip['ours']['detection_failure@mediapipe']
    np.testing.assert_array_equal(whole.counted['ours']['ssim@authors'], 40 - np.round(40 * failures))


def test_a_killed_process_leaves_a_snapshot_that_is_whole(tmp_path, made):
    folder = tmp_path / 'killed'
    child = subprocess.Popen([sys.executable, HERE / 'killed_job.py', folder], stdout=subprocess.PIPE, text=True,
                             env=os.environ | {'PYTHONPATH': str(HERE.parents[1])})
    try:
        for _ in range(4):
            assert child.stdout.readline()
        time.sleep(random.random() / 20)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    found = job.run(folder, planned(made, count=COUNT), scored_by())
    assert len(made) < COUNT - 2  # what is written down is not made again
    assert made == list(range(COUNT - len(made), COUNT))
    assert_same(found, job.run(tmp_path / 'whole', planned([], count=COUNT), scored_by()))
