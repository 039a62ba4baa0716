import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from talkinghead_jax import files, pixels
from talkinghead_jax.errors import UserError
from talkinghead_jax.evaluation import Evaluation
from talkinghead_jax.geometry import face
from talkinghead_jax.report import catalogue, curves, figures, page, pictures, table

RNG = np.random.default_rng(0)
B, T, S = 3, 12, 16


def expression():
    frontal = (face.TEMPLATE + RNG.normal(0, 1, (B, T, 68, 3))).astype(np.float32)
    mask = np.ones((B, T), bool)
    mask[1, 5:] = False
    return Evaluation(
        'expression', B, {'model': {'lmd': 0.5}, 'mean_face': {'lmd': 2.0}}, {},
        examples={'batch': {'target_frontal': frontal, 'frame_mask': mask},
                  'outputs': {'model': {'frontal': frontal + 0.3}, 'mean_face': {'frontal': frontal * 0 + 100}},
                  'frozen': {}})


def head_motion():
    context_mask = np.ones((B, 8), bool)
    context_mask[0, :6] = False
    pose = RNG.normal(0, 1, (B, T, 6)).astype(np.float32)
    return Evaluation(
        'head_motion', B, {'model': {'pose_error': 1.0, 'amplitude_ratio': 1.2},
                           'hold_last': {'pose_error': 1.5, 'amplitude_ratio': 0.1},
                           'reference_mean': {'pose_error': 0.9, 'amplitude_ratio': 0.0}}, {},
        examples={'batch': {'pose': pose, 'context_pose': RNG.normal(0, 1, (B, 8, 6)), 'context_mask': context_mask,
                            'frame_mask': np.ones((B, T), bool)},
                  'outputs': {'model': {'pose': pose + 1}, 'hold_last': {'pose': pose * 0},
                              'reference_mean': {'pose': pose * 0 + 1}}, 'frozen': {}})


def unprojection():
    positions = RNG.uniform(0, 255, (B, S, S, 3)).astype(np.float32)
    return Evaluation(
        'unprojection', B, {'model': {'vertex_error_percent': 1.5}, 'mean_shape': {'vertex_error_percent': 4.0}}, {},
        examples={'batch': {'image': RNG.integers(0, 256, (B, S, S, 3)).astype(np.uint8), 'position_map': positions},
                  'outputs': {'model': {'position_map': positions + 2}},
                  'frozen': {'uv_mask': (np.arange(S * S).reshape(S, S) % 3 > 0).astype(np.float32)}})


def generator():
    images = RNG.integers(0, 256, (B, S, S, 3)).astype(np.uint8)
    drawn = images / 127.5 - 1
    return Evaluation(
        'generator', B, {'model': {'ssim': 0.8, 'psnr': np.nan}, 'matched_reference': {'ssim': 0.7, 'psnr': 20.0}},
        {}, {'lmd@mean20-mediapipe': 'not computed: needs face_landmarker.task'},
        examples={'batch': {'references': images[:, None], 'target': images},
                  'outputs': {'model': {'render': drawn, 'matched': drawn, 'image': drawn}}, 'frozen': {}})


ALL = {e.stage: e for e in (unprojection(), expression(), head_motion(), generator())}
LOG = [{'step': s, 'loss/net': 1 / (s + 1), 'learning_rate': 2e-4, 'secs/data_wait': 0.1} for s in range(0, 200, 20)]


@pytest.fixture(scope='module')
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp('report')
    video = folder / 'out.mp4'
    video.write_bytes(b'video <bytes>')
    page.write_report(
        folder / 'report.html', ALL, {'expression': LOG, 'head_motion': []}, title='demo <1>',
        timings={'prepare': 3.0, 'train': {'seconds': 10.0, 'compilation': 2.5}}, videos=[video, folder / 'none.mp4'],
        facts={'config': 'configs/demo.py'})
    return folder / 'report.html'


def test_the_page_holds_everything_it_shows(report):
    text = re.sub(r'data:[\w/]+;base64,[\w+/=]+', 'data:', report.read_text())
    assert not re.search(r'(src|srcset|href)="(?!data:|#|out\.mp4)', text)
    assert 'http' not in text
    assert 'demo &lt;1&gt;' in text
    for stage in ALL:
        assert f'<section id="{stage}">' in text
    assert text.count('<picture>') == 3  # two charts of examples, one of training
    assert text.count('<img') == 3 + B * 6 + B * 5


def test_every_picture_can_be_opened(report):
    encoded = re.findall(r'data:image/png;base64,([\w+/=]+)', report.read_text())
    sizes = {Image.open(io.BytesIO(base64.b64decode(picture))).size for picture in encoded}
    assert all(min(size) >= S for size in sizes)


def test_the_video_is_inside(report):
    assert base64.b64encode(b'video <bytes>').decode() in report.read_text()
    assert 'none.mp4' not in report.read_text()


def test_json_has_every_number_of_the_table(report):
    numbers = json.loads(report.with_suffix('.json').read_text())
    assert numbers['stages']['head_motion']['methods'] == ALL['head_motion'].means
    assert numbers['stages']['generator']['methods']['model'] == {'ssim': 0.8, 'psnr': None}
    assert numbers['stages']['generator']['notes']
    assert numbers['stages']['expression']['n'] == B
    assert numbers['timings']['train'] == {'seconds': 10.0, 'compilation': 2.5}
    assert numbers['videos'] == ['out.mp4']


def test_the_same_report_has_the_same_bytes(report, tmp_path):
    for name in ('a.html', 'b.html'):
        page.write_report(tmp_path / name, {'expression': ALL['expression']}, {'expression': LOG}, title='x')
    assert (tmp_path / 'a.html').read_bytes() == (tmp_path / 'b.html').read_bytes()


def test_a_report_of_nothing_is_still_a_page(tmp_path):
    page.write_report(tmp_path / 'report.html', {})
    assert '<html' in (tmp_path / 'report.html').read_text()


def test_a_log_without_an_evaluation_is_drawn(tmp_path):
    page.write_report(tmp_path / 'report.html', {}, {'generator': LOG})
    assert '<section id="generator">' in (tmp_path / 'report.html').read_text()


def test_the_best_value_is_bold_in_each_direction():
    best = {row.metric: row.best for evaluation in ALL.values() for row in table.rows(evaluation)}
    assert best == {
        'vertex_error_percent': {'model'}, 'lmd': {'model'}, 'pose_error': {'reference_mean'},
        'amplitude_ratio': {'model'}, 'ssim': {'model'}, 'psnr': {'matched_reference'}}
    assert '<b>0.800</b>' in table.html_table(ALL['generator'])
    assert '<b>20.0</b>' in table.html_table(ALL['generator'])


def test_the_text_table_is_aligned():
    lines = table.text_table(ALL).splitlines()
    block = lines[lines.index(next(line for line in lines if line.startswith('head_motion'))):][:3]
    columns = [[match.end() for match in re.finditer(r'\S+', line[30:])][:2] for line in block]
    assert block[0].split()[-4:] == ['model', 'hold_last', 'reference_mean', 'better']
    assert 'n = 3' in block[0]
    assert '0.900*' in block[1]
    assert len({tuple(np.round(c, -1)) for c in columns}) <= 2
    assert any('not computed' in line for line in lines)
    assert '–' in next(line for line in lines if 'psnr' in line)


def test_two_equal_values_are_both_best():
    assert catalogue.best('ssim', {'a': 0.5, 'b': 0.5, 'c': 0.4}) == {'a', 'b'}
    assert catalogue.best('ssim', {'a': float('nan')}) == frozenset()


@pytest.mark.parametrize(('value', 'text'), [
    (0.0, '0'), (0.61234, '0.612'), (23.456, '23.5'), (1234.5, '1234'), (0.001234, '0.0012'), (-0.5, '-0.500'),
    (float('nan'), '–'), (float('inf'), '–'), (None, '–'),
])
def test_numbers(value, text):
    assert catalogue.number(value) == text


def test_curves_leave_out_what_is_operational_or_broken():
    rows = [{'step': 0, 'a': 1.0, 'sec': 2.0, 'beta': 1}, {'step': 20, 'a': 3.0, 'steps_per_second': 1.0, 'beta': 2},
            {'step': 20, 'a': 2.0, 'once': 1.0}, {'a': 9.0}, {'step': 40, 'a': float('nan'), 'text': 'x'}]
    found = curves.curves(rows)
    assert set(found) == {'a', 'beta'}
    np.testing.assert_array_equal(found['a'], [[0, 20], [1, 2]])


def test_curves_are_few_and_losses_first():
    rows = [{'step': s, **{f'term{i}': 1.0 for i in range(20)}, 'loss': 1.0} for s in range(2)]
    found = curves.curves(rows, limit=5)
    assert len(found) == 5
    assert next(iter(found)) == 'loss'


def test_running_mean_keeps_constants_and_ends():
    np.testing.assert_allclose(figures._running_mean(np.full(9, 3.0), 2), 3.0)
    np.testing.assert_allclose(figures._running_mean(np.arange(5.0), 1), [0.5, 1, 2, 3, 3.5])


def test_themes_differ_and_charts_are_transparent():
    chart = figures.training_curves(curves.curves(LOG))
    (light, share), (dark, _) = figures.png(chart, figures.LIGHT), figures.png(chart, figures.DARK)
    assert light != dark
    assert 0 < share <= 1
    assert np.asarray(Image.open(io.BytesIO(light)).convert('RGBA'))[0, 0, 3] == 0


def test_points_are_drawn_where_they_are():
    points = np.array([[63.5, 127.5, 0], [191.5, 127.5, 50]])
    drawn = pictures._points_over(np.zeros((S, S, 3), np.uint8), points)
    rows, columns = np.nonzero(drawn.max(axis=-1))
    assert abs(rows.mean() - pictures.SIZE / 2) < 1
    assert abs(columns.min() - pictures.SIZE / 4) < 1.5
    assert abs(columns.max() - 3 * pictures.SIZE / 4) < 1.5


def test_points_outside_the_picture_are_left_out():
    assert not pictures._points_over(np.zeros((S, S, 3), np.uint8), np.array([[-50.0, 10, 0], [10, 400, 1]])).any()


def test_to_uint8_rounds_and_clips():
    np.testing.assert_array_equal(pixels.to_uint8(np.array([-2, -1, 0, 1, 2.0])), [0, 0, 128, 255, 255])
    levels = np.arange(256)
    np.testing.assert_array_equal(pixels.to_uint8((levels / 127.5 - 1).astype(np.float32)), levels)


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch):
    target = tmp_path / 'report.json'
    files.write_atomically(target, b'old')

    def full(*args):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(files.os, 'replace', full)
    with pytest.raises(UserError, match=r'report\.json: No space left'):
        files.write_atomically(target, b'new')
    assert target.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_is_a_file_is_the_users_mistake(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='cannot write'):
        files.write_atomically(tmp_path / 'file' / 'report.html', b'')


def test_json_is_strict():
    value = {'a': np.float32(np.nan), 'b': [np.inf, 1.5], 'c': np.arange(2), 'd': {'e': None, 'f': True}}
    assert json.loads(files.to_json(value)) == {'a': None, 'b': [None, 1.5], 'c': [0, 1], 'd': {'e': None, 'f': True}}
