"""Preparation of real clips, killed at random moments: nothing is lost or done twice, and the bytes are the same."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import miniature_trees
import pytest

from input_pipeline import quarantine

ROOT = pathlib.Path(__file__).resolve().parents[2]


def _command(media: pathlib.Path, workdir: pathlib.Path, landmarker: pathlib.Path) -> list[str]:
    return [sys.executable, str(ROOT / 'launch.py'), '--config=configs/voxceleb2.py', '--mode=prepare',
            f'--workdir={workdir}', f'--landmarker={landmarker}', f'--config.data.media={media}',
            '--config.data.workers=2', '--config.expression.model.components=4']


def _finished(workdir: pathlib.Path) -> dict[pathlib.Path, int]:
    """What is done: records and refusals, with the time of their writing."""
    return {path.relative_to(workdir): path.stat().st_mtime_ns
            for path in (workdir / 'data/cache').glob('media/*/*') if not path.name.startswith('.')}


def _results(workdir: pathlib.Path) -> dict[pathlib.Path, bytes]:
    return {path.relative_to(workdir): path.read_bytes() for path in (workdir / 'data').rglob('*')
            if path.is_file() and path.name != 'fingerprints.tsv'}


@pytest.mark.soak
@pytest.mark.parametrize('seed', range(5))
def test_killed_at_a_random_moment(shared_data, tmp_path, seed):
    miniature_trees.write_masters(shared_data / 'clips', tmp_path / 'masters')
    miniature_trees.plant('voxceleb2', tmp_path / 'masters', tmp_path / 'media')
    landmarker = shared_data / 'models/face_landmarker.task'
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    start = time.monotonic()
    subprocess.run(_command(tmp_path / 'media', whole, landmarker), cwd=ROOT, check=True, capture_output=True)
    took, rng, finished, kills = time.monotonic() - start, random.Random(seed), {}, 0
    for _ in range(4):
        process = subprocess.Popen(_command(tmp_path / 'media', killed, landmarker), cwd=ROOT,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(rng.uniform(0.2, 1.0) * took)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        now = _finished(killed)
        assert now.items() >= finished.items()  # what was finished was not made again
        finished = now
    subprocess.run(_command(tmp_path / 'media', killed, landmarker), cwd=ROOT, check=True, capture_output=True)
    assert kills
    assert _finished(killed).items() >= finished.items()
    ours, theirs = _results(killed), _results(whole)
    halves = [path for path in ours if path.name.startswith('.') and path.name.endswith('.tmp')]
    assert {path: content for path, content in ours.items() if path not in halves} == theirs
    assert len(quarantine.read(killed / 'data' / quarantine.TABLE)) == len(miniature_trees.BAD)
    assert os.path.getsize(killed / 'data/prepared.json') > 0
