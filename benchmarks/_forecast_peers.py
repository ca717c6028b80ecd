"""Peers of the forecasts: iterated ridge, autoregression, DMD, EDMD, linear nets, an MLP.

deeptime, pydmd and statsmodels are used where they are installed. Each peer is a function that fits
on training rows and returns a function from states or histories to forecasts.
"""

from __future__ import annotations

import importlib.util
import time
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    Simulate = Callable[[np.ndarray, int], np.ndarray]


def installed(name: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(name) is not None


def persistence() -> Simulate:
    """No change, of histories ``(b, rows, d)``."""
    return lambda x, steps: np.repeat(x[:, -1:], steps, 1)


def iterated_ridge(series: np.ndarray, count: int = 1000, ridge: float = 1e-10) -> Simulate:
    """Twenty lines: ridge on random features of one step, iterated; bandwidth 1, ridge 1e-10."""
    flat = series.reshape(-1, series.shape[-1])
    mean, scale = flat.mean(0), flat.std(0)
    z = (series - mean) / scale
    x, y = z[:, :-1].reshape(-1, z.shape[2]), np.diff(z, axis=1).reshape(-1, z.shape[2])
    rng = np.random.default_rng(0)
    some = rng.permutation(len(x))[:12_000]
    frequency = rng.normal(size=(z.shape[2], count)) / z.shape[2] ** 0.5
    phase = rng.uniform(0, 2 * np.pi, count)

    def lift(s: np.ndarray) -> np.ndarray:
        return np.concatenate([np.ones((len(s), 1)), s, np.cos(s @ frequency + phase)], 1)

    phi = lift(x[some])
    weight = np.linalg.solve(
        phi.T @ phi + ridge * len(some) * np.eye(phi.shape[1]), phi.T @ y[some]
    )

    def simulate(state: np.ndarray, steps: int) -> np.ndarray:
        s, found = (state[:, -1] - mean) / scale, []
        for _ in range(steps):
            s = np.clip(s + lift(s) @ weight, -1e6, 1e6)
            found.append(s)
        return np.stack(found, 1) * scale + mean

    return simulate


def dmd(series: np.ndarray) -> Simulate:
    """Least squares of one step; pydmd's, where it is installed, gives the same."""
    d = series.shape[2]
    x = np.concatenate([series[:, :-1].reshape(-1, d), np.ones((series[:, 1:].size // d, 1))], 1)
    weight = np.linalg.lstsq(x, series[:, 1:].reshape(-1, d), rcond=None)[0]

    def simulate(state: np.ndarray, steps: int) -> np.ndarray:
        s, found = state[:, -1], []
        for _ in range(steps):
            s = s @ weight[:-1] + weight[-1]
            found.append(s)
        return np.stack(found, 1)

    return simulate


def edmd(series: np.ndarray, degree: int = 3) -> Simulate:
    """Extended DMD in monomials, by deeptime where it is installed."""
    flat = series.reshape(-1, series.shape[-1])
    mean, scale, d = flat.mean(0), flat.std(0), series.shape[2]
    z = (series - mean) / scale
    x, y = z[:, :-1].reshape(-1, d), z[:, 1:].reshape(-1, d)
    if installed("deeptime"):
        from deeptime.basis import Monomials

        basis = Monomials(degree, d)
    else:
        from sklearn.preprocessing import PolynomialFeatures

        basis = PolynomialFeatures(degree).fit(x).transform
    phi, psi = basis(x), basis(y)
    if installed("deeptime"):
        from deeptime.decomposition import EDMD

        matrix = np.real(EDMD(basis, n_eigs=None).fit((x, y)).fetch_model().operator)
    else:
        matrix = np.linalg.lstsq(phi, psi, rcond=None)[0]
    if not np.allclose(np.linalg.norm(phi @ matrix - psi), 0) and (
        np.linalg.norm(phi @ matrix.T - psi) < np.linalg.norm(phi @ matrix - psi)
    ):
        matrix = matrix.T
    read = np.linalg.lstsq(phi, x, rcond=None)[0]

    def simulate(state: np.ndarray, steps: int) -> np.ndarray:
        p, found = basis((state[:, -1] - mean) / scale), []
        for _ in range(steps):
            p = p @ matrix
            found.append(np.clip(p @ read, -1e6, 1e6))
        return np.stack(found, 1) * scale + mean

    return simulate


def mlp(series: np.ndarray, seconds: float, seed: int = 0) -> Simulate:
    """A residual network of one step, trained for so many processor seconds, iterated."""
    from rectilinear.invertible import MLP

    torch.manual_seed(seed)
    x = torch.as_tensor(series)
    flat = x.flatten(0, 1)
    mean, scale = flat.mean(0).float(), flat.std(0).float()
    u = (x.float() - mean) / scale
    before, change = u[:, :-1].flatten(0, 1), u.diff(dim=1).flatten(0, 1)
    size = change.std(0)
    net = MLP(u.shape[-1], u.shape[-1], width=128, hidden=2)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.0)
    start, step = time.process_time(), 0
    while (part := (time.process_time() - start) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1, (step + 1) / 50) * (1 + np.cos(np.pi * part)) / 2
        rows = torch.randint(len(before), (1024,))
        loss = ((net(before[rows]) - change[rows]) / size).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        step += 1

    @torch.no_grad()
    def simulate(state: np.ndarray, steps: int) -> np.ndarray:
        now, found = (torch.as_tensor(state[:, -1]).float() - mean) / scale, []
        for _ in range(steps):
            now = now + net(now)
            found.append(now)
        return (torch.stack(found, 1) * scale + mean).double().numpy()

    return simulate


def lag_rows(x: np.ndarray, lags: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Histories, oldest first, and what followed, of one series ``(T,)``."""
    windows = np.lib.stride_tricks.sliding_window_view(x, lags + horizon)
    return windows[:, :lags], windows[:, lags:]


def autoregression(x: np.ndarray, lags: int) -> Simulate:
    """AR(lags) with a constant by least squares, iterated."""
    past, later = lag_rows(x, lags, 1)
    design = np.concatenate([past, np.ones((len(past), 1))], 1)
    weight = np.linalg.lstsq(design, later[:, 0], rcond=None)[0]

    def simulate(history: np.ndarray, steps: int) -> np.ndarray:
        now, found = history[:, -lags:, 0], []
        for _ in range(steps):
            y = now @ weight[:-1] + weight[-1]
            now = np.concatenate([now[:, 1:], y[:, None]], 1)
            found.append(y)
        return np.stack(found, 1)[..., None]

    return simulate


def lag_least_squares(x: np.ndarray, lags: int, horizon: int) -> Simulate:
    """Least squares from the last rows to the horizon, without a penalty."""
    past, later = lag_rows(x, lags, horizon)
    design = np.concatenate([past, np.ones((len(past), 1))], 1)
    weight = np.linalg.lstsq(design, later, rcond=None)[0]
    return lambda h, steps: (h[:, -lags:, 0] @ weight[:-1] + weight[-1])[:, :steps, None]


class LinearNet(torch.nn.Module):
    """DLinear (trend and remainder apart) or NLinear (less the last value), one map for all columns.

    Zeng et al., "Are transformers effective for time series forecasting?" (AAAI 2023).
    """

    def __init__(self, kind: str, lags: int, horizon: int) -> None:
        super().__init__()
        self.kind, self.kernel = kind, 25
        self.maps = torch.nn.ModuleList(
            torch.nn.Linear(lags, horizon) for _ in range(2 if kind == "DLinear" else 1)
        )
        for layer in self.maps:
            torch.nn.init.constant_(layer.weight, 1 / lags)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "NLinear":
            return self.maps[0](x - x[:, -1:]) + x[:, -1:]
        half = self.kernel // 2
        padded = torch.cat([x[:, :1].expand(-1, half), x, x[:, -1:].expand(-1, half)], 1)
        trend = torch.nn.functional.avg_pool1d(padded[:, None], self.kernel, 1)[:, 0]
        return self.maps[0](trend) + self.maps[1](x - trend)


def linear_net(
    kind: str,
    train: tuple[torch.Tensor, torch.Tensor],
    held: tuple[torch.Tensor, torch.Tensor],
    seconds: float,
    seed: int = 0,
) -> torch.nn.Module:
    """The net after training by Adam for so many processor seconds; the best on held-out rows."""
    torch.manual_seed(seed)
    net = LinearNet(kind, train[0].shape[1], train[1].shape[1])
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    best, kept = np.inf, None
    start, step = time.process_time(), 0
    while (part := (time.process_time() - start) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 + np.cos(np.pi * part)) / 2
        rows = torch.randint(len(train[0]), (256,))
        loss = (net(train[0][rows]) - train[1][rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % 200 == 0:
            with torch.no_grad():
                error = float((net(held[0]) - held[1]).square().mean())
            if error < best:
                best, kept = error, {k: v.clone() for k, v in net.state_dict().items()}
    if kept is not None:
        net.load_state_dict(kept)
    return net


def bop_dmd(x: np.ndarray, delays: int, rank: int) -> Simulate | None:
    """PyDMD's optimised DMD on windows of the training series; new windows are expanded in modes."""
    if not installed("pydmd"):
        return None
    from pydmd import BOPDMD

    mean = x.mean()
    windows = np.lib.stride_tricks.sliding_window_view(x - mean, delays).T
    model = BOPDMD(svd_rank=rank, num_trials=0, varpro_opts_dict={"verbose": False})
    model.fit(windows, t=np.arange(windows.shape[1], dtype=float))
    exponents, shapes = model.eigs, model.modes
    inverse = np.linalg.pinv(shapes)

    def simulate(history: np.ndarray, steps: int) -> np.ndarray:
        size = (history[:, -delays:, 0] - mean) @ inverse.T
        grow = np.exp(exponents[None] * np.arange(1, steps + 1)[:, None])
        found = np.real(np.einsum("br,kr,r->bk", size, grow, shapes[-1]))
        return np.clip(found + mean, -1e9, 1e9)[..., None]

    return simulate


def ar_by_aic(x: np.ndarray, most: int) -> Simulate | None:
    """Statsmodels' AutoReg with lags chosen by AIC, iterated from each history."""
    if not installed("statsmodels"):
        return None
    from statsmodels.tsa.ar_model import ar_select_order

    lags = ar_select_order(x, maxlag=most, ic="aic").ar_lags
    return autoregression(x, max(lags) if lags is not None and len(lags) else 1)
