"""The forms of a picture, and what is said where it cannot be made."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from queries.errors import MissingLibraryError, PictureError
from queries.pictures import Picture, subject_of
from queries.pictures.theme import DARK, LIGHT
from tests.support.pictured import TIME, at, bars

ROWS = bars(("09:15", 1, 2, 1, 2, 5), ("09:20", 2, 3, 1, 1, 5))
IN_NEW_YORK = """
import re
from queries.pictures import Picture, subject_of
from tests.support.pictured import bars
svg = Picture(subject_of(bars(("09:15", 1, 2, 1, 2, 5), ("09:20", 2, 3, 1, 1, 5)))).svg()
print(*re.findall(r">(\\d\\d:\\d\\d)<", svg))
"""


@pytest.mark.parametrize("library", ["altair", "vl_convert"])
def test_what_is_missing_is_said_with_what_installs_it(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if library != "altair":
        pytest.importorskip("altair", reason="the extra `plot` is not installed")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingLibraryError) as raised:
        Picture(subject_of(ROWS)).svg()
    assert str(raised.value) == (
        f"{library}, which draws pictures, is not installed for {sys.executable}; to install it: "
        "pip install 'kitelake[plot]'"
    )


@pytest.mark.slow
class TestForms:
    @pytest.fixture(autouse=True)
    def _altair(self) -> None:
        pytest.importorskip("altair", reason="the extra `plot` is not installed")

    def test_the_name_says_the_form(self, tmp_path: Path) -> None:
        picture = Picture(subject_of(ROWS))
        for form, begins in ((".png", b"\x89PNG"), (".SVG", b"<svg"), (".html", b"<!DOCTYPE html>")):
            path = tmp_path / f"bars{form}"
            picture.save(path)
            assert path.read_bytes().startswith(begins)
        assert len(list(tmp_path.iterdir())) == 3
        assert picture._repr_svg_() == (tmp_path / "bars.SVG").read_text()

    def test_other_names_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(
            PictureError, match=r"a\.pdf: got a name that ends in '\.pdf', expected \.png, \.svg or \.html$"
        ):
            Picture(subject_of(ROWS)).save(tmp_path / "a.pdf")
        with pytest.raises(OSError, match="No such file"):
            Picture(subject_of(ROWS)).save(tmp_path / "missing" / "a.svg")
        assert not list(tmp_path.iterdir())

    def test_a_page_needs_no_network_and_runs_no_text_of_others(self) -> None:
        name = "</script><script>alert(1)</script><!-- & \u2028"
        rows = pa.table({"symbol": [name], "at": pa.array([at("09:15")], TIME), "n": [1.0]})
        page = Picture(subject_of(rows)).html()
        assert "alert(1)" in page
        assert "</script><script>alert" not in page
        assert "<!-- &" not in page
        assert not re.findall(r"<(?:script|link)[^>]+(?:src|href)=", page)

    def test_light_and_dark(self) -> None:
        light, dark = (Picture(subject_of(ROWS), dark=dark).svg() for dark in (False, True))
        assert LIGHT.background in light
        assert LIGHT.up in light
        assert DARK.background in dark
        assert DARK.up in dark

    def test_times_are_ist_wherever_it_is_drawn(self) -> None:
        done = subprocess.run(
            [sys.executable, "-c", IN_NEW_YORK],
            env={**os.environ, "TZ": "America/New_York"},
            capture_output=True,
            text=True,
            check=True,
        )
        found = done.stdout.split()
        assert "09:17" in found
        assert all(time.startswith("09:") for time in found)
