"""Streamed least squares of the audit beside its peers: seconds and correct digits.

    python benchmarks/least_squares.py      # about a minute on one core

Writes ``benchmarks/results/least_squares.md``.

Peers: normal equations (the Gram matrix and its eigenvalues), ``numpy.linalg.lstsq`` and
scikit-learn's ``LinearRegression``, each on the whole table at once. Digits are those of the fitted
values, against the exact targets ``X w + 1``: 15 is all of float64, 0 is none.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from _page import fastest, options, ran
from sklearn.linear_model import LinearRegression

from rectilinear.numerics import Moments

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

SIZES = ((10_000, 784, 20), (20_000, 576, 128), (200_000, 20, 1))
REPEATS, BATCH = 3, 1024


def streamed(x: Tensor, t: Tensor) -> Tensor:
    """Fitted values of :class:`rectilinear.numerics.Moments`, which sees one batch at a time."""
    moments = Moments()
    for rows, targets in zip(x.split(BATCH), t.split(BATCH), strict=True):
        moments.add(rows, targets)
    return moments.fit().predict(x)


def normal_equations(x: Tensor, t: Tensor) -> Tensor:
    """Fitted values from the centred Gram matrix, eigenvalues below rounding left out."""
    mean_x, mean_t = x.mean(0), t.mean(0)
    z = x - mean_x
    s, v = torch.linalg.eigh(z.mT @ z)
    keep = s > s[-1] * 4 * len(s) * torch.finfo(s.dtype).eps
    v = v[:, keep]
    return z @ (v @ ((v.mT @ (z.mT @ (t - mean_t))) / s[keep, None])) + mean_t


def lapack(x: Tensor, t: Tensor) -> Tensor:
    """Fitted values of ``numpy.linalg.lstsq`` with a column of ones."""
    design = np.c_[np.ones(len(x)), x.numpy()]
    return torch.from_numpy(design @ np.linalg.lstsq(design, t.numpy())[0])


def sklearn(x: Tensor, t: Tensor) -> Tensor:
    """Fitted values of ``LinearRegression``."""
    return torch.from_numpy(LinearRegression().fit(x.numpy(), t.numpy()).predict(x.numpy()))


METHODS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "rectilinear, streamed": streamed,
    "normal equations": normal_equations,
    "numpy.linalg.lstsq": lapack,
    "LinearRegression": sklearn,
}


def tables() -> dict[str, Tensor]:
    """Inputs ``(2000, 4)`` of every conditioning."""
    x = torch.randn(2000, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    units = x * torch.tensor([1e8, 1.0, 1.0, 1.0], dtype=torch.float64)
    near = torch.cat([x[:, :3], x[:, :1] + 1e-9 * x[:, 3:]], 1)
    return {
        "independent columns": x,
        "one column in units of 1e8": units,
        "two columns that differ by 1e-9": near,
        "all columns offset by 1e8": x + 1e8,
    }


def digits(method: Callable[[Tensor, Tensor], Tensor], x: Tensor) -> float:
    """Correct decimal digits of the fitted values, relative to the spread of the targets."""
    t = ((x - x.mean(0)) / x.std(0)).sum(1, keepdim=True) + 1
    error = float((method(x, t) - t).norm() / (t - t.mean(0)).norm())
    return 16.0 if error == 0 else min(16.0, max(0.0, -math.log10(error)))


def main() -> None:
    """Measure, print and write both tables."""
    out = options(__doc__, "least_squares.md").parse_args().out
    torch.set_num_threads(1)
    names = list(METHODS)
    lines = [
        "# Least squares",
        "",
        ran("least_squares.py", "one thread, float64") + ".",
        "",
        "Digits of the fitted values (15 is all of float64), 2,000 rows:",
        "",
        f"| columns | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
    ]
    for name, x in tables().items():
        lines.append(f"| {name} | {' | '.join(f'{digits(METHODS[m], x):.1f}' for m in names)} |")
    lines += [
        "",
        (
            "CPU seconds, and in brackets how many times those of the normal equations. The peers "
            "hold the whole table,"
        ),
        "the streamed fit sees 1,024 rows at a time:",
        "",
        f"| rows x columns, targets | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
    ]
    for n, d, targets in SIZES:
        generator = torch.Generator().manual_seed(0)
        x, t = (torch.randn(n, k, dtype=torch.float64, generator=generator) for k in (d, targets))
        times = {m: fastest(lambda m=m, x=x, t=t: METHODS[m](x, t), REPEATS) for m in names}
        row = " | ".join(
            f"{times[m]:.2f} ({times[m] / times['normal equations']:.1f})" for m in names
        )
        lines.append(f"| {n:,} x {d}, {targets} | {row} |")
    text = "\n".join(lines) + "\n"
    print(text)
    out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
