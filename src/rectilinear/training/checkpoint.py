"""The state of a training run and its checkpoint: weights, averages, optimiser, step and seconds.

All else that a run needs follows from its configuration. The checkpoint is one file of tensors,
replaced in one step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from rectilinear.checks import check_values
from rectilinear.errors import CheckpointError, ConfigError, DtypeError
from rectilinear.random import seed_step
from rectilinear.tensor_files import load_tensors, save_tensors
from rectilinear.training.batches import Batches
from rectilinear.training.config import TrainConfig
from rectilinear.training.optimizer import EMA, Descent

CHECKPOINT = "checkpoint.safetensors"  # in the run folder
MOST_NAMED = 6  # fields in which runs differ
FREE = {
    *("device", "compile", "micro_batch", "trackers", "log_every", "evaluate_every"),
    *("checkpoint_every", "checkpoint_every_steps", "data", "system"),
}
"""Fields that may change when a run is resumed: they do not change the weights that it ends with.

Those that say where the data lie are among them: the data themselves are compared. Another device
or micro_batch changes rounding and the random numbers of a step.
"""


class TrainState:
    """The state of a run, as it is saved and resumed. Made by :meth:`start`."""

    def __init__(
        self, objective: nn.Module, config: TrainConfig, out: Path, identity: Mapping[str, Any]
    ) -> None:
        self.objective, self.config, self.out, self.identity = objective, config, out, identity
        self.step, self.seconds = 0, 0.0
        groups = parameter_groups(objective, config)
        self.parameters: list[Tensor] = [p for group in groups for p in group["params"]]
        self.optimizer = Descent(
            groups, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=True
        )
        self.optimizer.zero_grad()
        self.ema = EMA(objective, config.ema)

    @classmethod
    def start(
        cls,
        objective: nn.Module,
        batches: Batches,
        config: TrainConfig,
        out: Path,
        description: Mapping[str, Any],
    ) -> Self:
        """The state of the run in ``out``, or a new one after ``objective.prepare(data)``."""
        path, identity = out / CHECKPOINT, {"run": description, "data": batches.fingerprint()}
        if not path.exists():
            seed_step(config.seed, -1, device=batches.device)
            if prepare := method(objective, "prepare"):
                with torch.no_grad():
                    prepare(batches.data)
            return cls(objective, config, out, identity)
        tensors, meta = load_tensors(path, batches.device)
        _check_same_run(meta, identity, path)
        groups = group_by_prefix(tensors)
        load_state(objective, groups.get("model", {}), path)
        state = cls(objective, config, out, identity)
        state.step, state.seconds = meta["step"], meta["seconds"]
        state.ema.load_state_dict(groups.get("ema", {}))
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in groups.get("optimizer", {}).items():
            index, _, slot = name.partition(".")
            slots.setdefault(int(index), {})[slot] = tensor
        for number, of_one in slots.items():
            shape = state.parameters[number].shape
            if any(x.ndim and x.shape != shape for x in of_one.values()):
                raise CheckpointError(
                    f"{path} with the optimiser's averages for other parameters",
                    f"averages of shape {tuple(shape)} for parameter {number}",
                    "An older version began this run: train in a new folder.",
                )
        state.optimizer.load_state_dict({**state.optimizer.state_dict(), "state": slots})
        return state

    def save(self) -> None:
        """Write the checkpoint in one step."""
        tensors = {f"model.{name}": x for name, x in self.objective.state_dict().items()}
        tensors |= {f"ema.{name}": x for name, x in self.ema.state_dict().items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{slot}": x for slot, x in slots.items()}
        save_tensors(
            self.out / CHECKPOINT,
            tensors,
            {"step": self.step, "seconds": self.seconds, **self.identity},
        )

    def update(self) -> Tensor:
        """One step of optimiser and averages; returns the norm of the gradient before clipping."""
        rate = self.config.learning_rate(self.step, self.config.progress(self.step, self.seconds))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_factor"]
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.grad_clip or float("inf"))
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update(self.step)
        self.step += 1
        return norm

    @torch.no_grad()
    def give_up(self, buffers: Sequence[Tensor]) -> None:
        """Undo what a step has done before its update; ``buffers`` are those before the step."""
        self.optimizer.zero_grad()
        for now, before in zip(self.objective.buffers(), buffers, strict=True):
            now.copy_(before)


def parameter_groups(objective: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """The objective's own parameter groups, or one group of all trainable parameters.

    ``lr_factor`` is the learning rate of a group relative to that of the configuration. A group
    with ``orthogonal=True`` takes steps of :class:`~rectilinear.training.optimizer.Descent`.
    """
    named = {name: p for name, p in objective.named_parameters() if p.requires_grad}
    make = method(objective, "parameter_groups")
    own = make() if make else [{"params": list(named.values())}]
    groups, seen = [], set[int]()
    for group in _listed(own):
        params = [p for p in group["params"] if p.requires_grad]
        if seen & {id(p) for p in params} or not group.get("lr", 0.0) >= 0:
            raise ConfigError(
                "a group with a negative lr, or a parameter in two", "each parameter once, lr >= 0"
            )
        seen |= {id(p) for p in params}
        if params:
            groups.append(
                {**group, "params": params, "lr_factor": group.get("lr", config.lr) / config.lr}
            )
    grouped = {id(p) for group in groups for p in group["params"]}
    left_out = [name for name, p in named.items() if id(p) not in grouped]
    if left_out or not named:
        raise ConfigError(
            got=f"no optimizer group for {', '.join(left_out)}"
            if left_out
            else "no trainable parameter",
            expected="each trainable parameter in one group",
            fix="Add it to parameter_groups()."
            if left_out
            else "Set requires_grad on what should be trained.",
        )
    return groups


def _listed(groups: Any) -> list[dict[str, Any]]:
    listed = list(groups) if isinstance(groups, Iterable) else []
    if not listed or not all(isinstance(group, dict) and "params" in group for group in listed):
        raise ConfigError(
            "parameter_groups() without groups",
            'a list of {"params": [...], ...}',
            "See torch.optim.",
        )
    return [
        {**g, "params": [g["params"]] if isinstance(g["params"], Tensor) else list(g["params"])}
        for g in listed
    ]


def method(objective: nn.Module, name: str) -> Callable[..., Any] | None:
    """One of the methods that an objective may have."""
    found = getattr(objective, name, None)
    return found if callable(found) else None


def check_dtype(objective: nn.Module, data: Tensor) -> None:
    """Raise DtypeError if no parameter of ``objective`` has the dtype of ``data``."""
    for name, value in objective.state_dict().items():
        if not isinstance(value, Tensor):
            raise ConfigError(
                f"{name}, a {type(value).__name__}, in the state of the objective",
                "tensors",
                "Use buffers.",
            )
        check_values(value, name)
    dtypes = {p.dtype for p in objective.parameters()}
    if dtypes and data.dtype not in dtypes:
        raise DtypeError(
            got=f"data of dtype {data.dtype} for a model of dtype {', '.join(map(str, dtypes))}",
            expected="one dtype",
            fix="Convert the data, or the model, with .to(dtype).",
        )


def _check_same_run(meta: Mapping[str, Any], identity: Mapping[str, Any], path: Path) -> None:
    if not {"step", "seconds", "run", "data"} <= set(meta):
        raise CheckpointError(
            f"{path} without the state of a run", "a training checkpoint", "Choose another folder."
        )
    before, now = _flat(meta["run"]), _flat(identity["run"])
    differ = [
        f"{key}: {before.get(key)!r} before, {now.get(key)!r} now"
        for key in sorted(before.keys() | now.keys(), key=lambda key: (key != "name", key))
        if before.get(key) != now.get(key) and key.rpartition(".")[2] not in FREE
    ]
    if differ and before.get("name") != now.get("name"):  # another recipe, with other fields
        del differ[1:]
    if len(differ) > MOST_NAMED:
        differ[MOST_NAMED:] = [f"{len(differ) - MOST_NAMED} other fields"]
    if meta["data"] != identity["data"]:
        differ.append("the data")
    if differ:
        raise ConfigError(
            got=f"{path.parent}, a run that differs in {'; '.join(differ)}",
            expected="the configuration and the data that the run began with",
            fix="Choose another run folder, or undo the change.",
        )


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one with dotted keys, tuples as lists."""
    if isinstance(values, dict):
        return {
            k: v
            for key, value in values.items()
            for k, v in _flat(value, f"{prefix}{key}.").items()
        }
    return {prefix[:-1]: list(values) if isinstance(values, tuple) else values}


def load_state(module: nn.Module, tensors: Mapping[str, Tensor], source: Path | str) -> None:
    """Load a state dict into ``module``, or raise with the names and shapes that differ.

    Args:
        module: the module to load into.
        tensors: the state dict, as :func:`load_checkpoint` returns it.
        source: where it is from, for the message.

    Raises:
        CheckpointError: if ``source`` holds the state of another module; ``module`` stays as it
            was.
    """
    own = module.state_dict()
    # A module that had two names in an earlier version has one now.
    placed = {id(x) for name, x in tensors.items() if name in own}
    tensors = {name: x for name, x in tensors.items() if name in own or id(x) not in placed}
    wrong = [f"no {name}" for name in own if name not in tensors]
    wrong += [f"{name} without a place" for name in tensors if name not in own]
    wrong += [
        f"{name} of shape {tuple(tensors[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    wrong += [
        f"{name} of {tensors[name].dtype} instead of {own[name].dtype}"
        for name in own
        if name in tensors and not torch.can_cast(tensors[name].dtype, own[name].dtype)
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(
            got=f"{source} with {', '.join(wrong[:3])}{more}",
            expected=f"the {len(own)} tensors of this {type(module).__name__}",
            fix="Build the model with the configuration that it was saved with.",
        )
    module.load_state_dict(dict(tensors))


def load_checkpoint(out: Path | str, ema: bool = True) -> dict[str, Tensor]:
    """The state dict of the objective that was trained in the run folder ``out``.

    Args:
        out: the run folder.
        ema: averaged weights where they were kept, else the last weights.

    Raises:
        CheckpointError: if there is no checkpoint, or it is damaged.
    """
    groups = group_by_prefix(load_tensors(Path(out) / CHECKPOINT)[0])
    return groups.get("model", {}) | (groups.get("ema", {}) if ema else {})


def group_by_prefix(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """``{"a.x": 1, "a.y.z": 2}`` as ``{"a": {"x": 1, "y.z": 2}}``."""
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        prefix, _, rest = name.partition(".")
        groups.setdefault(prefix, {})[rest] = tensor
    return groups
