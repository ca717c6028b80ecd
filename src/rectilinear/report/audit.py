"""The demo's page on linearity: two audits, a predicted learning curve, and depth."""

from __future__ import annotations

from dataclasses import dataclass
from time import process_time

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import rectilinear as rl
from rectilinear import plots
from rectilinear.analysis import Audit
from rectilinear.datasets import load
from rectilinear.deeplinear import DepthStudy, StudyResult, Synthetic, deep_linear
from rectilinear.deeplinear.study import figures
from rectilinear.learning import Prediction
from rectilinear.plots.charts import shares
from rectilinear.plots.page import Html, Section, captioned, chart, number, table
from rectilinear.random import generator

WIDTH, START = 100, 1e-3
LR, STEPS, EVERY = 0.1, 1000, 10


@dataclass(frozen=True, eq=False)
class Learned:
    """A network after training: its audit, its losses, and its accuracy on held-out images.

    The loss is taken every few steps.
    """

    audit: Audit
    steps: list[int]
    losses: list[float]
    accuracy: float


def audit_sections(seed: int = 0) -> tuple[list[Section], dict[str, float]]:
    """Two sections and the numbers ``audit_r2_symmetrised`` and ``predicted_curve_error``.

    Ten seconds on one thread.

    A two-layer ReLU network without biases learns which digits are below five: as they are, and
    with every image and its label mirrored, ``(-x, -y)``, beside it. ``predicted_curve_error`` is
    the largest difference of the predicted and the measured loss, over the initial loss.
    """
    x, y = _below_five("train")
    held_out = _below_five("test")
    mirrored = torch.cat([x, -x]), torch.cat([y, -y])
    prediction = rl.predict(_network(seed), *mirrored, lr=LR, steps=STEPS)
    raw, closed = _learn(seed, (x, y), held_out), _learn(seed, mirrored, held_out)
    at = torch.searchsorted(prediction.steps, torch.tensor(closed.steps)).clamp(
        max=len(prediction.steps) - 1
    )
    known = prediction.steps[at] == torch.tensor(closed.steps)
    gap = (prediction.loss[at] - torch.tensor(closed.losses, dtype=torch.float64)).abs()[known]
    metrics = {
        "audit_r2_symmetrised": closed.audit.measures["affine_r2"].value or 0.0,
        "predicted_curve_error": float(gap.max()) / closed.losses[0],
    }
    return [
        _audits(raw, closed),
        _curve(closed, prediction, metrics["predicted_curve_error"]),
    ], metrics


def _below_five(split: str) -> tuple[Tensor, Tensor]:
    """Digits as rows, and 1 for those below five, else -1."""
    images, labels = load("digits", "train" if split == "train" else "test")
    return images.flatten(1), torch.where(labels < 5, 1.0, -1.0)


def _network(seed: int) -> nn.Sequential:
    net = nn.Sequential(
        nn.Linear(64, WIDTH, bias=False), nn.ReLU(), nn.Linear(WIDTH, 1, bias=False)
    )
    random = generator(seed)
    for weight in net.parameters():
        nn.init.normal_(weight, std=START, generator=random)
    return net


def _learn(seed: int, data: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor]) -> Learned:
    """Full-batch gradient descent on half the mean square, and an audit of what it leaves."""
    net, (x, y) = _network(seed), data
    optimizer = torch.optim.SGD(net.parameters(), lr=LR)
    steps, losses = [], []
    for step in range(STEPS + 1):
        loss = (net(x)[:, 0] - y).square().mean() / 2
        if step % EVERY == 0:
            steps.append(step)
            losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        accuracy = ((net(held_out[0])[:, 0] > 0) == (held_out[1] > 0)).float().mean().item()
    return Learned(
        rl.audit(net, x, y, loss="square", seed=seed, progress=False), steps, losses, accuracy
    )


def _audits(raw: Learned, closed: Learned) -> Section:
    both = (raw, closed)

    def line(name: str, measure: str) -> tuple[str | float, ...]:
        values = (learned.audit.measures[measure].value for learned in both)
        return name, *("" if value is None else number(value) for value in values)

    floors = [learned.audit.measures["floor"] for learned in both]
    lines: list[tuple[str | float, ...]] = [
        ("Verdict", *(learned.audit.verdict.label for learned in both)),
        ("Accuracy on held-out digits", *(f"{learned.accuracy:.3f}" for learned in both)),
        line("Variance that one affine map explains, held out", "affine_r2"),
        line("Share of the odd part in its energy", "parity"),
        line("Linearity of its odd part", "odd_linearity"),
        line("Accuracy of telling x from −x", "mirror_classifier"),
        ("Loss", *(number(learned.losses[-1]) for learned in both)),
        (
            "Least loss of any such net",
            *(number(m.value) if m.value is not None else "" for m in floors),
        ),
    ]
    rows = {
        name: {
            part: learned.audit.measures["parity"].details[f"{part}_energy"]
            for part in ("odd", "even")
        }
        for name, learned in zip(("digits as they are", "and mirrored"), both, strict=True)
    }
    blocks: tuple[Html, ...] = (
        captioned(
            table(("", "Digits as they are", "Digits and their mirror images"), lines),
            "Two audits.",
            "Below five against the rest; 100 ReLU units, no bias, the same initial weights and the same 1,000 steps.",
        ),
        captioned(
            chart(shares(rows), "odd and even shares of the energy of both networks"),
            "Odd and even energy.",
            "The odd part of two layers without bias is exactly linear, so what is even is all that is not linear.",
        ),
    )
    return Section(
        "How linear is a network?",
        "The same ReLU network learns a linear map or not, as the data have it: where every image comes with its "
        "mirror image and the opposite label, no network of two layers without bias beats the best linear map, and "
        "the trained one is a linear map on the data.",
        blocks,
    )


def _curve(closed: Learned, prediction: Prediction, error: float) -> Section:
    half = (
        ""
        if prediction.half_time is None
        else f" Half is learned after {prediction.half_time:.0f} steps."
    )
    return Section(
        "A learning curve, known before training",
        "On such data the network learns like a linear one at half the speed, and that is known in advance from the "
        "covariances of the data.",
        (
            captioned(
                chart(
                    _dots_on_a_line(closed, prediction), "measured and predicted loss against steps"
                ),
                "Predicted and measured loss.",
                f"They differ by at most {number(float(f'{error:.2g}'))} of the initial loss.{half}",
            ),
        ),
    )


def _dots_on_a_line(closed: Learned, prediction: Prediction) -> Figure:
    figure, (axes,) = plots.canvas()
    axes.plot(prediction.steps.numpy(), prediction.loss.numpy(), label="predicted before training")
    axes.plot(closed.steps[::3], closed.losses[::3], "o", markersize=3.5, label="measured")
    axes.legend(frameon=False, labelcolor="linecolor", handlelength=1.0, fontsize=9)
    axes.set(xlabel="step", ylabel="loss")
    return figure


_LAYERS = (1, 2, 4, 6, 10)
_NOISE = 0.05


def depth_sections(seed: int = 0) -> tuple[list[Section], dict[str, float]]:
    """Sections on depth, and their numbers.

    Linear nets of one to ten layers on a noisy line, by gradient descent and by Adam.
    """
    study = DepthStudy(
        deep_linear(_LAYERS, optimizers=("gd", "adam")), Synthetic(noise=(_NOISE,)), seed=seed
    )
    start = process_time()
    result = study.run()
    seconds = process_time() - start
    trained = sum(model.trained for model in result.models) * study.trials
    metrics = {
        "depth_D_10": float(np.mean(result.cell("depth 10, gd")["distance"])),
        "depth_D_10_adam": float(np.mean(result.cell("depth 10, adam")["distance"])),
        "depth_networks_per_second": trained / seconds,
    }
    return [_published(result, trained, seconds), _cure(result, metrics), _reason(result)], metrics


def _published(result: StudyResult, trained: int, seconds: float) -> Section:
    return Section(
        "Deeper and further away",
        "A linear net of any depth is a line. Trained on a noisy line as published, by gradient descent from a uniform "
        "initialisation, the deeper ones are nevertheless far from linear regression after 10,000 steps.",
        (
            captioned(
                chart(
                    figures.distance(result, "gd"),
                    "distance to least squares against steps, gradient descent",
                ),
                "D against steps.",
                f"Left the mean that is published, right the median. {trained:,} networks of 10,000 steps in "
                f"{number(float(f'{seconds:.2g}'))} seconds: the gradient needs a few sums over the data, no more.",
            ),
        ),
    )


def _cure(result: StudyResult, metrics: dict[str, float]) -> Section:
    gd, adam = (metrics[name] for name in ("depth_D_10", "depth_D_10_adam"))
    return Section(
        "The cure",
        "The same nets, initial weights, data, step and budget with Adam: every depth arrives, and deeper is faster.",
        (
            captioned(
                chart(
                    figures.distance(result, "adam"),
                    "distance to least squares against steps, Adam",
                ),
                "The same with Adam.",
                f"Mean D of ten layers is {number(adam)}, against {number(gd)} by gradient descent.",
            ),
            captioned(
                chart(figures.success(result), "share of trials that arrive, against depth"),
                "Who arrives.",
                "The share of trials at least squares at the end of the budget, with Wilson intervals of 95 %.",
            ),
        ),
    )


def _reason(result: StudyResult) -> Section:
    lines: list[tuple[str | float, ...]] = []
    for depth in _LAYERS:
        cell = result.cell(f"depth {depth}, gd")
        counts = [
            int((cell["state"] == state).sum()) for state in ("converged", "saddle", "undertrained")
        ]
        stuck = cell["curvature"][cell["state"] == "saddle"]
        lines.append((depth, *counts, float(np.median(stuck)) if len(stuck) else ""))
    return Section(
        "The reason",
        "A chain of layers starts near the saddle at zero, where all its slopes are small, and has to leave it before "
        "it can fit. That takes a time exponential in depth, which is known from the initial weights.",
        (
            captioned(
                chart(figures.time(result), "median steps to least squares against depth"),
                "Steps to least squares.",
                "Medians with 95 % intervals where half of the trials arrived; dashed, what theory predicts.",
            ),
            captioned(
                chart(
                    figures.slopes(result, "gd"),
                    "histograms of the slope over that of least squares",
                ),
                "Where gradient descent ends.",
                "At the solution, 1, or at the saddle, 0, and hardly ever in between.",
            ),
            captioned(
                table(
                    (
                        "Layers",
                        "Converged",
                        "Saddle",
                        "Undertrained",
                        "Curvature at the saddle, median",
                    ),
                    lines,
                ),
                "Diagnosis.",
                "Trials by what they came to; at a saddle the Hessian has a negative eigenvalue.",
            ),
        ),
    )
