"""The published soft rasterizer, forward and backward, as its kernel goes: face by face, in its own coordinates.

Written from the description of SoftRas (Liu et al. 2019; commit b569bed) in double precision: normalised
coordinates in which the image is 2 wide and y points up, z the distance from the eye. Independent of our package.
"""

import numpy as np

EPS = 1e-3


def _faces(vertices, size, eye):
    """Pixel coordinates to (x, y, distance)."""
    x = (2 * vertices[:, 0] + 1 - size) / size
    y = -(2 * vertices[:, 1] + 1 - size) / size
    return np.stack([x, y, eye - vertices[:, 2]], -1)


def _pixels(size):
    place = (2 * np.arange(size) + 1 - size) / size
    return np.stack(np.meshgrid(place, -place), -1).reshape(-1, 2)


class _Face:
    """One face at all pixels."""

    def __init__(self, corners, points, sigma, cutoff, near, far):
        flat = corners[:, :2]
        matrix = np.linalg.inv(np.concatenate([flat, np.ones((3, 1))], 1).T)
        self.w = np.concatenate([points, np.ones((len(points), 1))], 1) @ matrix.T
        self.inside = (self.w >= 0).all(1)
        best = np.full(len(points), np.inf)
        self.t = np.zeros((len(points), 3))  # barycentric weights of the nearest boundary point
        for a, b in ((0, 1), (1, 2), (2, 0)):
            edge = flat[b] - flat[a]
            along = np.clip((points - flat[a]) @ edge / (edge @ edge), 0, 1)
            distance = ((points - flat[a] - along[:, None] * edge) ** 2).sum(1)
            weights = np.zeros((len(points), 3))
            weights[:, a], weights[:, b] = 1 - along, along
            closer = distance < best
            best[closer], self.t[closer] = distance[closer], weights[closer]
        self.away = points - self.t @ flat
        self.sign = np.where(self.inside, 1.0, -1.0)
        self.d = 1 / (1 + np.exp(np.minimum(-self.sign * best / sigma, 700)))
        self.kept = self.inside | (best < np.log(1 / cutoff - 1) * sigma)
        clipped = np.clip(self.w, 0, 1)
        self.n = clipped / np.maximum(clipped.sum(1, keepdims=True), 1e-5)
        self.zp = 1 / (self.n / corners[:, 2]).sum(1)
        self.coloured = self.kept & (self.zp >= near) & (self.zp <= far)
        self.zn = (far - self.zp) / (far - near)


def render(vertices, triangles, colours, size, sigma, gamma, eye, near, far, cutoff=1e-4, background=0.0, g=None):
    """Image (H, W, C), alpha (H, W); with `g`, their gradients, also those to vertices (px) and colours."""
    points, corners = _pixels(size), _faces(vertices, size, eye)[triangles]
    faces = [_Face(c, points, sigma, cutoff, near, far) for c in corners]
    top = np.full(len(points), EPS * 2)
    transparent = np.ones(len(points))
    for f in faces:
        top = np.where(f.coloured, np.maximum(top, f.zn), top)
        transparent *= np.where(f.kept, 1 - f.d, 1)
    total = np.exp((2 * EPS - top) / gamma)
    image = total[:, None] * np.broadcast_to(background, colours.shape[1])
    for f, face in zip(faces, triangles, strict=True):
        f.weight = f.d * np.exp(np.where(f.coloured, (f.zn - top) / gamma, -np.inf))
        total = total + f.weight
        image = image + f.weight[:, None] * (f.n @ colours[face])
    image /= total[:, None]
    shaped = image.reshape(size, size, -1), (1 - transparent).reshape(size, size)
    if g is None:
        return shaped
    g_image, g_alpha = g[0].reshape(len(points), -1), g[1].reshape(-1)
    g_vertices, g_colours = np.zeros_like(vertices), np.zeros_like(colours)
    for f, face, corner in zip(faces, triangles, corners, strict=True):
        share = f.weight / total
        g_colours[face] += f.n.T @ (share[:, None] * g_image)
        gap = (g_image * (f.n @ colours[face] - image)).sum(1)
        rest = transparent / np.where(f.d < 1, 1 - f.d, 1)  # product of the others' 1 - D
        g_d = np.where(f.coloured, gap * share / np.where(f.coloured, f.d, 1) + g_alpha * rest, 0)
        g_square = g_d * f.d * (1 - f.d) * f.sign / sigma
        g_zp = -gap * share / gamma / (far - near)
        pull = (-2 * g_square)[:, None] * f.away
        for k in range(3):
            g_ndc = (f.t[:, k, None] * pull).sum(0)
            g_z = (g_zp * f.zp ** 2 * f.n[:, k] / corner[k, 2] ** 2).sum()
            g_vertices[face[k]] += [g_ndc[0] * 2 / size, -g_ndc[1] * 2 / size, -g_z]
    return *shaped, g_vertices, g_colours
