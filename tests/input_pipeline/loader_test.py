"""Batches: fit the specs, can be resumed anywhere, are the same for any number of hosts, miss no clip."""

import collections
import itertools

import fake_dataset
import numpy as np
import pytest
from fake_records import fake_record

from configs import common
from input_pipeline import dataset, examples, loader
from talkinghead_jax import specs
from talkinghead_jax.errors import UserError


def _take(batches, count):
    return list(itertools.islice(batches, count))


def _assert_equal(ours, theirs):
    assert len(ours) == len(theirs)
    for one, two in zip(ours, theirs, strict=True):
        assert one.keys() == two.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], two[name], err_msg=name)


@pytest.mark.parametrize('stage', common.STAGES)
def test_training_batches_fit_the_spec(prepared, fake_data, stage):
    config = prepared[0]
    spec = examples.batch_spec(stage, config[stage], config.image_size, fake_data.axes['vertices'], True, 4)
    for batch in _take(loader.training_batches(fake_data, stage, config), 3):
        assert specs.differences(batch, spec) == []
        assert batch['mask'].all()


@pytest.mark.parametrize('stage', common.STAGES)
def test_resuming_is_arithmetic(prepared, fake_data, stage):
    config = prepared[0]
    whole = _take(loader.training_batches(fake_data, stage, config), 6)
    resumed = _take(loader.training_batches(fake_data, stage, config, start_step=4), 2)
    _assert_equal(whole[4:], resumed)
    different = [name for name in whole[0] if name != 'mask' and (whole[0][name] != whole[5][name]).any()]
    assert different  # not the same batch over and over


def _joined(hosts):
    """The global batches of what each host read, if all read as many."""
    return [{name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            for parts in zip(*hosts, strict=True)]


@pytest.mark.parametrize('count', [2, 4])
@pytest.mark.parametrize('stage', common.STAGES)
def test_hosts_read_the_parts_of_the_global_batch(prepared, fake_data, stage, count):
    """Also where a batch holds the end of an epoch of 5 clips: batches 2 to 5 hold three of them."""
    config = prepared[0]
    whole = _take(loader.training_batches(fake_data, stage, config, 2), 4)
    hosts = [_take(loader.training_batches(fake_data, stage, config, 2, host, count), 4) for host in range(count)]
    assert all(len(batch['mask']) == 4 // count for host in hosts for batch in host)
    _assert_equal(whole, _joined(hosts))


def test_every_clip_is_seen_once_an_epoch_in_another_order(prepared, fake_data):
    config = prepared[0]
    meshes = [fake_data.read('train', i)['mesh_vertices'] for i in range(5)]
    with config.unlocked():
        config.generator.data.flip = False
    seen = []
    for batch in _take(loader.training_batches(fake_data, 'generator', config), 10):
        for vertices in batch['mesh_vertices']:
            seen.extend(i for i, mesh in enumerate(meshes) if (mesh == vertices).all())
    epochs = [tuple(seen[start:start + 5]) for start in range(0, 40, 5)]
    assert all(sorted(epoch) == list(range(5)) for epoch in epochs)
    assert len(set(epochs)) > 4


@pytest.mark.parametrize('stage', common.STAGES)
def test_evaluation_covers_the_split_and_pads_the_last_batch(prepared, fake_data, stage):
    config = prepared[0]
    batches = list(loader.evaluation_batches(fake_data, stage, config, 'test'))
    spec = examples.batch_spec(stage, config[stage], config.image_size, fake_data.axes['vertices'], False, 4)
    assert all(specs.differences(batch, spec) == [] for batch in batches)
    count = 3 * (4 if stage == 'generator' else 1)
    mask = np.concatenate([batch['mask'] for batch in batches])
    assert mask.sum() == count
    assert len(mask) == -(-count // 4) * 4
    assert (np.diff(mask.astype(int)) <= 0).all()
    _assert_equal(batches, list(loader.evaluation_batches(fake_data, stage, config, 'test')))
    _assert_equal(batches, _joined([list(loader.evaluation_batches(fake_data, stage, config, 'test', host, 2))
                                    for host in range(2)]))  # the second host's may hold nothing but filling


def test_evaluation_shows_several_targets_of_each_clip(prepared, fake_data):
    config = prepared[0]
    batches = list(loader.evaluation_batches(fake_data, 'generator', config, 'test'))
    poses = np.concatenate([batch['target_pose'] for batch in batches])
    assert len(np.unique(poses, axis=0)) == 12


def test_the_speaker_of_every_evaluation_example_is_known(prepared, fake_data):
    config = prepared[0]
    speakers = loader.evaluation_speakers(fake_data, 'generator', config, 'test')
    meshes = {record['speaker_id']: record['mesh_vertices'] for record in fake_data.records('clips', 'test')}
    shown = [vertices for batch in loader.evaluation_batches(fake_data, 'generator', config, 'test')
             for vertices in batch['mesh_vertices'][batch['mask']]]
    assert len(meshes) == 3
    for speaker, vertices in zip(speakers, shown, strict=True):
        np.testing.assert_array_equal(vertices, meshes[speaker])


def test_records_in_memory_give_batches(prepared):
    config, record = prepared[0], fake_record(frames=40, size=fake_dataset.SIZE)
    for batch in _take(loader.record_batches([record], 'generator', config), 2):
        np.testing.assert_array_equal(batch['mesh_visibility'], np.stack([record['mesh_visibility']] * 4))
    ours, resumed = (_take(loader.record_batches([record], 'generator', config, step), 1) for step in (3, 3))
    _assert_equal(ours, resumed)


def test_data_that_depart_from_the_config_are_named_field_by_field(prepared, fake_data):
    config = fake_dataset.config()
    config.image_size = 2 * fake_dataset.SIZE
    with pytest.raises(UserError, match=r'config.unprojection: position_map: found \(1, 16, 16, 3\) float32, want '
                                        r'\(1, 32, 32, 3\)'):
        next(loader.training_batches(fake_data, 'unprojection', config))


@pytest.mark.parametrize(('stage', 'field', 'told'), [
    ('expression', 'landmarks', 'target_frontal of record clip001 is not finite'),
    ('head_motion', 'pose', r'(context_pose|context_pose, pose|pose) of record clip001 (is|are) not finite'),
    ('generator', 'mesh_vertices', 'mesh_vertices of record clip001 is not finite'),
])
def test_a_record_with_numbers_that_are_not_finite_is_named(prepared, stage, field, told):
    config, records = prepared[0], [fake_record(seed, 60, fake_dataset.SIZE) for seed in range(2)]
    if stage == 'expression':
        records[1][field][30:] = np.nan  # neither key frame nor closed mouth
        records[1].update(key_frame=np.int32(3), closed_mouth_frame=np.int32(4))
    else:
        records[1][field][...] = np.nan
    with pytest.raises(UserError, match=told):
        list(itertools.islice(loader.record_batches(records, stage, config), 20))


def test_iterators_that_are_left_open_are_closed_at_exit(prepared):
    """Else tf.data's threads and the end of Python would wait for each other."""
    left, forgotten = (loader.record_batches([fake_record(0, 60, fake_dataset.SIZE)], 'head_motion', prepared[0])
                       for _ in range(2))
    next(left), next(forgotten)
    assert left in loader._open
    known = len(loader._open)
    del forgotten
    assert len(loader._open) == known - 1
    loader._close()
    with pytest.raises(StopIteration):
        next(left)


def test_batch_must_divide_among_hosts(prepared, fake_data):
    with pytest.raises(UserError, match='batch_size is 4; it must be a multiple of the 3 hosts'):
        loader.training_batches(fake_data, 'expression', prepared[0], 0, 0, 3)


def test_short_clips_are_left_out_of_head_motion_only(prepared):
    config = prepared[0]
    records = [fake_record(0, 30, fake_dataset.SIZE), fake_record(1, 70, fake_dataset.SIZE)]
    batch = next(loader.record_batches(records, 'head_motion', config))
    known = {tuple(np.abs(pose)) for pose in records[1]['pose']}  # a flip changes signs
    assert {tuple(np.abs(pose)) for pose in batch['pose'][batch['frame_mask']]} <= known
    with pytest.raises(UserError, match='none of the 1 clips has the 50 frames'):
        loader.record_batches(records[:1], 'head_motion', config)


def test_missing_data_are_named(fake_data, tmp_path):
    with pytest.raises(UserError, match='no prepared data'):
        loader.open_dataset(tmp_path)
    with pytest.raises(UserError, match=r'no dev split of clips; it holds clips/test, clips/train'):
        fake_data.records('clips', 'dev')


def test_randomness_depends_on_place_alone():
    draws = collections.Counter(
        loader._generator(seed, stage, step, i).integers(2 ** 62)
        for seed in range(3) for stage in ('a', 'b') for step in range(3) for i in range(3))
    assert len(draws) == 54
    assert loader._generator(1, 'a', 2, 3).random() == loader._generator(1, 'a', 2, 3).random()


def test_axes_and_metadata(fake_data):
    assert fake_data.axes == {'vertices': 30, 'triangles': 4, 'components': 20}
    assert fake_data.metadata.keys() == specs.METADATA.keys()
    assert isinstance(fake_data, dataset.Dataset)
