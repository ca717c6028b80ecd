"""Recipes of generators: digits, MNIST, and images from a folder.

Each trains one network that generates in one step, projects onto every rank, and orders its
directions as PCA does. The operator is diagonal, so that no matrix of pixels by pixels is held.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from rectilinear.datasets.images import usual_side
from rectilinear.datasets.load import NAMES
from rectilinear.flow import LinearFlow, objectives
from rectilinear.flow.velocities import SolvedVelocity
from rectilinear.invertible import (
    MLP,
    AffineCoupling,
    Chain,
    Flatten,
    Identity,
    Invertible,
    Leading,
    Scaling,
    VectorFlow,
)
from rectilinear.invertible.flows import Conditioner, levels_for, on_pixels
from rectilinear.invertible.rotation import onto_axes
from rectilinear.metrics.pca import principal_axes
from rectilinear.recipes.base import Fitted, Labels, Recipe, Stage, check_images, check_range
from rectilinear.recipes.mixture import mixture_of
from rectilinear.training import TrainConfig
from rectilinear.training.distributed import device_named

_CHUNK_IMAGES = 512  # encoded at a time
_MIN_CLASS_IMAGES = 10  # of a class, on average, from which on labels are used
_MAX_SIDE = 64  # of images of a folder, in pixels, where none is given
_CPU_MICRO_BATCH = 4  # images of the large recipe that are computed at a time on a CPU
_MIN_STEPS = 300  # of a training on few images


@dataclass(frozen=True)
class Nested(Recipe):
    """Couplings behind principal axes, then a density of their leading latents.

    1. *Order.* Likelihood of noisy images, and reconstruction from nested ranks. The network starts
       as PCA. Behind the principal axes affine couplings work on the ``leading`` coordinates at
       unit scale, and the others move by one
       coupling that reads the leading ones. Before the axes a few convolutional couplings work on
       the pixels: decoding, they come last, and draw the strokes sharp that few coordinates leave
       blurred. The operator is PCA's standard
       deviations and stays so: were it to follow the latents, the likelihood would not care for
       their scale, and the singular values would lose their order.
    2. *Density.* The leading latents of images without noise are few, and not Gaussian. A Gaussian
       mixture is fitted to them, class by class, and its triangular map makes them Gaussian: see
       :class:`~rectilinear.invertible.MixtureMap`. It takes seconds, keeps every leading latent
       exact, and gives the generator of each class. Images without labels have clusters instead.

    The second stage is what makes good samples: the first models noisy images, and its leading
    latents carry the noise. For comparison, ``density_model="splines"`` trains spline couplings.

    Attributes:
        pixel_blocks: Convolutional couplings on the pixels at each resolution; 0 for sides that are
            odd.
        pixel_levels: Resolutions of these couplings; the first is half of that of the images, and
            each half of the one before, with 7 pixels a side or more.
        pixel_width: Channels of their conditioners.
        pixel_conditioner: Convolutions, or a vision transformer of patches.
        axes: Principal axes that are found, for images so large that all of them are too many; none
            finds all.
        leading: Principal coordinates that the couplings work on, at most.
        blocks: Couplings there.
        width: Width of their conditioners.
        tail_width: Width of the conditioner that moves the other coordinates.
        nested: Weight of the reconstruction through rank ``k``, relative to PCA's error at that
            rank. Half of the ``k`` are ``rank``, where one is given.
        lowest: Least ``k`` drawn; the largest is ``leading``.
        share: Share of a batch in the nested term.
        clamp: Whether the error of the nested term is that of images clamped to [0, 1]. It improves
            samples of MNIST, where most pixels are 0 or 1, and not those of digits.
        latents: Leading latents whose density is learned; 0 leaves out the second stage.
        density_model: What the density is: a mixture, which is fitted, or splines, which are
            trained.
        components: Components of a class of the mixture; none takes one for 15 images, 160 at most.
        clusters: Clusters of images without labels, at most; 1 for none.
        density_blocks: Couplings of the splines.
        density_width: Width of their conditioners.
        density_noise: Standard deviation of the noise added to the latents, which have the scale of
            the images.
        density_nested: Weight of the reconstruction of the leading latents through their own nested
            ranks.
        density: How to train the splines.

    Reference: Dai and Wipf, "Diagnosing and enhancing VAE models", 2019 (arXiv 1903.05789), for two
    stages.
    """

    ranges: ClassVar[dict[str, tuple[float, float]]] = {
        **Recipe.ranges,
        **dict.fromkeys(
            ("noise", "nested", "density_noise", "density_nested", "pixel_blocks", "latents"),
            (0, inf),
        ),
        **dict.fromkeys(
            (
                "pixel_levels",
                "pixel_width",
                "axes",
                "leading",
                "blocks",
                "width",
                "tail_width",
                "lowest",
            ),
            (1, inf),
        ),
        **dict.fromkeys(("density_blocks", "density_width", "components", "clusters"), (1, inf)),
        "share": (0, 1),
    }

    noise: float = 0.1
    pixel_blocks: int = 2
    pixel_levels: int = 1
    pixel_width: int = 32
    pixel_conditioner: Conditioner = "conv"
    axes: int | None = None
    leading: int = 128
    blocks: int = 8
    width: int = 256
    tail_width: int = 128
    nested: float = 0.5
    lowest: int = 4
    share: float = 0.5
    clamp: bool = False
    latents: int = 32
    density_model: Literal["mixture", "splines"] = "mixture"
    components: int | None = None
    clusters: int = 10
    density_blocks: int = 8
    density_width: int = 256
    density_noise: float = 0.05
    density_nested: float = 0.05
    density: TrainConfig = field(default_factory=TrainConfig)

    def check(self, data: Tensor) -> None:
        super().check(data)
        check_images(data, self.rank)
        n = data[0].numel()
        if self.latents:
            check_range(
                "latents", self.latents, 2, n, "the values of an image; 0 leaves out their density"
            )
        highest = min(self.leading, n)
        if self.nested:
            check_range(
                "lowest", self.lowest, 1, highest, "the coordinates that the couplings work on"
            )
            check_range("rank", self.rank, self.lowest, highest, "from lowest to leading")

    def load_labelled(self, data_dir: Path | None = None) -> tuple[Tensor, Labels | None]:
        """The images, and their labels where classes have enough images each."""
        found = self.split("train", data_dir)
        known = 2 <= len(found.classes) <= len(found) // _MIN_CLASS_IMAGES
        return found.images, Labels(found.labels, found.classes) if known else None

    def stages(self, images: Tensor, labels: Labels | None = None) -> Iterator[Stage | Fitted]:
        n, shape = images[0].numel(), tuple(images.shape[1:])
        mean, axes, std = (part.float() for part in principal_axes(images, self.axes))
        scale = (std.square() + self.noise**2).sqrt()
        at_unit_scale = Scaling(1 / scale), *self._couplings(n), Scaling(scale)
        most = levels_for(*shape[1:])
        levels = min(self.pixel_levels or most, most)
        pixels = on_pixels(
            shape, self.pixel_blocks, self.pixel_width, self.pixel_conditioner, levels
        )
        encoder = Chain(pixels, onto_axes(axes, mean), *at_unit_scale)
        noise, velocity = Flatten(shape), SolvedVelocity(torch.ones(n), scale.square())
        samples: dict[str, Any] = {"noise_level": self.noise, "rank": self.rank}
        samples["limits"] = (0.0, 1.0)
        flow = LinearFlow(encoder, noise, velocity, **samples)
        lost = std.square().flip(0).cumsum(0).flip(0)  # by PCA of rank k = 0, 1, ...
        order = self._objective(flow, lost / n, self.leading, self.noise, self.nested, self.rank)
        yield Stage(order, images, self.training, flow)

        if not self.latents:
            return
        if self.density_model == "splines":
            latents, scale = leading_latents(encoder, images, self.latents), scale[: self.latents]
            objective, density = self._splines(latents, scale)
            whole = LinearFlow(Chain(encoder, Leading(density, n)), noise, velocity, **samples)
            yield Stage(objective, latents, self.density, whole, "density")
            return
        yield self.fit_density(flow, images, labels)

    def fit_density(self, flow: LinearFlow, images: Tensor, labels: Labels | None = None) -> Fitted:
        """The generator whose leading latents have a mixture fitted to those of ``images``.

        Args:
            flow: the generator of the first stage.
            images: ``(n, c, h, w)``.
            labels: of the images; clusters of latents where None.
        """
        assert isinstance(flow.velocity, SolvedVelocity)
        start, scale = perf_counter(), flow.velocity.s1.sqrt()[: self.latents]
        latents = leading_latents(flow.g_data, images, self.latents)
        fit, labels = mixture_of(
            latents, labels, self.components, self.clusters, self.training.seed
        )
        density = Chain(fit.map.to(scale.device), Scaling(scale))
        density.requires_grad_(requires_grad=False)
        record = {
            "components": fit.map.components,
            "components_of_a_class": fit.components,
            "classes": list(labels.classes),
            "seconds": perf_counter() - start,
        }
        n = flow.velocity.dim
        whole = LinearFlow(
            Chain(flow.g_data, Leading(density, n)), flow.g_noise, flow.velocity,
            noise_level=flow.noise_level, rank=flow.rank, classes=labels.classes,
            limits=flow.limits,
        )  # fmt: skip
        return Fitted(whole, record, "density")

    def _splines(self, latents: Tensor, scale: Tensor) -> tuple[objectives.Objective, Chain]:
        """The objective of splines on the leading latents, and the network that it trains."""
        k = len(scale)
        couplings = VectorFlow(
            k, self.density_blocks, self.density_width, coupling="spline", scale_budget=8.0
        )
        density = Chain(Scaling(1 / scale), couplings, Scaling(scale))
        alone = LinearFlow(density, Identity(k), SolvedVelocity(torch.ones(k), scale.square()))
        lost = latents.var(0).flip(0).cumsum(0).flip(0)
        return (
            self._objective(alone, lost / k, k - 1, self.density_noise, self.density_nested),
            density,
        )

    def _couplings(self, n: int) -> tuple[Invertible, ...]:
        m = min(self.leading, n)
        leading = VectorFlow(m, self.blocks, self.width, scale_budget=float(self.blocks))
        if m == n:
            return (leading,)
        tail = MLP(m, 2 * (n - m), self.tail_width, hidden=0)
        return Leading(leading, n), AffineCoupling(n, tail, keep=m)

    def _objective(
        self,
        flow: LinearFlow,
        lost: Tensor,
        highest: int,
        noise: float,
        weight: float,
        focus: int | None = None,
    ) -> objectives.Objective:
        """Likelihood, and reconstruction from the leading ``k`` latents relative to ``lost[k]``."""
        lost = lost.clamp(min=1e-4 * lost[0].item())
        terms: dict[str, tuple[float, objectives.Term]] = {"nll": (1.0, objectives.Likelihood())}
        if weight:
            highest = min(highest, len(lost) - 1)
            term = objectives.NestedRank(
                min(self.lowest, highest), highest, baseline=lost, share=self.share, focus=focus,
                limits=flow.limits if self.clamp else None,
            )  # fmt: skip
            terms["nested"] = (weight, term)
        return objectives.Objective(flow, terms, noise, momentum=0.0)


@torch.no_grad()
def leading_latents(encoder: Invertible, images: Tensor, k: int) -> Tensor:
    """The ``k`` leading latents of each image, ``(n, k)``, on the device of ``images``."""
    device = next(encoder.parameters()).device
    return torch.cat([encoder(part.to(device))[:, :k] for part in images.split(_CHUNK_IMAGES)]).to(
        images.device
    )


ORDER = TrainConfig(
    steps=60_000,
    max_seconds=1500.0,
    batch_size=64,
    lr=3e-3,
    betas=(0.5, 0.99),
    weight_decay=1e-4,
    warmup=200,
    schedule="cosine",
    grad_clip=10.0,
    ema=0.998,
    evaluate_every=1000,
)
DENSITY = TrainConfig(
    steps=60_000,
    max_seconds=900.0,
    batch_size=256,
    lr=2e-3,
    betas=(0.9, 0.99),
    warmup=100,
    schedule="cosine",
    grad_clip=5.0,
    ema=0.99,
)


@dataclass(frozen=True)
class Digits(Nested):
    """The nested generator on digits, 8 x 8, in a minute."""

    data: str = "digits"
    rank: int | None = 32
    pixel_blocks: int = 0
    leading: int = 64
    width: int = 128
    training: TrainConfig = field(
        default_factory=lambda: replace(
            ORDER, steps=4000, max_seconds=60.0, batch_size=128, evaluate_every=500
        )
    )


@dataclass(frozen=True)
class Mnist(Nested):
    """The nested generator on MNIST, 28 x 28."""

    data: str = "mnist"
    noise: float = 0.05
    rank: int | None = 32
    pixel_levels: int = 2
    pixel_width: int = 48
    nested: float = 2.0
    share: float = 1.0
    clamp: bool = True
    training: TrainConfig = field(default_factory=lambda: replace(ORDER, batch_size=48))
    density: TrainConfig = DENSITY


@dataclass(frozen=True)
class Images(Nested):
    """The nested generator of a folder of images: ``rectilinear train images --set data=FOLDER``.

    Grey or colour, 50 to 50,000 images. Fields that are none are chosen from them: the side, that
    of the files up to 64 pixels; the resolutions of couplings, halved down to 7 pixels a side or
    more; the latents, as many as the images determine; the coordinates that couplings work on, 128
    or the latents; the rank, that of the latents; the steps, so
    that no image is seen more often than ``epochs`` times. The run's ``config.json`` has what was
    chosen.

    It starts from the leading principal axes only, as reflections, and the operator is diagonal, so
    that memory grows with the images and not with their square.

    Attributes:
        epochs: Passes over the images, at most; at least 300 steps.
    """

    ranges: ClassVar[dict[str, tuple[float, float]]] = {**Nested.ranges, "epochs": (1, inf)}

    data: str = "images"
    size: int | None = None
    noise: float = 0.05
    rank: int | None = None
    axes: int | None = 256
    latents: int | None = None  # type: ignore[assignment]  # a number once the images are known
    pixel_levels: int | None = None  # type: ignore[assignment]  # likewise
    leading: int | None = None  # type: ignore[assignment]  # likewise
    nested: float = 2.0
    share: float = 1.0
    epochs: int = 200
    density_noise: float = 0.3
    training: TrainConfig = field(
        default_factory=lambda: replace(
            ORDER, steps=10_000, max_seconds=2400.0, batch_size=16, lr=2e-3, evaluate_every=500
        )
    )
    density: TrainConfig = field(
        default_factory=lambda: replace(DENSITY, steps=2000, max_seconds=600.0, lr=1e-3)
    )

    def located(self, data_dir: Path | None = None) -> Self:
        found = super().located(data_dir)
        if found.size is not None or found.data.replace("-", "_") in NAMES:
            return found
        return replace(found, size=usual_side(Path(found.data), _MAX_SIDE))

    def fitted_to(self, data: Tensor) -> Self:
        n, h, w = data[0].numel(), *data.shape[-2:]
        latents = latents_for(len(data), n) if self.latents is None else self.latents
        leading = max(Nested.leading, latents) if self.leading is None else self.leading
        rank = min(latents or n, leading) if self.rank is None else self.rank
        batches = -(-len(data) // self.training.batch_size)
        steps = min(self.training.steps, max(_MIN_STEPS, self.epochs * batches))
        return replace(
            self,
            latents=latents,
            rank=rank,
            leading=leading,
            lowest=min(self.lowest, rank) if self.rank is None else self.lowest,
            pixel_blocks=0 if h % 2 or w % 2 else self.pixel_blocks,
            pixel_levels=self.pixel_levels or levels_for(h, w),
            training=replace(self.training, steps=steps),
        )


def latents_for(images: int, values: int) -> int:
    """The number of latents whose density so many images of so many values determine.

    At least eight images for each; 32 for small images, else 64, and 192 from 8,000 images on, as
    measured on MNIST, drawings and faces.

    Example:
        >>> [latents_for(*sizes) for sizes in ((50, 768), (400, 3072), (60000, 784), (13000, 4096))]
        [6, 50, 32, 192]
    """
    most = 32 if values < 1024 else 192 if images >= 8000 else 64
    return max(2, min(most, images // 8, values))


@dataclass(frozen=True)
class ImagesLarge(Images):
    """The recipe of a folder of images for a GPU: couplings by vision transformers, in bf16.

    On a CPU, where a step takes minutes, a few images are computed at a time, so that training ends
    when its time is up, or when it is stopped.
    """

    pixel_blocks: int = 8
    pixel_width: int = 256
    pixel_conditioner: Conditioner = "vit"
    blocks: int = 12
    width: int = 512
    training: TrainConfig = field(
        default_factory=lambda: replace(
            ORDER,
            steps=20_000,
            max_seconds=3600.0,
            batch_size=256,
            lr=1e-3,
            precision="bf16",
            evaluate_every=500,
        )
    )

    def fitted_to(self, data: Tensor) -> Self:
        found = super().fitted_to(data)
        training = found.training
        if device_named(training.device).type != "cpu":
            return found
        warnings.warn(
            f"images-large is a recipe for a GPU: on this CPU a step of {training.batch_size} "
            "images can take minutes. For a CPU: rectilinear train images.",
            stacklevel=2,
        )
        parts = min(training.batch_size, training.micro_batch or _CPU_MICRO_BATCH)
        return replace(found, training=replace(training, micro_batch=parts))
