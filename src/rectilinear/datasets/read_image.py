"""Reading image files and masks: EXIF, colour profiles, transparency, 16 bits, scaling, names."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from rectilinear.errors import DataError, DataWarning

T = TypeVar("T")
EXTENSIONS = {
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm"),
    *(".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
}
"""Suffixes of image files, in lower case."""
UNREADABLE = {
    *(".heic", ".heif", ".jxl", ".arw", ".cr2", ".cr3"),
    *(".dng", ".nef", ".orf", ".raf", ".rw2"),
}
"""Suffixes of photographs that cannot be read: an error, where other files are passed over."""
SHEETS = {
    "interpolation.png": "interpolation.npy",
    "inversion.png": "inversion.npy",
    "projected.png": "projected.json",
    "samples.png": "samples.npy",
    "stylized.png": "stylized.json",
}
"""Contact sheets of the commands, each with a file that the same command writes beside it."""
GREY_MODES = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"}
MAX_PIXELS = 178_956_970
"""Pixels of an image, at most: a file of a kilobyte can claim any number of them."""
_NAMED = 5
"""Files that an error names, at most."""
_NARROW = 2**14
"""Values of 16 bits below which all of an image are those of 10, 12 or 14 bits."""
_LOSSY = {"JPEG", "MPO", "WEBP"}
_SIXTEEN_BITS = {"PNG", "PPM"}  # formats whose mode "I" means 16 bits without a sign


def image_files(path: Path) -> list[Path]:
    """The image files under a folder and its sub-folders, in order; a file alone is itself.

    Hidden files and folders, other kinds of file, and contact sheets that a command has written
    (:data:`SHEETS`) are passed over; links are followed.

    Example:
        >>> import pathlib, tempfile
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("b.PNG", "a.png", ".c.png", "notes.txt"): (root / name).touch()
        >>> [path.name for path in image_files(root)]
        ['a.png', 'b.PNG']
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"no file or folder {path}", "an image or a folder of images")
    found = list_images(path)
    if not found:
        raise DataError(
            f"no image in {path}",
            f"files that end in {', '.join(sorted(EXTENSIONS))}",
            "Check the folder; contact sheets of earlier commands do not count.",
        )
    return found


def list_images(folder: Path) -> list[Path]:
    """The image files under a folder, perhaps none; see :func:`image_files`."""
    files = sorted(path for path in _walk(folder, frozenset()))
    found = [path for path in files if path.suffix.lower() in EXTENSIONS and not _is_sheet(path)]
    readable = {path.with_suffix("") for path in found}
    raw = [
        path
        for path in files
        if path.suffix.lower() in UNREADABLE and path.with_suffix("") not in readable
    ]
    if raw:
        raise DataError(
            got=f"{raw[0]}, a photograph of a kind that is not read"
            + (f", and {len(raw) - 1} more" * (len(raw) > 1)),
            expected=f"files that end in {', '.join(sorted(EXTENSIONS))}",
            fix="Convert it, to JPEG for instance, or take it out of the folder.",
        )
    return found


def _is_sheet(path: Path) -> bool:
    """True for a contact sheet that a command has written, beside its other files."""
    beside = SHEETS.get(path.name)
    return beside is not None and path.with_name(beside).exists()


def _walk(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    """The files under a folder that are not hidden; links are followed, but not to a parent."""
    above |= {folder.resolve()}
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if not path.is_dir():
            yield path
        elif path.resolve() not in above:
            yield from _walk(path, above)


def is_grey(path: Path) -> bool:
    """True if the image has one channel, but for transparency.

    Raises:
        DataError: if it cannot be read.
    """
    return _opened(path, lambda image: image.mode in GREY_MODES)


def read_image(path: Path, *, grey: bool, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """The image in a file as bytes ``(h, w, 1)`` if ``grey``, else ``(h, w, 3)``.

    In this order: the first frame of an animation; turned as its EXIF orientation says; of 16 bits
    a pixel the upper 8; to sRGB by the colour profile in the file, where it is one of such pixels;
    transparent on white; colours to RGB, or to grey by ``0.299 R + 0.587 G + 0.114 B``; with a
    ``size`` scaled by Lanczos' filter until it covers ``size``, and cropped at the centre.

    Args:
        path: the file.
        grey: one channel, or three.
        size: height and width; those of the file where None.

    Raises:
        DataError: if the file is missing, damaged, no image, of more than :data:`MAX_PIXELS`
            pixels, or has floating-point or 32-bit pixels, whose range no file says.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "half.png"
        >>> Image.new("LA", (4, 6), (0, 51)).save(path)
        >>> read_image(path, grey=True).shape
        (6, 4, 1)
        >>> read_image(path, grey=False, size=(2, 2))[0, 0].tolist()
        [204, 204, 204]
    """

    def decode(file: Image.Image) -> NDArray[np.uint8]:
        image = _on_white(
            _in_srgb(_eight_bits(ImageOps.exif_transpose(file), file.format))
        ).convert("L" if grey else "RGB")
        if size is not None:
            image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.LANCZOS)
        return np.atleast_3d(np.asarray(image))

    return _opened(path, decode)


def read_mask(path: Path, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask in an image file: true where pixels are observed, ``(h, w)``.

    It is cropped as an image of its size would be. Observed are the opaque pixels where some are
    not, else those that are not black; of lossy files (JPEG, WebP), whose black is only nearly
    black, those in the upper half of the range. A pixel of the result is observed only if all that
    it covers of the file is.

    Args:
        path: the file.
        size: height and width of the result.
    """

    def decode(file: Image.Image) -> NDArray[np.bool_]:
        lossy, image = file.format in _LOSSY, ImageOps.exif_transpose(file)
        alpha = np.asarray(_with_alpha(image).getchannel("A")) if _transparent(image) else None
        if alpha is not None and bool((alpha < 255).any()):
            return alpha == 255
        if image.mode.startswith(("I", "F")):
            return np.asarray(image) != 0
        pixels = np.asarray(image.convert("RGB")).max(axis=2)
        return pixels >= 128 if lossy else pixels != 0

    observed = _covered(_opened(path, decode), size)
    if not observed.any():
        raise DataError(
            f"the mask {path}, by which no pixel is observed at {size[1]} x {size[0]}",
            "observed pixels: opaque, or not black",
            "Check which part of it is black or transparent.",
        )
    return observed


def all_read(paths: Iterable[Path], read: Callable[[Path], T]) -> list[T]:
    """The result of ``read`` for each file; one error names all files that cannot be read.

    Raises:
        DataError: if at least one cannot.

    Example:
        >>> import pathlib, tempfile
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("a.png", "b.png"): (root / name).touch()
        >>> all_read(image_files(root), lambda path: read_image(path, grey=True))
        Traceback (most recent call last):
        rectilinear.errors.DataError: Got 2 files that cannot be read as images: ...
    """
    found, failed = [], []
    for path in paths:
        try:
            found.append(read(path))
        except DataError as error:
            failed.append((path, error))
    if len(failed) == 1:
        raise failed[0][1]
    if failed:
        named = ", ".join(f"{path} ({error.__cause__ or error})" for path, error in failed[:_NAMED])
        more = f", and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
        raise DataError(
            got=f"{len(failed)} files that cannot be read as images: {named}{more}",
            expected="undamaged images",
            fix="Remove them from the folder or replace them.",
        )
    return found


def warn_of_loss(files: Iterable[Path]) -> None:
    """Warn of images of 10 to 14 bits in files of 16, which are read as nearly black, and of pages.

    Images of 12 bits, as of microscopes and X-rays, have values up to 4095 of 65535.

    Warns:
        DataWarning: of each of the two, once, naming some files.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "cells.png"
        >>> Image.fromarray(np.full((2, 2), 4095, dtype=np.uint16)).save(path)
        >>> with warnings.catch_warnings(record=True) as caught: warn_of_loss([path])
        >>> str(caught[0].message)[-56:]
        'stretch them first, for instance by 65535 / the highest.'
    """
    paths = [*files]
    dark = [path for path in paths if _opened(path, _is_narrow)]
    pages = [path for path in paths if _opened(path, _has_pages)]
    narrow = (
        f"have 16 bits and no value of {_NARROW} or more of 65535, and are read as dark: if they "
        "are of 10 to 14 bits, stretch them first, for instance by 65535 / the highest."
    )
    first = "have several pages, of which the first is read: save each as a file of its own."
    for of, what in ((dark, narrow), (pages, first)):
        if of:
            named = ", ".join(map(str, of[:_NAMED]))
            more = f" and {len(of) - _NAMED} more" if len(of) > _NAMED else ""
            message = f"{len(of)} of {len(paths)} images ({named}{more}) {what}"
            warnings.warn(message, DataWarning, stacklevel=3)


def _is_narrow(image: Image.Image) -> bool:
    """True for pixels of 16 bits that are not all 0, and have less than 15 bits."""
    if image.mode.startswith("I"):
        return 0 < int(np.asarray(image).max()) < _NARROW
    if ";16" not in str(getattr(image, "tile", "")):  # how Pillow reads the file, before it does
        return False
    return 0 < 256 * int(np.asarray(image.convert("RGB")).max()) < _NARROW


def _has_pages(image: Image.Image) -> bool:
    return image.format == "TIFF" and getattr(image, "n_frames", 1) > 1


def distinct_names(files: Iterable[Path], root: Path, taken: Iterable[str] = ()) -> list[str]:
    """Distinct names for outputs: paths below ``root``, with the suffix where two would be equal.

    Example:
        >>> import pathlib
        >>> files = [pathlib.Path("in", name) for name in ("a.jpg", "a.png", "b.png", "cats/a.png")]
        >>> distinct_names(files, pathlib.Path("in"))
        ['a-jpg', 'a-png', 'b', 'cats/a']
    """
    relative = [file.relative_to(root if file != root else file.parent) for file in files]
    plain = [path.with_suffix("").as_posix() for path in relative]
    count, used = Counter(name.casefold() for name in plain), {name.casefold() for name in taken}
    alone = {name for name, times in count.items() if times == 1 and name not in used}
    used |= alone
    names = []
    for path, name in zip(relative, plain, strict=True):
        chosen, number = name, 1
        while name.casefold() not in alone and (number == 1 or chosen.casefold() in used):
            chosen = f"{name}-{path.suffix[1:]}" + (f"-{number}" if number > 1 else "")
            number += 1
        used.add(chosen.casefold())
        names.append(chosen)
    return names


def _opened(path: Path, use: Callable[[Image.Image], T]) -> T:
    """The result of ``use`` on the open file; a failure is a DataError that names the file."""
    try:
        with warnings.catch_warnings():
            # MAX_PIXELS is checked below instead.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                if file.width * file.height > MAX_PIXELS:
                    raise ValueError(f"{file.width} x {file.height} pixels, above {MAX_PIXELS}")
                return use(file)
    except MemoryError:
        raise
    except Exception as error:  # of damaged files decoders raise whatever they stumble over
        raise DataError(
            got=f"{path}, which cannot be read as an image ({error or type(error).__name__})",
            expected="an undamaged image",
            fix="Remove it from the folder or replace it.",
        ) from error


def _eight_bits(image: Image.Image, format_: str | None) -> Image.Image:
    """The image with 8 bits a channel: the upper 8 of 16, which Pillow itself would clip."""
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range no file says: save 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    if image.mode == "I" and format_ not in _SIXTEEN_BITS:
        raise ValueError("32-bit pixels, whose range no file says: save 8 or 16 bits")
    wide = np.asarray(image)
    grey = Image.fromarray((np.clip(wide, 0, 65535) >> 8).astype(np.uint8))
    if isinstance(clear := image.info.get("transparency"), int):
        grey.putalpha(Image.fromarray(np.where(wide == clear, 0, 255).astype(np.uint8)))
    return grey


def _in_srgb(image: Image.Image) -> Image.Image:
    """The image in sRGB by the colour profile in its file, if there is a fitting one."""
    profile = image.info.get("icc_profile")
    if not profile:
        return image
    plain = image.convert("RGB") if image.mode == "P" else image
    plain = _with_alpha(image) if _transparent(image) else plain
    alpha = plain.getchannel("A") if plain.mode == "RGBA" else None
    grey = image.mode in GREY_MODES
    colours = plain.convert("L" if grey else "RGB") if alpha is not None or grey else plain
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if space != {"L": "GRAY"}.get(colours.mode, colours.mode):
            return image
        found = ImageCms.profileToProfile(
            colours, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (OSError, ImageCms.PyCMSError):  # a damaged profile says nothing
        return image
    assert found is not None
    found = found.convert("L") if grey else found
    if alpha is not None:
        found.putalpha(alpha)
    return found


def _transparent(image: Image.Image) -> bool:
    return image.mode in ("La", "RGBa") or "A" in image.getbands() or "transparency" in image.info


def _with_alpha(image: Image.Image) -> Image.Image:
    premultiplied = {"La": "LA", "RGBa": "RGBA"}
    return image.convert(premultiplied.get(image.mode, image.mode)).convert("RGBA")


def _on_white(image: Image.Image) -> Image.Image:
    if not _transparent(image):
        return image
    image = _with_alpha(image)
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _covered(observed: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask at another size, cropped at the centre: true where all covered pixels are."""
    (h, w), (height, width) = size, observed.shape
    scale = min(height / h, width / w)
    missing = np.zeros((height + 1, width + 1), dtype=np.int64)
    missing[1:, 1:] = (~observed).cumsum(0).cumsum(1)
    (top, bottom), (left, right) = (_spans(n, k, scale) for n, k in ((height, h), (width, w)))
    corners = missing[np.ix_(bottom, right)] - missing[np.ix_(top, right)]
    inside: NDArray[np.bool_] = corners == (
        missing[np.ix_(bottom, left)] - missing[np.ix_(top, left)]
    )
    return inside


def _spans(pixels: int, count: int, scale: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First pixel of a side, and one past the last, that each of ``count`` new pixels covers."""
    edges = (pixels - count * scale) / 2 + scale * np.arange(count + 1)
    edges = np.where(np.abs(edges - edges.round()) < 1e-6, edges.round(), edges)
    first = np.floor(edges[:-1]).clip(0, pixels - 1)
    last = np.ceil(edges[1:]).clip(first + 1, pixels)
    return first.astype(np.int64), last.astype(np.int64)
