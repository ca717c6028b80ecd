"""A mask marks a pixel as observed only if all of the pixels that it covers are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rectilinear.datasets.images import mask_from_array
from rectilinear.datasets.read_image import _covered, read_mask
from rectilinear.errors import DataError, InputError


def slow(known: np.ndarray, h: int, w: int) -> np.ndarray:
    """Each pixel by exact fractions: what it covers of the file, after the largest crop at the
    centre.
    """
    from fractions import Fraction

    height, width = known.shape
    scale = min(Fraction(height, h), Fraction(width, w))
    top, left = (height - h * scale) / 2, (width - w * scale) / 2
    result = np.zeros((h, w), dtype=bool)
    for i in range(h):
        for j in range(w):
            rows = [
                y for y in range(height) if y + 1 > top + i * scale and y < top + (i + 1) * scale
            ]
            columns = [
                x for x in range(width) if x + 1 > left + j * scale and x < left + (j + 1) * scale
            ]
            result[i, j] = known[np.ix_(rows, columns)].all()
    return result


@settings(max_examples=150, deadline=None)
@given(
    height=st.integers(1, 12), width=st.integers(1, 12), h=st.integers(1, 8), w=st.integers(1, 8),
    seed=st.integers(0, 99), share=st.sampled_from([0.5, 0.9, 1.0]),
)  # fmt: skip
def test_covered_is_what_fractions_say(
    height: int, width: int, h: int, w: int, seed: int, share: float
) -> None:
    known = np.random.default_rng(seed).random((height, width)) < share
    np.testing.assert_array_equal(_covered(known, (h, w)), slow(known, h, w))


def save(pixels: np.ndarray, path: Path) -> Path:
    Image.fromarray(pixels).save(path)
    return path


TRUTH = np.ones((8, 8), dtype=bool)
TRUTH[2:5, 3:6] = False
LARGE = np.kron(TRUTH, np.ones((7, 7), dtype=bool))


@pytest.mark.parametrize(
    "pixels",
    [
        np.where(LARGE, 255, 0).astype(np.uint8),
        np.where(LARGE, 1, 0).astype(np.uint8),
        LARGE,
        np.where(LARGE, 65535, 0).astype(np.uint16),
        np.where(LARGE, 7, 0).astype(np.uint16),
        np.dstack([np.where(LARGE, 0, 0).astype(np.uint8)] * 3 + [np.where(LARGE, 255, 0).astype(np.uint8)]),
        np.dstack([np.full(LARGE.shape, 200, np.uint8)] * 3 + [np.where(LARGE, 255, 254).astype(np.uint8)]),
        np.dstack([np.full(LARGE.shape, 90, np.uint8), np.where(LARGE, 255, 0).astype(np.uint8)]),
        np.dstack([np.where(LARGE, 0, 0).astype(np.uint8)] * 2 + [np.where(LARGE, 255, 0).astype(np.uint8)]),
        np.dstack([np.where(LARGE, 255, 0).astype(np.uint8)] * 3 + [np.full(LARGE.shape, 255, np.uint8)]),
    ],
    ids=["255", "1", "bit", "16 bits", "16 bits dark", "alpha of a dark image", "alpha nearly opaque", "grey and alpha",
         "blue", "opaque alpha"],
)  # fmt: skip
def test_kinds_of_files_say_the_same(pixels: np.ndarray, tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_mask(save(pixels, tmp_path / "m.png"), (8, 8)), TRUTH)


def test_nearly_black_of_a_jpeg_is_unknown(tmp_path: Path) -> None:
    Image.fromarray(np.where(LARGE, 255, 0).astype(np.uint8)).save(tmp_path / "m.jpg", quality=40)
    assert np.asarray(Image.open(tmp_path / "m.jpg"))[~LARGE].max() > 0
    np.testing.assert_array_equal(read_mask(tmp_path / "m.jpg", (8, 8)), TRUTH)


def test_one_unknown_pixel_of_a_large_mask_is_enough(tmp_path: Path) -> None:
    pixels = np.full((64, 64), 255, dtype=np.uint8)
    pixels[17, 42] = 0
    expected = np.ones((8, 8), dtype=bool)
    expected[2, 5] = False
    np.testing.assert_array_equal(read_mask(save(pixels, tmp_path / "m.png"), (8, 8)), expected)


def test_a_mask_by_which_nothing_is_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pixel is observed"):
        read_mask(save(np.zeros((8, 8), np.uint8), tmp_path / "m.png"), (8, 8))
    with pytest.raises(DataError, match="no pixel is observed"):
        mask_from_array(torch.zeros(8, 8), (3, 1, 8, 8))


@pytest.mark.parametrize("shape", [(3, 1, 4, 4), (3, 3, 4, 4), (4, 3, 4, 4)])
def test_arrays_are_for_all_images_or_for_each(shape: tuple[int, int, int, int]) -> None:
    n, _, h, w = shape
    each = torch.rand(n, h, w) < 0.7
    each[:, 0, 0] = True
    for given_ in (each, each.float(), each[:, None].byte(), each[:, None].expand(shape).long()):
        assert torch.equal(mask_from_array(given_, shape), each[:, None].expand(shape))
    assert torch.equal(mask_from_array(each[0], shape), each[0].expand(shape))


@pytest.mark.parametrize("shape", [(4, 5), (2, 4, 4), (4, 4, 1), (3, 2, 4, 4), (16,)])
def test_other_arrays_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="a mask of shape"):
        mask_from_array(torch.ones(shape), (3, 1, 4, 4))


def test_nan_is_no_mask() -> None:
    with pytest.raises(InputError, match="NaN"):
        mask_from_array(torch.full((4, 4), torch.nan), (3, 1, 4, 4))
