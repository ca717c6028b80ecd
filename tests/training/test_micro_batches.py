"""Steps of several micro-batches: the gradient of the whole batch, and stops within a step."""

import os
import signal
from itertools import count

import pytest
import torch
from torch import nn

from rectilinear.checks import tolerance
from rectilinear.errors import ConfigError
from rectilinear.tensor_files import load_tensors
from rectilinear.training import TrainConfig, load_checkpoint, read_log, train
from rectilinear.training.batches import add_gradients


class Fit(nn.Module):
    """Least squares, which draws nothing."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(3, 1).double()

    def forward(self, batch):
        error = (self.net(batch[:, :3]) - batch[:, 3:]).square()
        return {"loss": error.mean(), "first": batch[:, 0].mean(), "rows": error}


def go(objective, data, config, out):
    return train(objective, data, config, out, progress=False)


@pytest.mark.parametrize("size", [1, 5, 16, 40])
def test_the_gradient_and_the_log_are_those_of_the_whole_batch(tmp_path, data, config, size):
    whole, parts = Fit(), Fit()
    go(whole, data, config(), tmp_path / "whole")
    go(parts, data, config(micro_batch=size), tmp_path / "parts")
    close = tolerance(torch.float64, scale=30 * 100, n=16)  # 30 steps of Adam
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        assert (a - b).abs().max() < close
    for a, b in zip(read_log(tmp_path / "whole"), read_log(tmp_path / "parts"), strict=True):
        assert a.keys() == b.keys()
        for name in ("loss", "first", "gradient_norm"):
            assert a[name] == pytest.approx(b[name], abs=close)


@pytest.mark.parametrize("rows", [2, 4])
def test_a_step_that_ends_early_has_the_mean_gradient_of_its_rows(data, rows):
    objective = Fit()
    terms, done = add_gradients(
        objective, objective, data[:9], 2, must_end=iter([rows == 2, True]).__next__
    )
    assert done == rows
    found = [p.grad.clone() for p in objective.parameters()]
    objective.zero_grad()
    expected = objective(data[:rows])
    expected["loss"].backward()
    assert terms["loss"].item() == pytest.approx(expected["loss"].item())
    for grad, p in zip(found, objective.parameters(), strict=True):
        assert (grad - p.grad).abs().max() < tolerance(torch.float64, scale=100, n=9)


@pytest.mark.parametrize("cut", [2, 6, 27])
def test_a_signal_within_a_step_stops_there_and_nothing_is_lost(
    tmp_path, data, config, denoise, cut
):
    class Counts(denoise):
        """Changes a buffer in each part of a step."""

        def forward(self, batch):
            self.shift += 0.1 * batch.mean(0)
            return super().forward(batch)

    class Stops(Counts):
        calls = 0

        def forward(self, batch):
            self.calls += 1
            if self.calls == cut:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().forward(batch)

    each = config(micro_batch=4, log_every=1)  # four parts a step
    whole, stops, resumed = Counts(), Stops(), Counts(seed=9)
    go(whole, data, each, tmp_path / "whole")
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        stopped = go(stops, data, each, tmp_path / "cut")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (stopped.step, stops.calls, stopped.finished) == ((cut - 1) // 4, cut, False)
    go(resumed, data, each, tmp_path / "cut")
    left, right = (
        load_tensors(tmp_path / name / "checkpoint.safetensors")[0] for name in ("whole", "cut")
    )
    assert [name for name in left if not torch.equal(left[name], right[name])] == []
    losses = [[line["loss"] for line in read_log(tmp_path / name)] for name in ("whole", "cut")]
    assert losses[0] == losses[1]


def test_a_budget_of_seconds_ends_a_step_of_many_parts(tmp_path, data, config, monkeypatch):
    monkeypatch.setattr("rectilinear.training.loop.perf_counter", count().__next__)
    result = go(Fit(), data, config(micro_batch=1, max_seconds=5.0), tmp_path)
    assert (result.step, result.finished) == (1, True)
    assert result.seconds == 6  # five parts of the sixteen, then the line of the log
    assert load_checkpoint(tmp_path)


def test_a_size_below_one_is_refused():
    with pytest.raises(ConfigError, match="micro_batch = 0"):
        TrainConfig(micro_batch=0)
