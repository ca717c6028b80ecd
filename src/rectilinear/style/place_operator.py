"""Affine maps of the channels at every place, as matrices of homogeneous coordinates."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from rectilinear.checks import check_finite, check_floating
from rectilinear.errors import ConfigError, ShapeError
from rectilinear.numerics import eig
from rectilinear.operators import Dense
from rectilinear.serialization import Configured

FARTHEST = 2.5  # radians that a power of a style may turn by on its way


class PlaceOperator(Configured):
    """The affine map ``z -> M z + b`` of ``C`` channels, the same at every place of a grid.

    ``rows`` is ``[M b]``, the upper rows of the matrix ``H = [[M, b], [0, 1]]`` of homogeneous
    coordinates, in which maps compose, invert and take powers as matrices do. As a ``generator``,
    ``rows`` is ``[L l]`` and ``H = exp([[L, l], [0, 0]])``: every real power of it exists. With
    ``rows`` of ``[M N b]``, the map is ``M z + N m + b``, ``m`` the mean of the 3 x 3 places about
    ``z``: for ways back, which average rounding errors out.

    Args:
        rows: ``(C, C + 1)``, or ``(C, 2 C + 1)`` for a map of the places around, too.
        generator: whether ``rows`` are those of a logarithm.
        trainable: hold them as a parameter rather than a buffer.

    Raises:
        ShapeError: for rows of another shape.

    Example:
        >>> brighter = PlaceOperator(torch.tensor([[1.0, 0.0, 0.5], [0.0, 2.0, 0.0]]))
        >>> brighter.matrix()
        tensor([[1.0000, 0.0000, 0.5000],
                [0.0000, 2.0000, 0.0000],
                [0.0000, 0.0000, 1.0000]], grad_fn=<CatBackward0>)
    """

    rows: Tensor

    def __init__(self, rows: Tensor, *, generator: bool = False, trainable: bool = True) -> None:
        super().__init__()
        check_floating(rows, "rows")
        wide = rows.ndim == 2 and not generator and rows.shape[1] == 2 * rows.shape[0] + 1
        if not wide and (rows.ndim != 2 or rows.shape[1] != rows.shape[0] + 1):
            raise ShapeError(
                f"rows of shape {tuple(rows.shape)}", "(C, C + 1)", "Pass [M b], side by side."
            )
        self.generator = generator
        if trainable:
            self.rows = nn.Parameter(rows.detach().clone())
        else:
            self.register_buffer("rows", rows.detach().clone())

    @property
    def channels(self) -> int:
        """``C``."""
        return len(self.rows)

    def matrix(self) -> Tensor:
        """``H``, ``(C + 1, C + 1)``, or ``(C + 1, 2 C + 1)`` of a map of the places around."""
        last = torch.zeros_like(self.rows[:1])
        if self.generator:
            return torch.linalg.matrix_exp(torch.cat([self.rows, last]))
        return torch.cat([self.rows, last.index_fill(1, _last(self.rows), 1.0)])

    def operator(self) -> Dense:
        """``H`` as an operator to ``C + 1`` dimensions, with the verbs of linear algebra."""
        return Dense(self.matrix().detach(), trainable=False)

    def extra_repr(self) -> str:
        return f"{self.channels} channels" + (", a generator" if self.generator else "")


def _last(rows: Tensor) -> Tensor:
    return torch.tensor([rows.shape[1] - 1], device=rows.device)


def with_surroundings(z: Tensor) -> Tensor:
    """The latents, and the means of the 3 x 3 places about each: ``(b, C, h, w)`` to ``2 C``.

    Example:
        >>> with_surroundings(torch.tensor([[[[0.0, 3.0]]]])).tolist()
        [[[[0.0, 3.0]], [[1.5, 1.5]]]]
    """
    means = functional.avg_pool2d(z, 3, stride=1, padding=1, count_include_pad=False)
    return torch.cat([z, means], 1)


def apply_places(matrix: Tensor, z: Tensor) -> Tensor:
    """``M z + b`` at every place, or ``M z + N m + b``, by the width of the matrix.

    Args:
        matrix: ``(C + 1, C + 1)`` or ``(C + 1, 2 C + 1)``, or one of these for each image.
        z: latents ``(b, C, h, w)``.

    Example:
        >>> apply_places(torch.eye(3), torch.ones(1, 2, 4, 5)).shape
        torch.Size([1, 2, 4, 5])
    """
    c = z.shape[1]
    places = (with_surroundings(z) if matrix.shape[-1] > c + 1 else z).flatten(2)
    moved = matrix[..., :c, :-1] @ places + matrix[..., :c, -1:]
    return moved.unflatten(2, z.shape[2:])


class LeastSquares:
    """The affine map of least ``sum |M z + b - u|^2 + damping n var(z) |M|^2``, in one pass.

    Examples come in parts; only sums of their products are kept, in float64.

    Args:
        damping: relative to the variance of ``z``; keeps noise from being amplified.

    Example:
        >>> z = torch.randn(1, 2, 10, 10)
        >>> fit = LeastSquares(damping=0.0)
        >>> fit.add(z, 2 * z + 1)
        >>> fit.rows().round(decimals=4).abs()
        tensor([[2., 0., 1.],
                [0., 2., 1.]])
    """

    def __init__(self, damping: float = 1e-5) -> None:
        if not damping >= 0:
            raise ConfigError(f"damping = {damping}", "0 or more")
        self.damping = damping
        self._gram: Tensor | None = None
        self._cross: Tensor | None = None
        self._dtype = torch.float32

    def add(self, z: Tensor, u: Tensor) -> None:
        """Take in the places of ``z``, ``(b, K, h, w)``, and of ``u``, ``(b, C, h, w)``.

        Raises:
            ShapeError: if they differ in images or places, or from earlier ones in channels.
            NonFiniteError: for NaN or infinity.
        """
        if (len(z), z.shape[2:]) != (len(u), u.shape[2:]):
            raise ShapeError(f"latents of shape {tuple(z.shape)} and {tuple(u.shape)}", "one shape")
        check_finite(z, "latents")
        check_finite(u, "latents")
        a, b = (x.detach().transpose(0, 1).flatten(1).double() for x in (z, u))
        a = torch.cat([a, a.new_ones(1, a.shape[1])])
        gram, cross = a @ a.mT, a @ b.mT
        if self._gram is None or self._cross is None:
            self._gram, self._cross = torch.zeros_like(gram), torch.zeros_like(cross)
        if self._cross.shape != cross.shape:
            was = [f"{k} channels" for k in (self._cross.shape[0] - 1, self._cross.shape[1])]
            raise ShapeError(
                f"latents of {z.shape[1]} and {u.shape[1]} channels", " and ".join(was)
            )
        self._gram, self._cross = self._gram + gram, self._cross + cross
        self._dtype = z.dtype

    def rows(self) -> Tensor:
        """``[M b]``, ``(C, K + 1)``."""
        if self._gram is None or self._cross is None:
            raise ConfigError(
                "a fit without data", "at least one pair of images", "Call add first."
            )
        n = self._gram[-1, -1]
        mean = self._gram[:-1, -1] / n
        variance = (self._gram.diagonal()[:-1] / n - mean.square()).mean()
        ridge = (self.damping * n * variance).clamp_min(torch.finfo(torch.float64).tiny)
        penalty = torch.full_like(self._gram[0], float(ridge))
        penalty[-1] = 0  # offsets are free
        return torch.linalg.solve(self._gram + penalty.diag(), self._cross).mT.to(self._dtype)


def with_real_powers(rows: Tensor) -> Tensor:
    """The rows of ``[[M, b], [0, 1]]`` or of a matrix near by, of which every real power exists.

    Eigenvalues on the negative real axis, which have no real power, change their sign: in the real
    Schur form, so that the matrix changes by twice their size, however it is conditioned.

    Example:
        >>> with_real_powers(torch.tensor([[4.0, 0.0, 1.0], [0.0, -2.0, 0.0]]))
        tensor([[4., 0., 1.],
                [0., 2., 0.]])
    """
    from scipy.linalg import schur

    M = rows[:, :-1].detach().double().cpu().numpy()
    T, Z = schur(M, output="real")
    below = [0, *T.diagonal(-1), 0]
    for i in range(len(T)):
        if not below[i] and not below[i + 1]:  # a real eigenvalue
            T[i, i] = abs(T[i, i])
    return torch.cat([torch.from_numpy(Z @ T @ Z.T).to(rows), rows[:, -1:]], 1)


def with_real_powers_on(rows: Tensor, z: Tensor) -> Tensor:
    """The rows of a matrix near the given one on latents ``z``, with powers that are real and near.

    Eigenvalues near the negative axis, of an angle above 2.5, change their sign. Negative ones have
    no real power; those beside them would turn by up to ``t pi`` on the way ``H^t``, and show as
    coloured patterns. With a basis ``V`` of their invariant subspace, the matrix is
    ``M - 2 M V P^T``, ``P^T V = I``,
    whatever ``P`` is; the one here changes ``M (z - mean)`` least.

    Args:
        rows: ``[M b]``, ``(C, C + 1)``.
        z: latents, one a row, ``(n, C)``.

    Reference: A. Brauer, "Limits for the characteristic roots of a matrix IV", 1952, theorem 27;
    for a subspace, the theorem of R. Rado in H. Perfect, "Methods of constructing certain
    stochastic matrices II", 1955.

    Example:
        >>> rows = torch.tensor([[4.0, 0.0, 1.0], [0.0, -2.0, 0.0]])
        >>> z = torch.tensor([[0.0, 0.0], [1.0, 1.0], [-1.0, -1.01], [2.0, 2.0]])
        >>> changed = with_real_powers_on(rows, z)
        >>> eig(changed[:, :2])[0].real.sort().values.round(decimals=4)
        tensor([2., 4.])
    """
    M, z = rows[:, :-1].detach().double(), z.double()
    mean = z.mean(0)
    image = M @ mean + rows[:, -1].detach().double()
    C = (z - mean).mT @ (z - mean)
    for _ in range(len(M)):
        values, vectors = eig(M)
        found = values.angle().abs() > FARTHEST
        if not bool(found.any()):
            break
        v = vectors[:, int(found.nonzero()[0])]
        V = torch.stack([v.real, v.imag], 1) if bool(v.imag.any()) else v.real[:, None]
        P = torch.linalg.solve(C, V)
        P = P @ torch.linalg.inv(V.mT @ P)
        M = M - 2 * M @ V @ P.mT
    return torch.cat([M, (image - M @ mean)[:, None]], 1).to(rows)


def with_real_logarithm(rows: Tensor) -> Tensor:
    """The rows of the logarithm of :func:`with_real_powers`, for a generator.

    Example:
        >>> rows = torch.tensor([[4.0, 0.0, 0.0], [0.0, -2.0, 0.0]])
        >>> log = PlaceOperator(with_real_logarithm(rows), generator=True)
        >>> [round(value, 4) for value in log.matrix().diagonal().tolist()]
        [4.0, 2.0, 1.0]
    """
    values, vectors = _eigen(with_real_powers(rows.double()))
    log = vectors @ torch.diag(values.log()) @ torch.linalg.inv(vectors)
    return log.real[: len(rows)].to(rows.dtype)


def _eigen(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues of ``[[M, b], [0, 1]]``, none of them negative, and eigenvectors."""
    c = len(rows)
    H = torch.eye(c + 1, dtype=torch.float64, device=rows.device)
    H[:c] = rows
    values, vectors = eig(H)
    negative = (values.imag.abs() <= 1e-9 * values.abs()) & (values.real < 0)
    return torch.where(negative, -values, values), vectors
