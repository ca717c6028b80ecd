"""The Koopman model: its invertible lift, its spectrum, and its multi-step training loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rectilinear.checks import check_batch, check_finite
from rectilinear.errors import ConfigError, DivergedError, ShapeError
from rectilinear.invertible import Invertible
from rectilinear.koopman.series import unpack
from rectilinear.linearizer import Linearizer
from rectilinear.operators import Identity, Spectral
from rectilinear.random import generator
from rectilinear.serialization import Configured


class Spectrum(Configured):
    """The operators ``A^t = exp(t L)``, with blocks ``[[a, -b], [b, a]]`` and then reals in ``L``.

    With ``stable=True`` the real parts are ``-|growth|``: no eigenvalue of ``A`` leaves the unit
    circle, whatever the training does. Any real matrix with a basis of eigenvectors is similar to
    such an ``A``; the network absorbs the basis. ``t`` is any real time.

    Args:
        growth: real parts, pairs first and then reals, ``(h + r,)``, per unit of time.
        frequency: imaginary parts of the pairs, ``(h,)``, in radians per unit of time.
        stable: keep the spectral radius at most 1.

    Example:
        >>> spectrum = Spectrum(torch.tensor([0.1, -0.2]), torch.tensor([1.0]), stable=True)
        >>> spectrum.operator(2.0).eigenvalues().abs().max() <= 1
        tensor(True)
    """

    def __init__(self, growth: Tensor, frequency: Tensor, *, stable: bool = True) -> None:
        super().__init__()
        self.growth, self.frequency = (
            nn.Parameter(growth.detach()),
            nn.Parameter(frequency.detach()),
        )
        self.stable = stable
        self.dim = len(growth) + len(frequency)

    def exponents(self) -> Tensor:
        """One eigenvalue of ``L`` of each pair, then the real ones: ``(h + r,)`` complex."""
        growth = -self.growth.abs() if self.stable else self.growth
        rest = len(growth) - len(self.frequency)
        return torch.complex(growth, torch.cat([self.frequency, self.frequency.new_zeros(rest)]))

    def operator(self, t: float | Tensor = 1.0) -> Spectral:
        """``A^t``; for ``t`` of shape ``(...,)`` an operator of that batch shape."""
        exponents = self.exponents()
        time = torch.as_tensor(t, dtype=self.growth.dtype, device=self.growth.device)
        values = torch.exp(time[..., None] * exponents)
        identity = Identity(self.dim, like=self.growth)
        return Spectral(
            identity, values.real, values.imag[..., : len(self.frequency)], trainable=False
        )


FARTHEST = 1e3
"""A forecast may go so many standard deviations of the data away before it counts as diverged."""
_STAGES = 100_000  # re-encodings, some minutes
_LARGEST = 10_000_000  # latent numbers held at a time


class Koopman(Configured):
    """A Koopman model with an exact decoder, ``x(t) = pi g^-1(A^t g(x, 0))``.

    The state is padded with zeros, evolves linearly in the space of ``g``, and is projected back.

    On padded states this is a Linearizer, so ``A^s A^t = A^(s + t)`` holds exactly for all real
    ``s`` and ``t``, and a forecast of any length is one application. On the states alone it holds
    as far as the padded states form an invariant set, which no finite model of a system with a
    continuous spectrum or with several attractors can reach:
    :func:`~rectilinear.koopman.chapman_kolmogorov_error` measures it, and ``reencode``
    re-encodes the state on the way.

    A state is the window of the latest ``delays`` observations, newest first, in one row: see
    :func:`~rectilinear.koopman.embed`.

    Args:
        lift: ``g``, which pads and decodes.
        spectrum: ``A^t``.
        dt: time of one step.
        delays: observations in a state.

    Raises:
        ShapeError: if ``lift`` and ``spectrum`` differ in dimension.
        ConfigError: if ``dt`` or ``delays`` are not positive, or do not fit the state.

    Reference: Koopman (1931); Lusch, Kutz, Brunton, "Deep learning for universal linear embeddings
    of nonlinear dynamics" (2018); the exact decoder by Berman et al., arXiv 2510.08570.

    Example:
        >>> from rectilinear.koopman import Features, Lift, Spectrum
        >>> lift = Lift(Features(2, torch.eye(2), fourier=8), torch.zeros(2), torch.ones(2))
        >>> turn = Spectrum(torch.zeros(3).double(), torch.ones(1).double())
        >>> model = Koopman(lift, turn, dt=0.1)
        >>> x = torch.randn(5, 2, dtype=torch.float64)
        >>> model(x, torch.tensor([0.0, 0.1, -0.7])).shape
        torch.Size([5, 3, 2])
    """

    def __init__(self, lift: Lift, spectrum: Spectrum, dt: float = 1.0, delays: int = 1) -> None:
        super().__init__()
        if lift.dim != spectrum.dim:
            raise ShapeError(
                f"a spectrum of {spectrum.dim} dimensions", f"{lift.dim}, as the network has"
            )
        if not dt > 0 or delays < 1 or lift.state_dim % delays:
            raise ConfigError(
                f"dt = {dt}, delays = {delays}",
                "positive numbers, delays that divide the state",
                f"Use delays=1, or another divisor of {lift.state_dim}." if dt > 0 else "",
            )
        self.lift, self.spectrum, self.dt, self.delays = lift, spectrum, dt, delays
        self.state_dim = lift.state_dim
        self.dim = lift.state_dim // delays

    def encode(self, x: Tensor) -> Tensor:
        """Latent coordinates ``g(x, 0)``: ``(b, delays * dim) -> (b, n)``."""
        check_batch(x, (self.state_dim,), "states")
        return self.lift(self.lift.pad(x))

    def advance(self, z: Tensor, times: Tensor) -> Tensor:
        """``A^t z``, ``(b, k, n)``, of ``z`` ``(b, n)`` for ``times`` ``(k,)`` or ``(b, k)``."""
        return self.spectrum.operator(times)(z[:, None])

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        """The states ``(b, k, delays dim)`` at ``times`` ``(k,)`` or ``(b, k)`` after ``x``."""
        return self.lift.observe(self.advance(self.encode(x), times))

    def forecast(self, x: Tensor, times: Tensor, reencode: int | None = None) -> Tensor:
        """Observations ``(b, k, dim)`` after ``times`` ``(k,)`` or ``(b, k)`` from states ``x``.

        With ``reencode=m`` the state is decoded and re-encoded every ``m`` steps of ``dt``: no
        longer one linear map, and closer to the system where the model is good over ``m`` steps
        only.

        Raises:
            NonFiniteError: for states or times that are not finite.
            ConfigError: for more than 100,000 re-encodings.
            DivergedError: if the forecast goes 1,000 standard deviations of the data away: an
                unstable model, or a strongly damped one backwards, asked for too long a time.

        Reference: Fathi et al., "Course correcting Koopman representations", arXiv 2310.15386
        (re-encoding).
        """
        check_batch(x, (self.state_dim,), "states")
        check_finite(x, "states")
        check_finite(times, "times")
        if reencode is None:
            last = times.gather(-1, times.abs().argmax(-1, keepdim=True))
            self._check_range(self(x, last), last)  # before the work of all times
            chunk = max(1, _LARGEST // (len(x) * self.lift.dim))
            found = torch.cat([self(x, some) for some in times.split(chunk, dim=-1)], dim=1)
        elif reencode < 1:
            raise ConfigError(
                f"reencode = {reencode}",
                "a number of steps, at least 1",
                "Leave it out for one map.",
            )
        else:
            found = self._in_stages(x, times.expand(len(x), -1), reencode * self.dt)
        self._check_range(found, times)
        return found[..., : self.dim]

    def linearizer(self, t: float | None = None) -> Linearizer:
        """The Linearizer ``g^-1 A^t g`` on padded states ``(b, n)``; ``t`` is ``dt`` by default."""
        return Linearizer(self.lift, self.spectrum.operator(self.dt if t is None else t))

    def _in_stages(self, x: Tensor, times: Tensor, stage: float) -> Tensor:
        """Each time as whole stages of the sign of the time, and a rest."""
        whole = torch.floor(times.abs() / stage * (1 + 1e-12) + 1e-9)
        if float(whole.max()) > _STAGES:
            raise ConfigError(
                f"{float(whole.max()):g} re-encodings",
                f"at most {_STAGES}",
                "Raise reencode, or leave it out.",
            )
        rest = times - times.sign() * whole * stage
        found = x.new_empty(*times.shape, self.state_dim)
        for sign in (1.0, -1.0):
            mine = (times >= 0) if sign > 0 else (times < 0)
            current = x
            for number in range(int(whole[mine].max()) + 1 if bool(mine.any()) else 0):
                here = mine & (whole == number)
                if bool(here.any()):
                    found = torch.where(here[..., None], self(current, rest), found)
                current = self(current, times.new_tensor([sign * stage]))[:, 0]
        return found

    def _check_range(self, found: Tensor, times: Tensor) -> None:
        far = ((found - self.lift.mean) / self.lift.scale).detach().abs()
        bad = ~(far <= FARTHEST)  # also NaN
        if not bool(bad.any()):
            return
        row, column, _ = bad.nonzero()[0].tolist()
        time = float(times.expand(len(found), -1)[row, column])
        radius = float(self.spectrum.exponents().detach().real.max().mul(self.dt).exp())
        raise DivergedError(
            got=(
                f"a forecast over {time / self.dt:g} steps that leaves the data by "
                f"{far[row, column].max():.1e} standard deviations (spectral radius {radius:.6f})"
            ),
            expected=f"at most {FARTHEST:g}",
            fix=(
                "Forecast fewer steps, or fit with stable=True; backwards, fit with backward=STEPS."
            ),
        )


class MultiStep(nn.Module):
    """The mean square error of forecasts over random times of packed windows, relative to scale.

    Every time is one application of ``A^t``, near or far: no rollout. Learned features train at the
    full rate, the modes, which the closed form has found well already, at a hundredth of it.
    Features of the state alone are initialised at weights of zero: beside them the network would
    see only what they leave, which is small and rough; :func:`~rectilinear.koopman.solve_features`
    gives all their weights in the end.

    Args:
        model: what to train; :func:`~rectilinear.koopman.fit` initialises it.
        times: times drawn for each batch.
        lr: rate of the training, to which that of the modes is set.

    Example:
        >>> from rectilinear.datasets import simulate_system
        >>> from rectilinear.koopman import FitConfig, as_series, fit
        >>> data = simulate_system("pendulum", count=20, steps=40)
        >>> config = FitConfig(rank=8, horizon=20, fourier=20, width=8)
        >>> model, found = fit(as_series(data.states), config)
        >>> MultiStep(model)(found.packed())["loss"].ndim
        0
    """

    def __init__(self, model: Koopman, times: int = 16, lr: float = 1e-3) -> None:
        super().__init__()
        self.model, self.times, self.lr = model, times, lr

    def prepare(self, data: Tensor) -> None:  # noqa: ARG002 - what the training loop calls before step 0
        """Clear the weights of features of the state, in whose place a network is to learn."""
        features = self.model.lift.features
        if features.width and not any(features.strides):
            features.weight.zero_()

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        model = self.model
        anchors, observed, times = unpack(rows, model.state_dim, model.dim)
        drawn = torch.randint(
            times.shape[1], (min(self.times, times.shape[1]),), device=rows.device
        )
        error = model(anchors, times[:, drawn])[..., : model.dim] - observed[:, drawn]
        return {"loss": (error / model.lift.scale[: model.dim]).square().mean()}

    def diagnostics(self, rows: Tensor) -> dict[str, float]:
        """The round trip of the padded states, and the spectral radius."""
        lift = self.model.lift
        x = lift.pad(rows[:, : self.model.state_dim])
        back = lift.inverse(lift(x)) - x
        radius = float((self.model.spectrum.exponents().real.max() * self.model.dt).exp())
        return {"round_trip": float(back.abs().max()), "spectral_radius": radius}

    def parameter_groups(self) -> list[dict[str, Any]]:
        features = list(self.model.lift.features.parameters())
        modes = [*self.model.spectrum.parameters(), self.model.lift.readout]
        return [{"params": features}, {"params": modes, "lr": self.lr / 100}]


_EDGE = 10.0  # standard deviations at which predicted states are clipped


class Features(Configured):
    """Linear, random Fourier and learned features of a state.

    ``phi(s) = T W [1, u_i, cos(F_i u_i + b_i), h(s)]``.

    The ``u_i`` are ``s`` and the states that ``ahead``, a map of one stride of time, leads to from
    it when applied again and again, and those of ``back``. What becomes of a state after a long
    time can be a wild function of it, and discontinuous between attractors; from one stride to the
    next it is smooth. ``h`` is an MLP, the part that gradients train; the others have their weights
    by least squares. The rows of ``T`` (``basis``) are coordinates in which the weights are well
    conditioned.

    Args:
        in_dim: coordinates of the state.
        basis: ``T^T``, ``(q, p)`` for ``p`` features.
        fourier: number of random Fourier features, of all ``u_i`` together.
        bandwidth: standard deviation of their frequencies, one for all coordinates or ``(in_dim,
            1)``.
        width: width of the MLP; 0 leaves it out.
        hidden: its hidden layers after the first.
        seed: of the frequencies.
        ahead: features that are the state one stride later; their weights stay as they are.
        back: those that are the state one stride earlier.
        strides: number of strides ahead, and back.

    Reference: Rahimi, Recht, "Random features for large-scale kernel machines" (2007).

    Example:
        >>> Features(2, torch.eye(5), fourier=16)(torch.randn(3, 2, dtype=torch.float64)).shape
        torch.Size([3, 5])
    """

    frequencies: Tensor
    phases: Tensor
    weight: Tensor
    basis: Tensor

    def __init__(
        self,
        in_dim: int,
        basis: Tensor,
        fourier: int = 512,
        bandwidth: float | Tensor = 1.0,
        width: int = 0,
        hidden: int = 2,
        seed: int = 0,
        ahead: Features | None = None,
        back: Features | None = None,
        strides: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__()
        self.in_dim, self.fourier, self.width = in_dim, fourier, width
        self.ahead, self.back = ahead, back
        self.strides = strides = (
            strides[0] if ahead is not None else 0,
            strides[1] if back is not None else 0,
        )
        rank, self.out_dim = basis.shape
        g, double = generator(seed), torch.float64
        self.register_buffer(
            "frequencies", bandwidth * torch.randn(in_dim, fourier, generator=g, dtype=double)
        )
        self.register_buffer(
            "phases", 2 * torch.pi * torch.rand(fourier, generator=g, dtype=double)
        )
        inputs = 1 + in_dim * (1 + sum(strides)) + fourier
        self.register_buffer("weight", torch.zeros(inputs, rank, dtype=double))
        self.register_buffer("basis", basis.detach().double())
        if width:
            self.enter = nn.Linear(in_dim, width, dtype=double)
            self.middle = nn.ModuleList(
                nn.Linear(width, width, dtype=double) for _ in range(hidden)
            )
            self.leave = nn.Parameter(torch.zeros(width, rank, dtype=double))

    def forward(self, s: Tensor) -> Tensor:
        values = self.fixed(self.seen(s)) @ self.weight
        if self.width:
            values = values + self.learned(s) @ self.leave
        return values @ self.basis

    def seen(self, s: Tensor) -> list[Tensor]:
        """``s``, the states seen ahead, nearest first, and those seen back."""
        found = [s]
        for stride, count in zip((self.ahead, self.back), self.strides, strict=True):
            u = s
            for _ in range(count):
                assert stride is not None, "strides are counted where there is a map for them"
                u = stride(u).clamp(-_EDGE, _EDGE)
                found.append(u)
        return found

    def fixed(self, seen: list[Tensor]) -> Tensor:
        """``[1, u_i, cos(F_i u_i + b_i)]``, ``(b, 1 + (1 + sum(strides)) in_dim + fourier)``."""
        frequencies, phases = (
            self.frequencies.tensor_split(len(seen), 1),
            self.phases.tensor_split(len(seen)),
        )
        waves = [
            torch.addmm(p, u, f).cos() for u, f, p in zip(seen, frequencies, phases, strict=True)
        ]
        return torch.cat([torch.ones_like(seen[0][:, :1]), *seen, *waves], dim=1)

    def learned(self, s: Tensor) -> Tensor:
        """``h(s)``, ``(b, width)``."""
        h = self.enter(s)
        for layer in self.middle:
            h = h + layer(functional.gelu(h))
        return functional.gelu(h)


class Lift(Invertible):
    """The invertible network ``g`` of a Koopman model: two additive couplings.

    ``g(x, y) = (y', s - o - C y')`` with ``s = (x - mean) / scale`` and ``y' = y + phi(s)``.

    A state ``x`` of ``d`` coordinates enters with ``y = 0``, ``p`` channels. Its features ``y'``
    move by the operator of the model; what they do not say of it is the remainder ``s - o - C y'``,
    so the state comes back exactly, whatever ``phi``. :meth:`observe` decodes the state alone,
    which needs no features: ``s = remainder + o + C y'``.

    Args:
        features: ``phi``, from ``d`` to ``p`` coordinates.
        mean: ``(d,)``.
        scale: ``(d,)``, positive.
        offset: ``o``, about which the modes move, ``(d,)``; none is zero.

    Raises:
        ShapeError: if the shapes disagree.

    Example:
        >>> g = Lift(Features(2, torch.eye(5), fourier=16), torch.zeros(2), torch.ones(2))
        >>> x = torch.randn(3, 2, dtype=torch.float64)
        >>> z = g(g.pad(x))
        >>> z.shape, torch.allclose(g.observe(z), x)
        (torch.Size([3, 7]), True)
    """

    mean: Tensor
    scale: Tensor
    readout: Tensor
    offset: Tensor | None

    def __init__(
        self, features: Features, mean: Tensor, scale: Tensor, offset: Tensor | None = None
    ) -> None:
        super().__init__()
        d, p = features.in_dim, features.out_dim
        if any(
            value.shape != (d,) for value in (mean, scale, *([] if offset is None else [offset]))
        ):
            raise ShapeError(
                f"mean and scale of shape {tuple(mean.shape)} and {tuple(scale.shape)}", f"({d},)"
            )
        self.state_dim, self.pads = d, p
        self.shape = self.latent_shape = (d + p,)
        self.features = features
        self.register_buffer("mean", mean.detach().double())
        self.register_buffer("scale", scale.detach().double())
        self.register_buffer("offset", None if offset is None else offset.detach().double())
        self.readout = nn.Parameter(torch.zeros(p, d, dtype=torch.float64))

    def pad(self, x: Tensor) -> Tensor:
        """The states ``x`` with channels of zeros, ``(b, d) -> (b, d + p)``."""
        return functional.pad(x, (0, self.pads))

    def observe(self, z: Tensor) -> Tensor:
        """The states in ``g^-1(z)``, ``(..., d + p) -> (..., d)``."""
        return self.mean + self.scale * (z[..., self.pads :] + self.moved(z[..., : self.pads]))

    def moved(self, y: Tensor) -> Tensor:
        """The state ``o + C y`` given by features ``(..., p)``, in standard units, ``(..., d)``."""
        moved = y @ self.readout
        return moved if self.offset is None else moved + self.offset

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        s = (x[:, : self.state_dim] - self.mean) / self.scale
        y = x[:, self.state_dim :] + self.features(s)
        return torch.cat([y, s - self.moved(y)], dim=1), -self.scale.log().sum().expand(len(x))

    def _decode(self, z: Tensor) -> Tensor:
        x = self.observe(z)
        y = z[:, : self.pads] - self.features((x - self.mean) / self.scale)
        return torch.cat([x, y], dim=1)
