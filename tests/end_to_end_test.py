"""The whole path at the smallest size, through launch.py: prepare, train, evaluate, generate; kill and resume."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import av
import jax
import numpy as np
import pytest

from talkinghead_jax.metrics import networks
from talkinghead_jax.protocols import results
from talkinghead_jax.train import checkpoint

ROOT = pathlib.Path(__file__).resolve().parent.parent
# One device, whatever conftest gives the tests of sharding: the demo's batches are small.
ENVIRONMENT = {**os.environ, 'XLA_FLAGS': ''}
STAGES = ('unprojection', 'expression', 'head_motion', 'generator')
TINY = [
    '--config=configs/demo.py',
    '--config.synthetic.identities.train=4', '--config.synthetic.identities.validation=1',
    '--config.synthetic.identities.test=2', '--config.synthetic.clips=2', '--config.synthetic.frames=100',
    '--config.synthetic.position_maps=40', '--config.log.every_steps=2', '--config.log.checkpoint_every_steps=3',
    '--config.generator.model.width=4', '--config.generator.model.max_width=8',
    '--config.evaluation.clips=2', '--config.evaluation.frames=5', '--config.evaluation.references=(1,)',
    *(f'--config.{stage}.steps=6' for stage in STAGES),
]


def command(workdir: pathlib.Path, *arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / 'launch.py'), *TINY, f'--workdir={workdir}', *arguments]


def launch(workdir: pathlib.Path, *arguments: str) -> str:
    result = subprocess.run(command(workdir, *arguments), cwd=ROOT, capture_output=True, text=True, timeout=900,
                            check=False, env=ENVIRONMENT)
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout


def assert_playable(path: pathlib.Path, frames: int, *, sound: bool = True) -> None:
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ('h264', 'yuv420p')
        assert video.average_rate == 25
        assert [stream.codec_context.name for stream in container.streams.audio] == ['aac'] * sound
        assert sum(1 for _ in container.decode(video=0)) == frames


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> pathlib.Path:
    """A workdir in which everything was made."""
    workdir = tmp_path_factory.mktemp('run')
    launch(workdir, '--mode=prepare,train,evaluate,generate,export')
    return workdir


def test_all_modes_leave_what_they_promise(trained):
    assert_playable(trained / 'out.mp4', frames=100)
    assert_playable(trained / 'out_concat.mp4', frames=100)
    numbers = json.loads((trained / 'report.json').read_text())
    assert set(numbers['stages']) == {*STAGES, 'head_motion_identities'}
    for stage, methods in numbers['stages'].items():
        assert len(methods['methods']) >= 2, stage
        values = [v for metrics in methods['methods'].values() for v in metrics.values() if isinstance(v, float)]
        assert values
        assert np.all(np.isfinite(values)), stage
    page = re.sub(r'data:[a-z/0-9]+;base64,[A-Za-z0-9+/=]*', '', (trained / 'report.html').read_text())
    assert 'http' not in page  # nothing is loaded from elsewhere
    assert page.count('<img') >= 4
    for folder in ('checkpoints', 'export'):
        assert {path.name for path in (trained / folder).iterdir()} >= set(STAGES)
    assert (trained / 'export/generator/predict.exported').stat().st_size > 10_000


def test_whole_videos_are_evaluated_by_both_protocols(trained):
    rows = {'audio_driven': {'pose_true', 'pose_phi', 'pose_still'}, 'landmark_driven': {'k1', 'matched_reference'}}
    for protocol, methods in rows.items():
        folder = trained / 'evaluation' / protocol
        found = results.load(folder)
        assert set(found.labels) == methods | {'key_frame', 'truth'}
        assert found.clips['frames'].tolist() == [5, 5]
        assert all(np.isfinite(found.per_clip[row]['ssim@authors']).all() for row in methods)
        if networks.load('inception_v3_fid') is None:  # a developer may have it
            assert found.notes['fid@pytorch-fid'] == 'not computed: needs pt_inception-2015-12-05-6726825d.pth'
            assert np.isnan(found.mean('key_frame', 'fid@pytorch-fid'))
        for name in ('table.csv', 'table.json', 'table.md', 'table.tex', 'per_clip.csv', 'yaw.csv'):
            assert (folder / name).stat().st_size
        for row in found.videos:
            for path in found.videos[row].values():
                assert_playable(folder / path, frames=5)
        assert methods < set(found.videos)
        assert not list((folder / 'parts').iterdir())
    page = re.sub(r'data:[a-z/0-9]+;base64,[A-Za-z0-9+/=]*', '', (trained / 'evaluation/videos.html').read_text())
    assert page.count('<video') >= 10


def test_a_second_run_changes_nothing(trained):
    def stamps() -> dict[pathlib.Path, int]:
        kept = [*(trained / 'checkpoints').rglob('*'), *(trained / 'evaluation').glob('*/results.*')]
        return {path: path.stat().st_mtime_ns for path in kept if path.is_file()}

    before = stamps()
    assert len([path for path in before if path.name == 'results.npz']) == 2
    assert 'up to date: ' in launch(trained, '--mode=prepare,train,evaluate,generate')
    assert before == stamps()


def test_training_killed_and_resumed_equals_uninterrupted(trained, tmp_path):
    """SIGKILL once the first checkpoint of the generator is there; the parameters must agree bit for bit.

    Other stages: tests/train/stage_restart_test.py; each of them, again and again: tests/train/soak_test.py.
    """
    arguments = [f'--config.data.directory={trained}/data', "--config.stages=('expression', 'generator')"]
    process = subprocess.Popen(
        command(tmp_path, *arguments), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=ENVIRONMENT)
    first = tmp_path / 'checkpoints' / 'generator' / '3'
    deadline = time.monotonic() + 600
    while not first.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.poll() is None, 'training ended before it could be killed'
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    launch(tmp_path, *arguments)
    for stage in ('expression', 'generator'):
        ours, theirs = (checkpoint.load_for_inference(folder, stage) for folder in (tmp_path, trained))
        assert ours.step == theirs.step == 6
        jax.tree.map(np.testing.assert_array_equal, ours.params, theirs.params)


class TestRealClips:
    """`generate` with people's own clips; the frame count is the speech's."""

    @pytest.fixture
    def generate(self, trained, shared_data, tmp_path):
        def run(*arguments: str) -> tuple[pathlib.Path, str]:
            output = tmp_path / 'video.mp4'
            printed = launch(trained, '--mode=generate', f'--output={output}',
                             f'--landmarker={shared_data}/models/face_landmarker.task', *arguments)
            return output, printed
        return run

    @pytest.fixture
    def clips(self, shared_data):
        return shared_data / 'clips'

    def test_clip_with_other_speech_and_finetuning_at_another_size(self, generate, clips):
        output, printed = generate(f'--source={clips}/voxceleb2/00098.mp4', f'--audio={clips}/grid/bbaf2n.mpg',
                                   '--finetune_steps=4', '--finetune_size=72')
        assert_playable(output, frames=75)  # 2.97 s of sound
        assert 'after 4 steps' in printed
        scores = json.loads(output.with_name('video_heldout.json').read_text())
        assert {'before', 'after 4 steps', 'matched_reference', 'render_on_reference'} < set(scores['methods'])
        assert len(scores['frames']) > 16
        assert 0 < scores['methods']['after 4 steps']['ssim'] < 1
        assert output.with_name('video_heldout.png').stat().st_size > 50_000

    def test_picture(self, generate, clips, shared_data):
        output, _ = generate(f'--source={shared_data}/portraits/obama.jpg', '--pose=still',
                             f'--audio={clips}/grid/bbaf2n.mpg')
        assert_playable(output, frames=75)

    def test_another_clips_head_motion_pasted_back_into_the_picture(self, generate, clips):
        """The source is shorter than Phi's context, and larger than the crop."""
        output, _ = generate(f'--source={clips}/grid/lbax4n.mpg', f'--audio={clips}/grid/bbaf2n.mpg',
                             f'--ref_pose={clips}/voxceleb2/00373.mp4', '--preprocess=full')
        assert_playable(output, frames=75)
        with av.open(str(output)) as container:
            assert (container.streams.video[0].width, container.streams.video[0].height) == (360, 288)

    def test_driving_video(self, generate, clips):
        output, _ = generate(f'--source={clips}/voxceleb2/00373.mp4', f'--driving={clips}/grid/lwbsza.mpg')
        assert_playable(output, frames=75)
