"""``rectilinear audit``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from rectilinear.cli._options import Common


@dataclass(frozen=True, kw_only=True)
class Audit(Common):
    """Measure how linear a network is on data, and say why."""

    model: tyro.conf.Positional[str]
    """FILE.py:NAME, a function without arguments in a Python file that makes the model. The file is
    run.
    """
    data: Path
    """Rows of data, an array .npy of floating point; it may be larger than memory."""
    labels: Path | None = None
    """Their labels, an array .npy: classes, signs or numbers."""
    checkpoint: Path | None = None
    """Weights of the model, .safetensors."""
    loss: Literal["square", "logistic", "hinge", "cross_entropy"] | None = None
    """The loss; that which fits the labels by default."""
    lr: float | None = None
    """With --steps: predict how these weights learn, at this learning rate."""
    steps: int | None = None
    """Steps of that prediction."""
    threshold: float = 0.99
    """Share of the variance that one affine map must explain for "effectively linear"."""
    outputs: Literal["each", "together", "standardised"] = "each"
    """Of which outputs: the worst of each, all together (large ones outweigh small ones), or all at
    one variance.
    """
    html: Path | None = None
    """Write a page with plots to this file."""
    out: Path | None = None
    """Folder for audit.html and audit.json; nothing is written by default."""

    def folders(self) -> tuple[Path, ...]:
        return (*super().folders(), *([] if self.html is None else [self.html.parent]))

    def code(self) -> tuple[Path, ...]:
        return (Path(self.model.rpartition(":")[0]),)


def audit(arguments: Audit) -> dict[str, Any]:
    """Load, audit, write."""
    import torch

    import rectilinear as rl
    from rectilinear.analysis.page import audit_page
    from rectilinear.cli._model import load_array, load_model, load_weights
    from rectilinear.random import seed_all

    seed_all(arguments.seed)
    model = load_model(arguments.model)
    if arguments.checkpoint is not None:
        load_weights(model, arguments.checkpoint)
    x = load_array(arguments.data, "data")
    if not x.is_floating_point():
        x = x.to(torch.get_default_dtype())
    y = None if arguments.labels is None else load_array(arguments.labels, "labels")
    found = rl.audit(
        model,
        x,
        y,
        loss=arguments.loss,
        lr=arguments.lr,
        steps=arguments.steps,
        threshold=arguments.threshold,
        outputs=arguments.outputs,
        seed=arguments.seed,
    )
    files = {}
    if arguments.html is not None:
        audit_page(found, arguments.html)
        files["html"] = str(arguments.html)
    if arguments.out is not None:
        audit_page(found, arguments.out / "audit.html")
        found.to_json(arguments.out / "audit.json")
        files |= {
            "page": str(arguments.out / "audit.html"),
            "numbers": str(arguments.out / "audit.json"),
        }
    if arguments.json:
        return found.to_json() | files
    print(found)
    return files
