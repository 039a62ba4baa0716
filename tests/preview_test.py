"""The page that shows prepared data: what is on it, what is not, and that odd data do not spoil it."""

import base64
import html.parser
import io
import re

import numpy as np
import pytest
from PIL import Image

from talkinghead_jax import specs
from talkinghead_jax.errors import UserError
from talkinghead_jax.geometry import sketch
from talkinghead_jax.report import figures, overlays, preview, quarantine, record_section, signals
from tests.input_pipeline import fake_records

TRIANGLES = np.array([[0, 1, 2], [2, 3, 4], [4, 5, 0]], np.int32)
MASK = np.zeros((8, 8), np.float32)
MASK[1:7, 1:7] = 1
EVIL = '<script>alert("&")</script>'


class Split(list):
    """Records as a dataset gives them, which notes what is read."""

    def __init__(self, records):
        super().__init__(records)
        self.read = []

    @property
    def frames(self):
        return np.array([len(record.get('pose', ())) for record in self])

    def __getitem__(self, number):
        self.read.append(number)
        return super().__getitem__(number)


def decode(jpeg):
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert('RGB'))


def record(seed=0, frames=6, **changed):
    return fake_records.fake_record(seed, frames, size=16) | changed


def row(clip, reason='no_face', split='train', detail='why', path='/p.mp4'):
    return {'clip': clip, 'split': split, 'reason': reason, 'detail': detail, 'path': path}


def write(folder, splits, quarantined=(), count=2, thumbnail=lambda path: None, seed=0):
    path = preview.write(folder, splits, {'triangles': TRIANGLES, 'uv_mask': MASK}, decode, count, seed, quarantined,
                         thumbnail)
    assert path == folder / 'preview.html'
    return path.read_text()


def words(page):
    """What a reader sees, one space between words."""
    parser, found = html.parser.HTMLParser(), []
    parser.handle_data = found.append
    parser.feed(page)
    return ' '.join(' '.join(found).split())


def pictures(page):
    """Alternative text and picture of each image."""
    return [(alt, decode(base64.b64decode(data)))
            for data, alt in re.findall(r'src="data:image/\w+;base64,([^"]+)" alt="([^"]*)"', page)]


@pytest.fixture(scope='module', name='drawn')
def _drawn(tmp_path_factory):
    """A page of one clip, one position map and three quarantined files; and what was asked for while writing it."""
    detected = np.array([1, 1, 0, 0, 0, 1], bool)
    clip = record(clip_id=EVIL, speaker_id=EVIL + '1', transcript=EVIL + '2', detected=detected,
                  confidence=np.where(detected, np.float32(0.75), 0).astype(np.float32), key_frame=np.int32(1),
                  closed_mouth_frame=np.int32(5), preparation='{"version": 7, "detector": "mediapipe", "crop": '
                  '{"left": -4, "top": 3, "side": 90, "size": 256}, '
                  '"options": {"crop": "static", "max_missing": 0.5}}')
    splits = {'train': Split([clip]), 'maps' + EVIL: Split([fake_records.fake_position_map(0, 8)])}
    rows = [row('b', 'no_face', path='/red.mp4'), row(EVIL, 'unreadable', EVIL, EVIL, '/x' + EVIL),
            row('c', 'failed', path='/kills.mp4'), row('a', EVIL, path='')]
    asked = []

    def thumbnail(path):
        asked.append(path)
        return np.full((12, 20, 3), [200, 0, 0], np.uint8) if path == '/red.mp4' else None

    return write(tmp_path_factory.mktemp('page'), splits, rows, thumbnail=thumbnail), asked


def test_what_is_told_of_a_clip(drawn):
    text = words(drawn[0])
    for fact in ('split train', 'frames 6', 'length 0.24 s', 'face found in 50.0%', 'mean confidence 0.75',
                 'preparation 7', 'detector mediapipe', 'crop static, 90 px square at (-4, 3)', 'max missing 0.5'):
        assert fact in text, fact
    for t, marks in ((0, ''), (1, ' key frame'), (3, ' face not found'), (5, ' mouth most closed')):
        assert f'{t / 25:.2f} s{marks} ' in text


def test_what_is_drawn_of_a_clip_and_of_a_position_map(drawn):
    found = dict(pictures(drawn[0]))
    shapes = {name: picture.shape[:2] for name, picture in found.items()}
    assert shapes['mesh of the key frame, 0.04 s'] == (512, 512)
    assert shapes['mesh of the map'] == (512, 512)
    assert {f'{t / 25:.2f} s' for t in range(6)} <= set(shapes)
    assert any(name.startswith('depth, ') for name in shapes)
    assert any(name.startswith('signals of ') for name in shapes)
    guessed = found['0.12 s'].astype(int)  # frame 3 is grey; the lines of its guessed face are magenta
    assert (guessed[..., 0] - guessed[..., 1]).max() > 80 > (found['0.04 s'].astype(int) @ [1, -1, 0]).max()


def test_nothing_of_the_data_is_taken_for_markup(drawn):
    page = drawn[0]
    assert '<script' not in page
    assert page.count('&lt;script&gt;alert(&quot;&amp;&quot;)') >= 9
    assert words(page).count('<script>alert("&")') >= 8


def test_the_page_needs_no_other_file(drawn):
    assert re.findall(r'(?:src|srcset|href)="(?!data:|#)', drawn[0]) == []
    assert 'url(' not in drawn[0]


def test_the_summary_counts_by_split_and_reason(drawn):
    text = words(drawn[0])
    assert 'usable 2 in quarantine 4 (66.7%)' in text
    assert 'train 1 0.24 s' in text
    assert 'together 2 0.24 s' in text
    assert 'failed an unexpected error' in text


def test_the_pictures_of_the_quarantine(drawn):
    page, asked = drawn
    # Not the file that killed its process, nor what has no file.
    assert sorted(asked) == sorted(['/red.mp4', '/x' + EVIL])
    table = page[page.index('class="quarantine"'):page.index('id="record0"')]
    (name, picture), = pictures(table)
    assert name == 'b'
    np.testing.assert_allclose(picture, np.full((12, 20, 3), [200, 0, 0]), atol=3)
    assert table.count('no picture') == 3
    reasons = re.findall(r'<td><b>([^<]*)</b>', table)
    assert reasons == sorted(reasons)
    assert len(reasons) == 4


def test_the_same_seed_gives_the_same_page_and_only_what_is_shown_is_read(tmp_path):
    maps = [fake_records.fake_position_map(i, 8) for i in range(40)]
    splits = [{'a': Split(maps[:30]), 'b': Split(maps[30:])} for _ in range(3)]
    pages = [write(tmp_path / str(i), split, count=4, seed=i // 2) for i, split in enumerate(splits)]
    assert pages[0] == pages[1] != pages[2]
    assert all(len(of.read) == 2 for split in splits for of in split.values())


def test_no_clips_of_a_kind_and_nothing_quarantined(tmp_path):
    page = write(tmp_path, {'train': Split([]), 'test': Split([])})
    assert 'quarantine"' not in page
    assert 'usable 0 in quarantine 0 (0.0%) shown 0' in words(page)
    assert 'together 0 –' in words(write(tmp_path, {}, count=0))


def test_a_page_is_whole_or_the_old_one(tmp_path, monkeypatch):
    old = write(tmp_path, {})

    def fail(*_):
        assert (tmp_path / 'preview.html').read_text() == old
        raise OSError('the disk is full')

    monkeypatch.setattr('os.replace', fail)
    with pytest.raises(UserError, match=r'preview\.html: the disk is full'):
        write(tmp_path, {'new': Split([])})
    assert [path.name for path in tmp_path.iterdir()] == ['preview.html']
    assert (tmp_path / 'preview.html').read_text() == old


class TestChoice:
    def test_every_split_has_its_share(self):
        places = preview.choose({'train': 1000, 'validation': 2, 'empty': 0, 'test': 50}, 12, 0)
        assert [split for split, _ in places] == ['train'] * 5 + ['validation'] * 2 + ['test'] * 5
        assert len(set(places)) == 12
        assert all(0 <= number < {'train': 1000, 'validation': 2, 'test': 50}[split] for split, number in places)

    def test_more_than_there_are_is_all_of_them(self):
        assert preview.choose({'a': 2, 'b': 1}, 9, 3) == [('a', 0), ('a', 1), ('b', 0)]

    def test_seeds_differ(self):
        assert preview.choose({'a': 10 ** 6}, 5, 0) != preview.choose({'a': 10 ** 6}, 5, 1)

    def test_rare_reasons_are_shown_beside_frequent_ones(self):
        rows = [row(f'{i:02d}', 'z') for i in range(50)] + [row('x', 'a'), row('y', 'b'), row('w', 'b')]
        chosen = quarantine.choose(rows, 8)
        assert [of['clip'] for of in chosen] == ['x', 'w', 'y', '00', '01', '02', '03', '04']
        assert 'and 45 more in quarantine.csv' in quarantine.table(rows, lambda path: None, 8)
        assert 'more in' not in quarantine.table(rows, lambda path: None, 53)

    @pytest.mark.parametrize('frames', [1, 2, 7, 8, 9, 100])
    def test_the_strip_of_a_clip(self, frames):
        detected = np.ones(frames, bool)
        detected[frames // 2:frames // 2 + 3] = False
        key, closed = frames // 3, frames - 1
        shown = record_section.strip({'pose': np.zeros((frames, 6)), 'detected': detected, 'key_frame': np.int32(key),
                               'closed_mouth_frame': np.int32(closed)})
        assert shown == sorted(set(shown))
        assert {0, key, closed, frames - 1} <= set(shown)
        assert not detected[shown].all()
        assert min(frames, 7) <= len(shown) <= 8


class TestSignals:
    def test_gaps(self):
        assert signals.gaps([1, 0, 0, 1, 0, 1, 0]) == [(1, 2), (4, 4), (6, 6)]
        assert signals.gaps([1, 1]) == []
        assert signals.gaps([0]) == [(0, 0)]

    @pytest.mark.parametrize(('length', 'columns'), [(1000, 7), (5, 7), (1, 7), (640, 640)])
    def test_the_envelope_holds_every_sample(self, length, columns):
        samples = np.random.default_rng(length).normal(size=length)
        low, high = signals.envelope(samples, columns)
        count = min(columns, length)
        parts = [samples[i * length // count:(i + 1) * length // count] for i in range(count)]
        np.testing.assert_array_equal(low, [part.min() for part in parts])
        np.testing.assert_array_equal(high, [part.max() for part in parts])

    def test_the_curves(self):
        clip = record(frames=10, detected=np.arange(10) != 4)
        figure = signals.chart(clip)(figures.LIGHT)
        rotation, sound, translation, confidence = figure.axes
        drawn = np.stack([line.get_ydata() for axes in (rotation, translation) for line in axes.lines[:3]], axis=1)
        np.testing.assert_allclose(drawn, clip['pose'] * ([180 / np.pi] * 3 + [1] * 3), rtol=1e-6)
        np.testing.assert_allclose(rotation.lines[1].get_xdata(), np.arange(10) / 25)
        np.testing.assert_array_equal(np.isnan(confidence.lines[0].get_ydata()), ~clip['detected'])
        (shade,) = sound.patches
        assert (shade.get_x(), shade.get_width()) == pytest.approx((3.5 / 25, 1 / 25))
        assert rotation.lines[3].get_xdata()[0] == clip['key_frame'] / 25

    @pytest.mark.parametrize('found', [True, False])
    def test_a_single_frame(self, found):
        clip = record(frames=1, detected=np.array([found]))
        figure = signals.chart(clip)(figures.DARK)
        assert figure.axes[0].lines[0].get_marker() == '.'


class TestOverlays:
    def test_landmarks_are_joined_as_in_the_sketch(self):
        points = record(frames=1)['landmarks'][0]
        drawn = overlays.landmarks(np.zeros((16, 16, 3), np.uint8), points, True, 128)
        ink = drawn[..., 2].astype(float) / overlays.FOUND[2]
        reference = np.asarray(sketch.draw(points, 128, thickness=3.0))
        assert ((ink > 0.5) & (reference == 0)).mean() < 0.002
        assert ((reference == 1) & (ink == 0)).mean() < 0.002

    def test_hidden_edges_are_in_another_colour(self):
        corners = np.array([[20, 20], [100, 20], [20, 100], [236, 236], [150, 236], [236, 150], [128, 128]], float)
        vertices = np.concatenate([corners, np.zeros((7, 1))], axis=1)
        visible = np.array([1, 1, 1, 0, 1, 1, 1], bool)
        triangles = np.array([[0, 1, 2], [3, 4, 5]])
        drawn = overlays.mesh(np.zeros((32, 32, 3), np.uint8), vertices, visible, triangles, 256).astype(int)
        blue_green, red = drawn[..., 1] - drawn[..., 0] > 20, drawn[..., 0] - drawn[..., 1] > 20
        assert blue_green[19:22, 60].any()
        assert not red[:120, :120].any()
        assert red[235:238, 200].any()
        assert blue_green[190:196, 190:196].any()  # the edge between the two seen corners of the other triangle
        assert blue_green[127:130, 127:130].all()  # a vertex of no triangle

    def test_a_very_dense_mesh_is_dots(self, monkeypatch):
        monkeypatch.setattr(overlays, '_MOST_EDGES', 5)
        vertices = np.array([[20, 20, 0], [220, 20, 0], [20, 220, 0], [220, 220, 0]], float)
        drawn = overlays.mesh(np.zeros((8, 8, 3), np.uint8), vertices, np.ones(4, bool), TRIANGLES[:2] % 4, 256)
        monkeypatch.setattr(overlays, '_MOST_EDGES', 4)
        dots = overlays.mesh(np.zeros((8, 8, 3), np.uint8), vertices, np.ones(4, bool), TRIANGLES[:2] % 4, 256)
        assert drawn[20, 120].max() > 60
        assert dots[20, 120].max() == 0
        assert dots[20, 20].max() == 255

    def test_facing_follows_the_winding_of_the_metadata(self):
        vertices = np.array([[0, 0, 0], [10, 0, 0], [0, 10, 0], [50, 50, 0], [50, 60, 0], [60, 50, 0], [1, 1, 1]])
        triangles = np.array([[0, 1, 2], [3, 4, 5]])
        np.testing.assert_array_equal(overlays.facing(vertices, triangles), [1, 1, 1, 0, 0, 0, 0])

    def test_near_is_bright(self):
        positions = np.zeros((4, 4, 3), np.float32)
        positions[..., 2] = np.arange(4)
        drawn = overlays.depth(positions, np.arange(16).reshape(4, 4) > 3, 4).astype(int)
        assert (drawn[0] == 128).all()
        assert (np.diff(drawn[1:].sum(-1), axis=1) > 0).all()


def test_a_map_whose_triangles_belong_to_the_clips_is_drawn_as_dots(tmp_path):
    maps = Split([fake_records.fake_position_map(0, 8)])  # 36 valid positions; the triangles number five
    page = write(tmp_path, {'train': maps}, count=1)
    picture = dict(pictures(page))['mesh of the map']
    near = sketch.to_pixels(maps[0]['position_map'][3, 3, :2], 512).round().astype(int)
    assert picture[near[1], near[0], 2] > 200


def test_a_full_scale_tone_is_zero_decibels():
    assert record_section.facts('s', record(speech_level=np.float32(2 ** 15)))['speech'] == '0 dBFS'
    assert record_section.facts('s', record(speech_level=np.float32(0)))['speech'] == 'silent'


@pytest.mark.parametrize(('text', 'expected'), [
    ('no JSON <', {'preparation': 'no JSON <'}),
    ('[1, 2]', {'preparation': '[1, 2]'}),
    ('{"version": 2, "spec": 1, "path": [1, 2, 3, 4, 5], "crop": {"lefts": [1, 2]}}',
     {'preparation': '2', 'spec': '1', 'path': '5 values', 'crop': 'lefts 1, 2'}),
    ('{"frames": 9, "speaker": 3}', {}),
])
def test_other_preparations_are_told_too(text, expected):
    known = record_section.facts('train', record(preparation='{}'))
    told = record_section.facts('train', record(preparation=text))
    assert told == known | expected
    assert specs.FRAME_RATE * float(told['length'].split()[0]) == int(told['frames'])
