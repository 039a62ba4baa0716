"""The published trees of films in miniature, from excerpts of real clips and from clips with something wrong."""

import fractions
import pathlib
import shutil
from collections.abc import Callable

import av
import numpy as np

from input_pipeline import media

FRAMES = 30
LONG = 60  # of two of the good clips of GRID, whose published ones have 75
GOOD = ('voxceleb2/00086.mp4', 'voxceleb2/00373.mp4', 'voxceleb2/00098.mp4')  # two to train with, one to test
BAD = {'corrupt': 'unreadable', 'nobody': 'no_face', 'silent': 'no_sound', 'swap': 'two_people', 'short': 'too_short'}
DATASETS = ('voxceleb2', 'lrs3_ted', 'lrw', 'grid', 'crema_d')
SUFFIXES = {'grid': '.mpg', 'crema_d': '.flv'}  # .mp4 elsewhere
# As published: codec, frames a second, codec and samples a second of the sound.
_CODECS = {'.mpg': ('mpeg1video', 25, 'mp2', 44_100), '.flv': ('flv1', 30, 'mp3', 44_100)}


def write_masters(clips: pathlib.Path, folder: pathlib.Path) -> None:
    """`good0` .. `good2` and one file of each kind of `BAD`, as .mp4, .mpg and .flv.

    The second has no sound, which lies in `good1.m4a`. Two of the .mpg files have `LONG` frames.
    """
    folder.mkdir()

    def write(name: str, frames: np.ndarray, sound: np.ndarray | None) -> None:
        for suffix in ('.mp4', *_CODECS):
            _write_video(folder / f'{name}{suffix}', frames, sound)

    films = [(media.read_video(clips / name, 2 * FRAMES), media.read_audio(clips / name)[:2 * FRAMES * 640])
             for name in GOOD]
    for i, (frames, sound) in enumerate(films):
        write(f'good{i}', frames[:FRAMES], sound[:FRAMES * 640] if i != 1 else None)
        if i != 1:
            _write_video(folder / f'good{i}.mpg', frames[:LONG], sound[:LONG * 640])
    _write_sound(folder / 'good1.m4a', films[1][1][:FRAMES * 640])
    (first, sound), (second, _) = films[0], films[2]
    for suffix in ('.mp4', *_CODECS):
        (folder / f'corrupt{suffix}').write_bytes(np.random.default_rng(0).bytes(20_000))
    write('nobody', np.full((FRAMES, 224, 224, 3), 90, np.uint8), sound[:FRAMES * 640])
    write('silent', first[:FRAMES], np.zeros(FRAMES * 640, np.int16))
    write('swap', np.concatenate([first[:FRAMES], second[:FRAMES]]), sound)
    write('short', first[:12], sound[:12 * 640])


def plant(dataset: str, masters: pathlib.Path, root: pathlib.Path) -> None:
    """The tree of `dataset`: `GOOD` and everything of `BAD`, as the publisher would name and place them."""
    def put(name: str, *parts: str) -> None:
        target = root.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(masters / name, target)

    PLANTERS[dataset](put, root)


def _voxceleb2(put: Callable, root: pathlib.Path) -> None:
    put('good0.mp4', 'dev/mp4/id00012/21Uxsk56VDQ/00001.mp4')
    put('good1.mp4', 'dev/mp4/id00015/0fijmz4vTVU/00001.mp4')
    put('good1.m4a', 'dev/aac/id00015/0fijmz4vTVU/00001.m4a')
    put('good2.mp4', 'test/mp4/id00017/01dfn2spqyE/00001.mp4')
    for i, name in enumerate(BAD):
        put(f'{name}.mp4', f'dev/mp4/id00012/2DLq_Kkc1r8/{i + 2:05d}.mp4')


def _lrs3_ted(put: Callable, root: pathlib.Path) -> None:
    put('good0.mp4', 'pretrain/0af00UcTOSc/50001.mp4')
    put('good1.mp4', 'trainval/0Fi83BHQsMA/00002.mp4')
    put('good1.m4a', 'trainval/0Fi83BHQsMA/00002.m4a')
    put('good2.mp4', 'test/0Fi83BHQsMB/00002.mp4')
    for path in root.rglob('*.mp4'):
        path.with_suffix('.txt').write_text('Text:  AND THAT IS WHY\nConf:  4\n')
    for i, name in enumerate(BAD):
        put(f'{name}.mp4', f'trainval/0Fi83BHQsMA/{i + 3:05d}.mp4')


def _lrw(put: Callable, root: pathlib.Path) -> None:
    put('good0.mp4', 'lipread_mp4/ABOUT/train/ABOUT_00001.mp4')
    put('good1.mp4', 'lipread_mp4/YOUNG/train/YOUNG_00001.mp4')
    put('good1.m4a', 'lipread_mp4/YOUNG/train/YOUNG_00001.m4a')
    put('good2.mp4', 'lipread_mp4/ABOUT/test/ABOUT_00001.mp4')
    for i, name in enumerate(BAD):
        put(f'{name}.mp4', f'lipread_mp4/ABOUT/val/ABOUT_{i + 1:05d}.mp4')


def _grid(put: Callable, root: pathlib.Path) -> None:
    put('good0.mpg', 's3/bbaf2n.mpg')
    put('good1.mpg', 's4/video/mpg_6000/brbk7n.mpg')
    put('good1.m4a', 's4/video/mpg_6000/brbk7n.m4a')
    put('good2.mpg', 's1/lbax4n.mpg')
    (root / 's3/align').mkdir()
    (root / 's3/align/bbaf2n.align').write_text('0 9000 sil\n9000 15000 bin\n15000 20000 blue\n20000 74500 sil\n')
    for name, sentence in zip(BAD, ('lbbc2a', 'lrwp9a', 'lwbsza', 'sbia1a', 'swwp2s'), strict=True):
        put(f'{name}.mpg', f's3/{sentence}.mpg')


def _crema_d(put: Callable, root: pathlib.Path) -> None:
    put('good0.flv', 'VideoFlash/1001_DFA_ANG_XX.flv')
    put('good1.flv', 'VideoFlash/1002_IEO_HAP_HI.flv')
    put('good1.m4a', 'VideoFlash/1002_IEO_HAP_HI.m4a')
    put('good2.flv', 'VideoFlash/1091_WSI_NEU_XX.flv')
    for name, sentence in zip(BAD, ('IEO', 'TIE', 'IOM', 'IWW', 'TAI'), strict=True):
        put(f'{name}.flv', f'VideoFlash/1001_{sentence}_FEA_XX.flv')


PLANTERS = {'voxceleb2': _voxceleb2, 'lrs3_ted': _lrs3_ted, 'lrw': _lrw, 'grid': _grid, 'crema_d': _crema_d}


def _write_video(path: pathlib.Path, frames: np.ndarray, sound: np.ndarray | None) -> None:
    """(T, H, W, 3) at 25 frames a second and (A,) int16 at 16 kHz, in the codecs of the suffix."""
    if path.suffix not in _CODECS:
        media.write_video(path, frames, sound)
        return
    codec, rate, sound_codec, sound_rate = _CODECS[path.suffix]
    with av.open(str(path), 'w') as container:
        video = container.add_stream(codec, rate=rate)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt, video.bit_rate = 'yuv420p', 2_000_000
        audio = None if sound is None else container.add_stream(sound_codec, rate=sound_rate, layout='mono')
        for i in range(round(len(frames) * rate / 25)):
            frame = av.VideoFrame.from_ndarray(frames[min(i * 25 // rate, len(frames) - 1)], format='rgb24')
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            _encode(container, audio, sound)


def _write_sound(path: pathlib.Path, samples: np.ndarray) -> None:
    with av.open(str(path), 'w') as container:
        _encode(container, container.add_stream('aac', rate=16_000, layout='mono'), samples)


def _encode(container: av.container.OutputContainer, stream: av.AudioStream, samples: np.ndarray) -> None:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format='s16', layout='mono')
    frame.sample_rate, frame.pts, frame.time_base = 16_000, 0, fractions.Fraction(1, 16_000)
    resampler = av.AudioResampler(stream.format, 'mono', stream.rate, stream.codec_context.frame_size or 1152)
    for piece in [*resampler.resample(frame), *resampler.resample(None)]:
        container.mux(stream.encode(piece))
    container.mux(stream.encode(None))
