"""Where faces are in a frame: boxes by the face detector (BlazeFace) that comes in MediaPipe's landmark bundle."""

import os
import pathlib
import zipfile
from typing import Self

import numpy as np

from input_pipeline import mediapipe_import
from input_pipeline.face_tracking import LANDMARKER, LEAST_CONFIDENCE
from talkinghead_jax.errors import UserError


class FaceBoxes:
    """Boxes of the faces of a frame; to be used in a `with` statement. About 3 ms a frame of 256 px on one core."""

    def __init__(self, bundle: str | os.PathLike):
        self.bundle = pathlib.Path(bundle)
        self._detector = None

    def __enter__(self) -> Self:
        try:
            self._detector = mediapipe_import.face_detector(self.bundle, LEAST_CONFIDENCE).__enter__()
        except (OSError, KeyError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
            raise UserError(f'{self.bundle} is not a face landmarker; want {LANDMARKER}') from error
        return self

    def __exit__(self, *error: object) -> None:
        self._detector.close()
        self._detector = None

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB -> (N, 4) float: left, top, right, bottom of each face, frame px."""
        import mediapipe
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(frame))
        boxes = [found.bounding_box for found in self._detector.detect(image).detections]
        return np.array([(box.origin_x, box.origin_y, box.origin_x + box.width, box.origin_y + box.height)
                         for box in boxes], float).reshape(-1, 4) - 0.5  # its zero is the edge of the first pixel
