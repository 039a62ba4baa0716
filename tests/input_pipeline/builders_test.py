"""The builders of this repository, run small: synthetic heads, and a folder of real clips."""

import json
import pkgutil
import shutil

import pytest
from threadpoolctl import threadpool_limits

from configs import common, demo
from input_pipeline import dataset, datasets, loader, prepare, quarantine, records
from input_pipeline.datasets.builder import builder_class
from input_pipeline.synthetic import clips
from talkinghead_jax import specs
from talkinghead_jax.errors import UserError


def _synthetic_config():
    config = demo.get_config()
    config.image_size = config.synthetic.image_size = 64
    config.synthetic.update({'identities': {'train': 2, 'validation': 1, 'test': 1}, 'clips': 1, 'frames': 24,
                             'position_maps': 2})
    config.data.workers = 1
    return config


@pytest.fixture(scope='module')
def synthetic(tmp_path_factory):
    config, data_dir = _synthetic_config(), tmp_path_factory.mktemp('synthetic')
    return config, data_dir, prepare.prepare(config, data_dir)


def test_synthetic_records_are_the_generators(synthetic):
    _, data_dir, summary = synthetic
    assert summary['clips'] == {'train': 2, 'validation': 1, 'test': 1}
    assert summary['position_maps'] == {'train': 2, 'validation': 8, 'test': 8}
    data = dataset.open_dataset(data_dir)
    found = [data.read(split, i) for split, count in summary['clips'].items() for i in range(count)]
    assert len({record['speaker_id'] for record in found}) == 4  # no speaker in two splits
    for record in found:
        made_from = json.loads(record['preparation'])
        with threadpool_limits(1):
            again = clips.make_clip(made_from['seed'], made_from['speaker'], made_from['clip'], 24, 64)
        assert records.equal_records(record, again)


def test_synthetic_data_feed_every_stage(synthetic):
    config, data_dir, _ = synthetic
    with config.unlocked():
        config.head_motion.data.min_frames = 10
    data = dataset.open_dataset(data_dir)
    assert data.axes == {'vertices': int(clips.UV_MASK.sum()), 'triangles': len(clips.TRIANGLES), 'components': 20}
    assert data.metadata.keys() == specs.METADATA.keys()
    for stage in common.STAGES:
        assert next(loader.training_batches(data, stage, config))['mask'].all()


def test_plain_build_makes_what_the_cache_lacks(synthetic, tmp_path):
    config, data_dir, _ = synthetic
    made_by = builder_class('synthetic_talking_heads')
    built = made_by(config='position_maps', data_dir=tmp_path, settings=made_by.settings_of(config))
    built.download_and_prepare()
    assert built.info.splits['test'].num_examples == 8
    name = 'synthetic_talking_heads/position_maps/1.0.0/synthetic_talking_heads-test.tfrecord-00000-of-00001'
    assert (tmp_path / name).read_bytes() == (data_dir / name).read_bytes()


def test_every_builder_has_its_papers():
    names = sorted(module.name for module in pkgutil.iter_modules(datasets.__path__) if module.ispkg)
    assert len(names) == 8
    for name in names:
        metadata = builder_class(name).get_metadata()
        assert f'datasets/{name} ' in metadata.description, name
        assert '@' in metadata.citation, name
        assert metadata.tags, name


@pytest.fixture(scope='module')
def folder(shared_data, tmp_path_factory):
    root = tmp_path_factory.mktemp('media')
    (root / 'somebody').mkdir()
    (root / 'test').mkdir()
    source = min((shared_data / 'clips').rglob('*.mp4'), key=lambda path: path.stat().st_size)
    shutil.copy(source, root / 'somebody/clip.mp4')
    shutil.copy(source, root / 'test/other.mp4')
    (root / 'broken.mp4').write_text('this is not a video')
    return root, shared_data / 'models/face_landmarker.task'


def _media_config(folder):
    config = common.base('media')
    config.image_size = 32
    config.data.update({'dataset': 'folder_of_clips', 'media': str(folder[0]), 'landmarker': str(folder[1]),
                        'workers': 1})
    return config


def test_folder_of_real_clips(folder, tmp_path):
    summary = prepare.prepare(_media_config(folder), tmp_path)
    assert summary['clips'] == {'train': 1, 'test': 1}
    assert summary['quarantined'] == {'unreadable': 1}
    assert 'broken.mp4' in (tmp_path / quarantine.TABLE).read_text()
    data = dataset.open_dataset(tmp_path)
    assert data.read('train', 0)['speaker_id'] == 'somebody'
    assert data.read('test', 0)['clip_id'] == 'other'
    assert data.axes['vertices'] == 478


def test_inputs_become_records(folder, tmp_path):
    config, root = _media_config(folder), folder[0]
    paths = [root / 'somebody/clip.mp4', root / 'broken.mp4', root / 'missing.mp4']
    made, failed = prepare.prepare_inputs(paths, config, tmp_path)
    assert len(made) == 1
    assert made[0]['clip_id'] == 'clip'
    assert [(refusal.path, refusal.reason) for refusal in failed] == [(str(paths[1]), 'unreadable'),
                                                                      (str(paths[2]), 'failed')]
    again, _ = prepare.prepare_inputs(paths[:1], config, tmp_path)
    assert records.equal_records(made[0], again[0])
    with pytest.raises(UserError, match=r'missing\.mp4 does not exist'):
        prepare.prepare_inputs(paths[2:], config, tmp_path)


def test_a_folder_without_videos_is_a_users_mistake(tmp_path):
    config = common.base('media')
    config.data.update({'dataset': 'folder_of_clips', 'media': str(tmp_path)})
    with pytest.raises(UserError, match='holds nothing; want a folder of videos'):
        prepare.prepare(config, tmp_path / 'data')
    config.data.media = ''
    with pytest.raises(UserError, match=r"config\.data\.media is ''; want the folder of folder_of_clips"):
        prepare.prepare(config, tmp_path / 'data')
    assert not (tmp_path / 'data').exists()
