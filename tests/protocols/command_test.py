"""An evaluation is made once, kept with its videos, and made again only where what it depends on has changed."""

import dataclasses
import json
import os

import jax
import numpy as np
import pytest
from toy_films import Levels, film, frames, judges, plan

from talkinghead_jax.errors import UserError
from talkinghead_jax.protocols import command, job, results, showcase
from talkinghead_jax.protocols.results import TRUTH
from talkinghead_jax.train import hosts

WAY = {'progress': lambda numbers, desc: numbers}


class Camera:
    """Notes the videos that are written."""

    def __init__(self):
        self.videos = {}

    def __call__(self, path, shown, sound):
        self.videos[os.fspath(path)] = np.stack(list(shown)), sound
        return len(self.videos)


@pytest.fixture
def made():
    return []


def planned(made, **fields):
    def make(number):
        made.append(number)
        return film(number, audio=np.full((40, 640), number, np.int16))

    return plan(6, make, **fields)


def test_a_second_call_makes_no_film(tmp_path, made):
    first = command.evaluate(tmp_path, planned(made), judges(), Camera(), **WAY)
    assert set(made) == set(range(6))
    assert sorted(path.name for path in tmp_path.iterdir()) == ['parts', 'results.json', 'results.npz']
    assert not list((tmp_path / 'parts').iterdir())
    made.clear()
    camera = Camera()
    second = command.evaluate(tmp_path, planned(made), judges(), camera, **WAY)
    assert made == []
    assert camera.videos == {}
    assert second.facts == first.facts
    assert second.videos == first.videos != {}
    np.testing.assert_array_equal(second.per_clip['ours']['ssim@authors'], first.per_clip['ours']['ssim@authors'])
    assert first.facts['jax'] == jax.__version__
    assert first.facts['step'] == '10'


@pytest.mark.parametrize('change', ['fact', 'weights', 'version', 'damaged'])
def test_what_changed_is_made_anew(tmp_path, made, change, monkeypatch):
    command.evaluate(tmp_path, planned([]), judges(), Camera(), shown=0, **WAY)
    fields, by = {'facts': {'step': '10'}}, judges()
    if change == 'fact':
        fields = {'facts': {'step': '20'}}
    elif change == 'weights':
        by = judges(weights={'alexnet': '1'})
    elif change == 'version':
        name = 'ssim@authors'
        later = dataclasses.replace(job.RECIPES[name], version=job.RECIPES[name].version + 1)
        monkeypatch.setattr(job, 'RECIPES', {**job.RECIPES, name: later})
    else:
        (tmp_path / 'results.npz').write_bytes(b'half')
    found = command.evaluate(tmp_path, planned(made, **fields), by, Camera(), shown=0, **WAY)
    assert made == list(range(6))
    assert found.facts['step'] == fields['facts']['step']
    assert json.loads((tmp_path / 'results.json').read_text())['facts'] == found.facts


def test_videos_of_the_best_and_the_worst_are_kept_and_named(tmp_path, made, monkeypatch):
    monkeypatch.setattr(showcase, 'LONGEST', 30)
    camera = Camera()
    found = command.evaluate(tmp_path, planned(made), judges(), camera, shown=1, **WAY)
    ends = set()
    for row in ('ours', 'other'):
        values = found.per_clip[row]['ssim@authors']
        ends |= {int(values.argmin()), int(values.argmax())}
    assert made == [*range(6), *sorted(ends)]
    where = f'videos/{found.facts["evaluation"][:8]}'
    assert found.videos == {row: {f'clip{i}': f'{where}/{row}/{i:05d}.mp4' for i in sorted(ends)}
                            for row in (TRUTH, 'ours', 'other')}
    assert set(camera.videos) == {str(tmp_path / path) for of in found.videos.values() for path in of.values()}
    for number in ends:
        shown, sound = camera.videos[str(tmp_path / found.videos[TRUTH][f'clip{number}'])]
        np.testing.assert_array_equal(shown, frames(number, 40)[:30])
        np.testing.assert_array_equal(sound, np.full(30 * 640, number))
        shown, _ = camera.videos[str(tmp_path / found.videos['other'][f'clip{number}'])]
        np.testing.assert_array_equal(shown, np.stack(list(film(number).rows['other'].frames))[:30])
    assert results.load(tmp_path).videos == found.videos


def test_without_videos_no_film_is_made_twice(tmp_path, made):
    found = command.evaluate(tmp_path, planned(made), judges(Levels()), None, shown=0, **WAY)
    assert made == list(range(6))
    assert found.videos == {}


def test_other_videos_are_made_without_scoring_again(tmp_path, made):
    command.evaluate(tmp_path, planned(made), judges(), Camera(), shown=1, **WAY)
    made.clear()
    found = command.evaluate(tmp_path, planned(made), judges(), Camera(), shown=showcase.ALL, **WAY)
    assert made == list(range(6))
    assert set(found.videos['ours']) == {f'clip{i}' for i in range(6)}
    assert results.load(tmp_path).videos == found.videos


def test_what_another_evaluation_found_is_kept_aside(tmp_path, made, caplog):
    first = command.evaluate(tmp_path / 'toys', planned(made), judges(), None, shown=0, **WAY)
    second = command.evaluate(tmp_path / 'toys', planned(made, facts={'step': '20'}), judges(), None, shown=0, **WAY)
    former = tmp_path / 'former' / f'toys-{first.facts["evaluation"]}'
    assert results.load(former).facts == first.facts
    assert results.load(tmp_path / 'toys').facts == second.facts
    assert f'it is now in {former}' in caplog.text


def test_processes_that_would_not_evaluate_the_same_end(tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, 'from_main', lambda number: number + 1)
    monkeypatch.setattr(jax, 'process_count', lambda: 2)
    monkeypatch.setattr(hosts, 'all_agree', bool)
    with pytest.raises(UserError, match='the 2 processes do not evaluate the same: process 0 finds weights of no'):
        command.evaluate(tmp_path, planned([]), judges(), None, shown=0, **WAY)


def test_another_process_has_no_results(tmp_path, monkeypatch):
    command.evaluate(tmp_path, planned([]), judges(), None, shown=0, **WAY)
    monkeypatch.setattr(hosts, 'is_main', lambda: False)
    assert command.evaluate(tmp_path, planned([]), judges(), None, shown=0, **WAY) is None
