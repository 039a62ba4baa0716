"""The metrics of a film, family by family: what is looked at once is shared, and a chunk of frames is all it holds.

A family is made once for an evaluation. `begin(film, row)` gives what follows one method through one film: `add`
takes the frames piece by piece and returns a value a frame, `end` returns what only the whole film tells. NaN is "no
value".
"""

import functools
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from talkinghead_jax import specs
from talkinghead_jax.geometry import face
from talkinghead_jax.metrics import fid, identity, image, lpips, motion, motion_beats, motion_style, sync, temporal
from talkinghead_jax.protocols.devices import Devices
from talkinghead_jax.protocols.films import CHUNK, Film, Pictures, in_picture
from talkinghead_jax.protocols.results import TRUTH

Values = dict[str, np.ndarray]  # metric -> (N,) float64

IMAGES = ('ssim@authors', 'ssim@wang', 'psnr@rgb')

# What counts as much as what when axes of a pose are added up, in every evaluation: rad, rad, rad, px, px, px.
POSE_UNITS = np.array([0.1, 0.1, 0.1, 5.0, 5.0, 5.0], np.float32)
_EYE_CORNERS = (36, 45)  # the outer ones


class Follower(Protocol):
    """One family's work on one film of one method."""

    def add(self, generated: Pictures, true: Pictures) -> Values:
        """Values of these frames, which follow the last ones."""

    def end(self) -> dict[str, float]:
        """Values of the whole film."""


class Family(Protocol):
    """A family of metrics."""

    names: tuple[str, ...]

    def begin(self, film: Film, row: str) -> Follower | None:
        """What follows the method `row` through `film`; None where there is nothing to say of it."""


class _PerFrame:
    """A family that takes every frame by itself."""

    def __init__(self, names: tuple[str, ...], compute: Callable[[Pictures, Pictures], Values]):
        self.names, self._compute = names, compute

    def begin(self, film: Film, row: str) -> Follower | None:
        del film
        return None if row == TRUTH else self

    def add(self, generated: Pictures, true: Pictures) -> Values:
        return self._compute(generated, true)

    def end(self) -> dict[str, float]:
        return {}


def images(devices: Devices) -> Family:
    """SSIM by both recipes, and PSNR."""
    def measure(params: None, generated: jax.Array, true: jax.Array) -> list[jax.Array]:
        del params
        return [metric(generated, true) for metric in (image.ssim_authors, image.ssim_wang, image.psnr_rgb)]

    run = devices.spread(measure)
    return _PerFrame(IMAGES, lambda generated, true: dict(zip(
        IMAGES, np.asarray(run(generated.images, true.images), np.float64), strict=True)))


def perceptual(backbone: str, devices: Devices, params: Any, heads: Any) -> Family:
    """LPIPS with one backbone."""
    name = f'lpips@{backbone}'
    run = devices.spread(lambda both, a, b: lpips.lpips(backbone, *both, a, b), (params, heads))
    return _PerFrame((name,), lambda generated, true: {name: run(generated.images, true.images).astype(np.float64)})


class Landmarks:
    """Distances of detected landmarks, px at 256 px, and how often no face is found."""

    names = ('lmd@mean20-mediapipe', 'lmd@sum20-mediapipe', 'm_lmd@interocular-mediapipe',
             'f_lmd@interocular-mediapipe', 'detection_failure@mediapipe')

    def begin(self, film: Film, row: str) -> Follower:
        """The truth itself has no distance, but it has failures."""
        del film
        return _Landmarks(row == TRUTH)


class _Landmarks:
    def __init__(self, alone: bool):
        self._alone = alone

    def add(self, generated: Pictures, true: Pictures) -> Values:
        (points, found), (truth, there) = generated.detection, true.detection
        failure = {'detection_failure@mediapipe': (~found).astype(np.float64)}
        if self._alone:
            return failure
        points, truth = (x[..., :2].astype(np.float64) for x in (points, truth))
        mouth, whole = (_centred_distance(points[:, part], truth[:, part]) for part in (list(face.MOUTH), slice(68)))
        eyes = np.linalg.norm(truth[:, _EYE_CORNERS[0]] - truth[:, _EYE_CORNERS[1]], axis=-1)
        percent = 100 / np.maximum(eyes, 1e-6)
        values = {'lmd@mean20-mediapipe': mouth.mean(1), 'lmd@sum20-mediapipe': mouth.sum(1),
                  'm_lmd@interocular-mediapipe': mouth.mean(1) * percent,
                  'f_lmd@interocular-mediapipe': whole.mean(1) * percent}
        return {name: np.where(found & there, value, np.nan) for name, value in values.items()} | failure

    def end(self) -> dict[str, float]:
        return {}


def _centred_distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N, L) px between points (N, L, 2), each set about its own centroid."""
    first, second = (points - points.mean(axis=1, keepdims=True) for points in (first, second))
    return np.linalg.norm(first - second, axis=-1)


class Identity:
    """Cosines of one back end's embeddings, to the true frame and to the reference."""

    def __init__(self, backend: str, devices: Devices, params: Any, detector: specs.Detector):
        self.backend, self._detector = backend, detector
        self.names = (f'csim_gt@{backend}', f'csim_ref@{backend}')
        self._run = devices.spread(functools.partial(identity.embed, backend), params)

    def begin(self, film: Film, row: str) -> Follower:
        """The truth is compared with the reference only."""
        return _Identity(self, Pictures(film.reference[None], self._detector), row == TRUTH)

    def embeddings(self, pictures: Pictures) -> np.ndarray:
        """(N, D) float64 of unit length; NaN where no face is found."""
        def compute() -> np.ndarray:
            landmarks, found = pictures.detection
            points = in_picture(landmarks, pictures.images.shape[1])
            vectors = self._run(pictures.images, np.where(found[:, None, None], points, face.TEMPLATE[None, :, :2])
                                .astype(np.float32))
            return np.where(found[:, None], vectors.astype(np.float64), np.nan)

        return pictures.once(self.backend, compute)


class _Identity:
    def __init__(self, family: Identity, reference: Pictures, alone: bool):
        self._family, self._reference, self._alone = family, reference, alone

    def add(self, generated: Pictures, true: Pictures) -> Values:
        mine = self._family.embeddings(generated)
        others = {'csim_ref': self._family.embeddings(self._reference)}
        if not self._alone:
            others['csim_gt'] = self._family.embeddings(true)
        return {f'{name}@{self._family.backend}': (mine * other).sum(-1) for name, other in others.items()}

    def end(self) -> dict[str, float]:
        return {}


class Frechet:
    """Features of all frames, summed up for FID; the truth's in two halves, which tell the bias.

    Attributes:
      moments: row -> sums of its features; of the truth, of every other film: `TRUTH` + '/0' and '/1'.
    """

    names = ('fid@pytorch-fid',)

    def __init__(self, devices: Devices, params: Any):
        self._run = devices.spread(fid.features, params)
        self.restart({})

    def restart(self, moments: dict[str, fid.Moments] | None = None, films: int = 0) -> None:
        """Go on from these sums, of so many films."""
        self.moments, self._films = dict(moments or {}), films

    def begin(self, film: Film, row: str) -> Follower:
        """The rows of one film begin one after another, the truth first."""
        del film
        if row == TRUTH:
            self._films += 1
            row = f'{TRUTH}/{self._films % 2}'
        return _Frechet(self._run, self.moments.setdefault(row, fid.Moments.empty()))

    def distances(self) -> tuple[dict[str, float], str]:
        """Row -> FID to the truth, and what to know about them."""
        halves = [of for row, of in self.moments.items() if row.startswith(f'{TRUTH}/')]
        truth = fid.Moments.empty()
        for half in halves:
            truth.merge(half)
        between = fid.frechet_distance(*halves) if len(halves) == 2 and min(half.n for half in halves) > 1 else None
        found = {row: fid.frechet_distance(moments, truth) if min(moments.n, truth.n) > 1 else float('nan')
                 for row, moments in self.moments.items() if not row.startswith(TRUTH)}
        return found, fid.bias_warning(truth.n, between)


class _Frechet:
    def __init__(self, run: Callable, moments: fid.Moments):
        self._run, self._moments = run, moments

    def add(self, generated: Pictures, true: Pictures) -> Values:
        del true
        self._moments.add(self._run(generated.images))
        return {}

    def end(self) -> dict[str, float]:
        return {}


class Temporal:
    """Change from frame to frame: that of the truth, and that of the background."""

    names = ('temporal_difference_error', 'background_flicker')

    def begin(self, film: Film, row: str) -> Follower | None:
        """The truth has neither."""
        del film
        return None if row == TRUTH else _Temporal()


class _Temporal:
    def __init__(self) -> None:
        self._last: list[np.ndarray] | None = None  # of each array, the last frame

    def add(self, generated: Pictures, true: Pictures) -> Values:
        arrays = [generated.images, true.images]
        if true.has_landmarks:
            arrays.append(in_picture(true.landmarks, true.images.shape[1]))
        last = [x[:1] for x in arrays] if self._last is None else self._last
        first, self._last = self._last is None, [x[-1:] for x in arrays]
        count = len(generated.images)
        # Of one length, so that it is compiled once; what is beyond the end is left out.
        padded = [np.concatenate([old, new, *[new[-1:]] * (CHUNK - count)]) for old, new in
                  zip(last, arrays, strict=True)]
        values = {name: np.asarray(of, np.float64)[:count] for name, of in _temporal(*padded).items()}
        for of in values.values():
            of[:1] = np.nan if first else of[:1]  # a film's first frame follows none
        return values

    def end(self) -> dict[str, float]:
        return {}


@jax.jit
def _temporal(images: jax.Array, targets: jax.Array, landmarks: jax.Array | None = None) -> dict[str, jax.Array]:
    """Films (N, S, S, 3) uint8 and landmarks (N, 68, 2) px -> the metrics of `Temporal`, (N - 1,)."""
    values = {'temporal_difference_error': temporal.temporal_difference_error(images, targets)}
    if landmarks is not None:
        values['background_flicker'] = temporal.background_flicker(images, targets, landmarks)
    return values


class Sync:
    """SyncNet's confidence, distance and offset; of the truth, too."""

    names = ('lse_c@syncnet', 'lse_d@syncnet', 'lse_d0@syncnet', 'lse_offset@syncnet')

    def __init__(self, devices: Devices, params: Any):
        self.params = params
        self.crop = jax.jit(sync.face_crops)

        def see(params: Any, windows: jax.Array) -> jax.Array:
            return jax.vmap(lambda window: sync.video_embeddings(params, window)[0])(windows)

        self.see = devices.spread(see, params)

    def begin(self, film: Film, row: str) -> Follower | None:
        """The speech is the film's."""
        del row
        return None if film.audio is None else _Sync(self, film)


class _Sync:
    """A frame's crop depends on the frames around it: what is not followed by enough of them waits."""

    def __init__(self, family: Sync, film: Film):
        self._family, self._film = family, film
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []  # frames and landmarks, px of the frames
        self._crops: list[np.ndarray] = []  # the last ones, with which the next windows begin
        self._seen: list[np.ndarray] = []

    def add(self, generated: Pictures, true: Pictures) -> Values:
        landmarks, found = generated.detection
        points = in_picture(landmarks, generated.images.shape[1])
        for i, frame in enumerate(generated.images):
            if found[i] or not self._waiting:
                place = points[i] if found[i] else in_picture(true.landmarks[i], len(frame))
            else:  # where no face is found, it is where it was last
                place = self._waiting[-1][1]
            # At its ends a film is taken to stand still.
            self._waiting += [(frame, place)] * (1 if self._waiting else sync.AROUND + 1)
        while len(self._waiting) >= CHUNK + 2 * sync.AROUND:
            self._look(CHUNK)
        return {}

    def _look(self, count: int) -> None:
        """Embed the windows that end in the next `count` frames."""
        whole = CHUNK + 2 * sync.AROUND
        part = [*self._waiting[:whole], *self._waiting[-1:] * (whole - len(self._waiting))]
        crops = self._family.crop(*(np.stack(of) for of in zip(*part, strict=True)))
        self._crops += list(np.asarray(crops)[sync.AROUND:sync.AROUND + count])
        self._waiting = self._waiting[count:]
        if len(self._crops) >= sync.FRAMES:
            windows = np.lib.stride_tricks.sliding_window_view(np.stack(self._crops), sync.FRAMES, axis=0)
            self._seen.append(self._family.see(np.moveaxis(windows, -1, 1)))
        self._crops = self._crops[1 - sync.FRAMES:]

    def end(self) -> dict[str, float]:
        while len(self._waiting) > sync.AROUND:
            self._look(min(CHUNK, len(self._waiting) - sync.AROUND))
        if not self._seen:
            return {}
        heard = sync.audio_embeddings(self._family.params, self._film.audio.reshape(-1), len(self._film))
        scores = sync.scores(np.concatenate(self._seen), heard)
        return dict(zip(Sync.names, (scores.confidence, scores.distance, scores.distance_at_0, scores.offset),
                        strict=True))


class Motion:
    """How the head moves beside how it truly does; units of the six axes are `POSE_UNITS`."""

    names = ('rotation_deg', 'translation_px', 'amplitude_error', 'velocity_distance', 'jerk_distance', 'beat_gain')

    def begin(self, film: Film, row: str) -> Follower:
        """Of the truth, only how it goes with the speech."""
        return _Motion(film, row == TRUTH)


class _Motion:
    def __init__(self, film: Film, alone: bool):
        self._film, self._alone = film, alone
        self._poses: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, generated: Pictures, true: Pictures) -> Values:
        # Where poses are given, not detected, a method without any has nothing to compare.
        if generated.has_pose and true.has_pose and generated.gives_pose == true.gives_pose:
            self._poses.append((generated.pose, true.pose))
        return {}

    def end(self) -> dict[str, float]:
        if not self._poses:
            return {}
        predicted, true = (np.concatenate(of).astype(np.float32) for of in zip(*self._poses, strict=True))
        room = -len(true) % 64  # so that films of all lengths share a few programs
        mask = np.arange(len(true) + room) < len(true)
        silent = self._film.audio is None
        audio = np.zeros((len(true), specs.CHUNK), np.int16) if silent else self._film.audio
        padded = [np.pad(x, ((0, room), (0, 0))) for x in (predicted, true, audio)]
        values = {name: float(value) for name, value in _motion(*padded, mask).items()}
        return {name: value for name, value in values.items()
                if (not silent if name == 'beat_gain' else not self._alone)}


@jax.jit
def _motion(predicted: jax.Array, true: jax.Array, audio: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
    """(T, 6) twice, (T, 640), (T,) -> the metrics of `Motion`, () each."""
    units = jnp.asarray(POSE_UNITS)[None]
    curves = predicted / units, true / units, mask
    return {
        'rotation_deg': motion.rotation_error(predicted, true, mask),
        'translation_px': motion.translation_error(predicted, true, mask),
        'amplitude_error': motion.amplitude_error(*curves),
        'velocity_distance': motion_style.velocity_distance(*curves),
        'jerk_distance': motion_style.jerk_distance(*curves),
        'beat_gain': motion_beats.beat_gain(curves[0], audio, mask),
    }
