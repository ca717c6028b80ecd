"""Runs that are killed, and runs in two processes, for the tests beside this file. Prints one JSON
object.

Training starts in children forked from a process that has loaded torch, so that each starts within
milliseconds.

    python processes.py kill FOLDER KILLS    kill -9 at random instants, go on, until KILLS have hit
    python processes.py pair FOLDER          one process, then two, on the same global batch
    python processes.py both FOLDER KILLS    both, in one start of torch
    torchrun --nproc-per-node=2 processes.py join FOLDER
"""

import gc
import json
import os
import random
import runpy
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from rectilinear.training import TrainConfig, train

Denoise = runpy.run_path(str(Path(__file__).with_name("conftest.py")))["Denoise"]
ROWS = torch.randn(64, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 3
KILLED = TrainConfig(
    steps=200, batch_size=16, lr=1e-2, log_every=5, checkpoint_every_steps=10, device="cpu"
)
PAIR = TrainConfig(steps=40, batch_size=16, lr=1e-2, log_every=1, device="cpu")


class Plain(Denoise):
    """Without noise, which each process draws for itself."""

    def forward(self, batch):
        hidden = self.net[1](self.net[0](batch - self.shift))
        return {"loss": (self.net[3](hidden) - batch).square().mean()}


def fork(work, **environment):
    """Start ``work`` in a child and return its process number."""
    child = os.fork()
    if not child:
        os.environ.update(environment)
        code = 1
        try:
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - a forked child must never return into its parent's code
            traceback.print_exc()
        os._exit(code)
    return child


def kill(folder, kills):
    draw = random.Random(kills)
    began = time.perf_counter()
    os.waitpid(fork(lambda: train(Denoise(), ROWS, KILLED, folder / "whole", progress=False)), 0)
    whole = time.perf_counter() - began
    hits, run = [], 0
    while len(hits) < kills:
        out = folder / f"run{run}"
        child = fork(lambda out=out: train(Denoise(), ROWS, KILLED, out, progress=False))
        time.sleep(draw.uniform(0, 0.7 * whole))
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if status == 0:
            run += 1  # it ended before the blow: the next blows fall on a new run
            continue
        assert os.WTERMSIG(status) == signal.SIGKILL
        path = out / "metrics.jsonl"
        hits.append(len(path.read_text().splitlines()) * KILLED.log_every if path.exists() else 0)
    for number in range(run + 1):  # every run once more, so that none ends with a blow
        child = fork(
            lambda n=number: train(Denoise(), ROWS, KILLED, folder / f"run{n}", progress=False)
        )
        assert os.waitpid(child, 0)[1] == 0
    return {"killed_at_step": hits, "runs": run + 1}


def pair(folder):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = {
            "MASTER_ADDR": "localhost",
            "MASTER_PORT": str(free.getsockname()[1]),
            "WORLD_SIZE": "2",
        }
    children = [
        fork(lambda: join(folder), **address, RANK=str(rank), LOCAL_RANK=str(rank))
        for rank in (0, 1)
    ]
    train(Plain(), ROWS, PAIR, folder / "one", progress=False)
    return {"exit": [os.waitpid(child, 0)[1] for child in children]}


def join(folder):
    destroy = torch.distributed.destroy_process_group

    def destroy_last():  # gloo can hang if a wrapped model outlives its group
        assert not [x for x in gc.get_objects() if type(x) is DistributedDataParallel]
        destroy()

    torch.distributed.destroy_process_group = destroy_last
    torch.manual_seed(int(os.environ["RANK"]))
    train(Plain(seed=int(os.environ["RANK"])), ROWS, PAIR, folder / "two", progress=False)


if __name__ == "__main__":
    torch.set_num_threads(1)
    command, folder = sys.argv[1], Path(sys.argv[2])
    if command == "join":
        join(folder)
    else:
        torch.optim.AdamW([torch.zeros(1)])  # loads what the first optimiser loads
        report = kill(folder, int(sys.argv[3])) if command != "pair" else {}
        print(json.dumps(report | (pair(folder) if command != "kill" else {})))
