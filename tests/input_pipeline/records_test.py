"""Clip records survive the disk bit for bit, and are never half written."""

import builtins
import os

import numpy as np
import pytest

from input_pipeline import pool, records
from talkinghead_jax.errors import UserError


def some_record():
    return {'clip_id': 'Zoë/1', 'video': [b'first', b'', b'third\0'], 'image': b'\xff\xd8',
            'audio': np.ones((3, 4), np.int16),
            'key_frame': np.int32(2), 'detected': np.array([True, False]), 'pose': np.full((3, 6), 0.1, np.float32)}


def test_round_trip(tmp_path):
    path = tmp_path / 'new' / 'clip.npz'
    record = some_record()
    records.save_record(path, record)
    back = records.load_record(path)
    assert records.equal_records(record, back)
    assert back['video'] == record['video']
    assert back['image'] == record['image']
    assert back['clip_id'] == record['clip_id']
    assert back['key_frame'].dtype == np.int32


def test_equal_records_give_equal_files(tmp_path):
    record = some_record()
    records.save_record(tmp_path / 'a', record)
    records.save_record(tmp_path / 'b', dict(reversed(record.items())))
    assert (tmp_path / 'a').read_bytes() == (tmp_path / 'b').read_bytes()


@pytest.mark.parametrize('change', [{'clip_id': 'x'}, {'video': [b'firstt', b'', b'hird\0']}, {'new': np.zeros(1)},
                                    {'pose': np.full((3, 6), 0.1)}])
def test_differences_are_seen(change):
    assert not records.equal_records(some_record(), {**some_record(), **change})


def test_failed_write_leaves_the_old_record(tmp_path):
    path = tmp_path / 'clip.npz'
    records.save_record(path, some_record())
    with pytest.raises(ValueError, match='pickle'):
        records.save_record(path, {'broken': np.array([object()])})
    assert records.equal_records(records.load_record(path), some_record())
    assert [file.name for file in tmp_path.iterdir()] == ['clip.npz']


def test_errors_are_told_in_one_sentence(tmp_path):
    with pytest.raises(UserError, match='does not exist'):
        records.load_record(tmp_path / 'none.npz')
    bad = tmp_path / 'bad.npz'
    records.save_record(bad, some_record())
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.raises(UserError, match=r'bad\.npz is not a clip record'):
        records.load_record(bad)
    bad.write_text('text')
    with pytest.raises(UserError, match=r'bad\.npz is not a clip record'):
        records.load_record(bad)
    with pytest.raises(UserError, match='cannot write'):
        records.save_record(bad / 'clip.npz', some_record())


def test_others_may_read_a_record_where_the_umask_lets_them(tmp_path):
    before = os.umask(0o027)
    try:
        records.save_record(tmp_path / 'new/clip.npz', some_record())
    finally:
        os.umask(before)
    assert (tmp_path / 'new/clip.npz').stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize('number', pool.FULL)
@pytest.mark.parametrize('place', ['mkdir', 'open'])
def test_a_full_disk_is_no_mistake_in_a_record(tmp_path, monkeypatch, number, place):
    def full(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*((records.pathlib.Path, 'mkdir') if place == 'mkdir' else (builtins, 'open')), full)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        records.save_record(tmp_path / 'clip.npz', some_record())
    assert caught.value.errno == number
    assert not list(tmp_path.iterdir())
