"""``layer_profile``: linearity of a network from each of its layers on, by three maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import nn

from rectilinear.config import as_frame, nan_to_null, write_json
from rectilinear.errors import ConfigError, StructureError
from rectilinear.maps.linear_map import (
    HELD_OUT,
    JACOBIAN_SAMPLES,
    Method,
    Settings,
    check_skip,
    fit_maps,
)
from rectilinear.maps.map_report import LinearMap
from rectilinear.maps.mean_jacobian import Positions, Route, tokens_of
from rectilinear.networks.batches import Batches, Tokenizer, read_batches
from rectilinear.networks.forward_pass import Output, Pass, forward
from rectilinear.networks.network import evaluating
from rectilinear.networks.places import block_names, named_parts
from rectilinear.random import check_seed

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

METHODS: tuple[Method, ...] = ("least_squares", "mean_jacobian", "frozen_jacobian")
TITLES = {
    "least_squares": "least squares",
    "mean_jacobian": "mean Jacobian",
    "frozen_jacobian": "frozen Jacobian",
}
PROBED = 2  # samples on which the shapes of layers are looked at


@dataclass(frozen=True, eq=False)
class LayerProfile:
    """The maps from each layer to one target, and the share of its variance that each explains.

    Attributes:
        model: the class of the model.
        target: the place that all maps lead to.
        maps: by source and method, in the order of depth: ``profile.maps["3"]["least_squares"]``.
        refused: methods that were refused, with the reason.
    """

    model: str
    target: str
    maps: Mapping[str, Mapping[str, LinearMap]]
    refused: Mapping[str, str]

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that the profile has maps of."""
        return tuple(next(iter(self.maps.values())))

    def likeness(self, source: str, first: str, second: str) -> float:
        """The cosine of the matrices from ``source`` by the methods ``first`` and ``second``."""
        a, b = (self.maps[source][name].weight.double() for name in (first, second))
        return float((a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-300))

    def rows(self) -> list[dict[str, Any]]:
        """One row for each source: shares of variance, intervals, errors and cosines."""
        found = []
        for source, maps in self.maps.items():
            any_map = next(iter(maps.values())).report
            row: dict[str, Any] = {"source": source, "identity": any_map.identity_r2}
            for name, made in maps.items():
                report = made.report
                row[name] = report.r2
                low, high = report.interval or (None, None)
                row |= {f"{name}_low": low, f"{name}_high": high}
                row[f"{name}_update"] = report.update_r2
                row[f"{name}_each"] = report.each_r2
                if name == "least_squares":
                    row |= {"rows": report.rows, "fitted_r2": report.fitted_r2}
                else:
                    row |= {
                        f"{name}_scaled": report.scaled_r2,
                        f"{name}_error": report.error,
                        f"{name}_r2_error": report.r2_error,
                    }
                    if "least_squares" in maps:
                        row[f"{name}_cosine"] = self.likeness(source, name, "least_squares")
                if report.bias_share is not None:
                    row["bias_share"] = report.bias_share
            found.append(row)
        return found

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The header and the cells of the printed table."""
        head = ["from", "identity"]
        jacobians = [m for m in self.methods if m != "least_squares"]
        for name in self.methods:
            head.append(f"{TITLES[name]} [95 %]")
            head += ["best scale", "error"] if name in jacobians else []
            head += ["own rows"] if name == "least_squares" and self.few_rows else []
        head += [f"cos({TITLES[m]}, least squares)" for m in jacobians if self._fitted]
        head += ["biases"] if "frozen_jacobian" in self.methods else []
        lines = []
        for row in self.rows():
            line = [row["source"], _number(row["identity"])]
            for name in self.methods:
                low, high = row[f"{name}_low"], row[f"{name}_high"]
                span = "" if low is None else f" [{low:.2f}, {high:.2f}]"
                report = self.maps[row["source"]][name].report
                line.append(_number(row[name]) + span + " ?" * report.few_rows)
                if name == "least_squares" and self.few_rows:
                    line.append(_number(report.fitted_r2))
                if name in jacobians:
                    line += [_number(row[f"{name}_scaled"]), _percent(row[f"{name}_error"])]
            line += [_number(row[f"{m}_cosine"]) for m in jacobians if self._fitted]
            line += [_percent(row.get("bias_share"))] if "frozen_jacobian" in self.methods else []
            lines.append(line)
        return head, lines

    @property
    def _fitted(self) -> bool:
        return "least_squares" in self.methods

    @property
    def few_rows(self) -> str:
        """A sentence on the layers with too few rows for least squares; empty without one."""
        found = [maps["least_squares"] for maps in self.maps.values()] if self._fitted else []
        found = [made for made in found if made.report.few_rows]
        if not found:
            return ""
        rows = min(made.report.rows or 0 for made in found)
        widths = sorted({made.in_dim for made in found})
        of = f"{widths[0]:,}" + (f" to {widths[-1]:,}" if len(widths) > 1 else "")
        return (
            f"? {rows:,} rows of {of} numbers are too few to tell: the best map explains between "
            "R² and what least squares explains of its own rows. Pass more samples, or use mean "
            "Jacobians."
        )

    @property
    def averaged(self) -> str:
        """A sentence on the layers whose vectors are averaged; empty without one."""
        names = [
            source
            for source, maps in self.maps.items()
            if next(iter(maps.values())).report.averaged
        ]
        if not names:
            return ""
        where = "every layer" if len(names) == len(self.maps) else ", ".join(names)
        return f"The map starts from the mean over the vectors of a sample at {where}."

    def _caption(self) -> str:
        reports = [made.report for made in next(iter(self.maps.values())).values()]
        averaged = [r.samples for r in reports if r.method != "least_squares"]
        of = f", Jacobians of {averaged[0]} samples" if averaged else ""
        return (
            f"{self.model}: R² of {self.target} on {reports[0].held_out} held-out samples, by the "
            f"layer that a linear map starts from{of}"
        )

    def __str__(self) -> str:
        head, lines = self.table()
        widths = [max(len(row[i]) for row in [head, *lines]) for i in range(len(head))]
        shown = [self._caption()]
        for row in [head, *lines]:
            first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            shown.append("  ".join([first.strip().ljust(widths[0]), *rest]))
        shown += list(filter(None, [self.averaged, self.few_rows]))
        shown += [f"{TITLES.get(name, name)}: {reason}" for name, reason in self.refused.items()]
        return "\n".join(shown)

    def _repr_html_(self) -> str:
        """The table and the figure, as HTML for a notebook."""
        from rectilinear.plots.page import chart
        from rectilinear.plots.page import table as markup

        head, lines = self.table()
        return (
            f"<p>{escape(self._caption())}</p>{markup(head, lines)}"
            f"<p>{escape(self.averaged)} {escape(self.few_rows)}</p>"
            f"{chart(self.figure(), 'R² by layer')}"
        )

    def figure(self) -> Figure:
        """A figure of R² against depth, one line with intervals for each method."""
        from rectilinear.plots.charts import layers

        lines: dict[str, list[tuple[float, float, float]]] = {}
        for name in self.methods:
            points = []
            for maps in self.maps.values():
                report = maps[name].report
                assert report.r2 is not None
                low, high = report.interval or (report.r2, report.r2)
                points.append((report.r2, low, high))
            lines[TITLES[name]] = points
        identity = [next(iter(maps.values())).report.identity_r2 for maps in self.maps.values()]
        if all(value is not None for value in identity):
            lines["identity"] = [(v, v, v) for v in identity if v is not None]
        return layers(list(self.maps), lines, f"R² of {self.target}")

    def to_json(self, path: Path | str | None = None) -> dict[str, Any]:
        """All but the matrices as JSON values, also written to ``path`` if one is given.

        Raises:
            DiskError: if the disk is full or cannot be written.
        """
        values = nan_to_null(
            {
                "model": self.model,
                "target": self.target,
                "few_rows": self.few_rows,
                "averaged": self.averaged,
                "refused": dict(self.refused),
                "layers": [
                    {
                        "source": source,
                        "maps": {name: asdict(made.report) for name, made in maps.items()},
                    }
                    for source, maps in self.maps.items()
                ],
            }
        )
        if path is not None:
            write_json(path, values)
        return values

    def to_frame(self) -> pd.DataFrame:
        """A data frame with one row for each source.

        Raises:
            MissingDependencyError: without pandas.
        """
        return as_frame(self.rows(), "source")


def _number(value: float | None) -> str:
    return "" if value is None else f"{round(value, 3) + 0.0:.3f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{round(value, 2) + 0.0:.0%}"  # never -0%


def layer_profile(
    model: nn.Module,
    data: Any,
    *,
    layers: Sequence[str] | None = None,
    target: str | None = None,
    methods: Sequence[Method] = METHODS,
    tokenizer: Tokenizer | None = None,
    output: Output = None,
    positions: Positions = "same",
    skip: tuple[int, int] = (0, 0),
    samples: int = JACOBIAN_SAMPLES,
    held_out: float = HELD_OUT,
    batch_size: int = 32,
    seed: int = 0,
    progress: bool = True,
) -> LayerProfile:
    """The linear maps from each layer of a network to its output, tested on held-out samples.

    All layers share their passes: the mean Jacobians of all cost as much as those of the first.

    Args:
        model: any module; it is used in evaluation mode and not changed.
        data: as :func:`~rectilinear.maps.linear_map.linear_map` takes them.
        layers: places to start from; by default the input of the first block of the network's stack
            and the outputs of all but the last.
        target: the place to lead to; by default the output of the last block, or of the model where
            the blocks have different widths.
        methods: which maps.
        tokenizer: a function of a list of texts.
        output: which part of the output ``"@output"`` is.
        positions: "same" or "all" for Jacobians, as in ``linear_map``.
        skip: tokens left out at both ends.
        samples: how many a Jacobian is averaged over.
        held_out: the share of the samples that are held out.
        batch_size: samples in a batch, of data that come whole.
        seed: of the split, of random signs, and of the bootstrap.
        progress: show progress on standard error: a bar on a terminal, else a line now and then.

    Raises:
        ConfigError: for an unknown place or method.
        ShapeError: for places with different numbers of vectors.
        StructureError: for a network without blocks, or if every method is refused.

    Example:
        >>> import torch
        >>> layers = [nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 4)]
        >>> net = nn.Sequential(*layers)
        >>> found = layer_profile(net, torch.randn(300, 4), samples=8)
        >>> list(found.maps), round(found.maps["3"]["least_squares"].r2, 6)
        (['0@input', '0', '1', '2', '3'], 1.0)
    """
    if unknown := [m for m in methods if m not in get_args(Method)] or not methods:
        raise ConfigError(f"methods {unknown or 'without one'}", f"of {', '.join(METHODS)}")
    settings = Settings(samples, held_out, check_seed(seed), progress)
    batches = read_batches(data, model, tokenizer=tokenizer, batch_size=batch_size)
    sources, end, other = _ends(model, batches, layers, target, output)
    route = Route(tuple(sources), end, output, positions, check_skip(skip))
    found, refused = fit_maps(model, route, batches, methods, settings)
    if not next(iter(found.values())):
        raise next(iter(refused.values()))
    reasons = {name: str(error) for name, error in refused.items()}
    if other and not set(other) & set(found):
        reasons["left out"] = f"{', '.join(other)}: other numbers of vectors than at {end}"
    return LayerProfile(type(model).__name__, end, found, reasons)


def stack_of(model: nn.Module) -> list[str]:
    """The names of the consecutive blocks of a network.

    These are the blocks of one list and class (not a simple torch layer) that is most frequent;
    else all blocks.

    Example:
        >>> encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 1, 4), 3)
        >>> stack_of(nn.Sequential(nn.Linear(2, 4), encoder))
        ['1.layers.0', '1.layers.1', '1.layers.2']
    """
    return stacks_of(model)[0]


def stacks_of(model: nn.Module) -> list[list[str]]:
    """The lists of blocks of one class in a network, the longest first; else all its blocks."""
    names = block_names(model)
    parts = dict(named_parts(model))
    kinds: dict[tuple[str, type], list[str]] = {}
    for name in names:
        if any(True for _ in parts[name].children()):
            kinds.setdefault((_outer_list(parts, name), type(parts[name])), []).append(name)
    repeated = [found for found in kinds.values() if len(found) > 1]
    return sorted(repeated, key=len, reverse=True) or [names]


def _outer_list(parts: Mapping[str, nn.Module], name: str) -> str:
    """The outermost list that holds a module: encoder and decoder have different ones."""
    steps = name.split(".")
    for i in range(1, len(steps)):
        holder = parts.get(".".join(steps[:i]))
        if isinstance(holder, nn.ModuleList):
            return ".".join(steps[:i])
        if isinstance(holder, nn.Sequential):
            return ".".join([*steps[: i - 1], "*"])
    return ""


def has_stack(model: nn.Module) -> bool:
    """True if a network has a stack of blocks that are themselves composed of layers.

    Example:
        >>> has_stack(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)))
        False
    """
    parts = dict(named_parts(model))
    stack = stack_of(model)
    return len(stack) > 1 and all(any(True for _ in parts[name].children()) for name in stack)


def _calls_of(model: nn.Module, batches: Batches, stack: list[str]) -> list[str]:
    """The stack; for a network that runs a block several times, its calls in order."""
    calls: list[str] = []
    times: dict[str, int] = {}

    def note(name: str) -> Any:
        def hook(*_: object) -> None:
            times[name] = times.get(name, 0) + 1
            calls.append(f"{name}#{times[name] - 1}")

        return hook

    parts = dict(named_parts(model))
    handles = [parts[name].register_forward_hook(note(name)) for name in stack]
    try:
        forward(model, batches.head(PROBED))
    finally:
        for handle in handles:
            handle.remove()
    shared = {name for name, count in times.items() if count > 1}
    return [c for c in calls if c.partition("#")[0] in shared] if shared else stack


def _ends(
    model: nn.Module,
    batches: Batches,
    layers: Sequence[str] | None,
    target: str | None,
    output: Output,
) -> tuple[list[str], str, list[str]]:
    """The sources, the target, and the layers of the stack that are left out.

    Left out are layers with another number of vectors than the target, such as before patches are
    merged.
    """
    if layers is not None:
        if not layers:
            raise ConfigError("no layers", "at least one place", "Leave layers out to take all.")
        return list(layers), target or "@output", []
    stacks = stacks_of(model)
    if len(stacks[0]) < 2:
        raise StructureError(
            f"a {type(model).__name__} with {len(stacks[0])} blocks in a list",
            "two or more",
            "Pass layers=.",
        )
    head = batches.head(PROBED)
    for stack in stacks:
        with evaluating(model):
            names = _calls_of(model, batches, stack)
            ends = [f"{names[0]}@input", *names, target or "@output"]
            seen = forward(model, head, ends, output=output)

        def shape(name: str, seen: Pass = seen) -> torch.Size:
            return tokens_of(seen.at[name], seen.layout(name)).shape[1:]

        alike = len({shape(name) for name in names}) == 1
        end = target or (names[-1] if alike else "@output")
        sources = [name for name in ends[:-1] if name != end]
        fit = [name for name in sources if shape(end)[0] in (1, shape(name)[0])]
        if fit:
            return fit, end, [name for name in sources if name not in fit]
    raise StructureError(
        f"a {type(model).__name__} whose blocks have other numbers of vectors than {end}",
        "as many, or one a sample",
        f"Pass layers= and target=, such as target={stacks[0][-1]!r}.",
    )
