"""Other ways to do without a span of blocks, on the activations that the library's own fold uses.

ReplaceMe (Shopkhoev et al., NeurIPS 2025) replaces a span by one matrix behind the MLP in front of
it, by least squares or by gradient descent on the cosine distance. It knows pre-norm networks only;
for a post-norm one the target is what the library fits, too. The tuned lens (Belrose et al., 2023)
trains an affine map of the residual stream, which begins as the identity, by gradient descent.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rectilinear.maps.fold_fit import Gathered, _before, _spread
from rectilinear.maps.fold_target import weight_of

if TYPE_CHECKING:
    from collections.abc import Callable


def deletion(layer: nn.Module, *_: object) -> tuple[Tensor, Tensor | None]:
    """The layer as it is."""
    return weight_of(layer), _bias(layer)


def replaceme(
    layer: nn.Module, norm: nn.Module | None, seen: Gathered, _: float
) -> tuple[Tensor, Tensor | None]:
    """``T`` of least squares for ``stream + T M ~ target``."""
    made, stream, target = _parts(layer, norm, seen)
    T = torch.linalg.lstsq(made, target - stream).solution.mT
    return _behind(layer, T)


def replaceme_cosine(
    layer: nn.Module, norm: nn.Module | None, seen: Gathered, seconds: float
) -> tuple[Tensor, Tensor | None]:
    """``T`` by Adam on the cosine distance of ``stream + T M`` and the target."""
    made, stream, target = (part.float() for part in _parts(layer, norm, seen))

    def loss(T: Tensor, rows: Tensor) -> Tensor:
        found = stream[rows] + made[rows] @ T.mT
        return 1 - torch.cosine_similarity(found, target[rows], dim=1).mean()

    return _behind(layer, _trained(torch.eye(made.shape[1]), loss, len(made), seconds).double())


def tuned_lens(inside: Tensor, target: Tensor, seconds: float) -> tuple[Tensor, Tensor]:
    """An affine map of the stream, from the identity on, by Adam on the squared distance."""
    x, y = inside.float(), target.float()
    start = torch.cat([torch.eye(x.shape[1]), torch.zeros(1, x.shape[1])])

    def loss(both: Tensor, rows: Tensor) -> Tensor:
        return (x[rows] @ both[:-1] + both[-1] - y[rows]).square().sum(1).mean()

    found = _trained(start, loss, len(x), seconds)
    return found[:-1].mT, found[-1]


def _trained(
    start: Tensor, loss: Callable[[Tensor, Tensor], Tensor], n: int, seconds: float
) -> Tensor:
    """The result of so many seconds of Adam with a rate that falls to zero, 256 rows a step."""
    weight = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([weight], 1e-3)
    random = torch.Generator().manual_seed(0)
    begun = time.process_time()
    while (share := (time.process_time() - begun) / seconds) < 1:
        optimiser.param_groups[0]["lr"] = 1e-3 * (1 - share)
        optimiser.zero_grad()
        loss(weight, torch.randint(n, (256,), generator=random)).backward()
        optimiser.step()
    return weight.detach()


def _parts(
    layer: nn.Module, norm: nn.Module | None, seen: Gathered
) -> tuple[Tensor, Tensor, Tensor]:
    """The layer's output, what it is added to, and the sum that is wanted."""
    bias = _bias(layer)
    made = seen.inside.double() @ weight_of(layer).mT + (0 if bias is None else bias)
    stream, target = seen.stream.double(), seen.target.double()
    if norm is not None:
        target = _before(norm, target) * _spread(stream + made)
    return made, stream, target


def _behind(layer: nn.Module, T: Tensor) -> tuple[Tensor, Tensor | None]:
    bias = _bias(layer)
    return T @ weight_of(layer), None if bias is None else T @ bias


def _bias(layer: nn.Module) -> Tensor | None:
    return layer.bias.detach().double() if isinstance(layer.bias, Tensor) else None
