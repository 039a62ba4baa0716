"""A worker that tracks faces carries no TensorFlow; a process that uses it is left alone."""

import subprocess
import sys


def test_tracking_leaves_tensorflow_out_and_intact():
    program = """if True:
        import sys
        from input_pipeline import mediapipe_mapping
        assert len(mediapipe_mapping.mesh_triangles()) > 800
        assert not any(name.partition('.')[0] == 'tensorflow' for name in sys.modules)
        import importlib.util
        assert importlib.util.find_spec('tensorflow') is not None
    """
    subprocess.run([sys.executable, '-c', program], check=True)
