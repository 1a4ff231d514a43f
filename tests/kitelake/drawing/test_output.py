"""Where a picture goes."""

from pathlib import Path

import pytest

from kitelake.drawing.output import write_drawing
from kitelake.errors import OutputError
from tests.support.pictured import bars

ROWS = bars(("09:15", 100, 106, 94, 102, 80))


def test_the_terminal_needs_no_extra(capsys: pytest.CaptureFixture[str]) -> None:
    assert write_drawing(ROWS, None, definition="as I see it") == 1
    assert capsys.readouterr().out.splitlines()[:2] == [
        "NSE:INFY · Fri 13 Nov 2026",
        "as I see it; times in IST",
    ]


@pytest.mark.slow
def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    pytest.importorskip("altair", reason="the extra `plot` is not installed")
    path = tmp_path / "missing" / "a.svg"
    with pytest.raises(OutputError, match=r"missing/a\.svg: cannot be written: No such file or directory$"):
        write_drawing(ROWS, path)
