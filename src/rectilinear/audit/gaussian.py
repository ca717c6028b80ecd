"""The odd and the even energy of a two-layer network on Gaussian inputs, in closed form."""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING

import torch

from rectilinear.audit.measure import Measure

if TYPE_CHECKING:
    from torch import Tensor

    from rectilinear.audit.layers import TwoLayer
    from rectilinear.audit.subject import Subject

CHUNK = 1024  # neurons whose products with all others are written out together


def gaussian_energy(subject: Subject) -> Measure:
    """The share of the odd part in ``<|f|^2>`` for ``x ~ N(0, I)``; in the details, for the data's second moments too.

    With ``h = W1 x`` Gaussian, ``<|h_i| |h_j|> = 2/pi s_i s_j (sqrt(1 - r^2) + r asin r)``: the arc-sine kernel.
    """
    name, two = "gaussian_energy", subject.two_layer
    if isinstance(two, str):
        return Measure.missing(
            name, f"two layers only; {two.removeprefix('a network that is not one of two layers: ')}"
        )
    if two.activation.slope is None:
        return Measure.missing(name, f"no closed form for {two.activation.name}")
    if two.has_bias:
        return Measure.missing(name, "no closed form with a bias")
    x = subject.data.sample.to(two.W1).flatten(1).double() / len(subject.data.sample) ** 0.5
    eye = torch.eye(two.W1.shape[1], dtype=torch.float64, device=two.W1.device)
    (odd, even), (data_odd, data_even) = energies(two, eye), energies(two, x)
    if not odd + even:
        return Measure.missing(name, "the network is zero")
    details: dict[str, float | None] = {"odd": odd, "even": even, "data_odd": data_odd, "data_even": data_even}
    details["data_odd_share"] = data_odd / (data_odd + data_even) if data_odd + data_even else None
    note = "odd share of the energy for x ~ N(0, I), by the arc-sine kernel"
    return Measure(name, odd / (odd + even), "exact", None, note, details)


def energies(two: TwoLayer, root: Tensor) -> tuple[float, float]:
    """``<|M x|^2>`` and ``<|e(x)|^2>`` for ``x ~ N(0, R^T R)`` and a root ``R`` ``(k, D)``.

    Example:
        >>> from rectilinear.audit.activations import leaky
        >>> from rectilinear.audit.layers import TwoLayer
        >>> one, zero = torch.ones(1, 1), torch.zeros(1)
        >>> energies(TwoLayer(one, one, zero, zero, 0 * one, leaky(0.0)), torch.ones(1, 1).double())
        (0.25, 0.25)
    """
    slope = two.activation.slope
    assert slope is not None
    odd = float((root @ two.matrix.double().mT).square().sum())
    h = root @ two.W1.double().mT
    c = two.W2.double() * (1 - torch.as_tensor(slope, dtype=torch.float64, device=h.device)) / 2
    s, even = h.norm(dim=0), 0.0
    for part in torch.arange(h.shape[1], device=h.device).split(CHUNK):
        size = torch.outer(s[part], s)
        r = (h[:, part].mT @ h / size.clamp_min(torch.finfo(size.dtype).tiny)).clamp(-1, 1)
        products = 2 / pi * size * ((1 - r.square()).sqrt() + r * r.asin())
        even += float(((c[:, part] @ products) * c).sum())
    return odd, max(even, 0.0)
