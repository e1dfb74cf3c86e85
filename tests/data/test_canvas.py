"""Resizing as OpenCV does it, and back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covermap.data.canvas import bilinear, fit, nearest, paste, restore
from covermap.errors import ConfigError

IMAGE = ((np.arange(35).reshape(5, 7) * 83 + np.arange(7) ** 3 * 5) % 256).astype(np.uint8)

# cv2.resize(IMAGE, …) of OpenCV 4.9 and 5.0
SMALLER = [[56, 145, 161, 55], [171, 78, 21, 170], [83, 193, 135, 115]]
LARGER = [
    [0, 58, 140, 189, 128, 137, 71, 25, 42],
    [30, 89, 121, 132, 158, 167, 101, 55, 72],
    [73, 132, 100, 59, 185, 194, 137, 98, 115],
    [116, 175, 143, 67, 68, 78, 109, 141, 158],
    [159, 165, 142, 92, 31, 41, 117, 184, 202],
    [203, 101, 96, 135, 75, 84, 160, 227, 245],
    [102, 86, 130, 178, 118, 127, 123, 126, 144],
    [20, 78, 160, 209, 148, 157, 91, 45, 62],
]
NEAREST = [[0, 88, 128, 16], [69, 157, 197, 85], [207, 39, 79, 223]]


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((375, 500), 417, (312, 416)),  # int(375 · 417 / 500) = 312; 417 to 416
        ((500, 333), 417, (416, 272)),  # int(333 · 417 / 500) = 277
        ((1024, 1024), 1024, (1024, 1024)),
        ((900, 1000), 1024, (920, 1024)),  # int(921.6)
        ((1122, 1122), 1024, (1024, 1024)),  # 1122 · (1024 / 1122) is 1023.99… in floats
        ((256, 256), 417, (416, 416)),
    ],
)
def test_fit(shape, size, expected) -> None:
    assert fit(*shape, size) == expected


def test_too_narrow_images_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"10 × 1000 pixels.*canvas of 417"):
        fit(10, 1000, 417)


def test_imagery_is_resized_to_the_bytes_of_opencv() -> None:
    stack = np.stack([IMAGE, 255 - IMAGE, IMAGE])
    small, large = bilinear(stack, (3, 4)), bilinear(stack, (8, 9))
    assert small[0].tolist() == small[2].tolist() == SMALLER
    assert large[0].tolist() == LARGER
    assert small.dtype == large.dtype == np.uint8
    assert bilinear(stack, (5, 7)) is stack


def interpolated(image, shape):
    """Bilinear between pixel centres, ends repeated, one pixel after the other."""
    result = np.empty(shape)
    for i in range(shape[0]):
        for j in range(shape[1]):
            y = (i + 0.5) * image.shape[0] / shape[0] - 0.5
            x = (j + 0.5) * image.shape[1] / shape[1] - 0.5
            total = 0.0
            for row, fy in ((math.floor(y), 1 - y % 1), (math.floor(y) + 1, y % 1)):
                for col, fx in ((math.floor(x), 1 - x % 1), (math.floor(x) + 1, x % 1)):
                    row = min(max(row, 0), image.shape[0] - 1)
                    col = min(max(col, 0), image.shape[1] - 1)
                    total += fy * fx * image[row, col]
            result[i, j] = total
    return result


sides = st.integers(1, 13)


@given(sides, sides, sides, sides, st.integers(0, 9))
def test_imagery_is_bilinear_to_one_level(h, w, new_h, new_w, seed) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (1, h, w), dtype=np.uint8)
    found = bilinear(image, (new_h, new_w))[0]
    assert np.abs(found - interpolated(image[0], (new_h, new_w))).max() <= 1.01


def test_labels_take_the_pixel_at_the_corner() -> None:
    assert nearest(IMAGE, (3, 4)).tolist() == NEAREST
    label = np.arange(30).reshape(5, 6)
    found = nearest(label, (7, 4))
    rows, cols = [int(i * 5 / 7) for i in range(7)], [int(j * 6 / 4) for j in range(4)]
    assert found.tolist() == [[int(label[r, c]) for c in cols] for r in rows]
    assert nearest(label, (5, 6)) is label


def test_paste_and_restore() -> None:
    content = np.arange(12, dtype=np.uint8).reshape(3, 4)
    canvas = paste(content, 6, 255)
    assert canvas[:3, :4].tolist() == content.tolist()
    assert (canvas[3:] == 255).all()
    assert (canvas[:, 4:] == 255).all()
    assert paste(np.stack([content] * 3), 6, 0).shape == (3, 6, 6)
    twice = restore(canvas, (3, 4), (6, 8))
    assert twice.tolist() == content.repeat(2, axis=0).repeat(2, axis=1).tolist()
    assert 255 not in twice
