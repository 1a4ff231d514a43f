"""A picture on the terminal: as large as that is, without colour where there is none, and nothing but characters."""

import io

import pyarrow as pa
import pytest
from rich.console import Console

from kitelake.drawing.terminal import draw_rows, print_drawing
from queries.pictures import subject_of
from tests.support.pictured import TIME, at, bars, book, chain, intervals, latency

ROWS = bars(("09:15", 100, 106, 94, 102, 80), ("09:20", 102, 102, 96, 98, 40))
ALL = {
    "bars": ROWS,
    "book": book([(100.5, 10)], [(100.75, 5)]),
    "chain": chain((24_400, 0.13, 50, 0.12, 100), (24_500, None, None, 0.12, 70)),
    "coverage": intervals(("NSE:A", "09:00", "09:30", "served")),
    "latency": latency((1, "09:15", 0.2), (1, "09:30", 0.3)),
    "lines": pa.table({"at": pa.array([at("09:15"), at("09:16")], TIME), "n": [1.0, 2.0]}),
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("width", [1, 20, 200])
def test_every_picture_fits(
    name: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", "3")
    print_drawing(subject_of(ALL[name]))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 4
    assert max(map(len, lines)) <= max(20, width)
    assert "\x1b" not in "".join(lines)


def test_empty_rows_are_said_to_be_nothing() -> None:
    for rows in ALL.values():
        *_, last = draw_rows(subject_of(rows.slice(0, 0)), 80, 24)
        assert last.plain == "nothing to draw"


def test_colour_is_for_a_terminal_that_has_it() -> None:
    def printed(**options: object) -> str:
        console = Console(file=io.StringIO(), force_terminal=True, width=80, **options)  # type: ignore[arg-type]
        for line in draw_rows(subject_of(ROWS), 80, 24):
            console.print(line)
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    assert "\x1b[32m" in printed(color_system="standard")
    assert "\x1b[3" not in printed(color_system="standard", no_color=True)


def test_no_name_moves_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    rows = pa.table({"symbol": ["\x1b[2Jé漢\n"], "at": pa.array([at("09:15")], TIME), "n": [1.0]})
    print_drawing(subject_of(rows))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\\x1b[2Jé漢\\n" in out
