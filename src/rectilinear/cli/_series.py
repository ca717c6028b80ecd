"""``rectilinear forecast FILE``: the forecast of a table."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rectilinear.datasets import SeriesFile
    from rectilinear.koopman import Forecast as Found
    from rectilinear.koopman import Forecaster

MIN_HORIZONS = 5
"""Series with fewer rows than MIN_HORIZONS times the steps are compared on a shorter horizon."""


def forecast_file(arguments: Any) -> dict[str, Any]:
    """The forecast of the series in a file: chosen model, errors, and files written."""
    from dataclasses import replace

    import numpy as np

    from rectilinear import datasets, koopman, plots
    from rectilinear.config import write_json
    from rectilinear.files import atomic_write

    path = arguments.run
    table = datasets.read_series(
        path,
        time=arguments.time,
        run=arguments.run_column,
        columns=arguments.columns,
        separator=arguments.separator,
    )
    longest = max(map(len, table.values))
    model = koopman.Forecaster(
        arguments.kind,
        horizon=arguments.steps if longest >= MIN_HORIZONS * arguments.steps else None,
        lags=arguments.lags,
        level=arguments.level,
        seed=arguments.seed,
        minimum=arguments.minimum,
        maximum=arguments.maximum,
    ).fit(table.values, times=table.times, progress=True)
    model.names_ = table.names
    found = model.forecast(arguments.steps)
    if found.mean.ndim == 3:
        found = replace(found, runs=table.runs)
    out = arguments.out or Path("runs") / f"{path.stem}-forecast"
    with atomic_write(out / "forecast.csv") as tmp:
        tmp.write_text(_table(found, table.runs), encoding="utf-8")
    with atomic_write(out / "forecast.npy") as tmp:
        np.save(tmp, found.mean, allow_pickle=False)
    plots.save(found.plot(), out / "forecast.png")
    result = {"steps": arguments.steps, "times": _times(table), **_facts(model)}
    write_json(out / "forecast.json", result)
    files = {name: str(out / f"forecast.{end}") for name, end in _FILES.items()}
    names = found.names
    shown = {"drawn": f"{', '.join(names[:3])}, of {len(names)} columns"} if len(names) > 3 else {}
    return {**files, **shown, **result}


_FILES = {"table": "csv", "image": "png", "array": "npy"}


def _times(table: "SeriesFile") -> str:
    """The source of the times, in words."""
    import numpy as np

    if table.times is None:
        return "none found: rows are taken in their order, one step apart"
    ends = [min(t.min() for t in table.times), max(t.max() for t in table.times)]
    first, last = _stamps(np.array(ends))
    return f"first {first}, last {last}"


def _stamps(times: Any) -> list[str]:
    """Numbers, or dates, all as fine as the finest needs: days, seconds, or fractions of them."""
    if times.dtype.kind != "M":
        return [str(time) for time in times.tolist()]
    cut = (times.astype(f"datetime64[{unit}]") for unit in ("D", "s", "ms", "us", "ns"))
    return [str(time) for time in next(stamps for stamps in cut if (stamps == times).all())]


def _facts(model: "Forecaster") -> dict[str, Any]:
    rows, check = model.comparison_.table(), model.check()
    candidates = [{"model": row["model"], "settings": row.pop("settings")} for row in rows]
    facts: dict[str, Any] = {
        "model": model.kind_,
        "settings": model.comparison_.settings[model.kind_],
        "errors": rows,
        **({"reason": model.comparison_.reason} if model.comparison_.reason else {}),
        "candidates": [row for row in candidates if row["settings"]],
        "spectrum": check.text,
    }
    if model.modes_ is not None and (check.closed or check.uncertain):
        facts["modes"] = model.modes_.table(5)
    return facts


def _table(found: "Found", runs: tuple[str, ...]) -> str:
    """A table: stamp, and for each column the forecast, its lower and upper end."""
    import csv
    import io

    import numpy as np

    several = found.mean.ndim == 3
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    ends = ("", " lower", " upper")
    table.writerow(
        [*["run"] * several, "time", *(f"{n}{end}" for n in found.names for end in ends)]
    )
    indices = [np.asarray(index) for index in (found.index if several else [found.index])]
    stamps = iter(_stamps(np.concatenate(indices)))
    for i, index in enumerate(indices):
        parts = [p[i] if several else p for p in (found.mean, found.lower, found.upper)]
        for k in range(len(index)):
            cells = [f"{v:.10g}" for row in zip(*(p[k] for p in parts), strict=True) for v in row]
            table.writerow([*[runs[i]] * several, next(stamps), *cells])
    return text.getvalue()
