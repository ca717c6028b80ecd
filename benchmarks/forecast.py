"""Forecasts of recorded series: ETTh1 and ETTh2 by the standard protocol, and series of statsmodels.

    python benchmarks/forecast.py --ett DIR          # eight minutes of one core
    python benchmarks/forecast.py --parts series     # co2, sunspots, El Nino, GDP, in two minutes

Writes ``benchmarks/results/forecast.md``. DIR holds ETTh1.csv and ETTh2.csv of
github.com/zhouhaoyi/ETDataset.

ETT: columns standardised by the training rows, 12, 4 and 4 months to train, validate and test,
every window of the test months, mean square error over windows, steps and columns. All models see
the last 512 hours. DLinear and NLinear are trained here by Adam for ``--seconds`` each, and their
published errors (336 hours, Zeng et al. 2023) are beside them.

Series: fitted on the first 70 % of rows, forecast from every later row, without fitting again.
"""

from __future__ import annotations

import csv
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _forecast_peers import (
    ar_by_aic,
    autoregression,
    bop_dmd,
    edmd,
    installed,
    lag_least_squares,
    lag_rows,
    linear_net,
    mlp,
    persistence,
)
from _page import options, ran

from rectilinear.koopman import Forecaster

HORIZONS = (96, 192, 336, 720)
LAGS = 512
PUBLISHED = {
    "ETTh1": {"DLinear": (0.375, 0.405, 0.439, 0.472), "NLinear": (0.374, 0.408, 0.429, 0.440)},
    "ETTh2": {"DLinear": (0.289, 0.383, 0.448, 0.605), "NLinear": (0.277, 0.344, 0.357, 0.394)},
}
SERIES = {"co2": (24, 52), "sunspots": (11, 40), "elnino": (12, 36), "gdp": (8, 12)}
"""Horizon and the most lags of each; weekly, yearly, monthly and quarterly."""


def ett(path: Path, seconds: float) -> dict[str, dict[str, list[float]]]:
    """Mean square errors on the test months and processor seconds of each model, by horizon."""
    rows = list(csv.reader(path.open(encoding="utf-8")))[1:]
    values = np.array([[float(v) for v in row[1:]] for row in rows])
    x = (values - values[:8640].mean(0)) / values[:8640].std(0)
    train, held, test = x[:8640], x[8640:11520], x[11520 - LAGS : 14400]
    found: dict[str, dict[str, list[float]]] = {}
    for horizon in HORIZONS:
        windows = np.lib.stride_tricks.sliding_window_view(test, LAGS + horizon, axis=0)
        past, later = windows[..., :LAGS], windows[..., LAGS:]

        def note(name: str, error: float, spent: float, horizon: int = horizon) -> None:
            line = found.setdefault(name, {"mse": [], "seconds": []})
            line["mse"].append(error)
            line["seconds"].append(spent)
            print(path.stem, horizon, name, f"{error:.4f} {spent:.1f} s", flush=True)

        began = time.process_time()
        model = Forecaster("linear", horizon=horizon, lags=LAGS).fit(train, validation=held)
        spent = time.process_time() - began
        note("Forecaster(kind='linear')", _mse(model, past, later), spent)
        note("persistence", float(np.square(later - past[..., -1:]).mean()), 0.0)
        if not seconds:
            continue
        parts = [_shared(train, horizon), _shared(x[8640 - LAGS : 11520], horizon)]
        for kind in ("DLinear", "NLinear"):
            began = time.process_time()
            net = linear_net(kind, parts[0], (parts[1][0][::7], parts[1][1][::7]), seconds)
            with torch.no_grad():
                given = torch.as_tensor(past.reshape(-1, LAGS)).float()
                error = np.mean(
                    [
                        float((net(a) - torch.as_tensor(b).float()).square().mean())
                        for a, b in zip(
                            given.split(len(given) // 7),
                            np.array_split(later.reshape(-1, horizon), 7),
                            strict=False,
                        )
                    ]
                )
            note(kind, float(error), time.process_time() - began)
        if horizon == HORIZONS[0]:
            for name, options in {
                "with 300 random cosines of the window": {"count": 300},
            }.items():
                began = time.process_time()
                error = nonlinear(train, held, past, later, horizon, **options)
                note(name, error, time.process_time() - began)
    return found


def _mse(model: Forecaster, past: np.ndarray, later: np.ndarray) -> float:
    total = 0.0
    for a, b in zip(np.array_split(past, 20), np.array_split(later, 20), strict=True):
        total += float(
            np.square(model.simulate(a.swapaxes(1, 2), b.shape[-1]) - b.swapaxes(1, 2)).sum()
        )
    return total / later.size


def _shared(x: np.ndarray, horizon: int) -> tuple[torch.Tensor, torch.Tensor]:
    windows = torch.as_tensor(x).float().unfold(0, LAGS + horizon, 1).flatten(0, 1)
    return windows[:, :LAGS], windows[:, LAGS:]


def nonlinear(
    train: np.ndarray,
    held: np.ndarray,
    past: np.ndarray,
    later: np.ndarray,
    horizon: int,
    count: int,
) -> float:
    """The linear map beside cosines of the standardised window, ridge and bandwidth validated."""
    from rectilinear.koopman.autoregression import Piece, Plan, moments, of_fit
    from rectilinear.koopman.dictionaries import Fourier

    both = torch.as_tensor(np.concatenate([train[-LAGS:], held]))
    windows = both.unfold(0, LAGS + horizon, 4)
    best: tuple[float, Any] = (np.inf, None)
    for bandwidth in (1.0, 4.0):
        plan = Plan(LAGS, horizon, shared=True, dictionary=Fourier(count, bandwidth))
        fit = moments(plan, [Piece(torch.as_tensor(train))]).fit()
        for ridge in (1e-2, 1e-1, 1.0):
            found = of_fit(plan, fit, ridge)
            given = windows[..., :LAGS].flip(-1).transpose(1, 2)
            error = float((found.step(given).transpose(1, 2) - windows[..., LAGS:]).square().mean())
            best = min(best, (error, found), key=lambda pair: pair[0])
    total = 0.0
    for a, b in zip(np.array_split(past, 20), np.array_split(later, 20), strict=True):
        given = torch.as_tensor(a.copy()).flip(-1).transpose(1, 2)
        total += float(
            (best[1].step(given).transpose(1, 2) - torch.as_tensor(b.copy())).square().sum()
        )
    return total / later.size


def load(name: str) -> np.ndarray:
    """A series of statsmodels, from its files."""
    import statsmodels.api as sm

    if name == "co2":
        return sm.datasets.co2.load_pandas().data["co2"].interpolate().to_numpy()
    if name == "sunspots":
        return sm.datasets.sunspots.load_pandas().data["SUNACTIVITY"].to_numpy()
    if name == "elnino":
        return sm.datasets.elnino.load_pandas().data.to_numpy()[:, 1:].reshape(-1)
    return np.log(sm.datasets.macrodata.load_pandas().data["realgdp"].to_numpy())


def recorded(name: str) -> dict[str, dict[str, Any]]:
    """Root mean square errors at each step, in standard deviations of the training rows."""
    x, (horizon, lags) = load(name), SERIES[name]
    cut = int(0.7 * len(x))
    train, scale = x[:cut], x[:cut].std()
    past, later = lag_rows(x[cut - lags :], lags, horizon)
    found: dict[str, dict[str, Any]] = {}

    def note(label: str, fit: Any) -> None:
        began = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            simulate = fit()
            if simulate is None:
                return
            forecast = simulate(past[..., None], horizon)[..., 0]
        error = np.sqrt(np.square((forecast - later) / scale).mean(0))
        spent = time.process_time() - began
        found[label] = {"errors": error.tolist(), "seconds": spent}
        average = np.exp(np.log(error).mean())
        print(name, label, f"{average:.4f} {spent:.1f} s", flush=True)

    def ours(kind: str) -> Any:
        model = Forecaster(kind, horizon=horizon).fit(train)
        most = model.model_.plan.lags
        if most > lags:
            model = Forecaster(kind, horizon=horizon, lags=lags).fit(train)
        label = f"Forecaster(kind='{kind}')"
        found_kind[label] = model.kind_
        return model.simulate

    found_kind: dict[str, str] = {}
    note("persistence", lambda: persistence())
    note("last period", lambda: lambda h, steps: h[:, -lags:][:, :steps] if lags >= steps else h)
    note(f"AR({min(24, lags)})", lambda: autoregression(train, min(24, lags)))
    note("AR by AIC (statsmodels)", lambda: ar_by_aic(train, min(36, lags)))
    note(f"lag least squares ({lags})", lambda: lag_least_squares(train, lags, horizon))
    delayed = np.stack([lag_rows(train, 4, 1)[0]], 0)
    note("EDMD, 4 delays (deeptime)", lambda: _delayed(edmd(delayed, 2), 4))
    note("BOP-DMD (PyDMD)", lambda: bop_dmd(train, lags, 8))
    note("MLP, 4 delays", lambda: _delayed(mlp(delayed, 3.0), 4))
    for kind in ("DLinear", "NLinear"):
        note(kind, lambda kind=kind: _net(kind, train, lags, horizon))
    for kind in ("linear", "autoregression", "auto"):
        note(f"Forecaster(kind='{kind}')", lambda kind=kind: ours(kind))
    for label, kind in found_kind.items():
        found[label]["kind"] = kind
    return found


def _delayed(simulate: Any, delays: int) -> Any:
    """A model of states of several delays, as one of histories."""
    return lambda h, steps: simulate(h[:, None, -delays:, 0], steps)[:, :, -1:]


def _net(kind: str, train: np.ndarray, lags: int, horizon: int) -> Any:
    mean, scale = train.mean(), train.std()
    past, later = (
        torch.as_tensor((p - mean) / scale).float() for p in lag_rows(train, lags, horizon)
    )
    cut = int(0.85 * len(past))
    net = linear_net(kind, (past[:cut], later[:cut]), (past[cut:], later[cut:]), 4.0)

    def simulate(history: np.ndarray, steps: int) -> np.ndarray:
        with torch.no_grad():
            given = torch.as_tensor((history[:, -lags:, 0] - mean) / scale).float()
            return net(given)[:, :steps, None].double().numpy() * scale + mean

    return simulate


def lines_of(stored: dict[str, Any]) -> list[str]:
    """The tables."""
    lines: list[str] = []
    for name in PUBLISHED:
        if name not in stored:
            continue
        head = " | ".join(str(h) for h in HORIZONS)
        lines += ["", f"## {name}, mean square error", "", f"| model | {head} | CPU seconds |"]
        lines += ["|---" * 6 + "|"]
        for model, found in stored[name].items():
            cells = [f"{v:.4f}" for v in found["mse"]] + ["", "", ""]
            lines.append(f"| {model} | {' | '.join(cells[:4])} | {sum(found['seconds']):.0f} |")
        for model, values in PUBLISHED[name].items():
            lines.append(f"| {model}, published | {' | '.join(f'{v:.3f}' for v in values)} | |")
    for name, (horizon, _) in SERIES.items():
        if name not in stored:
            continue
        marks = [k for k in (1, 2, 4, 8, 12, 24) if k <= horizon]
        head = " | ".join(map(str, marks))
        lines += ["", f"## {name}, root mean square error at steps", ""]
        lines += [f"| model | {head} | all | CPU seconds |", "|---" * (len(marks) + 3) + "|"]
        for model, found in stored[name].items():
            errors = np.array(found["errors"])
            cells = [f"{errors[k - 1]:.3f}" for k in marks]
            label = f"{model}: {found['kind']}" if "auto'" in model else model
            average = np.exp(np.log(errors).mean())
            lines.append(
                f"| {label} | {' | '.join(cells)} | {average:.3f} | {found['seconds']:.1f} |"
            )
    return lines


def main() -> None:
    """Measure, print and write the tables."""
    parser = options(__doc__, "forecast.md")
    parser.add_argument("--ett", type=Path, help="folder of ETTh1.csv and ETTh2.csv")
    parser.add_argument("--parts", nargs="*", default=("ett", "series"), choices=("ett", "series"))
    parser.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        help="training of each linear net; 0 leaves nets and cosines out",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cache = Path("runs/forecast.json")
    cache.parent.mkdir(exist_ok=True)
    stored = json.loads(cache.read_text()) if cache.exists() else {}
    names = list(SERIES) if "series" in arguments.parts and installed("statsmodels") else []
    names += list(PUBLISHED) if "ett" in arguments.parts and arguments.ett else []
    for name in names:
        if name in SERIES:
            stored[name] = recorded(name)
        else:
            stored[name] = ett(arguments.ett / f"{name}.csv", arguments.seconds)
        cache.write_text(json.dumps(stored))
        write(arguments.out, stored)


def write(out: Path, stored: dict[str, Any]) -> None:
    """Write the page of all that is measured."""
    words = " ".join(a if not Path(a).is_dir() else "DIR" for a in sys.argv[1:])
    peers = [name for name in ("deeptime", "pydmd", "statsmodels") if installed(name)]
    head = [
        "# Forecasts of recorded series",
        "",
        ran(f"forecast.py {words}", "one thread, CPU seconds")
        + f"; installed peers: {', '.join(peers) or 'none'}.",
        "",
        (
            "Errors are in standard deviations of the training rows. `all` is the geometric mean over "
            "the steps."
        ),
    ]
    out.write_text("\n".join(head + lines_of(stored)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
