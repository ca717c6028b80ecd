"""The training loop: steps, log, checkpoints, and a clean stop on Ctrl-C and SIGTERM."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from math import inf
from pathlib import Path
from time import perf_counter, process_time
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from rectilinear.config import to_json, write_json
from rectilinear.errors import ConfigError, DivergedError, DtypeError
from rectilinear.files import locked, remove_leftovers
from rectilinear.random import seed_step
from rectilinear.training.batches import RESERVED, Batches, add_gradients, scalars
from rectilinear.training.checkpoint import TrainState, check_dtype, method
from rectilinear.training.config import TrainConfig
from rectilinear.training.distributed import Group, process_group
from rectilinear.training.log import RunLog, read_log
from rectilinear.training.optimizer import evaluation


class Window:
    """Scalars of the steps since the last line of the log, kept on the device and read together."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._rows: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, terms: Mapping[str, Tensor], gradient_norm: Tensor) -> None:
        """Add the scalars of one step."""
        numbers = {**scalars(terms), "gradient_norm": gradient_norm}
        self._names = list(numbers)
        dtype = torch.promote_types(torch.float32, numbers["loss"].dtype)
        self._rows.append(torch.stack([x.to(dtype) for x in numbers.values()]))

    def means(self, group: Group, step: int, advice: str) -> dict[str, float]:
        """Means over the steps since the last call and over the processes.

        The last of the steps was number ``step - 1``.
        """
        table = group.mean(torch.stack(self._rows)).cpu()
        bad = (~torch.isfinite(table[:, [self._names.index("loss"), -1]])).nonzero()
        if len(bad):
            row, column = bad[0].tolist()
            raise DivergedError(
                got=(
                    f"a {('loss', 'gradient')[column]} that is not finite at step "
                    f"{step - len(table) + row}"
                ),
                expected="finite numbers",
                fix=advice,
            )
        self._rows = []
        return dict(zip(self._names, table.mean(0).tolist(), strict=True))


@contextmanager
def postponed_signals() -> Iterator[list[int]]:
    """Yield a list that SIGINT and SIGTERM enter instead of acting; on leaving the block they act.

    The second signal acts at once. Outside the main thread nothing is postponed.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    previous = {
        number: handler
        for number, handler in previous.items()
        if handler not in (signal.SIG_IGN, None)
    }

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        restore()

    for number in previous:
        signal.signal(number, note)
    try:
        yield received
    finally:
        restore()
    if received:
        signal.raise_signal(signal.Signals(received[0]))


@dataclass(frozen=True)
class TrainResult:
    """The state of a run: ``finished`` or stopped early, and the last record of its log.

    ``out`` is its folder, ``step`` and ``seconds`` its length, ``metrics`` that record.
    """

    out: Path
    step: int
    seconds: float
    finished: bool
    metrics: dict[str, Any]


def train(
    objective: nn.Module,
    data: Tensor,
    config: TrainConfig,
    out: Path | str,
    *,
    run: Any = None,
    evaluate: Callable[[nn.Module, int], Mapping[str, float]] | None = None,
    stop_after: float | None = None,
    progress: bool = True,
) -> TrainResult:
    """Minimise ``objective(batch)["loss"]`` over the rows of ``data``; the same call resumes a run.

    ``objective`` maps a batch ``(b, ...)`` to a dictionary with the scalar ``"loss"``, the mean
    over the batch; its other scalars are logged. Four methods are optional: ``prepare(data)`` runs
    once before step 0, ``parameter_groups()`` gives optimiser groups with their own ``lr`` or
    ``weight_decay``, ``schedule(progress)`` runs before each step with the part of the budget that
    is spent, in [0, 1), and ``diagnostics(batch)`` gives numbers for the log, such as the
    round-trip error. Random numbers must come from torch. Afterwards ``objective`` holds the
    averaged weights and is in evaluation mode.

    The run folder ``out`` holds ``config.json``, ``metrics.jsonl`` and ``checkpoint.safetensors``.
    A run may be killed at any instant. In one process on a CPU, with a budget of steps, a run that
    was killed and resumed ends with the weights of one that was not, bit for bit, if all that
    training changes is in ``objective.state_dict()``. Ctrl-C and SIGTERM take effect after the
    step, once it is saved, and in a step of several micro-batches between these: the run is saved
    as it was before the step. A budget of seconds that ends within such a step ends it with the
    rows computed until then.

    Args:
        objective: The model and its loss.
        data: ``(n, ...)``, floating point.
        config: How to train.
        out: The run folder.
        run: A dataclass that describes the whole run (model, data, training), written as
            ``config.json`` and compared when resuming; ``config`` by default.
        evaluate: ``evaluate(objective, step)`` gives more numbers for the log, every
            ``evaluate_every`` steps, with the averaged weights in place.
        stop_after: Save and return after so many seconds of this call; the next call resumes.
        progress: Show progress and the time left on standard error.

    Raises:
        ConfigError: if ``out`` holds a run with another configuration or other data.
        LockedError: if another process is training in ``out``.
        DtypeError, ShapeError, NonFiniteError: for unusable ``data``, before training.
        DivergedError: if the loss or the gradient is not finite; the last checkpoint stays.
        CheckpointError: if the checkpoint is damaged or of another model.
        DiskError: if the disk fails; the last checkpoint stays.

    Example:
        >>> import tempfile
        >>> class Fit(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.mean = nn.Parameter(torch.zeros(2))
        ...     def forward(self, batch):
        ...         return {"loss": (batch - self.mean).square().mean()}
        >>> from rectilinear.training import TrainConfig
        >>> config = TrainConfig(steps=200, lr=0.1, batch_size=16, device="cpu")
        >>> result = train(Fit(), torch.ones(64, 2), config, tempfile.mkdtemp(), progress=False)
        >>> result.finished, result.metrics["loss"] < 1e-3
        (True, True)
    """
    if not isinstance(objective, nn.Module) or not isinstance(config, TrainConfig):
        given = type(objective).__name__, type(config).__name__
        got = "an objective of type {} and a configuration of type {}".format(*given)
        fix = "Call train(objective, data, config, out)."
        raise DtypeError(got, "an nn.Module and a TrainConfig", fix)
    out = Path(out)
    with ExitStack() as stack:
        group = stack.enter_context(process_group(config.device))
        signals = stack.enter_context(postponed_signals())
        stack.enter_context(_own_random_state(group.device))
        batches = Batches(
            data, config.batch_size, config.seed, group.device, group.rank, group.world
        )
        check_dtype(objective, batches.data)
        objective.to(group.device).train()
        description = to_json(config if run is None else run)
        if group.is_main:
            stack.enter_context(locked(out))
        state = TrainState.start(objective, batches, config, out, description)
        if group.is_main:
            remove_leftovers(out)
            write_json(out / "config.json", description)
        limit = inf if stop_after is None else stop_after
        with (
            RunLog(out, state.step, description, config.trackers, progress)
            if group.is_main
            else nullcontext() as log
        ):
            _loop(
                objective,
                batches,
                state,
                group,
                log,
                evaluate,
                signals,
                limit,
            )
        group.agree(state.seconds, stop=False)  # the others wait until the first has saved
        state.ema.swap()
        objective.eval()
        finished = config.progress(state.step, state.seconds) >= 1
    return TrainResult(out, state.step, state.seconds, finished, (read_log(out) or [{}])[-1])


def _loop(
    objective: nn.Module,
    batches: Batches,
    state: TrainState,
    group: Group,
    log: RunLog | None,
    evaluate: Callable[[nn.Module, int], Mapping[str, float]] | None,
    signals: Sequence[int],
    limit: float,
) -> None:
    """Train until the budget or ``limit`` seconds are spent or a signal comes, then save.

    A function of its own, so that the wrapped model is gone when the process group is destroyed:
    otherwise gloo may wait for a thread that waits for Python.
    """
    config = state.config
    model = group.wrap(objective)
    compiled = torch.compile(model) if config.compile else model
    window, stop = Window(), False
    before = saved_at = state.seconds
    clock = process_time if config.clock == "processor" else perf_counter
    entered = clock()
    schedule = method(objective, "schedule")

    def compute(rows: Tensor) -> Any:
        with torch.autocast(group.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            return compiled(rows)

    def must_end() -> bool:
        spent = config.progress(state.step, before + clock() - entered) >= 1
        return group.world == 1 and (bool(signals) or spent)

    while config.progress(state.step, state.seconds) < 1 and not stop:
        batch = batches(state.step)
        seed_step(config.seed, state.step, group.rank, group.device)
        if schedule:
            schedule(config.progress(state.step, state.seconds))
        size = config.micro_batch or len(batch)
        kept = [x.clone() for x in objective.buffers()] if size < len(batch) else []
        terms, rows = add_gradients(compute, objective, batch, size, must_end)
        stop = given_up = rows < len(batch) and bool(signals)
        if given_up:
            state.give_up(kept)
        else:
            window.add(terms, state.update())
        if not len(window):  # the first step after a line of the log is given up
            state.save()
            return

        at_line = config.is_logged(state.step)
        if not given_up and (
            group.world == 1 or at_line
        ):  # several processes agree on the time at the lines of the log
            here = clock() - entered
            state.seconds, stop = group.agree(before + here, bool(signals) or here >= limit)
        done = config.progress(state.step, state.seconds)
        if not (at_line or stop or done >= 1):
            continue

        first, rate = state.step - len(window), state.optimizer.param_groups[0]["lr"]
        record = {"step": state.step, "seconds": state.seconds, "lr": rate}
        record |= window.means(group, state.step, advice=_advice(state))
        if log is None:
            continue
        if config.is_evaluated(first, state.step) or done >= 1:
            with evaluation(objective, state.ema):
                record |= _diagnostics(objective, batch[:size])
                record |= _numbers(
                    evaluate(objective, state.step) if evaluate else {}, "evaluate", {"loss"}
                )
        log.write(record, done)
        if config.is_saved(first, state.step, state.seconds - saved_at) or stop or done >= 1:
            log.sync()
            state.save()
            saved_at = state.seconds


def _diagnostics(objective: nn.Module, batch: Tensor) -> dict[str, float]:
    diagnose = method(objective, "diagnostics")
    return _numbers(diagnose(batch) if diagnose else {}, "diagnostics", {"loss"})


def _numbers(values: Any, source: str, taken: set[str]) -> dict[str, float]:
    """The numbers that a function of the user adds to the log."""
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"a {type(values).__name__} from {source}",
            "a dictionary of numbers",
            'Return {"name": value}, or {} for none.',
        )
    if again := (taken | RESERVED) & set(values):
        raise ConfigError(
            f"{min(again)!r} from {source}", "a name that the log does not use itself", "Rename it."
        )
    try:
        return {str(name): float(value) for name, value in values.items()}
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"values from {source} that are no numbers ({error})", "numbers", "Reduce them first."
        ) from error


def _own_random_state(device: torch.device) -> AbstractContextManager[None]:
    """The caller's random state is left alone."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def _advice(state: TrainState) -> str:
    config = state.config
    return (
        f"Train in a new run folder with a lower lr (now {config.lr}), a longer warmup (now "
        f"{config.warmup}), a smaller grad_clip (now {config.grad_clip}) or another precision "
        f"(now {config.precision}); the last checkpoint in {state.out} is from before."
    )
