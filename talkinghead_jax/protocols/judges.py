"""Which metrics can be computed here: those whose networks, and whose detector, are on this machine."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from talkinghead_jax import specs
from talkinghead_jax.errors import UserError
from talkinghead_jax.metrics import fid, networks, sync
from talkinghead_jax.metrics.identity import BACKENDS
from talkinghead_jax.metrics.lpips import BACKBONES
from talkinghead_jax.protocols import scorers, scorers_in_time
from talkinghead_jax.protocols.devices import Devices
from talkinghead_jax.protocols.recipes import DETECTOR, RECIPES


@dataclasses.dataclass(frozen=True)
class Judges:
    """The families of metrics that can be computed here, and what is said of the others.

    Attributes:
      families: of `scorers`.
      detector: finds landmarks in frames, or None.
      notes: metric -> 'not computed: needs FILE'.
      weights: network -> SHA-256 of the published file that its weights come from; of the detector, too.
    """

    families: tuple[scorers.Family, ...]
    detector: specs.Detector | None
    notes: dict[str, str]
    weights: dict[str, str]

    @property
    def frechet(self) -> scorers.Frechet | None:
        """The family that sums up features of all films, where it is there."""
        return next((family for family in self.families if isinstance(family, scorers.Frechet)), None)


def judges(devices: Devices, detector: specs.Detector | None, wanted: Sequence[str] = ()) -> Judges:
    """All families whose networks are on this machine.

    Args:
      devices: where they run.
      detector: of landmarks, or None.
      wanted: metrics; a family of which none is wanted is left out. () is all.

    Raises:
      UserError: an unknown metric is wanted, or a file of weights is damaged.
    """
    if unknown := [name for name in wanted if name not in RECIPES]:
        raise UserError(f'config.evaluation.metrics holds {unknown[0]!r}; want some of {", ".join(RECIPES)}')
    families, notes, weights = [], {}, {}
    for names, needed, make in _families():
        if wanted and not set(names) & set(wanted):
            continue
        loaded = {name: networks.load(name) for name in needed}
        missing = [networks.file_of(name) for name, network in loaded.items() if network is None]
        if detector is None and DETECTOR in RECIPES[names[0]].needs:
            missing.append(DETECTOR)
        if missing:
            notes |= dict.fromkeys(names, f'not computed: needs {", ".join(missing)}')
            continue
        families.append(make(devices, detector, *(network.params for network in loaded.values())))
        weights |= {name: network.source_sha256 for name, network in loaded.items()}
    if digest := getattr(detector, 'sha256', ''):
        weights[DETECTOR] = digest
    return Judges(tuple(families), detector, notes, weights)


def _families() -> Iterator[tuple[tuple[str, ...], tuple[str, ...], Callable[..., scorers.Family]]]:
    """Metrics, the networks that they need, and what makes the family of devices, detector and parameters."""
    yield scorers.IMAGES, (), lambda devices, detector: scorers.images(devices)
    yield scorers.Landmarks.names, (), lambda devices, detector: scorers.Landmarks()
    for backend, network in BACKENDS.items():
        yield (f'csim_gt@{backend}', f'csim_ref@{backend}'), (network,), _identity(backend)
    for backbone, both in BACKBONES.items():
        yield (f'lpips@{backbone}',), tuple(both), _perceptual(backbone)
    yield scorers.Frechet.names, (fid.NETWORK,), lambda devices, detector, params: scorers.Frechet(devices, params)
    yield (scorers_in_time.Sync.names, (sync.NETWORK,),
           lambda devices, detector, params: scorers_in_time.Sync(devices, params))
    yield scorers_in_time.Temporal.names, (), lambda devices, detector: scorers_in_time.Temporal()
    for kind in (scorers_in_time.DRIVING, scorers_in_time.MEDIAPIPE):
        yield scorers_in_time.Motion(kind).names, (), _motion(kind)


def _identity(backend: str) -> Callable[..., scorers.Family]:
    return lambda devices, detector, params: scorers.Identity(backend, devices, params, detector)


def _motion(kind: str) -> Callable[..., scorers.Family]:
    return lambda devices, detector: scorers_in_time.Motion(kind)


def _perceptual(backbone: str) -> Callable[..., scorers.Family]:
    return lambda devices, detector, *params: scorers.perceptual(backbone, devices, *params)
