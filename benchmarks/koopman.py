"""Forecasts of simulated systems and of a real series: Koopman models, DMD, persistence, an MLP.

    python benchmarks/koopman.py                       # 15 minutes of one core
    python benchmarks/koopman.py --systems pendulum    # one system; the others keep their lines

Writes ``benchmarks/results/koopman.md``.

Errors are root mean squares over the states of 1,000 held-out trajectories, in standard
deviations of the system. All models see the same 1,000 trajectories of 150 steps. The MLP (a
residual map of one step, iterated) trains for as many processor seconds as the Koopman model took
to fit, times ``--generous``. Targets at 100 steps on pendulum and Duffing: at most a fifth of
DMD's error, and at most the MLP's.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.cbook
import numpy as np
import torch

from rectilinear import datasets, koopman
from rectilinear.errors import DivergedError
from rectilinear.invertible import MLP

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).parent / "results"
STEPS = (1, 10, 50, 100, 200)
DELAYS = 16
BACK = 50
OPTIONS: dict[str, dict[str, Any]] = {
    "linear": {"backward": BACK},
    "pendulum": {"backward": BACK, "rank": 44},
    "van_der_pol": {"rank": 64},
    "lorenz": {"rank": 64},
    "eeg": {"delays": DELAYS, "horizon": 40},
}
SYSTEMS = ("linear", "pendulum", "pendulum, noise", "duffing", "van_der_pol", "lorenz", "eeg")


class OneStep(torch.nn.Module):
    """``x_{t+1} = x_t + net(x_t)`` in standard units, trained on single steps, then iterated."""

    def __init__(self, states: torch.Tensor, seconds: float, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        flat = states.flatten(0, 1)
        self.mean, self.scale = flat.mean(0).float(), flat.std(0).float()
        u = (states.float() - self.mean) / self.scale
        before, change = u[:, :-1].flatten(0, 1), u.diff(dim=1).flatten(0, 1)
        size = change.std(0)
        self.net = MLP(u.shape[-1], u.shape[-1], width=128, hidden=2)
        optimizer = torch.optim.AdamW(self.parameters(), lr=3e-3, weight_decay=0.0)
        start, step = time.process_time(), 0
        while (part := (time.process_time() - start) / seconds) < 1:
            for group in optimizer.param_groups:
                group["lr"] = 3e-3 * min(1, (step + 1) / 50) * (1 + math.cos(math.pi * part)) / 2
            rows = torch.randint(len(before), (1024,))
            loss = ((self.net(before[rows]) - change[rows]) / size).square().mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters(), 1.0)
            optimizer.step()
            step += 1

    @torch.no_grad()
    def simulate(self, x: np.ndarray, steps: int) -> np.ndarray:
        u = (torch.as_tensor(x).float() - self.mean) / self.scale
        found = [u]
        for _ in range(steps):
            found.append(found[-1] + self.net(found[-1]))
        return (torch.stack(found, 1) * self.scale + self.mean).double().numpy()


def series(system: str, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Training series, held-out series with ``DELAYS`` observations of history, and the step."""
    if system == "eeg":
        path = matplotlib.cbook.get_sample_data("eeg.dat", asfileobj=False)
        values = np.fromfile(path, dtype=float).reshape(800, 4)
        held = np.stack([values[start : start + DELAYS + 51] for start in range(600, 733, 3)])
        return values[None, :600], held, 1 / 80
    name, noise = (system.split(",")[0], 0.02) if "noise" in system else (system, 0.0)
    train = datasets.simulate_system(name, 1000, 150, noise=noise, seed=seed)
    test = datasets.simulate_system(name, 1000, DELAYS + max(STEPS), seed=1000 + seed)
    return train.states.numpy(), test.states.numpy(), train.dt


def measure(system: str, seed: int, generous: float) -> dict[str, dict[str, float]]:
    """The errors of every model on one system."""
    train, held, dt = series(system, seed)
    now, scale = DELAYS - 1, held.reshape(-1, held.shape[-1]).std(0)
    state = held[:, now]
    history = koopman.embed(torch.as_tensor(held[:, : now + 1]), DELAYS)[:, 0].numpy()
    ahead = [k for k in STEPS if now + k < held.shape[1]]
    lines: dict[str, dict[str, float]] = {}

    def score(name: str, simulate: Callable[[int], np.ndarray], seconds: float) -> None:
        line = {"seconds": seconds}
        for k in ahead:
            try:
                error = (simulate(k)[:, k] - held[:, now + k]) / scale
                line[str(k)] = float(np.sqrt(np.mean(error**2)))
            except (DivergedError, FloatingPointError):
                line[str(k)] = math.inf
        lines[name] = line

    score("persistence", lambda k: np.repeat(state[:, None], k + 1, 1), 0.0)
    for name, model, start in (
        ("DMD", koopman.DMD(), state),
        (f"DMD, {DELAYS} delays", koopman.DMD(DELAYS), history),
    ):
        began = time.process_time()
        model.fit(train)
        score(name, partial(model.simulate, start), time.process_time() - began)
    options = OPTIONS.get(system, {})
    delays, horizon = options.get("delays", 1), options.get("horizon", 100)
    start = history if delays > 1 else state
    variants: dict[str, dict[str, Any]] = {"Koopman": {}}
    if system == "duffing":
        variants |= {"features of the state alone": {"lookahead_features": 0}}
    for name, changes in variants.items():
        began = time.process_time()
        ours = koopman.KoopmanRegressor(**{"horizon": 100, "seed": seed, **options, **changes}).fit(
            train, dt=dt
        )
        spent = max(time.process_time() - began, 1.0)
        score(f"{name}: A^k", partial(ours.simulate, start), spent)
        score(f"{name}: re-encoded every 10", partial(ours.simulate, start, reencode=10), spent)
        if name == "Koopman":
            seconds = spent
            lines["Koopman: A^k"] |= checks(ours, torch.as_tensor(start), system)
            found = koopman.windows(koopman.as_series(held, dt=dt), delays, 0, horizon)
            ck = koopman.chapman_kolmogorov_error(
                ours.model_, found[:: max(1, len(found) // 1000)], horizon // 2
            )
            lines["Koopman: A^k"] |= {f"ck_{part}": value for part, value in ck._asdict().items()}
    seconds *= generous
    rival = OneStep(torch.as_tensor(train), seconds, seed)
    score("MLP", lambda k: rival.simulate(state, k), seconds)
    return lines


@torch.no_grad()
def checks(ours: koopman.KoopmanRegressor, x: torch.Tensor, system: str) -> dict[str, float]:
    """Identities that hold by construction, and eigenvalues if the true ones are known."""
    model = ours.model_
    f, y = model.linearizer(), model.lift.pad(x[:20])
    power = (f**100)(y)
    for _ in range(100):
        y = f(y)
    found = {
        "stepping": float((y - power)[:, : model.state_dim].abs().max()),
        "rank": model.lift.pads,
    }
    found["radius"] = float((model.spectrum.exponents().real.max() * model.dt).exp())
    found |= {
        f"return_{part}": value
        for part, value in koopman.round_trip_error(model, x, BACK)._asdict().items()
    }
    if system == "linear":
        apart = (
            ours.modes_.exponents[:, None] - datasets.synthetic.linear_eigenvalues()[None]
        ).abs()
        found["eigenvalues"] = float(
            apart.min(0).values[datasets.synthetic.linear_eigenvalues().imag > 0].max()
        )
    return found


def table(stored: dict[str, list[dict[str, dict[str, float]]]]) -> list[str]:
    """Medians over the seeds, the range beside the error at 100 steps."""
    lines = []
    for system in SYSTEMS:
        if system not in stored:
            continue
        runs = stored[system]
        ahead = [k for k in map(str, STEPS) if k in runs[0]["DMD"]]
        lines += [
            "",
            f"## {system} ({len(runs)} {'seed' if len(runs) == 1 else 'seeds'})",
            "",
            f"| model | {' | '.join(ahead)} | seconds |",
        ]
        lines += ["|---" * (len(ahead) + 2) + "|"]
        for name in runs[0]:
            cells = []
            for k in ahead:
                values = sorted(run[name][k] for run in runs if name in run)
                middle = values[len(values) // 2]
                span = (
                    f" ({values[0]:.1e} to {values[-1]:.1e})"
                    if k == "100" and len(values) > 1
                    else ""
                )
                cells.append(f"{middle:.1e}{span}" if math.isfinite(middle) else "diverged")
            seconds = float(np.median([run[name]["seconds"] for run in runs if name in run]))
            lines.append(f"| {name} | {' | '.join(cells)} | {seconds:.1f} |")
        ours = [run["Koopman: A^k"] for run in runs]
        ck = {
            part: float(np.median([run[f"ck_{part}"] for run in ours]))
            for part in ("latent", "state", "operator")
        }
        worst = {
            part: max(run[part] for run in ours)
            for part in ("stepping", "radius", "return_latent", "return_state")
        }
        lines += [
            "",
            (
                f"Rank {ours[0]['rank']:.0f}, spectral radius {worst['radius']:.9f}. `A^100` and "
                f"100 steps differ by {worst['stepping']:.0e}. {BACK} steps forward and back end "
                f"{worst['return_latent']:.0e} from the start in the latents"
                + (
                    f", {worst['return_state']:.1e} when re-encoded between"
                    if "backward" in OPTIONS.get(system, {})
                    else ""
                )
                + (
                    f". Eigenvalues off by {max(run['eigenvalues'] for run in ours):.0e}"
                    if system == "linear"
                    else ""
                )
                + f". Chapman-Kolmogorov at half the horizon: {ck['latent']:.0e} in the latents, {ck['state']:.1e} on "
                f"re-encoded states, {ck['operator']:.1e} between least-squares operators."
            ),
        ]
    return lines


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--systems", nargs="*", default=SYSTEMS, choices=SYSTEMS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--generous",
        type=float,
        default=1.0,
        help="the MLP's time, relative to the Koopman model's",
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "koopman.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cache = Path("runs/koopman.json")  # so that systems not measured again keep their lines
    cache.parent.mkdir(exist_ok=True)
    stored = json.loads(cache.read_text()) if cache.exists() else {}
    for system in arguments.systems:
        stored[system] = [
            measure(system, seed, arguments.generous) for seed in range(arguments.seeds)
        ]
        cache.write_text(json.dumps(stored, indent=1))
        print("\n".join(table({system: stored[system]})), flush=True)
    head = [
        "# Forecasts: Koopman models, DMD, persistence, MLP",
        "",
        (
            f"`python benchmarks/koopman.py {' '.join(sys.argv[1:])}`, "
            f"{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}, {platform.machine()} with "
            f"{os.cpu_count()} cores, one thread, CPU seconds, torch {torch.__version__}."
        ),
        "",
        (
            "Root mean square errors after so many steps, in standard deviations, median over "
            "seeds (and range at 100)."
        ),
    ]
    arguments.out.write_text("\n".join(head + table(stored)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
