"""Preparation of real clips, killed at random moments and in every phase, and by Beam: nothing is lost or done twice,
half a dataset never passes for one, and the bytes are the same.
"""

import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import miniature_trees
import pytest

from input_pipeline import dataset, quarantine
from talkinghead_jax.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]
BEAM = '--runner=DirectRunner --direct_running_mode=multi_processing --direct_num_workers=2'
CLIPS = 'data/voxceleb2/clips'
PHASES = {  # what shows that it has begun
    'the first record': 'data/cache/media/*/*.npz',
    'TFRecords': f'{CLIPS}/*incomplete*',
    'half of the TFRecords': f'{CLIPS}/*incomplete*/*tfrecord*',
    'the first index': f'{CLIPS}/1.0.0/*train*.index',
    'statistics': f'{CLIPS}/1.0.0/*test*.index',
    'the end': f'{CLIPS}/1.0.0/metadata.npz',
}


class Whole(NamedTuple):
    """Media, the flags that prepare them, the workdir of a run that nobody killed, and the seconds that it took."""

    media: pathlib.Path
    flags: list[str]
    workdir: pathlib.Path
    took: float

    def start(self, workdir: pathlib.Path, *flags: str) -> subprocess.Popen:
        """Begin to prepare in `workdir`."""
        command = [sys.executable, str(ROOT / 'launch.py'), *self.flags, f'--workdir={workdir}', *flags]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def run(self, workdir: pathlib.Path, *flags: str) -> None:
        """Prepare in `workdir`."""
        assert self.start(workdir, *flags).wait() == 0


@pytest.fixture(scope='module')
def whole(shared_data, tmp_path_factory):
    root = tmp_path_factory.mktemp('whole')
    miniature_trees.write_masters(shared_data / 'clips', root / 'masters')
    miniature_trees.plant('voxceleb2', root / 'masters', root / 'media')
    flags = ['--config=configs/voxceleb2.py', '--mode=prepare', f'--config.data.media={root / "media"}',
             f'--landmarker={shared_data / "models/face_landmarker.task"}', '--config.data.workers=2',
             '--config.expression.model.components=4']
    made, start = Whole(root / 'media', flags, root / 'workdir', 0.0), time.monotonic()
    made.run(made.workdir)
    return made._replace(took=time.monotonic() - start)


def _finished(workdir: pathlib.Path) -> dict[pathlib.Path, int]:
    """What is done: records and refusals, with the time of their writing."""
    return {path.relative_to(workdir): path.stat().st_mtime_ns
            for path in (workdir / 'data/cache').glob('media/*/*') if not path.name.startswith('.')}


def _results(workdir: pathlib.Path) -> dict[pathlib.Path, bytes]:
    """Every file but the table of fingerprints, and but what a killed process was writing."""
    return {path.relative_to(workdir): path.read_bytes() for path in (workdir / 'data').rglob('*')
            if path.is_file() and path.name != 'fingerprints.tsv'
            and not (path.name.startswith('.') and path.name.endswith('.tmp'))}


def _kill(process: subprocess.Popen, after: float = 3600, when: Callable[[], bool] = lambda: False) -> bool:
    """Kill the process after so many seconds, or as soon as something is seen; False where it ended before."""
    end = time.monotonic() + after
    while process.poll() is None:
        if time.monotonic() > end or when():
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.001)
    return process.wait() == -signal.SIGKILL


@pytest.mark.soak
@pytest.mark.parametrize('seed', range(5))
def test_killed_at_random_moments(whole, tmp_path, seed):
    rng, killed, finished, kills = random.Random(seed), tmp_path / 'killed', {}, 0
    while kills < 2:
        if _kill(whole.start(killed), rng.uniform(0.1, 0.7) * whole.took):
            kills += 1
            now = _finished(killed)
            assert now.items() >= finished.items()  # what was finished was not made again
            finished = now
        else:  # too late
            shutil.rmtree(killed)
            finished, kills = {}, 0
    whole.run(killed)
    assert _finished(killed).items() >= finished.items()
    assert _results(killed) == _results(whole.workdir)
    assert len(quarantine.read(killed / 'data' / quarantine.TABLE)) == len(miniature_trees.BAD)


def _continues(whole: Whole, killed: pathlib.Path, but: tuple[str, ...] = ()) -> None:
    with pytest.raises(UserError, match='half-prepared'):
        dataset.open_dataset(killed / 'data')
    finished = _finished(killed)
    whole.run(killed)
    assert _finished(killed).items() >= finished.items()
    ours, theirs = ({path: content for path, content in _results(workdir).items() if path.name not in but}
                    for workdir in (killed, whole.workdir))
    assert ours == theirs


def _half(workdir: pathlib.Path) -> bool:
    return dataset.read_marker(workdir / 'data').get('complete') is False


@pytest.mark.soak
@pytest.mark.parametrize('phase', PHASES)
def test_killed_in_every_phase(whole, tmp_path, phase):
    killed = tmp_path / 'killed'
    while not _half(killed):
        shutil.rmtree(killed, ignore_errors=True)
        if phase != 'the first record':
            shutil.copytree(whole.workdir / 'data/cache', killed / 'data/cache')
        _kill(whole.start(killed), when=lambda: any(killed.glob(PHASES[phase])))
    _continues(whole, killed)


@pytest.mark.soak
def test_killed_while_another_dataset_is_deleted(whole, tmp_path):
    killed = tmp_path / 'killed'
    while not _half(killed):
        shutil.rmtree(killed, ignore_errors=True)
        shutil.copytree(whole.workdir, killed)
        process = whole.start(killed, '--config.expression.model.components=3')
        _kill(process, when=lambda: _half(killed))
    # TFDS writes an empty metadata.json, which the marker lists, where it found an older dataset at its start.
    _continues(whole, killed, but=('metadata.json', 'prepared.json'))


@pytest.mark.soak
@pytest.mark.parametrize('way', ['--config.data.workers=1', f'--config.data.beam={BEAM}'])
def test_one_process_two_and_beam_make_the_same_bytes(whole, tmp_path, way):
    whole.run(tmp_path, way)
    ours, theirs = _results(tmp_path), _results(whole.workdir)
    assert any('tfrecord' in path.name for path in ours)
    assert ours == theirs
