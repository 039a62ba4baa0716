"""Who speaks: shape of the face, colours, hair, voice and manner of moving, all drawn from one seed."""

import dataclasses

import numpy as np

from input_pipeline.synthetic.surface import CONTROL_MIRROR, CONTROLS, MIDDLE
from talkinghead_jax.geometry import face, rigid

HAIR_STYLES = ('short', 'long', 'bob', 'tall', 'bald')
_SKIN = np.array([[250, 217, 196], [238, 195, 165], [222, 172, 138], [190, 136, 100], [140, 95, 66], [98, 65, 48]])
_HAIR = np.array([[28, 24, 22], [52, 38, 30], [92, 62, 40], [140, 98, 58], [196, 160, 100], [128, 52, 30],
                  [150, 148, 146]])
_IRIS = np.array([[70, 48, 32], [92, 66, 40], [98, 110, 70], [88, 120, 150], [110, 130, 136]])


@dataclasses.dataclass(frozen=True)
class Style:
    """How a head moves with its speech (see `motion`): what Phi reads from the reference clip."""

    stress: np.ndarray  # (6,) pose per unit of the stress signal: rad, rad, rad, px, px, px
    phrase: np.ndarray  # (6,) pose per unit of the phrase signal
    rest: np.ndarray  # (6,) mean pose
    sway: np.ndarray  # (6,) amplitude of the idle sway
    sway_frequency: float  # Hz


@dataclasses.dataclass(frozen=True)
class Voice:
    """A speaker's voice."""

    pitch: float  # Hz
    tract: float  # formant frequencies relative to those of an average adult
    breath: float  # noise beside the glottal pulses
    tempo: float  # speech rate relative to average


@dataclasses.dataclass(frozen=True)
class Identity:
    """One synthetic person."""

    controls: np.ndarray  # (N, 3) crop px: neutral face in the frontal pose, mouth closed (`surface.CONTROLS`)
    articulation: float  # how far the mouth moves, about 1
    skin: np.ndarray  # (3,) RGB in [0, 255], as the other colours
    lips: np.ndarray
    iris: np.ndarray
    hair: np.ndarray
    brows: np.ndarray
    clothes: np.ndarray
    hair_style: str
    hair_length: float  # in [-1, 1]
    brow_width: float  # crop px
    freckles: float  # [0, 1], as the next two
    stubble: float
    wrinkles: float
    texture_seed: int
    style: Style
    voice: Voice


def make_identity(seed: int, speaker: int) -> Identity:
    """The person number `speaker` of the world `seed`; always the same one."""
    rng = np.random.default_rng([seed, 1, speaker])
    tone = rng.uniform(0, len(_SKIN) - 1)
    skin = _between(_SKIN, tone) + rng.normal(0, 4, 3)
    hair = _HAIR[rng.choice(3 if tone > 3 else len(_HAIR))] * rng.uniform(0.85, 1.15)
    woman = bool(rng.random() < 0.5)
    lips = skin * [0.86, 0.60, 0.60] + rng.random() * np.array([22, -8, 0] if woman else [8, 0, 0])
    return Identity(
        controls=_shape(rng),
        articulation=rng.uniform(0.9, 1.1),
        skin=np.clip(skin, 20, 250),
        lips=np.clip(lips, 20, 240),
        iris=_IRIS[rng.choice(2 if tone > 3.5 else len(_IRIS))] * rng.uniform(0.85, 1.15),
        hair=np.clip(hair, 10, 235),
        brows=np.clip(0.75 * hair + 0.08 * skin, 12, 160),
        clothes=rng.uniform(25, 220, 3),
        hair_style=str(rng.choice(HAIR_STYLES, p=[0.1, 0.5, 0.3, 0.1, 0] if woman else [0.6, 0.05, 0.05, 0.2, 0.1])),
        hair_length=rng.uniform(-1, 1),
        brow_width=rng.uniform(1.6, 2.6) if woman else rng.uniform(2.4, 3.8),
        freckles=rng.random() * (rng.random() < 0.3),
        stubble=0.0 if woman else rng.random() * (rng.random() < 0.6),
        wrinkles=rng.random() ** 2,
        texture_seed=int(rng.integers(1 << 30)),
        style=_style(rng),
        voice=Voice(
            pitch=rng.uniform(170, 240) if woman else rng.uniform(90, 145),
            tract=rng.uniform(1.05, 1.18) if woman else rng.uniform(0.92, 1.05),
            breath=rng.uniform(0.01, 0.06),
            tempo=rng.uniform(0.88, 1.12),
        ),
    )


def _between(table: np.ndarray, position: float) -> np.ndarray:
    low = min(int(position), len(table) - 2)
    return table[low] + (position - low) * (table[low + 1] - table[low])


def _style(rng: np.random.Generator) -> Style:
    """Amplitudes that differ by a factor of three, an axis mix of one's own, and translations that follow."""
    strength = np.exp(rng.uniform(np.log(0.85), np.log(2.5)))  # as lively as the people of VoxCeleb2
    nod, shake, tilt = strength * (0.35 + 1.3 * rng.dirichlet([0.8, 0.8, 0.8]))
    sign = rng.choice([-1.0, 1.0], 2)
    lean = rng.uniform(0.6, 1.4, 3)
    stress = np.array([0.036 * nod, 0.035 * shake * sign[0], 0.012 * tilt * sign[1], 0, 0, 0])
    phrase = np.array([-0.020 * nod, 0.056 * shake * sign[0], 0.036 * tilt * sign[1], 0, 0, 0])
    for coupling in (stress, phrase):  # the neck is below: who turns also shifts
        pitch, yaw, roll = coupling[:3]
        coupling[3:] = lean[0] * (22 * yaw + 40 * roll), lean[1] * 40 * pitch, lean[2] * 25 * pitch
    return Style(
        stress=stress,
        phrase=phrase,
        rest=rng.normal(0, 1, 6).clip(-2, 2) * [0.025, 0.04, 0.02, 1.5, 1.5, 1.0],
        sway=strength * rng.uniform(0.5, 1.0, 6) * [0.020, 0.028, 0.016, 1.0, 0.7, 0.5],
        sway_frequency=rng.uniform(0.15, 0.45),
    )


def _ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _shape(rng: np.random.Generator) -> np.ndarray:
    """A neutral face: `CONTROLS` plus about thirty symmetric modes with zero mean, then aligned to the template."""
    draws = iter(rng.normal(0, 1, 64).clip(-1.9, 1.9))
    offset = CONTROLS - MIDDLE
    x, y, _ = offset.T
    side, width = np.sign(x), np.abs(x)
    moved = offset.copy()

    def move(axis: int, amount: float, weight: np.ndarray) -> None:
        moved[:, axis] += next(draws) * amount * weight

    lower = _ramp(y, 130, 185)
    move(0, 0.022, x)  # the whole face wider
    move(1, 0.022, y - face.CENTROID[1])  # and longer
    move(0, 0.05, x * lower * _ramp(width, 10, 40))  # jaw width
    move(1, 2.2, _ramp(y, 162, 190))  # chin length
    move(2, 2.0, _ramp(y, 165, 188) * (width < 34))  # chin forward
    move(0, 2.5, side * _bump(x, y, 34, 124, 14, 14) * (width > 20))  # cheeks
    move(2, 2.0, _bump(x, y, 32, 122, 13, 12))
    move(2, 1.5, _ramp(-y, -80, -50))  # forehead
    _move_nose(move, x, y)
    _move_eyes(move, x, y)
    _move_mouth(move, x, y)
    aligned = moved + MIDDLE
    jitter = rng.normal(0, 0.25, moved.shape).clip(-0.5, 0.5)
    jitter[60:72] *= 0.2  # or the closed lips would cross
    mirrored = jitter[CONTROL_MIRROR] * [-1, 1, 1]
    aligned += 0.5 * (jitter + mirrored)
    return rigid.frontalize(aligned, rigid.estimate_pose(aligned[:68]))


def _bump(x: np.ndarray, y: np.ndarray, at_x: float, at_y: float, wide: float, high: float) -> np.ndarray:
    return np.exp(-0.5 * (((np.abs(x) - at_x) / wide) ** 2 + ((y - at_y) / high) ** 2))


def _move_nose(move: object, x: np.ndarray, y: np.ndarray) -> None:
    wings = _bump(x, y, 11, 137, 6, 6) * (np.abs(x) > 3)
    tip = _bump(x, y, 0, 135, 9, 7)
    move(0, 1.4, np.sign(x) * wings)
    move(1, 2.0, _bump(x, y, 0, 136, 14, 8))  # length
    move(2, 2.5, tip)
    move(2, 2.0, _bump(x, y, 0, 113, 6, 8))  # bridge
    move(1, 1.2, tip)


def _move_eyes(move: object, x: np.ndarray, y: np.ndarray) -> None:
    eye = _bump(x, y, 25.5, 103.5, 11, 7)
    brow = _ramp(-y, -97, -92) * _ramp(y, 72, 82) * (np.abs(x) < 50)
    move(0, 1.6, np.sign(x) * eye)  # spacing
    move(0, 0.10, (x - np.sign(x) * 25.5) * eye)  # width
    move(1, 0.20, (y - 103.5) * eye)  # opening
    move(1, 1.2, eye * (np.abs(x) - 25.5) / 10)  # tilt
    move(1, 1.8, brow)
    move(1, 1.2, brow * (np.abs(x) - 30) / 18)
    move(1, 1.2, brow * _bump(x, y, 32, 86, 8, 20))  # arch


def _move_mouth(move: object, x: np.ndarray, y: np.ndarray) -> None:
    mouth = _bump(x, y, 0, 158, 22, 11)
    upper, lower = _bump(x, y, 0, 150, 14, 2.5), _bump(x, y, 0, 166, 14, 3.5)
    move(1, 1.8, mouth)
    move(0, 0.06, x * mouth)  # width
    move(1, 1.3, upper)  # thickness
    move(1, 1.5, lower)
    move(2, 1.5, mouth)
    move(1, 1.0, mouth * (np.abs(x) / 22) ** 2)  # corners up or down
