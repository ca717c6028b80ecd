"""How alike the Jacobians of a network at different points are."""

from __future__ import annotations

import torch
from torch import Tensor

from rectilinear.analysis.measure import Measure, ratio
from rectilinear.analysis.subject import Subject
from rectilinear.maps.local_map import LocalMap, pulled_back
from rectilinear.operators import to_dense
from rectilinear.random import stream

POINTS, SHOWN, DIRECTIONS, VALUES = 64, 3, 8, 8


def local(subject: Subject) -> Measure:
    """How alike the Jacobians at different points are: ``|<J>|^2 / <|J|^2>`` without bias, one for
    an affine map.

    In the details: singular values at some points, and the error of ``f(x) = A_x x``.
    """
    network, x = subject.network, subject.columns(POINTS)
    if len(x) < 2:
        return Measure.missing("local", "one point")
    outputs = network.out_dim
    eye = (
        torch.eye(outputs, dtype=network.like.dtype)
        if outputs <= DIRECTIONS
        else torch.randn(
            DIRECTIONS, outputs, generator=stream(subject.seed, "directions"), dtype=torch.float64
        ).to(network.like.dtype)
    )
    directions = eye.to(network.like.device)
    try:
        slopes = torch.stack(
            [pulled_back(network, x, u.expand(len(x), -1)) for u in directions], 1
        ).double()
    except (RuntimeError, NotImplementedError, TypeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return Measure.missing("local", f"the model cannot be differentiated: {first[:80]}")
    flat = slopes.flatten(1)
    if not bool(torch.isfinite(flat).all()):
        return Measure.missing("local", "derivatives that are not finite at some points")
    own, total = flat.square().sum(1), flat.sum(0)
    if not float(own.sum()):
        return Measure.missing("local", "the Jacobian vanishes on the data")
    others = (flat @ total - own) / (len(x) - 1)
    value, interval = ratio(others, own, subject.seed)
    f = network(x).double() @ directions.double().mT
    through = (slopes * x.flatten(1).double()[:, None]).sum(2)
    identity = float((f - through).norm() / f.norm().clamp_min(1e-300))
    spectra, vectors = _spectra(subject, x)
    details = {"error_of_f_equals_Ax": identity, "singular_values": spectra}
    note = "likeness of the Jacobians at different points; one for an affine map"
    return Measure("local", value, "estimated", interval, note, details, vectors)


def _spectra(subject: Subject, x: Tensor) -> tuple[list[list[float]], dict[str, Tensor]]:
    """Leading singular values and right singular vectors at the first points."""
    values, vectors = [], {}
    k = min(VALUES, subject.network.in_dim, subject.network.out_dim)
    for i, point in enumerate(x[:SHOWN]):
        _, s, v = LocalMap(subject.network.model, point).svd(k)
        values.append(s.tolist())
        vectors[f"right singular vectors at point {i}"] = to_dense(v).mT
    return values, vectors
