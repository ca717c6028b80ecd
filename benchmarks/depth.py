"""Training of deep linear networks from statistics, beside modules, batched torch and MLPs.

    python benchmarks/depth.py          # about two minutes on two cores

Writes ``benchmarks/results/depth.md``.

The task is the published protocol: chains of 1 to 10 layers of one unit with bias, on noisy lines
of 1,000 rows, 10,000 full-batch steps, 100 runs for each of four noise levels. The loops are
timed on some steps and scaled. Targets: the whole grid in under 20 s on two cores in array code;
400 times the networks per second of the module loop and 100 times those of
``MLPRegressor(activation="identity")``; a million rows at most 1.2 times the time of a thousand.
"""

from __future__ import annotations

import os
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from statistics import mean, median
from typing import TYPE_CHECKING

import numpy as np
import sklearn
import torch
from _page import options, ran
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from torch import nn

from rectilinear.deeplinear import SufficientStatistics, train_ensemble

if TYPE_CHECKING:
    from collections.abc import Callable

DEPTHS, NOISES, RUNS, ROWS, STEPS, LR = (
    range(1, 11),
    (0.05, 0.15, 0.3, 0.5),
    100,
    1000,
    10_000,
    1e-3,
)


def lines(rows: int = ROWS, runs: int = RUNS) -> tuple[np.ndarray, np.ndarray]:
    """Inputs ``(noises, runs, rows, 1)`` and targets of random lines."""
    rng = np.random.default_rng(0)
    shape = (len(NOISES), runs, rows)
    x, (a, b) = rng.normal(size=shape), rng.normal(size=(2, runs, 1))
    y = a * x + b
    return x[..., None], y + np.array(NOISES)[:, None, None] * y.mean(
        -1, keepdims=True
    ) * rng.normal(size=shape)


def grid(depth: int, *, compiled: bool) -> float:
    """All the runs of one depth from the rows on; CPU seconds."""
    start = time.process_time()
    train_ensemble(
        SufficientStatistics.from_data(*lines()),
        (1,) * (depth - 1),
        init="uniform",
        lr=2 * LR,  # on half the mean square error
        steps=STEPS,
        seed=depth,
        compiled=compiled,
    )
    return time.process_time() - start


def whole_grid(*, compiled: bool) -> tuple[float, float]:
    """Wall seconds on two cores, and CPU seconds: the best of three, workers and kernel warm."""
    took = []
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(partial(_warm, compiled), range(4)))
        for _ in range(3):
            start = time.perf_counter()
            cpu = sum(pool.map(partial(grid, compiled=compiled), sorted(DEPTHS, reverse=True)))
            took.append((time.perf_counter() - start, cpu))
    return min(took)


def _warm(compiled: bool, _: int) -> None:
    train_ensemble(
        SufficientStatistics.from_data([[0.0], [1.0]], [0.0, 1.0]), (1,), steps=1, compiled=compiled
    )
    time.sleep(0.2)


def modules(depth: int, steps: int) -> float:
    """CPU seconds of one step of a chain of ``nn.Linear`` with ``torch.optim.SGD``."""
    x, y = (torch.from_numpy(a[0, 0]) for a in lines(runs=1))
    net = nn.Sequential(*(nn.Linear(1, 1, dtype=torch.float64) for _ in range(depth)))
    rule, loss = torch.optim.SGD(net.parameters(), lr=LR), nn.MSELoss()
    start = time.process_time()
    for _ in range(steps):
        rule.zero_grad()
        loss(net(x), y[:, None]).backward()
        rule.step()
    return (time.process_time() - start) / steps


def mlp(depth: int, steps: int) -> float:
    """CPU seconds of one full-batch step of scikit-learn's MLP with identity activation."""
    x, y = (a[0, 0] for a in lines(runs=1))
    model = MLPRegressor(
        hidden_layer_sizes=(1,) * (depth - 1),
        activation="identity",
        solver="sgd",
        alpha=0.0,
        batch_size=ROWS,
        learning_rate_init=LR,
        max_iter=steps,
        tol=0.0,
        n_iter_no_change=steps,
        momentum=0.0,
        shuffle=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        start = time.process_time()
        model.fit(x, y)
    assert model.n_iter_ == steps
    return (time.process_time() - start) / steps


def batched(depth: int, steps: int) -> float:
    """CPU seconds of one step of one network: all runs of a depth as tensors, autograd, moments."""
    x, y = (torch.from_numpy(a.reshape(len(NOISES) * RUNS, ROWS)) for a in lines())
    mx, my, xx, xy = x.mean(1), y.mean(1), (x * x).mean(1), (x * y).mean(1)
    w, b = (torch.rand(depth, len(x), dtype=x.dtype).mul(2).sub(1).requires_grad_() for _ in "wb")
    start = time.process_time()
    for _ in range(steps):
        slope, offset = torch.ones_like(mx), torch.zeros_like(mx)
        for layer in range(depth):
            slope, offset = w[layer] * slope, w[layer] * offset + b[layer]
        loss = slope**2 * xx + offset**2 + 2 * (slope * (offset * mx - xy) - offset * my)
        gradients = torch.autograd.grad(loss.sum(), (w, b))
        with torch.no_grad():
            for parameter, gradient in zip((w, b), gradients, strict=True):
                parameter -= LR * gradient
    return (time.process_time() - start) / steps / len(x)


def rows_do_not_matter(*, compiled: bool) -> float:
    """Median ratio of the training times from the statistics of 1,000,000 and of 1,000 rows."""
    small, large = (
        SufficientStatistics.from_data(*(a[0, 0] for a in lines(n, 1))) for n in (1000, 1_000_000)
    )

    def seconds(statistics: SufficientStatistics) -> float:
        start = time.process_time()
        train_ensemble(
            statistics, (1,) * 4, runs=RUNS, lr=LR, steps=2000, checkpoints=10, compiled=compiled
        )
        return time.process_time() - start

    seconds(small)
    return median(seconds(large) / seconds(small) for _ in range(15))


def main() -> None:
    """Measure, print and write the table."""
    out = options(__doc__, "depth.md").parse_args().out
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    networks = len(DEPTHS) * len(NOISES) * RUNS
    engines = {"array code": False} | ({"compiled kernel": True} if find_spec("numba") else {})
    took = {name: whole_grid(compiled=compiled) for name, compiled in engines.items()}
    peers: dict[str, Callable[[int, int], float]] = {
        "loop over `nn.Linear` modules, autograd, `SGD`": modules,
        'scikit-learn `MLPRegressor(activation="identity")`': mlp,
        "20 lines of batched torch: the moments, all runs of a depth at once, autograd": batched,
    }
    for run in peers.values():
        run(2, 50)
    slow = {
        name: 1 / (STEPS * mean(run(depth, 300) for depth in DEPTHS)) for name, run in peers.items()
    }
    versions = f"numpy {np.__version__}, scikit-learn {sklearn.__version__}"
    text = [
        "# Deep linear networks: networks trained per second",
        "",
        ran("depth.py", f"load {load:.1f} before the run, {versions}, float64") + ".",
        "",
        (
            f"The grid: {len(DEPTHS)} depths x {len(NOISES)} noises x {RUNS} runs = {networks:,} "
            f"networks, {STEPS:,} full-batch steps each on {ROWS:,} rows; the statistics of the "
            "rows are part of the time. Best of three; networks per second of CPU time on one "
            "core; the loops were timed on 300 steps at each depth and scaled."
        ),
        "",
        (
            "| | two processes, wall | CPU seconds | networks per CPU second | times the modules | "
            "times MLPRegressor | times batched torch |"
        ),
        "|---|---|---|---|---|---|---|",
    ]
    rates = {
        name: (f"{wall:.1f} s", f"{cpu:.1f}", networks / cpu) for name, (wall, cpu) in took.items()
    }
    rates |= {name: ("", f"{networks / rate:,.0f} (scaled)", rate) for name, rate in slow.items()}
    first, second, third = slow.values()
    text += [
        f"| {name} | {wall} | {cpu} | {rate:,.2f} | {rate / first:,.1f} | {rate / second:,.1f} | "
        f"{rate / third:,.2f} |"
        for name, (wall, cpu, rate) in rates.items()
    ]
    ratios = [
        f"{rows_do_not_matter(compiled=compiled):.2f} in {name}"
        for name, compiled in engines.items()
    ]
    text += [
        "",
        (
            "Training time at 1,000,000 rows over that at 1,000 (100 runs of 5 layers): "
            f"{', '.join(ratios)}."
        ),
    ]
    out.write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main()
