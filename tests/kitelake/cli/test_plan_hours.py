"""`kitelake plan`: on which hours of each exchange it counts, and what it knows of the day."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.support.command import Run, command, write_config

__all__ = ["command"]  # the fixture

EVERY_EXCHANGE: Final = """\
instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,tick_size,lot_size,instrument_type,segment,exchange
408065,1594,INFY,INFOSYS,0,,0,0.05,1,EQ,NSE,NSE
128083204,500209,INFY,INFOSYS,0,,0,0.05,1,EQ,BSE,BSE
12345858,48226,NIFTY27JANFUT,NIFTY,0,2027-01-26,0,0.05,75,FUT,NFO-FUT,NFO
12345861,48227,SENSEX27JANFUT,SENSEX,0,2027-01-28,0,0.05,20,FUT,BFO-FUT,BFO
412675,1612,USDINR27JANFUT,USDINR,0,2027-01-27,0,0.0025,1000,FUT,CDS-FUT,CDS
412678,1613,USDINR27JANFUT,USDINR,0,2027-01-27,0,0.0025,1000,FUT,BCD-FUT,BCD
119553031,467004,CRUDEOIL27JANFUT,CRUDEOIL,0,2027-01-18,0,1,100,FUT,MCX-FUT,MCX
119553036,467005,GOLD27JANFUT,GOLD,0,2027-01-18,0,1,100,FUT,NCO-FUT,NCO
291849,1140,GIFT NIFTY,GIFT NIFTY,0,,0,0,0,EQ,INDICES,NSEIX
291850,1141,NIKKEI 225,NIKKEI 225,0,,0,0,0,EQ,INDICES,GLOBAL
"""
ALL: Final = {"name": "all", "mode": "ltp", "select": {"symbols": ["*"]}}


def exchanges_of(out: str) -> dict[str, tuple[str, str, str]]:
    """What the plan says of each exchange: trading, captured, and of the day."""
    row = re.compile(r"^([A-Z]+) +(closed|\d\d:\d\d-\S+)(?: +(\d\d:\d\d-\S+))? +(\S.*)$", re.MULTILINE)
    return {match[1]: (match[2], match[3] or "", match[4].strip()) for match in row.finditer(out)}


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        (
            "2026-07-31",  # before the closing auction
            {
                "NSE": ("09:15-15:30", "08:55-16:15", "usual hours"),
                "NFO": ("09:15-15:30", "08:55-16:15", "usual hours"),
            },
        ),
        (
            "2026-08-03",
            {
                "NSE": ("09:15-15:30", "08:55-16:15", "usual hours"),
                "BSE": ("09:15-15:30", "08:55-16:15", "usual hours"),
                "NFO": ("09:15-15:40", "08:55-16:25", "usual hours"),
                "BFO": ("09:15-15:40", "08:55-16:25", "usual hours"),
                "CDS": ("09:00-17:00", "08:40-20:15", "usual hours"),
                "BCD": ("09:00-17:00", "08:40-20:15", "usual hours"),
                "MCX": ("09:00-23:30", "08:40-24:00", "usual hours"),
                "NCO": ("09:00-23:30", "08:40-24:00", "usual hours"),
            },
        ),
        ("2026-10-30", {"MCX": ("09:00-23:30", "08:40-24:00", "usual hours")}),  # New York puts its clock back …
        ("2026-11-02", {"MCX": ("09:00-23:55", "08:40-24:00", "usual hours")}),
        ("2026-03-06", {"MCX": ("09:00-23:55", "08:40-24:00", "usual hours")}),  # … and forward
        ("2026-03-09", {"MCX": ("09:00-23:30", "08:40-24:00", "usual hours")}),
        (
            "2026-11-24",  # by the moon
            {
                "NSE": ("09:15-15:30", "08:55-16:15", "may be a holiday: Guru Nanak Jayanti"),
                "MCX": (
                    "09:00-23:55",
                    "08:40-24:00",
                    "may be a holiday: Guru Nanak Jayanti; MCX usually opens in the evening at least",
                ),
            },
        ),
        (
            "2026-12-25",
            {
                "NSE": ("closed", "", "holiday: Christmas Day"),
                "BCD": ("closed", "", "holiday: Christmas Day"),
                "NCO": (
                    "09:00-23:55",
                    "08:40-24:00",
                    "may be a holiday: Christmas Day; NCO usually opens in the evening at least",
                ),
            },
        ),
    ],
)
def test_a_plan_says_on_which_hours_it_counts(
    command: Run, tmp_path: Path, date: str, expected: dict[str, tuple[str, str, str]]
) -> None:
    (tmp_path / "every.csv").write_text(EVERY_EXCHANGE)
    write_config(tmp_path, ALL)
    result = command("plan", "--instruments", "every.csv", "--date", date)
    assert (result.status, result.err) == (0, "")
    found = exchanges_of(result.out)
    assert list(found) == ["NSE", "BSE", "NFO", "BFO", "CDS", "BCD", "MCX", "NCO", "GLOBAL", "NSEIX"]
    for name in ("GLOBAL", "NSEIX"):
        said = f"{name} has no sessions that are known: captured around the clock"
        assert found[name] == ("00:00-24:00", "00:00-24:00", said)
    assert expected.items() <= found.items()


def test_each_line_of_a_plan_has_the_hours_of_its_exchange(command: Run, tmp_path: Path) -> None:
    (tmp_path / "every.csv").write_text(EVERY_EXCHANGE)
    write_config(tmp_path, ALL)
    lines = command("plan", "--instruments", "every.csv", "--date", "2026-12-25", "--list").out.splitlines()
    hours: dict[str, list[str]] = {}
    for line in lines:
        phase, symbol, *_ = line.split("\t")
        hours.setdefault(symbol, []).append(phase)
    assert hours == {
        "MCX:CRUDEOIL27JANFUT": ["08:40-24:00"],
        "NCO:GOLD27JANFUT": ["08:40-24:00"],
        "NSEIX:GIFT NIFTY": ["00:00-08:40", "08:40-24:00"],
        "GLOBAL:NIKKEI 225": ["00:00-08:40", "08:40-24:00"],
    }
