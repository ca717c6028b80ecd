"""Forecasts of simulated systems from one observed state: Forecaster and what it is compared with.

    python benchmarks/koopman.py                       # half an hour of one core
    python benchmarks/koopman.py --rows pendulum:0.02:200

Writes ``benchmarks/results/koopman.md``. A command that was interrupted goes on after its last
complete row: rows are kept in ``runs/koopman.json`` and measured again once a setting, a peer or
the code of the forecaster has changed.

Seven systems, 200 and 1,000 training series of 150 steps from random initial states, observed
exactly and with noise of a fiftieth of a standard deviation. Every model forecasts from the first
state of 500 held-out series, which is observed exactly. Errors are root mean squares in standard
deviations of the system. The MLP trains for ``--seconds`` processor seconds.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _forecast_peers import dmd, edmd, installed, iterated_ridge, mlp, persistence
from _page import options, ran

import rectilinear.koopman
from rectilinear.datasets import simulate_system
from rectilinear.koopman import Forecaster, KoopmanRegressor

STEPS = (1, 10, 50, 100)
NOISE = 0.02
SYSTEMS = (
    "linear",
    "slow manifold",
    "pendulum",
    "duffing",
    "van_der_pol",
    "lotka volterra",
    "lorenz",
)
LARGE = ("pendulum", "duffing", "van_der_pol", "lorenz")
"""Systems that are fitted on 1,000 series, too."""


def integrated(velocity: Any, x: np.ndarray, dt: float, steps: int) -> np.ndarray:
    """Trajectories ``(count, steps + 1, d)`` by the classical Runge-Kutta method."""
    found, h = [x], dt / 16
    for _ in range(steps):
        for _ in range(16):
            a = velocity(x)
            b = velocity(x + h / 2 * a)
            c = velocity(x + h / 2 * b)
            x = x + h / 6 * (a + 2 * b + 2 * c + velocity(x + h * c))
        found.append(x)
    return np.stack(found, 1)


def simulated(system: str, count: int, steps: int, seed: int) -> np.ndarray:
    """Clean series of a system."""
    rng = np.random.default_rng(seed)
    if system == "slow manifold":  # Brunton et al. (2016): three functions are invariant

        def slow(x: np.ndarray) -> np.ndarray:
            return np.stack([-0.05 * x[:, 0], -(x[:, 1] - x[:, 0] ** 2)], 1)

        return integrated(slow, rng.uniform(-2, 2, (count, 2)), 0.1, steps)
    if system == "lotka volterra":

        def prey(x: np.ndarray) -> np.ndarray:
            return np.stack([x[:, 0] * (1 - x[:, 1]), x[:, 1] * (x[:, 0] - 1)], 1)

        return integrated(prey, rng.uniform(0.4, 2.0, (count, 2)), 0.1, steps)
    return simulate_system(system, count, steps, seed=seed).states.numpy()


def measure(system: str, noise: float, count: int, seconds: float) -> dict[str, dict[str, Any]]:
    """The errors of every model at each of ``STEPS``, and its processor seconds."""
    clean, held = simulated(system, count, 150, 0), simulated(system, 500, 100, 1000)
    scale = held.reshape(-1, held.shape[2]).std(0)
    rng = np.random.default_rng(1)
    train = clean + noise * scale * rng.normal(size=clean.shape)
    found: dict[str, dict[str, Any]] = {}

    def note(name: str, fit: Any) -> None:
        began = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            simulate, words = fit()
            with np.errstate(all="ignore"):
                forecast = np.nan_to_num(simulate(held[:, :1], max(STEPS)), nan=1e9)
        error = np.sqrt((((forecast - held[:, 1:]) / scale) ** 2).mean((0, 2)))
        found[name] = {
            "errors": [float(error[k - 1]) for k in STEPS],
            "seconds": time.process_time() - began,
            "words": words,
        }
        print(system, noise, count, name, [f"{error[k - 1]:.1e}" for k in STEPS], words, flush=True)

    def ours(kind: str) -> Any:
        model = Forecaster(kind, horizon=100, lags=1).fit(train)
        return model.simulate, f"{model.kind_}: {model.comparison_.settings[model.kind_]}"

    def full() -> Any:
        rank = {"pendulum": 44, "van_der_pol": 64, "lorenz": 64}.get(system, 32)
        model = KoopmanRegressor(horizon=100, rank=rank).fit(train)
        return lambda x, steps: model.simulate(x[:, -1], steps)[:, 1:], ""

    note("persistence", lambda: (persistence(), ""))
    note("DMD", lambda: (dmd(train), ""))
    note("EDMD, cubic (deeptime)", lambda: (edmd(train, 3), ""))
    note("ridge on random features, iterated", lambda: (iterated_ridge(train), ""))
    note("MLP, iterated", lambda: (mlp(train, seconds), ""))
    if count == 200 and system not in ("linear", "slow manifold", "lotka volterra"):
        note("KoopmanRegressor", full)
    note("Forecaster(kind='linear')", lambda: ours("linear"))
    note("Forecaster", lambda: ours("auto"))
    return found


def fingerprint(seconds: float) -> str:
    """What the numbers depend on: this file, the peers, the forecaster's code and the versions."""
    code = [Path(__file__), Path(__file__).with_name("_forecast_peers.py")]
    code += sorted(Path(rectilinear.koopman.__file__).parent.glob("*.py"))
    parts = [path.read_bytes() for path in code]
    versions = f"{seconds} {torch.__version__} {np.__version__} {installed('deeptime')}"
    return hashlib.sha256(b"".join([*parts, versions.encode()])).hexdigest()[:12]


def lines_of(stored: dict[str, Any]) -> list[str]:
    """A table for each row of the plan."""
    lines: list[str] = []
    for row, found in stored.items():
        system, noise, count = row.split(":")
        said = f"noise of {float(noise):g}" if float(noise) else "no noise"
        lines += ["", f"## {system}, {said}, {count} series", ""]
        lines += [f"| model | {' | '.join(map(str, STEPS))} | CPU seconds |"]
        lines += ["|---" * (len(STEPS) + 2) + "|"]
        for name, line in found.items():
            cells = [f"{v:.1e}" if v < 1e3 else "diverged" for v in line["errors"]]
            lines.append(f"| {name} | {' | '.join(cells)} | {line['seconds']:.1f} |")
        lines += ["", f"Chosen: {found['Forecaster']['words']}."]
    return lines


def plan() -> list[str]:
    """All rows, the small ones first."""
    small = [f"{s}:{noise:g}:200" for s in SYSTEMS for noise in (0.0, NOISE)]
    return small + [f"{s}:{noise:g}:1000" for s in LARGE for noise in (0.0, NOISE)]


def main() -> None:
    """Measure, print and write the tables."""
    parser = options(__doc__, "koopman.md")
    parser.add_argument("--rows", nargs="*", default=plan(), help="SYSTEM:NOISE:COUNT")
    parser.add_argument("--seconds", type=float, default=4.0, help="training of the MLP")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cache, version = Path("runs/koopman.json"), fingerprint(arguments.seconds)
    cache.parent.mkdir(exist_ok=True)
    kept = json.loads(cache.read_text()) if cache.exists() else {}
    stored = kept["rows"] if kept.get("version") == version else {}
    for row in arguments.rows:
        if row not in stored:
            system, noise, count = row.split(":")
            stored[row] = measure(system, float(noise), int(count), arguments.seconds)
            cache.write_text(json.dumps({"version": version, "rows": stored}, indent=1))
        peers = [name for name in ("deeptime",) if installed(name)]
        head = [
            "# Forecasts of simulated systems",
            "",
            (
                ran(f"koopman.py {' '.join(sys.argv[1:])}", "one thread, CPU seconds")
                + f"; installed peers: {', '.join(peers) or 'none'}; the code of forecaster and "
                f"benchmark has the fingerprint {version} in every row."
            ),
            "",
            "Root mean square errors after so many steps, in standard deviations of the system.",
        ]
        arguments.out.write_text("\n".join(head + lines_of(stored)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
