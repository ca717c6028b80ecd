"""Cost of an audit, and its verdicts on networks trained on digits and MNIST.

    python benchmarks/audit.py --data-dir DATA    # some minutes on two cores

Writes ``benchmarks/results/audit.md``.

Speed: two layers of width 1,000 on 10,000 points in 784 dimensions. Targets: under 20 s on two
cores, and at most ten passes of the network over the data for each estimated measurement.

Verdicts: the task is "below five or not", on the images as they are and with the negative (-x,
-y) of every image added; two and three layers of 100 ReLU units, with and without biases, trained
by Adam on half the square loss. Audits are of the training images, at most 10,000 of them.
"""

from __future__ import annotations

import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from _page import options, ran
from torch import Tensor, nn

import rectilinear as rl
from rectilinear.analysis.blocks_and_jacobians import block_replacement
from rectilinear.analysis.measure import Subject
from rectilinear.analysis.surrogate import surrogate
from rectilinear.analysis.symmetry import homogeneity, mirror_classifier, parity, sign_flip
from rectilinear.errors import DataError
from rectilinear.networks import data as points
from rectilinear.networks.data import task_for
from rectilinear.networks.network import as_network, evaluating

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS, DIM, WIDTH = 10_000, 784, 1000
UNITS, AUDITED = 100, 10_000
EPOCHS = {"digits": 60, "mnist": 6}
NOTE = (
    f"{UNITS} ReLU units a layer, Adam, half the square, batches of 128, {EPOCHS['digits']} and "
    f"{EPOCHS['mnist']} epochs. All but the held-out accuracy is of the audited training images, "
    "for which the affine copy is held out: the interval goes from there to what an affine map "
    "explains of its own rows, with the bootstrap at both ends. The lower bound is the least loss "
    "of any network of that depth without biases."
)


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock and of the processors."""
    clock, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - clock, time.process_time() - cpu


def speed() -> list[str]:
    """The whole audit, and each estimated measurement in passes of the network."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(DIM, WIDTH, bias=False), nn.ReLU(), nn.Linear(WIDTH, 1, bias=False)
    )
    x = torch.randn(ROWS, DIM)
    y = x[:, 0].sign()
    rl.audit(net, x[:2000], y[:2000], loss="square")  # what is loaded once
    clock, cpu = seconds(lambda: rl.audit(net, x, y, loss="square"))
    with evaluating(net), torch.no_grad():
        forward = min(seconds(lambda: net(x))[1] for _ in range(3))
        data = points.read(x, y, 0)
        network = as_network(net, data.sample)
        subject = Subject.of(network, data, task_for(y, 1, "square"), 0)
        list(subject.passes())  # outputs for x and -x, two passes that all share
        costs = {
            "affine_r2, affine_score and odd_linearity": seconds(lambda: surrogate(subject))[1],
            **{
                f.__name__: seconds(lambda f=f: f(subject))[1]
                for f in (homogeneity, parity, sign_flip, mirror_classifier, block_replacement)
            },
        }
    threads = f"{torch.get_num_threads()} thread" + "s" * (torch.get_num_threads() > 1)
    cost = f"**{cpu:.1f} s** of processor time with {threads}, {clock:.1f} s of wall time"
    whole = (
        f"An audit of {ROWS:,} x {DIM} with {WIDTH:,} units: {cost} (to reach: 20 s on two cores)."
    )
    return [
        f"{whole} One pass of the network over the data takes {forward:.2f} s.",
        "",
        "| estimated measurement | passes (to reach: 10) |",
        "|---|---|",
        *(f"| {name} | {spent / forward:.1f} |" for name, spent in costs.items()),
    ]


class Objective(nn.Module):
    """Half the mean square; a row holds a point and its label."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        return {"loss": (self.net(batch[:, :-1])[:, 0] - batch[:, -1]).square().mean() / 2}


def network(dim: int, layers: int, bias: bool) -> nn.Sequential:
    """ReLU units between linear layers."""
    sizes = [dim, *[UNITS] * (layers - 1), 1]
    parts = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b, bias=bias), nn.ReLU())]
    return nn.Sequential(*parts[:-1])


def trained(
    name: str, layers: int, bias: bool, mirrored: bool, data_dir: Path | None
) -> list[object]:
    """One line of the table."""
    (x, y), (x_test, y_test) = (
        (images.flatten(1), torch.where(labels < 5, 1.0, -1.0))
        for images, labels in (
            rl.datasets.load(name, split, data_dir) for split in ("train", "test")
        )
    )
    shown = x[:AUDITED], y[:AUDITED]
    if mirrored:
        (x, y), shown = ((torch.cat([a, -a]), torch.cat([b, -b])) for a, b in ((x, y), shown))
    torch.manual_seed(0)
    net = network(x.shape[1], layers, bias)
    steps = EPOCHS[name] * len(x) // 128
    config = rl.training.TrainConfig(
        steps=steps, lr=1e-3, schedule="cosine", ema=None, grad_clip=None, device="cpu"
    )
    with tempfile.TemporaryDirectory() as folder:
        rl.training.train(
            Objective(net), torch.cat([x, y[:, None]], 1), config, folder, progress=False
        )
    found = rl.audit(net, *shown, loss="square")
    with torch.no_grad():
        accuracy = ((net(x_test)[:, 0] > 0) == (y_test > 0)).float().mean().item()
    m = found.measures
    floor = m["floor"]
    low, high = m["affine_r2"].interval
    return [
        name + (", mirrored" if mirrored else ""),
        layers,
        "yes" if bias else "no",
        f"{accuracy:.3f}",
        f"{m['affine_score'].details['accuracy']:.3f}",
        f"{m['affine_score'].details['affine_accuracy']:.3f}",
        f"{m['affine_r2'].value:.4f} ({low:.4f} to {high:.4f})",
        f"{m['parity'].value:.4f}",
        "" if m["odd_linearity"].value is None else f"{m['odd_linearity'].value:.4f}",
        f"{m['affine_score'].details['loss']:.4f}",
        "" if floor.value is None else f"{floor.value:.4f}",
        found.verdict.label,
    ]


def main() -> None:
    """Measure, print and write the table."""
    parser = options(__doc__, "audit.md")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    lines = speed()
    print("\n".join(lines), flush=True)
    head = (
        "data",
        "layers",
        "bias",
        "held-out accuracy",
        "accuracy",
        "of its affine copy",
        "affine R²",
        "odd share",
    )
    head = (*head, "linearity of the odd part", "loss", "lower bound", "verdict")
    table = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in EPOCHS:
        try:
            rl.datasets.load(name, "test", args.data_dir)
        except DataError as error:
            table.append(f"| {name} | not here: {error.got} |")
            continue
        for mirrored in (False, True):
            for layers in (2, 3):
                for bias in (False, True):
                    cells = trained(name, layers, bias, mirrored, args.data_dir)
                    table.append(f"| {' | '.join(map(str, cells))} |")
                    print(table[-1], flush=True)
    text = [
        "# Audits: their cost, and networks on real data",
        "",
        ran("audit.py", "float32") + ".",
        "",
        "## Cost",
        "",
        *lines,
        "",
        "## Digits and MNIST, below five against the rest",
        "",
        NOTE,
        "",
        *table,
    ]
    args.out.write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
