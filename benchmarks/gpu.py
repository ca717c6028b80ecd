"""Checks and timings on a GPU: tests, folds, audits, and a large generator of 64 x 64 images.

    python benchmarks/gpu.py [--images FOLDER] [--seconds 540] [--out runs/gpu]
    python benchmarks/gpu.py --tiny                       # on a CPU, in a minute

One script for a machine with CUDA and no network. It runs the tests of the device, folds steps in
12,288 dimensions, audits a network and fits linear maps on the device, trains the recipe
``images-large`` (couplings by vision transformers, bf16, batches of 256), interrupted once and
resumed, and draws samples. Each part is timed beside the CPU. Without ``--images`` the images are
tiles of the photographs of scikit-learn. ``results.json`` is written after every part, so that a
part that fails or is cut off loses nothing before it.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import rectilinear as rl
from rectilinear import datasets, training
from rectilinear.config import write_json
from rectilinear.flow import LinearFlow, ScalarPlusLowRankVelocity, collapse, collapse_error
from rectilinear.invertible import Identity
from rectilinear.plots.charts import grid, png
from rectilinear.random import seed_all
from rectilinear.recipes import recipe_named
from rectilinear.recipes.base import Fitted, Labels

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
TINY = {"blocks": 2, "width": 16, "pixel_blocks": 4, "pixel_width": 16, "axes": 16, "latents": 6,
        "size": 16, "training.batch_size": 16, "training.steps": 12}  # fmt: skip


def main() -> int:
    """Run the parts in turn; 1 where one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--images", type=Path, help="folder of images; tiles of photographs if none"
    )
    parser.add_argument("--seconds", type=float, default=540.0, help="for all parts together")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--tiny", action="store_true", help="small sizes; a CPU will do")
    args = parser.parse_args()
    if not (args.tiny or torch.cuda.is_available()):
        parser.error("there is no CUDA device; --tiny runs on the CPU")
    args.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    args.start = time.monotonic()
    args.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"machine": machine(args.device)}
    parts: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "tests": tests, "fold": fold, "audit": audit, "maps": maps, "generator": generator,
    }  # fmt: skip
    failed = []
    for name, part in parts.items():
        start = time.monotonic()
        try:
            results[name] = part(args)
        except Exception as error:  # noqa: BLE001 - the other parts go on, and the file says so
            results[name] = {"error": f"{type(error).__name__}: {error}"}
            traceback.print_exc()
        if "error" in results[name]:
            failed.append(name)
        results[name]["seconds"] = time.monotonic() - start
        write_json(args.out / "results.json", results)
        print(name, results[name], flush=True)
    print(
        f"wrote {args.out / 'results.json'}" + (f"; failed: {', '.join(failed)}" if failed else "")
    )
    return 1 if failed else 0


def machine(device: torch.device) -> dict[str, Any]:
    """Names and versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {"device": name, "torch": torch.__version__, "cores": os.cpu_count(),
            "python": sys.version.split()[0], "rectilinear": rl.__version__}  # fmt: skip


def left(args: argparse.Namespace) -> float:
    """Seconds that remain."""
    return max(1.0, args.seconds - (time.monotonic() - args.start))


def tests(args: argparse.Namespace) -> dict[str, Any]:
    """The tests that compare the device with the CPU; with --tiny one of them."""
    chosen = ["-k", "test_verbs_of_models"] if args.tiny else []
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen]
    environment = os.environ | {"RECTILINEAR_TEST_DEVICE": args.device.type}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    )
    done = subprocess.run(
        [*command, "tests/differential/test_cuda.py"], cwd=ROOT, env=environment, text=True,
        capture_output=True, timeout=max(60.0, 0.4 * left(args)), check=False,
    )  # fmt: skip
    (args.out / "tests.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    counts = {
        word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)
    }
    return counts | ({} if done.returncode == 0 else {"error": f"exit code {done.returncode}"})


def fold(args: argparse.Namespace) -> dict[str, Any]:
    """Steps folded into one operator in many dimensions: seconds, and error against the steps."""
    n = 512 if args.tiny else 12_288
    torch.manual_seed(0)
    flow = LinearFlow(Identity((n,)), None, ScalarPlusLowRankVelocity(n, rank=16)).eval()
    with torch.no_grad():
        nn.init.normal_(flow.velocity.weights.layers[-1].weight, std=0.1)
        noise, found = torch.randn(64, n), {}
        for device in dict.fromkeys(("cpu", args.device.type)):
            flow.to(device)
            seconds = timed(lambda: collapse(flow, 100, "rk4"), device)
            found[device] = {
                "fold_seconds": seconds, "error": collapse_error(flow, noise.to(device), 100),
            }  # fmt: skip
    return {"n": n} | found


def audit(args: argparse.Namespace) -> dict[str, Any]:
    """The verdict of an audit on the device and on the CPU."""
    torch.manual_seed(0)
    width = 32 if args.tiny else 512
    net = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)).eval()
    x, found = torch.randn(256, width), {}
    for device in dict.fromkeys(("cpu", args.device.type)):
        net.to(device)
        start = time.monotonic()
        result = rl.audit(net, x.to(device), measures="verdict")
        found[device] = {"verdict": str(result.verdict), "seconds": time.monotonic() - start}
    verdicts = {row["verdict"] for row in found.values()}
    return found | ({} if len(verdicts) == 1 else {"error": f"verdicts differ: {verdicts}"})


def maps(args: argparse.Namespace) -> dict[str, Any]:
    """The linear map between two layers, by least squares, on the device and on the CPU."""
    torch.manual_seed(0)
    width = 16 if args.tiny else 512
    layers = [nn.Sequential(nn.Linear(width, width), nn.GELU()) for _ in range(4)]
    net, found = nn.Sequential(*layers).eval(), {}
    x = torch.randn(40 * width, width)
    for device in dict.fromkeys(("cpu", args.device.type)):
        net.to(device)
        start = time.monotonic()
        fitted = rl.linear_map(net, "1", "3", x.to(device))
        found[device] = {"r2": float(fitted.r2), "seconds": time.monotonic() - start}
    r2 = [row["r2"] for row in found.values()]
    return found | ({} if max(r2) - min(r2) < 1e-3 else {"error": f"R² differ: {r2}"})


def generator(args: argparse.Namespace) -> dict[str, Any]:
    """The recipe ``images-large``: timed on the CPU, trained in two goes, sampled."""
    changes: dict[str, Any] = {"training.device": args.device.type, "training.compile": False}
    changes |= {"data": str(args.images or "photos"), "size": 64} | (TINY if args.tiny else {})
    recipe = recipe_named("images-large", changes).located()
    data = datasets.load(recipe.data, "train", None, recipe.size)
    recipe = recipe.fitted_to(data.images)
    budget = left(args) * 0.8
    config = replace(recipe.training, max_seconds=None if args.tiny else budget)
    recipe = replace(recipe, training=config)
    seed_all(0)
    labels = Labels(data.labels, data.classes) if len(data.classes) > 1 else None
    found: dict[str, Any] = {"images": len(data), "shape": list(data.shape)}
    for stage in recipe.stages(data.images, labels):
        if isinstance(stage, Fitted):
            found["mixture"] = stage.record
            model = stage.model
            continue
        found["parameters"] = sum(p.numel() for p in stage.model.parameters())
        if args.device.type == "cuda":
            found["cpu_seconds_a_step"] = cpu_step(stage.objective, stage.data[: config.batch_size])
        stop = 2.0 if args.tiny else budget / 2
        first = training.train(
            stage.objective, stage.data, config, args.out / "run", stop_after=stop, progress=False
        )
        last = training.train(stage.objective, stage.data, config, args.out / "run", progress=False)
        found |= {
            "steps_before_the_interruption": first.step, "steps": last.step,
            "seconds_a_step": last.seconds / max(1, last.step), "loss": last.metrics["loss"],
        }  # fmt: skip
    model = model.to(args.device).eval()
    count = 100 if args.tiny else 1000
    found["seconds_per_1000"] = timed(lambda: model.sample(count), args.device.type) * 1000 / count
    images = model.sample(16 if args.tiny else 100, seed=1).cpu()
    (args.out / "samples.png").write_bytes(png(grid(images.numpy(), columns=10), 1))
    model.cpu().save_pretrained(args.out / "model")
    return found


def cpu_step(objective: nn.Module, batch: torch.Tensor) -> float:
    """Seconds of one step of training on the CPU."""
    objective.to("cpu")

    def step() -> None:
        objective(batch)["loss"].backward()
        objective.zero_grad()

    return timed(step, "cpu")


def timed(function: Callable[[], Any], device: str) -> float:
    """Seconds of the second of two calls, all work on the device done."""
    for _ in range(2):
        start = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
