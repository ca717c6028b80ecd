"""Dynamics that are linear in an induced space."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rectilinear._pretrained import Configured
from rectilinear._shapes import check_batch, check_finite
from rectilinear.errors import ConfigError, DivergedError, ShapeError
from rectilinear.linearizer import Linearizer

if TYPE_CHECKING:
    from rectilinear.koopman.lift import Lift
    from rectilinear.koopman.spectrum import Spectrum

FARTHEST = 1e3
"""A forecast may go so many standard deviations of the data away before it counts as diverged."""
_STAGES = 100_000  # re-encodings, some minutes
_LARGEST = 10_000_000  # latent numbers held at a time


class Koopman(Configured):
    """``x(t) = pi g^-1(A^t g(x, 0))``: the state is padded, moves linearly in the space of ``g``, and is cut out again.

    On padded states this is a Linearizer, so ``A^s A^t = A^(s + t)`` holds exactly for all real ``s`` and ``t``, and a
    forecast of any length is one application. On the states alone it holds as far as the padded states form an
    invariant set, which no finite model of a system with a continuous spectrum or with several attractors can reach:
    :func:`~rectilinear.koopman.chapman_kolmogorov` measures it, and ``reencode`` pads anew on the way.

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

    Reference: Koopman (1931); Lusch, Kutz, Brunton, "Deep learning for universal linear embeddings of nonlinear
    dynamics" (2018); the exact decoder by Berman et al., arXiv 2510.08570.

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
            raise ShapeError(f"a spectrum of {spectrum.dim} dimensions", f"{lift.dim}, as the network has")
        if not dt > 0 or delays < 1 or lift.state_dim % delays:
            raise ConfigError(f"dt = {dt}, delays = {delays}", "positive numbers, delays that divide the state")
        self.lift, self.spectrum, self.dt, self.delays = lift, spectrum, dt, delays
        self.state_dim = lift.state_dim
        self.dim = lift.state_dim // delays

    def encode(self, x: Tensor) -> Tensor:
        """Latent coordinates ``g(x, 0)``: ``(b, delays * dim) -> (b, n)``."""
        check_batch(x, (self.state_dim,), "states")
        return self.lift(self.lift.pad(x))

    def advance(self, z: Tensor, times: Tensor) -> Tensor:
        """``A^t z`` for each time: ``(b, n)`` and ``(k,)`` or ``(b, k)`` to ``(b, k, n)``."""
        return self.spectrum.operator(times)(z[:, None])

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        """The states after ``times`` ``(k,)`` or ``(b, k)``, of either sign: ``(b, k, delays * dim)``."""
        return self.lift.observe(self.advance(self.encode(x), times))

    def forecast(self, x: Tensor, times: Tensor, reencode: int | None = None) -> Tensor:
        """The observations after ``times`` ``(k,)`` or ``(b, k)``, newest of each window: ``(b, k, dim)``.

        With ``reencode=m`` the state is decoded, padded anew and encoded after every ``m`` steps of ``dt``: no longer
        one linear map, and closer to the system where the model is good over ``m`` steps only.

        Raises:
            NonFiniteError: for states or times that are not finite.
            ConfigError: for more than 100,000 re-encodings.
            DivergedError: if the forecast goes 1,000 standard deviations of the data away: an unstable model, or a
                strongly damped one backwards, asked for too long a time.

        Reference: Fathi et al., "Course correcting Koopman representations", arXiv 2310.15386 (re-encoding).
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
            raise ConfigError(f"reencode = {reencode}", "a number of steps, at least 1", "Leave it out for one map.")
        else:
            found = self._in_stages(x, times.expand(len(x), -1), reencode * self.dt)
        self._check_range(found, times)
        return found[..., : self.dim]

    def linearizer(self, t: float | None = None) -> Linearizer:
        """The Linearizer ``g^-1 A^t g`` on padded states ``(b, n)``; ``t`` is one step if not given."""
        return Linearizer(self.lift, self.spectrum.operator(self.dt if t is None else t))

    def _in_stages(self, x: Tensor, times: Tensor, stage: float) -> Tensor:
        """Each time as whole stages of the sign of the time, and a rest."""
        whole = torch.floor(times.abs() / stage * (1 + 1e-12) + 1e-9)
        if float(whole.max()) > _STAGES:
            raise ConfigError(
                f"{float(whole.max()):g} re-encodings", f"at most {_STAGES}", "Raise reencode, or leave it out."
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
            got=f"a forecast over {time / self.dt:g} steps that leaves the data by {far[row, column].max():.1e} "
            f"standard deviations (spectral radius {radius:.6f})",
            expected=f"at most {FARTHEST:g}",
            fix="Forecast fewer steps, or fit with stable=True; backwards, fit with backward=STEPS.",
        )
