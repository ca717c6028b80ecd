"""The Knothe-Rosenblatt map of a Gaussian mixture: an invertible network with its exact density."""

from __future__ import annotations

import math
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor  # no public name says it

from rectilinear.checks import check_classes, check_finite, check_floating, is_differentiated, whole
from rectilinear.errors import InputError, ShapeError, SingularOperatorError
from rectilinear.invertible.base import Invertible
from rectilinear.invertible.mixture_quantiles import (
    EXACT,
    OF_FLOAT32,
    Accuracy,
    constant,
    log_normal,
    mixtures,
    normal_scores,
    quantile,
    quantile_of_log,
)

_BLOCK_NUMBERS = 2**22  # rows x components x coordinates that are held at a time
_DECODED_NUMBERS = 2**20  # rows x components that are decoded at a time
_LOG_HALF = math.log(0.5)


class MixtureMap(Invertible):
    """The triangular map that takes a Gaussian mixture to ``N(0, I)``: its Knothe-Rosenblatt map.

    ``z_i = Phi^-1(F(x_i | x_1, ..., x_{i-1}))``: each conditional of the mixture
    ``p(x) = sum_k w_k N(x; m_k, (P_k^T P_k)^-1)`` is a mixture of one dimension, with weights,
    means and deviations in closed form. So ``log_prob(x)`` equals
    ``log N(z; 0, I) + log |det dz/dx|``, and ``z_1, ..., z_k`` depend on ``x_1, ..., x_k`` alone:
    the leading coordinates are exact for every ``k``. All is computed in float64, whatever the
    dtype of the parameters and the input; the result has the dtype of the input.

    ``P_k`` is lower triangular with the diagonal ``exp(log_scales_k)``: ``P_k (x - m_k)`` is
    standard normal. :func:`fit_mixture` fits all of it; :meth:`from_moments` takes covariances.

    Args:
        log_weights: ``(K,)``, up to a constant.
        means: ``(K, d)``.
        log_scales: ``(K, d)``, logarithms of the diagonals of ``P_k``.
        lower: ``(K, d (d - 1) / 2)``, the entries of ``P_k`` below it, row by row.
        classes: ``(K,)`` integers from 0, the class of each component; none by default.

    Raises:
        ShapeError: if the shapes do not fit each other.
        DtypeError: if classes are not integers, or other arguments not floating-point.
        NonFiniteError: if a parameter is not finite.

    Reference: H. Knothe, Contributions to the theory of convex bodies, 1957; M. Rosenblatt, Remarks
    on a multivariate transformation, 1952.

    Example:
        >>> g = MixtureMap.from_moments(
        ...     torch.tensor([0.5, 0.5]), torch.tensor([[-2.0], [2.0]]), torch.ones(2, 1, 1)
        ... )
        >>> z = g(torch.tensor([[0.0], [2.0]])).detach()
        >>> z.round(decimals=3).tolist(), g.inverse(z).detach().round(decimals=3).tolist()
        ([[0.0], [0.6740000247955322]], [[0.0], [2.0]])
    """

    log_weights: Tensor
    means: Tensor
    log_scales: Tensor
    lower: Tensor
    classes: Tensor | None

    def __init__(
        self,
        log_weights: Tensor,
        means: Tensor,
        log_scales: Tensor,
        lower: Tensor,
        classes: Tensor | None = None,
    ) -> None:
        super().__init__()
        _check_arguments(log_weights, means, log_scales, lower, classes)
        self.shape = self.latent_shape = (means.shape[1],)
        for name, value in (
            ("log_weights", log_weights),
            ("means", means),
            ("log_scales", log_scales),
            ("lower", lower),
        ):
            own = value if isinstance(value, nn.Parameter) else nn.Parameter(value.detach().clone())
            self.register_parameter(name, own)
        self.register_buffer("classes", None if classes is None else classes.detach().clone())

    @classmethod
    def from_moments(
        cls,
        weights: Tensor,
        means: Tensor,
        covariances: Tensor,
        classes: Tensor | None = None,
    ) -> Self:
        """The map of the mixture with these weights ``(K,)``, means and covariances ``(K, d, d)``.

        ``classes`` ``(K,)`` are the classes of the components; none by default.

        Raises:
            SingularOperatorError: if a covariance is not positive definite.
        """
        check_floating(covariances, "covariances")
        if covariances.ndim != 3 or covariances.shape[1] != covariances.shape[2]:
            raise ShapeError(
                f"covariances of shape {tuple(covariances.shape)}",
                "(K, d, d)",
                "Write one as covariances[None], variances as v.diag_embed().",
            )
        root, failed = torch.linalg.cholesky_ex(covariances.double())
        if bool(failed.any()):
            raise SingularOperatorError(
                "a covariance that is not positive definite",
                "positive definite ones",
                "Add a small multiple of the identity.",
            )
        eye = torch.eye(root.shape[1], dtype=root.dtype, device=root.device)
        whitening = torch.linalg.solve_triangular(root, eye.expand_as(root), upper=False)
        i, j = torch.tril_indices(len(eye), len(eye), offset=-1)
        return cls(
            weights.double().log().to(means.dtype),
            means,
            whitening.diagonal(dim1=1, dim2=2).log().to(means.dtype),
            whitening[:, i, j].to(means.dtype),
            classes,
        )

    @property
    def components(self) -> int:
        """The number of components ``K``."""
        return len(self.log_weights)

    def given(self, label: int) -> MixtureMap:
        """The map of the mixture of the class ``label``, ``p(x | class)``.

        Raises:
            InputError: if components have no classes, or no component has this one.
        """
        chosen = self._of_class(label)
        parts = (self.log_weights, self.means, self.log_scales, self.lower)
        log_weights, means, log_scales, lower = (part.detach()[chosen] for part in parts)
        alone = MixtureMap(log_weights, means, log_scales, lower, self._classes()[chosen])
        return alone.requires_grad_(self.means.requires_grad)

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density of the mixture at ``x``, ``(b,)``: that of the map, computed directly."""
        return self._joint(x).logsumexp(1).to(x.dtype)

    def log_prob_by_class(self, x: Tensor) -> Tensor:
        """``log p(x, c)`` of every class ``c``, ``(b, C)``; normalised over ``c``, its posterior.

        Raises:
            InputError: if components have no classes.
        """
        classes, joint = self._classes(), self._joint(x)
        columns = [joint[:, classes == c].logsumexp(1) for c in range(int(classes.max()) + 1)]
        return torch.stack(columns, 1).to(x.dtype)

    def _joint(self, x: Tensor) -> Tensor:
        """``log w_k + log N(x; m_k, ...)`` in float64, ``(b, K)``."""
        self._check(x, self.shape)
        prior = self._prior() + self.log_scales.double().sum(1)
        parts = self._blocks(x.double())
        return torch.cat([prior + log_normal(self._whitened(part)).sum(2) for part in parts])

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if is_functorch_wrapped_tensor(x) or is_differentiated(x) or self._is_trained():
            parts = [self._encode_block(part) for part in self._blocks(x.double())]
        else:
            rows = x.double().split(max(1, _DECODED_NUMBERS // self.components))
            parameters = [p.double() for p in (self.log_weights, self.means, self.log_scales)]
            parameters.append(self._whitening())
            parts = [_encode_rows(part, *parameters) for part in rows]
        z, logdet = (torch.cat(part) for part in zip(*parts, strict=True))
        return z.to(x.dtype), logdet.to(x.dtype)

    def _encode_block(self, x: Tensor) -> tuple[Tensor, Tensor]:
        e = self._whitened(x)
        step = log_normal(e) + self.log_scales.double()  # log p(x_i | x_<i, k)
        log_r = (step.cumsum(2) - step + self._prior()[:, None]).log_softmax(1)
        lower, upper = _log_tails(log_r, e)
        is_lower = lower < upper
        z = quantile_of_log(torch.where(is_lower, lower, upper).clamp(max=_LOG_HALF))
        z = torch.where(is_lower, z, -z)
        return z, (torch.logsumexp(log_r + step, 1) - log_normal(z)).sum(1)

    def _decode(self, z: Tensor) -> Tensor:
        parameters = [p.double() for p in (self.log_weights, self.means, self.log_scales)]
        parameters.append(self._whitening())
        x: Tensor = _Roots.apply(z, *parameters)
        if is_differentiated(z) or self._is_trained():
            x = self._with_derivatives(x, z.double())
        return x.to(z.dtype)

    def _with_derivatives(self, x: Tensor, z: Tensor) -> Tensor:
        """``x`` itself, with the derivatives of the inverse by the implicit function theorem."""
        whitening, scales = self._whitening(), self.log_scales.double().exp()
        log_w, means = self._prior().expand(len(x), -1), self.means.double()
        columns: list[Tensor] = []
        shift = (whitening @ means[:, :, None])[..., 0]
        for i in range(self.dim):
            before = torch.stack(columns, 1) if columns else x[:, :0]
            known = before @ whitening[:, i, :i].T - shift[:, i]
            e = known + scales[:, i] * x[:, i : i + 1]
            log_r = log_w.log_softmax(1)
            sign = torch.where(z[:, i : i + 1] < 0, 1.0, -1.0).to(z)
            tail = torch.logsumexp(log_r + torch.special.log_ndtr(sign * e), 1)
            found = sign[:, 0] * quantile_of_log(tail.clamp(max=_LOG_HALF))
            density = torch.logsumexp(log_r + log_normal(e) + self.log_scales[:, i].double(), 1)
            error = found - z[:, i]
            slope = constant((density - log_normal(found)).exp())
            column = x[:, i] - (error - constant(error)) / slope
            columns.append(column)
            e = known + scales[:, i] * column[:, None]
            log_w = log_w + log_normal(e) + self.log_scales[:, i].double()
        return torch.stack(columns, 1)

    def _is_trained(self) -> bool:
        return torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())

    def _prior(self) -> Tensor:
        return self.log_weights.double().log_softmax(0)

    def _whitening(self) -> Tensor:
        """``P``, ``(K, d, d)``."""
        d = self.dim
        i, j = torch.tril_indices(d, d, offset=-1, device=self.lower.device)
        flat = self.lower.double()
        below = flat.new_zeros(len(flat), d * d).index_copy(1, i * d + j, flat)
        return below.view(-1, d, d) + torch.diag_embed(self.log_scales.double().exp())

    def _whitened(self, x: Tensor) -> Tensor:
        """``P_k (x - m_k)`` for all components, ``(b, K, d)``."""
        whitening, d = self._whitening(), self.dim
        shift = (whitening @ self.means.double()[:, :, None])[..., 0]
        return (x @ whitening.reshape(-1, d).T).unflatten(1, (-1, d)) - shift

    def _blocks(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.split(max(1, _BLOCK_NUMBERS // (self.components * self.dim)))

    def _classes(self) -> Tensor:
        if self.classes is None:
            raise InputError(
                "a class of a mixture without classes",
                "components with classes",
                "Fit it with labels.",
            )
        return self.classes

    def _of_class(self, label: int) -> Tensor:
        chosen: Tensor = self._classes() == whole(label, "the class", 0)
        if not bool(chosen.any()):
            known = sorted(set(cast("list[int]", self._classes().tolist())))
            raise InputError(f"class {label}", f"one of {', '.join(map(str, known))}")
        return chosen

    def extra_repr(self) -> str:
        return f"{self.components} components in {self.dim} dimensions"


class _Roots(torch.autograd.Function):
    """The inverse without derivatives, on plain tensors in every mode of differentiation."""

    @staticmethod
    def forward(
        z: Tensor, log_weights: Tensor, means: Tensor, log_scales: Tensor, whitening: Tensor
    ) -> Tensor:
        accuracy = EXACT if z.dtype == torch.float64 else OF_FLOAT32
        parts = z.double().split(max(1, _DECODED_NUMBERS // len(means)))
        parameters = log_weights, means, log_scales, whitening
        return torch.cat([_decode_block(part, *parameters, accuracy) for part in parts])

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ARG004 - torch's signature
        ctx.save_for_forward(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, ...]:  # noqa: ARG004
        return (None,) * 5

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:  # noqa: ARG004
        return torch.zeros_like(ctx.saved_tensors[0])

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Tensor) -> tuple[Tensor, int]:
        rows = [
            [
                a if dim is None else a.select(dim, i)
                for a, dim in zip(arguments, in_dims, strict=True)
            ]
            for i in range(info.batch_size)
        ]
        return torch.stack([_Roots.apply(*row) for row in rows]), 0


def _decode_block(
    z: Tensor,
    log_weights: Tensor,
    means: Tensor,
    log_scales: Tensor,
    whitening: Tensor,
    accuracy: Accuracy,
) -> Tensor:
    """The inverse of one block of rows, coordinate by coordinate."""
    x, scales = torch.zeros_like(z), log_scales.exp()
    shift = (whitening @ means[:, :, None])[..., 0]
    least = torch.special.log_ndtr(-z.abs()) - accuracy.negligible
    log_w = log_weights.log_softmax(0).repeat(len(z), 1)
    for i in range(z.shape[1]):
        e = torch.addmm(-shift[:, i], x[:, :i], whitening[:, i, :i].T)
        x[:, i] = quantile(mixtures(log_w, e, scales[:, i], least[:, i]), z[:, i], accuracy)
        # in place: the arrays are large, and memory is what takes the time
        log_w.addcmul_(e.addr_(x[:, i], scales[:, i]), e, value=-0.5).add_(log_scales[:, i])
    return x


def _encode_rows(
    x: Tensor, log_weights: Tensor, means: Tensor, log_scales: Tensor, whitening: Tensor
) -> tuple[Tensor, Tensor]:
    """The map of one block of rows and its log-determinants, without derivatives.

    Coordinate by coordinate, so that components of no weight are left out early.
    """
    z, logdet = torch.empty_like(x), x.new_zeros(len(x))
    scales, shift = log_scales.exp(), (whitening @ means[:, :, None])[..., 0]
    log_w = log_weights.log_softmax(0).repeat(len(x), 1)
    for i in range(x.shape[1]):
        e = torch.addmm(-shift[:, i], x[:, : i + 1], whitening[:, i, : i + 1].T)
        heaviest = e.gather(1, log_w.argmax(1, keepdim=True))[:, 0]
        least = torch.special.log_ndtr(-heaviest.abs()) - EXACT.negligible
        z[:, i], log_density = normal_scores(mixtures(log_w, e, scales[:, i], least))
        logdet += log_density - log_normal(z[:, i])
        log_w.addcmul_(e, e, value=-0.5).add_(log_scales[:, i])
    return z, logdet


def _log_tails(log_r: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of the lower and the upper tail, ``(b, d)``, over the components ``(b, K, d)``.

    Components of negligible weight are left out, except inside transformations without masks.
    """
    if is_functorch_wrapped_tensor(e) or is_functorch_wrapped_tensor(log_r):
        kept_r, kept_e, mask = log_r, e, None
    else:
        with torch.no_grad():
            heaviest, index = log_r.max(1, keepdim=True)
            tail = torch.special.log_ndtr(-e.gather(1, index).abs())
            mask = log_r >= heaviest + tail - 45.0
        kept_r, kept_e = log_r[mask], e[mask]

    def total(log_tail: Tensor) -> Tensor:
        terms = kept_r + log_tail
        if mask is not None:
            terms = torch.full_like(log_r, -math.inf).masked_scatter(mask, terms)
        return torch.logsumexp(terms, 1)

    return total(torch.special.log_ndtr(kept_e)), total(torch.special.log_ndtr(-kept_e))


def _check_arguments(
    log_weights: Tensor, means: Tensor, log_scales: Tensor, lower: Tensor, classes: Tensor | None
) -> None:
    """Raise unless the parameters of a mixture fit each other."""
    named = {"log_weights": log_weights, "means": means, "log_scales": log_scales, "lower": lower}
    for name, value in named.items():
        check_floating(value, name)
        check_finite(value.detach(), name)
    count, d = means.shape if means.ndim == 2 else (0, 0)
    shapes = {"means": (count, d), "log_weights": (count,), "log_scales": (count, d)}
    shapes["lower"] = (count, d * (d - 1) // 2)
    for name, shape in shapes.items():
        if tuple(named[name].shape) != shape or not count or not d:
            raise ShapeError(
                f"{name} of shape {tuple(named[name].shape)} with means {tuple(means.shape)}",
                "(K,), (K, d), (K, d) and (K, d (d - 1) / 2)",
                "Use MixtureMap.from_moments(weights, means, covariances).",
            )
    if classes is not None:
        check_classes(classes, count, "classes")
