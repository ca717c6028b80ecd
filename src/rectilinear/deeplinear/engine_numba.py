"""Training engine in numba: the loop of :mod:`rectilinear.deeplinear.engine_numpy`, compiled.

It can be imported only where numba is installed. The runs of a block are the columns of every
array, so that inner loops are vector instructions and a block with its optimiser stays in the
cache. Sums are taken in the order of the NumPy code: networks of one input and width one come out
the same to the last bit. Numba finds the types of arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from rectilinear.deeplinear.engine_numpy import Problem, Record, Rule

BLOCK_RUNS = 64  # trained side by side


def run(
    problem: Problem,
    theta: np.ndarray,
    rule: Rule,
    steps: int,
    marks: np.ndarray,
    *,
    stop: bool,
    keep: bool,
    out: Record,
) -> None:
    """A compiled :func:`rectilinear.deeplinear.engine_numpy.run`."""
    count, sizes = len(theta), np.array(problem.sizes)
    kind = ("gd", "momentum", "adam").index(rule.name)
    numbers = (rule.momentum, *rule.betas, rule.eps)
    corrections = rule.corrections(steps)
    tail = np.zeros((1, 1, 1)) if problem.tail is None else problem.tail

    def columns(a: np.ndarray, rows: slice) -> np.ndarray:
        block = np.broadcast_to(
            a[rows] if len(a) > 1 else a, (rows.stop - rows.start, *a.shape[1:])
        )
        return np.array(block.reshape(len(block), -1).T, order="C")

    for at in range(0, count, BLOCK_RUNS):
        rows = slice(at, min(at + BLOCK_RUNS, count))
        arguments: tuple[Any, ...] = (
            *(sizes, problem.bias),
            *(
                columns(a, rows)
                for a in (problem.root, problem.mean, problem.coef, problem.intercept, tail, theta)
            ),
            problem.tail is not None,
            *(kind, numbers, corrections),
            *(np.array(a[rows]) for a in (rule.lr, problem.tol, problem.limit)),
            *(steps, marks, stop, keep),
            *(
                a[rows]
                for a in (
                    out.coef,
                    out.intercept,
                    out.gap,
                    out.n_iter,
                    out.hit,
                    out.diverged,
                    out.theta,
                )
            ),
            out.best[rows],
        )
        _train(*arguments)


def _jit(function: Callable[..., None]) -> Callable[..., None]:
    """The function compiled on first use, and cached on disk where a folder can be written."""
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # neither the package's folder nor the home folder can be written
        return numba.njit(nogil=True, error_model="numpy")(function)


@numba.njit(inline="always", error_model="numpy")
def _times(to, p, a, i, b, j, add, n):  # type: ignore[no-untyped-def]
    """Row ``p`` of ``to``: plus (``add``) or equal to the product of two rows, in ``n`` columns."""
    if add:
        for x in range(n):
            to[p, x] += a[i, x] * b[j, x]
    else:
        for x in range(n):
            to[p, x] = a[i, x] * b[j, x]


@_jit
def _forward(  # type: ignore[no-untyped-def]
    sizes, bias, root, mean, coef, intercept, tail, narrow, theta, w_at, b_at, s_at,
    s, e, v, c, u, r, gap, n,
):  # fmt: skip
    """Products of the layers, intercepts, ``e R' R``, ``r`` and the gap of ``n`` columns."""
    depth, d, m = len(sizes) - 1, sizes[0], sizes[-1]
    for p in range(m * sizes[depth - 1]):
        for x in range(n):
            s[s_at[depth - 1] + p, x] = theta[w_at[depth - 1] + p, x]
    for j in range(depth - 2, -1, -1):
        o_size, i_size = sizes[j + 1], sizes[j]
        for k in range(m):
            for i in range(i_size):
                for o in range(o_size):
                    a, w = s_at[j + 1] + k * o_size + o, w_at[j] + o * i_size + i
                    _times(s, s_at[j] + k * i_size + i, s, a, theta, w, o > 0, n)
    for p in range(m * d):
        for x in range(n):
            e[p, x] = s[p, x] - coef[p, x]
    for k in range(m):
        for i in range(d):
            for j in range(i, d):
                _times(v, k * d + i, e, k * d + j, root, i * d + j, j > i, n)
    for p in range(m * d):
        _times(gap, 0, v, p, v, p, p > 0, n)
        if narrow:
            for x in range(n):
                gap[0, x] -= 2.0 * v[p, x] * tail[p, x]
                v[p, x] -= tail[p, x]
    for k in range(m):
        for i in range(d):
            for j in range(i + 1):
                _times(u, k * d + i, v, k * d + j, root, j * d + i, j > 0, n)
    if bias:
        for k in range(m):
            for x in range(n):
                c[k, x] = theta[b_at[depth - 1] + k, x]
            for j in range(depth - 1):
                for o in range(sizes[j + 1]):
                    _times(c, k, s, s_at[j + 1] + k * sizes[j + 1] + o, theta, b_at[j] + o, True, n)
            for i in range(d):
                _times(r, k, e, k * d + i, mean, i, i > 0, n)
            for x in range(n):
                r[k, x] += c[k, x] - intercept[k, x]
            _times(gap, 0, r, k, r, k, True, n)
    for x in range(n):
        gap[0, x] /= m


@_jit
def _backward(sizes, bias, mean, theta, w_at, b_at, s_at, s, u, v, r, gradient, n):  # type: ignore[no-untyped-def]
    """The gradient at the weights of the last forward pass."""
    depth, d, m = len(sizes) - 1, sizes[0], sizes[-1]
    if bias:
        for k in range(m):
            for i in range(d):
                _times(u, k * d + i, r, k, mean, i, True, n)
    for j in range(depth - 1):
        o_size, i_size = sizes[j + 1], sizes[j]
        for k in range(m):
            for o in range(o_size):
                a = s_at[j + 1] + k * o_size + o
                for i in range(i_size):
                    _times(gradient, w_at[j] + o * i_size + i, s, a, u, k * i_size + i, k > 0, n)
                    _times(
                        v,
                        k * o_size + o,
                        u,
                        k * i_size + i,
                        theta,
                        w_at[j] + o * i_size + i,
                        i > 0,
                        n,
                    )
                if bias:
                    _times(gradient, b_at[j] + o, s, a, r, k, k > 0, n)
                    _times(v, k * o_size + o, r, k, theta, b_at[j] + o, True, n)
        u, v = v, u
    for p in range(m * sizes[depth - 1]):
        for x in range(n):
            gradient[w_at[depth - 1] + p, x] = u[p, x]
    if bias:
        for k in range(m):
            for x in range(n):
                gradient[b_at[depth - 1] + k, x] = r[k, x]


@_jit
def _update(kind, momentum, beta1, beta2, eps, one, two, lr, theta, gradient, first, second, n):  # type: ignore[no-untyped-def]
    """One step of the optimiser on ``n`` columns; ``one`` and ``two`` are Adam's corrections."""
    for p in range(len(theta)):
        if kind == 0:
            for x in range(n):
                theta[p, x] -= gradient[p, x] * lr[x]
        elif kind == 1:
            for x in range(n):
                first[p, x] = first[p, x] * momentum + gradient[p, x]
                theta[p, x] -= lr[x] * first[p, x]
        else:
            for x in range(n):
                g = gradient[p, x]
                first[p, x] += (1 - beta1) * (g - first[p, x])
                second[p, x] = second[p, x] * beta2 + g * g * (1 - beta2)
                theta[p, x] -= first[p, x] / (np.sqrt(second[p, x]) / two + eps) * (lr[x] / one)


@_jit
def _train(  # type: ignore[no-untyped-def]
    sizes, bias, root, mean, coef, intercept, tail, theta, narrow, kind, numbers, corrections,
    lr, tol, limit, steps, marks, stop, keep,
    out_coef, out_intercept, out_gap, out_n_iter, out_hit, out_diverged, out_theta, out_best,
):  # fmt: skip
    """All steps of a block; a run that ends changes places with the last that goes on."""
    depth, d, m = len(sizes) - 1, sizes[0], sizes[-1]
    parameters, n = theta.shape
    w_at, b_at, s_at = (
        np.zeros(depth, np.int64),
        np.zeros(depth, np.int64),
        np.zeros(depth, np.int64),
    )
    for j in range(1, depth):
        w_at[j] = w_at[j - 1] + sizes[j] * sizes[j - 1]
        s_at[j] = s_at[j - 1] + m * sizes[j - 1]
    b_at[0] = w_at[depth - 1] + m * sizes[depth - 1]
    for j in range(1, depth):
        b_at[j] = b_at[j - 1] + sizes[j]
    wide = sizes.max()
    s, e, c = np.zeros((s_at[-1] + m * wide, n)), np.zeros((m * d, n)), np.zeros((m, n))
    r, gap = np.zeros((m, n)), np.zeros((1, n))
    u, v = np.zeros((m * wide, n)), np.zeros((m * wide, n))
    gradient, first, second = np.zeros_like(theta), np.zeros_like(theta), np.zeros_like(theta)
    momentum, beta1, beta2, eps = numbers
    index, mark, least = np.arange(n), 0, np.full(n, np.inf)
    for step in range(steps + 1):
        _forward(
            sizes,
            bias,
            root,
            mean,
            coef,
            intercept,
            tail,
            narrow,
            theta,
            w_at,
            b_at,
            s_at,
            s,
            e,
            v,
            c,
            u,
            r,
            gap,
            n,
        )
        if keep:
            for x in range(n):
                if gap[0, x] < least[index[x]]:
                    least[index[x]], out_best[index[x]] = gap[0, x], step
                    for p in range(parameters):
                        out_theta[index[x], p] = theta[p, x]
        at_mark, quiet = step == marks[mark], True
        for x in range(n):
            quiet &= (gap[0, x] > tol[x]) & (gap[0, x] <= limit[x])
        if at_mark or not quiet:
            for x in range(n - 1, -1, -1):
                here = index[x]
                hit, lost = gap[0, x] <= tol[x], not gap[0, x] <= limit[x]
                if hit:
                    out_hit[here] = step
                    tol[x] = -np.inf
                out_diverged[here] |= lost
                ends = lost or (hit and stop) or step == steps
                if at_mark or ends:
                    until = len(marks) if ends else mark + 1
                    for q in range(mark, until):
                        out_gap[here, q] = gap[0, x]
                        for k in range(m):
                            out_intercept[here, q, k] = c[k, x]
                            for i in range(d):
                                out_coef[here, q, k, i] = s[s_at[0] + k * d + i, x]
                if ends:
                    out_n_iter[here] = step
                    if not keep:
                        for p in range(parameters):
                            out_theta[here, p] = theta[p, x]
                    n -= 1
                    index[x], lr[x], tol[x], limit[x] = index[n], lr[n], tol[n], limit[n]
                    for table in (
                        root,
                        mean,
                        coef,
                        intercept,
                        tail,
                        theta,
                        first,
                        second,
                        s,
                        u,
                        r,
                        gap,
                    ):
                        for p in range(len(table)):
                            table[p, x] = table[p, n]
            mark += at_mark
        if n == 0:
            return
        _backward(sizes, bias, mean, theta, w_at, b_at, s_at, s, u, v, r, gradient, n)
        one, two = corrections[step]
        _update(kind, momentum, beta1, beta2, eps, one, two, lr, theta, gradient, first, second, n)
