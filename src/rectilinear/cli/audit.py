"""``rectilinear audit`` and ``predict``: linearity and learning curve of a user's network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from rectilinear.cli._options import Common, UsageError

if TYPE_CHECKING:
    from torch import nn

    from rectilinear.maps import LayerProfile, Linearized
    from rectilinear.maps.span_costs import Smaller
    from rectilinear.networks.batches import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Audit(Common):
    """Measure how linear a network is on data, and name the causes; --out writes audit.html."""

    model: tyro.conf.Positional[str]
    """FILE.py:NAME, the model or a function without arguments that returns it (the file is run), or
    the folder of a Hugging Face transformer."""
    data: Path | None = None
    """Inputs of the network: a .npy array (n, ...), which may be larger than memory; token ids
    for a transformer. Required without --text."""
    text: Path | None = None
    """File with one text a line, for a folder with a tokenizer. Required without --data."""
    samples: int = 8
    """Number of samples that the Jacobian of each layer is averaged over, for a network with a
    stack of blocks; 0 leaves the layers out, and so does --measures verdict."""
    remove: int = 2
    """Largest number of blocks that are removed, one after the other, to compare smaller models;
    0 leaves the comparison out, and so does --measures verdict."""
    smaller: Path | None = None
    """Folder for the smallest of the smaller models, with its tokenizer where there is one; not
    written by default."""
    labels: Path | None = None
    """Labels, a .npy array (n,) or (n, o): classes, signs or numbers; none by default."""
    checkpoint: Path | None = None
    """Weights of the model, .safetensors or .pth; by default those that NAME returns."""
    output: str | None = None
    """Name of the output, such as logits, of a model that returns several; the first by default."""
    measures: tuple[str, ...] = ()
    """Names of measurements, or verdict for the few that the verdict needs (the quickest); all by
    default."""
    loss: Literal["square", "logistic", "hinge", "cross_entropy"] | None = None
    """Training loss; by default the one that fits the labels."""
    lr: float | None = None
    """Learning rate of gradient descent, to predict the learning curve; needs --steps. No
    prediction by default."""
    steps: int | None = None
    """Number of steps of the predicted learning curve; needs --lr. No prediction by default."""
    threshold: float = 0.99
    """Share of the output variance, explained by one affine map, above which the verdict is
    linear; 0 to 1."""
    outputs: Literal["each", "together", "standardised"] = "each"
    """Outputs that --threshold is for: each one (the worst counts), all together (weighted by
    their variance), or all standardised to equal variance."""
    html: Path | None = None
    """HTML file for the page with plots; not written by default."""
    out: Path | None = None
    """Folder for audit.html, audit.json, layers.svg and layers.json; not written by default."""

    def folders(self) -> tuple[Path, ...]:
        html = [] if self.html is None else [self.html.parent]
        return (*super().folders(), *html, *([] if self.smaller is None else [self.smaller]))

    def code(self) -> tuple[Path, ...]:
        return (Path(self.model.rpartition(":")[0]),) if ":" in self.model else ()


def audit(arguments: Audit) -> dict[str, Any]:
    """The audit as JSON, and the files that were written."""
    import torch

    import rectilinear as rl
    from rectilinear.cli._options import load_array, load_model, load_texts, load_tokenizer
    from rectilinear.cli._weights import load_weights
    from rectilinear.random import seed_all

    if (arguments.data is None) == (arguments.text is None):
        raise UsageError("Give exactly one of --data and --text.")
    x: Any
    tokenizer = None
    if arguments.text is not None:
        x = load_texts(arguments.text, arguments.model)
    seed_all(arguments.seed)
    model = load_model(arguments.model)
    if arguments.checkpoint is not None:
        load_weights(model, arguments.checkpoint)
    if arguments.text is not None:
        tokenizer = load_tokenizer(arguments.model)
    else:
        assert arguments.data is not None
        x = load_array(arguments.data, "data")
        ids = ":" not in arguments.model  # arrays of whole numbers for a transformer
        x = x if x.is_floating_point() or ids else x.to(torch.get_default_dtype())
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
        output=arguments.output,
        tokenizer=tokenizer,
        measures=arguments.measures or None,
        seed=arguments.seed,
    )
    profile = _profile(arguments, model, x, tokenizer)
    smaller = _smaller(arguments, model, x, y, tokenizer)
    files = _written(arguments, found, profile, smaller, tokenizer)
    if arguments.json:
        more: dict[str, Any] = {} if profile is None else {"profile": profile.to_json()}
        if smaller is not None:
            head, lines = smaller.table()
            rows = [dict(zip(head, line, strict=True)) for line in lines]
            more["smaller"] = {"rows": rows, "reason": smaller.reason}
        return found.to_json() | more | files
    print(found)
    for part in (profile, smaller):
        if part is not None:
            print(f"\n{part}")
    return files


def _written(
    arguments: Audit,
    found: Any,
    profile: LayerProfile | None,
    smaller: Smaller | None,
    tokenizer: Tokenizer | None,
) -> dict[str, str]:
    """The paths of the files that were written, by kind."""
    from rectilinear import plots
    from rectilinear.analysis.page import audit_page

    files = {}
    if arguments.html is not None:
        audit_page(found, arguments.html, profile, smaller)
        files["html"] = str(arguments.html)
    if arguments.out is not None:
        page, numbers = arguments.out / "audit.html", arguments.out / "audit.json"
        audit_page(found, page, profile, smaller)
        found.to_json(numbers)
        files |= {"page": str(page), "numbers": str(numbers)}
        if profile is not None:
            plots.save(profile.figure(), arguments.out / "layers.svg")
            profile.to_json(arguments.out / "layers.json")
            files["layers"] = str(arguments.out / "layers.svg")
    if arguments.smaller is not None and smaller is not None and smaller.found:
        files["smaller_model"] = str(_saved(smaller.found[-1], arguments.smaller))
        if tokenizer is not None and hasattr(tokenizer, "save_pretrained"):
            tokenizer.save_pretrained(arguments.smaller)
    return files


def _saved(made: Linearized, folder: Path) -> Path:
    """The path of a smaller model, saved as a folder of transformers or as weights."""
    from safetensors.torch import save_model

    from rectilinear.networks.places import inner

    model: Any = inner(made.model)
    if hasattr(model, "save_pretrained"):
        model.save_pretrained(folder)
        return folder
    save_model(model, str(folder / "model.safetensors"))
    return folder / "model.safetensors"


def _smaller(
    arguments: Audit, model: nn.Module, x: Any, y: Any, tokenizer: Tokenizer | None
) -> Smaller | None:
    """Networks with fewer blocks; None where none were asked for or there is no list of blocks."""
    from rectilinear.maps.layer_profile import has_stack
    from rectilinear.maps.span_costs import smaller_networks

    asked = arguments.smaller is not None
    brief = arguments.measures == ("verdict",) and not asked
    if arguments.remove < 1 or brief or not (asked or has_stack(model)):
        return None
    found = smaller_networks(
        model,
        x,
        y,
        most=arguments.remove,
        tokenizer=tokenizer,
        output=arguments.output,
        seed=arguments.seed,
    )
    if asked and not found.found:
        raise UsageError(f"No smaller model was made. {found.reason}")
    return found


def _profile(
    arguments: Audit, model: nn.Module, x: Any, tokenizer: Tokenizer | None
) -> LayerProfile | None:
    """Linear maps from each layer to the output; None without a stack of blocks."""
    import rectilinear as rl
    from rectilinear.maps.layer_profile import has_stack

    if not arguments.samples or arguments.measures == ("verdict",) or not has_stack(model):
        return None
    return rl.layer_profile(
        model,
        x,
        tokenizer=tokenizer,
        output=arguments.output,
        samples=arguments.samples,
        seed=arguments.seed,
    )


@dataclass(frozen=True, kw_only=True)
class Predict(Common):
    """Predict a network's learning curve before training, or name the assumption that fails."""

    model: tyro.conf.Positional[str]
    """FILE.py:NAME, the model or a function without arguments that returns it (the file is run)."""
    data: Path
    """Inputs of the network, a .npy array (n, ...)."""
    labels: Path
    """Targets, a .npy array (n,) or (n, o); two integer classes become -1 and 1."""
    lr: float
    """Learning rate of full-batch gradient descent on half the mean square error."""
    steps: int
    """Number of steps of gradient descent."""
    checkpoint: Path | None = None
    """Weights of the model, .safetensors or .pth; by default those that NAME returns."""
    out: Path | None = None
    """Folder for prediction.png and prediction.json; not written by default."""

    def code(self) -> tuple[Path, ...]:
        return (Path(self.model.rpartition(":")[0]),)


def predict(arguments: Predict) -> dict[str, Any]:
    """The prediction as JSON, and the files that were written."""
    import rectilinear as rl
    from rectilinear.cli._options import load_array, load_model
    from rectilinear.cli._weights import load_weights
    from rectilinear.config import write_json
    from rectilinear.random import seed_all

    seed_all(arguments.seed)
    model = load_model(arguments.model)
    if arguments.checkpoint is not None:
        load_weights(model, arguments.checkpoint)
    x, y = load_array(arguments.data, "data"), load_array(arguments.labels, "labels")
    if not y.is_floating_point() and len(classes := y.unique()) == 2:
        y = 2 * (y == classes[1]) - 1
    x, y = (value if value.is_floating_point() else value.double() for value in (x, y))
    found = rl.predict(model, x, y, arguments.lr, arguments.steps)
    answer = found.to_json()
    if arguments.out is not None:
        image, numbers = arguments.out / "prediction.png", arguments.out / "prediction.json"
        _draw(found, image)
        write_json(numbers, answer)
        answer |= {"image": str(image), "numbers": str(numbers)}
    if arguments.json:
        return answer
    print(found)
    return {name: answer[name] for name in ("image", "numbers") if name in answer}


def _draw(found: Any, path: Path) -> None:
    """Write a plot of the curve, the loss of the best linear map and the half time."""
    from rectilinear import plots
    from rectilinear.plots.charts import ROLES

    figure, (axes,) = plots.canvas()
    axes.plot(found.steps, found.loss)
    if found.strength_imbalance is not None:
        axes.fill_between(
            found.steps, found.low, found.high, color=ROLES["rule"], linewidth=0, zorder=0
        )
    axes.axhline(found.final_loss, color=ROLES["muted"], linewidth=0.8, linestyle=(0, (4, 3)))
    axes.annotate("best linear map", (0, found.final_loss), xycoords=("axes fraction", "data"),
                  va="bottom", xytext=(4, 2), textcoords="offset points", fontsize=8,
                  color=ROLES["muted"])  # fmt: skip
    if found.half_time is not None:
        axes.axvline(found.half_time, color=ROLES["rule"], linewidth=0.8, zorder=0)
        late = found.half_time > 0.8 * float(found.steps[-1])
        axes.annotate(f"half time {found.half_time:.0f}", (found.half_time, 1),
                      xycoords=("data", "axes fraction"), xytext=(-4 if late else 4, -8),
                      ha="right" if late else "left", textcoords="offset points", fontsize=8,
                      color=ROLES["muted"])  # fmt: skip
    axes.set(xlabel="step", ylabel="loss", ylim=(0, None), xlim=(0, float(found.steps[-1])))
    plots.save(figure, path)
