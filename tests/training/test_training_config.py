from itertools import pairwise
from pathlib import Path
from time import sleep

import pytest
import torch
from torch import nn

from rectilinear.config import from_json, to_json
from rectilinear.errors import ConfigError
from rectilinear.training import TrainConfig, train


def test_it_survives_json():
    config = TrainConfig(betas=(0.8, 0.9), max_seconds=3.0, trackers=("wandb",))
    assert from_json(TrainConfig, to_json(config)) == config


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("batch_size", -1),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("max_seconds", 0.0),
        ("grad_clip", -1.0),
        ("checkpoint_every_steps", 0),
        ("warmup", -1),
        ("betas", (0.9, 1.0)),
        ("betas", (0.9,)),
        ("ema", 1.0),
        ("schedule", "linear"),
        ("precision", "fp8"),
        ("trackers", ("print",)),
    ],
)
def test_a_value_out_of_range_is_named(name, value):
    with pytest.raises(ConfigError, match=name):
        TrainConfig(**{name: value})


def test_warmup_rises_and_cosine_falls_to_zero():
    config = TrainConfig(steps=100, lr=2.0, warmup=10, schedule="cosine")
    rates = [config.learning_rate(step, config.progress(step, 0)) for step in range(101)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[9]
    assert rates[50] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0)
    assert all(a > b for a, b in pairwise(rates[10:]))


def test_the_tighter_of_steps_and_seconds_drives_the_progress():
    config = TrainConfig(steps=100, max_seconds=10.0, schedule="cosine")
    assert config.progress(30, 2.0) == 0.3
    assert config.progress(30, 5.0) == 0.5
    assert config.learning_rate(30, 2.0) == 0.0


def test_lines_and_checkpoints_fall_on_their_steps():
    config = TrainConfig(steps=47, log_every=10, checkpoint_every_steps=15, evaluate_every=20)
    assert [step for step in range(1, 48) if config.is_logged(step)] == [10, 15, 20, 30, 40, 45, 47]
    assert [
        config.is_saved(first, step, 0.0) for first, step in ((10, 15), (15, 20), (20, 30))
    ] == [True, False, True]
    assert config.is_saved(15, 20, 61.0)
    assert [config.is_evaluated(first, step) for first, step in ((0, 10), (10, 15), (15, 20))] == [
        True,
        False,
        True,
    ]


def test_seconds_of_the_processor_do_not_pass_while_asleep(tmp_path: Path) -> None:
    class Sleepy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = nn.Parameter(torch.zeros(1))

        def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
            sleep(0.2)
            return {"loss": (batch - self.x).square().mean()}

    seconds = {
        clock: train(Sleepy(), torch.ones(4, 1), TrainConfig(steps=3, clock=clock, batch_size=2, device="cpu"),
                     tmp_path / clock, progress=False).seconds
        for clock in ("wall", "processor")
    }  # fmt: skip
    assert seconds["wall"] >= 0.6 > seconds["processor"]
