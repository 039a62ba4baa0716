"""What `benchmarks.detectors` measures, where the answer is known."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from benchmarks import detectors


@pytest.fixture
def track():
    return np.random.default_rng(0).normal(0, 40, (30, 68, 3)) + 128


def test_a_shift_is_a_distance_without_motion(track):
    shift = np.zeros((68, 3))
    shift[:17], shift[17:] = (3, 4, 99), (0, 1, 99)  # depth does not count
    found = detectors.distances(track + shift, track)
    assert list(found.values()) == pytest.approx([5, 1, (17 * 5 + 51) / 68, 0])
    assert detectors.best_scale(track / 1.25 - 7, track) == pytest.approx(1.25)


def test_smooth_motion_has_steps_and_no_jitter():
    track = np.zeros((9, 68, 3)) + np.arange(9)[:, None, None] * np.array([3.0, 4, 99])
    assert detectors.steadiness(track) == pytest.approx((5, 0))
    track[::2] += [0, 1, 0]
    assert detectors.steadiness(track)[1] == pytest.approx(2)


def test_a_constant_between_rotations_is_told_apart():
    rng = np.random.default_rng(1)
    theirs = Rotation.from_rotvec(0.2 * rng.normal(size=(40, 3)))
    ours = Rotation.from_rotvec([np.radians(12), 0, 0]) * theirs
    found = detectors.rotation_differences(ours.as_rotvec(), theirs.as_rotvec())
    assert found['degrees'] == pytest.approx(12)
    assert [float(value) for value in found['constant x y z'].split()] == [12, 0, 0]
    assert found['degrees less it'] == pytest.approx(0, abs=1e-5)
    same = detectors.rotation_differences(theirs.as_rotvec(), theirs.as_rotvec())
    assert same['correlation x y z'] == '1.000 1.000 1.000'
    assert same['amplitude x y z'] == '1.00 1.00 1.00'
