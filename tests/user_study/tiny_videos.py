"""Videos of half a second, as small as they get, with a tone for speech."""

import pathlib

import av
import numpy as np


def write(path: pathlib.Path, shade: int = 0, size: int = 32, frames: int = 10, video: str = 'libx264',
          audio: str | None = 'aac') -> pathlib.Path:
    """A grey square that brightens and, if `audio` names a codec, a tone of the same length."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), 'w') as container:
        picture = container.add_stream(video, rate=25)
        picture.width, picture.height, picture.pix_fmt = size, size, 'yuv420p'
        sound = container.add_stream(audio, rate=48000, layout='mono') if audio else None
        for number in range(frames):
            grey = np.full((size, size, 3), (shade + 8 * number) % 256, np.uint8)
            container.mux(picture.encode(av.VideoFrame.from_ndarray(grey, format='rgb24')))
        container.mux(picture.encode())
        if sound:
            wave = 3000 * np.sin(2 * np.pi * 330 * np.arange(48000 * frames // 25) / 48000)
            tone = av.AudioFrame.from_ndarray(wave.astype(np.int16)[None], format='s16', layout='mono')
            tone.sample_rate = 48000
            resampler = av.AudioResampler(sound.format, sound.layout, sound.rate, frame_size=sound.frame_size)
            for part in (*resampler.resample(tone), *resampler.resample(None)):
                container.mux(sound.encode(part))
            container.mux(sound.encode())
    return path
