"""Forecasts of many columns: a wide panel and a field, Forecaster beside PyDMD.

    python benchmarks/wide.py

Writes ``benchmarks/results/wide.md``. Waves of eight frequencies travel over 1,500 and 100,000
points, observed with noise of a twentieth of a standard deviation. Models are fitted on all rows but
the last 20, which they forecast. PyDMD's models get the 17 modes that the waves have.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from _forecast_peers import installed
from _page import options, ran

from rectilinear.koopman import Forecaster

STEPS, WAVES, NOISE = 20, 8, 0.05
SIZES = ((1500, 200), (100_000, 120))


def waves(points: int, rows: int, seed: int = 0) -> np.ndarray:
    """Clean waves ``(rows, points)`` of standard deviation about 1."""
    rng = np.random.default_rng(seed)
    place, found = np.linspace(0, 2 * np.pi, points), np.zeros((rows, points))
    for k in range(1, WAVES + 1):
        speed, phase = rng.uniform(0.1, 1.5), rng.uniform(0, 2 * np.pi)
        found += np.cos(speed * np.arange(rows)[:, None] + k * place + phase) / k
    return found / found.std()


def ours(kind: str, train: np.ndarray) -> np.ndarray:
    """The forecast by Forecaster."""
    return np.asarray(Forecaster(kind, horizon=STEPS).fit(train).forecast(STEPS).mean)


def pydmd(train: np.ndarray) -> np.ndarray:
    """The forecast by PyDMD's exact DMD."""
    from pydmd import DMD

    model = DMD(svd_rank=2 * WAVES + 1).fit(train.T)
    model.dmd_time["tend"] = len(train) - 1 + STEPS
    return np.asarray(model.reconstructed_data.real.T[-STEPS:])


def main() -> None:
    """Measure, print and write the table."""
    out = options(__doc__, "wide.md").parse_args().out
    torch.set_num_threads(1)
    lines = ["| points x rows | model | error | CPU seconds |", "|---|---|---|---|"]
    for points, rows in SIZES:
        clean = waves(points, rows)
        noisy = clean + NOISE * np.random.default_rng(1).normal(size=clean.shape)
        train, later = noisy[:-STEPS], clean[-STEPS:]
        models: dict[str, Callable[[], np.ndarray]] = {
            "no change": partial(np.repeat, train[-1:], STEPS, 0)
        }
        if installed("pydmd"):
            models["DMD (PyDMD)"] = partial(pydmd, train)
        for kind in ("autoregression", "linear", "auto"):
            models[f"Forecaster(kind='{kind}')"] = partial(ours, kind, train)
        for name, fit in models.items():
            began = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = fit()
            spent, error = time.process_time() - began, np.sqrt(np.square(found - later).mean())
            lines.append(f"| {points:,} x {rows} | {name} | {error:.3f} | {spent:.1f} |")
            print(lines[-1], flush=True)
    head = ran("wide.py", "one thread") + "."
    about = (
        f"Root mean square error over the {STEPS} rows after the fit, in standard deviations; the "
        f"noise of an observation is {NOISE:g}."
    )
    text = "\n".join(["# Forecasts of many columns", "", head, "", about, "", *lines])
    out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
