"""The configuration of a training run, and the learning rate it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, isfinite, pi
from numbers import Real
from typing import Literal

from rectilinear.errors import ConfigError

_NUMBERS: dict[str, tuple[type, bool]] = {
    **dict.fromkeys(
        ("steps", "batch_size", "warmup", "seed", "log_every", "evaluate_every"), (int, False)
    ),
    **dict.fromkeys(("lr", "weight_decay", "checkpoint_every"), (Real, False)),
    **dict.fromkeys(("max_seconds", "grad_clip", "ema"), (Real, True)),
    **dict.fromkeys(("micro_batch", "checkpoint_every_steps"), (int, True)),
    "betas": (Sequence, False),
    "trackers": (Sequence, False),
    "device": (str, False),
}
_SAID = {int: "an integer", Real: "a number", Sequence: "a tuple", str: "a string"}


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a training run; frozen, so that a run folder has one meaning.

    Training ends after ``steps`` steps or ``max_seconds`` seconds of training (over all resumes),
    whichever is first. Progress ``p = max(step / steps, seconds / max_seconds)`` drives the
    schedule, so a run with a time budget is not repeatable to the bit; a run with a step budget
    alone is.

    Attributes:
        steps: Optimiser steps.
        max_seconds: Budget of training time in seconds, or none.
        clock: Clock of ``max_seconds``: "wall", or "processor" (time of all threads, which other
            programs do not shorten).
        batch_size: Rows a step, over all processes together.
        micro_batch: Rows computed at a time, or none for all of a step. Fewer take less memory,
            and between them a step of minutes can be stopped. The loss must be a mean over rows.
        lr: Peak learning rate of AdamW.
        betas: Decay of AdamW's first and second moment.
        weight_decay: Decoupled weight decay.
        warmup: Steps of linear warm-up.
        schedule: After the warm-up, "constant" or "cosine" down to zero.
        grad_clip: Largest norm of the gradient, or none.
        ema: Decay of the averaged weights that are the result, or none to use the last weights.
        precision: "float32" computes in the dtype of the data; "bf16" under autocast.
        seed: Order of the data and random numbers of each step.
        log_every: Steps between lines of the log.
        evaluate_every: Steps between diagnostics and evaluations.
        checkpoint_every: Seconds between checkpoints.
        checkpoint_every_steps: Steps between checkpoints in addition, or none.
        device: "auto" takes a GPU where there is one.
        compile: Compile the objective with ``torch.compile``.
        trackers: Where to log besides ``metrics.jsonl``.

    Raises:
        ConfigError: for a value out of range.

    Example:
        >>> TrainConfig(steps=100, schedule="cosine").learning_rate(step=50, progress=0.5)
        0.0005
    """

    steps: int = 1000
    max_seconds: float | None = None
    clock: Literal["wall", "processor"] = "wall"
    batch_size: int = 128
    micro_batch: int | None = None
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    warmup: int = 0
    schedule: Literal["constant", "cosine"] = "constant"
    grad_clip: float | None = 1.0
    ema: float | None = 0.999
    precision: Literal["float32", "bf16"] = "float32"
    seed: int = 0
    log_every: int = 20
    evaluate_every: int = 500
    checkpoint_every: float = 60.0
    checkpoint_every_steps: int | None = None
    device: str = "auto"
    compile: bool = False
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = ()

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            kind, optional = _NUMBERS.get(name, (object, False))
            good = (value is None and optional) or (
                isinstance(value, kind) and not isinstance(value, bool)
            )
            self._check(
                name,
                good or kind is object,
                f"{_SAID.get(kind, '')}{' or None' if optional else ''}",
            )
        for name in (
            "steps",
            "batch_size",
            "lr",
            "log_every",
            "evaluate_every",
            "checkpoint_every",
        ):
            self._check(name, getattr(self, name) > 0, "a positive number")
        for name in ("max_seconds", "grad_clip", "micro_batch", "checkpoint_every_steps"):
            self._check(
                name,
                getattr(self, name) is None or getattr(self, name) > 0,
                "a positive number or None",
            )
        for name in ("warmup", "weight_decay", "seed"):
            self._check(name, getattr(self, name) >= 0, "zero or a positive number")
        self._check(
            "betas",
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            "two numbers in [0, 1)",
        )
        self._check("ema", self.ema is None or 0 <= self.ema < 1, "a number in [0, 1) or None")
        self._check("lr", isfinite(self.lr), "a finite number")
        for name, known in (
            ("schedule", ("constant", "cosine")),
            ("precision", ("float32", "bf16")),
            ("clock", ("wall", "processor")),
        ):
            self._check(name, getattr(self, name) in known, f"one of {', '.join(known)}")
        self._check(
            "trackers",
            set(self.trackers) <= {"tensorboard", "wandb"},
            "names among tensorboard, wandb",
        )

    def _check(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise ConfigError(f"{name} = {getattr(self, name)!r}", expected)

    def progress(self, step: int, seconds: float) -> float:
        """Part of the budget that is spent, ``max(step / steps, seconds / max_seconds)``."""
        return max(step / self.steps, seconds / self.max_seconds if self.max_seconds else 0.0)

    def learning_rate(self, step: int, progress: float) -> float:
        """``lr min(1, (step + 1) / warmup) s(progress)``, ``s = 1`` or ``(1 + cos(pi p)) / 2``."""
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return (
            self.lr
            * warm
            * (1.0 if self.schedule == "constant" else (1 + cos(pi * min(progress, 1.0))) / 2)
        )

    def is_logged(self, step: int) -> bool:
        """True if a line of the log ends with this step whatever the clock says."""
        every = (self.log_every, self.checkpoint_every_steps or self.steps, self.steps)
        return any(step % n == 0 for n in every)

    def is_evaluated(self, first: int, step: int) -> bool:
        """True if the record of steps ``first + 1, ..., step`` has diagnostics."""
        return first == 0 or first // self.evaluate_every < step // self.evaluate_every

    def is_saved(self, first: int, step: int, seconds: float) -> bool:
        """True if a checkpoint follows that line, ``seconds`` after the last checkpoint."""
        every = self.checkpoint_every_steps
        return seconds >= self.checkpoint_every or (
            every is not None and first // every < step // every
        )
