"""The medians of the layout that are not taken by numpy are those of numpy."""

import cv2
import numpy as np
import pytest

from nanoocr.layout.geometry import _median
from nanoocr.layout.ink import HIGHEST_FLOOR, LOWEST_CONTRAST, flat_below


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64])
def test_of_few_numbers(kind):
    rng = np.random.default_rng(0)
    for count in range(1, 30):
        values = (rng.normal(size=count) * 100).astype(kind)
        assert _median(values) == float(np.median(values))


def test_of_the_noise_of_a_picture():
    rng = np.random.default_rng(0)
    floors = set()
    for _ in range(60):
        height, width, levels = (int(rng.integers(2, most)) for most in (60, 60, 40))
        gray = rng.integers(0, levels, (height, width)).astype(np.uint8)
        second = np.abs(cv2.Laplacian(gray[: 2 * (height // 2)], cv2.CV_16S))
        noise = float(np.median(second[::3, ::2])) / 3.0
        assert flat_below(gray) == min(max(LOWEST_CONTRAST, 2.0 * noise), HIGHEST_FLOOR)
        floors.add(flat_below(gray))
    assert len(floors) > 5
