"""The audit: measurements of how linear a network is, one after the other, and a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from torch import Tensor, nn

from rectilinear.analysis.blocks_and_jacobians import block_replacement, jacobian_likeness
from rectilinear.analysis.measure import Measure, Settings, Subject
from rectilinear.analysis.surrogate import affine_r2, affine_score, odd_linearity
from rectilinear.analysis.symmetry import (
    gaussian_energy,
    homogeneity,
    mirror_classifier,
    pairs,
    parity,
    sign_flip,
)
from rectilinear.analysis.training_outcome import delta, floor_and_loss, time_course, weights
from rectilinear.analysis.two_layer import certificate, exact_map
from rectilinear.analysis.verdict import Verdict, verdict
from rectilinear.config import nan_to_null, write_json
from rectilinear.errors import ConfigError, MissingDependencyError
from rectilinear.networks import data as points
from rectilinear.networks.calls import as_network, check_module, evaluating, progress_of
from rectilinear.networks.data import task_for
from rectilinear.random import seeded

if TYPE_CHECKING:
    import pandas as pd


THRESHOLD = 0.99  # share of the variance that one affine map explains of what counts as linear
MEASURES: tuple[Callable[[Subject], Measure], ...] = (  # in the order of the table
    homogeneity,
    parity,
    odd_linearity,
    affine_r2,
    affine_score,
    exact_map,
    gaussian_energy,
    certificate,
    pairs,
    sign_flip,
    mirror_classifier,
    floor_and_loss,
    weights,
    delta,
    time_course,
    block_replacement,
    jacobian_likeness,
)
Outputs = Literal["each", "together", "standardised"]


@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit found: ``measures`` by name, and the ``verdict``; ``print`` shows a table.

    Attributes:
        model: the class of the model.
        parameters: how many it has.
        in_shape: the shape of a row of the input.
        out_shape: that of the output.
        rows: how many rows were audited.
        seed: of every random number.
        verdict: the label and the reasons.
        measures: every measurement by its name.
    """

    model: str
    parameters: int
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    rows: int
    seed: int
    verdict: Verdict
    measures: Mapping[str, Measure]

    def __str__(self) -> str:
        lines = [
            f"{self.model}, {self.parameters:,} parameters, on {self.rows:,} rows: {self.verdict.label}",
            *(f"  - {reason}" for reason in self.verdict.reasons),
            "",
        ]
        table = [
            (
                m.name,
                "" if m.value is None else f"{m.value:.4g}",
                m.range_text().strip(),
                m.kind,
                m.note,
            )
            for m in self.measures.values()
        ]
        widths = [max(len(row[i]) for row in table) for i in range(4)]
        return "\n".join(
            [
                *lines,
                *(
                    "  ".join(
                        [
                            name.ljust(widths[0]),
                            *(c.rjust(w) for c, w in zip(cells, widths[1:3], strict=True)),
                        ]
                    )
                    + f"  {kind.ljust(widths[3])}  {note}".rstrip()
                    for name, *cells, kind, note in table
                ),
            ]
        )

    def to_json(self, path: Path | str | None = None) -> dict[str, Any]:
        """Everything but the tensors as JSON values; written to ``path`` where one is given.

        Raises:
            DiskError: if the disk is full or cannot be written.
        """
        values = nan_to_null(
            {
                "model": self.model,
                "parameters": self.parameters,
                "in_shape": list(self.in_shape),
                "out_shape": list(self.out_shape),
                "rows": self.rows,
                "seed": self.seed,
                "verdict": {"label": self.verdict.label, "reasons": list(self.verdict.reasons)},
                "measures": {name: m.to_json() for name, m in self.measures.items()},
            }
        )
        if path is not None:
            write_json(path, values)
        return values

    def to_frame(self) -> pd.DataFrame:
        """One row a measurement.

        Raises:
            MissingDependencyError: without pandas.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingDependencyError.of("to_frame", "pandas", instead="use to_json") from error
        records = [
            {
                "measure": m.name,
                "value": m.value,
                "low": m.interval[0] if m.interval else None,
                "high": m.interval[1] if m.interval else None,
                "kind": m.kind,
                "note": m.note,
            }
            for m in self.measures.values()
        ]
        return pd.DataFrame(records).set_index("measure")


def audit(
    model: nn.Module,
    x: Tensor | Iterable[Any],
    y: Tensor | None = None,
    *,
    loss: str | Callable[[Tensor, Tensor], Tensor] | None = None,
    lr: float | None = None,
    steps: int | None = None,
    blocks: list[str] | None = None,
    threshold: float = THRESHOLD,
    outputs: Outputs = "each",
    seed: int = 0,
    progress: bool = True,
) -> Audit:
    """How linear a network is, on the data and by construction, and why.

    The measurements: homogeneity; the odd and even energy; how linear the odd part is; the best
    affine map on the data and what it loses at the task; for two layers the exact linear part,
    Gaussian energies and a certificate of the distance from linear; the symmetry of the data; the
    floor of the data against the loss; the weights; the learning curve from these weights; for each
    block how well an affine map replaces it; the Jacobians. Each is marked exact, certified or
    estimated with an interval, or does not apply for a reason that it gives.

    The model is used in evaluation mode and not changed. Data in batches are read several times and
    never held together where they are more than fits.

    Args:
        model: any module that maps rows to rows.
        x: ``(n, ...)``, or an iterable of batches ``x`` or ``(x, y)`` that can be read again, such
            as a ``DataLoader``.
        y: labels: classes ``(n,)``, signs, or numbers ``(n,)`` or ``(n, O)``.
        loss: "square" (half the square), "logistic", "hinge", "cross_entropy", or a function of
            outputs and labels that gives the loss of each row; from the labels by default.
        lr: learning rate for which learning from the present weights is predicted.
        steps: for how many steps.
        blocks: names of the blocks to replace; by default the contents of the model's containers.
        threshold: the share of the variance that one affine map must explain for "effectively
            linear".
        outputs: of what: of "each" output by itself, so that the worst decides; of all "together",
            where a large output outweighs small ones; or of all "standardised" to one variance on
            the data.
        seed: of samples, random directions and bootstraps.
        progress: show progress on standard error, where that is a terminal.

    Raises:
        DtypeError, ShapeError, NonFiniteError, DataError: for unusable data or labels.
        InputError: for a model without parameters, that is random, or that lets rows act on each
            other.
        ConfigError: for a setting out of range.

    Reference: Y. Zhang, A. Saxe, P. Latham, When are bias-free ReLU networks effectively linear
    networks?, TMLR 2025.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 2))
        >>> found = audit(net, torch.randn(100, 3))
        >>> found.verdict.label, found.measures["affine_r2"].kind
        ('linear', 'exact')
    """
    if not 0 < threshold <= 1:
        raise ConfigError(f"threshold = {threshold}", "a share, above 0 and at most 1")
    if outputs not in get_args(Outputs):
        raise ConfigError(f"outputs = {outputs!r}", f"one of {', '.join(get_args(Outputs))}")
    if (lr is None) != (steps is None):
        raise ConfigError(
            f"lr = {lr} and steps = {steps}",
            "both or neither",
            "Give both to predict the learning curve.",
        )
    check_module(model)
    devices = [p.device for p in model.parameters() if p.is_cuda][:1]
    with evaluating(model), seeded(seed, devices):
        data = points.read(x, y, seed)
        network = as_network(model, data.sample)
        known = None if loss is not None and data.labels is None else data.labels
        if loss is not None and known is None:
            raise ConfigError("a loss without labels", "labels", "Pass y, or batches of (x, y).")
        task = None if known is None else task_for(known, network.out_dim, loss)
        settings = Settings(blocks, lr, steps, outputs == "standardised")
        with progress_of(progress, total=1 + len(MEASURES)) as advance:
            advance("layers")
            subject = Subject.of(network, data, task, seed, settings)
            found = {}
            for measure in MEASURES:
                advance(measure.__name__.replace("_", " "))
                measured = subject.once(measure)
                found[measured.name] = measured
        judged = verdict(subject, found, threshold, each=outputs == "each")
    count = sum(p.numel() for p in model.parameters())
    return Audit(
        type(network.model).__name__,
        count,
        network.in_shape,
        network.out_shape,
        data.n,
        seed,
        judged,
        found,
    )
