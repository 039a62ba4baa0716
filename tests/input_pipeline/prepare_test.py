"""Preparation: records in, the same records out; the same bytes every time; nothing done twice; nothing lost."""

import filecmp
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import dying_job
import fake_dataset
import numpy as np
import pytest
import tensorflow_datasets as tfds

from input_pipeline import dataset, index, pool, prepare, quarantine, records
from talkinghead_jax import specs
from talkinghead_jax.errors import UserError

HERE = pathlib.Path(__file__).parent


def _tfrecords(data_dir):
    return sorted(path.relative_to(data_dir) for path in data_dir.rglob('*.tfrecord*'))


def test_summary_counts(prepared):
    _, _, summary = prepared
    assert summary['clips'] == summary['position_maps'] == fake_dataset.COUNTS
    assert summary['seconds'] == summary['frames'] / 25
    assert summary['quarantined'] == {}
    json.dumps(summary)


def test_records_come_back_as_they_were_cached(prepared, fake_data):
    cached = {}
    for path in (prepared[1] / 'cache').glob('clips_*.npz'):
        record = records.load_record(path)
        cached[record['clip_id']] = record
    seen = [fake_data.read(split, i) for split in fake_data.splits('clips') for i in range(fake_data.size(split))]
    assert {record['clip_id'] for record in seen} == set(cached)
    for record in seen:
        assert record.keys() == specs.CLIP.keys()
        assert records.equal_records(record, cached[record['clip_id']])


def test_random_access_equals_sequential_tfds_read(prepared, fake_data):
    built = tfds.builder_from_directory(prepared[1] / 'fake_talking_heads/clips/1.0.0')
    stream = built.as_dataset(split='train', decoders={'video': tfds.decode.SkipDecoding()})
    order = list(reversed(range(fake_data.size('train'))))
    ours = {i: fake_data.read('train', i) for i in order}
    count = 0
    for i, theirs in enumerate(tfds.as_numpy(stream)):
        count += 1
        assert theirs['clip_id'].decode() == ours[i]['clip_id']
        assert list(theirs['video']) == ours[i]['video']
        for name in ('audio', 'landmarks', 'pose', 'detected', 'mesh_vertices', 'key_frame'):
            np.testing.assert_array_equal(theirs[name], ours[i][name])
    assert count == fake_data.size('train')


def test_tfds_load_decodes_frames(prepared):
    loaded, info = tfds.load('fake_talking_heads', data_dir=prepared[1], split='test', with_info=True)
    example = next(iter(tfds.as_numpy(loaded)))
    assert example['video'].shape == (len(example['pose']), fake_dataset.SIZE, fake_dataset.SIZE, 3)
    assert info.splits['test'].num_examples == 3
    assert info.citation
    maps = tfds.load('fake_talking_heads/position_maps', data_dir=prepared[1], split='train')
    assert next(iter(maps))['position_map'].shape == (fake_dataset.SIZE, fake_dataset.SIZE, 3)


def test_a_complete_dataset_is_left_alone(prepared, fake_builder, monkeypatch):
    config, data_dir, summary = prepared
    monkeypatch.setattr(pool, 'run', None)
    assert prepare.prepare(config, data_dir) == json.loads(json.dumps(summary))


def test_two_builds_have_the_same_bytes(prepared, fake_builder, tmp_path):
    config, data_dir, _ = prepared
    config.data.workers = 2
    prepare.prepare(config, tmp_path)
    assert _tfrecords(tmp_path) == _tfrecords(data_dir)
    every = [path.relative_to(data_dir) for path in data_dir.rglob('*') if path.is_file() and path.suffix != '.log']
    assert filecmp.cmpfiles(data_dir, tmp_path, every, shallow=False)[0] == every


def test_other_parameters_replace_the_dataset_and_keep_the_cache(prepared, fake_builder, tmp_path):
    shutil.copytree(prepared[1], tmp_path / 'data')
    data_dir = tmp_path / 'data'
    config = fake_dataset.config()
    config.expression.model.components = 7  # other statistics of the same records
    made = (data_dir / 'cache/made.log').read_text()
    prepare.prepare(config, data_dir)
    assert (data_dir / 'cache/made.log').read_text() == made
    assert dataset.open_dataset(data_dir).axes['components'] == 7
    config.seed = 5
    prepare.prepare(config, data_dir)
    ours = dataset.open_dataset(data_dir).read('test', 0)
    assert ours['clip_id'].startswith('clip5')


def test_a_damaged_dataset_is_built_again(prepared, fake_builder, tmp_path):
    shutil.copytree(prepared[1], tmp_path / 'data')
    shard = tmp_path / 'data' / _tfrecords(prepared[1])[0]
    os.truncate(shard, shard.stat().st_size - 1)
    prepare.prepare(prepared[0], tmp_path / 'data')
    assert shard.read_bytes() == (prepared[1] / _tfrecords(prepared[1])[0]).read_bytes()


def test_broken_clips_go_to_quarantine_and_the_others_go_on(fake_builder, tmp_path):
    config = fake_dataset.config()
    config.bad = (1, 101)
    summary = prepare.prepare(config, tmp_path)
    assert summary['quarantined'] == {'unreadable': 2}
    assert summary['clips'] == {'train': 4, 'validation': 1, 'test': 3}
    assert quarantine.read(tmp_path / quarantine.TABLE) == [
        {'clip': '1', 'split': 'train', 'reason': 'unreadable', 'detail': 'clip 1 is broken', 'path': 'clips 1'},
        {'clip': '101', 'split': 'validation', 'reason': 'unreadable', 'detail': 'clip 101 is broken',
         'path': 'clips 101'}]


def test_too_much_in_quarantine_is_loud_and_costs_nothing(fake_builder, tmp_path):
    config = fake_dataset.config()
    config.bad = (1, 101)
    summary = prepare.prepare(config, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    config.data.max_quarantine = 0.05  # 2 of 20 jobs
    with pytest.raises(UserError, match=r'2 of 20 clips .*2 unreadable.* more than the share 0\.05'):
        prepare.prepare(config, tmp_path)
    config.bad = (1, 2, 101)  # more data, of which too much is bad: what was prepared before stays as it is
    with pytest.raises(UserError, match='more than the share'):
        prepare.prepare(config, tmp_path)
    after = {path: path.read_bytes() for path in before}
    assert {path.name for path in before if before[path] != after[path]} == {quarantine.TABLE}
    config.data.max_quarantine, config.bad = 0.1, (1, 101)
    assert prepare.prepare(config, tmp_path) == json.loads(json.dumps(summary))
    config.data.max_quarantine = -3
    with pytest.raises(UserError, match=r'config\.data\.max_quarantine is -3'):
        prepare.prepare(config, tmp_path)


def test_a_dataset_whose_deletion_was_killed_is_built_again(prepared, fake_builder, tmp_path, monkeypatch):
    shutil.copytree(prepared[1], tmp_path / 'data')
    shard = _tfrecords(prepared[1])[0]
    other = fake_dataset.config()
    other.expression.model.components = 7

    def killed(folder, ignore_errors):
        (tmp_path / 'data' / shard).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepare.shutil, 'rmtree', killed)
        with pytest.raises(KeyboardInterrupt):
            prepare.prepare(other, tmp_path / 'data')
    with pytest.raises(UserError, match='half-prepared'):
        dataset.open_dataset(tmp_path / 'data')
    prepare.prepare(prepared[0], tmp_path / 'data')
    assert (tmp_path / 'data' / shard).read_bytes() == (prepared[1] / shard).read_bytes()


def test_what_failed_is_tried_again_and_joins_the_dataset(fake_builder, tmp_path, monkeypatch):
    config, write_record = fake_dataset.config(), fake_dataset.records.save_record

    def fails(path, record):
        if record.get('clip_id') == 'clip001':
            raise ValueError('a bug')
        write_record(path, record)

    monkeypatch.setattr(fake_dataset.records, 'save_record', fails)
    for _ in range(2):  # failing again changes nothing
        summary = prepare.prepare(config, tmp_path)
        assert summary['quarantined'] == {'failed': 1}
        assert dataset.open_dataset(tmp_path).size('train') == fake_dataset.COUNTS['train'] - 1
    monkeypatch.setattr(fake_dataset.records, 'save_record', write_record)
    assert prepare.prepare(config, tmp_path)['quarantined'] == {}
    assert dataset.open_dataset(tmp_path).size('train') == fake_dataset.COUNTS['train']
    assert not (tmp_path / quarantine.TABLE).exists()


def test_one_process_at_a_time(prepared, fake_builder, tmp_path):
    import fcntl
    with open(tmp_path / '.lock', 'w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match='another process is preparing'):
            prepare.prepare(fake_dataset.config(), tmp_path)


def test_a_damaged_record_is_deleted_and_made_again(fake_builder, tmp_path, prepared):
    shutil.copytree(prepared[1] / 'cache', tmp_path / 'cache')
    record = next((tmp_path / 'cache').glob('clips_*.npz'))
    whole = record.read_bytes()
    record.write_bytes(whole[:100])
    with pytest.raises(UserError, match='it is deleted: run the same command again'):
        prepare.prepare(fake_dataset.config(), tmp_path)
    prepare.prepare(fake_dataset.config(), tmp_path)
    assert record.read_bytes() == whole


def test_no_training_data_is_a_users_mistake(fake_builder, tmp_path):
    config = fake_dataset.config()
    config.bad = tuple(range(5))
    with pytest.raises(UserError, match='no training data: none of the clips of split train'):
        prepare.prepare(config, tmp_path)


def test_killed_preparation_continues(prepared, tmp_path):
    script = textwrap.dedent(f'''
        import sys
        sys.path[:0] = [{str(HERE)!r}, {str(HERE.parents[1])!r}]
        import fake_dataset
        from input_pipeline import prepare
        if __name__ == '__main__':
            prepare.builder_class = lambda name: fake_dataset.FakeTalkingHeads
            prepare.prepare(fake_dataset.config(), {str(tmp_path)!r})
    ''')
    log = tmp_path / 'cache/made.log'
    process = subprocess.Popen([sys.executable, '-c', script], env={**os.environ, 'FAKE_PAUSE': '0.4'},
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (log.exists() and len(log.read_text().split()) >= 2) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(list((tmp_path / 'cache').glob('clips_*.npz'))) < 10
    with pytest.raises(UserError, match='half-prepared'):
        dataset.open_dataset(tmp_path)
    # What a kill within a write leaves behind: a temporary file, and half a TFDS folder.
    (tmp_path / 'cache/.clips_0.npz.x.tmp').write_bytes(b'half')
    (tmp_path / 'fake_talking_heads/clips/incomplete.ABC_1.0.0').mkdir(parents=True)
    (tmp_path / 'fake_talking_heads/clips/incomplete.ABC_1.0.0/x').write_bytes(b'half')
    subprocess.run([sys.executable, '-c', script], check=True, capture_output=True)
    assert not list((tmp_path / 'fake_talking_heads/clips').glob('*incomplete*'))
    finished = [int(line) for line in log.read_text().split()]
    assert len(finished) - len(set(finished)) <= 1  # the clip that was being written, at most
    for path in _tfrecords(prepared[1]):
        assert (tmp_path / path).read_bytes() == (prepared[1] / path).read_bytes()


def test_a_dying_worker_costs_its_own_clip_only(tmp_path):
    jobs = [pool.Job('train', f'clip {i}', f'{i}.npz', dying_job.Writer(i)) for i in range(4)]
    refused, = pool.run(jobs, tmp_path, workers=2)
    assert (refused.path, refused.reason) == ('clip 2', 'failed')
    assert 'died' in refused.detail
    assert sorted(path.name for path in tmp_path.iterdir()) == ['0.npz', '1.npz', '2.npz.refused', '3.npz']


def test_unknown_dataset_and_unwritable_folder(tmp_path):
    config = fake_dataset.config()
    config.data.dataset = 'grud'
    with pytest.raises(UserError, match=r"'grud'; datasets are .*synthetic_talking_heads"):
        prepare.prepare(config, tmp_path)
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='cannot'):
        pool.run([pool.Job('train', 'x', 'x.npz', print)], tmp_path / 'file' / 'cache')


def test_index_agrees_with_tensorflow(prepared):
    import tensorflow as tf
    shard = prepared[1] / next(path for path in _tfrecords(prepared[1]) if path.suffix != '.index')
    theirs = [payload.numpy() for payload in tf.data.TFRecordDataset([str(shard)])]
    assert [payload for _, payload in index.payloads(shard)] == theirs
    whole = shard.read_bytes()
    assert [whole[offset:offset + length] for offset, length, _ in index.read(shard)] == theirs


def test_a_cut_shard_is_noticed(prepared, tmp_path):
    shard = tmp_path / 'x-train.tfrecord-00000-of-00001'
    source = prepared[1] / next(path for path in _tfrecords(prepared[1]) if path.suffix != '.index')
    shard.write_bytes(source.read_bytes()[:-7])
    with pytest.raises(UserError, match='ends within a record'):
        index.write(shard, len)
    shutil.copy(index.index_path(source), index.index_path(shard))
    with pytest.raises(UserError, match='describes'):
        index.read(shard)
