"""Two days of a few instruments, at exact times: Monday committed, Tuesday in the journal of a run that goes on."""

from pathlib import Path
from typing import Any, Final

from kitelake.lake import Result
from tests.support.by_hand import Journal, book, commit, ist, list_instruments, quote

SUNDAY: Final = "2026-11-22"
MONDAY: Final = "2026-11-23"
TUESDAY: Final = "2026-11-24"
WEDNESDAY: Final = "2026-11-25"
FIRST_STREAM: Final = "20261123T034500-aaaaaa"
SECOND_STREAM: Final = "20261124T034500-bbbbbb"

INFY, TCS, NIFTY_50, NOV, DEC, REUSED = 408065, 2953217, 256265, 258, 514, 770

EVERY_DAY: Final = (
    "408065,1594,INFY,INFOSYS,0,,0,0.05,1,EQ,NSE,NSE",
    "2953217,11536,TCS,TATA CONSULTANCY SERV LT,0,,0,0.05,1,EQ,NSE,NSE",
    "256265,1001,NIFTY 50,NIFTY 50,0,,0,0,0,EQ,INDICES,NSE",
    "514,2,NIFTY26DECFUT,NIFTY,0,2026-12-31,0,0.05,75,FUT,NFO-FUT,NFO",
)


def fill(root: Path) -> Journal:
    """Make the folder. Returns Tuesday's journal, which is still open; what was written is flushed."""
    list_instruments(
        root,
        MONDAY,
        *EVERY_DAY,
        "258,1,NIFTY26NOVFUT,NIFTY,0,2026-11-23,0,0.05,75,FUT,NFO-FUT,NFO",
        "770,3,NIFTY26N2324000CE,NIFTY,0,2026-11-23,24000,0.05,75,CE,NFO-OPT,NFO",
    )
    list_instruments(
        root, TUESDAY, *EVERY_DAY, "770,3,NIFTY26D0124500CE,NIFTY,0,2026-12-01,24500,0.05,75,CE,NFO-OPT,NFO"
    )
    with Journal(root, FIRST_STREAM) as monday:
        # What the broker had cached: it is of Friday.
        friday = ist("2026-11-20 15:29:59")
        monday.tick(f"{MONDAY} 09:14:59.9", INFY, 1490, exchange_timestamp=friday, **quote(1489.5, 1490.5))
        monday.tick(f"{MONDAY} 09:15", INFY, 1500, "quote", volume_traded=7)
        monday.tick(f"{MONDAY} 09:15", TCS, 3000, "ltp")
        monday.tick(f"{MONDAY} 09:15", NIFTY_50, 26000, price_change=1.5, exchange_timestamp=ist(f"{MONDAY} 09:15"))
        levels = book((1500, 10, 2), (1499.5, 20, 3), asks=((1500.5, 5, 1), (0, 40, 4)))
        monday.tick(
            f"{MONDAY} 09:15:01", INFY, 1500, volume_traded=9, exchange_timestamp=ist(f"{MONDAY} 09:15:00"), **levels
        )
        monday.tick(f"{MONDAY} 09:15:02", INFY, 1501, **quote(1501, 1502))
        monday.tick(f"{MONDAY} 09:15:02", INFY, 1503, **quote(1503, 1504))
        monday.tick(f"{MONDAY} 09:20", NOV, 26010, **quote(26009, 26011))
        monday.tick(f"{MONDAY} 09:20", DEC, 26100, **quote(26099, 26101))
        monday.tick(f"{MONDAY} 09:30", REUSED, 50, **quote(49, 51))
        monday.tick(f"{MONDAY} 10:00", INFY, 1510, "ltp")
        monday.tick(f"{MONDAY} 23:59:59.999999", DEC, 26105, **quote(26104, 26106))
    commit(root)
    tuesday = Journal(root, SECOND_STREAM)
    tuesday.tick(f"{TUESDAY} 00:00", DEC, 26106, **quote(26105, 26107))
    tuesday.tick(f"{TUESDAY} 09:15", REUSED, 20, **quote(19, 21))
    tuesday.tick(f"{TUESDAY} 09:15:00.5", DEC, 26200, **quote(26199, 26201))
    tuesday.tick(f"{TUESDAY} 09:16", INFY, 1520)
    tuesday.flush()
    return tuesday


def columns(result: Result, *names: str) -> list[tuple[Any, ...]]:
    """The rows of a result, of these columns."""
    return [tuple(row[name] for name in names) for row in result.arrow().to_pylist()]
