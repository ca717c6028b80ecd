"""Networks that are linear between two induced spaces, and the linear algebra of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar, final

import torch
from torch import Tensor

from rectilinear.checks import check_floating, is_factor, is_zero, real_number
from rectilinear.errors import DtypeError, ShapeError, SingularOperatorError, SpaceMismatchError
from rectilinear.induced_space import InducedSpace, Point
from rectilinear.invertible import Identity, Invertible
from rectilinear.modules import SameAs, other
from rectilinear.notebook import facts, short_repr, singular_values
from rectilinear.operators import (
    Operator,
    cond,
    eig,
    expm,
    logdet,
    logm,
    norm,
    pinv,
    power,
    project_null,
    project_range,
    rank,
    solve,
    svd,
    truncate,
)
from rectilinear.serialization import Configured

__all__ = ["Linearizer", "LinearizerEig", "LinearizerSVD", "backproject", "project"]

T = TypeVar("T", Tensor, Point)


@final
class Linearizer(Configured):
    """The network ``f = g_out^-1 . A . g_in``, linear between the induced spaces of its networks.

    ``f`` maps arrays ``(b, *g_in.shape)`` to ``(b, *g_out.shape)``, and vectors
    :class:`~rectilinear.Point` of its ``in_space`` to vectors of its ``out_space``. Without
    ``g_out`` both spaces are that of ``g_in``.

    Python's operators build new Linearizers that share their networks: ``f2 @ f1``, ``f + g``,
    ``f - g``, ``a * f``, ``f / a``, ``-f``, ``f ** p`` with real ``p``, and the adjoint ``f.T``.
    The verbs of operators (``rl.svd``, ``rl.pinv``, ``rl.expm``, ...) mean the same for a
    Linearizer, in the induced inner products.

    Args:
        g_in: the network of the inputs.
        operator: ``A``, from ``g_in.dim`` to ``g_out.dim`` dimensions.
        g_out: the network of the outputs.

    Raises:
        ShapeError: if the dimensions don't match.
        SpaceMismatchError: when Linearizers are combined whose networks are not the same objects.

    Reference: Berman et al., "Who Said Neural Networks Aren't Linear?", arXiv 2510.08570.

    Example:
        >>> import rectilinear as rl
        >>> g = rl.invertible.VectorFlow(dim=4, blocks=2, width=8)
        >>> f = rl.Linearizer(g, rl.operators.Dense(4, 4))
        >>> (f @ f)(torch.randn(3, 4)).shape
        torch.Size([3, 4])
    """

    __array_ufunc__ = None  # numpy leaves 0.5 * f to f
    g_out = SameAs["Invertible"]("g_in")

    def __init__(
        self, g_in: Invertible, operator: Operator, g_out: Invertible | None = None
    ) -> None:
        super().__init__()
        if not isinstance(operator, Operator):
            raise DtypeError(
                f"an operator of type {type(operator).__name__}",
                "an Operator",
                "Wrap a matrix in operators.Dense.",
            )
        self.g_in, self.operator, self.g_out = g_in, operator, other(g_in, g_out)
        for space, dim, name in (
            (self.in_space, operator.in_dim, "g_in"),
            (self.out_space, operator.out_dim, "g_out"),
        ):
            if space.dim != dim:
                raise ShapeError(
                    got=f"{name} of {space.dim} dimensions",
                    expected=f"{dim}, as the {operator.out_dim} x {operator.in_dim} operator has",
                    fix="Change the network or the operator.",
                )

    @property
    def in_space(self) -> InducedSpace:
        return InducedSpace(self.g_in)

    @property
    def out_space(self) -> InducedSpace:
        return InducedSpace(self.g_out)

    def forward(self, x: T) -> T:
        """``g_out^-1(A g_in(x))``: one encoding, one decoding, whatever ``f`` was composed of."""
        return between(self.in_space, self.operator, self.out_space, x)

    def log_prob(self, x: Tensor, log_prior: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Log-density at ``x`` of ``f(x0)`` for ``x0`` from ``exp(log_prior)`` or ``N(0, I)``.

        ``log p(x) = log_prior(x0) + log|det dg_out(x)| - log|det A| - log|det dg_in(x0)|`` with
        ``x0 = g_in^-1(A^-1 g_out(x))``; shape ``(b,)``.

        Raises:
            SingularOperatorError: if ``A`` has no inverse.
        """
        volume = _log_volume(self.operator)
        y, logdet_out = self.g_out.forward_and_logdet(x)
        x0 = self.in_space.decode(solve(self.operator, y.flatten(1)))
        logdet_in = self.g_in.forward_and_logdet(x0)[1]
        return (log_prior or _log_normal)(x0) + logdet_out - volume - logdet_in

    @property
    def T(self) -> Linearizer:  # noqa: N802 - the field's name
        """The adjoint ``g_in^-1 . A^T . g_out``, with ``<f(x), y> = <x, f.T(y)>``."""
        return Linearizer(self.g_out, self.operator.T, self.g_in)

    @property
    def H(self) -> Linearizer:  # noqa: N802 - the field's name
        """The adjoint, as ``T``."""
        return self.T

    def __matmul__(self, other: Linearizer) -> Linearizer:
        if not isinstance(other, Linearizer):
            return NotImplemented
        if self.g_in is not other.g_out:
            raise SpaceMismatchError(
                got=(
                    "f2 @ f1 where the input network of f2 is another object than the output "
                    "network of f1"
                ),
                expected=(
                    "the same network object in the middle: equal weights in a copy are not enough"
                ),
                fix="Build both Linearizers with the one network, f1 as g_out and f2 as g_in.",
            )
        return Linearizer(other.g_in, self.operator @ other.operator, self.g_out)

    def __add__(self, other: Linearizer) -> Linearizer:
        return (
            self._with(self.operator + self._parallel(other))
            if isinstance(other, Linearizer)
            else NotImplemented
        )

    def __radd__(self, other: object) -> Linearizer:
        return self if is_zero(other) else NotImplemented  # so that sum(linearizers) works

    def __sub__(self, other: Linearizer) -> Linearizer:
        return (
            self._with(self.operator - self._parallel(other))
            if isinstance(other, Linearizer)
            else NotImplemented
        )

    def __mul__(self, factor: float | Tensor) -> Linearizer:
        return self._with(self.operator * factor) if is_factor(factor) else NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, divisor: float | Tensor) -> Linearizer:
        return self._with(self.operator / divisor) if is_factor(divisor) else NotImplemented

    def __neg__(self) -> Linearizer:
        return self._with(-self.operator)

    def __pow__(self, exponent: float | Tensor) -> Linearizer:
        p = real_number(exponent, "an exponent")
        return NotImplemented if p is None else self._with(power(endomorphism(self, "a power"), p))

    def _with(self, operator: Operator) -> Linearizer:
        return Linearizer(self.g_in, operator, self.g_out)

    def _parallel(self, other: Linearizer) -> Operator:
        if self.g_in is not other.g_in or self.g_out is not other.g_out:
            raise SpaceMismatchError(
                got="a sum of Linearizers between different spaces",
                expected="the same network objects on both sides",
                fix="Build both Linearizers with the same g_in and g_out.",
            )
        return other.operator

    def _repr_html_(self) -> str:
        """The view in a notebook: spaces, operator and networks."""
        named = {
            "spaces": self.extra_repr(),
            "operator": repr(self.operator),
            "networks": " and ".join({type(g).__name__: 0 for g in (self.g_in, self.g_out)}),
            "parameters": f"{sum(p.numel() for p in self.parameters()):,}",
        }
        return facts("Linearizer", named)

    def extra_repr(self) -> str:
        return f"{self.in_space.dim} -> {self.out_space.dim}" + (
            ", one space" if self.g_in is self.g_out else ""
        )


def endomorphism(f: Linearizer, verb: str) -> Operator:
    """The operator of ``f``, if ``f`` maps a space to itself."""
    if f.g_in is not f.g_out:
        raise SpaceMismatchError(
            got=f"{verb} of a Linearizer between two spaces",
            expected="one network object on both sides",
            fix="Leave out g_out, or take f.T @ f.",
        )
    return f.operator


def between(start: InducedSpace, apply: Callable[[Tensor], Tensor], end: InducedSpace, x: T) -> T:
    """``end.decode(apply(start.encode(x)))`` for arrays; points need no networks."""
    if isinstance(x, Point):
        if x.space != start:
            raise SpaceMismatchError(
                f"a vector of {x.space}", f"one of {start}", "Make it with the space of this map."
            )
        return Point(end, apply(x.latent))
    return end.decode(apply(start.encode(x)))


def _log_volume(operator: Operator) -> Tensor:
    if operator.is_square and bool(torch.isfinite(volume := logdet(operator)).all()):
        return volume
    raise SingularOperatorError(
        got=(
            f"a density through a {operator.out_dim} x {operator.in_dim} operator without an "
            "inverse"
        ),
        expected="an invertible operator: others have no density on the whole space",
        fix="Use operators of full rank.",
    )


def _log_normal(x: Tensor) -> Tensor:
    return torch.distributions.Normal(0.0, 1.0).log_prob(x).flatten(1).sum(1)


class LinearizerSVD(NamedTuple):
    """``f = u . diag(s) . v^*``: isometries ``u``, ``v`` from ``R^k``, ``s`` descending.

    The singular points ``u~_i = g_out^-1(u_i)`` and ``v~_i = g_in^-1(v_i)`` are orthonormal in the
    induced inner products, and ``f(v~_i) = s_i (.) u~_i``.
    """

    u: Linearizer
    s: Tensor
    v: Linearizer

    def __repr__(self) -> str:
        return short_repr(self)

    def _repr_html_(self) -> str:
        """The view in a notebook: the singular values."""
        shape = f"{self.u.out_space.dim} x {self.v.out_space.dim}"
        return singular_values(f"SVD of a {shape} Linearizer", self.s.detach().tolist())

    def left_points(self, k: int | None = None) -> Tensor:
        """The first ``k`` left singular points, ``(k, *g_out.shape)``; all without ``k``."""
        return self.u(self._axes(k))

    def right_points(self, k: int | None = None) -> Tensor:
        """The first ``k`` right singular points, ``(k, *g_in.shape)``; all without ``k``."""
        return self.v(self._axes(k))

    def _axes(self, k: int | None) -> Tensor:
        n = self.s.shape[-1]
        return torch.eye(n if k is None else min(k, n), n, dtype=self.s.dtype, device=self.s.device)


@svd.register(Linearizer)
def _svd(f: Linearizer) -> LinearizerSVD:
    u, s, v = svd(f.operator)
    axes = Identity((s.shape[-1],))
    return LinearizerSVD(Linearizer(axes, u, f.g_out), s, Linearizer(axes, v, f.g_in))


@truncate.register(Linearizer)
def _truncate(f: Linearizer, k: int) -> Linearizer:
    return f._with(truncate(f.operator, k))


class LinearizerEig(NamedTuple):
    """Complex ``values`` ``(n,)``, largest first; ``vectors`` in coordinates of the space."""

    values: Tensor
    vectors: Operator
    space: InducedSpace

    def __repr__(self) -> str:
        return short_repr(self)

    def points(self, k: int | None = None) -> tuple[Tensor, Tensor]:
        """Real and imaginary parts of the first ``k`` eigenvectors, each decoded, ``(k, *shape)``.

        With ``values[i] = a + b i``, ``f`` maps the real point ``p`` to ``a (.) p (-) b (.) q`` and
        the imaginary point ``q`` to ``b (.) p (+) a (.) q``; ``q`` is the zero vector where the
        eigenvalue is real.
        """
        n = self.values.shape[-1]
        axes = torch.eye(
            n if k is None else min(k, n), n, dtype=self.values.dtype, device=self.values.device
        )
        vectors = self.vectors(axes)
        return self.space.decode(vectors.real), self.space.decode(vectors.imag)


@eig.register(Linearizer)
def _eig(f: Linearizer) -> LinearizerEig:
    return LinearizerEig(*eig(endomorphism(f, "eigenvalues")), f.in_space)


@pinv.register(Linearizer)
def _pinv(f: Linearizer, rtol: float | None = None) -> Linearizer:
    return Linearizer(f.g_out, pinv(f.operator, rtol=rtol), f.g_in)


@solve.register(Linearizer)
def _solve(f: Linearizer, y: T, damping: float = 0.0) -> T:
    """The point ``x`` of least ``|f(x) (-) y|^2 + damping |x|^2``, the shortest of several."""
    return between(f.out_space, lambda z: solve(f.operator, z, damping=damping), f.in_space, y)


@power.register(Linearizer)
def _power(f: Linearizer, p: float) -> Linearizer:
    return f**p


@expm.register(Linearizer)
def _expm(f: Linearizer, t: float | Tensor = 1.0) -> Linearizer:
    return Linearizer(f.g_in, expm(endomorphism(f, "the exponential"), t))


@logm.register(Linearizer)
def _logm(f: Linearizer) -> Linearizer:
    return Linearizer(f.g_in, logm(endomorphism(f, "the logarithm")))


@rank.register(Linearizer)
def _rank(f: Linearizer, rtol: float | None = None) -> Tensor:
    return rank(f.operator, rtol)


@cond.register(Linearizer)
def _cond(f: Linearizer) -> Tensor:
    return cond(f.operator)


@norm.register(Linearizer)
def _norm(f: Linearizer, kind: str = "spectral") -> Tensor:
    """The spectral norm is the Lipschitz constant of ``f`` between its spaces."""
    return norm(f.operator, kind)


@logdet.register(Linearizer)
def _logdet(f: Linearizer) -> Tensor:
    """Log of the factor by which ``f`` changes volumes between its spaces."""
    return logdet(f.operator)


@project_range.register(Linearizer)
def _project_range(f: Linearizer, rtol: float | None = None) -> Linearizer:
    return Linearizer(f.g_out, project_range(f.operator, rtol))


@project_null.register(Linearizer)
def _project_null(f: Linearizer, rtol: float | None = None) -> Linearizer:
    return Linearizer(f.g_in, project_null(f.operator, rtol))


def project(f: Operator | Linearizer, y: T, rtol: float | None = None) -> T:
    """The point of the range of an operator or Linearizer nearest to ``y``: ``f(f^+(y))``.

    Singular values below ``rtol`` times the largest count as zero.

    Example:
        >>> import torch, rectilinear as rl
        >>> A = rl.operators.Diagonal(torch.tensor([2.0, 0.0]))
        >>> project(A, torch.tensor([3.0, 4.0])).tolist()
        [3.0, 0.0]
    """
    return project_range(f, rtol)(y)


def backproject(f: Linearizer, x: Tensor, y: Tensor, rtol: float | None = None) -> Tensor:
    """The points ``x'`` nearest to ``x`` in the space of the inputs among those with ``f(x') = y``.

    ``g_in(x') = g_in(x) + A^+ (g_out(y) - A g_in(x))``: the part of ``x`` in the null space of
    ``f`` stays, the other becomes that of ``y``. It is exact for every ``y`` in the range of ``f``;
    for others ``f(x')`` is the point of the range nearest to ``y`` in the space of the outputs. For
    a truncated ``f``, such as a projector, it puts what was measured into an image and keeps the
    rest.

    Args:
        f: of any rank, such as ``rl.truncate(f, k)``.
        x: ``(b, *f.g_in.shape)``.
        y: ``(b, *f.g_out.shape)``.
        rtol: singular values below this share of the largest count as zero, see ``rl.pinv``.

    Raises:
        ShapeError: if ``x`` and ``y`` are not as many.

    Example:
        >>> import torch, rectilinear as rl
        >>> g = rl.invertible.VectorFlow(dim=3, blocks=2, width=8)
        >>> f = Linearizer(g, rl.operators.Diagonal(torch.tensor([1.0, 2.0, 0.0])))
        >>> x, y = torch.randn(5, 3), f(torch.randn(5, 3))
        >>> torch.allclose(f(backproject(f, x, y)), y, atol=1e-5)
        True
    """
    check_floating(x, "x")
    check_floating(y, "y")
    if len(x) != len(y):
        raise ShapeError(f"{len(x)} points and {len(y)} images", "pairs", "Pass as many of each.")
    z, w = f.in_space.encode(x), f.out_space.encode(y)
    return f.in_space.decode(z + pinv(f.operator, rtol)(w - f.operator(z)))
