import io

import numpy as np
import pytest
from PIL import Image

from rectilinear import plots
from rectilinear.errors import NonFiniteError, ShapeError
from rectilinear.plots.charts import png


def test_grid_places_every_image() -> None:
    images = np.arange(5, dtype=float).reshape(5, 1, 1, 1).repeat(2, axis=2).repeat(3, axis=3) / 4
    sheet = plots.grid(images, columns=3, gap=1)
    assert sheet.shape == (5, 11, 4)
    for i in range(5):
        top, left = i // 3 * 3, i % 3 * 4
        cell = sheet[top : top + 2, left : left + 3]
        assert (cell[..., 3] == 255).all()
        assert (cell[..., :3] == round(255 * i / 4)).all()
    assert (sheet[3:, 8:, 3] == 0).all(), "the place that no image fills is transparent"


def test_grid_clips_and_keeps_colour() -> None:
    images = np.array([-1.0, 0.5, 2.0]).reshape(1, 3, 1, 1)
    assert plots.grid(images, columns=1)[0, 0].tolist() == [0, 128, 255, 255]


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 2, 8, 8), (0, 1, 8, 8)])
def test_grid_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError):
        plots.grid(np.zeros(shape), columns=2)


def test_grid_refuses_nan() -> None:
    with pytest.raises(NonFiniteError):
        plots.grid(np.full((1, 1, 2, 2), np.nan), columns=1)


def test_png_round_trip() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 4), dtype=np.uint8)
    back = np.asarray(Image.open(io.BytesIO(png(pixels, scale=3))))
    assert np.array_equal(back[::3, ::3], pixels)
    assert np.array_equal(back[2::3, 2::3], pixels)
