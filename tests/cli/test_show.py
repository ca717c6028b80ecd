"""Results printed as text."""

from __future__ import annotations

from math import inf

import pytest

from rectilinear.cli._show import show, table_lines

ROWS = [
    {
        "model": f"a_model_of_a_rather_long_name_{i}",
        "chosen": i == 1,
        "parameters_in_all": 10**i,
        **{f"step {k}": 0.1234567 * k for k in (1, 2, 5, 10, 20, 50, 100)},
        "settings": "12 lags, one map for all columns, from the last row, ridge 0.001",
    }
    for i in range(3)
]


@pytest.mark.parametrize("width", [20, 40, 80, 200, inf])
def test_no_name_or_number_is_cut(width: float) -> None:
    lines = table_lines(ROWS, width)
    words = " ".join(lines).split()
    for row in ROWS:
        for name, value in row.items():
            assert set(name.split()) <= set(words)
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            assert isinstance(value, bool) or set(text.split()) <= set(words)
    longest = max(len(word) for word in words)
    assert max(map(len, lines)) <= max(width, len(ROWS[0]["model"]) + 2 + longest)


def test_columns_that_do_not_fit_follow_below_beside_the_names() -> None:
    lines = table_lines(ROWS, 80)
    heads = [line for line in lines if line.startswith("model")]
    assert len(heads) > 1
    assert sum(line.startswith(ROWS[2]["model"]) for line in lines) == len(heads)
    assert len(table_lines(ROWS)) == 1 + len(ROWS)


def test_the_terminal_has_the_width_that_it_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    show({"count": 3, "models": ROWS})
    narrow = capsys.readouterr().out
    monkeypatch.delenv("COLUMNS")
    show({"count": 3, "models": ROWS})
    wide = capsys.readouterr().out
    assert max(map(len, narrow.splitlines())) <= 60 < max(map(len, wide.splitlines()))
    assert narrow.startswith("count  3\n\nmodels\nmodel")


def test_sentences_stand_below_each_other_and_lists_are_plain(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(
        {
            "verdict": ["One is best.", "No other is."],
            "shape": [1, 8, 8],
            "classes": ["0", "1"],
            "stages": [],
        }
    )
    assert capsys.readouterr().out.splitlines() == [
        "verdict  One is best.",
        "         No other is.",
        "shape    1, 8, 8",
        "classes  0, 1",
        "stages   none",
    ]
