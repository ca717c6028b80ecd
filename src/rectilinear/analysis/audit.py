"""The audit: fourteen measurements of how linear a network is, and a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn

from rectilinear.analysis.blocks import blocks
from rectilinear.analysis.certificate import certificate
from rectilinear.analysis.local import local
from rectilinear.analysis.measure import Measure
from rectilinear.analysis.subject import Subject
from rectilinear.analysis.surrogate import surrogate
from rectilinear.analysis.symmetry import (
    gaussian_energy,
    homogeneity,
    mirror_classifier,
    pairs,
    parity,
    sign_flip,
)
from rectilinear.analysis.training_outcome import delta, floor_and_loss, time_course, weights
from rectilinear.analysis.verdict import Verdict, verdict
from rectilinear.config import nan_to_null, write_json
from rectilinear.errors import ConfigError, MissingDependencyError
from rectilinear.files import write_text
from rectilinear.networks import data as points
from rectilinear.networks.calls import as_network, check_module, evaluating
from rectilinear.networks.layers import TwoLayer, affine_map
from rectilinear.networks.task import progress_of, task_for
from rectilinear.random import check_seed

if TYPE_CHECKING:
    import pandas as pd


THRESHOLD = 0.99

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

    def to_html(self, path: Path | str | None = None) -> str:
        """One self-contained page with plots; written to ``path`` where one is given.

        Raises:
            DiskError: if the disk is full or cannot be written.
        """
        from rectilinear.analysis.page import audit_page  # imports matplotlib

        text = audit_page(self)
        if path is not None:
            write_text(path, text)
        return text

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
    with evaluating(model), torch.random.fork_rng(devices=devices):
        torch.manual_seed(check_seed(seed))
        data = points.read(x, y, seed)
        network = as_network(model, data.sample)
        known = None if loss is not None and data.labels is None else data.labels
        if loss is not None and known is None:
            raise ConfigError("a loss without labels", "labels", "Pass y, or batches of (x, y).")
        task = None if known is None else task_for(known, network.out_dim, loss)
        with progress_of(progress, total=8) as advance:
            advance("structure")
            subject = Subject.of(network, data, task, seed)
            found = _measure(subject, blocks, lr, steps, outputs == "standardised", advance)
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


def _measure(
    subject: Subject,
    names: list[str] | None,
    lr: float | None,
    steps: int | None,
    standardise: bool,
    advance: Callable[[str], None],
) -> dict[str, Measure]:
    """All measurements, in the order of the table."""
    advance("affine fit")
    fitted = surrogate(subject, standardise)
    affine = _proved(subject, fitted.affine)
    advance("parity and homogeneity")
    flipped, told = sign_flip(subject), mirror_classifier(subject)
    found = [homogeneity(subject), parity(subject, told, flipped), fitted.odd, affine, fitted.task]
    advance("matrices")
    found += [exact_map(subject), gaussian_energy(subject), certificate(subject)]
    advance("symmetry of the data")
    found += [pairs(subject), flipped, told]
    advance("floor and weights")
    found += [
        floor_and_loss(subject),
        weights(subject),
        delta(subject),
        time_course(subject, lr, steps),
    ]
    advance("blocks")
    found.append(blocks(subject, names))
    advance("Jacobians")
    found.append(local(subject))
    return {measure.name: measure for measure in found}


def _proved(subject: Subject, fitted: Measure) -> Measure:
    """The best affine map is the network itself where all its operations are affine."""
    if not subject.structure.is_affine or not fitted.applies:
        return fitted
    measured = {"measured": fitted.value, **fitted.details}
    return Measure(
        fitted.name, 1.0, "exact", None, "affine by construction", measured, fitted.tensors
    )


def exact_map(subject: Subject) -> Measure:
    """The exact linear part ``M0 + kappa W2 W1`` of two layers without bias: its share of the
    energy on the data.

    Of an affine network, the map itself. The matrix is in ``tensors["matrix"]``.
    """
    name, two = "exact_map", subject.two_layer
    if subject.structure.is_affine:
        matrix, _ = affine_map(subject.exact)
        note = "the network is this map (and a constant)"
    elif isinstance(two, TwoLayer):
        if two.has_bias or two.activation.kappa is None:
            why = (
                "a bias" if two.has_bias else f"the odd part of {two.activation.name} is not linear"
            )
            return Measure.missing(name, f"the odd part is no matrix: {why}")
        matrix = two.matrix
        note = "share of the energy on the data that the exact linear part, kappa W2 W1, has"
    else:
        why = two.removeprefix("a network that is not one of two layers: ")
        return Measure.missing(name, f"two layers only; {why}")
    left = total = 0.0
    for p in subject.passes():
        left += float((p.f - p.x.flatten(1).to(matrix) @ matrix.mT).double().square().sum())
        total += float(p.f.double().square().sum())
    s = torch.linalg.svdvals(matrix.double())
    details = {
        "singular_values": s[:64].tolist(),
        "rank": int((s > s[0] * max(matrix.shape) * 1e-7).sum()),
    }
    value = 1 - left / total if total else 1.0
    return Measure(
        name,
        value,
        "exact",
        None,
        note,
        details,
        {"matrix": matrix, "singular values of the map": s},
    )
