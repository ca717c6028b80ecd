"""An affine map between two places of a network as an operator, and its quality report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from torch import Tensor

from rectilinear.errors import ConfigError
from rectilinear.maps.held_out_r2 import few_rows_text, too_few
from rectilinear.operators import Dense


@dataclass(frozen=True)
class MapReport:
    """The origin of a map, and its quality on samples that it was not fitted to.

    Attributes:
        method: "least_squares", "mean_jacobian", "frozen_jacobian", or where it was read from.
        source: the place that it goes from.
        target: the place that it leads to.
        samples: how many it was fitted to, or averaged over.
        held_out: how many it was judged on.
        r2: the share of the variance of the target that it explains, on held-out samples: of all
            numbers of the target together, so that large ones outweigh small ones.
        interval: of 95 %, from drawing the held-out samples again; None with fewer than two.
        identity_r2: the same share of the identity, where both places have as many numbers.
        mean_r2: the same of the mean alone; zero but for the difference of the two sets.
        update_r2: the share of the variance of ``y - x`` that it explains: what the layers between
            add to a residual stream.
        ridge: of a least-squares map, chosen on samples apart; times the mean variance.
        error: the relative standard error of a mean Jacobian, in the Frobenius norm.
        r2_error: the standard error of ``r2`` that comes from averaging over few samples.
        likeness: similarity of the Jacobians, ``|E J|² / E|J|²``; one for an affine network.
        scaled_r2: the share that the map explains times the number ``scale``.
        scale: the number that makes the best of a mean Jacobian, on the fitted samples.
        bias_share: the share of the target that biases give, with gates held.
        positions: whether it maps each token to itself or to the sum over all.
        held_out_rows: how many vectors the held-out samples have: a row each.
        each_r2: the mean of the shares of each number of the target, where small ones count as much
            as large ones; those that do not vary are left out.
        averaged: whether it starts from the mean over the vectors of a sample, because the target
            has one vector a sample.
        rows: how many vectors a least-squares map was fitted to.
        rank: how many directions these have.
        fitted_r2: the share that least squares without a ridge explains of the rows that it was
            fitted to. In expectation the best map explains between ``r2`` and this.
    """

    method: str
    source: str
    target: str
    samples: int
    held_out: int = 0
    r2: float | None = None
    interval: tuple[float, float] | None = None
    identity_r2: float | None = None
    mean_r2: float | None = None
    update_r2: float | None = None
    ridge: float | None = None
    error: float | None = None
    r2_error: float | None = None
    likeness: float | None = None
    scaled_r2: float | None = None
    scale: float | None = None
    bias_share: float | None = None
    positions: str = "same"
    held_out_rows: int | None = None
    each_r2: float | None = None
    averaged: bool = False
    rows: int | None = None
    rank: int | None = None
    fitted_r2: float | None = None

    @property
    def few_rows(self) -> bool:
        """True if ``r2`` says little of the network: the rows are too few for least squares."""
        if self.rows is None or self.rank is None or self.fitted_r2 is None or self.r2 is None:
            return False
        return too_few(self.rows, self.rank, self.r2, self.fitted_r2)


class LinearMap(Dense):
    """An affine map ``y = A x + b`` from one place of a network to another.

    As an operator it is ``A``: every verb and ``@``, ``+``, ``.T`` work on it. :meth:`predict` adds
    the constant. It can be saved, with its report.

    Args:
        weight: ``A`` ``(O, D)``.
        bias: ``b`` ``(O,)``.
        report: the fields of :class:`MapReport`.

    Example:
        >>> import torch
        >>> made = {"method": "given", "source": "", "target": "", "samples": 0}
        >>> A = LinearMap(torch.eye(2), torch.ones(2), made)
        >>> A(torch.zeros(1, 2)).tolist(), A.predict(torch.zeros(1, 2)).tolist()
        ([[0.0, 0.0]], [[1.0, 1.0]])
    """

    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, report: Mapping[str, Any]) -> None:
        super().__init__(weight=weight, trainable=False)
        self._hold(False, bias=bias)
        self._built_as(weight=weight, bias=bias, report=dict(report))
        fields = dict(report)
        if fields.get("interval") is not None:
            fields["interval"] = tuple(fields["interval"])
        self.report = MapReport(**fields)

    def predict(self, x: Tensor) -> Tensor:
        """``A x + b`` over the last axis."""
        return self(x) + self.bias

    @property
    def r2(self) -> float | None:
        """The share of the target's variance that it explains on held-out samples."""
        return self.report.r2

    def samples_for(self, error: float) -> int:
        """The number of samples that a mean Jacobian needs for a given relative standard error.

        Args:
            error: in the Frobenius norm, such as 0.1.

        Raises:
            ConfigError: for a map of another method, or an error that is not positive.
        """
        own = self.report.error
        if own is None or not own < float("inf"):
            fitted = self.report.method == "least_squares"
            raise ConfigError(
                f"a map by {self.report.method} without a finite standard error",
                "a mean Jacobian that differs from zero",
                "Pass method='mean_jacobian'." if fitted else "Pass more samples.",
            )
        if not error > 0:
            raise ConfigError(f"error = {error}", "a number above 0, such as 0.1")
        return max(2, round(self.report.samples * (own / error) ** 2 + 0.5))

    def __str__(self) -> str:
        return "\n".join(_lines(self.report, tuple(self.weight.shape)))

    def _repr_html_(self) -> str:
        """The report, as HTML for a notebook."""
        first, *rest = _lines(self.report, tuple(self.weight.shape))
        rows = "".join(f"<div>{escape(line.strip())}</div>" for line in rest)
        return f"<div><b>{escape(first)}</b>{rows}</div>"


def _lines(report: MapReport, shape: tuple[int, ...]) -> list[str]:
    """The printed lines of a map."""
    arrow = f"{report.source} -> {report.target}"
    several = report.held_out_rows is not None and report.held_out_rows > report.held_out
    mean = ", of the mean over the vectors of a sample" if report.averaged else ""
    lines = [f"{report.method.replace('_', ' ')} {arrow}: {shape[0]} x {shape[1]}{mean}"]
    if report.r2 is not None:
        of = f" of {report.held_out_rows:,} rows" if several else ""
        lines.append(
            f"  R² {_share(report.r2, report.interval)} on {report.held_out} held-out samples{of}"
        )
        if report.few_rows:
            assert report.rows is not None
            assert report.fitted_r2 is not None
            said = few_rows_text(report.rows, shape[1], report.r2, report.fitted_r2)
            lines.append(f"  {said}; pass more samples, or method='mean_jacobian'")
        beside = [
            f"{name} {value:.3f}"
            for name, value in (
                ("identity", report.identity_r2),
                ("mean", report.mean_r2),
                ("of the update", report.update_r2),
                ("best scale", report.scaled_r2),
                ("of each number, in the mean", report.each_r2 if shape[0] > 1 else None),
            )
            if value is not None
        ]
        lines.append(f"  for comparison: R² {', '.join(beside)}")
    if report.ridge is not None:
        lines.append(f"  fitted to {report.samples} samples, ridge {report.ridge:g}")
    if report.error is not None:
        r2 = "" if report.r2_error is None else f", of R² {report.r2_error:.3f}"
        wanted = report.samples * (report.error / 0.1) ** 2
        needed = f"; 10 % takes {wanted:,.0f}" if wanted < float("inf") else ""
        lines.append(
            f"  standard error of the matrix {report.error:.1%}{r2}, from {report.samples} samples"
            f"{needed}"
        )
    if report.likeness is not None:
        lines.append(f"  similarity of the Jacobians {report.likeness:.3f}")
    if report.bias_share is not None:
        lines.append(f"  biases give {report.bias_share:.1%} of the target")
    return lines


def _share(value: float, interval: tuple[float, float] | None) -> str:
    return f"{value:.3f}" + ("" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]")
