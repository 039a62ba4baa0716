"""Every published dataset in miniature, through launch.py from media to evaluation, and through `tfds build`."""

import collections
import json
import os
import pathlib
import shutil
import subprocess
import sys

import miniature_trees
import numpy as np
import pytest
from miniature_trees import BAD, DATASETS, FRAMES, LONG, SUFFIXES

from input_pipeline import dataset, quarantine
from talkinghead_jax import evaluation

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
STAGES = ('expression', 'head_motion', 'generator')
EVALUATED = [*((name, 'expression') for name in DATASETS), ('voxceleb2', 'generator')]
TRAINED = [*EVALUATED, ('grid', 'head_motion')]  # whose evaluation takes longer than the rest of it
PREVIEWED = ('voxceleb2', 'grid')
TINY = [
    '--config.data.workers=1', '--config.expression.model.components=4',
    '--config.generator.model.width=4', '--config.generator.model.max_width=8', '--config.generator.model.levels=3',
    '--config.generator.model.flow_downs=1', '--config.generator.model.flow_blocks=1',
    '--config.generator.model.discriminator.layers=1', '--config.generator.model.discriminator.scales=1',
    '--config.generator.model.discriminator.width=4', '--config.generator.losses.perceptual.weight=0.0',
    '--config.generator.data.references=1', '--config.generator.data.targets_per_clip=1',
    '--config.evaluation.protocols=()',  # of whole videos: end_to_end_test.py
    '--config.expression.model.width=4', '--config.expression.data.frames=4',
    '--config.expression.data.evaluation_frames=18',
    '--config.head_motion.model.width=4', '--config.head_motion.model.hidden=4', '--config.head_motion.model.rank=2',
    *(f'--config.{stage}.{name}=2' for stage in STAGES for name in ('steps', 'batch_size')),
]
# Compiling well takes longer than running these.
XLA_FLAGS = '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true'


@pytest.fixture(scope='module')
def made(shared_data, tmp_path_factory):
    """(folder of the trees and workdirs, dataset -> what launch.py printed): all datasets prepared and trained."""
    root = tmp_path_factory.mktemp('datasets')
    miniature_trees.write_masters(shared_data / 'clips', root / 'masters')
    runs = []
    for name in DATASETS:
        miniature_trees.plant(name, root / 'masters', root / 'media' / name)
        flags = [f'--workdir={root / name}', f'--landmarker={shared_data / "models/face_landmarker.task"}', *TINY]
        prepare = [f'--config=configs/{name}.py', '--mode=prepare', f'--preview={3 if name in PREVIEWED else 0}',
                   f'--config.data.media={root / "media" / name}']
        runs.append([[*prepare, *flags], str(root / f'{name}.prepare')])
        for stage in (stage for trained, stage in TRAINED if trained == name):
            mode = 'train,evaluate' if (name, stage) in EVALUATED else 'train'
            runs.append([[f'--config=configs/{name}.py:{stage}', f'--mode={mode}', *flags],
                         str(root / f'{name}.{stage}')])
    environment = {**os.environ, 'XLA_FLAGS': XLA_FLAGS}
    lines = '\n'.join(json.dumps([arguments, environment, path]) for arguments, path in runs)
    done = subprocess.run([sys.executable, str(ROOT / 'tests/run_launch.py')], cwd=ROOT, check=True, text=True,
                          timeout=900, stdout=subprocess.PIPE, input=lines)
    for (_, path), code in zip(runs, done.stdout.split(), strict=True):
        pathlib.Path(f'{path}.code').write_text(code)
    return root


def _printed(root: pathlib.Path, run: str) -> str:
    text = (root / f'{run}.out').read_text() + (root / f'{run}.err').read_text()
    assert (root / f'{run}.code').read_text() == '0', text[-3000:]
    return text


@pytest.mark.parametrize('name', DATASETS)
def test_every_clip_is_used_or_in_quarantine(made, name):
    text = _printed(made, f'{name}.prepare')
    rows = quarantine.read(made / name / 'data' / quarantine.TABLE)
    assert collections.Counter(row['reason'] for row in rows) == collections.Counter(BAD.values())
    for row in rows:
        master = next(key for key, reason in BAD.items() if reason == row['reason']) + SUFFIXES.get(name, '.mp4')
        assert pathlib.Path(row['path']).suffix == pathlib.Path(master).suffix
        assert pathlib.Path(row['path']).read_bytes() == (made / 'masters' / master).read_bytes()
        assert row['detail']
        assert row['clip']
    assert f'left out: {len(BAD)} (' in text
    data = dataset.open_dataset(made / name / 'data')
    assert {split: data.size(split) for split in data.splits('clips')} == {'train': 2, 'test': 1}
    clips = [data.read('train', 0), data.read('train', 1), data.read('test', 0)]
    assert len({clip['speaker_id'] for clip in clips}) == 3
    lengths = [FRAMES, LONG, LONG] if name == 'grid' else [FRAMES] * 3
    assert sorted(len(clip['video']) for clip in clips) == lengths
    for clip in clips:
        assert clip['detected'].mean() > 0.9
        assert clip['confidence'].min() > 0.4
        assert np.abs(clip['audio'].astype(int)).max() > 1000  # also where the sound lies in a file of its own
        assert json.loads(clip['preparation'])['options']['image_size'] == 256
    said = {clip['transcript'] for clip in clips}
    assert bool(said - {''}) == (name != 'voxceleb2')  # VoxCeleb2 does not tell
    if name in PREVIEWED:
        page = (made / name / 'preview/preview.html').read_text()
        assert all(clip['clip_id'] in page for clip in clips)
        assert all(reason in page for reason in BAD.values())


@pytest.mark.parametrize(('name', 'stage'), EVALUATED)
def test_stages_train_and_evaluate(made, name, stage):
    _printed(made, f'{name}.{stage}')
    found = evaluation.load(made / name / 'evaluation', stage)
    for metrics in found.means.values():  # after two steps no face is found in what the generator draws
        assert np.isfinite([value for name, value in metrics.items() if name != evaluation.DETECTED_LMD]).all()
    assert found.n == 1
    assert found.step == 2


def test_head_motion_trains_and_tells_which_clips_are_too_short_for_it(made):
    text = _printed(made, 'grid.head_motion')
    assert 'head_motion leaves out 1 of 2 clips: shorter than 50 frames' in text
    assert list((made / 'grid/checkpoints/head_motion').iterdir())


def test_tfds_build_makes_the_same_tfrecords(made, shared_data, tmp_path):
    """From the records that `prepare` left in its caches, and those of LRW from the media: tracking takes long."""
    for name in DATASETS:
        if name != 'lrw':
            shutil.copytree(made / name / 'data/cache', tmp_path / 'cache', dirs_exist_ok=True)
    command = [str(pathlib.Path(sys.executable).with_name('tfds')), 'build',
               *(str(ROOT / f'input_pipeline/datasets/{name}') for name in DATASETS),
               f'--manual_dir={made / "media"}', '--add_name_to_manual_dir', f'--data_dir={tmp_path}']
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
                         env={**os.environ, 'PYTHONPATH': str(ROOT),
                              'TALKINGHEAD_ASSETS': str(shared_data / 'models')})
    assert run.returncode == 0, run.stderr[-3000:]
    for name in DATASETS:
        table = quarantine.read(tmp_path / f'{name}_{quarantine.TABLE}')
        assert table == quarantine.read(made / name / 'data' / quarantine.TABLE)
        assert len(table) == len(BAD)
        shards = sorted(path.relative_to(tmp_path) for path in (tmp_path / name).rglob('*.tfrecord*'))
        assert len(shards) == 2
        for shard in shards:
            assert (tmp_path / shard).read_bytes() == (made / name / 'data' / shard).read_bytes()
