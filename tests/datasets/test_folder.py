import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from rectilinear import datasets
from rectilinear.errors import ConfigError, DataError, DataWarning


def paint(path, colour, mode="RGB", size=(12, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def sixteen_bits(pixels):
    """A PNG file of colours ``(h, w, 3)`` of 16 bits, which Pillow reads and does not write."""

    def chunk(kind, data):
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    h, w, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", w, h, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in (*parts, (b"IEND", b"")))


def reds(data):
    return (data.images[:, 0, 0, 0] * 255).round().long().tolist()


def test_split_and_classes(tmp_path):
    for i in range(21):
        paint(tmp_path / "pets" / ("cat" if i < 11 else "dog") / f"{i:02}.png", (i, 0, 0))
    (tmp_path / "pets" / "notes.txt").write_text("passed over")
    paint(tmp_path / "pets" / ".hidden" / "x.png", (9, 9, 9))
    train, test = datasets.load(tmp_path / "pets"), datasets.load("pets", "test", data_dir=tmp_path)
    assert reds(test) == [0, 10, 20]
    assert sorted(reds(train) + reds(test)) == list(range(21))
    assert train.classes == ("cat", "dog")
    assert train.labels.tolist() == [0] * 9 + [1] * 9
    assert (train.name, train.shape) == ("pets", (3, 10, 12))


def test_own_split_folders(tmp_path):
    paint(tmp_path / "train" / "a.png", (255, 0, 0))
    paint(tmp_path / "test" / "a.png", (0, 0, 255))
    assert datasets.load(tmp_path, "test").images[0, :, 0, 0].tolist() == [0, 0, 1]
    assert len(datasets.load(tmp_path)) == 1


def test_transparency_lies_on_white(tmp_path):
    paint(tmp_path / "test" / "clear.png", (10, 20, 30, 0), "RGBA")
    paint(tmp_path / "test" / "half.png", (0, 0, 0, 51), "RGBA")
    palette = Image.new("P", (12, 10), 0)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.save(tmp_path / "test" / "palette.png", transparency=0)
    corner = datasets.load(tmp_path, "test").images[:, :, 0, 0]
    assert torch.allclose(corner, torch.tensor([[1.0], [0.8], [1.0]]).expand(3, 3))


@pytest.mark.parametrize(
    ("mode", "value", "expected"), [("L", 51, 0.2), ("1", 1, 1.0), ("LA", (0, 51), 0.8)]
)
def test_grey_has_one_channel(tmp_path, mode, value, expected):
    paint(tmp_path / "test" / "a.png", value, mode)
    images, _ = datasets.load(tmp_path, "test")
    assert images.shape[1] == 1
    assert images.mean().item() == pytest.approx(expected)
    paint(tmp_path / "test" / "b.png", (255, 0, 0))
    assert datasets.load(tmp_path, "test").images.shape[1] == 3


def test_sixteen_bits_keep_their_range(tmp_path):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    (tmp_path / "test").mkdir()
    Image.fromarray(ramp).save(tmp_path / "test" / "a.png")
    image = datasets.load(tmp_path, "test").images[0, 0].flatten()
    assert torch.allclose(image, torch.linspace(0, 1, 64), atol=1 / 255)


def test_scaled_and_cropped_at_the_centre(tmp_path):
    wide = np.zeros((10, 30, 3), dtype=np.uint8)
    wide[:, 10:20] = 255
    (tmp_path / "test").mkdir()
    Image.fromarray(wide).save(tmp_path / "test" / "wide.png")
    Image.fromarray(wide.transpose(1, 0, 2)).save(tmp_path / "test" / "tall.jpg", quality=100)
    images, _ = datasets.load(tmp_path, "test", size=5)
    assert images.shape == (2, 3, 5, 5)
    assert images[:, :, 1:-1, 1:-1].min() > 0.95  # the black outside is cropped away, edges ring


def test_the_camera_orientation_is_kept(tmp_path):
    image = Image.new("RGB", (12, 10))
    exif = image.getexif()
    exif[0x0112] = 6  # turn by 90 degrees to show
    (tmp_path / "test").mkdir()
    image.save(tmp_path / "test" / "a.jpg", exif=exif)
    assert datasets.load(tmp_path, "test").shape == (3, 12, 10)


def truncated(path):
    paint(path, (1, 2, 3), size=(64, 64))
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize(
    "spoil",
    [truncated, lambda p: p.write_bytes(b"text"), lambda p: p.write_bytes(b"")],
    ids=["truncated", "text", "empty"],
)
def test_an_unreadable_image_is_named(tmp_path, spoil):
    paint(tmp_path / "test" / "a.png", (1, 2, 3))
    spoil(tmp_path / "test" / "b.png")
    with pytest.raises(DataError, match=r"b\.png, which cannot be read as an image"):
        datasets.load(tmp_path, "test", size=8)


def test_float_pixels_are_refused(tmp_path):
    paint(tmp_path / "test" / "a.tiff", 0.5, "F")
    with pytest.raises(DataError, match="floating-point pixels"):
        datasets.load(tmp_path, "test")


def test_sizes_differ_and_empty_folders(tmp_path):
    paint(tmp_path / "test" / "a.png", (1, 2, 3))
    paint(tmp_path / "test" / "b.png", (1, 2, 3), size=(5, 6))
    with pytest.raises(DataError, match=r"b\.png of 5 x 6 pixels; expected 12 x 10"):
        datasets.load(tmp_path, "test")
    with pytest.raises(ConfigError, match="size = -1"):
        datasets.load(tmp_path, "test", size=-1)
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="no image in"):
        datasets.load(tmp_path)


def test_few_bits_in_files_of_sixteen_and_pages_are_told_once(tmp_path):
    values = np.linspace(0, 4095, 120).astype(np.uint16).reshape(10, 12)
    (tmp_path / "test").mkdir()
    for name in ("a.png", "b.tif"):
        Image.fromarray(values).save(tmp_path / "test" / name)
    (tmp_path / "test" / "c.png").write_bytes(sixteen_bits(np.stack([values] * 3, 2)))
    (tmp_path / "test" / "wide.png").write_bytes(sixteen_bits(np.stack([16 * values] * 3, 2)))
    paint(tmp_path / "test" / "black.png", 0, "I;16")
    stack = [Image.new("L", (12, 10), i) for i in (100, 200)]
    stack[0].save(tmp_path / "test" / "stack.tif", save_all=True, append_images=stack[1:])
    with pytest.warns(DataWarning) as caught:
        datasets.load(tmp_path, "test")
    dark, pages = (str(w.message) for w in caught)
    assert dark.startswith(f"3 of 6 images ({tmp_path / 'test' / 'a.png'}, ")
    assert "c.png" in dark
    assert "black.png" not in dark
    assert "wide.png" not in dark
    assert pages.startswith(f"1 of 6 images ({tmp_path / 'test' / 'stack.tif'}) have several pages")
