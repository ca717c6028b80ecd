"""The paper's one-step model, and the one of this library, trained alike."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch
from torch import Tensor, nn

from rectilinear import datasets
from rectilinear.flow import LinearFlow, collapse, objectives
from rectilinear.flow.velocities import LowRankEndpoint, SolvedVelocity
from rectilinear.invertible import Chain, Flatten, Rotation, VectorFlow
from rectilinear.linearizer import Linearizer
from rectilinear.metrics import pca
from rectilinear.random import seed_all
from rectilinear.training import TrainConfig, train

RANK = 8
STEPS = 100


@dataclass(frozen=True)
class Preset:
    """The size of a reproduction."""

    data: str
    blocks: int
    width: int
    training: TrainConfig


PRESETS = {
    "small": Preset("digits", 4, 64, TrainConfig(steps=300, batch_size=64, lr=3e-3, log_every=100)),
    "full": Preset(
        "mnist", 8, 512, TrainConfig(steps=600, batch_size=64, lr=1e-3, schedule="cosine")
    ),
}


@dataclass(frozen=True, eq=False)
class Trained:
    """A model before and after training, and held-out images ``(n, c, h, w)``."""

    before: LinearFlow
    after: LinearFlow
    test: Tensor


def published(preset: Literal["small", "full"], seed: int, data_dir: Path | None) -> Trained:
    """The paper's model: two networks, end points predicted at rank 8, its four losses."""
    size, images, test = _data(preset, data_dir)
    seed_all(seed)
    g_data, g_noise = (
        Chain(
            Flatten(tuple(images.shape[1:])), VectorFlow(images[0].numel(), size.blocks, size.width)
        )
        for _ in range(2)
    )
    flow = LinearFlow(g_data, g_noise, LowRankEndpoint(images[0].numel(), RANK))
    return _trained(flow, objectives.paper(flow), images, test, size.training)


def solved(
    preset: Literal["small", "full"], seed: int, data_dir: Path | None, sigma: float
) -> Trained:
    """This library's model: full rank, operator solved from moments, trained by likelihood."""
    size, images, test = _data(preset, data_dir)
    seed_all(seed)
    n = images[0].numel()
    mean, axes, _ = pca(images)
    g = Chain(
        Flatten(tuple(images.shape[1:])),
        Rotation.from_matrix(axes.float(), mean.float()),
        VectorFlow(n, size.blocks, size.width),
    )
    flow = LinearFlow(
        g, Flatten(tuple(images.shape[1:])), SolvedVelocity(torch.ones(n), torch.ones(n))
    )
    return _trained(flow, objectives.likelihood(flow, sigma), images, test, size.training)


def unfinished(flow: LinearFlow) -> Linearizer:
    """The Euler steps folded but for the last one, as published: the operator keeps an inverse."""
    return collapse(flow, STEPS - 1, "euler", t1=1 - 1 / STEPS)


def _data(preset: str, data_dir: Path | None) -> tuple[Preset, Tensor, Tensor]:
    size = PRESETS[preset]
    return (
        size,
        datasets.load(size.data, "train", data_dir).images,
        datasets.load(size.data, "test", data_dir).images,
    )


def _trained(
    flow: LinearFlow, objective: nn.Module, images: Tensor, test: Tensor, config: TrainConfig
) -> Trained:
    before = deepcopy(flow).eval()
    with TemporaryDirectory() as folder:
        train(objective, images, config, Path(folder), progress=False)
    return Trained(before, flow.cpu().eval().requires_grad_(requires_grad=False), test)
