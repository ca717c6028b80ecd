"""Checks that a network is deterministic and treats the samples of a batch independently."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rectilinear.errors import InputError
from rectilinear.networks.batches import Batch
from rectilinear.networks.forward_pass import Output, call

EQUAL_OUTPUTS = 3e-2  # times the root of machine precision: equal but for the order of sums
SINGLE = 1e-4  # what batches of other sizes may change, below float64
PROBED = 8  # samples that are tried


def allowed_difference(out: Tensor) -> float:
    """The largest relative difference of two equal computations due to rounding."""
    return float(EQUAL_OUTPUTS * torch.finfo(out.dtype).eps ** 0.5)


def allowed_between_batches(out: Tensor) -> float:
    """The same for batches of two sizes, which are summed in another order."""
    eps = torch.finfo(out.dtype).eps
    return max(allowed_difference(out), 8 * eps, SINGLE if out.dtype != torch.float64 else 0.0)


def twice(run: Callable[[], Tensor]) -> tuple[Tensor, bool]:
    """An output, and True if the computation is random.

    It is random if it draws numbers and then gives another output, or if two outputs differ by more
    than rounding.

    Example:
        >>> twice(lambda: torch.ones(2))[1], twice(lambda: 1 + 1e-6 * torch.randn(2))[1]
        (False, True)
    """
    state = torch.get_rng_state()
    out = run().clone()
    drew = not torch.equal(state, torch.get_rng_state())
    again = run()
    if drew and not torch.equal(out, again):
        return out, True
    scale = out.abs().amax().clamp_min(torch.finfo(out.dtype).tiny) if out.numel() else 1.0
    apart = (out - again).abs().amax() if out.numel() else torch.zeros(())
    return out, bool(apart > allowed_difference(out) * scale)


def random_model() -> InputError:
    """The error of a network that is random."""
    return InputError(
        "a model that is random in evaluation mode",
        "the same output for the same input",
        "Remove the noise, or fix it in a buffer.",
    )


def check_steady(model: nn.Module, batch: Batch, output: Output = None) -> None:
    """Raise for a network that is random, or in which samples of a batch affect each other.

    Call it inside :func:`~rectilinear.networks.network.evaluating`.

    Example:
        >>> check_steady(nn.Linear(3, 2), Batch((torch.randn(4, 3),)))
    """
    probe = batch.take(slice(PROBED))
    with torch.no_grad():
        out, random = twice(lambda: call(model, probe, output))
        if random:
            raise random_model()
        half = len(probe) // 2
        if half < 2 or len(out) != len(probe):
            return
        part = call(model, probe.take(slice(half)), output)
    same = part.shape == (half, *out.shape[1:])
    scale = out.abs().amax().clamp_min(torch.finfo(out.dtype).tiny)
    if same and bool((out[:half] - part).abs().amax() <= allowed_between_batches(out) * scale):
        return
    raise InputError(
        "a model in which the samples of a batch act on each other"
        if same
        else f"outputs of shapes {tuple(out.shape)} and {tuple(part.shape)} for {len(out)} and "
        f"{half} samples",
        "an output for each sample that depends on that sample alone",
        sequence_first(model)
        or "Pass output=, such as 'image_embeds' of a model that compares images and texts.",
    )


def sequence_first(model: nn.Module) -> str:
    """The advice for a part whose first axis is time; empty if there is none."""
    for name, part in model.named_modules():
        if getattr(part, "batch_first", True) is False:
            kind = type(part).__name__
            where = f"'{name}' ({kind})" if name else f"The {kind}"
            return f"{where} takes sequences as (time, batch, ...): build it with batch_first=True."
    return ""
