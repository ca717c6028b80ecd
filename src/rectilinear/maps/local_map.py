"""The linear map that a network is at a point, without writing it out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from scipy.sparse.linalg import ArpackError, svds
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from rectilinear.errors import ConfigError, NonFiniteError, ShapeError
from rectilinear.networks.calls import Network, as_network, evaluating
from rectilinear.operators import SVD, Dense, Operator, to_dense, to_scipy
from rectilinear.random import stream

WRITTEN = 256  # the smaller side of a matrix that is written out rather than iterated on


class LocalMap(Operator):
    """The Jacobian ``A_x`` of a model at a point, as an operator.

    It gives products with the Jacobian and its transpose, and never forms the matrix.

    ``f(x + v) = f(x) + A_x v`` to first order; ``value`` is ``f(x)`` and ``constant`` is ``f(x) -
    A_x x``, which vanishes for networks without biases made of ReLU, where ``f(x) = A_x x``.

    Inputs and outputs are flattened. Make one with :func:`local_map`.
    """

    def __init__(self, model: nn.Module, point: Tensor) -> None:
        super().__init__()
        with evaluating(model):
            self._network = as_network(model, point[None])
            self._hold(
                False,
                point=self._network.rows(point[None])[0].detach(),
                value=self._network(point[None])[0],
            )
        self.model = model
        self.in_dim, self.out_dim = self._network.in_dim, self._network.out_dim

    point: Tensor
    value: Tensor

    @property
    def like(self) -> Tensor:
        return self.point.new_empty(())

    @property
    def constant(self) -> Tensor:
        """``f(x) - A_x x``, ``(O,)``."""
        return self.value - self(self.point.flatten())

    def _matvec(self, z: Tensor) -> Tensor:
        tangents = z.reshape(-1, *self.point.shape)
        return pushed_forward(self._network, self.point.expand_as(tangents), tangents).reshape(
            *z.shape[:-1], self.out_dim
        )

    def _rmatvec(self, z: Tensor) -> Tensor:
        rows = z.reshape(-1, self.out_dim)
        points = self.point.expand(len(rows), *self.point.shape)
        return pulled_back(self._network, points, rows).reshape(*z.shape[:-1], self.in_dim)

    def svd(self, k: int) -> SVD:
        """The ``k`` leading singular values and vectors, by Lanczos iteration on products with the
        map.

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
                "Move the point off the singularity.",
            )
        parts = torch.linalg.svd(matrix if whole else matrix.float(), full_matrices=False)
        u, s, vh = (part.to(self.like) for part in parts)
        return SVD(_frame(u[:, :k]), s[:k], _frame(vh[:k].mT))


def local_map(model: nn.Module, x: Tensor) -> LocalMap:
    """The Jacobian of ``model`` at the point ``x``, as an operator that is never written out.

    For piecewise-linear networks without biases ``f(x) = A_x x`` exactly.

    Args:
        model: any module that maps rows to rows; it is used in evaluation mode and not changed.
        x: a point, with or without a batch axis of one; ``(1, d)`` is a batch, and ``(1, h, w)`` an
            image if the model takes it as one.

    Raises:
        ShapeError: if ``x`` is not one point that the model takes.

    Reference: S. Mohan et al., Robust and interpretable blind image denoising via bias-free
    convolutional neural networks, ICLR 2020.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 9, bias=False), nn.ReLU(), nn.Linear(9, 2, bias=False))
        >>> x = torch.randn(4)
        >>> A = local_map(net, x)
        >>> torch.allclose(A(x), net(x), atol=1e-6), A.svd(1).s.shape
        (True, torch.Size([1]))
    """
    if not isinstance(x, Tensor) or x.ndim == 0:
        raise ShapeError(f"x of type {type(x).__name__}", "one point", "Pass one row of the data.")
    if x.ndim == 1 or len(x) > 1:
        return LocalMap(model, x)
    if x.ndim == 2:
        return LocalMap(model, x[0])
    try:
        return LocalMap(model, x)
    except ShapeError as error:
        try:
            return LocalMap(model, x[0])
        except ShapeError:
            raise error from None


def pulled_back(network: Network, x: Tensor, u: Tensor) -> Tensor:
    """``J(x_i)^T u_i`` for rows, ``(b, D)``."""
    points = network.rows(x).detach().clone().requires_grad_()
    with differentiating(network.model):
        out = network.raw(points)
        if not out.requires_grad:
            return points.detach().flatten(1) * 0
        (slope,) = torch.autograd.grad(out, points, u.to(out), allow_unused=True)
    return torch.zeros_like(points).flatten(1) if slope is None else slope.flatten(1)


def pushed_forward(network: Network, x: Tensor, v: Tensor) -> Tensor:
    """``J(x_i) v_i`` for rows, ``(b, O)``: ``J^T u`` is linear in ``u``, and its derivative there
    is ``J``.

    Forward differentiation would do it in one pass, but loads torch's compiler first, for seconds.
    """
    points = network.rows(x).detach().clone().requires_grad_()
    with differentiating(network.model):
        out = network.raw(points)
        if not out.requires_grad:
            return torch.zeros_like(out)
        u = torch.zeros_like(out, requires_grad=True)
        (slope,) = torch.autograd.grad(out, points, u, create_graph=True, allow_unused=True)
        if slope is None or not slope.requires_grad:
            return torch.zeros_like(out).detach()
        (moved,) = torch.autograd.grad(
            slope, u, v.to(slope).reshape(slope.shape), allow_unused=True
        )
    return torch.zeros_like(out).detach() if moved is None else moved


@contextmanager
def differentiating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, with gradients and with attention by the formula that can be differentiated
    forwards.
    """
    with evaluating(model), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        yield


def _frame(columns: Tensor) -> Operator:
    return Dense(weight=columns.contiguous(), trainable=False)
