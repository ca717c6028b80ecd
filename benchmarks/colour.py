"""Restoration of photos in colour by a prior of patches beside BM3D and biharmonic inpainting.

    pip install scikit-image bm3d
    python benchmarks/colour.py            # about ten minutes on one core
    python benchmarks/colour.py --ranks 64 128

Prints PSNR in dB of eight tiles of 64 x 64 pixels as one, of two photos of scikit-image and
scikit-learn that the prior is not fitted to, and CPU seconds for all eight.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import skimage
import sklearn
import torch
from bm3d import bm3d_rgb
from skimage.restoration import inpaint_biharmonic
from torch import Tensor

from rectilinear.datasets.read_image import read_image
from rectilinear.projector import corrupt, fit_prior, restore
from rectilinear.projector.restoration_table import restoration_psnr
from rectilinear.random import generator

SKIMAGE = Path(skimage.__file__).parent / "data"
SKLEARN = Path(sklearn.__file__).parent / "datasets" / "images"
TRAINING = [
    *(SKIMAGE / name for name in ("chelsea.png", "coffee.png", "rocket.jpg")),
    SKLEARN / "flower.jpg",
    *(SKIMAGE / name for name in ("motorcycle_left.png", "ihc.png", "retina.jpg")),
    SKIMAGE / "hubble_deep_field.jpg",
]
HELD_OUT = [SKIMAGE / "astronaut.png", SKLEARN / "china.jpg"]
SIDE = 64
CASES = [
    *(("noise", sigma / 255) for sigma in (15, 25, 50)),
    *(("missing", share) for share in (0.25, 0.5, 0.75)),
    *(("occlusion", side) for side in (0.125, 0.25)),
]


def tiles(files: list[Path], count: int, seed: int) -> Tensor:
    """Squares at random places of photos in turn, ``(count, 3, 64, 64)``."""
    draw, found = np.random.default_rng(seed), []
    photos = [torch.tensor(read_image(path, grey=False)).movedim(2, 0) / 255 for path in files]
    for i in range(count):
        photo = photos[i % len(photos)]
        top, left = (int(draw.integers(n - SIDE + 1)) for n in photo.shape[1:])
        found.append(photo[:, top : top + SIDE, left : left + SIDE])
    return torch.stack(found)


def peer(y: Tensor, missing: Tensor | None, sigma: float) -> Tensor:
    """BM3D in colour, or with a mask biharmonic inpainting."""
    parts = []
    for i, image in enumerate(y.movedim(1, 3).double().numpy()):
        found = (
            bm3d_rgb(image, sigma)
            if missing is None
            else inpaint_biharmonic(image, missing[i].numpy(), channel_axis=2)
        )
        parts.append(torch.tensor(np.asarray(found)).movedim(2, 0).to(y))
    return torch.stack(parts)


def timed(call: Callable[[], Tensor], images: Tensor) -> str:
    """PSNR and CPU seconds."""
    start = time.process_time()
    found = call()
    return f"{restoration_psnr(found, images):.2f} ({time.process_time() - start:.0f} s)"


def main() -> None:
    """Fit a prior for each rank and print one line for each case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranks", type=int, nargs="+", default=[64, 96])
    ranks = parser.parse_args().ranks
    torch.set_num_threads(1)
    train, images = tiles(TRAINING, 400, 0), tiles(HELD_OUT, 8, 1)
    priors = {rank: fit_prior(train, rank, patch=8) for rank in ranks}
    for kind, severity in CASES:
        y, K = corrupt(images, kind, severity, generator(0))
        mask, sigma = None, severity
        if K is not None:
            mask, sigma = K(torch.ones_like(y).flatten(1)).reshape(y.shape)[:, 0] == 0, 0.0
        row = [f"{kind} {severity:.3f}: unrestored {restoration_psnr(y, images):.2f}"]
        for rank, prior in priors.items():
            found = timed(partial(restore, prior, y, K, noise=sigma), images)
            row.append(f"rank {rank} {found}")
        row.append(f"peer {timed(partial(peer, y, mask, sigma), images)}")
        print(", ".join(row), flush=True)


if __name__ == "__main__":
    main()
