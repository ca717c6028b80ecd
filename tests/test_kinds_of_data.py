"""Every public function that takes data takes a tensor; of arrays, frames and lists it says so.

What is no tensor is either read, with the result of the tensor, or refused by one error of
rectilinear. Never is it an error of Python, torch or numpy from inside.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rectilinear as rl
from rectilinear import (
    deeplinear,
    flow,
    invertible,
    koopman,
    learning,
    metrics,
    operators,
    projector,
    style,
    training,
)
from rectilinear.errors import RectilinearError

pandas = pytest.importorskip("pandas")


def rows(count: int = 24, width: int = 4, seed: int = 0) -> Tensor:
    return torch.rand(count, width, generator=torch.Generator().manual_seed(seed))


def column() -> Tensor:
    return rows(24, 1, 1)


def images() -> Tensor:
    return rows(40, 64).reshape(40, 1, 8, 8)


def photo() -> Tensor:
    return rows(3, 256).reshape(3, 16, 16)


def small(bias: bool = True) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 4, bias=bias),
        nn.ReLU(),
        nn.Linear(4, 4, bias=bias),
        nn.Linear(4, 4, bias=bias),
    )


def line() -> nn.Module:
    return nn.Linear(4, 1, bias=False)


def flat(x: Any) -> Any:
    return x.flatten(1).mean(1, keepdim=True) + 0 * x.flatten(1)


@cache
def generator() -> Any:
    return rl.load("mnist")


@cache
def digits() -> Tensor:
    return generator().sample(2, seed=0)


@cache
def collapsed() -> Any:
    return flow.collapse(generator(), steps=2)


@cache
def tiny() -> Any:
    torch.manual_seed(0)
    return rl.Linearizer(invertible.VectorFlow(4, 2, 8), operators.Dense(torch.eye(4) + 0.1))


@cache
def space() -> Any:
    return rl.InducedSpace(invertible.VectorFlow(4, 2, 8))


@cache
def axes() -> Any:
    return space().pca(rows(), 2)


@cache
def mixture() -> Any:
    return invertible.fit_mixture(rows(100), components=2)


@cache
def prior() -> Any:
    return projector.fit_prior(images(), rank=4, components=1)


@cache
def blind() -> Any:
    return projector.fit_blind(prior(), images(), kinds=("noise",))


@cache
def model() -> Any:
    return projector.from_pca(images(), rank=4, blocks=2, width=8)[0].fitted(images())


@cache
def styles() -> Any:
    return rl.load("styles")


@cache
def linear() -> Any:
    return rl.linear_map(small(), "0", "3", rows(), progress=False)


@cache
def forecaster() -> Any:
    return koopman.Forecaster("linear", horizon=2, lags=1).fit(rows().numpy())


@cache
def swings() -> Any:
    series = koopman.as_series(rows(60, 2).double())
    return koopman.fit(series, koopman.FitConfig(rank=2, horizon=3, fourier=0))[0]


@cache
def features() -> Any:
    return metrics.train_features(images(), torch.arange(40) % 2, epochs=1)


def fitted(x: Any) -> Any:
    return deeplinear.DeepLinearRegressor(1, max_iter=5).fit(x, column().numpy())


def trained(x: Any) -> Any:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mean = nn.Parameter(torch.zeros(4))

        def forward(self, batch: Tensor) -> dict[str, Tensor]:
            return {"loss": (batch - self.mean).square().mean()}

    config = training.TrainConfig(steps=1, batch_size=4, device="cpu")
    with TemporaryDirectory() as out:
        return training.train(Mean(), x, config, out, progress=False)


NETWORKS = learning.Networks.gaussian(4, width=3, alpha=0.0, std=0.1, seed=0)
Call = Callable[[Any], Any]
CALLS: dict[str, tuple[Callable[[], Tensor], Call]] = {
    # networks
    "audit": (rows, lambda x: rl.audit(small(), x, progress=False)),
    "split": (rows, lambda x: rl.split(small(bias=False), x)),
    "linear_map": (rows, lambda x: rl.linear_map(small(), "0", "3", x, progress=False)),
    "LinearMap": (rows, lambda x: linear()(x)),
    "LinearMap.predict": (rows, lambda x: linear().predict(x)),
    "local_map": (rows, lambda x: rl.local_map(small(), x)),
    "linearize": (rows, lambda x: rl.linearize(small(), x, blocks="1", progress=False)),
    "span_costs": (rows, lambda x: rl.span_costs(small(), x, progress=False)),
    "fuse": (rows, lambda x: rl.fuse(small(), x)),
    "predict, x": (rows, lambda x: rl.predict(line(), x, column(), 0.1, 5)),
    "predict, y": (column, lambda y: rl.predict(line(), rows(), y, 0.1, 5)),
    "loss_floor, x": (rows, lambda x: rl.loss_floor(x, column())),
    "loss_floor, y": (column, lambda y: rl.loss_floor(rows(), y)),
    "train": (rows, trained),
    # operators, invertible networks, induced spaces
    "Operator": (rows, lambda x: operators.Dense(torch.eye(4))(x)),
    "Operator.apply_adjoint": (rows, lambda x: operators.Dense(torch.eye(4)).apply_adjoint(x)),
    "Dense": (rows, lambda x: operators.Dense(x)),
    "Diagonal": (lambda: rows()[0], lambda x: operators.Diagonal(x)),
    "solve": (rows, lambda x: rl.solve(operators.Dense(torch.eye(4) * 2), x)),
    "check_invertible": (rows, lambda x: rl.check_invertible(invertible.VectorFlow(4, 2, 8), x)),
    "Invertible": (rows, lambda x: invertible.VectorFlow(4, 2, 8)(x)),
    "Invertible.inverse": (rows, lambda x: invertible.VectorFlow(4, 2, 8).inverse(x)),
    "forward_and_logdet": (rows, lambda x: invertible.VectorFlow(4, 2, 8).forward_and_logdet(x)),
    "to_grid": (photo, lambda x: invertible.to_grid(x)),
    "fit_mixture": (rows, lambda x: invertible.fit_mixture(x, components=2)),
    "fit_mixture, labels": (
        lambda: torch.arange(24) % 2,
        lambda y: invertible.fit_mixture(rows(), y, components=2),
    ),
    "MixtureMap": (rows, lambda x: mixture().map(x)),
    "MixtureMap.log_prob": (rows, lambda x: mixture().map.log_prob(x)),
    "MixtureMap.log_prob_by_class": (rows, lambda x: mixture().map.log_prob_by_class(x)),
    "InducedSpace.encode": (rows, lambda x: space().encode(x)),
    "InducedSpace.decode": (rows, lambda x: space().decode(x)),
    "InducedSpace.add": (rows, lambda x: space().add(x, rows())),
    "InducedSpace.scale": (rows, lambda x: space().scale(2.0, x)),
    "InducedSpace.combine": (rows, lambda x: space().combine(torch.ones(1, 24), x)),
    "InducedSpace.inner": (rows, lambda x: space().inner(rows(), x)),
    "InducedSpace.norm": (rows, lambda x: space().norm(x)),
    "InducedSpace.distance": (rows, lambda x: space().distance(rows(), x)),
    "InducedSpace.mean": (rows, lambda x: space().mean(x)),
    "InducedSpace.interpolate": (rows, lambda x: space().interpolate(x, rows(), 0.5)),
    "InducedSpace.project": (rows, lambda x: space().project(x, rows(2))),
    "InducedSpace.orthonormalize": (lambda: rows(3), lambda x: space().orthonormalize(x)),
    "InducedSpace.pca": (rows, lambda x: space().pca(x, 2)),
    "PrincipalComponents.coordinates": (rows, lambda x: axes().coordinates(x)),
    "PrincipalComponents.reconstruct": (rows, lambda x: axes().reconstruct(x)),
    "Linearizer": (rows, lambda x: tiny()(x)),
    "project": (rows, lambda x: rl.project(tiny(), x)),
    "backproject, x": (rows, lambda x: rl.backproject(tiny(), x, rows())),
    "backproject, y": (rows, lambda y: rl.backproject(tiny(), rows(), y)),
    # generators
    "LinearFlow.log_prob": (digits, lambda x: generator().log_prob(x)),
    "LinearFlow.classify": (digits, lambda x: generator().classify(x)),
    "LinearFlow.class_probabilities": (digits, lambda x: generator().class_probabilities(x)),
    "flow.invert": (digits, lambda x: flow.invert(generator(), x)),
    "flow.inversion": (digits, lambda x: flow.inversion(generator(), x)),
    "flow.denoise": (digits, lambda x: flow.denoise(collapsed(), x, 0.1)),
    "flow.interpolate": (digits, lambda x: flow.interpolate(generator(), x, digits(), 3)),
    "flow.bits_per_dimension": (digits, lambda x: flow.bits_per_dimension(collapsed(), x)),
    "flow.sample": (digits, lambda x: flow.sample(generator(), x, steps=1)),
    "flow.collapse_error": (digits, lambda x: flow.collapse_error(generator(), x, steps=2)),
    "flow.semigroup_error": (digits, lambda x: flow.semigroup_error(generator(), x, steps=2)),
    "Linearizer.log_prob": (digits, lambda x: collapsed().log_prob(x)),
    # projectors
    "fit_prior": (images, lambda x: projector.fit_prior(x, rank=4, components=1)),
    "ImagePrior": (images, lambda x: prior()(x)),
    "ImagePrior.log_prob": (images, lambda x: prior().log_prob(x)),
    "ImagePrior.posterior": (images, lambda x: prior().posterior(x, None, 0.1)),
    "fit_blind": (images, lambda x: projector.fit_blind(prior(), x, kinds=("noise",))),
    "BlindRestorer": (images, lambda x: blind()(x)),
    "BlindRestorer.probabilities": (images, lambda x: blind().probabilities(x)),
    "from_pca": (images, lambda x: projector.from_pca(x, rank=4, blocks=2, width=8)),
    "corrupt": (images, lambda x: projector.corrupt(x, "noise", 0.1)),
    "masked": (lambda: images()[0, 0].round(), lambda x: projector.masked(x)),
    "restore by a prior": (images, lambda x: projector.restore(prior(), x, noise=0.1)),
    "restore by a projector": (images, lambda x: projector.restore(model(), x)),
    "restore by a function": (rows, lambda x: projector.restore(flat, x, noise=0.1)),
    "restore by a function, blind": (rows, lambda x: projector.restore(flat, x)),
    "posterior": (images, lambda x: projector.posterior(prior(), x, noise=0.1)),
    "restoration": (images, lambda x: projector.restoration({"flat": model()}, x, steps=1)),
    "Projector": (images, lambda x: model()(x)),
    "Projector.coordinates": (images, lambda x: model().coordinates(x)),
    "Projector.fitted": (images, lambda x: model().fitted(x)),
    "Projector.scores": (images, lambda x: model().scores(x)),
    "Projector.log_prob": (images, lambda x: model().log_prob(x)),
    # styles
    "StyleTransfer": (photo, lambda x: styles()(x, "night")),
    "StyleTransfer.removal": (photo, lambda x: styles().removal("night")(x)),
    "StyleTransfer.between": (photo, lambda x: styles().between("night", "sepia")(x)),
    "WayBack.which": (photo, lambda x: styles().removal("night").which(x)),
    "filtered": (lambda: photo()[None], lambda x: style.filtered(x, {"sepia": 1.0})),
    "PlaceFlow": (lambda: photo()[None], lambda x: styles().member("night").g(x)),
    # metrics
    "frechet_distance": (rows, lambda x: metrics.frechet_distance(x, rows(24, 4, 1))),
    "precision_recall": (rows, lambda x: metrics.precision_recall(x, rows(24, 4, 1))),
    "sliced_wasserstein": (rows, lambda x: metrics.sliced_wasserstein(x, rows(24, 4, 1))),
    "kolmogorov_smirnov": (rows, lambda x: metrics.kolmogorov_smirnov(x)),
    "normality": (rows, lambda x: metrics.normality(x)),
    "pca": (rows, lambda x: metrics.pca(x)),
    "linearity": (rows, lambda x: metrics.linearity(tiny(), x, rows())),
    "psnr": (images, lambda x: metrics.psnr(x, images())),
    "psnr, y": (images, lambda x: metrics.psnr(images(), x)),
    "mean_psnr": (images, lambda x: metrics.mean_psnr(x, images(), most=1.0)),
    "ssim": (lambda: digits(), lambda x: metrics.ssim(x, digits())),
    "roc": (lambda: rows()[0], lambda x: metrics.roc(x, rows()[1])),
    "roc, anomalous": (lambda: rows()[0], lambda x: metrics.roc(rows()[1], x)),
    "train_features": (
        images,
        lambda x: metrics.train_features(x, torch.arange(40) % 2, epochs=1),
    ),
    "train_features, labels": (
        lambda: torch.arange(40) % 2,
        lambda y: metrics.train_features(images(), y, epochs=1),
    ),
    "FeatureNetwork.embed": (images, lambda x: features().embed(x)),
    "FeatureNetwork.predict": (images, lambda x: features().predict(x)),
    "evaluate_samples": (images, lambda x: metrics.evaluate_samples(x, images(), features())),
    "real_scores": (images, lambda x: metrics.real_scores(x, features())),
    # learning, studies, Koopman models
    "asymmetric_fraction": (rows, lambda x: learning.asymmetric_fraction(x, column())),
    "Networks": (rows, lambda x: NETWORKS(x)),
    "simulate": (
        rows,
        lambda x: learning.simulate(NETWORKS, x, column(), 0.1, 3),
    ),
    "deeplinear.regression": (rows, lambda x: deeplinear.regression(x, column().numpy())),
    "DeepLinearRegressor.fit": (rows, fitted),
    "DeepLinearRegressor.predict": (rows, lambda x: fitted(rows().numpy()).predict(x)),
    "Forecaster.fit": (rows, lambda x: koopman.Forecaster("linear", horizon=2, lags=1).fit(x)),
    "Forecaster.forecast": (rows, lambda x: forecaster().forecast(2, history=x)),
    "Forecaster.score": (rows, lambda x: forecaster().score(x)),
    "DMD.fit": (rows, lambda x: koopman.DMD().fit(x)),
    "Koopman.encode": (lambda: rows(24, 2).double(), lambda x: swings().encode(x)),
    "Koopman.forecast": (
        lambda: rows(24, 2).double(),
        lambda x: swings().forecast(x, torch.tensor([1.0, 2.0])),
    ),
    "round_trip_error": (
        lambda: rows(24, 2).double(),
        lambda x: koopman.round_trip_error(swings(), x, 2),
    ),
    "as_series": (rows, lambda x: koopman.as_series(x)),
    "embed": (rows, lambda x: koopman.embed(x, 2)),
}

KINDS: dict[str, Callable[[Tensor], Any]] = {
    "an array": lambda x: x.numpy(),
    "an array of bytes": lambda x: (255 * x).byte().numpy(),
    "a frame": lambda x: pandas.DataFrame((x if x.ndim < 3 else x.flatten(1)).numpy()),
    "a list": lambda x: x.tolist(),
    "integers": lambda x: x.long(),
    "nothing": lambda _: None,
    "text": lambda _: "digits",
}


def is_of_scikit_learn(name: str, kind: str) -> bool:
    """True of what scikit-learn's own validation refuses, as for its estimators."""
    return name.startswith("DeepLinearRegressor") and kind in ("nothing", "text")


@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_tensor_is_read_or_refused_by_one_error(name: str) -> None:
    made, call = CALLS[name]
    call(made())
    wrong = []
    for kind, of in KINDS.items():
        if is_of_scikit_learn(name, kind):
            continue
        try:
            call(of(made()))
        except RectilinearError:
            continue
        except Exception as error:  # noqa: BLE001 - each of them is the fault that is looked for
            wrong.append(f"{kind}: {type(error).__name__}: {error}")
    assert not wrong
