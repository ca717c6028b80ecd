"""Streamed least squares from an orthogonal factor, and eigenvalues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rectilinear.errors import InputError
from rectilinear.scalars import EPS
from rectilinear.scalars import rank_tolerance as rank_tolerance
from rectilinear.scalars import wilson_interval as wilson_interval

RIDGES = (0.0, 1e-6, 1e-4, 1e-2, 1e-1)  # times the mean variance of the scaled columns
FREE = 1e-6  # degrees of freedom left: fewer are rounding
LEVERAGE_GAP = 1e-6  # a row whose leverage is this near to one is the only one in its direction
CHUNK_ROWS = 4096  # rows that are reduced at once, at least; as many as columns if these are more
SCALE_STEP = 20  # binary orders of magnitude between the scales of columns
MIN_TARGET = 1e-150  # size of targets: smaller squares vanish


def eig(m: Tensor) -> tuple[Tensor, Tensor]:
    """Complex eigenvalues ``(..., n)`` and eigenvectors, in columns, of matrices ``(..., n, n)``.

    They are those of a row-major copy: on CUDA, PyTorch 2.11 overwrites an argument that is stored
    column by column.

    Example:
        >>> values, vectors = eig(torch.diag(torch.tensor([1.0, 2.0])).T)
        >>> values.real.tolist()
        [1.0, 2.0]
    """
    values, vectors = torch.linalg.eig(m.clone(memory_format=torch.contiguous_format))
    return values, vectors


def eigvals(m: Tensor) -> Tensor:
    """Complex eigenvalues ``(..., n)`` of matrices ``(..., n, n)``; of a copy, see :func:`eig`."""
    return torch.linalg.eigvals(m.clone(memory_format=torch.contiguous_format))


def lstsq(a: Tensor, b: Tensor) -> Tensor:
    """The solution ``(..., n, k)`` of least norm of ``min |a x - b|``, the same in every process.

    ``a`` is ``(..., m, n)``, of any rank, and ``b`` ``(..., m, k)``. PyTorch's default driver
    (gelsy) reads pivots from memory that it has not set, so its last digits, and the rank that it
    finds, change from one process to the next; this one (gelsd) does not. CUDA has neither: there
    ``a`` must have full column rank.

    Example:
        >>> a = torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
        >>> lstsq(a, torch.tensor([[2.0], [2.0], [5.0]], dtype=torch.float64)).numpy().round(12)
        array([[1.],
               [1.]])
    """
    driver = "gels" if a.is_cuda else "gelsd"
    solution: Tensor = torch.linalg.lstsq(a, b, driver=driver).solution
    return solution


class Moments:
    """First and second moments of rows ``(b, D)`` and targets ``(b, T)``, in float64, in one pass.

    Kept are the means, the triangular factor ``R`` of the centred rows, ``R'R = sum (x - m)(x -
    m)'``, the targets in its basis, ``Q't``, and the sums of squares of the targets outside of it.
    The Gram matrix is never formed: its condition number is the square of that of ``R``.

    Args:
        computed: whether the rows are results of arithmetic in their dtype, as hidden features are,
            and carry its rounding errors: in half precision these would else be fitted, too.

    Reference: Golub and Van Loan, "Matrix Computations", 2013, sections 5.3 and 6.5.

    Example:
        >>> x = torch.randn(50, 3)
        >>> moments = Moments()
        >>> for rows in x.split(20): moments.add(rows, rows @ torch.ones(3, 2))
        >>> fit = moments.fit()
        >>> torch.allclose(fit.predict(x), x.double().sum(1, keepdim=True).expand(-1, 2), atol=1e-5)
        True
    """

    def __init__(self, computed: bool = False) -> None:
        self.computed = computed
        self._rows = 0
        self._pending: list[tuple[Tensor, Tensor]] = []
        self._waiting = 0

    @property
    def n(self) -> int:
        """The number of rows that were added."""
        return self._rows + self._waiting

    def add(self, x: Tensor, t: Tensor) -> None:
        """Take in rows and their targets."""
        if not len(x):
            return
        if not self.n:
            self._begin(x, t)
        at_once = max(CHUNK_ROWS, x.shape[1])
        for rows, targets in zip(x.split(at_once), t.split(at_once), strict=True):
            self._pending.append((rows.double(), targets.double()))
            self._waiting += len(rows)
            if self._waiting >= at_once:
                self._reduce()

    def _begin(self, x: Tensor, t: Tensor) -> None:
        # Half precision is summed in float32 at least: what it stores is exact, what is below
        # float32 is not known.
        eps, single = torch.finfo(x.dtype).eps, torch.finfo(torch.float32).eps
        self.resolution = eps / 4 if self.computed and eps > single else min(eps, single)
        x, t = x.double(), t.double()
        self.mean_x, self.mean_t = x.mean(0), t.mean(0)
        self.factor, self.projected = x.new_zeros(0, x.shape[1]), t.new_zeros(0, t.shape[1])
        self.outside = t.new_zeros(t.shape[1])

    def _reduce(self) -> None:
        """Fold the waiting rows into the factor."""
        if not self._waiting:
            return
        x, t = (torch.cat(parts) for parts in zip(*self._pending, strict=True))
        m, n = len(x), self._rows
        shift_x, shift_t = (x - self.mean_x).mean(0), (t - self.mean_t).mean(0)
        between = (n * m / (n + m)) ** 0.5
        x, t = x - (self.mean_x + shift_x), t - (self.mean_t + shift_t)
        if n:
            x, t = torch.cat([x, between * shift_x[None]]), torch.cat([t, between * shift_t[None]])
        self.mean_x = self.mean_x + m / (n + m) * shift_x
        self.mean_t = self.mean_t + m / (n + m) * shift_t
        stacked = torch.cat([self.factor, x]), torch.cat([self.projected, t])
        self.factor, self.projected, left = _triangle(*stacked)
        self.outside = self.outside + left
        self._rows, self._pending, self._waiting = n + m, [], 0

    def joined(self, other: Moments) -> Moments:
        """The moments of the rows of both, as if they had been added to one.

        Example:
            >>> x, parts = torch.randn(50, 3).double(), (Moments(), Moments())
            >>> for part, rows in zip(parts, x.split(20), strict=False): part.add(rows, rows[:, :1])
            >>> parts[0].joined(parts[1]).n
            40
        """
        if not self.n or not other.n:
            return self if self.n else other
        for part in (self, other):
            part._reduce()
        both, n, m = Moments(self.computed), self._rows, other._rows
        both.resolution, both._rows = max(self.resolution, other.resolution), n + m
        shift_x, shift_t = other.mean_x - self.mean_x, other.mean_t - self.mean_t
        between = (n * m / (n + m)) ** 0.5
        rows = (
            torch.cat([self.factor, other.factor, between * shift_x[None]]),
            torch.cat([self.projected, other.projected, between * shift_t[None]]),
        )
        both.factor, both.projected, left = _triangle(*rows)
        both.outside = self.outside + other.outside + left
        both.mean_x = self.mean_x + m / (n + m) * shift_x
        both.mean_t = self.mean_t + m / (n + m) * shift_t
        return both

    def leading(self, columns: int, targets: int) -> Moments:
        """The moments of the first so many columns and targets: a leading block of the factor.

        Example:
            >>> x, moments = torch.randn(50, 3).double(), Moments()
            >>> moments.add(x, x)
            >>> moments.leading(2, 1).fit().matrix.round(decimals=9).abs().tolist()
            [[1.0, 0.0]]
        """
        self._reduce()
        part = Moments(self.computed)
        part.resolution, part._rows = self.resolution, self._rows
        part.mean_x, part.mean_t = self.mean_x[:columns], self.mean_t[:targets]
        part.factor = self.factor[:columns, :columns]
        part.projected = self.projected[:columns, :targets]
        rest = self.projected[columns:, :targets].square().sum(0)
        part.outside = self.outside[:targets] + rest
        return part

    def changed(self, columns: Tensor, less: Tensor) -> Moments:
        """The moments of rows ``x B`` with targets ``t - x C``, from the factor of ``x`` alone.

        Example:
            >>> x, moments = torch.randn(50, 3).double(), Moments()
            >>> moments.add(x, x[:, :1])
            >>> part = moments.changed(torch.eye(3)[:, 1:].double(), torch.eye(3)[:, :1].double())
            >>> bool(part.fit().total < 1e-20), len(part.mean_x)
            (True, 2)
        """
        self._reduce()
        part = Moments(self.computed)
        part.resolution, part._rows = self.resolution, self._rows
        part.mean_x, part.mean_t = self.mean_x @ columns, self.mean_t - self.mean_x @ less
        rows = self.factor @ columns, self.projected - self.factor @ less
        part.factor, part.projected, left = _triangle(*rows)
        part.outside = self.outside + left
        return part

    def left_by(self, matrix: Tensor, constant: Tensor) -> tuple[Tensor, Tensor]:
        """Sums of squares that ``A x + b`` leaves of the targets, and of these centred, ``(T,)``.

        Example:
            >>> x, moments = torch.randn(50, 3).double(), Moments()
            >>> moments.add(x, x[:, :1] + 1)
            >>> moments.left_by(torch.zeros(1, 3), torch.ones(1))[0] > 0
            tensor([True])
        """
        self._reduce()
        matrix, constant = matrix.to(self.factor), constant.to(self.factor)
        apart = self.mean_t - matrix @ self.mean_x - constant
        inside = (self.projected - self.factor @ matrix.mT).square().sum(0)
        left = inside + self.outside + self._rows * apart.square()
        return left, self.projected.square().sum(0) + self.outside

    def fit(self, columns: slice = slice(None), centred: bool = True) -> Fit:
        """The least-squares map to these targets, affine if ``centred``, else linear.

        Of all such maps it is that of least norm in scaled columns. Columns whose sizes differ by
        more than a thousand are scaled by powers of two, which is exact, before the rank is found;
        a column that varies by rounding errors of its mean is constant.

        Raises:
            InputError: for targets whose squares leave the range of float64.
        """
        self._reduce()
        mean_x, mean_t = self.mean_x, self.mean_t[columns]
        factor, projected, outside = self.factor, self.projected[:, columns], self.outside[columns]
        root = self._rows**0.5
        _check_squares(projected, outside)
        factor = factor * (_norms(factor) > rank_tolerance(1) * root * mean_x.abs())
        varies = (projected.square().sum(0) + outside).sqrt() > rank_tolerance(
            1
        ) * root * mean_t.abs()
        projected, outside = projected * varies, outside * varies
        if not centred:
            rows = (
                torch.cat([factor, root * mean_x[None]]),
                torch.cat([projected, root * mean_t[None]]),
            )
            factor, projected, left = _triangle(*rows)
            outside = outside + left
            mean_x, mean_t = torch.zeros_like(mean_x), torch.zeros_like(mean_t)
        scale = _scales(_norms(factor))
        u, s, vh = torch.linalg.svd(factor / scale, full_matrices=False)
        rounding = 4 * self.resolution if self.resolution > EPS else 0.0
        keep = s > s[:1] * max(rounding, rank_tolerance(len(s)))
        basis, back = vh[keep].mT / scale[:, None], vh[keep] * scale
        explained = u[:, keep].mT @ projected
        left = (projected - u[:, keep] @ explained).square().sum(0) + outside
        total = projected.square().sum(0) + outside
        return Fit(
            self._rows,
            mean_x,
            mean_t,
            basis,
            back,
            s[keep].square(),
            s[keep, None] * explained,
            left,
            total,
            centred,
        )

    def procrustes(self) -> float:
        """The share of the variance of the targets that a rotation and a scale explain.

        ``|sum x t'|_*^2 / (sum |x|^2 sum |t|^2)`` over centred rows; 1 where either does not vary.
        """
        self._reduce()
        x, t = self.factor.norm(), (self.projected.square().sum() + self.outside.sum()).sqrt()
        if not float(x) or not float(t):
            return 1.0
        turned = (self.factor / x).mT @ (self.projected / t)
        return float(torch.linalg.matrix_norm(turned, "nuc")) ** 2

    def update_r2(self, fit: Fit) -> float:
        """The share of the variance of ``t - x`` that a fit explains, of as many targets.

        1 where they do not differ, up to rounding.

        Example:
            >>> x, moments = torch.randn(50, 3).double(), Moments()
            >>> moments.add(x, 2 * x + 1)
            >>> round(moments.update_r2(moments.fit()), 6)
            1.0
        """
        self._reduce()
        total = (self.projected - self.factor).square().sum() + self.outside.sum()
        rounding = (rank_tolerance(len(self.mean_x)) * self.factor.norm()).square()
        return 1 - float(fit.left.sum() / total) if total > rounding else 1.0


@dataclass(frozen=True, eq=False)
class Fit:
    """A least-squares map in a basis of uncorrelated coordinates ``z = (x - mean_x) basis``.

    Attributes:
        n: how many rows.
        mean_x: ``(D,)``, zero for a linear map.
        mean_t: ``(T,)``, likewise.
        basis: ``(D, r)``: principal directions of the scaled columns, divided by the scales.
        back: ``(r, D)``: those directions times the scales; ``x = z back + mean_x`` on the rows.
        s: sums of squares of the coordinates, ``(r,)``.
        coefficients: sums of products with the targets, ``(r, T)``.
        left: sums of squares of the residuals, ``(T,)``.
        total: sums of squares of the (centred) targets, ``(T,)``.
        centred: whether there is a constant.
    """

    n: int
    mean_x: Tensor
    mean_t: Tensor
    basis: Tensor
    back: Tensor
    s: Tensor
    coefficients: Tensor
    left: Tensor
    total: Tensor
    centred: bool

    @property
    def matrix(self) -> Tensor:
        """The map ``A`` ``(T, D)``; the constant is ``mean_t - A mean_x``."""
        return self.damped(0.0)

    def damped(self, ridge: float, share: float = 1.0) -> Tensor:
        """The map ``(T, D)`` with a ridge, times the mean variance of the columns.

        Where the columns are a ``share`` of all, of which the others are zero, the mean is over
        all.

        Example:
            >>> x = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
            >>> found = Moments()
            >>> found.add(x, x)
            >>> found.fit().damped(1.0).round(decimals=9).tolist()
            [[0.5]]
        """
        return (self.basis @ self.coordinates(ridge, share)).mT

    def coordinates(self, ridge: float, share: float = 1.0) -> Tensor:
        """The same on the coordinates, ``(r, T)``."""
        return self.coefficients / self._damped_squares(ridge, share)[:, None]

    def _damped_squares(self, ridge: float, share: float = 1.0) -> Tensor:
        """The sums of squares of the coordinates with the ridge, ``(r,)``."""
        return self.s + ridge * share * self.s.sum() / max(len(self.mean_x), 1)

    def beside(self, matrix: Tensor) -> Fit:
        """The fit to the targets ``t - matrix x``: a ridge shrinks it towards that map.

        Example:
            >>> moments = Moments()
            >>> moments.add(torch.tensor([[-1.0], [1.0]]), torch.tensor([[-3.0], [3.0]]))
            >>> moments.fit().beside(torch.ones(1, 1)).matrix.round(decimals=9).tolist()
            [[2.0]]
        """
        less = (matrix.to(self.basis) @ self.back.mT).mT
        coefficients = self.coefficients - self.s[:, None] * less
        total = self.left + (coefficients.square() / self.s[:, None]).sum(0)
        mean = self.mean_t - matrix.to(self.basis) @ self.mean_x
        return replace(self, coefficients=coefficients, total=total, mean_t=mean)

    def ridge_by_gcv(self, ridges: Sequence[float]) -> float:
        """The ridge with the least generalised cross-validation error, from moments alone.

        ``n |residuals|² / (n - d)²`` for all targets, with ``d`` the degrees of freedom; infinite
        if these are as many as rows.

        Reference: G. Golub, M. Heath, G. Wahba, Generalized cross-validation as a method for
        choosing a good ridge parameter, Technometrics 21, 1979.

        Example:
            >>> x, moments = torch.randn(50, 30).double(), Moments()
            >>> moments.add(x, torch.randn(50, 2).double())
            >>> moments.fit().ridge_by_gcv((0.0, 100.0))
            100.0
        """
        outside, inside = self.left.sum(), self.coefficients.square().sum(1) / self.s
        errors = []
        for ridge in ridges:
            damped = self._damped_squares(ridge)
            left = outside + (inside * ((damped - self.s) / damped).square()).sum()
            free = self.n - self.centred - float((self.s / damped).sum())
            errors.append(float(left) / free**2 if free > FREE else float("inf"))
        return ridges[min(range(len(ridges)), key=errors.__getitem__)]

    @property
    def constant(self) -> Tensor:
        """``(T,)``."""
        return self.mean_t - self.matrix @ self.mean_x

    def predict(self, x: Tensor) -> Tensor:
        """``A x + b`` for rows ``(b, D)``."""
        z = (x.double() - self.mean_x) @ self.basis
        return z @ (self.coefficients / self.s[:, None]) + self.mean_t

    @property
    def r2(self) -> float:
        """The share of the variance of all targets that the map explains on its own rows."""
        total = self.total.sum()
        return 1 - float(self.left.sum() / total) if total > 0 else 1.0

    def by_rank(self, ridge: float = 0.0) -> tuple[Tensor, Tensor]:
        """Factors ``(T, m)`` and ``(m, D)``: their leading ``k`` give the best map of rank ``k``.

        Example:
            >>> x, moments = torch.randn(50, 3).double(), Moments()
            >>> moments.add(x, x)
            >>> left, right = moments.fit().by_rank()
            >>> torch.allclose(left @ right, torch.eye(3).double())
            True
        """
        root = self.s.sqrt()
        whitened = self.coordinates(ridge).mT * root
        u, s, vh = torch.linalg.svd(whitened, full_matrices=False)
        return u * s, vh @ (self.basis / root).mT

    def residuals(self, x: Tensor, t: Tensor, repeats: Tensor | None = None) -> Residuals:
        """Residuals of rows that the map was fitted on, and of maps fitted without each of them.

        For a ridge ``c``, ``t_i - t_i^(-i) = r_i / (1 - m_i h_i)`` with ``h_i = 1/n + sum_j z_ij^2
        / (s_j + c)`` for a row that occurs ``m_i`` times with one target: it is left out as often
        as it occurs.

        Args:
            x: rows ``(b, D)``.
            t: their targets ``(b, T)``.
            repeats: ``m`` ``(b,)``; once each by default.
        """
        z = (x.double() - self.mean_x) @ self.basis
        d = t.double() - self.mean_t
        squares, first, held_out, own = z.square(), self.centred / self.n, [], None
        for ridge in RIDGES:
            r = d - z @ self.coordinates(ridge)
            leverage = first + squares @ (1 / self._damped_squares(ridge))
            free = 1 - (leverage if repeats is None else repeats.to(leverage) * leverage)
            own = r if own is None else own
            # A row that alone spans a direction is predicted by the constant there.
            scaled = r / free.clamp_min(LEVERAGE_GAP)[:, None]
            held_out.append(torch.where(free[:, None] > LEVERAGE_GAP, scaled, d))
        assert own is not None
        return Residuals(own, torch.stack(held_out), d)


@dataclass(frozen=True, eq=False)
class Residuals:
    """Residuals of rows.

    Attributes:
        own: of the fit itself, ``(b, T)``.
        held_out: of fits without the row, one for each of :data:`RIDGES`, ``(R, b, T)``.
        total: of the constant, ``(b, T)``.
    """

    own: Tensor
    held_out: Tensor
    total: Tensor


def _triangle(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``R`` and ``Q't`` of ``x = Q R``, and the squares of ``t`` that lie outside its span."""
    k = min(x.shape)
    reflectors, tau = torch.geqrf(x)
    turned = torch.ormqr(reflectors, tau, t, transpose=True)
    return reflectors[:k].triu(), turned[:k], turned[k:].square().sum(0)


def _norms(columns: Tensor) -> Tensor:
    """Lengths of columns of any size, whose squares may leave the range of float64."""
    if not len(columns):
        return columns.new_zeros(columns.shape[1])
    largest = columns.abs().amax(0)
    unit = torch.where(largest > 0, largest, torch.ones_like(largest))
    return (columns / unit).norm(dim=0) * unit


def _check_squares(projected: Tensor, outside: Tensor) -> None:
    """Raise where the squares of the targets leave the range of float64."""
    size = float(projected.abs().max()) if projected.numel() else 0.0
    if (size and not MIN_TARGET < size < 1 / MIN_TARGET) or not bool(torch.isfinite(outside).all()):
        raise InputError(
            f"targets of size {size:.0e}", "numbers whose squares are in range", "Scale them."
        )


def _scales(size: Tensor) -> Tensor:
    """Scales that bring columns of these sizes within a factor of a thousand: powers of two.

    Scaling by them does not round. Columns that are already there share one scale: a ridge then
    weighs them in the units of the data.
    """
    varies = size > 0
    exponent = torch.where(varies, size, torch.ones_like(size)).log2()
    common = size[varies].amax().log2().round() if bool(varies.any()) else exponent.new_zeros(())
    steps = ((exponent - common) / SCALE_STEP).round() * SCALE_STEP
    return torch.exp2(common + torch.where(varies, steps, torch.zeros_like(steps)))
