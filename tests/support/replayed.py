"""A day and the capture of its replay: equal by bytes in each instrument's order, cached first packets apart.

    assert differences(original, captured, "2026-11-24") == []

What a replay serves when a connection asks for an instrument, or for another mode of it, tells what it had sent last: a
packet that repeats that, or as much of it as a lower mode has. So many may be left out as were asked for, and no other.
Padding is not in the tables.
"""

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import kitelake
from ingest.wire import encode_packets
from storage.clock import IST

Packets = Mapping[int, Sequence[bytes]]


def differences(
    original: Path,
    captured: Path,
    day: str,
    start: str = "00:00",
    stop: str | None = None,
    tokens: Sequence[int] | None = None,
) -> list[str]:
    """What differs, a line for each instrument; nothing if the capture has the day's packets of [start, stop), IST.

    `tokens` are the instruments that were replayed and captured; None for all of the day.
    """
    begin = _moment(day, start)
    end = _moment(day, "00:00") + dt.timedelta(days=1) if stop is None else _moment(day, stop)
    which = "true" if tokens is None else f"instrument_token in ({', '.join(map(str, tokens))})"
    with kitelake.open(original) as lake:
        rows = f"from ticks where date = date '{day}' and {which} and received_at"
        order = "order by received_at, stream, seq"
        before = _packets(lake, f"{rows} < '{begin.isoformat()}' {order}")
        expected = _packets(lake, f"{rows} >= '{begin.isoformat()}' and received_at < '{end.isoformat()}' {order}")
    with kitelake.open(captured) as lake:
        found = _packets(lake, "from ticks_all order by stream, seq")
        asked = _asks(lake)
    lines = []
    for token in sorted(expected.keys() | found.keys()):
        told = difference(expected.get(token, ()), found.get(token, ()), before.get(token, ()), asked[token])
        if told is not None:
            lines.append(f"{token}: {told}")
    return lines


def difference(
    expected: Sequence[bytes], found: Sequence[bytes], before: Sequence[bytes] = (), asked: int = 1
) -> str | None:
    """Of one instrument; None if there is none. `before` is what had come of it before the range."""
    # How many of the expected ones have come, however what was found is read, and the fewest left out for that.
    ways = {0: 0}
    for place, packet in enumerate(found):
        on: dict[int, int] = {}
        for at, left_out in ways.items():
            last = expected[at - 1] if at else before[-1] if before else None
            if at < len(expected) and expected[at] == packet:
                on[at + 1] = min(left_out, on.get(at + 1, left_out))
            if last is not None and last.startswith(packet) and left_out < asked:
                on[at] = min(left_out + 1, on.get(at, left_out + 1))
        if not on:
            at = max(ways)
            wanted = expected[at].hex(" ", 4) if at < len(expected) else "none"
            return f"packet {place}: got {packet.hex(' ', 4)}, expected packet {at} of {len(expected)}: {wanted}"
        ways = on
    if len(expected) not in ways:
        return f"got {max(ways)} of {len(expected)} packets; then there are no more"
    return None


def _packets(lake: kitelake.Lake, query: str) -> Packets:
    table = lake.sql(query).arrow()
    found: dict[int, list[bytes]] = defaultdict(list)
    for token, packet in zip(table["instrument_token"].to_pylist(), encode_packets(table), strict=True):
        found[token].append(packet)
    return found


def _asks(lake: kitelake.Lake) -> Counter[int]:
    """How often each instrument was asked for, or another mode of it."""
    rows = lake.sql(
        "select unnest((data->'$.tokens')::BIGINT[]) as token from events where event in ('subscribed', 'mode')"
    ).arrow()
    return Counter(rows["token"].to_pylist())


def _moment(day: str, time: str) -> dt.datetime:
    return dt.datetime.combine(dt.date.fromisoformat(day), dt.time.fromisoformat(time), IST)
