"""Bars and trades worked out slowly, one packet after the other, from the definitions in docs/queries.md."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.captured import SECOND_US, Noted, Packet

DAY_US = 86_400 * SECOND_US
Source = tuple[str, str, int]


@dataclass
class Asked:
    """A connection was asked for an instrument: from when, up to when, and from when it is shown and judged by."""

    source: Source
    since: int
    until: float = float("inf")
    shown_from: float = 0
    rows_from: float = 0


def asked_for(events: Iterable[Noted], token: int) -> list[Asked]:
    """Each time that a connection was asked for the instrument, in their order."""
    found: list[Asked] = []
    for event in sorted(events, key=lambda each: each.at_us):
        source = None if event.connection is None else (event.stream, *event.connection)
        mine = [each for each in found if each.until == float("inf") and source in (None, each.source)]
        if event.event in ("started", "stopped", "closed", "connected"):
            ended_at: float = event.at_us
        elif event.event == "silent":
            ended_at = event.at_us - round(event.data["silent_seconds"] * SECOND_US)
        elif event.event == "unsubscribed" and token in event.data["tokens"]:
            ended_at = event.at_us
        else:
            if event.event == "subscribed" and token in event.data["tokens"] and not mine:
                assert source is not None
                found.append(Asked(source, event.at_us))
            continue
        for each in mine:
            each.until = ended_at
    last = 0.0
    for each in found:
        each.shown_from = max(each.since, last)
        each.rows_from = max(each.since - SECOND_US, last)
        last = max(last, each.until)
    return found


@dataclass
class Row:
    """A packet that is shown, with what it tells."""

    order: int
    received: int
    at: int
    since: int | None
    timed_by: str
    price: float
    own: bool
    dated: bool
    values: dict[str, Any]
    live: bool = False
    epoch: int = -1
    volume: int | None = None
    value: float | None = None
    away: bool = False
    grown: int = 0
    missed: int = 0
    value_grown: float = 0.0
    value_missed: float = 0.0
    rose: float | None = None
    fell: float | None = None


@dataclass(frozen=True)
class Asking:
    """What is asked about an instrument on a day that begins at `day_us`, with this session."""

    token: int
    day_us: int
    opens: int
    closes: int
    clock: str = "exchange"
    stop: int | None = None


def rows_of(asking: Asking, packets: Iterable[Packet], events: Iterable[Noted]) -> list[Row]:
    """The instrument's packets of the day that are shown, in the order of receipt, with what each of them adds."""
    asked = asked_for(events, asking.token)
    rows = []
    for order, packet in enumerate(sorted(packets, key=lambda each: each.received_us)):
        at = packet.received_us
        if packet.values["instrument_token"] != asking.token or not asking.day_us <= at < asking.day_us + DAY_US:
            continue
        there = [each for each in asked if each.since <= at < each.until]
        if there and there[0].source != packet.source:
            continue
        begun = [each for each in asked if each.rows_from <= at and each.shown_from < each.until]
        since = begun[-1].since if begun and begun[-1].since >= asking.day_us - DAY_US else None
        rows.append(_row(asking, order, packet, since))
    _judge_undated([row for row in rows if row.timed_by == "received_at"])
    rows = [row for row in rows if asking.stop is None or row.at < asking.stop]
    _another_days([row for row in rows if row.timed_by == "received_at"])
    _count(rows, asking)
    return rows


def _row(asking: Asking, order: int, packet: Packet, since: int | None) -> Row:
    values = packet.values
    stamped, traded = values.get("exchange_timestamp"), values.get("last_trade_time")
    own = stamped is None or (
        asking.day_us <= stamped < asking.day_us + DAY_US and (traded is None or traded >= asking.day_us)
    )
    row = Row(
        order,
        packet.received_us,
        packet.received_us,
        since,
        "received_at",
        values["last_price"],
        own,
        stamped is not None,
        values,
    )
    row.volume = values.get("volume_traded")
    if row.volume is not None:
        row.volume = row.volume if own else 0
        row.value = values["average_traded_price"] * row.volume
    if asking.clock == "exchange" and stamped is not None:
        row.timed_by = "exchange_timestamp" if traded is None else "last_trade_time"
        if own:
            row.at = stamped if traded is None else traded
            seen = since is None or row.at // SECOND_US > since // SECOND_US
            row.live = row.price > 0 and seen and (row.volume is None or traded is not None)
    return row


def _judge_undated(rows: Sequence[Row]) -> None:
    """Those that do not say when they traded are live if the volume grew, but for the first of a stretch or day."""
    heard, since, before, epoch = None, None, 0, 0
    for row in rows:
        first = heard is None or (row.since is not None and row.since > heard and row.since != since)
        anew = row.volume is not None and 0 < row.volume < before / 2
        epoch += anew
        row.epoch = epoch
        grew = row.volume is None or anew or row.volume > before
        row.live = row.own and row.price > 0 and not first and grew
        heard, since = row.received, row.since
        before = row.volume or before


def _another_days(rows: Sequence[Row]) -> None:
    """What neither says its day nor was followed by a trade before the volume began anew counts as nothing."""
    known = {row.epoch for row in rows if row.live or (row.dated and row.own)}
    for row in rows:
        if row.epoch not in known:
            row.own = False
            if row.volume is not None:
                row.volume, row.value = 0, 0.0


def _count(rows: Sequence[Row], asking: Asking) -> None:
    most, before, value, heard, since = 0, 0, 0.0, None, None
    high: float | None = None
    low: float | None = None
    for row in rows:
        if heard is None:
            row.away = not (row.since is not None and row.since <= asking.opens and row.live)
        else:
            row.away = row.since is not None and row.since > heard and row.since != since
        if row.volume:
            assert row.value is not None
            if row.volume < before / 2:
                most, value = 0, 0.0
            row.grown, row.value_grown = max(row.volume - most, 0), row.value - value
            most, before, value = max(most, row.volume), row.volume, row.value
            if row.away:
                row.missed, row.value_missed = row.grown, row.value_grown
        if row.own and row.values.get("high"):
            now_high, now_low = row.values["high"], row.values["low"]
            if not row.away and high is not None and low is not None:
                row.rose = now_high if now_high > high else None
                row.fell = now_low if now_low < low else None
            high = now_high if high is None else max(high, now_high)
            low = now_low if low is None else min(low, now_low)
        heard, since = row.received, row.since


@dataclass
class _Group:
    """Rows of one interval and one stretch."""

    part: int
    bucket: int
    rows: list[Row] = field(default_factory=list)

    @property
    def live(self) -> list[Row]:
        return [row for row in self.rows if row.live]


def bars_of(asking: Asking, rows: Sequence[Row], width_us: int, sessions: str) -> list[dict[str, Any]]:
    """The bars, by their beginning, with begin_us and end_us in place of the time."""
    groups: dict[tuple[object, ...], _Group] = {}
    for row in rows:
        part = 0 if sessions == "all" else -1 if row.at < asking.opens else 1 if row.at >= asking.closes else 0
        bucket = 0 if width_us >= DAY_US or part else (row.at - asking.opens) // width_us
        groups.setdefault((part, bucket, row.since, row.epoch), _Group(part, bucket)).rows.append(row)
    mine = [group for group in groups.values() if group.part == 0]
    told: dict[int, list[Row]] = {}
    traded: dict[int, list[_Group]] = {}
    waiting: list[_Group] = []
    for group in mine:
        waiting.append(group)
        if group.live:
            told.setdefault(group.bucket, []).extend(row for each in waiting for row in each.rows)
            traded.setdefault(group.bucket, []).append(group)
            waiting = []
    for group in waiting:
        told.setdefault(group.bucket, []).extend(group.rows)
    tails: dict[int, list[_Group]] = {}
    for group in waiting:
        tails.setdefault(group.bucket, []).append(group)
    bars = []
    for bucket in sorted(told):
        bar = _bar(told[bucket], traded.get(bucket, []), tails.get(bucket, []))
        if bar is not None:
            begin = asking.opens + bucket * width_us
            end = asking.closes if width_us >= DAY_US else begin + width_us
            end = min(end, asking.day_us + DAY_US if sessions == "all" else asking.closes)
            bars.append({"begin_us": max(begin, asking.day_us), "end_us": end, **bar})
    return bars


def _bar(told: Sequence[Row], traded: Sequence[_Group], tails: Sequence[_Group]) -> dict[str, Any] | None:
    live = [row for group in traded for row in group.live]
    counted = any(row.volume is not None for row in told)
    volume, missed = sum(row.grown for row in told), sum(row.missed for row in told)
    if not (volume if counted else live):
        return None
    value, value_missed = sum(row.value_grown for row in told), sum(row.value_missed for row in told)
    rows = [row for group in (*traded, *tails) for row in group.rows]
    if live:
        tail_rows = {row.order for group in tails for row in group.rows}
        shown = [row for row in told if row.order not in tail_rows]
        prices = [row.price for row in live]
        high = max([*prices, *(row.rose for row in shown if row.rose is not None)])
        low = min([*prices, *(row.fell for row in shown if row.fell is not None)])
    else:
        last = [[row.price for row in group.rows if row.price][-1:] for group in tails]
        prices = [price for each in last for price in each] or [math.nan]  # packets that have no price
        high, low = max(prices), min(prices)
    ois = [row.values["oi"] for row in rows if row.own and row.values.get("oi") is not None]
    seen = volume - missed
    vwap = (value - value_missed) / seen if counted and seen > 0 else None
    return {
        "open": prices[0],
        "high": high,
        "low": low,
        "close": prices[-1],
        "volume": volume if counted else None,
        "volume_missed": missed if counted else None,
        "value": value if counted else None,
        "vwap": vwap if vwap is None or math.isnan(low) else max(low, min(high, vwap)),
        "oi": ois[-1] if ois else None,
        "ticks": len(live),
        "clock": max(row.timed_by for row in rows),
    }


def trades_of(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Each growth of the volume that was seen, by time."""
    found = [row for row in rows if row.grown and row.price > 0 and not row.away]
    return [
        {"at_us": row.at, "price": row.price, "quantity": row.grown, "clock": row.timed_by}
        for row in sorted(found, key=lambda each: (each.at, each.order))
    ]
