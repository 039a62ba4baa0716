"""How fast clips become records: python -m benchmarks.preparation --media=DIR [--part=stages,loop,workers,memory]

`stages` splits the time of a clip into decoding, tracking, geometry with the mesh, and writing. `loop` compares the
whole with a plain loop over the same libraries. `workers` compares a pool of two with one worker that is pinned to
one core. `memory` prepares 200 clips in one process. Ratios are of medians over `--repeats`, both sides in turn.
"""

import argparse
import contextlib
import os
import pathlib
import resource
import statistics
import tempfile
import time

import av
import cv2
import numpy as np

from input_pipeline import detectors, media, pool, preprocess, records
from input_pipeline.crop import static_crop
from input_pipeline.datasets import media_builder
from talkinghead_jax.specs import CHUNK, FRAME_RATE

MEMORY_CLIPS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--media', type=pathlib.Path, required=True, help='folder of 25 fps clips with sound')
    parser.add_argument('--landmarker', default='', help="MediaPipe's face_landmarker.task")
    parser.add_argument('--part', default='stages,loop,workers,memory')
    parser.add_argument('--repeats', type=int, default=3)
    arguments = parser.parse_args()
    paths = sorted(str(path) for path in arguments.media.rglob('*') if path.suffix.lower() in media.VIDEO_SUFFIXES)
    choice = detectors.choose('mediapipe', arguments.landmarker)
    for part in arguments.part.split(','):
        {'stages': stages, 'loop': loop, 'workers': workers, 'memory': memory}[part](paths, choice,
                                                                                     arguments.repeats)


def stages(paths: list[str], choice: detectors.Choice, repeats: int) -> None:
    """Seconds a frame of each part, on one core."""
    del repeats
    os.sched_setaffinity(0, {0})
    spent = dict.fromkeys(('open the detector', 'decode (once)', 'track', 'geometry and mesh', 'crop and JPEG',
                           'save'), 0.0)
    clock = _Clock(spent)
    count = seconds = size = 0
    stack = contextlib.ExitStack()
    detector = clock.time('open the detector', lambda: stack.enter_context(
        detectors.open_detector(choice)))
    for i, path in enumerate([paths[0], *paths]):  # the first warms up
        if i == 1:
            spent.update({name: 0.0 for name in spent if name != 'open the detector'})
        frames = clock.time('decode (once)', lambda path=path: list(media.Video(path)))
        found = clock.time('track', detector.detect, frames)
        whole = time.perf_counter()
        record, crop = preprocess.prepare_clip(frames, media.audio_for(path), _Replay(found, detector), path, path)
        whole = time.perf_counter() - whole
        before = spent['crop and JPEG']
        clock.time('crop and JPEG', lambda frames=frames, crop=crop: [
            media.encode_jpeg(crop.apply(frame, 256)) for frame in frames])
        spent['geometry and mesh'] += whole - (spent['crop and JPEG'] - before)
        with tempfile.TemporaryDirectory() as folder:
            clock.time('save', records.save_record, pathlib.Path(folder) / 'x.npz', record)
            if i:
                size += (pathlib.Path(folder) / 'x.npz').stat().st_size
        if i:
            count, seconds = count + len(frames), seconds + len(frames) / FRAME_RATE
    del spent['open the detector']
    spent['decode (again, to crop)'] = spent['decode (once)']
    total = sum(spent.values())
    print(f'{len(paths)} clips, {count} frames, one core: {count / total:.1f} frames/s/core, '
          f'{total / seconds:.2f} core-seconds and {size / seconds / 1e6:.3f} MB in the cache a clip-second')
    for name, value in spent.items():
        print(f'  {name:24} {1000 * value / count:7.2f} ms/frame {value / total:6.1%}')


def loop(paths: list[str], choice: detectors.Choice, repeats: int) -> None:
    """Our preparation against a plain loop of the same libraries, both in one process on one core."""
    os.sched_setaffinity(0, {0})
    ours, plain = [], []
    for _ in range(repeats):
        ours.append(_timed(_ours, paths, choice))
        plain.append(_timed(_plain, paths, choice))
    print(f'plain loop {statistics.median(plain):.1f} s, ours {statistics.median(ours):.1f} s: '
          f'ratio {statistics.median(ours) / statistics.median(plain):.2f} of the time')


def workers(paths: list[str], choice: detectors.Choice, repeats: int) -> None:
    """Two workers against one that is pinned to one core; both through the pool, each clip several times."""
    times: dict[int, list[float]] = {1: [], 2: []}
    every = os.sched_getaffinity(0)
    for _ in range(repeats):
        for count in times:
            with tempfile.TemporaryDirectory() as folder:
                sources = [media_builder.Source(path, clip_id=f'{path}{copy}') for path in paths for copy in range(2)]
                jobs = media_builder.media_jobs(sources, pathlib.Path(folder), preprocess.Options(), choice)
                os.sched_setaffinity(0, {min(every)} if count == 1 else every)
                times[count].append(_timed(pool.run, jobs, pathlib.Path(folder), count))
    os.sched_setaffinity(0, every)
    one, two = (statistics.median(times[count]) for count in times)
    print(f'one pinned worker {one:.1f} s, two workers {two:.1f} s: {one / two:.2f} times as fast')


def memory(paths: list[str], choice: detectors.Choice, repeats: int) -> None:
    """Resident memory while one process prepares many clips."""
    del repeats
    with tempfile.TemporaryDirectory() as folder:
        sources = [media_builder.Source(paths[i % len(paths)], clip_id=str(i)) for i in range(MEMORY_CLIPS)]
        jobs = media_builder.media_jobs(sources, pathlib.Path(folder), preprocess.Options(), choice)
        for i, job in enumerate(jobs, start=1):
            pool.make(job, pathlib.Path(folder))
            if i in (1, 10, 25, 50, 100, 150, 200):
                print(f'after {i:3} clips: {_resident():.0f} MiB', flush=True)
    print(f'largest: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB')


class _Clock:
    """Adds up seconds by name."""

    def __init__(self, spent: dict[str, float]):
        self.spent = spent

    def time(self, name: str, function, *arguments):
        start = time.perf_counter()
        result = function(*arguments)
        self.spent[name] += time.perf_counter() - start
        return result


class _Replay:
    """A detector that has already seen the clip."""

    def __init__(self, found, detector):
        self.name, self.triangles, self.found = detector.name, detector.triangles, found

    def detect(self, frames):
        del frames
        return self.found


def _ours(paths: list[str], choice: detectors.Choice) -> None:
    with tempfile.TemporaryDirectory() as folder, detectors.open_detector(choice) as detector:
        for path in paths:
            record = preprocess.prepare_media(path, detector)
            records.save_record(pathlib.Path(folder) / 'x.npz', record)


def _plain(paths: list[str], choice: detectors.Choice) -> None:
    """What one would write in an afternoon: a face in each frame, one crop a clip, JPEGs and landmarks in a file."""
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision
    options = vision.FaceLandmarkerOptions(BaseOptions(model_asset_path=choice.landmarker),
                                           running_mode=vision.RunningMode.IMAGE)
    with vision.FaceLandmarker.create_from_options(options) as marker, tempfile.TemporaryDirectory() as folder:
        for path in paths:
            with av.open(path) as container:
                frames = [frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)]
            points = []
            for frame in frames:
                image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=frame)
                height, width = frame.shape[:2]
                found = marker.detect(image).face_landmarks
                points.append([(p.x * width, p.y * height, -p.z * width) for p in found[0]] if found else points[-1])
            points = np.array(points, np.float32)
            crop = static_crop(points[:, :68])
            pictures = [cv2.imencode('.jpg', crop.apply(frame, 256)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
                        for frame in frames]
            sound = media.audio_for(path)[:len(frames) * CHUNK]
            np.savez(pathlib.Path(folder) / 'x.npz', points=points, sound=sound,
                     video=np.concatenate([picture.ravel() for picture in pictures]))


def _timed(function, *arguments) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def _resident() -> float:
    pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 2 ** 20


if __name__ == '__main__':
    main()
