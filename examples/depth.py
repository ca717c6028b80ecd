"""How depth changes the way to least squares, and what cures it: 400 networks at each depth, in seconds."""

import numpy as np

from rectilinear.deeplinear import SufficientStatistics, train

RUNS, ROWS, STEPS = 400, 1000, 10_000

rng = np.random.default_rng(0)
x = rng.normal(size=(RUNS, ROWS, 1))
slope, intercept = rng.normal(size=(2, RUNS, 1))
y = slope * x[..., 0] + intercept + 0.1 * rng.normal(size=(RUNS, ROWS))
data = SufficientStatistics.from_data(x, y)  # all that training needs of the 400,000 rows
tol = 1e-4 * data.cyy[:, 0, 0]  # a ten-thousandth of the variance of each target

ways = {
    "uniform, gradient descent": {"start": "uniform", "optimizer": "gd"},
    "uniform, Adam": {"start": "uniform", "optimizer": "adam"},
    "last layer zero, gradient descent": {"start": "zero_last", "optimizer": "gd"},
}
print(f"Share of {RUNS} runs at least squares within {STEPS:,} steps of 1e-3, and their median number of steps")
print(f"{'layers':34}" + "".join(f"{depth:>14}" for depth in (1, 2, 4, 6, 10)))
for name, way in ways.items():
    cells = []
    for depth in (1, 2, 4, 6, 10):
        runs = train(data, (1,) * (depth - 1), lr=1e-3, steps=STEPS, tol=tol, seed=depth, **way)
        cells.append(f"{runs.converged.mean():.0%} {np.median(runs.hit[runs.converged]):,.0f}")
    print(f"{name:34}" + "".join(f"{cell:>14}" for cell in cells))
