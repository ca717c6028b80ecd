"""Coverage of forecast intervals on later rows: Forecaster beside AutoReg and conformal no change.

    python benchmarks/intervals.py [--ett DIR]

Writes ``benchmarks/results/intervals.md``. Series of statsmodels, and 3,000 hours of two columns of
ETTh1.csv in DIR. Models are fitted on the first 70 % of rows and forecast from every later row. The
coverage is the share of observations inside the interval. Peers: AutoReg of statsmodels with lags
by AIC and its Gaussian intervals; no change with quantiles of its absolute errors over the rows of
the fit (split conformal prediction).
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import statsmodels.api as sm
import torch
from _forecast_peers import autoregression, lag_rows
from _page import options, ran
from statsmodels.tsa.ar_model import AutoReg, ar_select_order
from statsmodels.tsa.arima_process import arma2ma

from rectilinear.koopman import Forecaster

LEVELS, STEPS, HORIZON, MOST_LAGS = (0.5, 0.8, 0.95), (1, 6, 24), 24, 36
Ends = dict[float, np.ndarray]


def series(ett: Path | None) -> dict[str, np.ndarray]:
    """The series, each ``(T,)``."""
    data = sm.datasets
    macro = data.macrodata.load_pandas().data
    found = {
        "co2": data.co2.load_pandas().data["co2"].interpolate().to_numpy(),
        "sunspots": data.sunspots.load_pandas().data["SUNACTIVITY"].to_numpy(),
        "elnino": data.elnino.load_pandas().data.to_numpy()[:, 1:].reshape(-1),
        "nile": data.nile.load_pandas().data["volume"].to_numpy(),
        "gdp growth": np.diff(np.log(macro["realgdp"].to_numpy())),
        "inflation": macro["infl"].to_numpy(),
        "treasury bills": macro["tbilrate"].to_numpy(),
        "unemployment": macro["unemp"].to_numpy(),
        "consumption growth": np.diff(np.log(macro["realcons"].to_numpy())),
    }
    if ett is not None:
        rows = np.loadtxt(ett / "ETTh1.csv", delimiter=",", skiprows=1, usecols=range(1, 8))
        found |= {"ETTh1 OT": rows[:3000, 6], "ETTh1 HUFL": rows[5000:8000, 0]}
    return found


def ours(kind: str, x: np.ndarray, cut: int, horizon: int) -> tuple[np.ndarray, Ends]:
    """Errors on the later rows ``(n, horizon)``, and half widths ``(horizon,)`` for each level."""
    model = Forecaster(kind, horizon=horizon).fit(x[:cut])
    lags = model.model_.plan.lags
    ends = {}
    for level in LEVELS:
        found = model.forecast(horizon, level=level)
        ends[level] = (found.upper - found.mean)[:, 0]
    return model.errors(x[cut - lags :], horizon)[..., 0], ends


def autoreg(x: np.ndarray, cut: int, horizon: int) -> tuple[np.ndarray, Ends]:
    """The same of AutoReg."""
    from scipy.stats import norm

    most = min(MOST_LAGS, cut // 6)
    chosen = ar_select_order(x[:cut], maxlag=most, ic="aic").ar_lags
    lags = max(chosen) if chosen else 1
    fit = AutoReg(x[:cut], lags).fit()
    response = arma2ma(np.r_[1.0, -fit.params[1:]], [1.0], horizon)
    sigma = np.sqrt(fit.sigma2 * np.square(response).cumsum())
    past, later = lag_rows(x[cut - lags :], lags, horizon)
    errors = later - autoregression(x[:cut], lags)(past[..., None], horizon)[..., 0]
    return errors, {level: norm.ppf((1 + level) / 2) * sigma for level in LEVELS}


def no_change(x: np.ndarray, cut: int, horizon: int) -> tuple[np.ndarray, Ends]:
    """The same of no change."""
    past, later = lag_rows(x[cut - 1 :], 1, horizon)
    known, after = lag_rows(x[:cut], 1, horizon)
    size = np.abs(after - known)
    rank = (len(size) + 1) / len(size)
    ends = {level: np.quantile(size, min(1.0, level * rank), axis=0) for level in LEVELS}
    return later - past, ends


def main() -> None:
    """Measure, print and write the tables."""
    parser = options(__doc__, "intervals.md")
    parser.add_argument("--ett", type=Path, help="folder of ETTh1.csv")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    cells: dict[tuple[str, float, int], list[tuple[float, float]]] = {}
    each = []
    for name, x in series(arguments.ett).items():
        cut, horizon = int(0.7 * len(x)), min(HORIZON, len(x) // 12)
        rivals = {
            "Forecaster(kind='linear')": lambda *a: ours("linear", *a),
            "Forecaster(kind='auto')": lambda *a: ours("auto", *a),
            "AutoReg (statsmodels)": autoreg,
            "no change, conformal": no_change,
        }
        line = []
        for label, fit in rivals.items():
            errors, ends = fit(x, cut, horizon)
            for step in (s for s in STEPS if s <= horizon):
                for level in LEVELS:
                    half = ends[level][step - 1]
                    inside = float((np.abs(errors[:, step - 1]) <= half).mean())
                    cells.setdefault((label, level, step), []).append((inside, half / x.std()))
            line.append(f"{cells[label, 0.8, min(6, horizon)][-1][0]:.0%}")
        each.append(f"| {name} | {len(x)} | {' | '.join(line)} |")
        print(each[-1], flush=True)
    labels = list(dict.fromkeys(key[0] for key in cells))
    lines = [
        "| model | step | 50 % | 80 % | 95 % | half width of 80 % |",
        "|---|---|---|---|---|---|",
    ]
    for label in labels:
        for step in STEPS:
            found = [np.array(cells[label, level, step]) for level in LEVELS]
            shares = " | ".join(f"{part[:, 0].mean():.1%}" for part in found)
            lines.append(f"| {label} | {step} | {shares} | {np.median(found[1][:, 1]):.2f} |")
    print("\n".join(lines))
    write(arguments, lines, labels, each)


def write(
    arguments: argparse.Namespace, lines: list[str], labels: list[str], each: list[str]
) -> None:
    """Write the page."""
    ett = " --ett DIR" if arguments.ett else ""
    text = [
        "# Coverage of forecast intervals",
        "",
        ran(f"intervals.py{ett}", "one thread") + ".",
        "",
        (
            "Mean over the series of the share of later observations inside intervals of 50, 80 and 95 %, "
            "and the median half width in standard deviations of the series."
        ),
        "",
        *lines,
        "",
        "## Each series: coverage of intervals of 80 % at step 6",
        "",
        f"| series | rows | {' | '.join(labels)} |",
        "|---" * (len(labels) + 2) + "|",
        *each,
    ]
    arguments.out.write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
