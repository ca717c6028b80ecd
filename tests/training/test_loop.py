import json
import os
import signal
import threading
from dataclasses import dataclass, make_dataclass, replace
from itertools import count
from math import cos, pi

import pytest
import torch
from torch import nn

from rectilinear.checks import tolerance
from rectilinear.errors import (
    CheckpointError,
    ConfigError,
    DiskError,
    DivergedError,
    DtypeError,
    NonFiniteError,
)
from rectilinear.random import seed_step
from rectilinear.tensor_files import load_tensors
from rectilinear.training import TrainConfig, load_checkpoint, read_log, train


def go(objective, data, config, out, **options):
    return train(objective, data, config, out, progress=False, **options)


def tensors(out):
    return load_tensors(out / "checkpoint.safetensors")[0]


def assert_same(left, right):
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


def losses(out):
    return [(record["step"], record["loss"]) for record in read_log(out)]


def test_it_is_the_loop_written_out_by_hand(tmp_path, data, config, denoise):
    settings = config(
        steps=25, warmup=5, schedule="cosine", weight_decay=0.1, grad_clip=0.5, ema=0.9, seed=3
    )
    trained = denoise()
    go(trained, data, settings, tmp_path)

    model = denoise()
    seed_step(3, -1)
    model.prepare(data)
    optimizer = torch.optim.AdamW(
        model.parameters(), betas=settings.betas, weight_decay=0.1, foreach=False
    )
    average = [p.detach().clone() for p in model.parameters()]
    order = torch.cat(
        [
            torch.randperm(50, generator=torch.Generator().manual_seed(3 + epoch))
            for epoch in range(10)
        ]
    )
    for step in range(25):
        seed_step(3, step)
        optimizer.param_groups[0]["lr"] = (
            1e-2 * min(1, (step + 1) / 5) * (1 + cos(pi * step / 25)) / 2
        )
        optimizer.zero_grad()
        model(data[order[16 * step : 16 * step + 16]])["loss"].backward()
        norm = sum(p.grad.square().sum() for p in model.parameters()).sqrt()
        for p in model.parameters():
            p.grad *= min(1.0, 0.5 / norm)
        optimizer.step()
        decay = min(0.9, (1 + step) / (10 + step))
        average = [
            decay * m + (1 - decay) * p.detach()
            for m, p in zip(average, model.parameters(), strict=True)
        ]
    # clip_grad_norm_ divides by norm + 1e-6, which moves the weights by about lr * steps * 1e-6 at
    # most
    for p, m in zip(trained.parameters(), average, strict=True):
        assert (p - m).abs().max() < 1e-2 * 25 * 1e-6


@pytest.mark.whole
def test_it_finds_the_minimum_of_least_squares(tmp_path, data, config):
    class LeastSquares(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))

        def forward(self, batch):
            return {"loss": (batch[:, :3] @ self.weight - batch[:, 3]).square().mean()}

    objective = LeastSquares()
    go(
        objective,
        data,
        config(steps=800, batch_size=50, lr=0.05, schedule="cosine", ema=None),
        tmp_path,
    )
    solution = torch.linalg.lstsq(data[:, :3], data[:, 3:]).solution[:, 0]
    assert (
        objective.weight - solution
    ).abs().max() < 1e-6  # what Adam reaches in 800 steps, not rounding


@pytest.mark.parametrize("cut", [1, 7, 10, 29])
def test_a_run_that_stopped_and_went_on_ends_bit_for_bit_like_one_that_did_not(
    tmp_path, data, config, denoise, cut
):
    whole, each = denoise(), config(log_every=1)
    assert go(whole, data, each, tmp_path / "whole").finished

    class Stops(denoise):
        steps = 0

        def forward(self, batch):
            self.steps += 1
            if self.steps == cut:
                os.kill(os.getpid(), signal.SIGTERM if cut % 2 else signal.SIGINT)
            return super().forward(batch)

    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(True))
    interrupt = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background job ignores SIGINT
    try:
        if cut % 2:
            stopped = go(Stops(), data, each, tmp_path / "cut")
            assert (stopped.step, stopped.finished, heard) == (cut, False, [True])
        else:
            with pytest.raises(KeyboardInterrupt):
                go(Stops(), data, each, tmp_path / "cut")
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupt)

    resumed = denoise(seed=99)
    result = go(resumed, data, each, tmp_path / "cut")
    assert (result.step, result.finished, resumed.prepared) == (30, True, 0)
    assert_same(tensors(tmp_path / "whole"), tensors(tmp_path / "cut"))
    assert_same(whole.state_dict(), resumed.state_dict())
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


@pytest.fixture
def clock(monkeypatch):
    """A clock on which each step takes a second."""
    monkeypatch.setattr("rectilinear.training.loop.perf_counter", count().__next__)


@pytest.mark.usefixtures("clock")
def test_stop_after_pauses_and_the_same_call_goes_on(tmp_path, data, config, denoise):
    go(denoise(), data, config(), tmp_path / "whole")
    results = [go(denoise(), data, config(), tmp_path / "parts", stop_after=12) for _ in range(3)]
    assert [(result.step, result.seconds, result.finished) for result in results] == [
        (12, 12, False),
        (24, 24, False),
        (30, 30, True),
    ]
    assert_same(tensors(tmp_path / "whole"), tensors(tmp_path / "parts"))


def test_a_finished_run_returns_at_once_with_its_weights(tmp_path, data, config, denoise):
    first, again = denoise(), denoise(seed=5)
    result = go(first, data, config(), tmp_path)
    assert go(again, data, config(), tmp_path) == result
    assert_same(first.state_dict(), again.state_dict())
    assert_same(load_checkpoint(tmp_path), again.state_dict())
    raw = load_checkpoint(tmp_path, ema=False)
    assert not torch.equal(raw["net.0.weight"], again.net[0].weight)


def test_the_run_folder_holds_config_log_and_checkpoint_and_nothing_else(
    tmp_path, data, config, denoise
):
    go(denoise(), data, config(steps=12, log_every=5, evaluate_every=100), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "checkpoint.safetensors",
        "config.json",
        "metrics.jsonl",
    ]
    assert json.loads((tmp_path / "config.json").read_text())["steps"] == 12
    log = read_log(tmp_path)
    assert [record["step"] for record in log] == [5, 10, 12]
    assert {"seconds", "lr", "loss", "root", "gradient_norm"} <= log[1].keys()
    assert "per_row" not in log[1]
    assert ["round_trip" in record for record in log] == [True, False, True]


def test_evaluate_sees_averaged_weights_in_evaluation_mode_and_changes_nothing(
    tmp_path, data, config, denoise
):
    seen = []

    def evaluate(objective, step):
        seen.append((step, objective.training, objective.net[0].weight.clone()))
        torch.rand(7)
        return {"score": 1.0}

    objective = denoise()
    go(objective, data, config(), tmp_path / "a", evaluate=evaluate)
    go(denoise(), data, config(evaluate_every=7, log_every=3), tmp_path / "b")
    assert_same(tensors(tmp_path / "a"), tensors(tmp_path / "b"))
    assert [(step, training) for step, training, _ in seen] == [
        (5, False),
        (10, False),
        (20, False),
        (30, False),
    ]
    assert torch.equal(seen[-1][2], objective.net[0].weight)
    assert read_log(tmp_path / "a")[-1]["score"] == 1.0


def test_the_callers_random_state_is_left_alone(tmp_path, data, config, denoise):
    objective = denoise()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    go(objective, data, config(), tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_seeds_differ_and_ema_none_gives_the_last_weights(tmp_path, data, config, denoise):
    a, b = denoise(), denoise()
    go(a, data, config(ema=None), tmp_path / "a")
    go(b, data, config(ema=None, seed=1), tmp_path / "b")
    assert not torch.equal(a.net[0].weight, b.net[0].weight)
    assert torch.equal(a.net[0].weight, load_checkpoint(tmp_path / "a", ema=False)["net.0.weight"])


@pytest.mark.usefixtures("clock")
def test_a_budget_of_seconds_ends_the_run_and_the_schedule_with_it_over_all_resumes(
    tmp_path, data, config, denoise
):
    settings = config(steps=10**9, max_seconds=40.0, schedule="cosine")
    assert not go(denoise(), data, settings, tmp_path, stop_after=25).finished
    for _ in range(2):
        result = go(denoise(), data, settings, tmp_path)
        assert (result.step, result.seconds, result.finished) == (40, 40, True)
        assert result.metrics["lr"] == pytest.approx(1e-2 * (1 + cos(pi * 39 / 40)) / 2)


def test_the_objective_gets_the_part_of_the_budget_that_is_spent(tmp_path, data, config, denoise):
    class Noting(denoise):
        seen = ()

        def schedule(self, progress):
            self.seen = (*self.seen, progress)

    objective, resumed = Noting(), Noting()
    go(objective, data, config(), tmp_path, stop_after=0.0)
    go(resumed, data, config(), tmp_path)
    first = len(objective.seen)
    assert 1 <= first < 30
    assert [*objective.seen, *resumed.seen] == [step / 30 for step in range(30)]


def test_groups_have_their_own_rates(tmp_path, data, config, denoise):
    class Groups(denoise):
        def parameter_groups(self):
            return [
                {"params": self.net[0].parameters(), "lr": 0.0},
                {"params": list(self.net[3].parameters())},
            ]

    objective, start = Groups(), denoise()
    go(objective, data, config(), tmp_path)
    assert torch.equal(objective.net[0].weight, start.net[0].weight)
    assert not torch.equal(objective.net[3].weight, start.net[3].weight)


def test_groups_that_leave_a_parameter_out_are_refused(tmp_path, data, config, denoise):
    class Groups(denoise):
        def parameter_groups(self):
            return [{"params": list(self.net[0].parameters())}]

    with pytest.raises(ConfigError, match=r"net\.3\.weight"):
        go(Groups(), data, config(), tmp_path)
    with pytest.raises(DtypeError, match=r"train\(objective, data, config, out\)"):
        go(config(), data, denoise(), tmp_path)

    class Listed(denoise):
        def diagnostics(self, batch):
            return [1.0]

    with pytest.raises(ConfigError, match=r'Return {"name": value}'):
        go(Listed(), data, config(), tmp_path / "listed")
    with pytest.raises(ConfigError, match="no trainable"):
        go(denoise().requires_grad_(False), data, config(), tmp_path)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_single_precision_and_bf16_train(tmp_path, data, config, denoise, precision):
    objective = denoise().float()
    go(objective, data.float(), config(steps=300, precision=precision), tmp_path)
    first, *_, last = losses(tmp_path)
    assert last[1] < 0.8 * first[1]
    assert objective.net[0].weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda x: x.float(), DtypeError),
        (lambda x: x.long(), DtypeError),
        (lambda x: x.masked_fill(x > 5, float("nan")), NonFiniteError),
        (lambda x: x.masked_fill(x > 5, float("inf")), NonFiniteError),
    ],
)
def test_unusable_data_are_refused_before_anything_is_written(
    tmp_path, data, config, denoise, change, error
):
    with pytest.raises(error, match="data"):
        go(denoise(), change(data), config(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unknown_device_is_refused(tmp_path, data, config, denoise):
    for name in ("gpu", "cuda:99"):
        with pytest.raises(ConfigError, match=name):
            go(denoise(), data, config(device=name), tmp_path)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_run_that_diverges_says_where_and_what_to_do_and_keeps_the_last_checkpoint(
    tmp_path, data, config, denoise, what
):
    class Diverges(denoise):
        steps = 0

        def forward(self, batch):
            self.steps += 1
            terms = super().forward(batch)
            if self.steps == 14:
                root = (terms["loss"] * 0).sqrt()  # zero, with an infinite derivative
                terms["loss"] = root if what == "gradient" else terms["loss"] / 0
            return terms

    with pytest.raises(DivergedError, match=f"a {what} .* step 13; .*lower lr"):
        go(Diverges(), data, config(checkpoint_every_steps=10), tmp_path)
    assert all(torch.isfinite(x).all() for x in tensors(tmp_path).values())
    assert load_tensors(tmp_path / "checkpoint.safetensors")[1]["step"] == 10
    assert losses(tmp_path)[-1][0] == 10


def test_a_changed_configuration_is_refused_and_named(tmp_path, data, config, denoise):
    go(denoise(), data, config(steps=10), tmp_path)
    with pytest.raises(ConfigError, match=r"lr: 0\.01 before, 0\.02 now; steps: 10 before, 20 now"):
        go(denoise(), data, config(steps=20, lr=0.02), tmp_path)
    go(denoise(), data, config(steps=10, log_every=2, checkpoint_every=1.0), tmp_path)


def test_of_another_run_its_name_is_said_or_a_few_fields(tmp_path, data, config, denoise):
    def run(**fields):
        return make_dataclass("Run", fields, frozen=True)(*fields.values())

    settings = config(steps=4)
    go(denoise(), data, settings, tmp_path, run=run(name="digits", rank=3, width=7))
    with pytest.raises(ConfigError) as said:
        go(denoise(), data, settings, tmp_path, run=run(name="projector", axes=3, width=8))
    assert "differs in name: 'digits' before, 'projector' now; expected" in str(said.value)
    many = {f"field_{i}": i for i in range(9)}
    with pytest.raises(ConfigError, match="field_5: None before, 5 now; 5 other fields; expected"):
        go(denoise(), data, settings, tmp_path, run=run(name="digits", **many))


def test_a_run_may_describe_model_and_data_too(tmp_path, data, config, denoise):
    @dataclass(frozen=True)
    class Run:
        width: int
        train: TrainConfig

    run = Run(8, config(steps=10))
    go(denoise(), data, run.train, tmp_path, run=run)
    assert json.loads((tmp_path / "config.json").read_text())["width"] == 8
    go(denoise(), data, run.train, tmp_path, run=replace(run, train=config(steps=10, log_every=1)))
    with pytest.raises(ConfigError, match="width: 8 before, 9 now"):
        go(denoise(), data, run.train, tmp_path, run=replace(run, width=9))


def test_other_data_another_model_and_a_damaged_checkpoint_are_refused(
    tmp_path, data, config, denoise
):
    go(denoise(), data, config(steps=10), tmp_path)
    with pytest.raises(ConfigError, match="the data"):
        go(denoise(), data + 1, config(steps=10), tmp_path)

    class Wider(denoise):
        def __init__(self):
            super().__init__()
            self.extra = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    with pytest.raises(CheckpointError, match="no extra"):
        go(Wider(), data, config(steps=10), tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="truncated"):
        go(denoise(), data, config(steps=10), tmp_path)


def test_a_disk_that_fills_stops_the_run_and_with_room_it_goes_on(
    tmp_path, data, config, denoise, small_disk
):
    settings = config(checkpoint_every_steps=10)
    go(denoise(), data, settings, tmp_path / "whole")
    with small_disk(700), pytest.raises(DiskError):
        go(denoise(), data, settings, tmp_path / "full")
    assert not list((tmp_path / "full").glob("*.tmp*")) + list((tmp_path / "full").glob(".*"))
    go(denoise(), data, settings, tmp_path / "full")
    assert_same(tensors(tmp_path / "whole"), tensors(tmp_path / "full"))
    assert losses(tmp_path / "whole") == losses(tmp_path / "full")


def test_it_trains_outside_the_main_thread(tmp_path, data, config, denoise):
    results = []
    thread = threading.Thread(
        target=lambda: results.append(go(denoise(), data, config(), tmp_path / "thread"))
    )
    thread.start()
    thread.join()
    go(denoise(), data, config(), tmp_path / "main")
    assert results[0].finished
    assert_same(tensors(tmp_path / "main"), tensors(tmp_path / "thread"))


def test_compilation_is_asked_for_once(tmp_path, data, config, denoise, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda module: compiled.append(module) or module)
    go(denoise(), data, config(compile=True), tmp_path)
    assert len(compiled) == 1


@pytest.mark.slow
def test_real_compilation_gives_the_same_run(tmp_path, data, config, denoise):
    class Quiet(denoise):  # compiled kernels draw other random numbers
        def forward(self, batch):
            return {"loss": (self.net[3](self.net[1](self.net[0](batch))) - batch).square().mean()}

    go(Quiet(), data, config(compile=True), tmp_path / "compiled")
    go(Quiet(), data, config(), tmp_path / "plain")
    for name, x in load_checkpoint(tmp_path / "plain").items():
        error = (x - load_checkpoint(tmp_path / "compiled")[name]).abs().max()
        assert error < tolerance(
            torch.float64, scale=30 * 100, n=16
        )  # 30 steps, each sensitive to its gradient
