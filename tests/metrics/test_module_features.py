"""Scores in the features of any module, under its name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rectilinear.errors import ConfigError, DtypeError, NonFiniteError, ShapeError
from rectilinear.metrics import FeatureNetwork, ModuleFeatures, evaluate_samples, frechet_distance


class _Two(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


def test_scores_are_those_of_the_features() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Dropout(0.5)).train()
    images = torch.rand(60, 3, 8, 8)
    features = ModuleFeatures(net, "conv", batch=7)
    with torch.no_grad():
        exact = net[0](images).flatten(1)
    torch.testing.assert_close(features.embed(images), exact)
    assert net.training
    scores = evaluate_samples(images[:30].flip(3), images, features, seed=1)
    assert scores.name == "fd/conv@30"
    assert scores.fd > 0
    own = FeatureNetwork((3, 8, 8), 2, name="own").eval()
    a, b = own.embed(images[:30]), own.embed(images[30:])
    wrapped = ModuleFeatures(own.body, "own")
    c, d = wrapped.embed(images[:30]), wrapped.embed(images[30:])
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(c, d))


def test_what_is_no_feature_is_refused() -> None:
    images = torch.rand(4, 1, 2, 2)
    with pytest.raises(ConfigError, match="the name of the network"):
        ModuleFeatures(nn.Flatten(), " ")
    with pytest.raises(DtypeError, match="in the forward of a module"):
        ModuleFeatures(lambda x: x, "function")
    with pytest.raises(DtypeError, match="an instance"):
        ModuleFeatures(nn.Flatten, "class")
    with pytest.raises(ShapeError, match="a row of features"):
        ModuleFeatures(_Two(), "two").embed(images)
    with pytest.raises(ShapeError, match="a row of features"):
        ModuleFeatures(nn.Flatten(0), "flat").embed(images)
    with pytest.raises(NonFiniteError):
        ModuleFeatures(nn.Flatten(), "flat").embed(images * torch.inf)
