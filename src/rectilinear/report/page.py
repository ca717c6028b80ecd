"""The pieces of a page under the name that reports use: they are those of :mod:`rectilinear.plots.page`."""

from rectilinear.plots.page import (
    Fact,
    Html,
    Section,
    beside,
    captioned,
    chart,
    folded,
    number,
    page,
    picture,
    rows,
    table,
)

__all__ = [
    "Fact",
    "Html",
    "Section",
    "beside",
    "captioned",
    "chart",
    "folded",
    "number",
    "page",
    "picture",
    "rows",
    "table",
]
