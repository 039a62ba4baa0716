"""The pool: what is final is not tried again, what failed is; Beam does the same work."""

import functools
import pathlib

import dying_job
import pytest

from input_pipeline import pool, quarantine
from talkinghead_jax.errors import Unusable, UserError


def write(path: pathlib.Path, number: int) -> None:
    with open(path.parent / 'tried.log', 'a') as log:
        log.write(f'{number}\n')
    if number == 1:
        raise Unusable('no_face', 'clip 1 shows nobody')
    if number == 2 and not (path.parent / 'mended').exists():
        raise ValueError('a bug')
    if number == 3 and not (path.parent / 'mended').exists():
        raise OSError(28, 'No space left on device')
    path.write_bytes(b'%d' % number)


def jobs(*numbers):
    return [pool.Job('train', f'/media/{i}', f'x/{i}.npz', functools.partial(write, number=i), f'c{i}')
            for i in numbers]


def test_a_refusal_is_final_and_a_failure_is_not(tmp_path):
    found = pool.run(jobs(0, 1, 2), tmp_path, workers=1)
    assert found == [('c1', 'train', 'no_face', 'clip 1 shows nobody', '/media/1'),
                     ('c2', 'train', 'failed', '/media/2: ValueError: a bug', '/media/2')]
    (tmp_path / 'x/mended').touch()
    assert pool.run(jobs(0, 1, 2), tmp_path, workers=1) == found[:1]
    assert (tmp_path / 'x/tried.log').read_text().split() == ['0', '1', '2', '2']
    assert sorted(path.name for path in (tmp_path / 'x').iterdir()) == [
        '0.npz', '1.npz.refused', '2.npz', 'mended', 'tried.log']


@pytest.mark.parametrize('workers', [1, 2])
def test_a_full_disk_stops_the_run_and_blames_no_clip(tmp_path, workers):
    with pytest.raises(UserError, match='No space left on device; make room'):
        pool.run(jobs(0, 3), tmp_path, workers)
    assert not list(tmp_path.glob('x/*.refused'))
    (tmp_path / 'x/mended').touch()
    assert pool.run(jobs(0, 3), tmp_path, 1) == []


def test_more_jobs_than_the_queue_holds_are_all_done(tmp_path):
    numbers = [0, *range(4, 30)]
    assert pool.run(jobs(*numbers), tmp_path, workers=2) == []
    assert sorted(map(int, (tmp_path / 'x/tried.log').read_text().split())) == numbers


def test_beam_makes_the_same_files(tmp_path, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(pathlib.Path(__file__).parent))  # its workers import this file
    options = '--runner=DirectRunner --direct_running_mode=multi_processing --direct_num_workers=2'
    (tmp_path / 'x').mkdir()
    (tmp_path / 'x/0.npz').write_bytes(b'0')  # done before
    found = pool.run(jobs(0, 1, 2, 4, 5), tmp_path, beam=options)
    assert [(refusal.clip, refusal.reason) for refusal in found] == [('c1', 'no_face'), ('c2', 'failed')]
    assert [(tmp_path / f'x/{i}.npz').read_bytes() for i in (0, 4, 5)] == [b'0', b'4', b'5']
    assert sorted((tmp_path / 'x/tried.log').read_text().split()) == ['1', '2', '4', '5']


def test_a_clip_that_kills_its_process_does_not_end_the_pipeline(tmp_path, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(pathlib.Path(__file__).parent))
    deadly = [pool.Job('train', f'clip {i}', f'{i}.npz', dying_job.Writer(i)) for i in range(4)]
    refused, = pool.run(deadly, tmp_path, beam='--runner=DirectRunner --direct_running_mode=multi_processing '
                                               '--direct_num_workers=2')
    assert (refused.path, refused.reason) == ('clip 2', 'failed')
    assert 'died' in refused.detail


@pytest.mark.parametrize('options', ['--runner=NoRunner', '--runer=FlinkRunner',
                                     '--runner=DirectRunner --direct_num_workers=abc'])
def test_beam_tells_in_a_sentence_what_is_wrong(tmp_path, options):
    with pytest.raises(UserError, match=r'config\.data\.beam='):
        pool.run(jobs(0), tmp_path, beam=options)
    assert not list(tmp_path.rglob('.beam*'))


def test_a_negative_number_of_workers_is_refused(tmp_path):
    with pytest.raises(UserError, match=r'config\.data\.workers is -1'):
        pool.run(jobs(0), tmp_path, workers=-1)


def test_the_table_is_sorted_and_goes_when_nothing_is_refused(tmp_path):
    rows = [quarantine.Refusal('b', 'train', 'too_short', 'b, "short"', '/b'),
            quarantine.Refusal('a', 'test', 'no_face', 'nobody', '/a')]
    table = tmp_path / quarantine.TABLE
    quarantine.write(table, rows)
    assert [tuple(row.values()) for row in quarantine.read(table)] == [rows[1], rows[0]]
    assert quarantine.described(quarantine.counts(rows + rows[:1])) == '2 too_short, 1 no_face'
    quarantine.write(table, [])
    assert not table.exists()
    assert quarantine.read(table) == []
