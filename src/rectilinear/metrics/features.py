"""Features in which generated images are scored: of a small classifier, or of any module."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, log2

import torch
from torch import Tensor, nn

from rectilinear.checks import check_batch, check_finite, check_floating, check_tensor, whole
from rectilinear.errors import ConfigError, DivergedError, DtypeError, ShapeError
from rectilinear.random import generator, seeded
from rectilinear.serialization import Configured

TRAIN_BATCH_IMAGES = 128
EMBED_BATCH_IMAGES = 500
MAX_FINAL_PIXELS = 7  # a side, before the features


class FeatureNetwork(Configured):
    """A small convolutional classifier, with features ``(b, dim)`` before its head.

    Convolutions, of stride 2 until at most 7 pixels a side are left, then ``dim`` features of mean
    zero and variance one over the training images: a Fréchet distance has the same scale after
    every training.

    Args:
        shape: ``(c, h, w)`` of an image.
        classes: how many classes.
        name: what metrics call the features, such as ``"digits"``.
        width: channels of the first convolution, doubled by the second and by the third.
        dim: how many features.

    Raises:
        ConfigError: if a number is not positive.

    Example:
        >>> network = FeatureNetwork((1, 8, 8), classes=10, name="digits").eval()
        >>> network.embed(torch.rand(5, 1, 8, 8)).shape
        torch.Size([5, 64])
    """

    accuracy_: Tensor

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        name: str = "features",
        width: int = 16,
        dim: int = 64,
    ) -> None:
        super().__init__()
        if min(*shape, classes, width, dim) < 1:
            raise ConfigError(
                f"shape {shape}, {classes} classes, width {width}, dim {dim}", "positive numbers"
            )
        self.shape, self.classes, self.name, self.dim = tuple(shape), classes, name, dim
        halvings = max(0, ceil(log2(max(shape[1:]) / MAX_FINAL_PIXELS)))
        layers: list[nn.Module] = []
        before, sides = shape[0], (shape[1], shape[2])
        for i in range(max(3, halvings)):
            after, stride = width * 2 ** min(i, 2), 2 if i < halvings else 1
            layers += _convolution(before, after, 5 if i == 0 else 3, stride)
            before, sides = after, (ceil(sides[0] / stride), ceil(sides[1] / stride))
        self.body = nn.Sequential(
            *layers,
            nn.Flatten(),
            nn.Linear(before * sides[0] * sides[1], dim),
            nn.BatchNorm1d(dim, affine=False),
        )
        self.head = nn.Linear(dim, classes)
        self.register_buffer("accuracy_", torch.tensor(-1.0))

    @property
    def accuracy(self) -> float | None:
        """The share of test images classified correctly after training; None if not tested."""
        return None if self.accuracy_ < 0 else self.accuracy_.item()

    def forward(self, images: Tensor) -> Tensor:
        """The logits of the classes of ``images``, ``(b, classes)``."""
        return self.head(self.body(images).relu())

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """The features ``(n, dim)`` of ``images``, in batches, on the network's device.

        Raises:
            ShapeError: if images do not have the shape that the network was trained on.
            NonFiniteError: if an image holds a NaN or an infinity.
        """
        return self._batched(self.body, images)

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """The most likely class of each of the ``images``, ``(n,)``."""
        return self._batched(self, images).argmax(1)

    def _batched(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        check_batch(images, self.shape, "images")
        check_finite(images, "images")
        weight, training = self.head.weight, self.training
        self.eval()
        try:
            return torch.cat(
                [function(part.to(weight)) for part in images.split(EMBED_BATCH_IMAGES)]
            )
        finally:
            self.train(training)


def _convolution(before: int, after: int, kernel: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    ]


def train_features(
    images: Tensor,
    labels: Tensor,
    test: tuple[Tensor, Tensor] | None = None,
    *,
    name: str = "features",
    seed: int = 0,
    epochs: int | None = None,
    device: torch.device | str = "cpu",
    on_epoch: Callable[[int, float], None] | None = None,
) -> FeatureNetwork:
    """A :class:`FeatureNetwork` trained on labelled images, in evaluation mode.

    The same seed gives the same network on the same machine. AdamW under a one-cycle schedule,
    images shifted by up to a sixteenth of their side.

    Args:
        images: ``(n, c, h, w)`` in ``[0, 1]``.
        labels: ``(n,)`` integers from 0.
        test: images and labels on which the accuracy is measured and recorded.
        name: what metrics call the features.
        seed: of the initial weights, the order and the shifts.
        epochs: passes over the images; by default enough for about 2,000 steps, between 4 and 15.
        device: where to train; the network stays there.
        on_epoch: called with the number of each finished epoch and its mean loss.

    Returns:
        The network in evaluation mode, with its ``accuracy``.

    Raises:
        ShapeError: if images are not ``(n, c, h, w)``, or labels not one for each.
        DtypeError: if labels are not integers from 0.
        NonFiniteError: if an image holds a NaN or an infinity.
        DivergedError: if the loss is no longer finite.

    Example:
        >>> x = torch.eye(2).repeat(64, 1)[:, :, None, None] * torch.ones(2, 4, 4)
        >>> y = torch.arange(2).repeat(64)
        >>> train_features(x, y, (x, y), epochs=5).accuracy
        1.0
    """
    check_batch(images, None, "images")
    check_finite(images, "images")
    check_tensor(labels, "labels")
    if images.ndim != 4 or labels.shape != images.shape[:1]:
        raise ShapeError(
            f"images {tuple(images.shape)} and labels {tuple(labels.shape)}",
            "(n, c, h, w) and (n,)",
            "Reshape them.",
        )
    if labels.is_floating_point() or labels.min() < 0:
        raise DtypeError(
            f"labels {labels.dtype} from {labels.min().item()}",
            "integers from 0",
            "Number the classes.",
        )
    epochs = (
        min(15, max(4, round(2000 * TRAIN_BATCH_IMAGES / len(images))))
        if epochs is None
        else epochs
    )
    with seeded(seed):
        _, c, h, w = images.shape
        network = FeatureNetwork((c, h, w), int(labels.max()) + 1, name).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs lack the keyword
    images, labels = images.to(device, torch.float32), labels.to(device, torch.int64)
    steps = max(1, len(images) // TRAIN_BATCH_IMAGES)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=5e-3, total_steps=steps * epochs
    )
    random = generator(seed)
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=random).to(device)
        total = 0.0
        for index in order.tensor_split(steps):
            loss = nn.functional.cross_entropy(
                network(_shifted(images[index], random)), labels[index]
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() / steps
        if not total < float("inf"):
            raise DivergedError(
                f"a loss of {total} in epoch {epoch + 1}",
                "a finite loss",
            )
        if on_epoch is not None:
            on_epoch(epoch + 1, total)
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload] # as above
    if test is not None:
        network.accuracy_ = (network.predict(test[0]) == test[1].to(device)).float().mean()
    return network.eval()


def _shifted(images: Tensor, random: torch.Generator) -> Tensor:
    """A batch moved by one random shift of at most a sixteenth of each side, zeros behind it."""
    reaches = [side // 16 for side in images.shape[-2:]]
    down, right = (
        int(torch.randint(-reach, reach + 1, (1,), generator=random)) for reach in reaches
    )
    return nn.functional.pad(images, (right, -right, down, -down))


class ModuleFeatures:
    """The output of any module as features of images, for :func:`evaluate_samples`.

    Scores in them are called after ``name``, ``fd/NAME@n``: give it the network, its weights and
    the preparation of the images, such as ``"inception-v3-pt-fid"``. The module gets images
    ``(b, c, h, w)`` in ``[0, 1]`` and does its own scaling; its output is flattened to ``(b, d)``.
    It is run without gradient, in evaluation mode and in batches.

    Args:
        module: the network.
        name: what scores are called after.
        batch: images at a time.

    Raises:
        DtypeError: if ``module`` is not a module.
        ConfigError: for an empty name.

    Example:
        >>> from rectilinear.metrics import evaluate_samples
        >>> features = ModuleFeatures(nn.Sequential(nn.AvgPool2d(4), nn.Flatten()), "means-of-4x4")
        >>> real = torch.rand(40, 3, 8, 8)
        >>> evaluate_samples(real[:20] / 2, real, features).name
        'fd/means-of-4x4@20'
    """

    def __init__(self, module: nn.Module, name: str, batch: int = EMBED_BATCH_IMAGES) -> None:
        if not isinstance(module, nn.Module):
            raise DtypeError(
                f"a {type(module).__name__}",
                "a torch.nn.Module",
                "Pass an instance of the class."
                if isinstance(module, type)
                else "Call a function in the forward of a module.",
            )
        if not (isinstance(name, str) and name.strip()):
            raise ConfigError(f"name = {name!r}", "the name of the network", "Scores carry it.")
        self.module, self.name, self.batch = module, name.strip(), whole(batch, "batch", 1)

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """The features ``(n, d)`` of images ``(n, c, h, w)``, on the module's device.

        Raises:
            ShapeError: if the module does not return a row for each image.
            NonFiniteError: if an image or a feature is NaN or infinite.
        """
        check_floating(images, "images")
        check_finite(images, "images")
        like = next(self.module.parameters(), images)
        training = self.module.training
        self.module.eval()
        try:
            rows = [self._rows(part.to(like)) for part in images.split(self.batch)]
        finally:
            self.module.train(training)
        features = torch.cat(rows)
        check_finite(features, f"features of {self.name}")
        return features

    def _rows(self, images: Tensor) -> Tensor:
        rows = self.module(images)
        if not isinstance(rows, Tensor) or rows.ndim < 2 or len(rows) != len(images):
            got = tuple(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
            raise ShapeError(
                f"{got} from {self.name} for {len(images)} images",
                "a tensor with a row of features for each",
                "Wrap the network in a module that returns its features.",
            )
        return rows.flatten(1).float()
