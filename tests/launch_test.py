"""Bad input to launch.py: one sentence on stderr, exit code 2, no traceback, nothing lost."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import types
import wave

import numpy as np
import pytest

import launch as program
from configs import common, table1_lrw
from input_pipeline import media
from talkinghead_jax.protocols import results
from tests.protocol_results import make_results
from tests.user_study import tiny_videos
from third_party import assets

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope='module', autouse=True)
def _serve():
    """What runs for `launch`; the end-to-end test runs the command itself."""
    with subprocess.Popen([sys.executable, str(ROOT / 'tests/run_launch.py')], cwd=ROOT, text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        launch.server = server
        yield
        server.stdin.close()


def launch(*arguments: str) -> subprocess.CompletedProcess:
    server = launch.server
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, 'run')
        print(json.dumps([arguments, dict(os.environ), str(path)]), file=server.stdin, flush=True)
        code = int(server.stdout.readline())
        return subprocess.CompletedProcess(arguments, code, path.with_suffix('.out').read_text(),
                                           path.with_suffix('.err').read_text())


def assert_refused(result: subprocess.CompletedProcess, *words: str) -> None:
    assert result.returncode == 2, result.stderr
    assert 'Traceback' not in result.stderr
    sentences = [line for line in result.stderr.splitlines() if line.startswith('launch.py: ')]
    assert len(sentences) == 1, result.stderr
    for word in words:
        assert word in sentences[0]


@pytest.mark.parametrize(('arguments', 'words'), [
    (['--config=configs/nothing.py'], ['configs/nothing.py']),
    (['--config=configs/demo.py:generatr'], ['generatr', 'generator']),
    (['--config=configs/demo.py', '--config.generator.stepz=3'], ['stepz']),
    (['--config=configs/demo.py', '--config.generator.steps=many'], ['steps', 'many']),
    (['--config=configs/demo.py', '--mode=fly'], ['fly', 'prepare']),
    (['--config=configs/demo.py', '--pose=sideways'], ['sideways', 'rhythmic']),
    (['--config=configs/demo.py', '--wrokdir=x'], ['wrokdir']),
    ([], ['--config']),
    (['--mode=convert', '--network=vgg91', '--input=launch.py'], ['--network=vgg91', 'vgg19']),
    (['--mode=convert', '--network=vgg19'], ['--input', 'weight file']),
    (['--mode=convert', '--network=vgg19', '--input=launch.py'], ['launch.py', 'PyTorch weight file']),
    (['--mode=user_study', '--videos==out'], ['--videos==out', 'name is empty']),
    (['--mode=user_study', '--videos=a=one', '--per_clip=0'], ['per_clip', '0']),
    (['--mode=user_study', '--videos=a=one', '--per_clip=2'], ['--per_clip=2', 'want 1 to 1']),
    (['--mode=user_study', '--videos=a=one', '--consent=nothing.txt'], ['--consent=nothing.txt', 'No such file']),
    (['--mode=compare', '--videos=a=one'], ['--videos', '--mode=user_study']),
    (['--mode=compare', '--consent=launch.py'], ['--consent', '--mode=user_study']),
    (['--mode=compare', '--per_clip=2'], ['--per_clip', '--mode=user_study']),
    (['--mode=user_study', '--runs=a,b'], ['--runs', '--mode=compare']),
    (['--config=configs/demo.py', '--preview=3'], ['--preview', '--mode=prepare']),
    (['--config=configs/demo.py', '--mode=evaluate', '--crop=face'], ['--crop=face', '--generated']),
    (['--config=configs/demo.py', '--generated=a', '--truth=b'], ['--generated', '--mode=evaluate']),
    (['--config=configs/demo.py', '--mode=evaluate', '--generated=a'], ['--generated', '--truth']),
    (['--config=configs/demo.py', '--mode=export'], ['checkpoints/unprojection', '--mode=train']),
    (['--config=configs/demo.py', '--process_id=1'], ['--coordinator_address', '--num_processes', 'missing']),
    (['--config=configs/demo.py', '--distributed'], ['--distributed', 'no cluster', '--coordinator_address']),
    (['--config=configs/demo.py', '--mode=generate', '--audio=x.wav'], ['--audio=x.wav', 'no such file']),
    (['--config=configs/demo.py', '--mode=generate', '--source=launch.py'], ['--source', '--audio']),
    (['--config=configs/demo.py', '--mode=generate', '--source=launch.py', '--driving=launch.py', '--pose=still'],
     ['--driving', '--pose']),
    (['--config=configs/demo.py', '--mode=generate', '--source=launch.py', '--audio=launch.py', '--pose=reference'],
     ['--ref_pose']),
    (['--config=configs/demo.py', '--mode=generate', '--preprocess=full'], ['--preprocess=full', '--source']),
    (['--config=configs/demo.py', '--mode=generate', '--blink_rate=-1'], ['blink_rate', '-1']),
    (['--config=configs/demo.py', '--mode=generate', '--blink_rate=often'], ['blink_rate', 'often']),
    (['--config=configs/demo.py', '--mode=generate', '--blink_rate=nan'], ['--blink_rate=nan', '0 to 60']),
    (['--config=configs/demo.py', '--mode=generate', '--blink_rate=90'], ['--blink_rate=90', '0 to 60']),
    (['--config=configs/demo.py', '--mode=generate', '--source=launch.py', '--driving=launch.py', '--blink_rate=20'],
     ['--driving', '--blink_rate']),
])
def test_wrong_flags(arguments, words, tmp_path):
    assert_refused(launch(*arguments, *([f'--workdir={tmp_path}'] if arguments else [])), *words)


def test_a_published_weight_file_is_converted(tmp_path, monkeypatch):
    """`vgg19_layout_zip.pth` has the published tensors, of one repeated number, and another name and checksum."""
    monkeypatch.setenv('TALKINGHEAD_ASSETS', str(tmp_path / 'assets'))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    published = ROOT / 'tests/third_party/golden/vgg19_layout_zip.pth'
    result = launch('--mode=convert', '--network=vgg19', f'--input={published}')
    assert result.returncode == 0, result.stderr
    path, verdict = result.stdout.splitlines()
    assert path == str(tmp_path / 'assets/vgg19.npz')
    assert 'not that of the published vgg19-dcbb9e9d.pth' in verdict
    assert assets.load('vgg19')['conv1_1']['kernel'].shape == (3, 3, 3, 64)


def test_help_lists_the_flags():
    result = subprocess.run([sys.executable, 'launch.py', '--help'], cwd=ROOT, capture_output=True, text=True,
                            check=False)
    assert '--finetune_steps' in result.stdout + result.stderr
    assert 'Traceback' not in result.stderr


def test_what_raters_agree_to_and_how_much_they_see_can_be_said(tmp_path):
    for method in ('a', 'b'):
        tiny_videos.write(tmp_path / method / 'x.mp4')
    (tmp_path / 'consent.txt').write_text('You agree, don\u2019t you?')
    given = '--mode=user_study', f'--workdir={tmp_path}', f'--videos={tmp_path}/a', f'--videos={tmp_path}/b'
    result = launch(*given, f'--consent={tmp_path}/consent.txt', '--per_clip=1')
    assert result.returncode == 0, result.stderr
    assert 'a rater sees 1 videos' in result.stdout
    assert 'draft' not in result.stdout
    page = (tmp_path / 'user_study/index.html').read_text()
    assert 'You agree, don\u2019t you?' in page
    assert 'put here who you are' not in page
    assert '--consent=FILE' in launch(*given).stdout
    (tmp_path / 'consent.txt').write_bytes(b'\xff\xfe')
    assert_refused(launch(*given, f'--consent={tmp_path}/consent.txt'), 'consent.txt', 'UTF-8')
    (tmp_path / 'consent.txt').write_text(' ')
    assert_refused(launch(*given, f'--consent={tmp_path}/consent.txt'), 'consent.txt is empty')


def test_whole_videos_alone_are_reported_too(tmp_path):
    report = '--config=configs/demo.py', '--mode=report', f'--workdir={tmp_path}'
    assert_refused(launch(*report), 'no results', '--mode=evaluate')
    results.save(tmp_path / 'evaluation/folders', make_results(protocol='folders', dataset=''))
    result = launch(*report)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f'whole videos: {tmp_path}/evaluation/videos.html\n'
    assert 'Ours (true pose)' in (tmp_path / 'evaluation/videos.html').read_text()


def test_the_config_of_one_table_says_whose_published_rows_stand_beside_folders(tmp_path, monkeypatch):
    for folder in ('truth', 'out'):
        (tmp_path / folder).mkdir()
        media.write_video(tmp_path / folder / 'a.mp4', [np.zeros((32, 32, 3), np.uint8)] * 3)
    given = {'GENERATED': [str(tmp_path / 'out')], 'TRUTH': str(tmp_path / 'truth'), 'CROP': 'none'}
    for flag, value in given.items():
        monkeypatch.setattr(program.command_line, flag, types.SimpleNamespace(value=value))
    plans = []
    monkeypatch.setattr(program, '_judge', lambda config, workdir, plan, machines, detector: plans.append(plan))
    monkeypatch.setattr('talkinghead_jax.report.whole_videos.page', lambda root, title: 'videos.html')
    for config in (table1_lrw.get_config(), common.base('x')):
        program._evaluate_folders(config, tmp_path, None)
    assert [(plan.dataset, plan.facts.get('table')) for plan in plans] == [('lrw', 'audio_driven'), ('', None)]
    assert len(plans[0].film(0)) == 3


def test_unwritable_workdir(tmp_path):
    (tmp_path / 'file').write_text('in the way')
    assert_refused(launch('--config=configs/demo.py', f'--workdir={tmp_path}/file/demo', '--mode=prepare'),
                   f'{tmp_path}/file')


def test_training_without_data_says_what_is_missing(tmp_path):
    assert_refused(launch('--config=configs/demo.py', f'--workdir={tmp_path}'), '--mode=prepare')


def test_drawing_motion_without_data_says_what_is_missing(tmp_path):
    assert_refused(launch('--config=configs/demo.py', f'--workdir={tmp_path}', '--mode=motion'), '--mode=prepare')


def test_generating_without_a_checkpoint_says_what_is_missing(tmp_path):
    assert_refused(launch('--config=configs/demo.py', f'--workdir={tmp_path}', '--mode=generate',
                          '--source=launch.py', '--audio=launch.py'), 'train')


def test_a_mesh_is_drawn_with_the_triangles_of_its_detector(shared_data, tmp_path, monkeypatch):
    config = common.base('x')
    config.data.update({'detector': 'prnet', 'prnet': str(shared_data / 'topology/prnet_uv-data')})
    trained = types.SimpleNamespace(frozen={'triangles': 'of the training data', 'more': 1}), 'inference'
    source = {'mesh_vertices': np.zeros((43867, 3), np.float32)}
    monkeypatch.setattr('talkinghead_jax.synthesis.network.make_network', lambda *arguments: arguments)
    for flag, largest in (('film.mp4', 43866), ('', None)):
        monkeypatch.setattr(program, 'flags', types.SimpleNamespace(FLAGS=types.SimpleNamespace(source=flag)))
        *_, frozen, vertices = program._theta(config, None, tmp_path, trained, source, tmp_path)
        assert (frozen['more'], vertices) == (1, 43867)
        assert (frozen['triangles'].max() == largest) if flag else frozen['triangles'] == 'of the training data'


class TestInput:
    """What `--mode=prepare --input=...` refuses."""

    @pytest.fixture
    def prepare(self, tmp_path, shared_data):
        def run(path: pathlib.Path) -> subprocess.CompletedProcess:
            return launch('--config=configs/demo.py', f'--workdir={tmp_path}/run', '--mode=prepare',
                          f'--input={path}', f'--landmarker={shared_data}/models/face_landmarker.task')
        return run

    def test_missing_file(self, prepare, tmp_path):
        assert_refused(prepare(tmp_path / 'missing.mp4'), 'missing.mp4')

    def test_not_a_video(self, prepare, tmp_path):
        path = tmp_path / 'letter.mp4'
        path.write_text('Dear video, ' * 100)
        assert_refused(prepare(path), 'letter.mp4')

    def test_sound_only(self, prepare, tmp_path):
        path = tmp_path / 'sound.wav'
        with wave.open(str(path), 'wb') as file:
            file.setparams((1, 2, 16_000, 0, 'NONE', ''))
            file.writeframes(bytes(64_000))
        assert_refused(prepare(path), 'sound.wav')

    def test_video_without_a_face(self, prepare, tmp_path):
        path = tmp_path / 'grey.mp4'
        self._write(path, frames=50)
        assert_refused(prepare(path), 'grey.mp4', 'face')

    def test_video_without_audio(self, prepare, shared_data, tmp_path):
        path = tmp_path / 'silent.mp4'
        path.write_bytes((shared_data / 'clips/styletalk/KristiNoem.mp4').read_bytes())
        assert_refused(prepare(path), 'silent.mp4', 'audio')

    def test_video_shorter_than_a_second(self, prepare, tmp_path):
        path = tmp_path / 'short.mp4'
        self._write(path, frames=20)
        assert_refused(prepare(path), 'short.mp4')

    def test_missing_landmarker(self, tmp_path, shared_data):
        result = launch('--config=configs/demo.py', f'--workdir={tmp_path}', '--mode=prepare',
                        f'--input={shared_data}/clips/voxceleb2/00098.mp4', f'--landmarker={tmp_path}/no.task')
        assert_refused(result, 'no.task')

    @staticmethod
    def _write(path: pathlib.Path, frames: int) -> None:
        import numpy as np

        from input_pipeline import media
        grey = np.full((64, 64, 3), 127, np.uint8)
        media.write_video(path, (grey for _ in range(frames)), np.zeros(frames * 640, np.int16))
