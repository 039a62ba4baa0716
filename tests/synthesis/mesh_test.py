"""Lifting a mesh from a picture."""

import jax.numpy as jnp
import numpy as np

from talkinghead_jax.synthesis import mesh


def grid(side: int, depth: float) -> np.ndarray:
    """A flat square of side x side vertices over the crop's middle."""
    y, x = np.mgrid[0:side, 0:side] * (120 / (side - 1)) + 68
    return np.stack([x, y, np.full_like(x, depth)], -1).reshape(-1, 3).astype(np.float32)


def quads(side: int) -> np.ndarray:
    corner = np.arange(side * side).reshape(side, side)[:-1, :-1].ravel()
    return np.concatenate([np.stack([corner, corner + 1, corner + side], 1),
                           np.stack([corner + 1, corner + side + 1, corner + side], 1)]).astype(np.int32)


def test_the_valid_pixels_of_the_map_become_the_vertices(make_network, make_record):
    uv_mask = np.ones((8, 8), np.float32)
    uv_mask[0] = 0
    position_map = grid(8, 5.0).reshape(8, 8, 3)

    def predict(params, model_state, frozen, batch):
        return {'position_map': jnp.asarray(position_map)[None] + batch['image'].astype(jnp.float32).mean()}

    triangles = quads(8)
    triangles = triangles[(triangles >= 8).all(1)] - 8
    network = make_network('unprojection', {}, predict, {'uv_mask': uv_mask, 'triangles': triangles})
    record = mesh.unproject(network, make_record(key=7), lambda jpeg: np.full((8, 8, 3), jpeg[0], np.uint8))
    np.testing.assert_allclose(record['mesh_vertices'], grid(8, 5.0)[8:] + 7, rtol=1e-6)
    assert record['mesh_visibility'].shape == (56,)
    assert record['mesh_visibility'].mean() == 1
