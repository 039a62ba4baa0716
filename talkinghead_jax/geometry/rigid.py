"""Head pose: rotation vectors, Kabsch alignment, and Equation 1.

A head pose is h = [r, t] in R^6: a rotation vector (rad) and a translation (crop px), with
p - c = R (l - c) + t taking posed landmarks l to the frontal template; c is the template's centroid (design,
Sec. 3; paper, Sec. 3.3). Every function takes NumPy or JAX arrays and returns the same kind.
"""

import jax
import numpy as np

from talkinghead_jax.geometry.face import CENTROID, RIGID_POINTS, TEMPLATE, namespace


def rotation_matrix(vector: jax.Array) -> jax.Array:
    """Rodrigues' formula: (..., 3) rotation vector (rad) -> (..., 3, 3); finite gradients at zero."""
    xp = namespace(vector)
    squared = (vector ** 2).sum(-1)[..., None, None]
    small = squared < 1e-6
    safe = xp.where(small, 1.0, squared)
    angle = xp.sqrt(safe)
    sine = xp.where(small, 1 - squared / 6, xp.sin(angle) / angle)
    cosine = xp.where(small, 0.5 - squared / 24, (1 - xp.cos(angle)) / safe)
    x, y, z = vector[..., 0], vector[..., 1], vector[..., 2]
    zero = xp.zeros_like(x)
    cross = xp.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*vector.shape[:-1], 3, 3)
    identity = xp.broadcast_to(xp.eye(3, dtype=vector.dtype), cross.shape)
    return identity + sine * cross + cosine * (cross @ cross)


def rotation_vector(matrix: jax.Array) -> jax.Array:
    """Inverse of `rotation_matrix`: (..., 3, 3) -> (..., 3) rad, angle in [0, pi].

    Goes through the quaternion whose largest component is computed first (Shepperd 1978), so it is accurate
    near 0 and near pi, and its gradients are finite there.
    """
    xp = namespace(matrix)
    quaternion = _quaternion(matrix)
    w, axis = quaternion[..., :1], quaternion[..., 1:]
    sign = xp.where(w < 0, -1.0, 1.0)
    w, axis = w * sign, axis * sign
    squared = (axis ** 2).sum(-1, keepdims=True)
    small = squared < 1e-8
    length = xp.sqrt(xp.where(small, 1.0, squared))
    # 2 atan2(s, w) / s, and its series where s is small (there w is about 1).
    scale = xp.where(small, 2 + squared / 3, 2 * xp.arctan2(length, w) / length)
    return axis * scale


def _quaternion(matrix: jax.Array) -> jax.Array:
    """(..., 3, 3) -> (..., 4) unit quaternion (w, x, y, z)."""
    xp = namespace(matrix)
    m = [[matrix[..., i, j] for j in range(3)] for i in range(3)]
    trace = m[0][0] + m[1][1] + m[2][2]
    candidates = xp.stack([  # row k: 4 q_k q, for each component k of q = (w, x, y, z)
        xp.stack([1 + trace, m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]], -1),
        xp.stack([m[2][1] - m[1][2], 1 + 2 * m[0][0] - trace, m[0][1] + m[1][0], m[0][2] + m[2][0]], -1),
        xp.stack([m[0][2] - m[2][0], m[0][1] + m[1][0], 1 + 2 * m[1][1] - trace, m[1][2] + m[2][1]], -1),
        xp.stack([m[1][0] - m[0][1], m[0][2] + m[2][0], m[1][2] + m[2][1], 1 + 2 * m[2][2] - trace], -1),
    ], -2)
    squares = xp.stack([candidates[..., k, k] for k in range(4)], -1)
    best = squares.argmax(-1)[..., None, None]
    row = xp.take_along_axis(candidates, best, axis=-2)[..., 0, :]
    return row / xp.sqrt((row ** 2).sum(-1, keepdims=True))


def kabsch(source: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Least-squares rotation and translation, without scale (Kabsch 1976).

    Args:
      source: (..., N, 3) points.
      target: (..., N, 3) points.

    Returns:
      R (..., 3, 3) and T (..., 3) minimising the sum of |R source + T - target|^2.
    """
    xp = namespace(source, target)
    source_mean, target_mean = source.mean(-2, keepdims=True), target.mean(-2, keepdims=True)
    covariance = xp.swapaxes(target - target_mean, -1, -2) @ (source - source_mean)
    u, _, vt = xp.linalg.svd(covariance)
    reflection = xp.where(xp.linalg.det(u @ vt) < 0, -1.0, 1.0)[..., None]
    signs = xp.concatenate([xp.ones_like(u[..., 0, :2]), reflection.astype(u.dtype)], axis=-1)
    rotation = (u * signs[..., None, :]) @ vt
    translation = target_mean[..., 0, :] - (rotation @ source_mean[..., 0, :, None])[..., 0]
    return rotation, translation


def estimate_pose(landmarks: jax.Array) -> jax.Array:
    """Head pose of (..., 68, 3) landmarks (crop px): (..., 6), by Kabsch on the 27 rigid points."""
    xp = namespace(landmarks)
    rigid = list(RIGID_POINTS)
    template = xp.asarray(TEMPLATE[rigid] - CENTROID, landmarks.dtype)
    source = landmarks[..., rigid, :] - _constant(CENTROID, landmarks)
    rotation, translation = kabsch(source, xp.broadcast_to(template, source.shape))
    return xp.concatenate([rotation_vector(rotation), translation], axis=-1)


def frontalize(points: jax.Array, pose: jax.Array) -> jax.Array:
    """p = R (l - c) + t + c: posed (..., N, 3) points to the frontal frame of pose (..., 6); crop px."""
    xp = namespace(points, pose)
    centroid = _constant(CENTROID, points)
    rotation = rotation_matrix(pose[..., :3])
    return (points - centroid) @ xp.swapaxes(rotation, -1, -2) + pose[..., None, 3:] + centroid


def apply_pose(frontal: jax.Array, pose: jax.Array) -> jax.Array:
    """Inverse of `frontalize`: l = R^-1 (p - c - t) + c."""
    centroid = _constant(CENTROID, frontal)
    return (frontal - centroid - pose[..., None, 3:]) @ rotation_matrix(pose[..., :3]) + centroid


def repose(vertices: jax.Array, from_pose: jax.Array, to_pose: jax.Array) -> jax.Array:
    """Equation 1: vertices (..., V, 3) seen under `from_pose` (..., 6) moved to `to_pose` (..., 6); crop px."""
    return apply_pose(frontalize(vertices, from_pose), to_pose)


def from_image_origin(pose: jax.Array) -> jax.Array:
    """The paper's p = R l + T, with T about the image's corner, to our pose about the centroid: (..., 6)."""
    return _shift_origin(pose, 1)


def to_image_origin(pose: jax.Array) -> jax.Array:
    """Inverse of `from_image_origin`."""
    return _shift_origin(pose, -1)


def _shift_origin(pose: jax.Array, sign: int) -> jax.Array:
    xp = namespace(pose)
    centroid = xp.asarray(CENTROID, pose.dtype)
    rotation = rotation_matrix(pose[..., :3])
    turned = (rotation @ xp.broadcast_to(centroid[:, None], (*rotation.shape[:-1], 1)))[..., 0]
    centroid = _constant(CENTROID, turned)
    return xp.concatenate([pose[..., :3], pose[..., 3:] + sign * (turned - centroid)], axis=-1)


def _constant(value: np.ndarray, like: jax.Array) -> jax.Array:
    """A table in the dtype of `like`, with leading axes of 1, because implicit rank promotion is forbidden."""
    return namespace(like).asarray(value.reshape((1,) * (like.ndim - value.ndim) + value.shape), like.dtype)
