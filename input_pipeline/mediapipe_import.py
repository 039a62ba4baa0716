"""MediaPipe without TensorFlow, and the face detector in the landmarker's bundle."""

import pathlib
import sys
import zipfile
from types import ModuleType
from typing import Any

_BOXES = 'face_detector.tflite'  # in the bundle: BlazeFace


def vision() -> ModuleType:
    """`mediapipe.tasks.python.vision`, imported when it is first asked for.

    MediaPipe imports TensorFlow if it can, for decorators of its documentation: 8 s and 550 MB in every worker.
    Here it cannot, unless TensorFlow is there already.
    """
    hidden = 'tensorflow' not in sys.modules
    if hidden:
        sys.modules['tensorflow'] = None  # importing it now fails, as if it were not installed
    try:
        from mediapipe.tasks.python import vision
    finally:
        if hidden:
            del sys.modules['tensorflow']
    return vision


def face_detector(bundle: pathlib.Path, least_confidence: float) -> Any:
    """MediaPipe's `FaceDetector` from `face_landmarker.task`; to be used in a `with` statement.

    Raises:
      OSError, KeyError, RuntimeError, ValueError, zipfile.BadZipFile: `bundle` is no such file.
    """
    library = vision()
    from mediapipe.tasks.python import BaseOptions
    with zipfile.ZipFile(bundle) as parts:
        model = parts.read(_BOXES)
    return library.FaceDetector.create_from_options(library.FaceDetectorOptions(
        BaseOptions(model_asset_buffer=model), running_mode=library.RunningMode.IMAGE,
        min_detection_confidence=least_confidence))
