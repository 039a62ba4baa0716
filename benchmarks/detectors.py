"""How far a detector's 68 landmarks are from FAN's, and what that means for head pose.

    python -m benchmarks.detectors --data=../shared/data [--prnet=FOLDER]

The clips of DATA/golden come with FAN landmarks and with poses that the first implementation estimated from them.
Distances are in px of a 256-px crop. The step is the mean motion of a landmark between frames; the jitter its mean
second difference, which a head that moves smoothly hardly has. Rotations are by Kabsch to one template, from the
rigid points; correlations are of the rotation vector's three components (about x: nod, y: turn, z: tilt). The
stored poses are in relation to another template, and so differ by a constant, too: it is taken off where it says so.
"""

import argparse
import pathlib

import numpy as np

from input_pipeline import detectors, media
from talkinghead_jax.geometry import rigid
from talkinghead_jax.specs import CROP_SIZE

JAW, INNER = slice(0, 17), slice(17, 68)
CLIPS = {  # name -> its poses
    '00025': '00025_sRT.npy',
    'voxceleb2_id04570_zsnG6eKzOGE_00410_aligned': 'voxceleb2_id04570_zsnG6eKzOGE_00410_aligned_rt.npy',
    'voxceleb2_id05124_nCbrN6svWRw_00424_aligned': 'voxceleb2_id05124_nCbrN6svWRw_00424_aligned_rt.npy',
}


def distances(found: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """Mean distances in the picture between two (T, 68, 2 or more) tracks, in their unit; and without their bias."""
    error = (found - expected)[..., :2]
    centred = error - error.mean(axis=0)
    return {'jaw px': _length(error[:, JAW]), 'inner px': _length(error[:, INNER]), 'all px': _length(error),
            'all px less the mean of each point': _length(centred)}


def steadiness(landmarks: np.ndarray) -> tuple[float, float]:
    """Step and jitter of a (T, 68, 2 or more) track in the picture, in its unit."""
    points = landmarks[..., :2]
    return _length(np.diff(points, axis=0)), _length(np.diff(points, 2, axis=0))


def rotation_differences(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float | str]:
    """Between two (T, 3) series of rotation vectors: mean angle, constant, the angle less it, and likeness."""
    a, b = rigid.rotation_matrix(ours), rigid.rotation_matrix(theirs)
    between = a @ b.swapaxes(-1, -2)
    u, _, vt = np.linalg.svd(between.mean(axis=0))
    mean = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    correlations = [np.corrcoef(ours[:, axis], theirs[:, axis])[0, 1] for axis in range(3)]
    amplitudes = ours.std(axis=0) / theirs.std(axis=0)
    constant = np.degrees(rigid.rotation_vector(mean))
    return {'degrees': _angle(between), 'constant x y z': ' '.join(f'{value:.1f}' for value in constant),
            'degrees less it': _angle(mean.T @ between),
            'correlation x y z': ' '.join(f'{value:.3f}' for value in correlations),
            'amplitude x y z': ' '.join(f'{value:.2f}' for value in amplitudes)}


def best_scale(found: np.ndarray, expected: np.ndarray) -> float:
    """The factor of `found` that brings it nearest to `expected`, shifts aside; both (T, 68, 2 or more)."""
    a, b = ((points - points.mean(axis=(0, 1)))[..., :2] for points in (found, expected))
    return float((a * b).sum() / (a * a).sum())


def compare(folder: pathlib.Path, clip: str, choice: detectors.Choice) -> None:
    """Track one clip and print what was measured."""
    frames = media.read_video(folder / f'{clip}.mp4')
    fan, stored = np.load(folder / f'{clip}.npy'), np.load(folder / CLIPS[clip])[:, :3]
    kind = choice.kind
    with detectors.open_detector(choice) as detector:
        detections = detector.detect(frames)
    there = detections.detected[:len(fan)]
    found = detections.landmarks[:len(fan)].astype(np.float64)[there]
    fan, stored = fan[there], stored[there]
    unit = CROP_SIZE / frames.shape[2]
    print(f'\n{clip}: {len(frames)} frames of {frames.shape[2]} px, {there.mean():.1%} detected; FAN landmarks are '
          f'{best_scale(found, fan):.3f} x {kind}\'s in frame px')
    _line(f'{kind} - FAN', distances(found * unit, fan * unit))
    for name, points in ((kind, found), ('FAN', fan)):
        step, jitter = steadiness(points * unit)
        _line(name, {'step px': step, 'jitter px': jitter})
    ours, theirs = rigid.estimate_pose(found)[:, :3], rigid.estimate_pose(fan)[:, :3]
    _line(f'rotation, {kind} - FAN', rotation_differences(ours, theirs))
    _line(f'rotation, {kind} - stored', rotation_differences(ours, stored))
    _line('rotation, FAN - stored', rotation_differences(theirs, stored))


def _length(vectors: np.ndarray) -> float:
    return float(np.linalg.norm(vectors, axis=-1).mean())


def _angle(matrices: np.ndarray) -> float:
    """Mean angle of (T, 3, 3) rotations, degrees."""
    return float(np.degrees(np.linalg.norm(rigid.rotation_vector(matrices), axis=-1)).mean())


def _line(name: str, values: dict[str, float | str]) -> None:
    shown = (f'{key} {value if isinstance(value, str) else format(value, ".2f")}' for key, value in values.items())
    print(f'  {name:30s}' + '; '.join(shown), flush=True)


def main() -> None:
    """Compare on every clip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', default='../shared/data', type=pathlib.Path)
    parser.add_argument('--prnet', default='', help='folder of PRNet, to be measured instead of MediaPipe')
    arguments = parser.parse_args()
    choice = detectors.choose('prnet' if arguments.prnet else 'mediapipe',
                              str(arguments.data / 'models' / 'face_landmarker.task'), arguments.prnet)
    for clip in CLIPS:
        compare(arguments.data / 'golden', clip, choice)


if __name__ == '__main__':
    main()
