"""Frozen-gate rules for recurrent layers: LSTM, GRU and plain RNN.

An LSTM is ``c' = f c + i g`` and ``h' = o tanh(c')`` with ``g = tanh(W x + U h + b)``. With the
gates ``f, i, o`` and the ratios ``tanh(a) / a`` held at their values it is linear in its input, its
initial state and its biases. The same holds for a GRU, ``h' = (1 - z) n + z h``, and an RNN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from rectilinear.errors import StructureError
from rectilinear.maps.frozen import RULES, Call, Frozen, dropout_on

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
State = tuple[Tensor, ...]


class _Weights(NamedTuple):
    """Weights and biases of one direction of one layer; biases may be None."""

    w: Tensor
    u: Tensor
    b: Tensor | None
    v: Tensor | None
    projection: Tensor | None = None


def _layers(frozen: Frozen, call: Call) -> Any:
    """The outputs of a stack of recurrent layers, step by step."""
    kind, args = call.name, call.args
    if len(args) != 9 or not isinstance(args[3], bool):
        raise StructureError(
            f"a packed sequence in '{kind}', which has no rule for gates that are held",
            "a padded tensor",
            "Call the layer on the padded tensor, or use freeze=False.",
        )
    x, state, flat, biased, count, dropout, training, both_ways, batch_first = args
    if dropout and training:
        raise dropout_on()
    given = state if isinstance(state, list | tuple) else (state,)
    if not frozen.is_linear(x) or frozen.held_in(given):
        return frozen.hold(call)
    steps = x.transpose(0, 1) if batch_first and x.ndim == 3 else x
    states = [_as_source(frozen, s, steps) for s in given]
    last: list[State] = []
    for layer in range(count):
        directions = []
        for way in range(1 + both_ways):
            at = layer * (1 + both_ways) + way
            weights = _weights_of(flat, at, biased, len(given), kind)
            first = tuple(s[at] for s in states)
            out, end = _run(frozen, kind, steps.flip(0) if way else steps, first, weights)
            directions.append(out.flip(0) if way else out)
            last.append(end)
        steps = torch.cat(directions, -1)
    out = steps.transpose(0, 1) if batch_first and x.ndim == 3 else steps
    ends = tuple(torch.stack(parts) for parts in zip(*last, strict=True))
    return frozen.keep((out, *ends), kind)


def _weights_of(flat: Sequence[Tensor], at: int, biased: bool, states: int, kind: str) -> _Weights:
    """The weights of one direction of one layer, from torch's flat list."""
    plain = 4 if biased else 2
    known = flat[0].shape[0] // GATES[kind]
    projected = states == 2 and flat[1].shape[1] != known
    each = plain + projected
    part = list(flat[at * each : (at + 1) * each])
    b, v = (part[2], part[3]) if biased else (None, None)
    return _Weights(part[0], part[1], b, v, part[-1] if projected else None)


def _as_source(frozen: Frozen, state: Tensor, like: Tensor) -> Tensor:
    """An initial state: a linear tensor, or a constant as an input of its own; None for zeros."""
    if frozen.is_linear(state) or not bool(state.any()):
        return state
    found: Tensor = frozen.source(state, like)
    return found


def _run(
    frozen: Frozen, kind: str, steps: Tensor, state: State, weights: _Weights
) -> tuple[Tensor, State]:
    """The states after each step, and the last one."""
    b, v = (None if p is None else frozen.source(p, steps) for p in (weights.b, weights.v))
    known = weights._replace(b=b, v=v)
    step: Callable[[str, Tensor, State, _Weights], State] = _STEPS[kind]
    out = []
    for x in steps:
        state = step(kind, x, state, known)
        out.append(state[0])
    return torch.stack(out), state


def _held(function: Callable[[Tensor], Tensor], a: Tensor) -> Tensor:
    """``phi(a) = a (phi(a) / a)`` with the ratio held, for functions of slope one at zero."""
    value = a.detach()
    zero = value == 0
    ratio = torch.where(zero, 1.0, function(value) / torch.where(zero, 1.0, value))
    return a * ratio


def _lstm(_: str, x: Tensor, state: State, at: _Weights) -> State:
    h, c = state
    i, f, g, o = (linear(x, at.w, at.b) + linear(h, at.u, at.v)).chunk(4, -1)
    c = f.detach().sigmoid() * c + i.detach().sigmoid() * _held(torch.tanh, g)
    h = o.detach().sigmoid() * _held(torch.tanh, c)
    return (h if at.projection is None else linear(h, at.projection)), c


def _gru(_: str, x: Tensor, state: State, at: _Weights) -> State:
    (h,) = state
    r, z, n = linear(x, at.w, at.b).chunk(3, -1)
    s, y, m = linear(h, at.u, at.v).chunk(3, -1)
    reset, update = (r + s).detach().sigmoid(), (z + y).detach().sigmoid()
    new = _held(torch.tanh, n + reset * m)
    return ((1 - update) * new + update * h,)


def _plain(kind: str, x: Tensor, state: State, at: _Weights) -> State:
    function = torch.tanh if kind.endswith("tanh") else torch.relu
    return (_held(function, linear(x, at.w, at.b) + linear(state[0], at.u, at.v)),)


_STEPS = {"lstm": _lstm, "gru": _gru, "rnn_tanh": _plain, "rnn_relu": _plain}


def _cell(frozen: Frozen, call: Call) -> Any:
    """One step of a recurrent cell, such as ``nn.LSTMCell``."""
    kind = call.name.removesuffix("_cell")
    x, state, *weights = call.args
    given = tuple(state) if isinstance(state, list | tuple) else (state,)
    if frozen.held_in((x, given)) or not frozen.linear_in((x, given)):
        return frozen.hold(call)
    like = x if frozen.is_linear(x) else frozen.linear_in(given)[0]
    x, *states = (_as_source(frozen, t, like) for t in (x, *given))
    w, u, b, v = (*weights, None, None)[:4]
    b, v = (None if p is None else frozen.source(p, like) for p in (b, v))
    found = _STEPS[kind](kind, x, tuple(states), _Weights(w, u, b, v))
    return frozen.keep(found if len(found) > 1 else found[0], call.name)


RULES |= dict.fromkeys(GATES, _layers)
RULES |= dict.fromkeys([f"{kind}_cell" for kind in GATES], _cell)
