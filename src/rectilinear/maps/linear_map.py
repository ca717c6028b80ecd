"""``linear_map``: the affine map from one place of a network to another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from torch import nn

from rectilinear.checks import whole
from rectilinear.errors import ConfigError
from rectilinear.maps.map_fit import HELD_OUT, JACOBIAN_SAMPLES, Settings, fit_maps
from rectilinear.maps.map_report import LinearMap
from rectilinear.maps.mean_jacobian import Positions, Span
from rectilinear.networks.batches import Tokenizer, read_batches
from rectilinear.networks.forward_pass import Output
from rectilinear.random import check_seed

Method = Literal["least_squares", "mean_jacobian", "frozen_jacobian"]


def linear_map(
    model: nn.Module,
    source: str,
    target: str,
    data: Any,
    *,
    method: Method = "least_squares",
    tokenizer: Tokenizer | None = None,
    output: Output = None,
    positions: Positions = "same",
    skip: tuple[int, int] = (0, 0),
    samples: int = JACOBIAN_SAMPLES,
    held_out: float = HELD_OUT,
    batch_size: int = 32,
    seed: int = 0,
    progress: bool = True,
) -> LinearMap:
    """The affine map from one place of a network to another, tested on held-out samples.

    ``"least_squares"`` is the best map on the data: the matrix of a tuned lens, or of a replaced
    block. ``"mean_jacobian"`` is ``E[dy/dx]``, the Jacobian lens; ``"frozen_jacobian"`` is the same
    with gates, attention weights and normalisation scales held at their values. For Gaussian values
    the first two are equal (Stein's lemma). The constant is that of the means.

    Args:
        model: any module; it is used in evaluation mode and not changed.
        source: a place: a module's name for its output, ``"NAME@input"`` for its input.
        target: another one; ``"@output"`` is the output of the model.
        data: tensors, arrays, mappings, tuples, a loader of these, or texts with ``tokenizer``.
        method: which map.
        tokenizer: a function of a list of texts.
        output: a key, index or function: which part of the output ``"@output"`` is.
        positions: of tokens, "same" for the map from each to itself; "all", of Jacobians, for the
            sum over the tokens that one acts on, which is the published Jacobian lens.
        skip: how many tokens at the beginning and at the end of a sample are left out; (16, 1) in
            the Jacobian lens.
        samples: how many a Jacobian is averaged over, of those that are not held out.
        held_out: the share of the samples that are held out.
        batch_size: samples in a batch, of data that come whole.
        seed: of the split, of random signs, and of the bootstrap.
        progress: show progress on standard error: a bar on a terminal, else a line now and then.

    Raises:
        ConfigError: for a place that there is not, or a setting out of range.
        ShapeError: for places with different numbers of vectors.
        StructureError: if the target does not depend on the source, or with "frozen_jacobian" for
            an operation without a rule.
        InputError: for too few samples.

    Reference: W. Gurnee et al., Verbalizable representations form a global workspace in language
    models, 2026; N. Belrose et al., Eliciting latent predictions with the tuned lens, 2023.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3))
        >>> A = linear_map(net, "0", "2", torch.randn(400, 4))
        >>> A.weight.shape, A.r2 > A.report.mean_r2
        (torch.Size([3, 8]), True)
    """
    if method not in get_args(Method):
        raise ConfigError(f"method = {method!r}", f"one of {', '.join(get_args(Method))}")
    span = Span((source,), target, output, positions, check_skip(skip))
    settings = Settings(samples, held_out, check_seed(seed), progress)
    batches = read_batches(data, model, tokenizer=tokenizer, batch_size=batch_size)
    found, refused = fit_maps(model, span, batches, (method,), settings)
    for error in refused.values():
        raise error
    return found[source][method]


def check_skip(skip: object) -> tuple[int, int]:
    """Two numbers of tokens to skip, checked."""
    if not isinstance(skip, Sequence) or len(skip) != 2:
        raise ConfigError(f"skip = {skip!r}", "two counts, such as (16, 1)")
    return whole(skip[0], "skip"), whole(skip[1], "skip")
