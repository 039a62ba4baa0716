"""Metrics that need a film in its order: change from frame to frame, lips and speech, head motion; see `scorers`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from talkinghead_jax import specs
from talkinghead_jax.geometry import face
from talkinghead_jax.metrics import motion, motion_beats, motion_style, sync, temporal
from talkinghead_jax.protocols.devices import Devices
from talkinghead_jax.protocols.films import CHUNK, Film, Pictures, in_picture
from talkinghead_jax.protocols.results import TRUTH
from talkinghead_jax.protocols.scorers import Follower, Values

DRIVING, MEDIAPIPE = 'driving', 'mediapipe'
MOTION = ('rotation_deg', 'translation_px', 'amplitude_error', 'velocity_distance', 'jerk_distance', 'beat_gain')

# What counts as much as what when axes of a pose are added up, in every evaluation: rad, rad, rad, px, px, px.
POSE_UNITS = np.array([0.1, 0.1, 0.1, 5.0, 5.0, 5.0], np.float32)


class Temporal:
    """Change from frame to frame: that of the truth, and that of the background."""

    names = ('temporal_difference_error', 'background_flicker')

    def begin(self, film: Film, row: str) -> Follower | None:
        """The truth has neither."""
        return None if row == TRUTH else _Temporal(film)


class _Temporal:
    def __init__(self, film: Film) -> None:
        # A change counts where both of its frames do; the film's first frame follows none.
        self._counts = film.scored & np.concatenate([[False], film.scored[:-1]])
        self._place = 0  # of the next frame
        self._last: list[np.ndarray] | None = None  # of each array, the last frame

    def add(self, generated: Pictures, true: Pictures) -> Values:
        arrays = [generated.images, true.images]
        if true.has_landmarks:
            arrays += [in_picture(true.landmarks, true.images.shape[1]), true.seen]
        last = [x[:1] for x in arrays] if self._last is None else self._last
        self._last = [x[-1:] for x in arrays]
        count = len(generated.images)
        # Of one length, so that it is compiled once; what is beyond the end is left out.
        padded = [np.concatenate([old, new, *[new[-1:]] * (CHUNK - count)]) for old, new in
                  zip(last, arrays, strict=True)]
        counts = self._counts[self._place:self._place + count]
        self._place += count
        if true.has_landmarks:
            seen = padded[3][:count + 1]
            counts = counts & seen[1:] & seen[:-1]
        return {name: np.where(counts, np.asarray(of, np.float64)[:count], np.nan)
                for name, of in _temporal(*padded[:3]).items()}

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
        self._found = False

    def add(self, generated: Pictures, true: Pictures) -> Values:
        landmarks, found = generated.detection
        self._found |= bool(found.any())
        points = in_picture(landmarks, generated.images.shape[1])
        for i, frame in enumerate(generated.images):
            if found[i]:
                place = points[i]
            elif self._waiting:  # where no face is found, it is where it was last
                place = self._waiting[-1][1]
            else:
                place = in_picture(face.TEMPLATE, len(frame))
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
        if not self._seen or not self._found:
            return {}
        heard = sync.audio_embeddings(self._family.params, self._film.audio.reshape(-1), len(self._film))
        scores = sync.scores(np.concatenate(self._seen), heard)
        return dict(zip(Sync.names, (scores.confidence, scores.distance, scores.distance_at_0, scores.offset),
                        strict=True))


class Motion:
    """How the head moves beside how it truly does.

    The six axes of a pose count in `POSE_UNITS` where they are added up.
    """

    def __init__(self, kind: str):
        """Take `kind` 'driving', the poses that a method was given, or 'mediapipe', those found in the frames."""
        self.kind = kind
        self.names = tuple(f'{name}@{kind}' for name in MOTION)

    def begin(self, film: Film, row: str) -> Follower | None:
        """Of the truth, only how it goes with the speech."""
        if self.kind == MEDIAPIPE:
            return _DetectedMotion(self, film, row == TRUTH)
        rows = film.rows.values() if row == TRUTH else [film.rows[row]]
        moves = film.pose is not None and any(of.pose is not None for of in rows)
        return _DrivenMotion(self, film, row) if moves else None

    def measure(self, film: Film, generated: np.ndarray, true: np.ndarray, counts: np.ndarray,
                alone: bool) -> dict[str, float]:
        """Curves (T, 6) and the frames that count, (T,) -> metric -> value; of the truth `alone`, the beats."""
        if not counts.any():
            return {}
        curves = [np.where(counts[:, None], curve, 0).astype(np.float32) for curve in (generated, true)]
        room = -len(true) % 64  # so that films of all lengths share a few programs
        silent = film.audio is None
        audio = np.zeros((len(true), specs.CHUNK), np.int16) if silent else film.audio
        padded = [np.pad(x, ((0, room), (0, 0))) for x in (*curves, audio)]
        values = _motion(*padded, np.pad(counts, (0, room)))
        return {f'{name}@{self.kind}': float(value) for name, value in values.items()
                if (not silent if name == 'beat_gain' else not alone)}


class _DrivenMotion:
    def __init__(self, family: Motion, film: Film, row: str):
        self._family, self._film, self._row = family, film, row

    def add(self, generated: Pictures, true: Pictures) -> Values:
        return {}

    def end(self) -> dict[str, float]:
        film, alone = self._film, self._row == TRUTH
        pose = film.pose if alone else film.rows[self._row].pose
        return self._family.measure(film, pose, film.pose, film.scored, alone)


class _DetectedMotion:
    def __init__(self, family: Motion, film: Film, alone: bool):
        self._family, self._film, self._alone = family, film, alone
        self._poses: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, generated: Pictures, true: Pictures) -> Values:
        self._poses.append((generated.detected_pose, true.detected_pose))
        return {}

    def end(self) -> dict[str, float]:
        generated, true = (np.concatenate(of) for of in zip(*self._poses, strict=True))
        counts = self._film.scored & np.isfinite(generated + true).all(-1)
        return self._family.measure(self._film, generated, true, counts, self._alone)


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
