"""Imports run one way, TensorFlow stays in its own rooms, and no file grows beyond reading (design, Sec. 2)."""

import ast
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
OURS = ('talkinghead_jax', 'input_pipeline', 'third_party', 'configs', 'launch')
# A part of talkinghead_jax may import the parts of the rows above its own, and itself.
ROWS = (('errors',), ('specs', 'files', 'loudness', 'pixels'), ('timings',), ('geometry', 'ops'), ('nn',),
        ('models',), ('losses', 'metrics'), ('stages',), ('train',), ('synthesis', 'evaluation', 'export'),
        ('study', 'identity_study', 'protocols'), ('report',), ('user_study',), ('command_line',), ('modes',))
ROW = {part: number for number, row in enumerate(ROWS) for part in row}
MAY_IMPORT_THIRD_PARTY = {'losses', 'metrics', 'stages'}
INPUT_PIPELINE_MAY_IMPORT = {'errors', 'specs', 'files', 'loudness', 'geometry', 'ops', 'models'}
# They read media or bring in TensorFlow: the work of input_pipeline.
NOT_IN_TALKINGHEAD_JAX = {'tensorflow', 'tensorflow_datasets', 'tensorboard', 'av', 'cv2', 'librosa', 'mediapipe'}
BRINGS_TENSORFLOW = {'clu.metric_writers', 'clu.periodic_actions', 'clu.checkpoint', 'clu.deterministic_data',
                     'clu.preprocess_spec', 'flax.training.checkpoints', 'flax.io', 'flax.metrics'}
LONGEST_FILE = 450


def _files() -> list[pathlib.Path]:
    folders = [ROOT / name for name in OURS if (ROOT / name).is_dir()]
    return sorted(path for folder in folders for path in folder.rglob('*.py')) + sorted(ROOT.glob('launch.py'))


def _imports(path: pathlib.Path, source: str) -> set[str]:
    """Every dotted name that `source` imports; `from a import b` gives 'a.b', relative imports are resolved."""
    package = path.with_suffix('').parts[:-1]
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [*package[:len(package) - node.level + 1]] if node.level else []
            module = '.'.join([*base, *([node.module] if node.module else [])])
            names |= {f'{module}.{alias.name}' for alias in node.names}
    return names


def _forbidden(path: pathlib.Path, source: str) -> list[str]:
    """The imports in `source` that a file at `path` (relative to the root) may not have."""
    room = path.with_suffix('').parts
    return [f'{path}: {name}' for name in sorted(_imports(path, source)) if not _allowed(room, name.split('.'))]


def _allowed(room: tuple[str, ...], name: list[str]) -> bool:
    if room[0] == 'launch':
        return True
    if room[0] == 'configs':
        return name[0] in ('configs', 'ml_collections')
    if room[0] == 'third_party':
        return name[0] not in OURS or name[0] == 'third_party'
    if room[0] == 'input_pipeline':
        return (name[0] not in OURS or name[0] in ('input_pipeline', 'third_party')
                or (name[0] == 'talkinghead_jax' and name[1] in INPUT_PIPELINE_MAY_IMPORT))
    return _allowed_in_talkinghead_jax(room, name)


def _allowed_in_talkinghead_jax(room: tuple[str, ...], name: list[str]) -> bool:
    part = room[1]
    if name[0] == 'talkinghead_jax':
        return name[1] == part or ROW.get(name[1], len(ROWS)) < ROW.get(part, 0)
    if name[0] == 'third_party':
        return part in MAY_IMPORT_THIRD_PARTY
    if '.'.join(name[:2]) in BRINGS_TENSORFLOW or '.'.join(name[:3]) in BRINGS_TENSORFLOW:
        return room == ('talkinghead_jax', 'train', 'reporting')
    return name[0] not in OURS and name[0] not in NOT_IN_TALKINGHEAD_JAX


def test_imports_run_one_way():
    assert [line for path in _files() for line in _forbidden(path.relative_to(ROOT), path.read_text())] == []


@pytest.mark.parametrize(('path', 'source', 'allowed'), [
    ('talkinghead_jax/ops/a.py', 'from talkinghead_jax import specs', True),
    ('talkinghead_jax/ops/a.py', 'from talkinghead_jax.nn import spade', False),
    ('talkinghead_jax/ops/a.py', 'from ..nn import spade', False),
    ('talkinghead_jax/ops/a.py', 'from . import b', True),
    ('talkinghead_jax/losses/a.py', 'from talkinghead_jax import metrics', False),
    ('talkinghead_jax/losses/a.py', 'import third_party.vgg', True),
    ('talkinghead_jax/models/a.py', 'import third_party.vgg', False),
    ('talkinghead_jax/evaluation.py', 'def f():\n  import input_pipeline.loader', False),
    ('talkinghead_jax/evaluation.py', 'from talkinghead_jax.train import checkpoint', True),
    ('talkinghead_jax/train/loop.py', 'from clu import metric_writers', False),
    ('talkinghead_jax/train/reporting.py', 'from clu import metric_writers', True),
    ('talkinghead_jax/train/loop.py', 'import tensorflow.compat.v2 as tf', False),
    ('talkinghead_jax/train/loop.py', 'from flax.training import checkpoints', False),
    ('input_pipeline/a.py', 'from talkinghead_jax.geometry import rigid', True),
    ('input_pipeline/a.py', 'from talkinghead_jax.stages import base', False),
    ('third_party/a.py', 'from talkinghead_jax import errors', False),
    ('configs/a.py', 'import jax', False),
    ('configs/a.py', 'from configs import common', True),
])
def test_the_checker_sees_what_it_should(path, source, allowed):
    assert (_forbidden(pathlib.Path(path), source) == []) == allowed


def test_every_part_has_its_row():
    parts = {path.stem if path.is_file() else path.name for path in (ROOT / 'talkinghead_jax').iterdir()
             if path.suffix == '.py' or (path / '__init__.py').is_file()}
    assert parts - {'__init__'} <= set(ROW)


def test_talkinghead_jax_does_not_load_tensorflow():
    modules = ['.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')
               for path in sorted((ROOT / 'talkinghead_jax').rglob('*.py'))]
    modules.remove('talkinghead_jax.train.reporting')
    program = (f'import importlib, sys\nfor name in {modules!r}:\n'
               '    importlib.import_module(name)\n'
               '    assert "tensorflow" not in sys.modules, f"{name} loads TensorFlow"\n')
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    run = subprocess.run([sys.executable, '-c', program], env=environment, stderr=subprocess.PIPE, text=True,
                         check=False)
    assert run.returncode == 0, run.stderr


def test_no_file_is_longer_than_one_can_read():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in _files()}
    assert {path: length for path, length in lengths.items() if length > LONGEST_FILE} == {}
