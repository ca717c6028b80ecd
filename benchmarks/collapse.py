"""Cost and accuracy of collapsing a hundred steps into one operator.

    python benchmarks/collapse.py [--dense-steps 100] [--out benchmarks/results/collapse.md]

Three parts, float32 unless stated, rank 8, 100 steps, one thread:

1. n = 3,072: the dense nested RK4 product (the peer: every stage a dense matrix) beside the
   structured one.
2. n = 12,288: seconds and memory of the structured product, in a separate process.
3. Every method at n = 64, 784 and 3,072, random and trained operators: one application against the
   hundred steps, and the distance of the hundred steps from a fine reference.

Seconds are processor time. About ten minutes on one core, nearly all of it the dense product;
``--dense-steps 10`` measures only that many of its steps and scales the time, without its error.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

import torch
from _page import options, processor, ran, timed

from rectilinear.flow import ChebyshevVelocity, LowRankEndpoint, TimeVarying
from rectilinear.flow.collapse import propagate
from rectilinear.flow.integrate import integrate
from rectilinear.operators import Operator, ScalarPlusLowRank

if TYPE_CHECKING:
    from torch import Tensor

RANK, STEPS = 8, 100
METHODS = ("euler", "midpoint", "rk4", "magnus2", "magnus4")
FINE = 2000  # Magnus-4 steps of the reference


class Drifting(TimeVarying):
    """Random velocities ``s(t) I + u(t) v(t)^T`` in no fixed basis: the general case."""

    def __init__(self, n: int) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.dim = n
        self.register_buffer("parts", torch.randn(2, 3, n, RANK, generator=g) / n**0.5)

    def velocity(self, t: float | Tensor) -> Operator:
        t = torch.as_tensor(t, dtype=torch.float64)
        weights = torch.stack([torch.ones_like(t), torch.cos(3 * t), torch.sin(2 * t)]).to(
            self.parts
        )
        u, v = torch.tensordot(weights, self.parts.transpose(0, 1), 1)
        return ScalarPlusLowRank((0.3 - t).to(u), u, v, trainable=False)


def trained(n: int, steps: int = 300) -> LowRankEndpoint:
    """The published family, trained by flow matching on latents that live near 16 dimensions."""
    torch.manual_seed(0)
    family, axes = LowRankEndpoint(n, RANK), torch.randn(16, n) / 4
    optimizer = torch.optim.Adam(family.parameters(), 2e-3)
    for _ in range(steps):
        z0, z1, t = (
            torch.randn(64, n),
            torch.randn(64, 16) @ axes + 0.1 * torch.randn(64, n),
            torch.rand(64),
        )
        loss = (family.endpoint(t)(torch.lerp(z0, z1, t[:, None])) - z1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return family.requires_grad_(requires_grad=False)


def dense_product(family: TimeVarying, steps: int) -> Tensor:
    """The first ``steps`` of ``STEPS`` nested RK4 steps as dense matrices, multiplied."""
    eye, h = torch.eye(family.dim), 1 / STEPS
    product = eye
    for k in range(steps):
        w1, w2, w4 = (
            dense(family.velocity(t / (2 * STEPS))) for t in (2 * k, 2 * k + 1, 2 * k + 2)
        )
        k2 = w2 @ (eye + h / 2 * w1)
        k3 = w2 @ (eye + h / 2 * k2)
        k4 = w4 @ (eye + h * k3)
        product = (eye + h / 6 * (w1 + 2 * k2 + 2 * k3 + k4)) @ product
    return product


def dense(W: Operator) -> Tensor:
    """The matrix of ``scale I + u v^T``."""
    assert isinstance(W, ScalarPlusLowRank)
    return torch.diag(W.scale.expand(W.in_dim)) + W.u @ W.v.mT


def difference(a: Tensor, b: Tensor) -> float:
    """The largest relative difference of the rows."""
    return float(((a.double() - b.double()).norm(dim=-1) / b.double().norm(dim=-1)).max())


def against_dense(n: int, dense_steps: int) -> str:
    """Part 1."""
    rows = []
    family = Drifting(n)
    states = torch.randn(8, n, generator=torch.Generator().manual_seed(1))
    exact = integrate(Drifting(n).double(), states.double(), STEPS, "rk4")
    propagate(family, 2, "rk4")  # the first call of a process is slower
    product, seconds = timed(lambda: dense_product(family, dense_steps))
    assert isinstance(product, torch.Tensor)
    peer = seconds * STEPS / dense_steps
    error = (
        f"{difference(states @ product.mT, exact):.1e}" if dense_steps == STEPS else "not measured"
    )
    rows.append(
        ("dense nested RK4 product" + ("" if dense_steps == STEPS else ", scaled"), peer, n, error)
    )
    for name, member in (
        ("collapse, any scalar-plus-low-rank family", family),
        (
            "collapse, Chebyshev of degree 4",
            ChebyshevVelocity(n, RANK).requires_grad_(requires_grad=False),
        ),
        (
            "collapse, published family, last step included",
            LowRankEndpoint(n, RANK).requires_grad_(requires_grad=False),
        ),
    ):
        times = []
        for _ in range(3):
            (operator, _), seconds = timed(lambda m=member: propagate(m, STEPS, "rk4"))
            times.append(seconds)
        reference = integrate(member.double(), states.double(), STEPS, "rk4")
        rows.append(
            (
                name,
                sorted(times)[1],
                operator.u.shape[-1],
                f"{difference(operator(states), reference):.1e}",
            )
        )
        member.float()
    lines = [f"| {name} | {s:.3g} | {peer / s:,.0f} | {r:,} | {e} |" for name, s, r, e in rows]
    return "\n".join(
        [
            "| n = 3,072 | seconds | times faster | rank | relative error |",
            "|---|---|---|---|---|",
            *lines,
        ]
    )


def large(n: int) -> dict[str, float]:
    """Part 2, run in a separate process: seconds, peak memory and error of one collapse."""
    family = Drifting(n)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    (operator, _), seconds = timed(lambda: propagate(family, STEPS, "rk4"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    states = torch.randn(256, n, generator=torch.Generator().manual_seed(1))
    one, apply_one = timed(lambda: operator(states))
    _, apply_many = timed(lambda: integrate(family, states, STEPS, "rk4"))
    exact = integrate(family.double(), states[:4].double(), STEPS, "rk4")
    return {
        "seconds": seconds,
        "peak_gib": peak,
        "before_gib": before,
        "rank": operator.u.shape[-1],
        "error": difference(one[:4], exact),
        "apply_one": apply_one,
        "apply_many": apply_many,
    }


def methods_table(sizes: list[int]) -> str:
    """Part 3."""
    lines = [
        (
            "| n | operators | method | one against 100, float32 | float64 | 100 steps against the "
            "flow |"
        ),
        "|---|---|---|---|---|---|",
    ]
    for n in sizes:
        states = torch.randn(4, n, generator=torch.Generator().manual_seed(1)).double()
        for name, family in (("random", Drifting(n)), ("trained", trained(n))):
            end = 1 / STEPS if family.singular_at_one else None
            fine = integrate(family.double(), states, FINE, "magnus4", end=end)
            for method in METHODS:
                cells = []
                for dtype in (torch.float32, torch.float64):
                    many = integrate(family.to(dtype), states.to(dtype), STEPS, method, end=end)
                    one = propagate(family, STEPS, method, end=end).operator(states.to(dtype))
                    cells.append(f"{difference(one, many):.1e}")
                lines.append(
                    f"| {n:,} | {name} | {method} | {' | '.join(cells)} | "
                    f"{difference(many, fine):.1e} |"
                )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write the tables."""
    parser = options(__doc__, "collapse.md")
    parser.add_argument("--dense-steps", type=int, default=STEPS)
    parser.add_argument("--large", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--sizes", type=int, nargs="*", default=[64, 784, 3072])
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if args.large:
        print(json.dumps(large(args.large)))
        return
    output = subprocess.run(
        [sys.executable, __file__, "--large", "12288"], check=True, capture_output=True, text=True
    )
    big = json.loads(output.stdout)
    text = f"""# A hundred steps folded into one operator

{ran("collapse.py", f"{torch.get_num_threads()} thread", processor())}.
Rank {RANK}, {STEPS} steps, float32; processor seconds, medians of three for the collapse. Errors are
the largest relative ones over a batch of states, against the same steps in float64.

{against_dense(3072, args.dense_steps)}

n = 12,288, any scalar-plus-low-rank family: **{big["seconds"]:.1f} s**, peak memory of the process
**{big["peak_gib"]:.2f} GiB** ({big["before_gib"]:.2f} before the collapse), rank {big["rank"]:,},
relative error {big["error"]:.1e}. Applied to 256 states: {big["apply_one"]:.2f} s, against
{big["apply_many"]:.2f} s for the {STEPS} steps.

One application against {STEPS} steps of the same method, and these steps against the flow itself
({FINE:,} Magnus-4 steps); largest relative differences over 4 states. Random: velocities
`s(t) I + u(t) v(t)^T`. Trained: the published end-point family after 300 steps of flow matching,
integrated to `t = 0.99` and ended by its end-point prediction.

{methods_table(args.sizes)}
"""
    print(text)
    args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
