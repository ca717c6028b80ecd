"""Classes of a generator: its network given a class, and the probabilities of classes of data.

A generator whose density is a Gaussian mixture with classes, an invertible.MixtureMap, is made
conditional by leaving out the components of the other classes: the operator stays the same, and the
density given a class is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from rectilinear.checks import check_floating, check_limits
from rectilinear.errors import InputError
from rectilinear.invertible import Chain, Invertible, Leading, MixtureMap

ROWS = 512  # that are encoded at a time


def has_classes(network: nn.Module) -> bool:
    """True if ``network`` contains a mixture with classes.

    Example:
        >>> from rectilinear.invertible import Identity
        >>> has_classes(Identity((3,)))
        False
    """
    return any(isinstance(m, MixtureMap) and m.classes is not None for m in network.modules())


def given_class(network: nn.Module, label: int) -> Invertible:
    """The network with the components of class ``label`` alone; its other parts are shared."""
    if isinstance(network, MixtureMap):
        return network.given(label).train(network.training)
    if isinstance(network, Chain):
        blocks = [given_class(b, label) if has_classes(b) else b for b in network.blocks]
        return Chain(*cast("list[Invertible]", blocks), checkpoint=network.checkpoint).train(
            network.training
        )
    if isinstance(network, Leading) and has_classes(network.network):
        part = given_class(network.network, label)
        return Leading(part, network.dim).train(network.training)
    raise InputError(
        f"class {label} of a {type(network).__name__} without classes",
        "a generator whose density is a mixture with classes",
        "Train one on labelled images: a sub-folder is a class.",
    )


def log_prob_by_class(network: nn.Module, x: Tensor) -> Tensor:
    """``log p(c, x_1)``, ``(b, C)``, of the coordinates ``x_1`` that the mixture models.

    The others have one density in all classes, so that these numbers, normalised over ``c``, are
    the probabilities of the classes given all of ``x``.
    """
    if isinstance(network, MixtureMap):
        return network.log_prob_by_class(x)
    if isinstance(network, Leading) and has_classes(network.network):
        return log_prob_by_class(network.network, x[:, : network.network.dim])
    for block in network.blocks if isinstance(network, Chain) else ():
        if has_classes(block):
            return log_prob_by_class(block, x)
        x = block(x)
    raise InputError(
        f"classes of a {type(network).__name__} without them",
        "a generator whose density is a mixture with classes",
        "Sample from the generator itself, or train one with a recipe, which fits a mixture.",
    )


@torch.no_grad()
def class_probabilities(
    network: Invertible, x: Tensor, limits: tuple[float, float] | None = None
) -> Tensor:
    """``p(c | x)`` of every class, ``(b, C)``."""
    check_floating(x, "x")
    check_limits(x, "x", limits)
    return torch.cat([log_prob_by_class(network, part).softmax(1) for part in x.split(ROWS)])


def class_index(label: int | str, names: Sequence[str]) -> int:
    """The number of a class that is given by its number or its name.

    Example:
        >>> class_index("dog", ("cat", "dog")), class_index(1, ("cat", "dog"))
        (1, 1)
    """
    if isinstance(label, str) and label in names:
        return list(names).index(label)
    try:
        index = int(label)
    except ValueError:
        index = -1
    if not 0 <= index < len(names):
        if not names:
            raise InputError(
                f"class {label!r}",
                "no class, of a generator that was trained without classes",
                "Leave it out, or train on sub-folders of images or with --labels FILE.csv.",
            )
        raise InputError(
            f"class {label!r}", f"one of {', '.join(names)}", "Pass its name or its number."
        )
    return index
