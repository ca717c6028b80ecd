"""Simulation of many networks at once beside a module loop, and predicted learning curves.

    python benchmarks/learning.py       # about a minute on one core

Writes ``benchmarks/results/learning.md``.

1,000 networks of the size of figure 3 of Zhang, Saxe, Latham (2025): 20 inputs, width 100, 2,000
points closed under ``(x, y) -> (-x, -y)``, slopes from 0 to 1, float64, full-batch gradient
descent. The loop is plain PyTorch with a module and an optimizer per network, timed on some
networks and steps and scaled; the results of both are compared. Targets: networks of paired
neurons at least 50 times faster than the loop, a closed form below 50 ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from _page import fastest, options, ran, timed

from rectilinear import learning
from rectilinear.learning import Networks, Optimizer, half_squared_error, simulate
from rectilinear.learning.two_layer import growing_component

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

NETWORKS, POINTS, INPUTS, WIDTH = 1000, 2000, 20, 100
LR, STEPS = 0.004, 10_000  # of the whole figure
SAMPLE, TRIED = 20, 20  # networks and steps of the loop that are measured


def task(*, white: bool = False) -> tuple[Tensor, Tensor]:
    """Figure 3's task: ``y = w . x + sin(4 w . x)``."""
    source = torch.Generator().manual_seed(0)
    x = torch.randn(POINTS // 2, INPUTS, generator=source, dtype=torch.float64)
    if white:
        x = torch.linalg.qr(x).Q * len(x) ** 0.5
    z = x @ (torch.rand(INPUTS, generator=source, dtype=torch.float64) - 0.5)
    y = z + torch.sin(4 * z)
    return torch.cat([x, -x]), torch.cat([y, -y])


def loop(
    networks: Networks, x: Tensor, y: Tensor, steps: int, optimizer: Callable[..., Any]
) -> list[Tensor]:
    """The plain PyTorch loop: a module and an optimizer for each network."""
    first = []
    for b in range(len(networks)):
        model = networks.module(b)
        descent = optimizer(model.parameters())
        for _ in range(steps):
            descent.zero_grad()
            half_squared_error(model(x), y).backward()
            descent.step()
        first.append(model[0].weight.detach())
    return first


def together(std: float) -> list[str]:
    """Rows of the table of simulations."""
    x, y = task()
    alphas = [(b % 11) / 10 for b in range(NETWORKS)]
    half = Networks.gaussian(INPUTS, WIDTH // 2, alpha=alphas, std=std, seed=list(range(NETWORKS)))
    gaussian = Networks.gaussian(INPUTS, WIDTH, alpha=alphas, std=std, seed=list(range(NETWORKS)))
    gd = ("gradient descent", Optimizer(), lambda p: torch.optim.SGD(p, LR))
    momentum = ("momentum, weight decay", Optimizer(momentum=0.9, weight_decay=0.01),
                lambda p: torch.optim.SGD(p, LR, momentum=0.9, weight_decay=0.01))  # fmt: skip
    adam = ("Adam", Optimizer("adam"), lambda p: torch.optim.Adam(p, LR))
    rows = []
    for start, networks, (name, rule, optimizer), steps in (
        ("pairs", half.paired(), gd, 200),
        ("pairs", half.paired(), momentum, 200),
        ("pairs", half.paired(), adam, 100),
        ("Gaussian", gaussian[:SAMPLE], gd, TRIED),
    ):
        loop(networks[:1], x, y, 3, optimizer)
        weights, one = timed(lambda n=networks, o=optimizer: loop(n[:SAMPLE], x, y, TRIED, o))
        one /= SAMPLE * TRIED
        same = simulate(networks[:SAMPLE], x, y, LR, TRIED, optimizer=rule)
        error = max(
            float((a - b).abs().max() / b.abs().max())
            for a, b in zip(same.networks.first, weights, strict=True)
        )
        _, ours = timed(lambda n=networks, r=rule, k=steps: simulate(n, x, y, LR, k, optimizer=r))
        ours /= len(networks) * steps
        speed = f"{1e6 * one:,.0f} | {1e6 * ours:,.1f} | {one / ours:,.0f}"
        whole = f"{one * NETWORKS * STEPS / 3600:.1f} h | {ours * NETWORKS * STEPS:,.0f} s"
        rows.append(f"| {start} | {name} | {same.route} | {speed} | {error:.0e} | {whole} |")
        print(rows[-1], flush=True)
    return rows


def predictions() -> list[str]:
    """Rows of the table of predictions: the whole curve of 10,000 steps from weights of 1e-9."""
    rows = []
    for inputs, white in (("white inputs", True), ("figure 3's inputs", False)):
        x, y = task(white=white)
        network = Networks.gaussian(INPUTS, WIDTH, std=1e-9)
        data = learning.Moments.of(x, y)
        w1, w2 = growing_component(network.first[0], network.last[0], data.beta, 0.5)
        times = 2 * LR * torch.linspace(0, STEPS, 301, dtype=torch.float64)
        start = (w2 @ w1)[0]
        forms: dict[str, Callable[[], Any]] = {
            "general_covariance_solution": lambda d=data, t=times, w=start: (
                learning.general_covariance_solution(t, d.sigma, d.beta[0], w, 0.5)
            )
        }
        if white:
            forms = {
                "white": lambda d=data, t=times, w=start: learning.white_input_solution(
                    t, d.beta[0], w, kappa=0.5
                )
            } | forms
        forms["predict, from the module and the data"] = lambda n=network, x=x, y=y: (
            learning.predict(n.module(0), x, y, 2 * LR, STEPS)
        )
        run, taken = timed(lambda n=network, x=x, y=y: simulate(n, x, y, 2 * LR, STEPS, points=301))
        _, one = timed(
            lambda n=network, x=x, y=y: loop(n, x, y, 200, lambda p: torch.optim.SGD(p, 2 * LR))
        )
        for name, form in forms.items():
            form()
            seconds = fastest(form, 5)
            found = form()
            loss = found.loss if hasattr(found, "loss") else data.loss(found[:, None])
            error = float((loss - run.loss[:, 0]).abs().max() / (run.loss[0] - run.loss[-1]))
            slow = f"{taken:.1f} s | {one / 200 * STEPS:.0f} s"
            rows.append(f"| {inputs} | `{name}` | {1e3 * seconds:.1f} ms | {slow} | {error:.1e} |")
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure, print and write the tables."""
    out = options(__doc__, "learning.md").parse_args().out
    torch.set_num_threads(1)
    lines = [
        "# Learning dynamics: many networks at once, and predictions",
        "",
        ran("learning.py", "one thread, CPU seconds, float64") + ".",
        "",
        (
            f"{NETWORKS:,} networks of {INPUTS} inputs and width {WIDTH} on {POINTS:,} symmetric "
            "points, slopes from "
            f"0 to 1, together and as a loop over modules ({SAMPLE} networks, {TRIED} steps "
            "measured). The error is "
            "that of the weights, relative to the largest. The last columns are all networks for "
            "all 10,000 steps, "
            "scaled."
        ),
        "",
        (
            "Figure 3 has both initialisations: pairs, from which its statements are exact, and "
            "Gaussian weights. Pairs need no "
            "points but only their moments. From Gaussian weights the even part must be computed, on "
            "half of the points: "
            f"two matrix products, {2 * POINTS * INPUTS * WIDTH / 1e6:.0f} million operations a "
            "network and step, half "
            "of those in the loop. No exact way saves more than that and what Python and memory "
            "cost: such networks "
            "are not 50 times faster together, on one core."
        ),
        "",
        (
            "| initialisation | optimizer | route | loop, µs a network and step | together, µs | times "
            "faster | error |"
            " loop, all | together, all |"
        ),
        "|---|---|---|---|---|---|---|---|---|",
        *together(std=0.01),
        "",
        (
            "The curve of one ReLU network, 10,000 steps from weights of 1e-9. The error is the "
            "largest distance from "
            "the simulated loss over the fall of the loss: what finite steps and the unevenness of "
            "the initialisation make."
        ),
        "",
        "| data | prediction | takes | `simulate` takes | the loop takes | error |",
        "|---|---|---|---|---|---|",
        *predictions(),
    ]
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
