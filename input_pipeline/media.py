"""Video, audio and pictures in and out, by PyAV (FFmpeg's libraries) and Pillow.

Whatever comes in leaves as RGB frames at exactly 25 a second, upright and with square pixels, and as 16 kHz mono
sound whose first sample belongs to the first frame. FFmpeg skips what it cannot decode; the frame before a
damaged one is shown longer, so that sound and picture stay together.
"""

import contextlib
import fractions
import itertools
import os
import pathlib
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping

import av
import cv2
import numpy as np
from PIL import Image, ImageOps

from talkinghead_jax.errors import Unusable, UserError
from talkinghead_jax.specs import FRAME_RATE, SAMPLE_RATE

VIDEO_SUFFIXES = ('.mp4', '.mov', '.mkv', '.webm', '.avi', '.mpg', '.m4v', '.flv')
SOUND_SUFFIXES = ('.wav', '.m4a', '.flac')  # of a file beside a video without sound


class Video:
    """The frames of a video file, decoded anew each time it is iterated: memory holds one frame.

    Iterating yields (H, W, 3) uint8 RGB frames. Frame t shows the last source frame whose timestamp is at most
    t / 25 s plus half a frame, so variable rates are handled like constant ones.
    """

    def __init__(self, path: str | os.PathLike, max_frames: int | None = None):
        self.path = pathlib.Path(path)
        self.max_frames = max_frames

    def __iter__(self) -> Iterator[np.ndarray]:
        return itertools.islice(self._frames(), self.max_frames)

    def _frames(self) -> Iterator[np.ndarray]:
        rate = fractions.Fraction(FRAME_RATE)
        shown, due, end = None, 0, fractions.Fraction(0)
        with _open(self.path) as container:
            streams = _video_streams(container)
            if not streams:
                raise Unusable('unreadable', f'{self.path} has no video track; give a video')
            stream = streams[0]
            origin, time, count = None, fractions.Fraction(0), 0
            for frame in _decode(container, stream):
                time = end if frame.pts is None else frame.pts * frame.time_base
                origin = time if origin is None else origin
                while shown is not None and (due + fractions.Fraction(1, 2)) / rate < time - origin:
                    yield shown
                    due += 1
                shown, end, count = _upright(frame, stream), time + _duration(frame, stream), count + 1
            if shown is None:
                raise Unusable('unreadable', f'{self.path} holds no video frame that can be decoded')
            # The last frame is shown for its own duration; where that is a mere tick, for a mean one.
            mean = (time - origin) / max(count - 1, 1)
            end = end if end - time > mean / 2 else time + mean
            for _ in range(max(round((end - origin) * rate) - due, 1 if due == 0 else 0)):
                yield shown


def read_video(path: str | os.PathLike, max_frames: int | None = None) -> np.ndarray:
    """(T, H, W, 3) uint8 RGB at exactly 25 frames a second.

    The whole clip lies in memory (a minute of 1080p takes 9 GB): give `max_frames`, or iterate `Video`.

    Raises:
      UserError: the file is missing, is no video, or holds no frame that can be decoded.
    """
    return np.stack(list(Video(path, max_frames)))


def has_video(path: str | os.PathLike) -> bool:
    """Whether the file has a moving picture; sound with a cover picture has none.

    Raises:
      UserError: the file is missing, or is neither audio nor video.
    """
    with _open(pathlib.Path(path)) as container:
        return bool(_video_streams(container))


def read_frame(path: str | os.PathLike, number: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB: frame `number` of a video at 25 frames a second, or a picture whatever the number.

    Raises:
      UserError: the file is missing, is neither, or is too short.
    """
    if is_image(path):
        return read_image(path)
    frame = next(itertools.islice(Video(path), number, None), None)
    if frame is None:
        raise UserError(f'{path} has no frame {number} at 25 frames a second')
    return frame


def read_audio(path: str | os.PathLike) -> np.ndarray:
    """(A,) int16 16 kHz mono sound of an audio or video file; sample 0 belongs to the first video frame.

    Raises:
      UserError: the file is missing, is neither audio nor video, or has no sound that can be decoded.
    """
    path = pathlib.Path(path)
    with _open(path) as container:
        if not container.streams.audio:
            raise Unusable('no_sound', f'{path} has no audio track; give a file with sound')
        start, pieces = None, []
        resampler = av.AudioResampler(format='s16', layout='mono', rate=SAMPLE_RATE)
        for frame in _decode(container, container.streams.audio[0]):
            if start is None:
                start = 0 if frame.pts is None else frame.pts * frame.time_base
            pieces += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
        if start is None:
            raise Unusable('no_sound', f'the audio track of {path} holds no sound that can be decoded')
        pieces += [piece.to_ndarray()[0] for piece in resampler.resample(None)]
        videos = _video_streams(container)
        shift = start - (videos[0].start_time or 0) * videos[0].time_base if videos else 0
    samples, late = np.concatenate(pieces), round(shift * SAMPLE_RATE)
    return np.pad(samples, (late, 0)) if late > 0 else samples[-late:]


def audio_for(path: str | os.PathLike) -> np.ndarray:
    """(A,) int16: the file's own sound, else that of NAME.wav, .m4a or .flac beside it.

    Raises:
      UserError: neither has an audio track, or the file cannot be read.
    """
    path = pathlib.Path(path)
    with _open(path) as container:
        if container.streams.audio:
            return read_audio(path)
    for sound in beside(path):
        return read_audio(sound)
    names = ', '.join(path.with_suffix(suffix).name for suffix in SOUND_SUFFIXES)
    raise Unusable('no_sound', f'{path} has no audio track and none of {names} lies beside it')


def beside(path: str | os.PathLike, names: Collection[str] | None = None) -> list[str]:
    """The sound files that lie beside a video under its name, the preferred first.

    Args:
      path: of the video.
      names: of the files in its folder, where they are known; else the disk is asked.
    """
    stem = os.path.splitext(os.fspath(path))[0]
    sounds = [stem + suffix for suffix in SOUND_SUFFIXES if stem + suffix != os.fspath(path)]
    if names is None:
        return [sound for sound in sounds if os.path.isfile(sound)]
    return [sound for sound in sounds if os.path.basename(sound) in names]


def write_video(path: str | os.PathLike, frames: Iterable[np.ndarray], audio: np.ndarray | None = None,
                fps: int = FRAME_RATE, metadata: Mapping[str, str] | None = None) -> int:
    """Write H.264 (yuv420p, CRF 18) and AAC; returns the number of frames, exactly those given.

    Args:
      path: where; the suffix names the container (.mp4). Written under a temporary name in the same folder and
        renamed at the end, so a file under the final name is whole.
      frames: (H, W, 3) uint8 RGB, all of one size; odd sizes are padded by repeating the last row or column.
      audio: (A,) int16 16 kHz mono, or None for a silent file.
      fps: frames a second.
      metadata: container tags, such as 'comment'.

    Raises:
      UserError: no frames, an unknown suffix, or a folder that cannot be written.
    """
    path = pathlib.Path(path)
    temporary = _temporary(path)
    try:
        with av.open(temporary, 'w', options={'movflags': 'faststart'}) as container:
            container.metadata.update(metadata or {})
            count = _encode(container, path, frames, audio, fps)
        os.replace(temporary, path)
    except av.error.FFmpegError as error:
        raise UserError(f'cannot write {path}: {error.strerror}; give a writable folder') from error
    except ValueError as error:
        if 'format' not in str(error):
            raise
        raise UserError(f'{path.name} has no suffix of a video container; want NAME.mp4') from error
    finally:
        pathlib.Path(temporary).unlink(missing_ok=True)
    return count


def read_image(path: str | os.PathLike) -> np.ndarray:
    """(H, W, 3) uint8 RGB, turned upright as its EXIF orientation says.

    Raises:
      UserError: the file is missing or is not a picture.
    """
    _require(pathlib.Path(path))
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert('RGB'))
    except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError for some broken PNG files
        raise Unusable('unreadable', f'{os.fspath(path)} is not a picture: want PNG, JPEG, BMP or WebP') from error


def is_image(path: str | os.PathLike) -> bool:
    """True where the file is a single picture, by content and not by name; an animation is not."""
    with contextlib.suppress(OSError, SyntaxError), Image.open(path) as image:
        return getattr(image, 'n_frames', 1) == 1
    return False


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """(S, S, 3) uint8 to (size, size, 3): area averages going down, bicubic going up."""
    if image.shape[0] == size:
        return image
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if size < image.shape[0] else cv2.INTER_CUBIC)


def encode_jpeg(image: np.ndarray) -> bytes:
    """(H, W, 3) uint8 RGB to JPEG of quality 95 without colour subsampling, as clip records hold it."""
    done, data = cv2.imencode('.jpg', image[..., ::-1], [
        cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444])
    if not done:
        raise ValueError(f'cannot encode an image of shape {image.shape}')
    return data.tobytes()


def decode_jpeg(data: bytes) -> np.ndarray:
    """Inverse of `encode_jpeg`, up to the loss: (H, W, 3) uint8 RGB."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def _require(path: pathlib.Path) -> None:
    if not path.is_file():
        raise UserError(f'{path} is a folder; want a file' if path.is_dir() else f'{path} does not exist')


def _require_readable(path: pathlib.Path) -> None:
    """Whether the disk is to blame: then another day the file may be read, and half of it must not pass for all."""
    try:
        with path.open('rb') as file:
            while file.read(2 ** 20):
                pass
    except OSError as error:
        raise UserError(f'cannot read {path}: {error.strerror}; give a file that can be read') from error


def _open(path: pathlib.Path) -> av.container.InputContainer:
    _require(path)
    try:
        container = av.open(os.fspath(path), metadata_errors='replace')
    except (av.error.FFmpegError, OSError) as error:
        _require_readable(path)
        raise Unusable('unreadable', f'{path} is neither a video nor an audio file that can be decoded: '
                                     f'{error.strerror}') from error
    if container.format.name == 'tty':  # FFmpeg shows any .txt file as a film of a terminal
        container.close()
        raise Unusable('unreadable', f'{path} is a text file; want a video or an audio file')
    return container


def _video_streams(container: av.container.InputContainer) -> list[av.VideoStream]:
    """Its films: the cover picture of a song is none."""
    return [stream for stream in container.streams.video
            if not stream.disposition & av.stream.Disposition.attached_pic]


def _decode(container: av.container.InputContainer, stream: av.stream.Stream) -> Iterator[av.frame.Frame]:
    """Decode what can be decoded: a damaged packet costs its own frames only."""
    stream.codec_context.thread_count = 1  # what several make of damaged packets is another thing every time
    packets = container.demux(stream)
    while True:
        try:
            yield from next(packets).decode()
        except (StopIteration, av.error.EOFError):
            return
        except OSError:
            _require_readable(pathlib.Path(container.name))
        except av.error.FFmpegError:
            continue


def _duration(frame: av.VideoFrame, stream: av.VideoStream) -> fractions.Fraction:
    """Seconds that a frame is shown: its own word, else the stream's mean rate."""
    if frame.duration:
        return frame.duration * frame.time_base
    return 1 / (stream.average_rate or stream.guessed_rate or fractions.Fraction(FRAME_RATE))


def _upright(frame: av.VideoFrame, stream: av.VideoStream) -> np.ndarray:
    """RGB array, turned as the display matrix says, with square pixels."""
    aspect = stream.sample_aspect_ratio
    width = round(frame.width * aspect) if aspect else frame.width
    image = frame.to_ndarray(format='rgb24', width=width, height=frame.height)
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))


def _temporary(path: pathlib.Path) -> str:
    """A new empty file beside `path`, with the same suffix."""
    if path.is_dir():
        raise UserError(f'{path} is a folder; want a file name such as {path / "out.mp4"}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.stem}.', suffix=path.suffix)
    except OSError as error:
        raise UserError(f'cannot write {path}: {error.strerror}; give a writable folder') from error
    os.close(handle)
    os.chmod(name, 0o666 & ~_umask())  # mkstemp makes files that others cannot read
    return name


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _encode(container: av.container.OutputContainer, path: pathlib.Path, frames: Iterable[np.ndarray],
            audio: np.ndarray | None, fps: int) -> int:
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise UserError(f'cannot write {path}: no frames; a video needs at least one')
    height, width = first.shape[0] + first.shape[0] % 2, first.shape[1] + first.shape[1] % 2
    video = container.add_stream('libx264', rate=fps, options={'crf': '18'})
    video.width, video.height, video.pix_fmt = width, height, 'yuv420p'
    sound = None
    if audio is not None:
        sound = container.add_stream('aac', rate=SAMPLE_RATE, layout='mono')
    count = 0
    for count, image in enumerate(itertools.chain([first], frames), start=1):
        if image.shape != first.shape:
            raise ValueError(f'frame {count - 1} is {image.shape}, the first is {first.shape}')
        padded = np.pad(image, ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)), 'edge')
        container.mux(video.encode(av.VideoFrame.from_ndarray(padded, format='rgb24')))
    container.mux(video.encode(None))
    if sound is not None:
        _encode_sound(container, sound, audio)
    return count


def _encode_sound(container: av.container.OutputContainer, stream: av.AudioStream, audio: np.ndarray) -> None:
    position = 0
    for start in range(0, len(audio), SAMPLE_RATE):
        piece = np.ascontiguousarray(audio[start:start + SAMPLE_RATE], np.int16)
        frame = av.AudioFrame.from_ndarray(piece[None], format='s16', layout='mono')
        frame.sample_rate, frame.pts = SAMPLE_RATE, position
        frame.time_base = fractions.Fraction(1, SAMPLE_RATE)
        position += len(piece)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
