"""An audit as one self-contained page, and its parts for other pages."""

from __future__ import annotations

from pathlib import Path

from rectilinear import __version__, plots
from rectilinear.analysis.result import Audit
from rectilinear.files import write_text
from rectilinear.maps.layer_profile import LayerProfile
from rectilinear.maps.span_costs import Smaller
from rectilinear.plots.charts import shares
from rectilinear.plots.page import Fact, Html, Section, captioned, chart, number, page, table

TITLES = {
    "linear": "Linear",
    "effectively linear": "Effectively linear",
    "not linear": "Not linear",
    "undecided": "Undecided",
}
NAMES = {
    "odd_linearity": "linearity of the odd part",
    "segments": "bound of any affine map, R²",
    "subspaces": "affine in random subspaces, R²",
    "affine_r2": "best affine map, R²",
    "affine_score": "score of the affine copy",
    "exact_map": "exact linear part",
    "gaussian_energy": "odd share, Gaussian inputs",
    "certificate": "distance from linear",
    "pairs": "mirrored pairs",
    "sign_flip": "symmetry, p-value",
    "mirror_classifier": "x distinguished from −x",
    "weights": "stable rank",
    "sign_imbalance": "sign imbalance",
    "time_course": "half time",
    "blocks": "least linear block, R²",
    "local": "similarity of Jacobians",
}
MAX_BLOCKS = 40  # blocks on the page


def audit_page(
    found: Audit,
    path: Path | str | None = None,
    profile: LayerProfile | None = None,
    smaller: Smaller | None = None,
) -> str:
    """An audit as one self-contained HTML page with plots, written to ``path`` where one is given.

    Args:
        found: the audit.
        path: a file.
        profile: maps from each layer, shown behind the measurements.
        smaller: networks with fewer blocks, shown behind the layers.

    Raises:
        DiskError: if the disk is full or cannot be written.
    """
    text = _document(found, profile, smaller)
    if path is not None:
        write_text(path, text)
    return text


def _document(found: Audit, profile: LayerProfile | None, smaller: Smaller | None) -> str:
    first, *rest = found.verdict.reasons
    sections = [_measures(found, rest), *audit_sections(found)]
    if smaller is not None:
        sections.insert(1, smaller_section(smaller))
    if profile is not None:
        sections.insert(1, layers_section(profile))
    return page(
        f"rectilinear  ·  audit of {found.model}",
        TITLES[found.verdict.label],
        first,
        _facts(found),
        sections,
        f"Made by rectilinear {__version__}: {found.model}, {found.parameters:,} parameters, "
        f"{found.rows:,} rows of "
        f"shape {'×'.join(map(str, found.in_shape))}, seed {found.seed}.",
    )


def audit_sections(found: Audit) -> list[Section]:
    """The sections with figures, one for each measure that has one."""
    drawn = (energies(found), spectra(found), block_chart(found), learning_curve(found))
    return [section for section in drawn if section is not None]


def layers_section(profile: LayerProfile) -> Section:
    """The maps from each layer: a figure and a table."""
    head, lines = profile.table()
    numbers: list[tuple[str | float, ...]] = [tuple(line) for line in lines]
    return Section(
        "Layer by layer",
        f"How much of {profile.target} one affine map from each layer explains, on samples that it "
        "was not fitted to. Least squares is the best such map; a mean Jacobian is what a small "
        "change does; with frozen gates biases have their own share.",
        (
            captioned(
                chart(profile.figure(), f"R² of {profile.target} by layer"),
                "R² by layer.",
                "Bands: 95 %, over held-out samples.",
            ),
            captioned(
                table(head, numbers),
                "All of them.",
                "Error: the relative standard error of the matrix. "
                + " ".join(
                    [*profile.refused.values(), *filter(None, [profile.averaged, profile.few_rows])]
                ),
            ),
        ),
    )


def smaller_section(smaller: Smaller) -> Section:
    """The smaller networks beside the original."""
    if not smaller.found:
        return Section("A smaller model", f"None was made. {smaller.reason}", ())
    assert smaller.costs is not None
    head, lines = smaller.table()
    judged = smaller.found[0].held_out
    return Section(
        "A smaller model",
        "The blocks that cost least are taken out, and the best affine map over them goes into the "
        "last linear layer of the block in front: a model of the same class with fewer blocks, no "
        "training.",
        (
            captioned(
                table(head, lines),
                "The original and smaller ones.",
                f'On {judged:,} held-out samples; "with the span deleted" on the '
                f"{smaller.costs.samples:,} that the spans were chosen on. Same largest: the "
                "largest output is at the same place. Made again in Python by rl.linearize(model, "
                f"data, blocks='{smaller.found[-1].blocks[0].name}', fold=True).model.",
            ),
        ),
    )


def measures_table(found: Audit) -> Html:
    """Every measurement: name, value, interval, kind, note."""
    return table(
        ("Measurement", "Value", "Interval", "Kind", ""),
        [
            (
                NAMES.get(m.name, m.name),
                "" if m.value is None else number(m.value),
                "" if m.interval is None else f"{number(m.interval[0])} to {number(m.interval[1])}",
                m.kind,
                m.note,
            )
            for m in found.shown
        ],
    )


def _facts(found: Audit) -> list[Fact]:
    meanings = {
        "affine_r2": "of the variance on the data is explained by one affine map, held out",
        "parity": "of the energy on the data and their mirror image is odd",
        "odd_linearity": "of the odd part is linear",
        "local": "similarity of the Jacobians at different points; 1 for an affine map",
        "floor": "is the least loss of a net without biases on these data",
    }
    return [
        Fact(number(float(f"{measure.value:.3g}")), meaning)
        for name, meaning in meanings.items()
        if (measure := found.measures[name]).value is not None
    ]


def _measures(found: Audit, reasons: list[str]) -> Section:
    return Section(
        "Measurements",
        " ".join(reasons) or "What was measured.",
        (
            captioned(
                measures_table(found),
                "All of them.",
                "Exact: computed or proved. Certified: the truth lies in the interval. "
                "Estimated: an interval of 95 %.",
            ),
        ),
    )


def energies(found: Audit) -> Section | None:
    """Odd and even energy, on the data and on Gaussian inputs."""
    parity, gaussian = found.measures["parity"], found.measures["gaussian_energy"]
    if parity.value is None:
        return None
    rows = {
        "on the data": {"odd": parity.details["odd_energy"], "even": parity.details["even_energy"]}
    }
    if gaussian.value is not None:
        rows["on Gaussian inputs"] = {
            "odd": gaussian.details["odd"],
            "even": gaussian.details["even"],
        }
    return Section(
        "Odd and even",
        "Every function is the sum of an odd and an even part. Two layers without bias have a "
        "linear odd part, so what "
        "is even is all that is not linear.",
        (
            captioned(
                chart(shares(rows), "odd and even shares of the energy"),
                "Energy.",
                f"{parity.note}.",
            ),
        ),
    )


def spectra(found: Audit) -> Section | None:
    """Singular values of the weights, and of the linear map where there is one."""
    lines = {
        name.removeprefix("spectrum of "): values.cpu().numpy()
        for name, values in found.measures["weights"].tensors.items()
        if len(values) > 1
    }
    values = found.measures["exact_map"].tensors.get("singular values of the map")
    if values is not None and len(values) > 1:
        lines["linear part"] = values.cpu().numpy()
    lines = {name: s[s > s[0] * 1e-8] for name, s in list(lines.items())[:4] if s[0] > 0}
    if not lines:
        return None
    return Section(
        "Spectra",
        "Singular values tell how many directions a layer uses: training from small weights on "
        "a linear target leaves "
        "one.",
        (
            captioned(
                chart(plots.spectrum(lines), "singular values of the weights"),
                "Singular values.",
                "Descending.",
            ),
        ),
    )


def block_chart(found: Audit) -> Section | None:
    """A chart of the R² of an affine map in place of each block."""
    measure = found.measures["blocks"]
    if measure.value is None:
        return None
    rows = measure.details["blocks"]
    shown = rows[:MAX_BLOCKS]
    figure = plots.bars(
        {f"{row['name']}  {row['module']}": (row["r2"], None) for row in shown}, "R², held out"
    )
    loss = "loss_after" in rows[0]
    head = (
        "Block",
        "Module",
        "R²",
        "R² of its update",
        "Output kept",
        *(("Loss after",) if loss else ()),
    )
    lines = [
        (
            row["name"],
            row["module"],
            row["r2"],
            "" if row["update_r2"] is None else number(row["update_r2"]),
            row["output_r2"],
            *((row["loss_after"],) if loss else ()),
        )
        for row in shown
    ]
    return Section(
        "Block by block",
        "Each block alone, replaced by the best affine map on one half of the data and judged "
        "on the other. A residual "
        "connection makes R² high whatever the block adds; its update is what it adds.",
        (
            captioned(
                chart(figure, "R² of an affine map in place of each block"),
                "Linearity of the blocks.",
                "",
            ),
            captioned(
                table(head, lines),
                "What replacing each one costs.",
                "Output kept: R² of the network's output.",
            ),
        ),
    )


def learning_curve(found: Audit) -> Section | None:
    """The predicted learning curve."""
    measure = found.measures["time_course"]
    if measure.value is None:
        return None
    details = measure.details
    figure = plots.curves({"predicted": (details["steps"], details["loss"])}, "step", "loss")
    return Section(
        "Learning curve",
        f"How these weights learn, known before training: {details['method']}.",
        (
            captioned(
                chart(figure, "predicted loss against steps"),
                "Predicted loss.",
                f"Half is learned after {number(measure.value)} steps.",
            ),
        ),
    )
