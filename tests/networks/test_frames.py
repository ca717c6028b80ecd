"""Data frames of pandas and polars wherever rows of data are taken: as their arrays, or one error."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import rectilinear as rl
from rectilinear import deeplinear, invertible, koopman, learning, metrics, projector
from rectilinear.errors import DataError, DtypeError

HALF = np.random.default_rng(0).normal(size=(40, 3))
ROWS = np.concatenate([HALF, -HALF])
LABELS = ROWS.sum(1)


def network(*, bias: bool = False, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    found = nn.Sequential(nn.Linear(3, 8, bias=bias), nn.ReLU(), nn.Linear(8, 1, bias=bias))
    for p in found.parameters():
        nn.init.normal_(p, std=1e-3)
    return found.to(dtype)


@pytest.fixture(params=["pandas", "polars"])
def frames(request) -> Any:
    """The library: a frame of rows and a column of it."""
    return pytest.importorskip(request.param)


def frame_of(library: Any, rows: np.ndarray = ROWS) -> Any:
    return library.DataFrame(dict(zip("abc", rows.T, strict=True)))


CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "audit": lambda x, y: rl.audit(network(), x, y, measures=["affine_r2"]).to_json(),
    "audit of a tuple": lambda x, y: rl.audit(network(), (x, y), measures=["affine_r2"]).to_json(),
    "audit of a mapping": lambda x, _: rl.audit(
        network(), {"input": x}, measures=["affine_r2"]
    ).to_json(),
    "fuse": lambda x, _: str(rl.fuse(network(bias=True), x, report=True)),
    "fuse of a tuple": lambda x, _: str(rl.fuse(network(bias=True), (x,), report=True)),
    "linear_map": lambda x, _: rl.linear_map(network(), "0", "2", x).r2,
    "local_map": lambda x, _: rl.to_dense(rl.local_map(network(), x[:1])).tolist(),
    "loss_floor": lambda x, y: str(rl.loss_floor(x, y)),
    "predict": lambda x, y: rl.predict(network(), x, y, lr=0.1, steps=20).to_json(),
    "predict in float32": lambda x, y: rl.predict(
        network(dtype=torch.float32), x, y, lr=0.1, steps=20
    ).to_json(),
    "split": lambda x, _: rl.split(network(), x).matrix.tolist(),
    "simulate": lambda x, y: learning.simulate(
        learning.Networks.gaussian(3, width=4, alpha=[0.0], std=0.1), x, y, lr=0.1, steps=3
    ).loss.tolist(),
    "gradient_flow": lambda x, y: learning.gradient_flow(
        network(), x, y, torch.tensor([0.5])
    ).loss.tolist(),
    "asymmetric_fraction": lambda x, y: learning.asymmetric_fraction(x, y),
    "Moments": lambda x, y: learning.Moments.of(x, y).beta.tolist(),
    "SufficientStatistics": lambda x, y: deeplinear.SufficientStatistics.from_data(x, y).n.tolist(),
    "regression": lambda x, y: deeplinear.regression(x, y).design.tolist(),
    "diagonal_limit": lambda x, y: deeplinear.diagonal_limit(x[:2], y[:2], 1e-2).tolist(),
    "as_series": lambda x, _: koopman.as_series(x).states[0].tolist(),
    "embed": lambda x, _: koopman.embed(x, 2).tolist(),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_frame_is_its_array(frames: Any, name: str) -> None:
    torch.manual_seed(0)  # Networks.gaussian draws
    found = CALLS[name](frame_of(frames), frames.Series(LABELS))
    torch.manual_seed(0)
    assert found == CALLS[name](torch.from_numpy(ROWS), torch.from_numpy(LABELS))


REFUSED: dict[str, Callable[[Any, Any], Any]] = {
    "pca": lambda x, _: metrics.pca(x),
    "normality": lambda x, _: metrics.normality(x),
    "kolmogorov_smirnov": lambda _, y: metrics.kolmogorov_smirnov(y),
    "frechet_distance": lambda x, _: metrics.frechet_distance(x, x),
    "precision_recall": lambda x, _: metrics.precision_recall(x, x),
    "sliced_wasserstein": lambda x, _: metrics.sliced_wasserstein(x, x),
    "roc": lambda _, y: metrics.roc(y, y),
    "linearity": lambda x, _: metrics.linearity(network(), x, x),
    "fit_mixture": lambda x, _: invertible.fit_mixture(x),
    "check_invertible": lambda x, _: rl.check_invertible(invertible.Identity((3,)), x),
    "from_pca": lambda x, _: projector.from_pca(x, 2),
    "induced pca": lambda x, _: rl.InducedSpace(invertible.Identity((3,))).pca(x, 2),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_takes_tensors_alone_says_how_to_convert(frames: Any, name: str) -> None:
    with pytest.raises(DtypeError, match=r"expected a torch\.Tensor.*\.to_numpy\(\)"):
        REFUSED[name](frame_of(frames), frames.Series(LABELS))


def test_what_takes_checked_series_names_their_reader(frames: Any) -> None:
    for use in (
        lambda x: koopman.fit(x, koopman.FitConfig()),
        lambda x: koopman.windows(x, 1, 1, 2),
        lambda x: koopman.one_step_error(None, x),
    ):
        with pytest.raises(DtypeError, match=r"koopman\.as_series"):
            use(frame_of(frames))


@pytest.mark.parametrize("use", [rl.loss_floor, learning.simulate, rl.audit, rl.predict])
def test_rows_in_another_order_than_their_labels_are_refused(use: Callable[..., Any]) -> None:
    pandas = pytest.importorskip("pandas")
    x, y = frame_of(pandas), pandas.Series(LABELS)
    before = [network()] if use in (rl.audit, rl.predict) else []
    before = [None] if use is learning.simulate else before
    more = {} if use in (rl.audit, rl.loss_floor) else {"lr": 0.1, "steps": 3}
    with pytest.raises(DataError, match=r"another order.*y\.loc\[X\.index\]"):
        use(*before, x, y.sample(frac=1, random_state=0), **more)
    with pytest.raises(DataError, match="another order"):
        rl.audit(network(), (x, y.sample(frac=1, random_state=0)))


def test_columns_that_are_no_real_numbers_say_how_to_convert(frames: Any) -> None:
    whole, text = frame_of(frames, np.ones((9, 3), dtype=int)), frames.DataFrame({"a": ["b"] * 9})
    for use in (
        lambda x: rl.audit(network(), x),
        lambda x: rl.predict(network(), x, LABELS[:9], lr=0.1, steps=3),
        lambda x: rl.loss_floor(x, LABELS[:9]),
        lambda x: rl.split(network(), x),
    ):
        for x in (whole, text):
            with pytest.raises(DtypeError, match=r"\.astype\(float\).*\.cast\(float\)"):
                use(x)
    with pytest.raises(DtypeError, match=r"torch\.tensor\(rows\) of lists"):
        rl.audit(network(), ROWS.tolist())
