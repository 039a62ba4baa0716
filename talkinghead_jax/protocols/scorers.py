"""The metrics of a film, family by family: what is looked at once is shared, and a chunk of frames is all it holds.

A family is made once for an evaluation. `begin(film, row)` gives what follows one method through one film: `add`
takes the frames piece by piece and returns a value a frame, `end` returns what only the whole film tells. NaN is "no
value".
"""

import functools
from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np

from talkinghead_jax import specs
from talkinghead_jax.geometry import face
from talkinghead_jax.metrics import (
    fid,
    identity,
    image,
    landmark,
    lpips,
)
from talkinghead_jax.protocols.devices import Devices
from talkinghead_jax.protocols.films import Film, Pictures, in_picture
from talkinghead_jax.protocols.results import TRUTH

Values = dict[str, np.ndarray]  # metric -> (N,) float64

IMAGES = ('ssim@authors', 'ssim@wang', 'psnr@rgb')


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
        values = dict(zip(Landmarks.names, landmark.of_detections(points, truth).values(), strict=False))
        return {name: np.where(found & there, value, np.nan) for name, value in values.items()} | failure

    def end(self) -> dict[str, float]:
        return {}


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
      half: to which of these two the next film belongs; for who knows its number to set.
    """

    names = ('fid@pytorch-fid',)

    def __init__(self, devices: Devices, params: Any):
        self._run, self.half = devices.spread(fid.features, params), 0
        self.moments: dict[str, fid.Moments] = {}

    def begin(self, film: Film, row: str) -> Follower:
        """Of the truth, what goes to the half that was set."""
        del film
        row = f'{TRUTH}/{self.half}' if row == TRUTH else row
        return _Frechet(self._run, self.moments.setdefault(row, fid.Moments.empty()))

    def distances(self) -> tuple[dict[str, float], str]:
        """Row -> FID to the truth, and what to know about them."""
        halves = [of for row, of in self.moments.items() if row.startswith(f'{TRUTH}/')]
        truth = fid.Moments.empty()
        for half in halves:
            truth.merge(half)
        between = fid.frechet_distance(*halves) if len(halves) == 2 and min(half.n for half in halves) > 1 else None
        reference = fid.rooted(truth) if truth.n > 1 else None  # once for all rows: it takes as long as a distance
        made = {row: moments for row, moments in self.moments.items() if not row.startswith(f'{TRUTH}/')}
        found = {row: fid.frechet_distance(moments, reference) if reference and moments.n > 1 else float('nan')
                 for row, moments in made.items()}
        return found, fid.bias_warning(min(of.n for of in (truth, *made.values())), between)


class _Frechet:
    def __init__(self, run: Callable, moments: fid.Moments):
        self._run, self._moments = run, moments

    def add(self, generated: Pictures, true: Pictures) -> Values:
        del true
        self._moments.add(self._run(generated.images))
        return {}

    def end(self) -> dict[str, float]:
        return {}
