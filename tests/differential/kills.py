"""Saves that are killed at every system call on a file, for test_saving.py. Prints one JSON object.

    python kills.py FOLDER

Each save runs in a child forked from a process that has loaded torch. The child kills itself at the
n-th event that Python's audit hooks report of a file, for every n until a save ends by itself.
"""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import torch
from torch import nn

import rectilinear as rl
from rectilinear.errors import CheckpointError
from rectilinear.files import remove_leftovers
from rectilinear.tensor_files import load_tensors, save_tensors

EVENTS = {"open", "os.rename", "os.remove", "os.chmod", "os.mkdir"}
CALLS = ("replace", "fsync", "close", "unlink", "open")


def kill_at(n):
    """Kill this process just before its n-th call on a file."""
    seen = 0

    def count(*_):
        nonlocal seen
        seen += 1
        if seen > n:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(lambda event, _: count() if event in EVENTS else None)
    for name in CALLS:
        plain = getattr(os, name)
        setattr(os, name, lambda *a, _plain=plain, **k: (count(), _plain(*a, **k))[1])


def at_every_point(start, save, found):
    """What ``found()`` says after ``save`` was killed at each of its points, from what ``start``
    left.
    """
    answers, n = [], 0
    while True:
        start()
        child = os.fork()
        if not child:
            kill_at(n)
            save()
            os._exit(0)
        ended = os.waitpid(child, 0)[1] == 0
        answers.append(found())
        if ended:
            return answers
        n += 1


class Weights(rl.Configured):
    def __init__(self, size, power=1):
        super().__init__()
        self.power, self.weight = power, nn.Parameter(torch.zeros(size, dtype=torch.float64))


def model(number, size):
    made = Weights(size, power=number)
    made.weight.data.fill_(number)
    return made


def main(folder):
    def models(old, new):
        def start():
            shutil.rmtree(folder, ignore_errors=True)
            old.save_pretrained(folder)

        def found():
            remove_leftovers(folder)
            names = sorted(path.name for path in folder.iterdir())
            try:
                loaded = Weights.from_pretrained(folder)
            except CheckpointError as error:
                return [str(error), names]
            assert torch.equal(loaded.weight, (old, new)[loaded.power].weight), "parts of both"
            return [loaded.power, names]

        return at_every_point(start, lambda: new.save_pretrained(folder), found)

    def tensors():
        path = folder / "x.safetensors"

        def start():
            shutil.rmtree(folder, ignore_errors=True)
            save_tensors(path, {"x": torch.zeros(3)}, {"step": 0})

        def found():
            loaded, meta = load_tensors(path)
            return [int(loaded["x"][0]), meta["step"]]

        return at_every_point(
            start, lambda: save_tensors(path, {"x": torch.ones(3)}, {"step": 1}), found
        )

    return {
        "same shapes": models(model(0, 3), model(1, 3)),
        "other shapes": models(model(0, 3), model(1, 4)),
        "checkpoint": tensors(),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(main(Path(sys.argv[1]))))
