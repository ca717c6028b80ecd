"""400 deep linear networks at each depth: how often and how fast training finds least squares."""

import numpy as np

from rectilinear.deeplinear import SufficientStatistics, train_ensemble

RUNS, ROWS, STEPS = 400, 1000, 10_000

rng = np.random.default_rng(0)
x = rng.normal(size=(RUNS, ROWS, 1))
slope, intercept = rng.normal(size=(2, RUNS, 1))
y = slope * x[..., 0] + intercept + 0.1 * rng.normal(size=(RUNS, ROWS))
data = SufficientStatistics.from_data(x, y)  # all that training needs of the 400,000 rows
tol = 1e-4 * data.cyy[:, 0, 0]  # a ten-thousandth of the variance of each target

# The step of gradient descent is on half the mean square error: 2e-3 here is 1e-3 of
# torch.nn.MSELoss.
ways = {
    "uniform, gradient descent": {"init": "uniform", "optimizer": "gd", "lr": 2e-3},
    "uniform, Adam": {"init": "uniform", "optimizer": "adam", "lr": 1e-3},
    "last layer zero, gradient descent": {"init": "zero_last", "optimizer": "gd", "lr": 2e-3},
}
print(
    f"Share of {RUNS} runs at least squares within {STEPS:,} steps, and their median number of "
    "steps"
)
print(f"{'layers':34}" + "".join(f"{depth:>14}" for depth in (1, 2, 4, 6, 10)))
for name, way in ways.items():
    cells = []
    for depth in (1, 2, 4, 6, 10):
        runs = train_ensemble(data, (1,) * (depth - 1), steps=STEPS, tol=tol, seed=depth, **way)
        cells.append(f"{runs.converged.mean():.0%} {np.median(runs.hit[runs.converged]):,.0f}")
    print(f"{name:34}" + "".join(f"{cell:>14}" for cell in cells))
