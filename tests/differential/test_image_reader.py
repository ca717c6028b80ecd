"""The image reader against Pillow, and one file through every function that reads images."""

import contextlib
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from rectilinear import datasets
from rectilinear.cli._options import named_images
from rectilinear.datasets.images import images_from_array
from rectilinear.datasets.read_image import EXTENSIONS, distinct_names, image_files, read_image
from rectilinear.errors import DataError, InputError

H, W = 13, 17
random = np.random.default_rng(0)
COLOUR = random.integers(0, 256, (H, W, 3), dtype=np.uint8)
ALPHA = random.integers(0, 256, (H, W), dtype=np.uint8)
GREY16 = random.integers(0, 65536, (H, W)).astype(np.uint16)


def on_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return np.asarray(share * colour + (1 - share) * 255)


def luma(colour: np.ndarray) -> np.ndarray:
    return np.asarray(colour @ np.array([0.299, 0.587, 0.114]))[..., None]


def rgba(path: Path) -> np.ndarray:
    Image.fromarray(np.dstack([COLOUR, ALPHA])).save(path)
    return on_white(COLOUR, ALPHA)


def grey_alpha(path: Path) -> np.ndarray:
    Image.fromarray(np.dstack([COLOUR[..., 0], ALPHA])).save(path)
    return on_white(np.repeat(COLOUR[..., :1], 3, 2), ALPHA)


def sixteen(path: Path) -> np.ndarray:
    Image.fromarray(GREY16).save(path)
    return np.repeat(GREY16[..., None] / 257, 3, 2)


def sixteen_with_a_transparent_value(path: Path) -> np.ndarray:
    value = int(GREY16[3, 4])
    Image.fromarray(GREY16).save(path, transparency=value)
    return np.repeat(np.where(value == GREY16, 255, GREY16 / 257)[..., None], 3, 2)


def one_colour_transparent(path: Path) -> np.ndarray:
    value = tuple(int(v) for v in COLOUR[2, 2])
    Image.fromarray(COLOUR).save(path, transparency=value)
    return np.where((COLOUR[2, 2] == COLOUR).all(-1, keepdims=True), 255, COLOUR)


def palette(path: Path) -> np.ndarray:
    colours = random.integers(0, 256, (256, 3), dtype=np.uint8)
    indices = random.integers(0, 256, (H, W), dtype=np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(colours.tobytes())
    assert image.mode == "P"
    image.save(path, transparency=bytes(range(256)))
    return on_white(colours[indices], indices)


def cmyk(path: Path) -> np.ndarray:
    inks = random.integers(0, 256, (H, W, 4), dtype=np.uint8)
    Image.fromarray(inks, "CMYK").save(path)
    rest = 255 - inks.astype(float)
    return np.asarray(rest[..., :3] * rest[..., 3:] / 255)


def turned(path: Path) -> np.ndarray:
    image = Image.fromarray(
        COLOUR.transpose(1, 0, 2)[::-1]
    )  # as the camera held on its side stored it
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    return np.asarray(COLOUR.transpose(1, 0, 2)[::-1].transpose(1, 0, 2)[:, ::-1])


def two_frames(path: Path) -> np.ndarray:
    frames = [Image.new("RGB", (W, H), colour) for colour in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    return np.asarray(frames[0])


def one_bit(path: Path) -> np.ndarray:
    bits = random.integers(0, 2, (H, W)).astype(bool)
    Image.fromarray(bits).save(path)
    return np.repeat(255 * bits[..., None], 3, 2)


KINDS: dict[str, tuple[Callable[[Path], np.ndarray], str]] = {
    "rgba": (rgba, ".png"),
    "rgba webp": (lambda p: rgba(p) if p.suffix == ".png" else _lossless(p), ".webp"),
    "grey and alpha": (grey_alpha, ".png"),
    "16 bits": (sixteen, ".png"),
    "16 bits tiff": (sixteen, ".tiff"),
    "16 bits, one value transparent": (sixteen_with_a_transparent_value, ".png"),
    "one colour transparent": (one_colour_transparent, ".png"),
    "palette": (palette, ".png"),
    "cmyk": (cmyk, ".tif"),
    "turned": (turned, ".png"),
    "turned tiff": (turned, ".TIF"),
    "two frames gif": (two_frames, ".gif"),
    "two frames webp": (two_frames, ".WEBP"),
    "two pages": (two_frames, ".tiff"),
    "one bit": (one_bit, ".PNG"),
}


def _lossless(path: Path) -> np.ndarray:
    # of a wholly transparent pixel WebP keeps no colour, which on white nobody sees
    Image.fromarray(np.dstack([COLOUR, ALPHA])).save(path, lossless=True)
    return on_white(COLOUR, ALPHA)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_means_the_same_through_every_door(kind: str, tmp_path: Path) -> None:
    make, suffix = KINDS[kind]
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / f"a{suffix}"
    expected = make(path)
    close = 3 if "webp" in kind or "frames" in kind else 1.01
    np.testing.assert_allclose(read_image(path, grey=False).astype(float), expected, atol=close)
    np.testing.assert_allclose(
        read_image(path, grey=True).astype(float), luma(expected), atol=close + 0.6
    )

    trained, _ = datasets.load(tmp_path / "in", "test", size=8)
    alone, _ = datasets.load(path, "train", size=8)
    shape = (trained.shape[1], 8, 8)
    by_command = named_images(path, shape, tmp_path)
    by_folder = named_images(tmp_path / "in", shape, tmp_path / "out")
    assert torch.equal(trained, alone)
    assert torch.equal(trained[0], by_command["a"])
    assert torch.equal(trained[0], by_folder["a"])
    fitted = ImageOps.fit(
        Image.fromarray(np.rint(expected).astype(np.uint8)), (8, 8), Image.Resampling.LANCZOS
    )
    pixels = torch.from_numpy(np.asarray(fitted).copy()).float() / 255
    colour = datasets.load(path, "train", size=8).images[0].expand(3, 8, 8).permute(1, 2, 0)
    assert (colour - pixels).abs().max() < (close + 1) / 255


@pytest.mark.parametrize(
    ("kind", "mode"), [("float", "F"), ("int32", "I")], ids=["floating point", "32 bits"]
)
def test_a_range_that_no_file_says_is_refused(kind: str, mode: str, tmp_path: Path) -> None:
    Image.fromarray(
        np.arange(20, dtype=np.float32 if kind == "float" else np.int32).reshape(4, 5)
    ).save(tmp_path / "a.tiff")
    assert Image.open(tmp_path / "a.tiff").mode == mode
    with pytest.raises(DataError, match="whose range no file says"):
        read_image(tmp_path / "a.tiff", grey=True)
    with pytest.raises(DataError, match="whose range no file says"):
        named_images(tmp_path / "a.tiff", (1, 4, 4), tmp_path)


def _bomb(side: int) -> bytes:
    """A PNG of a few hundred bytes that says it has ``side`` squared pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [20_000, 60_000])
def test_a_decompression_bomb_is_one_error(side: int, tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(_bomb(side))
    for read in (
        lambda: datasets.load(tmp_path, "test", size=8),
        lambda: named_images(path, (3, 8, 8), tmp_path),
    ):
        with pytest.raises(DataError, match=r"bomb\.png, which cannot be read as an image"):
            read()


@settings(max_examples=60, deadline=None)
@given(
    cut=st.floats(0, 0.999),
    kind=st.sampled_from(["png", "gif", "tiff", "jpeg", "webp", "bmp", "ppm"]),
    flip=st.data(),
)
def test_damage_is_a_data_error_or_pixels(
    cut: float, kind: str, flip: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(COLOUR).save(buffer, kind)
    whole = bytearray(buffer.getvalue())
    for _ in range(flip.draw(st.integers(0, 3))):
        whole[flip.draw(st.integers(0, len(whole) - 1))] ^= flip.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("corrupted") / f"a.{kind}"
    path.write_bytes(whole[: round((1 - cut) * len(whole))])
    read = None
    with contextlib.suppress(DataError):
        read = read_image(path, grey=False)
    assert read is None or (read.dtype == np.uint8 and read.shape[2] == 3)


def test_what_is_in_a_folder(tmp_path: Path) -> None:
    root = tmp_path / "in"
    for name in ("b.PNG", "a.JPG", "a.png", "cats/a.png", ".hidden.png", ".git/x.png", "._a.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3, 3)).save(root / name)
    (root / "notes.txt").write_text("none")
    (root / "Thumbs.db").write_bytes(b"none")
    found = [path.relative_to(root).as_posix() for path in image_files(root)]
    assert found == ["a.JPG", "a.png", "b.PNG", "cats/a.png"]
    assert list(named_images(root, (3, 2, 2), tmp_path / "out")) == [
        "a-JPG",
        "a-png",
        "b",
        "cats/a",
    ]
    assert len(datasets.load(root).images) + len(datasets.load(root, "test").images) == 4
    with pytest.raises(DataError, match="in it"):
        named_images(root, (3, 2, 2), root / "out")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "A", "a-png", "a-jpg", "b/a", "stylized"]),
            st.sampled_from(sorted(EXTENSIONS)),
        ),
        unique=True,
    )
)
def test_names_of_results_never_meet(files: list[tuple[str, str]]) -> None:
    paths = [Path("in", name + suffix) for name, suffix in files]
    names = [name.casefold() for name in distinct_names(paths, Path("in"), taken=("stylized",))]
    assert len({*names, "stylized"}) == len(names) + 1


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (300, 2)])
def test_unusual_sizes(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("RGB", size, (51, 102, 153)).save(tmp_path / "a.png")
    image = datasets.load(tmp_path / "a.png", size=8).images[0]
    assert torch.allclose(
        image, torch.tensor([0.2, 0.4, 0.6])[:, None, None].expand(3, 8, 8), atol=0.005
    )


def test_classes_of_both_splits_have_one_numbering(tmp_path: Path) -> None:
    for i, kind in enumerate(["ant", "bee", "cat"] * 4):
        path = tmp_path / "pets" / kind / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2), i).save(path)
    train, test = (datasets.load(tmp_path / "pets", split) for split in ("train", "test"))
    assert train.classes == test.classes == ("ant", "bee", "cat")
    for data in (train, test):
        numbers = (data.images[:, 0, 0, 0] * 255).round().long()
        assert torch.equal(data.labels, numbers % 3)


@pytest.mark.parametrize("there", ["train", "test"])
def test_a_split_folder_without_the_other_leaks_nothing(there: str, tmp_path: Path) -> None:
    (tmp_path / there).mkdir()
    for i in range(12):
        Image.new("L", (2, 2), i).save(tmp_path / there / f"{i}.png")
    other = "test" if there == "train" else "train"
    assert len(datasets.load(tmp_path, there)) == 12
    with pytest.raises(DataError, match=f"none '{other}'"):
        datasets.load(tmp_path, other)


# arrays


@settings(deadline=None)
@given(
    n=st.integers(1, 4),
    c=st.sampled_from([1, 3]),
    h=st.integers(1, 5),
    w=st.integers(1, 5),
    layout=st.sampled_from(["nchw", "nhwc", "nhw", "chw", "hwc", "hw"]),
    dtype=st.sampled_from(["uint8", "float32", "float64", "bool"]),
)
def test_layouts_are_right_or_refused(
    n: int, c: int, h: int, w: int, layout: str, dtype: str
) -> None:
    kept = np.random.default_rng(n + 7 * h + 49 * w)
    values = (
        kept.integers(0, 256, (n, c, h, w)).astype(np.uint8)
        if dtype == "uint8"
        else kept.random((n, c, h, w))
    )
    values = (values > 0.5) if dtype == "bool" else values.astype(dtype)
    if "n" not in layout:
        values = values[:1]
    truth = torch.from_numpy(values / 255 if dtype == "uint8" else values).float()
    given_ = {
        "nchw": values,
        "nhwc": values.transpose(0, 2, 3, 1),
        "nhw": values[:, 0],
        "chw": values[0],
        "hwc": values[0].transpose(1, 2, 0),
        "hw": values[0, 0],
    }[layout]
    array = torch.from_numpy(np.ascontiguousarray(given_))
    fits_first = tuple(array.shape[-3:]) == (c, h, w)
    if layout in ("nhw", "hw") and c != 1:
        if array.ndim == 3 and (fits_first or tuple(array.shape) == (h, w, c)):
            return  # a stack of as many grey images as channels has the shape of one in colour
        with pytest.raises(InputError, match="expected"):
            images_from_array(array, (c, h, w))
    elif layout in ("nhwc", "hwc") and (
        fits_first or (c == 1 and tuple(array.shape[-2:]) == (h, w))
    ):
        return  # an array that fits both has its channels first
    else:
        assert torch.allclose(images_from_array(array, (c, h, w)), truth, atol=1e-6)


@pytest.mark.parametrize(
    "array",
    [
        torch.randint(0, 256, (2, 1, 4, 4)),
        torch.rand(2, 1, 4, 4) * 255,
        torch.rand(2, 1, 4, 4) * 2 - 1,
        torch.full((2, 1, 4, 4), torch.nan),
        torch.rand(2, 1, 4, 5),
        torch.rand(0, 1, 4, 4),
        torch.rand(6, 4, 4, 3),
        torch.rand(2, 2, 1, 4, 4),
        torch.complex(torch.rand(1, 4, 4), torch.rand(1, 4, 4)),
    ],
    ids=[
        "int64",
        "floats to 255",
        "from -1",
        "nan",
        "wide",
        "none",
        "colour",
        "five axes",
        "complex",
    ],
)
def test_other_arrays_are_refused(array: torch.Tensor) -> None:
    with pytest.raises((InputError, DataError), match="expected"):
        images_from_array(array, (1, 4, 4))
