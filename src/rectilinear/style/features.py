"""A feature network for the loss of styles: layers of MobileNetV2, if torchvision is there."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from rectilinear.errors import DataError, MissingDependencyError
from rectilinear.maps.fuse import fuse
from rectilinear.random import generator

TRAINED_ON = (3, 6, 8)  # layers of the loss
MEASURED_BY = (10, 13)  # layers of the style distance, on which nothing is trained
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FeatureLayers(nn.Module):
    """Layers of a sequential network of colour images in [0, 1], as a list of arrays.

    Args:
        network: its blocks, applied one after the other.
        layers: the numbers of those whose outputs are returned.

    Example:
        >>> layers = FeatureLayers(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), (1,))
        >>> [f.shape for f in layers(torch.rand(2, 3, 8, 8))]
        [torch.Size([2, 4, 6, 6])]
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Sequential, layers: Sequence[int]) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.network = nn.Sequential(*list(network)[: max(layers) + 1])
        self.network.eval().requires_grad_(requires_grad=False)
        for name, values in (("mean", _MEAN), ("deviation", _DEVIATION)):
            self.register_buffer(name, torch.tensor(values)[:, None, None])

    def forward(self, x: Tensor) -> list[Tensor]:
        h, found = (x - self.mean) / self.deviation, []
        for i, block in enumerate(self.network.children()):
            h = block(h)
            if i in self.layers:
                found.append(h)
        return found


def mobilenet(weights: Path | str, layers: Sequence[int] = TRAINED_ON) -> FeatureLayers:
    """Layers of torchvision's MobileNetV2 with the weights in a file.

    Args:
        weights: state dict, such as torchvision's ``mobilenet_v2-b0353104.pth``.
        layers: of its ``features``.

    Reference: M. Sandler et al., "MobileNetV2", arXiv 1801.04381.

    Example:
        >>> features = mobilenet("mobilenet_v2-b0353104.pth")  # doctest: +SKIP
    """
    try:
        models = import_module("torchvision.models")
    except ImportError as error:
        raise MissingDependencyError.of("this feature network", "torchvision") from error
    network = models.mobilenet_v2()
    try:
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises what it stumbles over
        raise DataError(
            f"{weights}, which cannot be read as weights of MobileNetV2 ({type(error).__name__})",
            "the state dict of torchvision's mobilenet_v2",
        ) from error
    checked_on = torch.rand(2, 3, 64, 64, generator=generator(0))
    features = fuse(network.features.eval(), checked_on)  # in two thirds of the time
    assert isinstance(features, nn.Sequential)
    return FeatureLayers(features, layers)
