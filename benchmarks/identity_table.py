"""Whether CSIM tells real people apart: cosines of MobileFaceNet's embeddings, same persons against different ones.

    python -m benchmarks.identity_table [--data=../shared/data] [--frames=4] [--crops=FOLDER]

Three tables in Markdown, of portraits, of clips, and of all of them: the mean, the least and the greatest cosine
over all pairs of pictures of the two. Each ends by saying whether pairs of one person lie above all pairs of two.
"""

import argparse
import itertools
import pathlib
from collections.abc import Iterator, Mapping

import cv2
import jax
import numpy as np

from input_pipeline import face_tracking, media
from talkinghead_jax.metrics import identity
from third_party.mobilefacenet import convert

# Persons by the numbers of the source list; those of portraits who are in no clip by their names.
PORTRAITS = {
    'astronaut_eileen_collins.png': 'Collins', 'biden.jpg': 'Biden', 'einstein_liveportrait_s12.jpg': 'Einstein',
    'grace_hopper.bmp': 'Hopper', 'obama.jpg': 17, 'obama2.jpg': 17,
    'young_woman_liveportrait_s42.jpg': 'young woman',
}
CLIPS = {
    'styletalk/Obama_clip1.mp4': 17, 'styletalk/Obama_clip2.mp4': 17, 'styletalk/feifeili_clip1.mp4': 19,
    'styletalk/feifeili_clip2_short.mp4': 19, 'voxceleb2/741400104.mp4': 36, 'voxceleb2/741400163.mp4': 36,
    'hdtf/WDA_AlexandriaOcasioCortez_000.mp4': 14, 'styletalk/KristiNoem.mp4': 16, 'styletalk/andrew_clip_1.mp4': 18,
    'styletalk/reagan_clip1.mp4': 20, 'studio/face_1.mp4': 22, 'studio/face_2.mp4': 23, 'studio/face_5.mp4': 25,
    'voxceleb2/517600055.mp4': 26, 'voxceleb2/00010.mp4': 27, 'voxceleb2/00015.mp4': 28, 'voxceleb2/00086.mp4': 29,
    'voxceleb2/00098.mp4': 30, 'voxceleb2/00373.mp4': 31, 'voxceleb2/620900105.mp4': 33,
    'voxceleb2/731200067.mp4': 35,
    'grid/bbaf2n.mpg': 4, 'grid/brbk7n.mpg': 5, 'grid/id2_vcd_swwp2s.mpg': 6, 'grid/lbax4n.mpg': 7,
    'grid/lbbc2a.mpg': 8, 'grid/lrwp9a.mpg': 9, 'grid/lwbsza.mpg': 10, 'grid/sbia1a.mpg': 11,
}


class Embedder:
    """From pictures to embeddings; keeps the aligned faces in a folder, if there is one to look at them."""

    def __init__(self, data: pathlib.Path, crops: pathlib.Path | None) -> None:
        self.params = convert.convert(convert.read(data / 'models/foamliu_MobileFaceNet.onnx'))
        self.detector = face_tracking.MediaPipeDetector(data / 'models/face_landmarker.task')
        self.crops = crops
        self._embed = jax.jit(identity.embed, static_argnums=0)

    def embed(self, name: str, images: np.ndarray) -> np.ndarray:
        """(N,H,W,3) -> (M,128): of the M of them in which a face is found."""
        found = self.detector.detect(images)
        images, landmarks = images[found.detected], found.landmarks[found.detected]
        if not len(images):
            return np.zeros((0, 128), np.float32)
        if self.crops is not None:
            faces = np.asarray(identity.align(images, identity.five_points(landmarks))).round().astype(np.uint8)
            cv2.imwrite(str(self.crops / f'{name.replace("/", "_")}.png'), np.concatenate(faces, 1)[..., ::-1])
        return np.asarray(self._embed('mobilefacenet', self.params, images, landmarks))


def spread(path: pathlib.Path, count: int) -> np.ndarray:
    """`count` frames of a clip, evenly spread."""
    frames = media.read_video(path)
    return frames[np.linspace(0, len(frames) - 1, count + 2).round().astype(int)[1:-1]]


def table(embeddings: Mapping[str, np.ndarray], persons: Mapping[str, object], shown: set[object],
          summed: bool) -> Iterator[str]:
    """Rows for pairs of one person, the nearest of two, all of `shown` persons; these against others, `summed` up."""
    same, different = {}, {}
    for a, b in itertools.combinations(embeddings, 2):
        cosines = embeddings[a] @ embeddings[b].T
        if cosines.size:
            (same if persons[a] == persons[b] else different)[a, b] = cosines
    yield '| first | second | same person | mean | least | greatest |'
    yield '|---|---|---|---|---|---|'
    for (a, b), cosines in same.items():
        yield f'| {a} | {b} | yes | {cosines.mean():.3f} | {cosines.min():.3f} | {cosines.max():.3f} |'
    nearest = sorted(different.items(), key=lambda item: -item[1].mean())
    for (a, b), cosines in nearest:
        if {persons[a], persons[b]} <= shown or (a, b) == nearest[0][0]:
            yield f'| {a} | {b} | no | {cosines.mean():.3f} | {cosines.min():.3f} | {cosines.max():.3f} |'
    for name in embeddings:
        if summed and persons[name] in shown:
            others = [cosines for pair, cosines in different.items() if name in pair]
            means = [cosines.mean() for cosines in others]
            yield (f'| {name} | each of {len(others)} clips of others | no | {np.mean(means):.3f} (highest '
                   f'{max(means):.3f}) | {min(c.min() for c in others):.3f} | {max(c.max() for c in others):.3f} |')
    yield ''
    yield _verdict('means', [c.mean() for c in same.values()], [c.mean() for c in different.values()])
    yield _verdict('single pictures', [c.min() for c in same.values()], [c.max() for c in different.values()])


def _verdict(what: str, same: list[float], different: list[float]) -> str:
    """One sentence on the pairs of one person and those of two."""
    failing = sum(value <= max(different) for value in same)
    return (f'By {what}: {len(same)} pairs of one person from {min(same):.3f}, {len(different)} pairs of two up to '
            f'{max(different):.3f}: {failing} of one person not above all of two.')


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', default='../shared/data', type=pathlib.Path)
    parser.add_argument('--frames', default=4, type=int, help='of each clip')
    parser.add_argument('--crops', type=pathlib.Path, help='where to write the aligned faces, to look at them')
    arguments = parser.parse_args()
    if arguments.crops is not None:
        arguments.crops.mkdir(parents=True, exist_ok=True)
    embedder = Embedder(arguments.data, arguments.crops)
    with embedder.detector:
        portraits = {name: embedder.embed(name, media.read_image(arguments.data / 'portraits' / name)[None])
                     for name in PORTRAITS}
        clips = {name: embedder.embed(name, spread(arguments.data / 'clips' / name, arguments.frames))
                 for name in CLIPS}
    for name, found in (portraits | clips).items():
        if len(found) != (1 if name in portraits else arguments.frames):
            print(f'{name}: a face in {len(found)} pictures only')
    print(*table(portraits, PORTRAITS, set(PORTRAITS.values()), summed=False), '', sep='\n')
    print(*table(clips, CLIPS, {17, 19, 36}, summed=True), '', sep='\n')
    print(*table(portraits | clips, PORTRAITS | CLIPS, set(), summed=False), sep='\n')


if __name__ == '__main__':
    main()
