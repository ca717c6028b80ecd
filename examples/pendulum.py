"""Koopman forecasts of a pendulum, forward and backward, with time scales; DMD for comparison."""

import numpy as np

import rectilinear as rl
from rectilinear.koopman import DMD, KoopmanRegressor, round_trip_error

train = rl.datasets.simulate_system("pendulum", count=200, steps=200)
held = rl.datasets.simulate_system("pendulum", count=100, steps=150, seed=1).states
x, scale = held[:, 50], held.flatten(0, 1).std(0).numpy()

model = KoopmanRegressor(rank=44, horizon=100, backward=50, fourier=300).fit(
    train.states, times=train.times
)
dmd = DMD().fit(train.states)


def error(forecast: np.ndarray, k: int) -> float:
    """Root mean square error ``k`` steps from the state at step 50, in standard deviations."""
    return float(np.sqrt(np.mean(((forecast[:, abs(k)] - held[:, 50 + k].numpy()) / scale) ** 2)))


ours, linear = model.simulate(x, 100), dmd.simulate(x, 100)
for k in (1, 10, 50, 100):
    print(f"{k:4} steps:  this model {error(ours, k):.1e}   DMD {error(linear, k):.1e}")
print(f" -50 steps:  this model {error(model.simulate(x, -50), -50):.1e}")
print(
    f"50 steps forward and back: {round_trip_error(model.model_, x, 50).latent:.0e} in its latents"
)

f = model.model_.linearizer()
padded = model.model_.lift.pad(x)
y = padded
for _ in range(100):
    y = f(y)
print(f"100 steps against one power: {float((y - (f**100)(padded)).abs().max()):.0e}")

print("periods of the strongest modes (small swings take 6.28, larger ones longer):")
print("  ", [round(row["period"], 2) for row in model.modes_.table(4) if row["period"]])
