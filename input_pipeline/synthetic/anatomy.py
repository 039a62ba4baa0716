"""What a head needs beside its face: skull, hair, ears, eyeballs, teeth, tongue; and neck, shoulders, background.

Everything is a grid mesh in the frontal frame of the head (crop px), except the neck and shoulders, which stay behind
when the head turns.
"""

import dataclasses

import cv2
import numpy as np

from input_pipeline.synthetic import surface
from input_pipeline.synthetic.identity import Identity
from talkinghead_jax.geometry.face import AXIS_X

_EYE_CORNERS = ((36, 39), (42, 45))
# Where hair ends, crop px, at azimuths of 0 (front), 40, 65, 85, 110, 180 (back) degrees.
_AZIMUTHS = np.deg2rad([0, 40, 65, 85, 110, 180])
_HAIRLINES = {'short': (50, 56, 84, 104, 140, 158), 'tall': (48, 55, 82, 104, 135, 155),
              'bob': (52, 60, 92, 176, 184, 184), 'long': (50, 60, 96, 218, 226, 226),
              'bald': (34, 40, 84, 128, 160, 165)}


@dataclasses.dataclass(frozen=True)
class Mesh:
    """A coloured mesh: vertices (N, 3) crop px, triangles (F, 3), colour (N, 3) in [0, 255], gloss in [0, 1]."""

    vertices: np.ndarray
    triangles: np.ndarray
    colour: np.ndarray
    gloss: float = 0.0


def grid_triangles(rows: int, columns: int) -> np.ndarray:
    """(F, 3) int32 of a grid of rows x columns vertices."""
    number = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    a, b, c, d = (m.ravel() for m in (number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]))
    return np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])


def join(meshes: list[Mesh]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, triangles, colours (N, 3) and glosses (N,) of several meshes as one."""
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
    triangles = [mesh.triangles + start for mesh, start in zip(meshes, starts[:-1], strict=True)]
    return (np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(triangles).astype(np.int32),
            np.concatenate([mesh.colour for mesh in meshes]),
            np.concatenate([np.full(len(mesh.vertices), mesh.gloss) for mesh in meshes]))


def _shell(identity: Identity, style: str, scale: float, rows: int, columns: int, extra: float) -> np.ndarray:
    """A cap around the skull down to a style's hairline, (rows * columns, 3); `extra` px longer at the sides."""
    azimuth = np.linspace(-np.pi, np.pi, columns)[None]
    corners = [np.interp(np.abs(azimuth + d), _AZIMUTHS, _HAIRLINES[style]) for d in (-0.2, -0.1, 0, 0.1, 0.2)]
    limit = np.mean(corners, axis=0)
    limit = limit + extra * np.clip((np.abs(azimuth) - 1.0) / 0.4, 0, 1)
    centre, radii = surface.SKULL_CENTRE, surface.SKULL_RADII * scale
    top = centre[1] - radii[1]
    steps = np.linspace(0, 1, rows)[:, None]
    y = top + (limit - top) * (1 - np.cos(0.5 * np.pi * steps))
    inside = np.sqrt(np.clip(1 - ((y - centre[1]) / radii[1]) ** 2, 0, 1))
    # Below the ears hair falls straight; a bare skull goes on to narrow.
    hanging = 1.0 if style in ('long', 'bob') else 0.86
    ring = np.where(y > centre[1], np.maximum(inside, hanging), inside)
    wide = np.ptp(identity.controls[[0, 16], 0]) / np.ptp(surface.CONTROLS[[0, 16], 0])
    x = AXIS_X + wide * radii[0] * ring * np.sin(azimuth)
    return np.stack([x, y, centre[2] + radii[2] * ring * np.cos(azimuth)], axis=-1).reshape(-1, 3)


def _hair(identity: Identity, rng: np.random.Generator) -> list[Mesh]:
    """The bare skull, and the hair over it."""
    bare = _shell(identity, 'bald', 0.985, 14, 41, 0)
    skull = Mesh(bare, grid_triangles(14, 41), np.tile(identity.skin, (len(bare), 1)), 0.1)
    if identity.hair_style == 'bald':
        return [skull]
    rows, columns = 22, 81
    scale = {'tall': 1.17 + 0.05 * identity.hair_length, 'long': 1.10, 'bob': 1.11}.get(identity.hair_style, 1.085)
    vertices = _shell(identity, identity.hair_style, scale, rows, columns, 10 * identity.hair_length)
    strands = 1 + 0.16 * rng.standard_normal((1, columns)) + 0.05 * rng.standard_normal((rows, columns))
    strands[:, -1] = strands[:, 0]
    waves = 1.3 * rng.standard_normal((1, columns)) * np.linspace(0.2, 1, rows)[:, None]
    waves[:, -1] = waves[:, 0]
    outward = vertices - surface.SKULL_CENTRE
    outward[:, 1] = 0
    outward /= np.linalg.norm(outward, axis=1, keepdims=True) + 1e-6
    vertices = vertices + waves.reshape(-1, 1) * outward
    colour = np.clip(identity.hair * strands.reshape(-1, 1), 0, 255)
    return [skull, Mesh(vertices, grid_triangles(rows, columns), colour, 0.35)]


def _ears(identity: Identity) -> list[Mesh]:
    a, b = np.meshgrid(np.linspace(-1.5, 1.5, 9), np.linspace(-1.5, 1.5, 9))
    meshes = []
    for side, anchor in ((-1, identity.controls[0]), (1, identity.controls[16])):
        x = anchor[0] + side * (0.5 + 5.5 * np.cos(a) * np.cos(b))
        y = anchor[1] + 3 + 15 * np.sin(b) * (1 - 0.15 * np.sin(b))
        ear = np.stack([x, y, anchor[2] - 8 + 9 * np.sin(a)], axis=-1)
        rim = 0.72 + 0.28 * np.clip(np.hypot(a, b) / 1.3, 0, 1)
        colour = identity.skin * rim.reshape(-1, 1) * [1.0, 0.92, 0.9]
        triangles = grid_triangles(9, 9)
        meshes.append(Mesh(ear.reshape(-1, 3), triangles, colour, 0.05))
    return meshes


def head(identity: Identity) -> Mesh:
    """Skull, hair and ears: what turns with the head and never changes."""
    rng = np.random.default_rng([identity.texture_seed, 1])
    vertices, triangles, colour, gloss = join([*_hair(identity, rng), *_ears(identity)])
    return Mesh(vertices, triangles, colour, gloss)


def eyeballs(identity: Identity) -> tuple[np.ndarray, np.ndarray]:
    """Centres (2, 3) and radii (2,) of the eyeballs, crop px, just behind the lids."""
    centres, radii = [], []
    for inner, outer in _EYE_CORNERS:
        lids = identity.controls[[inner + 1, inner + 2, outer + 1, outer + 2]]
        width = np.linalg.norm(identity.controls[inner, :2] - identity.controls[outer, :2])
        radius = 0.60 * width
        middle = lids.mean(axis=0)
        centres.append(middle - [0, 0.3, radius + 1.2])
        radii.append(radius)
    return np.array(centres), np.array(radii)


EYE_STEPS = 15


def eye_grid() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Front of a unit sphere: vertices (225, 3), triangles, and texture positions (225, 2) in [0, 1]."""
    steps = np.linspace(-1.25, 1.25, EYE_STEPS)
    a, b = (m.ravel() for m in np.meshgrid(steps, steps))
    sphere = np.stack([np.sin(a), np.sin(b) * np.cos(a), np.cos(a) * np.cos(b)], axis=-1)
    return sphere, grid_triangles(EYE_STEPS, EYE_STEPS), np.stack([a, b], axis=-1) / 2.5 + 0.5


def mouth(identity: Identity) -> tuple[Mesh, np.ndarray]:
    """The inside of the mouth, and (N,) how much of the lower jaw's drop each vertex follows."""
    lip = identity.controls[[62, 66]].mean(axis=0)
    x, y = np.meshgrid(np.linspace(-19, 19, 15), [-8.0, 0.0, 10.0])
    bowl = np.stack([x, y, -13 - 0.022 * x ** 2], axis=-1)
    teeth_x, upper_y = np.meshgrid(np.linspace(-13, 13, 40), [-6.0, -1.0, 1.6])
    upper = np.stack([teeth_x, upper_y - 0.006 * teeth_x ** 2, -4.5 - 0.035 * teeth_x ** 2], axis=-1)
    lower_x, lower_y = np.meshgrid(np.linspace(-11, 11, 40), [2.0, 4.5, 9.0])
    lower = np.stack([lower_x, lower_y - 0.004 * lower_x ** 2, -6 - 0.04 * lower_x ** 2], axis=-1)
    a, b = np.meshgrid(np.linspace(-1.5, 1.5, 9), np.linspace(-1.5, 1.5, 9))
    tongue = np.stack([10.5 * np.sin(a), 7 + 4 * np.sin(b), -12 + 5.5 * np.cos(a) * np.cos(b)], axis=-1)
    enamel = np.array([232, 226, 212]) * (0.86 + 0.14 * np.abs(np.sin(np.arange(40) * np.pi / 5)))[:, None]
    enamel = np.tile(enamel, (3, 1))
    dark = np.tile(0.20 * identity.lips + [12, 0, 0], (45, 1))
    meshes = [
        Mesh(bowl.reshape(-1, 3) + lip, grid_triangles(3, 15), dark),
        Mesh(upper.reshape(-1, 3) + lip, grid_triangles(3, 40), enamel, 0.1),
        Mesh(lower.reshape(-1, 3) + lip, grid_triangles(3, 40), 0.85 * enamel),
        Mesh(tongue.reshape(-1, 3) + lip, grid_triangles(9, 9), np.tile([168.0, 78, 78], (81, 1)), 0.1),
    ]
    drop = np.concatenate([np.repeat([0.0, 0.5, 1.0], 15), np.zeros(120), np.ones(120), np.full(81, 0.75)])
    return Mesh(*join(meshes)), drop


def body(identity: Identity) -> tuple[Mesh, np.ndarray]:
    """Neck and shoulders (frontal frame), and (N,) how much of the head's pose each vertex follows."""
    angle, level = np.meshgrid(np.linspace(-np.pi, np.pi, 33), np.linspace(0, 1, 9))
    slope = 0.5 - 0.5 * np.cos(np.pi * level)
    neck = np.stack([AXIS_X + (34 + 8 * slope ** 2) * np.sin(angle), 152 + 106 * level,
                     -52 - 6 * level + (36 + 4 * slope) * np.cos(angle)], axis=-1).reshape(-1, 3)
    shadow = 0.55 + 0.35 * np.clip((level.reshape(-1, 1) - 0.35) / 0.35, 0, 1)  # of the chin
    across, down = np.meshgrid(np.linspace(-1, 1, 49), np.linspace(0, 1, 10))
    x = 135 * across
    top = 214 + 26 * np.abs(across) ** 1.5 + 16 * np.exp(-(x / 24) ** 2)  # collar
    depth = -75 + 62 * np.sqrt(down) - 30 * across ** 2
    cloth = np.stack([AXIS_X + x, top + 70 * down, depth], axis=-1).reshape(-1, 3)
    rng = np.random.default_rng([identity.texture_seed, 2])
    stripes = 1 + 0.22 * np.sign(np.sin(rng.uniform(8, 40) * across + rng.uniform(0, 30) * down)) * rng.random()
    folds = 0.85 + 0.1 * np.sin(7 * across + 3 * down) + 0.08 * rng.standard_normal(across.shape)
    colour = identity.clothes * (stripes * folds).reshape(-1, 1)
    meshes = [Mesh(neck, grid_triangles(9, 33), identity.skin * shadow, 0.03),
              Mesh(cloth, grid_triangles(10, 49), np.clip(colour, 0, 255))]
    return Mesh(*join(meshes)), np.concatenate([(1 - slope).ravel(), np.zeros(cloth.shape[0])])


def _muted(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Colours (*shape, 3) of rooms: a grey of any brightness with a moderate tint."""
    return np.clip(rng.uniform(40, 215, (*shape, 1)) + rng.normal(0, 22, (*shape, 3)), 10, 245)


def background(rng: np.random.Generator, side: int) -> np.ndarray:
    """A still wall with soft light, shapes and grain: (side, side, 3) float32 in [0, 255], the same at any size."""
    low = _muted(rng, (2, 1)) + rng.normal(0, 12, (2, 2, 3))
    wall = cv2.resize(low.astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
    for _ in range(rng.integers(3, 9)):
        colour = tuple(float(c) for c in _muted(rng, ()))
        corner, extent = rng.uniform(-30, 256, 2), rng.uniform(12, 110, 2)
        canvas = wall.copy()
        start, end = (np.round(c * side / 256).astype(int).tolist() for c in (corner, corner + extent))
        if rng.random() < 0.6:
            cv2.rectangle(canvas, start, end, colour, -1)
        else:
            cv2.circle(canvas, start, round(extent[0] / 2 * side / 256), colour, -1)
        wall = wall + 0.6 * (canvas - wall)
    wall = cv2.GaussianBlur(wall, (0, 0), max(0.5, rng.uniform(0.5, 2.5) * side / 256))
    grain = cv2.resize(rng.normal(0, 4, (256, 256)).astype(np.float32), (side, side),
                       interpolation=cv2.INTER_AREA if side < 256 else cv2.INTER_CUBIC)
    return np.clip(wall + grain[..., None], 0, 255)
