"""Video, audio and pictures: exact rate, alignment, round trips, and one sentence for what cannot be read."""

import fractions
import struct

import av
import numpy as np
import pytest
from PIL import Image

from input_pipeline import media
from talkinghead_jax.errors import Unusable, UserError
from talkinghead_jax.specs import CHUNK


def grey_film(path, levels, milliseconds, size=(64, 48), aspect=None):
    """A film of grey frames shown at the given times."""
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=1000, options={'crf': '1', 'bf': '0'})
        stream.width, stream.height, stream.pix_fmt = *size, 'yuv420p'
        stream.codec_context.time_base = stream.time_base = fractions.Fraction(1, 1000)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for level, time in zip(levels, milliseconds, strict=True):
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), level, np.uint8), format='rgb24')
            frame.pts, frame.time_base = time, fractions.Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def shades(frames):
    return [int(round(frame.mean() / 10) * 10) for frame in frames]


def moving_square(count=30, size=(101, 67)):
    frames = np.full((count, size[1], size[0], 3), 40, np.uint8)
    for t in range(count):
        frames[t, 20:40, 10 + t:40 + t] = (200, 120, 60)
    return frames


def tone(samples):
    return (8000 * np.sin(2 * np.pi * 300 * np.arange(samples) / 16000)).astype(np.int16)


def test_variable_rate_shows_the_last_frame_due(tmp_path):
    grey_film(tmp_path / 'f.mp4', [50, 100, 150, 200, 250], [0, 30, 100, 230, 260])
    # Output frame t shows the last source frame at or before 40 t + 20 ms.
    frames = media.read_video(tmp_path / 'f.mp4', max_frames=7)
    assert shades(frames) == [50, 100, 150, 150, 150, 150, 250]


@pytest.mark.parametrize('rate', [12.5, 25, 30, 50, 60])
def test_any_rate_becomes_25(tmp_path, rate):
    times = [round(1000 * i / rate) for i in range(round(2 * rate))]
    levels = [50 + 10 * (i % 18) for i in range(len(times))]
    grey_film(tmp_path / 'f.mp4', levels, times)
    frames = media.read_video(tmp_path / 'f.mp4')
    assert len(frames) == 50
    due = [max(i for i, time in enumerate(times) if time <= 40 * t + 20) for t in range(len(frames))]
    assert shades(frames) == [levels[i] for i in due]


def test_late_start_is_the_origin(tmp_path):
    grey_film(tmp_path / 'f.mp4', [50, 100, 150], [500, 540, 580])
    assert shades(media.read_video(tmp_path / 'f.mp4', max_frames=3)) == [50, 100, 150]


def test_frames_are_upright(tmp_path):
    path = tmp_path / 'f.mp4'
    media.write_video(path, moving_square())
    plain = media.read_video(path)
    data = bytearray(path.read_bytes())
    matrix = data.index(b'tkhd') + 4 + 40  # version 0: the display matrix follows 40 bytes of header
    one = 1 << 16
    data[matrix:matrix + 36] = struct.pack('>9i', 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)  # turned clockwise
    path.write_bytes(data)
    turned = media.read_video(path)
    np.testing.assert_array_equal(turned, np.rot90(plain, -1, axes=(1, 2)))


def test_pixels_are_square(tmp_path):
    grey_film(tmp_path / 'f.mp4', [90] * 3, [0, 40, 80], aspect=fractions.Fraction(2, 1))
    assert media.read_video(tmp_path / 'f.mp4').shape[1:] == (48, 128, 3)


def test_written_film_reads_back(tmp_path):
    frames, sound = moving_square(), tone(30 * CHUNK)
    path = tmp_path / 'new folder' / 'out.mp4'
    assert media.write_video(path, iter(frames), sound, metadata={'comment': 'made here'}) == 30
    back = media.read_video(path)
    assert back.shape == (30, 68, 102, 3)  # even sides
    assert np.abs(back[:, :67, :101].astype(int) - frames).mean() < 4
    np.testing.assert_array_less(np.abs(back[:, 67].astype(int) - back[:, 66]).mean(), 4)
    heard = media.read_audio(path)[:len(sound)].astype(float)
    assert np.corrcoef(heard[2000:-2000], sound[2000:-2000])[0, 1] > 0.99  # same sound, not shifted
    with av.open(str(path)) as container:
        video, audio = container.streams
        assert (video.codec_context.name, video.codec_context.pix_fmt, video.frames) == ('h264', 'yuv420p', 30)
        assert (audio.codec_context.name, video.average_rate) == ('aac', 25)
        assert container.metadata['comment'] == 'made here'
    assert [file.name for file in path.parent.iterdir()] == ['out.mp4']  # no temporary file is left


def test_failed_write_leaves_nothing(tmp_path):
    def frames():
        yield moving_square()[0]
        raise RuntimeError('renderer died')
    with pytest.raises(RuntimeError, match='renderer died'):
        media.write_video(tmp_path / 'out.mp4', frames())
    assert not list(tmp_path.iterdir())


def test_sound_keeps_its_offset_to_the_picture(tmp_path):
    """Sound that starts 0.2 s after the picture is preceded by 0.2 s of silence."""
    path = tmp_path / 'late.mkv'
    with av.open(str(path), 'w') as container:
        video = container.add_stream('libx264', rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, 'yuv420p'
        sound = container.add_stream('pcm_s16le', rate=16000, layout='mono')
        for _ in range(25):
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format='rgb24')))
        container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(tone(8000)[None], format='s16', layout='mono')
        frame.sample_rate, frame.pts, frame.time_base = 16000, 3200, fractions.Fraction(1, 16000)
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    heard = media.read_audio(path)
    assert abs(np.flatnonzero(heard)[0] - 3200) <= 16
    assert abs(len(heard) - 11200) <= 16


def test_real_clips(shared_data):
    clips = shared_data / 'clips'
    assert media.read_video(clips / 'grid/bbaf2n.mpg').shape == (75, 288, 360, 3)
    assert abs(len(media.read_audio(clips / 'grid/bbaf2n.mpg')) - 2.95 * 16000) < 0.05 * 16000  # 44.1 kHz stereo
    assert media.read_video(clips / 'voxceleb2/00010.mp4').shape == (106, 224, 224, 3)
    assert media.read_video(clips / 'hdtf/WDA_AlexandriaOcasioCortez_000.mp4', max_frames=50).shape[0] == 50
    assert sum(1 for _ in media.Video(clips / 'styletalk/feifeili_clip1.mp4')) == 252  # 302 frames at 30 a second
    assert sum(1 for _ in media.Video(clips / 'studio/face_1.mp4')) == 152  # 135 frames at 22.1 a second


def test_sound_beside_a_silent_film(shared_data):
    film = shared_data / 'clips/styletalk/feifeili_clip1.mp4'
    assert len(media.audio_for(film)) == 160125
    with pytest.raises(UserError, match='no audio track'):
        media.read_audio(film)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / 'text.mp4'
    path.write_text('not a film\n' * 100)
    return path


@pytest.mark.parametrize('read', [media.read_video, media.read_audio, media.audio_for])
def test_unreadable_files(tmp_path, text, read):
    with pytest.raises(UserError, match=r'none\.mp4 does not exist'):
        read(tmp_path / 'none.mp4')
    with pytest.raises(UserError, match='is a folder'):
        read(tmp_path)
    with pytest.raises(UserError, match=r'text\.mp4 is neither a video nor an audio file'):
        read(text)
    with pytest.raises(UserError, match=r'text\.txt is a text file'):
        read(text.rename(tmp_path / 'text.txt'))


def test_missing_tracks(tmp_path):
    media.write_video(tmp_path / 'silent.mp4', moving_square(3))
    with pytest.raises(UserError, match=r'no audio track and none of silent\.wav'):
        media.audio_for(tmp_path / 'silent.mp4')
    with av.open(str(tmp_path / 'sound.wav'), 'w') as container:
        stream = container.add_stream('pcm_s16le', rate=16000, layout='mono')
        frame = av.AudioFrame.from_ndarray(tone(3200)[None], format='s16', layout='mono')
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
    np.testing.assert_array_equal(media.read_audio(tmp_path / 'sound.wav'), tone(3200))
    with pytest.raises(UserError, match=r'sound\.wav has no video track'):
        media.read_video(tmp_path / 'sound.wav')


def test_truncated_film_gives_what_is_there(tmp_path, shared_data):
    data = (shared_data / 'clips/grid/bbaf2n.mpg').read_bytes()
    (tmp_path / 'half.mpg').write_bytes(data[:len(data) // 2])
    assert 25 < len(media.read_video(tmp_path / 'half.mpg')) < 50
    film = (shared_data / 'clips/voxceleb2/00010.mp4').read_bytes()
    (tmp_path / 'half.mp4').write_bytes(film[:len(film) // 2])  # its index, at the end, is lost
    with pytest.raises(UserError, match=r'half\.mp4'):
        media.read_video(tmp_path / 'half.mp4')


def test_outputs_that_cannot_be_written(tmp_path, text):
    frames = moving_square(2)
    with pytest.raises(UserError, match='cannot write'):
        media.write_video(text / 'out.mp4', frames)  # below a file: unwritable for root, too
    with pytest.raises(UserError, match='is a folder'):
        media.write_video(tmp_path, frames)
    with pytest.raises(UserError, match=r'out\.abc has no suffix of a video container'):
        media.write_video(tmp_path / 'out.abc', frames)
    with pytest.raises(UserError, match='no frames'):
        media.write_video(tmp_path / 'out.mp4', [])
    assert [file.name for file in tmp_path.iterdir()] == ['text.mp4']


def test_pictures(tmp_path, text):
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[:5] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise
    Image.fromarray(picture).save(tmp_path / 'turned.png', exif=exif)
    np.testing.assert_array_equal(media.read_image(tmp_path / 'turned.png'), np.rot90(picture, -1))
    assert media.is_image(tmp_path / 'turned.png')
    assert not media.is_image(text)
    assert not media.is_image(tmp_path / 'none.png')
    with pytest.raises(UserError, match='is not a picture'):
        media.read_image(text)
    with pytest.raises(UserError, match='does not exist'):
        media.read_image(tmp_path / 'none.png')


def test_jpeg_keeps_colour_edges():
    frame = moving_square(1)[0]
    data = media.encode_jpeg(frame)
    assert np.abs(media.decode_jpeg(data).astype(int) - frame).max() < 24  # 4:2:0 would bleed by more than 60
    assert data == media.encode_jpeg(frame)


def test_a_disk_that_fails_is_no_fault_of_the_file(tmp_path, monkeypatch):
    path = tmp_path / 'film.mp4'
    path.write_bytes(bytes(1000))

    def fail(*arguments, **options):
        raise OSError(5, 'Input/output error')

    monkeypatch.setattr(media.av, 'open', fail)
    with pytest.raises(Unusable) as caught:  # the file can be read: what FFmpeg dislikes is in it
        media.read_video(path)
    assert caught.value.reason == 'unreadable'
    monkeypatch.setattr(media.pathlib.Path, 'open', fail)
    with pytest.raises(UserError, match=r'cannot read .*film\.mp4: Input/output error') as caught:
        media.read_video(path)
    assert not isinstance(caught.value, Unusable)  # tried again the next time


def test_a_damaged_film_is_the_same_film_every_time(tmp_path):
    """FFmpeg's threads do not wait for each other's damaged frames."""
    texture = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    path = tmp_path / 'f.mp4'
    media.write_video(path, (texture[t:t + 192, 2 * t % 64:2 * t % 64 + 192] for t in range(60)))
    data = bytearray(path.read_bytes())
    pictures = data.index(b'mdat')
    length = len(data) - pictures
    for place in np.random.default_rng(2).integers(pictures + length // 10, pictures + length * 9 // 10, 30):
        data[place] ^= 255
    path.write_bytes(data)
    frames = media.read_video(path)
    assert len(frames) == 60
    for _ in range(4):
        np.testing.assert_array_equal(media.read_video(path), frames)
