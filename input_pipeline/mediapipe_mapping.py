"""MediaPipe's 478 face points: which of them are iBUG's 68, and the triangles between them.

Points 0-467 are the face mesh, 468-472 and 473-477 the irises. The choice of the 68 is checked against FAN
landmarks in the tests and, on three clips, by `benchmarks/detectors.py`: 2.0 to 3.0 px of a 256-px crop away on the
inner face; the jaw, which FAN puts on the outline that is seen and MediaPipe on the skull, 5 to 8 px. Head
rotations correlate by 0.91 to 0.998 on each axis and differ by 1.6 to 2.5 degrees beside a constant of 9 to 14, a
nod for the most part: MediaPipe's depth is another. Compare poses of one detector with poses of the same only.
"""

import functools

import numpy as np

from input_pipeline import mediapipe_import

POINTS = 478

_JAW = (127, 234, 132, 58, 172, 136, 150, 176, 152, 400, 379, 365, 397, 288, 361, 454, 356)
_BROWS = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
_NOSE = (168, 197, 5, 1, 240, 97, 2, 326, 460)
_EYES = (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380)
_OUTER_LIPS = (61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181)
_INNER_LIPS = (78, 82, 13, 312, 308, 317, 14, 87)
IBUG = np.array(_JAW + _BROWS + _NOSE + _EYES + _OUTER_LIPS + _INNER_LIPS)  # (68,) numbers among the 478

_HOLE_CORNERS = (33, 263, 78)  # one end of the right eye, the left eye and the mouth: where filling begins

Triangle = tuple[int, int, int]


@functools.cache
def mesh_triangles() -> np.ndarray:
    """(F, 3) int32 triangles of the 478-point mesh, facing the viewer where the normal's z is positive.

    Rebuilt from the tesselation edges of the installed MediaPipe (design, Sec. 3); its three holes (eyes and
    mouth) are filled, so that the eyes and lips of the key frame are rendered too. The ten iris points belong to
    no triangle.
    """
    tesselation = mediapipe_import.vision().FaceLandmarksConnections.FACE_LANDMARKS_TESSELATION
    edges = [(int(edge.start), int(edge.end)) for edge in tesselation]
    faces = _faces(edges)
    faces += [face for loop in _holes(faces) for face in _fill(loop)]
    return np.array(sorted(faces), np.int32)[:, ::-1]  # MediaPipe winds for y up, ours points down


def _edges_of(face: Triangle) -> list[tuple[int, int]]:
    return [(face[0], face[1]), (face[1], face[2]), (face[2], face[0])]


def _faces(edges: list[tuple[int, int]]) -> list[Triangle]:
    """Each run of three edges walks around one triangle; checked, since only the order tells faces from necks."""
    runs = [edges[i:i + 3] for i in range(0, len(edges), 3)]
    if len(set(edges)) < len(edges) or any(run[k - 1][1] != run[k][0] for run in runs for k in range(len(run))):
        raise RuntimeError("the installed MediaPipe's tesselation edges no longer come in threes, one triangle each")
    return [tuple(start for start, _ in run) for run in runs]


def _holes(faces: list[Triangle]) -> list[list[int]]:
    """Closed boundary loops but the longest, which is the face's outline; wound so that a filling matches."""
    edges = {edge for face in faces for edge in _edges_of(face)}
    follow = {end: start for start, end in edges if (end, start) not in edges}
    loops = []
    while follow:
        loop = [next(iter(follow))]
        while loop[-1] in follow:
            loop.append(follow.pop(loop[-1]))
        loops.append(loop[:-1])
    return sorted(loops, key=len)[:-1]


def _fill(loop: list[int]) -> list[Triangle]:
    """Triangulate a loop as a zip closes: from one corner along both sides to the other."""
    first = next((i for i, vertex in enumerate(loop) if vertex in _HOLE_CORNERS), 0)
    loop = loop[first:] + loop[:first]
    faces, low, high, forward = [], 0, len(loop) - 1, True
    while high - low >= 2:
        faces.append((loop[low], loop[low + 1], loop[high]) if forward else (loop[low], loop[high - 1], loop[high]))
        low, high, forward = low + forward, high - (not forward), not forward
    return faces
