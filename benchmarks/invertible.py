"""Speed of an invertible image network beside FrEIA and normflows with the same conditioner.

Also the effect of compilation, memory format and checkpointing.

    python benchmarks/invertible.py [--rounds 15] [--out benchmarks/results/invertible.md]

All networks are eight affine couplings on the squeezed image, with equal convolutional
conditioners. A round is one call of each network, so that a busy machine slows all of them alike.
A ratio is the median over the rounds of (time of the peer / time of ours in the same round).
About three minutes on one core.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import FrEIA.framework
import FrEIA.modules
import normflows
import torch
from _page import options, processor, ran
from torch import Tensor, nn

from rectilinear.invertible import ConvNet, ImageFlow

SHAPE, BATCH, BLOCKS, WIDTH = (1, 28, 28), 32, 8, 64
SQUEEZED = (4, 14, 14)
Step = Callable[[Tensor], tuple[Tensor, Tensor]]


def conditioner(inputs: int, outputs: int) -> ConvNet:
    """The one conditioner of every network."""
    return ConvNet(inputs, outputs, WIDTH, size=SQUEEZED[1:])


def freia() -> tuple[nn.Module, Step, Callable[[Tensor], Tensor]]:
    """FrEIA's network, its forward with log-determinant, and its inverse."""
    net = FrEIA.framework.SequenceINN(*SHAPE)
    net.append(FrEIA.modules.IRevNetDownsampling)
    for i in range(BLOCKS):
        net.append(FrEIA.modules.AffineCouplingOneSided, subnet_constructor=conditioner, clamp=1.0)
        net.append(FrEIA.modules.PermuteRandom, seed=i)
    return net, net, lambda z: net(z, rev=True, jac=False)[0]


def normflow() -> tuple[nn.Module, Step, Callable[[Tensor], Tensor]]:
    """The same of normflows, whose inverse runs from data to latents."""
    half = SQUEEZED[0] // 2
    flows: list[nn.Module] = []
    for _ in range(BLOCKS):
        flows += [
            normflows.flows.Permute(SQUEEZED[0]),
            normflows.flows.AffineCouplingBlock(conditioner(half, 2 * half), scale_map="sigmoid"),
        ]
    flows.append(normflows.flows.Squeeze())
    net = normflows.NormalizingFlow(
        normflows.distributions.DiagGaussian(SQUEEZED, trainable=False), flows
    )
    return net, net.inverse_and_log_det, net.forward


def ours(**options: object) -> tuple[ImageFlow, Step, Callable[[Tensor], Tensor]]:
    """The same of this library."""
    net = ImageFlow(SHAPE, BLOCKS, WIDTH, levels=1, **options)
    return net, net.forward_and_logdet, net.inverse


def tasks(
    net: nn.Module, encode: Step, decode: Callable[[Tensor], Tensor]
) -> dict[str, Callable[[], object]]:
    """Forward, inverse, and a training step, each as a function without arguments."""
    x = torch.rand(BATCH, *SHAPE, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
    with torch.no_grad():
        z = encode(x)[0].clone()

    def train() -> None:
        optimizer.zero_grad()
        latents, logdet = encode(x)
        (0.5 * latents.square().sum() - logdet.sum()).div(BATCH).backward()
        optimizer.step()

    return {
        "forward": torch.no_grad()(lambda: encode(x)),
        "inverse": torch.no_grad()(lambda: decode(z)),
        "training step": train,
    }


def activations(net: ImageFlow) -> float:
    """MB that a forward pass keeps for the backward pass, parameters apart."""
    kept: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in net.parameters()} | {
        b.untyped_storage().data_ptr() for b in net.buffers()
    }

    def pack(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        result = net.forward_and_logdet(torch.rand(BATCH, *SHAPE))
    del result
    return sum(kept.values()) / 1e6


def measure(
    networks: dict[str, dict[str, Callable[[], object]]], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Milliseconds of every task of every network in each round, without the first two rounds.

    On one thread these are milliseconds of processor time.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times: dict[str, dict[str, list[float]]] = {
        name: {task: [] for task in t} for name, t in networks.items()
    }
    for turn in range(rounds + 2):
        for task in ("forward", "inverse", "training step"):
            for name, functions in networks.items():
                start = clock()
                functions[task]()
                if turn > 1:
                    times[name][task].append(1e3 * (clock() - start))
    return times


def main() -> None:
    """Measure, print, and write the table."""
    parser = options(__doc__, "invertible.md")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--eager", action="store_true", help="leave out the compiled rows")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    plain, last, checkpointed = ours(), ours(channels_last=True), ours(checkpoint=True)
    built = {
        "rectilinear": plain,
        "FrEIA": freia(),
        "normflows": normflow(),
        "rectilinear, channels_last": last,
        "rectilinear, checkpoint": checkpointed,
    }
    if (
        torch.ops.mkldnn._is_mkldnn_bf16_supported()
    ):  # elsewhere bf16 is emulated, many times slower
        built["rectilinear, bf16 conditioner"] = ours(precision="bf16")
    for name, changes in (
        ()
        if args.eager
        else (
            ("rectilinear, compiled", {}),
            ("rectilinear, compiled, channels_last", {"channels_last": True}),
        )
    ):
        net, encode, decode = ours(**changes)
        built[name] = (
            net,
            torch.compile(encode, fullgraph=True),
            torch.compile(decode, fullgraph=True),
        )
    times = measure({name: tasks(*parts) for name, parts in built.items()}, args.rounds)

    rows = [
        "| network | " + " | ".join(f"{task} (ms) | ratio" for task in times["rectilinear"]) + " |"
    ]
    rows.append("|---" * (1 + 2 * len(times["rectilinear"])) + "|")
    for name, results in times.items():
        cells = []
        for task, own in times["rectilinear"].items():
            ratio = statistics.median(a / b for a, b in zip(results[task], own, strict=True))
            cells.append(f"{statistics.median(results[task]):.1f} | {ratio:.2f}")
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    text = f"""# Invertible image networks beside FrEIA and normflows

{ran("invertible.py", f"{torch.get_num_threads()} thread(s)", processor())}.
{BLOCKS} affine couplings on {SHAPE} images squeezed to {SQUEEZED}, equal conditioners
(convolutions 3 x 3, 1 x 1, 3 x 3, width {WIDTH}), batch {BATCH}, float32. Milliseconds are medians of
{args.rounds} interleaved rounds; ratio = time / time of the first row in the same round, the median
of the rounds.
A training step is forward, log-determinant, backward and Adam.

{chr(10).join(rows)}

Activations kept for the backward pass: {activations(plain[0]):.1f} MB,
with `checkpoint=True` {activations(checkpointed[0]):.2f} MB.
"""
    print(text)
    args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
