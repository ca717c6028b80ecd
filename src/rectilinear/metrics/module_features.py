"""Features of any network, in which scores are computed and named."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rectilinear.checks import check_finite, check_floating, whole
from rectilinear.errors import ConfigError, DtypeError, ShapeError
from rectilinear.metrics.features import EMBED_BATCH_IMAGES


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
