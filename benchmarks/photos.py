"""A folder of whole photos, for training and held out, from installed packages.

    python benchmarks/photos.py FOLDER --root / --root unpacked-debian-packages

Photos of scikit-image, scikit-learn, matplotlib and foolbox, and of the Debian packages
gnome-backgrounds, mate-backgrounds, ukui-wallpapers, lomiri-wallpapers-16.04, -20.04 and
plasma-workspace-wallpapers, looked for under each ``--root``. Each is scaled down to a shorter side
of 224 pixels. None of them comes with rectilinear; each has the licence of its package.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from rectilinear.style.photos import read_photos

HELD_OUT = (
    "skimage/data/chelsea.png",
    "skimage/data/astronaut.png",
    "skimage/data/coffee.png",
    "sklearn/datasets/images/china.jpg",
    "sklearn/datasets/images/flower.jpg",
    "foolbox/data/imagenet_10_541.jpg",
    "foolbox/data/imagenet_15_99.jpg",
    "usr/share/backgrounds/Bridge_by_Sander_Klootwijk.jpg",
)
TRAINING = (
    "skimage/data/rocket.jpg",
    "skimage/data/motorcycle_left.png",
    "skimage/data/ihc.png",
    "skimage/data/retina.jpg",
    "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
    "foolbox/data/imagenet_*.jpg",
    "usr/share/backgrounds/*_by_*.jpg",
    "usr/share/backgrounds/mate/nature/*.jpg",
    "usr/share/wallpapers/*/contents/images/2560x1600.jpg",
)
NO_PHOTOS = ("Fossa_by", "umang_by", "analogpattern_by", "Autumn", "Path")


def files(pattern: str, roots: list[Path]) -> list[Path]:
    """What fits in a package of Python or under one of the roots."""
    package, _, rest = pattern.partition("/")
    spec = find_spec(package) if package != "usr" else None
    if spec is not None and spec.submodule_search_locations:
        return sorted(Path(spec.submodule_search_locations[0]).glob(rest))
    return sorted(path for root in roots for path in root.glob(pattern))


def main() -> None:
    """Gather, scale and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--root", type=Path, action="append", default=[])
    args = parser.parse_args()
    held_out = [path for name in HELD_OUT for path in files(name, args.root)]
    training = [path for name in TRAINING for path in files(name, args.root)]
    training = [p for p in training if not any(word in str(p) for word in NO_PHOTOS)]
    for split, paths in (("test", held_out), ("train", [p for p in training if p not in held_out])):
        (args.folder / split).mkdir(parents=True, exist_ok=True)
        for path in paths:
            name = path.parts[-4] if path.stem == "2560x1600" else path.stem
            (photo,) = read_photos(path)
            pixels = np.ascontiguousarray(photo.expand(3, -1, -1).permute(1, 2, 0).numpy())
            Image.fromarray(pixels).save(args.folder / split / f"{name}.png")
        print(f"{split}: {len(paths)} photos")


if __name__ == "__main__":
    main()
