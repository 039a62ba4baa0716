"""Videos of any method beside the true ones: which belong together, in what form, and what they score."""

import dataclasses
import os

import numpy as np
import pytest
from toy_films import NumberDetector, landmarks, poses

from input_pipeline import media, video_pairs
from talkinghead_jax import command_line, specs
from talkinghead_jax.errors import UserError
from talkinghead_jax.protocols import folders, job
from talkinghead_jax.protocols.devices import local_devices
from talkinghead_jax.protocols.judges import judges
from talkinghead_jax.protocols.recipes import DETECTOR, RECIPES
from talkinghead_jax.protocols.results import TRUTH
from talkinghead_jax.protocols.scorers_in_time import DRIVING, MEDIAPIPE, Motion

SOUND = (np.sin(np.arange(16000) / 20) * 9000).astype(np.int16)  # 1 s


def picture(level, height=48, width=64):
    """An even upper left quarter, and a slope."""
    slope = np.linspace(0, 255, width)[None, :, None] * np.linspace(0.2, 1, height)[:, None, None]
    image = np.repeat(slope, 3, axis=2).astype(np.uint8)
    image[:height // 2, :width // 2] = level
    return image


def write(path, count=12, fps=25, sound=None, step=10, **size):
    path.parent.mkdir(parents=True, exist_ok=True)
    media.write_video(path, [picture(16 + step * t, **size) for t in range(count)], sound, fps)


@pytest.fixture
def reader():
    return folders.Reader(media.VIDEO_SUFFIXES, video_pairs.frames, video_pairs.measure, video_pairs.sound,
                          media.beside, video_pairs.resize)


def stack(frames):
    return np.stack(list(frames))


def test_videos_of_one_name_belong_together_and_the_others_are_counted(tmp_path, reader):
    for name in ('truth/a.mp4', 'truth/deep/b.mp4', 'truth/c.mp4', 'one/a.mkv', 'one/deep/b.mp4', 'one/d.mp4',
                 'two/a.mp4', 'two/c.mp4', 'two/deep/b.MP4'):
        write(tmp_path / name.replace('.MP4', '.mp4'), 3)
    (tmp_path / 'two/deep/b.mp4').rename(tmp_path / 'two/deep/b.MP4')
    (tmp_path / 'one/a.txt').write_text('no video')
    given = command_line.folders([f'Ours={tmp_path / "one"}', str(tmp_path / 'two')], 'generated')
    plan = folders.plan(given, tmp_path / 'truth', reader)
    assert (plan.protocol, plan.dataset, plan.count, plan.baselines) == ('folders', '', 2, (TRUTH,))
    assert plan.labels == {'Ours': 'Ours', 'two': 'two', TRUTH: 'True video'}
    assert [plan.film(i).clip_id for i in range(2)] == ['a', 'deep/b']
    assert set(plan.film(1).rows) == {'Ours', 'two'}
    assert plan.facts | {'contents': ''} == {
        'truth': str(tmp_path / 'truth'), 'method Ours': str(tmp_path / 'one'),
        'method two': str(tmp_path / 'two'), 'crop': 'none', 'videos': '2', 'contents': '',
        'reference': 'first frame of the true video, which does not count',
        'left out': '1 of truth, 1 of Ours, 1 of two'}
    again = folders.plan(given, tmp_path / 'truth', reader)
    assert again.facts == plan.facts
    os.utime(tmp_path / 'one/a.mkv', ns=(0, 0))  # another video of that name
    changed = folders.plan(given, tmp_path / 'truth', reader).facts['contents']
    assert changed != plan.facts['contents']
    (tmp_path / 'one/a.wav').touch()  # sound is the true video's
    assert folders.plan(given, tmp_path / 'truth', reader).facts['contents'] == changed
    (tmp_path / 'truth/a.wav').touch()
    assert folders.plan(given, tmp_path / 'truth', reader).facts['contents'] != changed


def test_published_rows_are_those_of_the_table_that_is_named(tmp_path, reader):
    for name in ('truth/a.mp4', 'one/a.mp4'):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    plan = folders.plan({'one': tmp_path / 'one'}, tmp_path / 'truth', reader, dataset='lrw', table='audio_driven')
    assert (plan.protocol, plan.dataset, plan.facts['table']) == ('folders', 'lrw', 'audio_driven')
    plan = folders.plan({'one': tmp_path / 'one'}, tmp_path / 'truth', reader)
    assert (plan.dataset, plan.facts.get('table')) == ('', None)


def test_what_is_no_video_is_not_taken_for_one(tmp_path, reader):
    for name in ('truth/a.mp4', 'truth/.b.mp4', 'one/a.mp4', 'one/a_concat.mp4', 'one/.b.mp4', 'one/.kept/a.mp4',
                 'two/a.mp4', 'two/x_concat.mp4', 'truth/x_concat.mp4', 'one/x_concat.mp4'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for folder in ('truth', 'one', 'two'):
        (tmp_path / folder / 'c.mp4').symlink_to('nowhere.mp4')
        (tmp_path / folder / 'z.mp4').mkdir()
    plan = folders.plan({name: tmp_path / name for name in ('one', 'two')}, tmp_path / 'truth', reader)
    assert plan.count == 2  # a, and x_concat, beside which there is no x
    assert plan.facts['left out'] == 'none'


def test_sizes_and_frame_rates_are_brought_together(tmp_path, reader):
    write(tmp_path / 'truth/a.mp4', 24, 12, np.tile(SOUND, 2))  # 2 s
    write(tmp_path / 'same/a.mp4', 50, 25, step=4, height=96, width=128)
    write(tmp_path / 'short/a.mp4', 48, 25, step=4, height=192, width=256)  # 4 % shorter
    plan = folders.plan({name: tmp_path / name for name in ('same', 'short')}, tmp_path / 'truth', reader)
    assert plan.facts['left out'] == 'none'
    film = plan.film(0)
    assert len(film) == 48
    assert film.landmarks is film.pose is None
    assert film.audio.shape == (48, 640)
    assert film.audio.dtype == np.int16
    assert 5000 < film.audio[5:-5].std() < 7000
    true, same, short = map(stack, (film.truth, *(film.rows[name].frames for name in ('same', 'short'))))
    assert true.shape[1:] == same.shape[1:] == short.shape[1:] == (256, 256, 3)
    np.testing.assert_array_equal(film.reference, true[0])
    assert film.scored.tolist() == [False, *[True] * 47]  # that frame is the reference
    assert 'squeezed' in plan.picture
    assert len(true) == len(same) == 50  # of which the first 48 are taken
    levels = [of[:48, 40:80, 40:80].mean((1, 2, 3)) for of in (true, same, short)]
    # At 12 a second each picture is shown about twice.
    np.testing.assert_allclose(levels[0], 16 + 10 * np.arange(48) * 12 / 25, atol=12)
    np.testing.assert_allclose(levels[1], 16 + 4 * np.arange(48), atol=3)
    np.testing.assert_allclose(levels[2], 16 + 4 * np.arange(48), atol=3)


def test_equal_rates_agree_frame_by_frame_whatever_they_are(tmp_path, reader):
    """The same two seconds at 12 and at 25 frames a second: the same time shows the same picture."""
    slow = [picture(16 + 8 * t) for t in range(24)]
    media.write_video(tmp_path / 'slow.mp4', slow, fps=12)
    shown = [slow[min(23, int((t / 25 + 0.5 / 25) * 12))] for t in range(50)]
    media.write_video(tmp_path / 'fast.mp4', shown, fps=25)
    assert reader.measure(tmp_path / 'slow.mp4') == reader.measure(tmp_path / 'fast.mp4') == (50, 48, 64)
    both = [stack(reader.frames(tmp_path / name)).astype(int) for name in ('slow.mp4', 'fast.mp4')]
    assert np.abs(both[0] - both[1]).mean((1, 2, 3)).max() < 2


def warning(caplog):
    """The one that was logged since the last time."""
    (record,) = caplog.records
    caplog.clear()
    return record.getMessage()


def test_a_clip_of_several_lengths_is_left_out(tmp_path, reader, caplog):
    write(tmp_path / 'truth/a.mp4', 20)
    write(tmp_path / 'one/a.mp4', 17)
    plan = folders.plan({'one': tmp_path / 'one'}, tmp_path / 'truth', reader)
    film = plan.film(0)
    assert (film.clip_id, len(film), len(plan.film(0))) == ('a', 0, 0)
    assert warning(caplog) == (f'clip a is left out: {tmp_path}/one/a.mp4 has 17 frames at 25 a second, and '
                               f'{tmp_path}/truth/a.mp4 has 20; want at most 10% less')
    write(tmp_path / 'one/a.mp4', 18)
    film = plan.film(0)
    assert len(film) == len(stack(film.rows['one'].frames)) == 18
    assert film.audio is None  # there is no sound


def test_a_clip_with_a_file_of_no_use_is_left_out(tmp_path, reader, caplog):
    for name in ('truth/a.mp4', 'truth/b.mp4', 'truth/c.mp4', 'truth/d.mp4', 'one/b.mp4', 'one/c.mp4', 'one/d.mp4'):
        write(tmp_path / name, 3)
    (tmp_path / 'one/a.mp4').write_text('Dear video, ' * 100)
    write(tmp_path / 'one/b.mp4', 3, height=64)
    (tmp_path / 'truth/c.wav').write_text('no sound')
    plan = folders.plan({'one': tmp_path / 'one'}, tmp_path / 'truth', reader)
    sentences = ('one/a.mp4 is neither a video',
                 f'one/b.mp4 has frames of 64 x 64, and {tmp_path}/truth/b.mp4 of 64 x 48; want the same aspect',
                 'truth/c.wav is neither a video')
    for number, words in enumerate(sentences):
        assert len(plan.film(number)) == 0
        assert words in warning(caplog)
    assert len(plan.film(3)) == 3
    assert not caplog.records


def test_sound_is_filled_up_and_cut(tmp_path, reader):
    write(tmp_path / 'truth/a.mp4', 20)
    write(tmp_path / 'one/a.mp4', 20)
    for count in (0.5, 2):
        sound = np.arange(16000 * count).astype(np.int16)
        short = dataclasses.replace(reader, sound=lambda path, sound=sound: sound)
        audio = folders.plan({'one': tmp_path / 'one'}, tmp_path / 'truth', short).film(0).audio
        assert audio.shape == (20, 640)
        np.testing.assert_array_equal(audio.reshape(-1), np.pad(sound, (0, 20 * 640))[:20 * 640])


@pytest.mark.parametrize(('make', 'match'), [
    ((), r'truth is no folder; want one with videos'),
    (('truth/a.mp4',), r'one is no folder; want one with videos'),
    (('truth/a.mp4', 'one/a.txt'), r'one holds no video; want files with one of \.mp4, \.mov'),
    (('truth/a.mp4', 'one/b.mp4', 'one/c.mp4'), r'no video is in all folders .*truth: a, one: b\); want the same'),
    (('truth/a.mp4', 'truth/a.mkv', 'one/a.mp4'), r'truth/a\.mp4 and .*truth/a\.mkv have one name; want one')])
def test_folders_that_do_not_fit_are_told_of(tmp_path, reader, make, match):
    for name in make:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=match):
        folders.plan({'one': tmp_path / 'one'}, tmp_path / 'truth', reader)


def test_names_and_crops_that_do_not_fit_are_told_of(tmp_path, reader):
    for name in (TRUTH, 'a/b'):
        with pytest.raises(UserError, match=rf'--generated={name}=.*: a method cannot be called {name}; want'):
            folders.plan({name: tmp_path}, tmp_path, reader)
    with pytest.raises(UserError, match=r'--crop=head: unknown; want one of none, face'):
        folders.plan({'one': tmp_path}, tmp_path, reader, 'head')


def test_what_the_reader_cuts_is_shown_of_all(tmp_path, reader, caplog):
    for name in ('truth/a.mp4', 'one/a.mp4', 'truth/b.mp4', 'one/b.mp4'):
        write(tmp_path / name, 3)

    def face(path):
        if path.stem == 'b':
            raise UserError(f'{path}: no face')
        return lambda frames: (frame[:16, :16] for frame in frames)

    with_faces = dataclasses.replace(reader, face=face, face_facts={'square': 'small'})
    plan = folders.plan({'one': tmp_path / 'one'}, tmp_path / 'truth', with_faces, 'face')
    assert (plan.facts['crop'], plan.facts['square']) == ('face', 'small')
    assert 'face' in plan.picture
    film = plan.film(0)
    expected = stack(media.Video(tmp_path / 'truth/a.mp4'))[:, :16, :16]
    np.testing.assert_array_equal(stack(film.truth), expected)
    np.testing.assert_array_equal(film.reference, expected[0])
    np.testing.assert_array_equal(stack(film.rows['one'].frames), expected)
    assert len(plan.film(1)) == 0
    assert warning(caplog) == f'clip b is left out: {tmp_path}/truth/b.mp4: no face'
    assert 'square' not in folders.plan({'one': tmp_path / 'one'}, tmp_path / 'truth', with_faces).facts


@pytest.mark.usefixtures('quick_compilation')
def test_identical_folders_are_perfect_and_another_is_not(tmp_path, reader, monkeypatch):
    monkeypatch.setenv('TALKINGHEAD_ASSETS', str(tmp_path / 'assets'))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    for folder in ('truth', 'same'):
        write(tmp_path / folder / 'a.mp4', 6, sound=SOUND)
    write(tmp_path / 'other' / 'a.mp4', 6, step=25, height=96, width=128)
    monkeypatch.setattr(specs, 'CROP_SIZE', 64)  # a sixteenth of the work
    detector = NumberDetector(landmarks(poses(0, 256)))
    given = {name: tmp_path / name for name in ('same', 'other')}
    motion = {name for kind in (DRIVING, MEDIAPIPE) for name in Motion(kind).names}
    by = judges(local_devices(4, 1), detector, [name for name in RECIPES if name not in motion])
    found = job.run(tmp_path, folders.plan(given, tmp_path / 'truth', reader), by)
    perfect = {'ssim@authors': 1, 'ssim@wang': 1, 'psnr@rgb': 100,
               'lmd@mean20-mediapipe': 0, 'lmd@sum20-mediapipe': 0,
               'm_lmd@interocular-mediapipe': 0, 'f_lmd@interocular-mediapipe': 0, 'detection_failure@mediapipe': 0,
               'temporal_difference_error': 0, 'background_flicker': 0}
    for name, value in perfect.items():
        assert found.mean('same', name) == pytest.approx(value, abs=1e-5), name
        assert found.mean('other', name) != pytest.approx(value, abs=1e-5) or name.startswith('detection'), name
    # What needs a network says so, and has no value.
    assert {name for name, recipe in RECIPES.items() if set(recipe.needs) - {DETECTOR}} == set(found.notes)
    assert all(note.startswith('not computed: needs ') for note in found.notes.values())
    for row in found.labels:
        assert not {*found.per_clip[row], *found.pooled.get(row, {})} & set(found.notes)
    assert found.recipes['ssim@authors']['picture'].startswith('whole picture, brought to 256 x 256 px')


def test_without_a_detector_what_it_would_tell_is_named(tmp_path, reader):
    for folder in ('truth', 'one'):
        write(tmp_path / folder / 'a.mp4', 3)
    by = judges(local_devices(4, 1), None, ['rotation_deg@mediapipe'])
    found = job.run(tmp_path, folders.plan({'one': tmp_path / 'one'}, tmp_path / 'truth', reader), by)
    assert found.notes['rotation_deg@mediapipe'] == f'not computed: needs {DETECTOR}'
    assert found.metrics() == []
