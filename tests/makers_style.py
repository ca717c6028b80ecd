"""Photos for the tests of styles, in memory and on disk."""

import numpy as np
import torch
from PIL import Image


def photos(count: int, height: int = 24, width: int = 32) -> list[torch.Tensor]:
    torch.manual_seed(1)
    coarse = torch.rand(count, 3, height // 4, width // 4, dtype=torch.float64)
    return [*torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")]


def draw(folder, names, size=(20, 30)):
    folder.mkdir(parents=True)
    for i, name in enumerate(names):
        pixels = np.random.default_rng(i).integers(0, 255, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
