"""The pictures in README.md: a day of the simulator's market, captured by hand with what goes wrong on a day."""

import datetime as dt
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

import kitelake
from ingest.instruments import parse_instruments
from ingest.simulator import Market, to_csv
from storage.clock import IST
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout
from storage.tables import write_instruments

PICTURES: Final = Path(__file__).parent / "pictures"
NAMES: Final = ("bars.svg", "coverage.svg")
DAY: Final = dt.date(2026, 11, 13)
SEED: Final = 20
STEP_SECONDS: Final = 5
SHOWN: Final = "NSE:RELIANCE"
FULL: Final = 3
BEGIN, END = dt.time(9, 14, 50), dt.time(15, 40)


class Connection(NamedTuple):
    """A socket, what it is asked for, since when, and when it is away."""

    number: int
    symbols: tuple[str, ...]
    since: dt.time
    away: tuple[tuple[dt.time, dt.time], ...]


CONNECTIONS: Final = (
    Connection(
        1,
        ("NSE:RELIANCE", "NSE:INFY", "NSE:TCS", "NSE:HDFCBANK", "NSE:ICICIBANK", "NSE:SBIN", "NSE:ITC"),
        BEGIN,
        ((dt.time(11, 20), dt.time(11, 33)),),
    ),
    Connection(
        2,
        ("NSE:NIFTY 50", "NSE:NIFTY BANK", "NFO:NIFTY26NOVFUT", "NFO:BANKNIFTY26NOVFUT"),
        BEGIN,
        ((dt.time(13, 5), dt.time(13, 9)), (dt.time(14, 40), dt.time(14, 46))),
    ),
    Connection(3, ("NFO:RELIANCE26NOVFUT", "NFO:TCS26NOVFUT", "NFO:INFY26NOVFUT"), dt.time(10), ()),
)


def draw_pictures() -> dict[str, str]:
    """SVG by the names in NAMES: a share's bars, and what was captured of all instruments."""
    with tempfile.TemporaryDirectory() as folder:
        _capture(Path(folder))
        with kitelake.open(folder) as lake:
            bars, gaps = lake.bars(SHOWN, "5m", DAY), lake.gaps(DAY, SHOWN)
            pictures = (
                bars.plot(gaps=gaps, definition="bars of 5m by the exchange's clock, volume below"),
                lake.intervals(DAY, silent=120).plot(),
            )
            return {name: picture.svg() for name, picture in zip(NAMES, pictures, strict=True)}


def _capture(folder: Path) -> None:
    layout = DataLayout(folder)
    start = dt.datetime.combine(DAY, BEGIN, IST)
    market = Market(size=2_000, seed=SEED, start=start, rate=0.5, steps_per_second=1 / STEP_SECONDS)
    listed = parse_instruments(to_csv(market.universe.instruments).encode(), date=DAY)
    write_instruments(layout, DAY, listed)
    tokens = dict(zip(listed.column("symbol").to_pylist(), listed.column("instrument_token").to_pylist(), strict=True))
    places = {token: place for place, token in enumerate(market.tokens.tolist())}
    journal = JournalWriter(layout, f"{DAY:%Y%m%d}T034450-aaaaaa", segment_seconds=1e9)
    channels = {each.number: journal.channel("mine", each.number) for each in CONNECTIONS}
    asked = {each.number: [tokens[symbol] for symbol in each.symbols] for each in CONNECTIONS}
    rows = {number: np.array([places[token] for token in chosen]) for number, chosen in asked.items()}

    def event(moment: dt.datetime, number: int, name: str, data: object = None) -> None:
        payload = json.dumps({"event": name, "message": None, "data": data}).encode()
        journal.append(Kind.EVENT, channels.get(number, 0), _ns(moment), payload)

    event(start, 0, "started")
    listening: dict[int, bool] = {each.number: False for each in CONNECTIONS}
    for moment in _moments(start):
        ticked = market.step()
        for each in CONNECTIONS:
            number, time = each.number, moment.time()
            wanted = time >= each.since and not any(begin <= time < end for begin, end in each.away)
            if wanted != listening[number]:
                listening[number] = wanted
                if not wanted:
                    event(moment, number, "closed", {"by": "peer", "clean": False, "reason": "dropped"})
                    continue
                event(moment, number, "connected", {"opening": 1})
                event(moment, number, "subscribed", {"tokens": asked[number], "mode": "full"})
            chosen = rows[number] if wanted and time == each.since else rows[number][np.isin(rows[number], ticked)]
            if wanted and len(chosen):
                frame = market.images.frame(chosen, np.full(len(chosen), FULL, np.uint8))
                journal.append(Kind.BINARY, channels[number], _ns(moment) + 300_000_000, frame)
    event(dt.datetime.combine(DAY, END, IST), 0, "stopped")
    journal.close()


def _moments(start: dt.datetime) -> Iterator[dt.datetime]:
    moment, end = start, dt.datetime.combine(DAY, END, IST)
    while (moment := moment + dt.timedelta(seconds=STEP_SECONDS)) < end:
        yield moment


def _ns(moment: dt.datetime) -> int:
    return int(moment.timestamp()) * 10**9
