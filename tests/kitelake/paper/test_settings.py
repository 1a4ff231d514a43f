"""The settings' limits, and the file of limits: what is read and what is refused."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from kitelake.errors import PaperError
from kitelake.paper import PaperSettings
from kitelake.paper.settings import Limit, read_limits
from tests.support.paper import FUT, INFY, INSTRUMENTS, USDINR


def test_a_file_of_limits(tmp_path: Path) -> None:
    path = tmp_path / "limits.csv"
    path.write_text(
        "\ufeffsymbol,upper_circuit_limit,freeze_quantity,lower_circuit_limit\n"
        "NSE:INFY,110.05,,90\nNFO:NIFTY26NOVFUT,,1800,\nCDS:USDINR26NOVFUT,83.0025,,\nNSE:NOT-LISTED,1,1,1\n"
    )
    assert read_limits(path, INSTRUMENTS.values()) == {
        INFY.token: Limit(None, 9000, 11005),
        FUT.token: Limit(1800, None, None),
        USDINR.token: Limit(None, None, 830_025_000),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            "columns none, expected symbol and any of freeze_quantity, lower_circuit_limit, upper_circuit_limit",
        ),
        ("symbol,price\n", "got the columns symbol, price, expected symbol and any of"),
        ("symbol,freeze_quantity\nNSE:INFY,many\n", "NSE:INFY, freeze_quantity: got 'many', expected a number"),
        ("symbol,freeze_quantity\nNSE:INFY,1.5\n", "got '1.5', expected a number of 0 or more, or nothing"),
        ("symbol,freeze_quantity\nNSE:INFY,-1\n", "got '-1'"),
        ("symbol,upper_circuit_limit\nNSE:INFY,inf\n", "got 'inf'"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "limits.csv"
    path.write_text(text)
    with pytest.raises(PaperError) as caught:
        read_limits(path, INSTRUMENTS.values())
    assert message in str(caught.value)


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(PaperError, match="cannot be read: No such file or directory"):
        read_limits(tmp_path / "none.csv", [])


@pytest.mark.parametrize(
    "wrong", [{"capital": -1}, {"latency_seconds": -1}, {"fill": "hope"}, {"beyond": "x"}, {"lots": 1}]
)
def test_settings_that_are_none(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PaperSettings.model_validate(wrong)


def test_every_setting_is_on_the_page_with_its_default() -> None:
    page = (Path(__file__).parents[3] / "docs" / "paper.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", page, re.MULTILINE))
    defaults = {name: field.default for name, field in PaperSettings.model_fields.items()}
    assert {name: text.strip().replace(",", "") for name, text in rows.items()} == {
        name: "none" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value).lower()
        for name, value in defaults.items()
    }
