"""SVD and pseudo-inverse of scalar plus low rank beside dense: seconds and errors.

    python benchmarks/svd.py            # about two minutes on one core

Writes ``benchmarks/results/svd.md``.

Dense is measured at n = 2,048 and scaled by the cube to 12,288, where it would take 10 minutes
and 3 GB. Errors are measured on vectors, in the precision of the run. Targets: both at least
1,000 times faster at rank 64, error below 1e-5.
"""

from __future__ import annotations

import torch
from _page import fastest, options, ran

import rectilinear.operators as op

DENSE, LARGE, RANKS = 2048, 12_288, (8, 64, 400)


def operator(n: int, rank: int) -> op.ScalarPlusLowRank:
    """A random operator of norm about one."""
    generator = torch.Generator().manual_seed(rank)
    u, v = (torch.randn(n, rank, generator=generator) / n**0.5 for _ in range(2))
    return op.ScalarPlusLowRank(torch.tensor(0.5), 2 * u, v, trainable=False)


def errors(A: op.Operator) -> dict[str, float]:
    """Relative errors of decomposition, orthonormality and the Penrose conditions on 32 vectors."""
    z = torch.randn(32, A.in_dim, generator=torch.Generator().manual_seed(0))
    u, s, v = op.svd(A)
    X = op.pinv(A)

    def relative(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a - b).norm() / b.norm())

    return {
        "svd": max(
            relative(u(s * v.apply_adjoint(z)), A(z)),
            relative(u.apply_adjoint(u(z)), z),
            relative(v.apply_adjoint(v(z)), z),
        ),
        "pinv": max(
            relative(A(X(A(z))), A(z)),
            relative(X(A(X(z))), X(z)),
            relative(X.apply_adjoint(A.apply_adjoint(z)), A(X(z))),
            relative(A.apply_adjoint(X.apply_adjoint(z)), X(A(z))),
        ),
    }


def main() -> None:
    """Measure, print and write the table."""
    out = options(__doc__, "svd.md").parse_args().out
    torch.set_num_threads(1)
    matrix = op.to_dense(operator(DENSE, 64))
    cube = (LARGE / DENSE) ** 3
    dense = {
        "svd": fastest(lambda: torch.linalg.svd(matrix), 1),
        "pinv": fastest(lambda: torch.linalg.pinv(matrix), 1),
    }
    exact = torch.linalg.svdvals(matrix.double())
    drift = float((op.svd(operator(DENSE, 64)).s - exact).abs().max() / exact[0])
    lines = [
        "# SVD and pseudo-inverse of scalar plus low rank",
        "",
        ran("svd.py", "one thread, CPU seconds, float32") + ".",
        "",
        (
            f"Dense at n = {DENSE:,}, measured: SVD {dense['svd']:.2f} s, pinv {dense['pinv']:.2f} "
            f"s; scaled by the cube ({cube:.0f}) to n = {LARGE:,}: SVD {dense['svd'] * cube:.0f} "
            f"s, pinv {dense['pinv'] * cube:.0f} s. Singular values at n = {DENSE:,}, rank 64, "
            f"against dense float64: relative error {drift:.1e}."
        ),
        "",
        "| n | rank | verb | seconds | times faster than dense (scaled) | largest relative error |",
        "|---|---|---|---|---|---|",
    ]
    for rank in RANKS:
        A = operator(LARGE, rank)
        error = errors(A)
        for verb, function in (("svd", op.svd), ("pinv", op.pinv)):
            took = fastest(lambda f=function, a=A: f(a), 5 if rank < 100 else 1)
            lines.append(
                f"| {LARGE:,} | {rank} | {verb} | {took:.4f} | {dense[verb] * cube / took:,.0f} | "
                f"{error[verb]:.1e} |"
            )
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
