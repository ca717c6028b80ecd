"""The Jacobian of a network at a point, as an operator that is never formed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, svds
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from rectilinear.checks import tolerance
from rectilinear.errors import ConfigError, NonFiniteError, ShapeError, StructureError
from rectilinear.maps.frozen import Frozen
from rectilinear.maps.partial_network import FromPlace, from_place
from rectilinear.networks.batches import Tokenizer, array_of, as_tensor, check_is_module
from rectilinear.networks.forward_pass import Output
from rectilinear.networks.network import Network, as_network, evaluating
from rectilinear.notebook import short_repr
from rectilinear.operators import SVD, Dense, Operator, to_dense, to_scipy
from rectilinear.random import stream

EXACT = 1e-10  # relative error of f = J x + sum J_b b that is allowed in float64
WRITTEN = 256  # the smaller side of a matrix that is written out rather than iterated on


@dataclass(frozen=True, eq=False)
class Shares:
    """The share of an output that each input entry and each bias contributes; they sum to one.

    For a direction ``u`` of the output, by default ``f`` itself: ``x_i (J^T u)_i / <u, f>`` and
    ``<J_b^T u, b> / <u, f>``.

    Attributes:
        input: of the shape of the point; sum over its last axis for tokens, or over channels for
            pixels.
        biases: by the name of the parameter, or "constant" for numbers in the code.
    """

    input: Tensor
    biases: dict[str, float]

    __repr__ = short_repr

    @property
    def bias(self) -> float:
        """The share of all biases together."""
        return sum(self.biases.values())

    def __str__(self) -> str:
        largest = sorted(self.biases.items(), key=lambda item: -abs(item[1]))[:5]
        lines = [f"input {float(self.input.sum()):.1%}, biases {self.bias:.1%}"]
        return "\n".join([*lines, *(f"  {name} {share:.1%}" for name, share in largest)])


class LocalMap(Operator):
    """The Jacobian ``A_x`` of a model at a point, as an operator with products but no matrix.

    ``f(x + v) = f(x) + A_x v`` to first order; ``value`` is ``f(x)`` and ``constant`` is ``f(x) -
    A_x x``, which vanishes for ReLU networks without biases, where ``f(x) = A_x x``.

    With ``freeze`` it is the map ``J`` of the network with its gates held, for which ``f(x) = J x +
    sum_b J_b b`` exactly: ``constant`` is the contribution of the biases, :meth:`shares` splits it,
    and ``error`` is the measured relative error. For a float64 network that computes its norms in
    float32, as Llama and T5 do, ``value`` is computed in float64 throughout.

    Inputs and outputs are flattened. Made by :func:`local_map`.
    """

    def __init__(self, model: nn.Module, point: Tensor, freeze: bool = False) -> None:
        super().__init__()
        with evaluating(model):
            self._network = as_network(model, point[None])
            self._hold(
                False,
                point=self._network.rows(point[None])[0].detach(),
                value=self._network(point[None])[0],
            )
        self.model, self.freeze = model, freeze
        self.error: float | None = None
        self.in_dim, self.out_dim = self._network.in_dim, self._network.out_dim
        if freeze:
            self._check_exact()

    point: Tensor
    value: Tensor

    def __repr__(self) -> str:
        model, ends = self.model, ""
        if isinstance(model, FromPlace):
            ends = f" from {model.source} to {model.target}"
            model = model.model
        held = "" if self.error is None else f", gates held, f = J x + biases to {self.error:.0e}"
        return f"LocalMap: {self.out_dim} x {self.in_dim}, {type(model).__name__}{ends}{held}"

    @property
    def like(self) -> Tensor:
        return self.point.new_empty(())

    @property
    def constant(self) -> Tensor:
        """``f(x) - A_x x``, ``(O,)``."""
        return self.value - self(self.point.flatten())

    def _matvec(self, z: Tensor) -> Tensor:
        tangents = z.reshape(-1, *self.point.shape)
        points = self.point.expand_as(tangents)
        moved = pushed_forward(self._network, points, tangents, self.freeze)
        return moved.reshape(*z.shape[:-1], self.out_dim)

    def _rmatvec(self, z: Tensor) -> Tensor:
        rows = z.reshape(-1, self.out_dim)
        points = self.point.expand(len(rows), *self.point.shape)
        slopes = pulled_back(self._network, points, rows, self.freeze)
        return slopes.reshape(*z.shape[:-1], self.in_dim)

    def shares(self, direction: Tensor | None = None) -> Shares:
        """The share of the output that each input entry and each bias contributes.

        Args:
            direction: ``u`` ``(out_dim,)`` whose product ``<u, f>`` is shared out; by default ``f``
                itself, whose shares are those of its squared length.

        Raises:
            ConfigError: without ``freeze=True``, where they do not sum to one.
            ShapeError: if the direction is not of the shape of the output.
            NonFiniteError: where ``<u, f>`` is zero.

        Example:
            >>> net = nn.Sequential(nn.Linear(4, 9), nn.GELU(), nn.Linear(9, 2))
            >>> shares = local_map(net, torch.ones(4), freeze=True).shares()
            >>> round(float(shares.input.sum()) + shares.bias, 5), list(shares.biases)
            (1.0, ['0.bias', '2.bias'])
        """
        if not self.freeze:
            raise ConfigError(
                "shares of a Jacobian, which do not sum to one", "local_map(..., freeze=True)"
            )
        u = self.value if direction is None else direction
        if u.shape != self.value.shape:
            raise ShapeError(
                f"a direction of shape {tuple(u.shape)}", f"{tuple(self.value.shape)}, as f has"
            )
        u = u.to(self.value)
        whole = float(u @ self.value)
        if not whole:
            raise NonFiniteError(
                "a direction in which the output is zero",
                "a direction with <u, f> other than zero",
                "Choose another direction.",
            )
        given, biases = self._given(u)
        named: dict[str, float] = {}
        for name, part in biases:
            named[name] = named.get(name, 0.0) + part / whole
        return Shares(given / whole, named)

    def _given(self, u: Tensor) -> tuple[Tensor, list[tuple[str, float]]]:
        """``x_i (J^T u)_i``, and ``<J_b^T u, b>`` for each bias with its name."""
        points, out, frozen = followed(self._network, self.point[None])
        sources = frozen.sources
        inputs = [points, *(source.value for source in sources)]
        slopes = torch.autograd.grad(out, inputs, u[None].to(out), allow_unused=True)
        given, *parts = (
            None if slope is None else (slope * x.detach()).detach()
            for slope, x in zip(slopes, inputs, strict=True)
        )
        named = zip(sources, parts, strict=True)
        biases = [(source.name, float(part.sum())) for source, part in named if part is not None]
        return (torch.zeros_like(points) if given is None else given)[0], biases

    def _check_exact(self) -> None:
        """Raise unless the frozen network has the network's values and is ``J x + sum J_b b``."""
        points, out, frozen = followed(self._network, self.point[None])
        allowed = max(EXACT, tolerance(out.dtype, n=self.in_dim))
        size = float(self.value.norm())
        kept = float((out[0].detach().to(self.value) - self.value).norm())
        single = tolerance(torch.float32, n=self.in_dim)
        if not kept <= (max(allowed, single) if frozen.widened else allowed) * size:
            raise _inexact("another value than that of the network", kept / max(size, 1e-300))
        if frozen.widened:
            self.value = out[0].detach().to(self.value)
        given = _sum_of_parts(out, [points, *(source.value for source in frozen.sources)])
        error = float((given[0].to(self.value) - self.value).norm())
        if not error <= allowed * size:
            raise _inexact("f = J x + sum J_b b violated", error / max(size, 1e-300))
        self.error = error / max(size, 1e-300)

    def svd(self, k: int) -> SVD:
        """The ``k`` leading singular values and vectors, by Lanczos iteration on products.

        Raises:
            NonFiniteError: if the Jacobian is not finite, such as that of a root at zero.
            ConfigError: if ``k`` is not between 1 and ``min(out_dim, in_dim)``.

        Example:
            >>> A = local_map(nn.Linear(5, 3).double(), torch.zeros(5, dtype=torch.float64))
            >>> u, s, v = A.svd(2)
            >>> torch.allclose(A(v(torch.eye(2).double())), u(torch.diag(s)))
            True
        """
        least = min(self.in_dim, self.out_dim)
        if not isinstance(k, int) or not 1 <= k <= least:
            raise ConfigError(
                f"k = {k}", f"a whole number from 1 to {least}, the smaller side of the map"
            )
        whole = self.like.dtype in (torch.float32, torch.float64)  # what SciPy knows
        if whole and least > max(WRITTEN, 2 * k):
            try:
                start = torch.randn(
                    least, generator=stream(0, "Lanczos"), dtype=torch.float64
                ).numpy()
                parts = svds(to_scipy(self), k, v0=start.astype(to_scipy(self).dtype))
                u, s, vh = (torch.from_numpy(part.copy()).to(self.like) for part in parts)
                order = s.argsort(descending=True)
                return SVD(_frame(u[:, order]), s[order], _frame(vh[order].mT))
            except ArpackError:  # no convergence: the matrix after all
                pass
        wide = self.in_dim > self.out_dim
        matrix = to_dense(self.T).mT if wide else to_dense(self)
        if not bool(torch.isfinite(matrix).all()):
            raise NonFiniteError(
                "NaN or infinite derivatives",
                "a finite Jacobian",
                "Choose a point at which the network is differentiable.",
            )
        parts = torch.linalg.svd(matrix if whole else matrix.float(), full_matrices=False)
        u, s, vh = (part.to(self.like) for part in parts)
        return SVD(_frame(u[:, :k]), s[:k], _frame(vh[:k].mT))


def _inexact(what: str, error: float) -> StructureError:
    return StructureError(
        f"{what} with its gates held, a relative error of {error:.1e}",
        "a network of operations that can be followed",
        "Use freeze=False.",
    )


def local_map(
    model: nn.Module,
    x: Any,
    *,
    freeze: bool = False,
    source: str | None = None,
    target: str = "@output",
    tokenizer: Tokenizer | None = None,
    output: Output = None,
) -> LocalMap:
    """The Jacobian of ``model`` at the point ``x``, as an operator that is never formed.

    For piecewise-linear networks without biases ``f(x) = A_x x`` exactly. With ``freeze=True``,
    gates, attention weights and normalisation scales are held at their values at ``x``, so that
    ``f(x) = J x + sum_b J_b b`` exactly, also for transformers, convolutional and recurrent
    networks; this is checked.

    Args:
        model: any module that maps rows to rows; it is used in evaluation mode and not changed.
        x: a point, with or without a batch axis of one; ``(1, d)`` is a batch, and ``(1, h, w)`` an
            image if the model takes it as one.
        freeze: hold what is not linear at its values, in place of differentiating it.
        source: a place inside the network where the map starts, in place of its input; of ids, by
            default the output of their embeddings.
        target: the place that it leads to.
        tokenizer: for ``x`` a text.
        output: which part of the model's output ``"@output"`` is.

    ``x`` may also be one sample in any other form: ids ``(1, t)``, a mapping ``{"input_ids": ...}``
    or one text, perhaps in a list.

    Raises:
        ShapeError: if ``x`` is not one point that the model takes.
        StructureError: with ``freeze``, for an operation without a rule, by its name, and for an
            output that is no such map, such as a softmax.

    Reference: S. Mohan et al., Robust and interpretable blind image denoising via bias-free
    convolutional neural networks, ICLR 2020; J. Golden, Large language models are locally linear
    mappings, TMLR 2025.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 9, bias=False), nn.ReLU(), nn.Linear(9, 2, bias=False))
        >>> x = torch.randn(4)
        >>> A = local_map(net, x)
        >>> torch.allclose(A(x), net(x), atol=1e-6), A.svd(1).s.shape
        (True, torch.Size([1]))
    """
    check_is_module(model)
    inside = (source, tokenizer, output) != (None, None, None) or target != "@output"
    if isinstance(x, str):
        x = [x]
    elif isinstance(array_of(x), np.ndarray):
        x = as_tensor(x, "x")
    if inside or _is_call(x):
        if isinstance(x, Tensor) and x.is_floating_point() and (x.ndim == 1 or len(x) > 1):
            x = x[None]
        rest, point = from_place(model, x, source, target, tokenizer=tokenizer, output=output)
        return LocalMap(rest, point, freeze)
    if not isinstance(x, Tensor) or x.ndim == 0:
        raise ShapeError(f"x of type {type(x).__name__}", "one point", "Pass one row of the data.")
    if x.ndim == 1 or len(x) > 1:
        return LocalMap(model, x, freeze)
    if x.ndim == 2:
        return LocalMap(model, x[0], freeze)
    try:
        return LocalMap(model, x, freeze)
    except ShapeError as error:
        try:
            return LocalMap(model, x[0], freeze)
        except ShapeError as of_row:
            raise (of_row if x.ndim > 3 else error) from None


def _is_call(x: object) -> bool:
    """True for a sample that is not a plain point: token ids, a mapping, a text."""
    ids = isinstance(x, Tensor) and x.ndim > 1 and not x.is_floating_point()
    return ids or isinstance(x, Mapping | list | tuple)


def pulled_back(network: Network, x: Tensor, u: Tensor, freeze: bool = False) -> Tensor:
    """``J(x_i)^T u_i`` for rows, ``(b, D)``."""
    points, out = _differentiable(network, x, freeze)
    if not out.requires_grad:
        return points.detach().flatten(1) * 0
    (slope,) = torch.autograd.grad(out, points, u.to(out), allow_unused=True)
    return torch.zeros_like(points).flatten(1) if slope is None else slope.flatten(1)


def pushed_forward(network: Network, x: Tensor, v: Tensor, freeze: bool = False) -> Tensor:
    """``J(x_i) v_i`` for rows, ``(b, O)``, as the derivative of ``J^T u`` with respect to ``u``.

    Forward-mode differentiation would need one pass but loads torch's compiler first, which takes
    seconds.
    """
    points, out = _differentiable(network, x, freeze)
    if not out.requires_grad:
        return torch.zeros_like(out)
    u = torch.zeros_like(out, requires_grad=True)
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(out, points, u, create_graph=True, allow_unused=True)
    if slope is None or not slope.requires_grad:
        return torch.zeros_like(out).detach()
    (moved,) = torch.autograd.grad(slope, u, v.to(slope).reshape(slope.shape), allow_unused=True)
    return torch.zeros_like(out).detach() if moved is None else moved


def _sum_of_parts(out: Tensor, inputs: list[Tensor]) -> Tensor:
    """``J x + sum_b J_b b``, as the slope of ``<J^T u, x> + ...`` in ``u``."""
    with torch.enable_grad():
        u = torch.zeros_like(out, requires_grad=True)
        slopes = torch.autograd.grad(out, inputs, u, create_graph=True, allow_unused=True)
        pairs = [(g, x) for g, x in zip(slopes, inputs, strict=True) if g is not None]
        total = torch.stack([(g * x.detach()).sum().to(out) for g, x in pairs]).sum()
        return torch.autograd.grad(total, u)[0]


def followed(network: Network, x: Tensor) -> tuple[Tensor, Tensor, Frozen]:
    """Rows that require gradients, the frozen output ``(b, O)``, and the mode with its biases.

    Raises:
        StructureError: for an operation without a rule, and for an output that is held.
    """
    points = network.rows(x).detach().clone().requires_grad_()
    model = network.model
    named = model.model if isinstance(model, FromPlace) else model
    with differentiating(model), Frozen(named) as frozen:
        out = frozen.linear_output(network.raw(frozen.leaf(points)))
    return points, out, frozen


def _differentiable(network: Network, x: Tensor, freeze: bool) -> tuple[Tensor, Tensor]:
    """Rows that require gradients, and the output."""
    if freeze:
        return followed(network, x)[:2]
    points = network.rows(x).detach().clone().requires_grad_()
    with differentiating(network.model):
        return points, network.raw(points)


@contextmanager
def differentiating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode with gradients, and attention that can be differentiated forwards."""
    with evaluating(model), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        yield


def _frame(columns: Tensor) -> Operator:
    return Dense(weight=columns.contiguous(), trainable=False)
