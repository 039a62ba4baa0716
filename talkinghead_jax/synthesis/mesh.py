"""The mesh of a key frame, lifted from its picture by the unprojection network (paper, Sec. 4.1)."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from talkinghead_jax import specs
from talkinghead_jax.ops import hard_rasterizer
from talkinghead_jax.synthesis.network import Network

HIDDEN_DEPTH = 4.0  # crop px: a vertex that lies further behind the surface drawn over it is not seen


def unproject(network: Network, record: Mapping[str, Any], decode: Callable[[bytes], np.ndarray]) -> dict[str, Any]:
    """Replace a record's mesh by the one that the unprojection network lifts from its key frame.

    Args:
      network: the 'unprojection' stage; the `triangles` it carries number the valid pixels of its `uv_mask`.
      record: a clip record.
      decode: JPEG -> (S, S, 3) uint8 RGB at the network's size.

    Returns:
      The record with new `mesh_vertices` (V, 3) and `mesh_visibility` (V,).
    """
    image = decode(record['video'][int(record['key_frame'])])
    position_map = np.asarray(network({'image': image[None]})['position_map'][0])
    vertices = position_map[np.asarray(network.frozen['uv_mask']) > 0].astype(np.float32)
    seen = hard_rasterizer.vertex_visibility(vertices[None], np.asarray(network.frozen['triangles']), specs.CROP_SIZE,
                                             HIDDEN_DEPTH)
    return {**record, 'mesh_vertices': vertices, 'mesh_visibility': np.asarray(seen[0])}
