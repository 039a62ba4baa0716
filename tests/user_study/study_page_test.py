"""The rating page as a file: what is in it, what must not be, and what it refuses."""

import base64
import collections
import json
import re

import pytest

from talkinghead_jax.errors import UserError
from talkinghead_jax.user_study import markup, page
from tests.user_study import tiny_videos

METHODS = ('landmarks', 'audio', 'audio + Phi')
CLIPS = ('anna', 'bob', 'cleo', 'dora')
# Enough of an MP4 for `page.write`, which does not decode: a codec that browsers play, and sound.
FAKE = b'....ftypisom....avc1....soun....'


def folders(root, methods=METHODS, clips=CLIPS, content=FAKE):
    for method in methods:
        (root / method).mkdir(parents=True)
        for clip in clips:
            (root / method / f'{clip}.mp4').write_bytes(content + f'{method}{clip}'.encode())
    return {method: root / method for method in methods}


def facts(text):
    return json.loads(re.search(r'id="facts">(.*?)</script>', text)[1])


@pytest.fixture(scope='module', name='written')
def _written(tmp_path_factory):
    root = tmp_path_factory.mktemp('study')
    study = page.write(root / 'out' / 'index.html', folders(root), title='Faces & <speech>', seed=3)
    return study, study.path.read_text(), json.loads(study.key.read_text())


def test_every_video_is_inside_once_under_its_id(written):
    _, text, key = written
    inside = dict(re.findall(r'<script type="text/plain" id="(\w+)" data-type="video/mp4">([^<]*)</script>', text))
    assert len(inside) == len(METHODS) * len(CLIPS)
    assert {name: base64.b64decode(data) for name, data in inside.items()} == {
        name: FAKE + (of['method'] + of['clip']).encode() for name, of in key['videos'].items()}


def test_the_page_tells_no_names_and_asks_for_nothing(written):
    study, text, key = written
    shown = re.sub(r'(<script type="text/plain"[^>]*>)[^<]*', r'\1', text)
    assert not [name for name in (*CLIPS, 'landmarks', 'Phi', '.mp4') if name.lower() in shown.lower()]
    assert not re.findall(r'https?:|src="|href="|@import|url\(', shown)
    assert '<title>Faces &amp; &lt;speech&gt;</title>' in shown
    order = re.findall(r'<script type="text/plain" id="(\w+)"', text)
    assert order == sorted(order)  # of random ids
    assert all(of == sorted(of) for of in facts(text)['rounds'])
    by_method = [key['videos'][name]['method'] for name in order]
    assert len({tuple(by_method[i:i + len(CLIPS)]) for i in range(0, 12, 4)} & {(name,) * 4 for name in METHODS}) == 0
    assert str(study.key) in str(study)


def test_rounds_are_a_latin_square(written):
    _, text, key = written
    rounds = [[key['videos'][name] for name, _ in of] for of in facts(text)['rounds']]
    assert len(rounds) == len(METHODS)
    for of in rounds:
        assert sorted(video['clip'] for video in of) == sorted(CLIPS)
        counts = collections.Counter(video['method'] for video in of)
        assert set(counts.values()) <= {1, 2}
        assert len(counts) == 3
    assert len({(video['method'], video['clip']) for of in rounds for video in of}) == 12
    numbers = [{number: key['videos'][name]['clip'] for name, number in of} for of in facts(text)['rounds']]
    assert numbers[0] == numbers[1] == numbers[2]  # one number a speech: this is how neighbours are kept apart


def test_the_same_arguments_give_the_same_files_and_another_seed_other_ids(tmp_path):
    videos = folders(tmp_path)
    first, again, other = (page.write(tmp_path / name / 'index.html', videos, seed=seed)
                           for name, seed in (('a', 0), ('b', 0), ('c', 1)))
    assert first.path.read_bytes() == again.path.read_bytes()
    assert first.key.read_bytes() == again.key.read_bytes()
    ids = [set(json.loads(study.key.read_text())['videos']) for study in (first, other)]
    assert not ids[0] & ids[1]


def test_the_key_of_another_study_is_kept(tmp_path):
    videos = folders(tmp_path)
    first = page.write(tmp_path / 'index.html', videos, seed=0).key.read_bytes()
    page.write(tmp_path / 'index.html', videos, seed=0)
    assert [path.name for path in tmp_path.glob('key*')] == ['key.json']
    page.write(tmp_path / 'index.html', videos, seed=1)
    study = json.loads(first)['study']
    assert sorted(path.name for path in tmp_path.glob('key*')) == [f'key-{study}.json', 'key.json']
    assert (tmp_path / f'key-{study}.json').read_bytes() == first


def test_clips_that_some_lack_are_left_out_and_named(tmp_path):
    videos = folders(tmp_path)
    (videos['audio'] / 'bob.mp4').unlink()
    (videos['audio'] / 'dora.mp4').rename(videos['audio'] / 'dora.WEBM')
    (videos['audio'] / '.DS_Store').touch()
    (videos['audio'] / 'anna_concat.mp4').write_bytes(FAKE)  # beside the truth
    study = page.write(tmp_path / 'index.html', videos, per_clip=2)
    assert (study.clips, study.left_out, study.each) == (('anna', 'cleo', 'dora'), ('bob',), 2)
    assert 'left out, since not every method has them: bob' in str(study)
    assert 'a rater sees 6 videos' in str(study)
    text = study.path.read_text()
    assert facts(text)['each'] == 2
    assert text.count('data-type="video/webm"') == 1


def _spoil(videos, what):
    folder = videos['audio']
    if what == 'missing':
        videos['audio'] = folder / 'nowhere'
    elif what == 'other':
        (folder / 'film.avi').touch()
    elif what == 'same':
        (folder.parent / 'link').symlink_to(videos['landmarks'])
        videos['audio'] = folder.parent / 'link'
    elif what == 'twice':
        (folder / 'anna.webm').write_bytes(FAKE)
    elif what == 'codec':
        (folder / 'anna.mp4').write_bytes(FAKE.replace(b'avc1', b'mp4v'))
    elif what == 'silent':
        (folder / 'anna.mp4').write_bytes(FAKE.replace(b'soun', b''))
    else:
        for path in sorted(folder.iterdir()):
            path.unlink() if what == 'empty' else path.rename(folder / f'x{path.name}')


@pytest.mark.parametrize(('what', 'sentence'), [
    ('missing', r'--videos=audio=.*nowhere: no such folder; want'),
    ('empty', r'--videos=audio=.*audio is empty; want'),
    ('other', r'--videos=audio=.* holds film.avi; want .mp4 and .webm'),
    ('same', r'--videos=audio=.*link is the folder of landmarks, too; want one folder a method'),
    ('twice', r'holds anna.mp4 and anna.webm; want one video a clip'),
    ('renamed', r'no clip is in all 3 folders \(landmarks: anna, ..; audio: xanna, ..; .*\); want'),
    ('codec', r'anna.mp4 holds no video that browsers play .*; want H.264'),
    ('silent', r'anna.mp4 has no sound.*; want'),
])
def test_mistakes_are_told(tmp_path, what, sentence):
    videos = folders(tmp_path)
    _spoil(videos, what)
    with pytest.raises(UserError, match=sentence):
        page.write(tmp_path / 'index.html', videos)
    assert not (tmp_path / 'index.html').exists()


def test_limits_are_told(tmp_path, monkeypatch):
    videos = folders(tmp_path)
    for each in (0, 4):
        with pytest.raises(UserError, match=rf'--per_clip={each}: .* see {each} videos of each clip; want 1 to 3'):
            page.write(tmp_path / 'index.html', videos, per_clip=each)
    for nothing in ({}, {' ': tmp_path}):
        with pytest.raises(UserError, match=r'--videos names the methods .*; want one NAME=FOLDER or more'):
            page.write(tmp_path / 'index.html', nothing)
    monkeypatch.setattr(page, 'LARGEST', 100)
    with pytest.raises(UserError, match=r'12 videos have 0 MB; want 0 MB at most'):
        page.write(tmp_path / 'index.html', videos)


def test_real_files_are_told_from_those_that_browsers_do_not_play(tmp_path):
    good = tiny_videos.write(tmp_path / 'good' / 'a.mp4')
    assert page.write(tmp_path / 'index.html', {'good': good.parent}).clips == ('a',)
    good = tiny_videos.write(tmp_path / 'web' / 'a.webm', video='libvpx-vp9', audio='libopus')
    assert page.write(tmp_path / 'index.html', {'web': good.parent}).clips == ('a',)
    old = tiny_videos.write(tmp_path / 'old' / 'a.mp4', video='mpeg4')
    with pytest.raises(UserError, match='MPEG-4 Part 2'):
        page.write(tmp_path / 'index.html', {'old': old.parent})
    silent = tiny_videos.write(tmp_path / 'silent' / 'a.mp4', audio=None)
    with pytest.raises(UserError, match='no sound'):
        page.write(tmp_path / 'index.html', {'silent': silent.parent})


def test_columns_hold_the_questions():
    assert [name for name, *_ in markup.QUESTIONS] == list(markup.COLUMNS[4:6])
