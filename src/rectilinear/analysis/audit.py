"""The audit: how linear a network is, on any data that it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn

from rectilinear.analysis.measure import Settings, Subject
from rectilinear.analysis.measurements import VERDICT, chosen, measured, measured_tokens
from rectilinear.analysis.result import Audit
from rectilinear.analysis.token_subject import TokenSubject
from rectilinear.errors import ConfigError
from rectilinear.networks import data as points
from rectilinear.networks.batches import Tokenizer, one_batch, read_batches
from rectilinear.networks.data import Task, are_rows, task_for
from rectilinear.networks.forward_pass import Output
from rectilinear.networks.network import as_network, check_module, evaluating
from rectilinear.networks.places import inner
from rectilinear.progress import Progress
from rectilinear.random import seeded

THRESHOLD = 0.99  # share of the variance that one affine map explains of what counts as linear
Outputs = Literal["each", "together", "standardised"]


def audit(
    model: nn.Module,
    x: Any,
    y: Any = None,
    *,
    loss: str | Callable[[Tensor, Tensor], Tensor] | None = None,
    lr: float | None = None,
    steps: int | None = None,
    blocks: list[str] | None = None,
    threshold: float = THRESHOLD,
    outputs: Outputs = "each",
    output: Output = None,
    tokenizer: Tokenizer | None = None,
    measures: str | Sequence[str] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Audit:
    """The audit of a network: how linear it is, on the data and by construction, and the causes.

    The measures: homogeneity; odd and even energy; linearity of the odd part; the share that no
    affine map can explain, from outputs halfway between data; the best affine map on the data and
    its loss at the task; for two layers the exact linear part, Gaussian energies and a certified
    distance from linear; the symmetry of the data; the lower bound of the loss; the weights; the
    learning curve from these weights; for each block the affine map in its place; the Jacobians.
    Each is marked exact, certified, estimated (with an interval), or not applicable with the
    reason.

    The model is used in evaluation mode and not changed. Data in batches are read several times and
    never held in memory as a whole if they do not fit.

    Args:
        model: any module that maps rows to rows.
        x: ``(n, ...)``, or an iterable of batches ``x`` or ``(x, y)`` that can be read again, such
            as a ``DataLoader``.
        y: labels: classes ``(n,)``, signs, or numbers ``(n,)`` or ``(n, O)``.
        loss: "square" (half the square), "logistic", "hinge", "cross_entropy", or a function of
            outputs and labels that gives the loss of each row; from the labels by default.
        lr: learning rate for which learning from the present weights is predicted.
        steps: for how many steps.
        blocks: names of the blocks to replace; by default the contents of the model's containers.
        threshold: the share of the variance that one affine map must explain for "effectively
            linear".
        outputs: of what: of "each" output by itself, so that the worst decides; of all "together",
            where a large output outweighs small ones; or of all "standardised" to one variance on
            the data.
        output: what of the model's output counts, where it is more than a tensor: a key or
            attribute such as "logits", an index, or a function of it; by default its first
            floating-point tensor.
        tokenizer: of texts: a function of a list of them, such as those of Hugging Face.
        measures: names of the measurements to take, such as "blocks", beside those that decide the
            verdict; "verdict" for these alone, which is quickest; all by default.
        seed: of samples, random directions and bootstraps.
        progress: show progress on standard error: a bar on a terminal, else a line now and then.

    Raises:
        DtypeError, ShapeError, NonFiniteError, DataError: for unusable data or labels.
        InputError: for a model without parameters, that is random, or that lets rows act on each
            other.
        ConfigError: for a setting out of range.

    Reference: Y. Zhang, A. Saxe, P. Latham, When are bias-free ReLU networks effectively linear
    networks?, TMLR 2025.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 2))
        >>> found = audit(net, torch.randn(100, 3))
        >>> found.verdict.label, found.measures["affine_r2"].kind
        ('linear', 'exact')
    """
    if not 0 < threshold <= 1:
        raise ConfigError(f"threshold = {threshold}", "a share, above 0 and at most 1")
    if outputs not in get_args(Outputs):
        raise ConfigError(f"outputs = {outputs!r}", f"one of {', '.join(get_args(Outputs))}")
    if (lr is None) != (steps is None):
        raise ConfigError(
            f"lr = {lr} and steps = {steps}",
            "both or neither",
            "Give both to predict the learning curve.",
        )
    asked, brief = chosen(measures), measures in (VERDICT, [VERDICT], (VERDICT,))
    check_module(model)
    assert isinstance(model, nn.Module)
    devices = [p.device for p in model.parameters() if p.is_cuda][:1]
    judge = _Judge(asked, brief, threshold, outputs, seed, progress)
    with evaluating(model), seeded(seed, devices):
        if _is_of_tokens(x, tokenizer):
            return _audit_tokens(model, x, y, tokenizer, loss, output, blocks, judge)
        data = points.read(x, y, seed)
        network = as_network(model, data.sample, output, data.argument)
        task = _task(data.labels, loss)(network.out_dim)
        settings = Settings(blocks, lr, steps, outputs == "standardised")
        with Progress("audit", 1 + len(asked), shown=progress) as display:
            display.advance("layers")
            subject = Subject.of(network, data, task, seed, settings)
            found, judged = measured(
                subject, asked, brief, threshold, outputs == "each", display.advance
            )
    return Audit(
        type(network.model).__name__,
        _count(model),
        network.in_shape,
        network.out_shape,
        data.n,
        seed,
        judged,
        found,
    )


class _Judge(NamedTuple):
    """The settings of the measures and of the verdict."""

    asked: set[str]
    brief: bool
    threshold: float
    outputs: Outputs
    seed: int
    progress: bool


def _audit_tokens(
    model: nn.Module,
    x: Any,
    y: Any,
    tokenizer: Tokenizer | None,
    loss: str | Callable[[Tensor, Tensor], Tensor] | None,
    output: Output,
    blocks: list[str] | None,
    judge: _Judge,
) -> Audit:
    """The audit of a model whose data are not rows of numbers."""
    batches = read_batches(x, model, y, tokenizer=tokenizer)
    known = [batch.labels for batch in batches]
    labels = [label for label in known if label is not None]
    task = _task(torch.cat(labels) if len(labels) == len(known) else None, loss)
    with Progress("audit", 1 + len(judge.asked), shown=judge.progress) as display:
        display.advance("embeddings")
        subject = TokenSubject.of(model, batches, output, task, judge.seed, blocks)
        found, judged = measured_tokens(
            subject, judge.asked, judge.threshold, judge.outputs == "each", display.advance
        )
    shape = (subject.longest, *subject.shape) if subject.by_token else subject.shape
    return Audit(
        type(inner(model)).__name__,
        _count(model),
        (subject.longest, subject.dim),
        shape,
        batches.size,
        judge.seed,
        judged,
        found,
        "" if str(subject.start) == "@input" else f"the embeddings' output ({subject.start})",
        subject.count,
    )


def _is_of_tokens(x: Any, tokenizer: Tokenizer | None) -> bool:
    """True if the data are token ids, texts, padded, or of several tensors."""
    if tokenizer is not None:
        return True
    if isinstance(x, Tensor):
        return not x.is_floating_point() and not x.is_complex()
    part = x
    if not isinstance(x, np.ndarray | Mapping | tuple):
        if not hasattr(x, "__iter__") or hasattr(x, "__array__") or iter(x) is x:
            return False
        part = next(iter(x), None)
    if isinstance(part, str):
        return True
    return part is not None and not are_rows(one_batch(part))


def _task(
    labels: Tensor | None, loss: str | Callable[[Tensor, Tensor], Tensor] | None
) -> Callable[[int], Task | None]:
    """The task of a network with so many outputs."""
    if loss is not None and labels is None:
        raise ConfigError("a loss without labels", "labels", "Pass y, or batches of (x, y).")
    return lambda outputs: None if labels is None else task_for(labels, outputs, loss)


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
