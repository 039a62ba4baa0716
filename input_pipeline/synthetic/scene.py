"""A person in front of a wall under a lamp: poses every part, shades it, and hands it to the renderer."""

import numpy as np

from input_pipeline.synthetic import anatomy, render, surface, texture
from input_pipeline.synthetic.identity import Identity
from talkinghead_jax.geometry import rigid

_EYE_CONTACT = 0.6  # share of the head's turn that the eyes undo
_BODY_FOLLOWS = 0.3  # share of the head's translation that the shoulders share
_AMBIENT = 0.50


class Scene:
    """One identity in one place; `draw` makes frames of it at the chosen size."""

    def __init__(self, identity: Identity, size: int, rng: np.random.Generator) -> None:
        """Lamp and wall come from `rng`; `size` is the side of the frames in pixels."""
        self.size = size
        light = np.array([rng.uniform(-0.6, 0.6), rng.uniform(-0.65, -0.15), 1.0])
        self.light = light / np.linalg.norm(light)
        self.brightness = rng.uniform(0.92, 1.08)
        self.background = anatomy.background(rng, render.SUPERSAMPLING * size)
        texels = 128 if size <= 96 else 256
        self.texture = texture.make_texture(identity, texels)
        self.head = anatomy.head(identity)
        self.head_normals = surface.normals(self.head.vertices, self.head.triangles)
        self.mouth, self.drop = anatomy.mouth(identity)
        self.mouth_rest = identity.controls[66] - identity.controls[62]
        self.body, self.follows = anatomy.body(identity)
        self.eye_centres, self.eye_radii = anatomy.eyeballs(identity)
        self._assemble(texels)

    def _assemble(self, texels: int) -> None:
        """Triangles and the constant part of the vertex attributes: face, two eyes, head, mouth, body."""
        sphere, eye_triangles, eye_uv = anatomy.eye_grid()
        self.sphere, self.eye_triangles = sphere, eye_triangles
        parts = [(len(surface.VALID), surface.TRIANGLES)] + [(len(sphere), eye_triangles)] * 2
        parts += [(len(m.vertices), m.triangles) for m in (self.head, self.mouth, self.body)]
        starts = np.cumsum([0] + [count for count, _ in parts])
        shifted = [triangles + start for (_, triangles), start in zip(parts, starts[:-1], strict=True)]
        self.triangles = np.concatenate(shifted).astype(np.int32)
        self.attributes = np.zeros((starts[-1], render.ATTRIBUTES), np.float32)
        self.attributes[:, 5] = -1
        self.attributes[:starts[1], 5:] = surface.VERTEX_UV * (texels - 1)
        small = texels // texture.EYE_TEXTURE_SHARE
        eyes = eye_uv * (small - 3) + [texels + 1, 1]
        self.attributes[starts[1]:starts[3], 5:] = np.concatenate([eyes, eyes])
        self.shine = np.concatenate([np.full(starts[1], 0.22), np.full(2 * len(sphere), 0.5),
                                     *(np.broadcast_to(m.gloss, len(m.vertices))
                                       for m in (self.head, self.mouth, self.body))])
        self.attributes[starts[3]:, :3] = np.concatenate([m.colour for m in (self.head, self.mouth, self.body)])

    def draw(self, controls: np.ndarray, face: np.ndarray,
             pose: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One frame of a face, given by control points (N, 3) and surface (V, 3), frontal, under `pose` (6,).

        Returns:
          image (size, size, 3) uint8 RGB; the face's vertices (V, 3) in crop px; depth (2 size, 2 size).
        """
        face_normals = surface.normals(face, surface.TRIANGLES)
        rotation = rigid.rotation_matrix(pose[:3])
        eyes = self._eyes(rotation)
        mouth = self._mouth(controls)
        frontal = np.concatenate([face, *eyes, self.head.vertices, mouth])
        posed = rigid.apply_pose(frontal, pose)
        body = self._body(pose)
        balls = [(e - c) / r for e, c, r in zip(eyes, self.eye_centres, self.eye_radii, strict=True)]
        normals = [face_normals, *balls, self.head_normals, surface.normals(mouth, self.mouth.triangles)]
        normals = np.concatenate([np.concatenate(normals) @ rotation, surface.normals(body, self.body.triangles)])
        vertices = np.concatenate([posed, body])
        attributes = self._shade(normals)
        inside = slice(len(frontal) - len(mouth), len(frontal))
        gap = np.linalg.norm(controls[66] - controls[62])
        attributes[inside, 3:5] *= np.clip(gap / 6, 0.1, 1)  # little light enters a closed mouth
        image, depth = render.render(vertices, self.triangles, attributes, self.texture, self.background, self.size)
        return image, posed[:len(face)].astype(np.float32), depth

    def _eyes(self, rotation: np.ndarray) -> list[np.ndarray]:
        """Both eyeballs in the frontal frame, turned towards the camera."""
        camera = rotation @ np.array([0.0, 0.0, 1.0])  # in the head's frame
        gaze = np.array([0.0, 0.0, 1.0]) + _EYE_CONTACT * (camera - [0, 0, 1])
        yaw, pitch = np.arctan2(gaze[0], gaze[2]), np.arctan2(-gaze[1], gaze[2])
        turn = rigid.rotation_matrix(np.array([pitch, yaw, 0.0]))
        looking = self.sphere @ turn.T
        return [centre + radius * looking for centre, radius in zip(self.eye_centres, self.eye_radii, strict=True)]

    def _mouth(self, controls: np.ndarray) -> np.ndarray:
        """Teeth and tongue: the lower ones drop with the lower lip."""
        gap = controls[66] - controls[62] - self.mouth_rest
        opened = np.array([0.0, max(gap[1], 0.0), min(gap[2], 0.0)])
        return self.mouth.vertices + self.drop[:, None] * opened

    def _body(self, pose: np.ndarray) -> np.ndarray:
        """Neck between head and shoulders; the shoulders stay, but for a share of the translation."""
        still = self.body.vertices - _BODY_FOLLOWS * pose[3:] * [1, 0.5, 0]
        return still + self.follows[:, None] * (rigid.apply_pose(self.body.vertices, pose) - still)

    def _shade(self, normals: np.ndarray) -> np.ndarray:
        """Wrapped diffuse light and a broad highlight, from unit normals (N, 3)."""
        towards = normals @ self.light
        diffuse = _AMBIENT + 0.62 * np.clip((towards + 0.15) / 1.15, 0, 1) + 0.06 * np.clip(-normals[:, 1], 0, 1)
        half = self.light + np.array([0, 0, 1])
        gloss = np.clip(normals @ (half / np.linalg.norm(half)), 0, 1) ** 18
        attributes = self.attributes.copy()
        attributes[:, 3] = diffuse * self.brightness
        attributes[:, 4] = 90 * self.shine * gloss
        return attributes
