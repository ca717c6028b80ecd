"""Networks with one, two and more blocks removed, compared with the original."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from rectilinear.errors import ConfigError, InputError, StructureError
from rectilinear.maps.linearize import Linearized, linearize
from rectilinear.maps.span_costs import SpanCosts, span_costs
from rectilinear.maps.spans import main_lists
from rectilinear.networks.batches import Tokenizer
from rectilinear.networks.forward_pass import Output
from rectilinear.networks.places import inner


@dataclass(frozen=True, eq=False)
class Smaller:
    """The networks that remain when the cheapest spans are removed.

    Attributes:
        costs: of all spans, on the samples that they were chosen on; None if none can be folded.
        found: a network for each number of blocks, judged on samples that nothing was chosen on.
        reason: why there is none, or nothing.
    """

    costs: SpanCosts | None
    found: tuple[Linearized, ...]
    reason: str = ""

    def table(self) -> tuple[list[str], list[list[str | float]]]:
        """The header and the cells of the table, the original first."""
        head = ["Blocks less", "Span", "Output kept, R²", "With the span deleted", "Same largest"]
        head += ["Parameters", "Operations a sample", "Seconds a batch"]
        lines: list[list[str | float]] = []
        for i, made in enumerate(self.found):
            if not i:
                sizes = (made.parameters_before, made.flops_before, made.seconds_before)
                lines.append([0, "the original", 1.0, "", "", *map(_large, sizes)])
            assert self.costs is not None
            span = next(s for s in self.costs.spans if s.name == made.blocks[0].name)
            same = "" if made.agreement is None else f"{made.agreement:.1%}"
            sizes = (made.parameters_after, made.flops_after, made.seconds_after)
            lines.append(
                [span.length, span.name, made.output_r2, span.deleted, same, *map(_large, sizes)]
            )
        return head, lines

    def __str__(self) -> str:
        if not self.found:
            return f"no smaller network: {self.reason}"
        return "\n\n".join(map(str, self.found))


def _large(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def smaller_networks(
    model: nn.Module,
    x: Any,
    y: Any = None,
    *,
    most: int = 2,
    tokenizer: Tokenizer | None = None,
    output: Output = None,
    seed: int = 0,
) -> Smaller:
    """The networks with one to ``most`` blocks fewer, whose spans are chosen by their cost.

    A network in which nothing can be folded gives none, and the reason.

    Example:
        >>> import torch
        >>> deep = nn.Sequential(*[nn.Linear(4, 4) for _ in range(5)])
        >>> [len(made.model) for made in smaller_networks(deep, torch.randn(300, 4)).found]
        [4, 3]
    """
    given: dict[str, Any] = {"tokenizer": tokenizer, "output": output, "seed": seed}
    try:
        lists = (inner(model).get_submodule(name) for name in main_lists(model))
        blocks = max(len(part) for part in lists)  # type: ignore[arg-type]
        lengths = range(1, min(most, blocks - 2) + 1)
        costs = span_costs(model, x, y, lengths=tuple(lengths), fold=True, **given)
        found = [
            linearize(model, x, y, blocks=span.name, fold=True, **given) for span in costs.curve()
        ]
    except (StructureError, ConfigError, InputError) as error:
        return Smaller(None, (), str(error))
    return Smaller(costs, tuple(found))
