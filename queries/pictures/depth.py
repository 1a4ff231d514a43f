"""What there is at one moment, by price: a book as a ladder, and an option chain with its smile."""

import math
from itertools import islice
from typing import Any, Final

import numpy as np
import pyarrow as pa

from queries.pictures.subject import Subject
from queries.pictures.table import microseconds_of, numbers_of, parts_of, values_of
from queries.pictures.theme import WIDTH, Theme, altair, clock_texts, nothing

PANELS: Final = 6
LEVEL_HEIGHT: Final = 26
SMILE_HEIGHT: Final = 260
INTEREST_HEIGHT: Final = 150
NAMES: Final = ("call", "put")


def book_chart(subject: Subject, theme: Theme) -> Any:
    """A ladder for each book, of the first few: the asks on top, the best prices in the middle."""
    alt = altair()
    names = ["symbol", *(name for name in ("moment",) if name in subject.rows.column_names)]
    parts = islice(parts_of(subject.rows, *names), PANELS)
    ladders = [ladder for _, rows in parts if (ladder := _ladder(rows, theme)) is not None]
    return alt.vconcat(*ladders, spacing=26) if ladders else nothing(theme)


def levels_of(rows: pa.Table) -> list[tuple[str, float, float, float]]:
    """The levels of one book that are not empty, the highest first: side, price, quantity, orders (NaN if unknown)."""
    found = []
    for side in ("ask", "bid"):
        orders = f"{side}_orders"
        counts = numbers_of(rows.column(orders)) if orders in rows.column_names else np.full(len(rows), np.nan)
        columns = (numbers_of(rows.column(f"{side}_price")), numbers_of(rows.column(f"{side}_quantity")), counts)
        found += [(side, *values) for values in zip(*(column.tolist() for column in columns), strict=True)]
    return sorted((each for each in found if not math.isnan(each[1] + each[2])), key=lambda each: (-each[1], each[0]))


def spread_of(levels: list[tuple[str, float, float, float]]) -> float | None:
    """The best ask less the best bid, if there are both."""
    asks, bids = ([each[1] for each in levels if each[0] == side] for side in ("ask", "bid"))
    return round(min(asks) - max(bids), 6) if asks and bids else None


def _ladder(rows: pa.Table, theme: Theme) -> Any:
    alt = altair()
    levels = levels_of(rows)
    if not levels:
        return None
    most = max((each[2] for each in levels if each[2] > 0), default=1.0)
    values = [
        {
            "place": place,
            "price": f"{price:,.2f}" if round(price, 2) == price else f"{price:,.4f}",
            "side": side,
            "quantity": quantity,
            "signed": -quantity if side == "bid" else quantity,
            "said": f"{quantity:,.0f}" + ("" if math.isnan(orders) else f"  in {orders:,.0f}"),
        }
        for place, (side, price, quantity, orders) in enumerate(levels)
    ]
    order = [row["place"] for row in values]
    base = alt.Chart(alt.Data(values=values)).encode(
        y=alt.Y("place:O", sort=order, axis=None),
        tooltip=[alt.Tooltip(f"{name}:N") for name in ("side", "price", "said")],
    )
    x = alt.X(
        "signed:Q",
        scale=alt.Scale(domain=[-1.35 * most, 1.35 * most], nice=False),
        axis=alt.Axis(
            title="bid quantity  ·  ask quantity", labelExpr="format(abs(datum.value), '~s')", tickCount=6, domain=False
        ),
    )
    color = alt.Color("side:N", scale=alt.Scale(domain=["bid", "ask"], range=[theme.up, theme.down]), legend=None)
    bars = base.mark_bar(opacity=0.8, height=LEVEL_HEIGHT - 7).encode(x=x, color=color, description=alt.value("level"))
    said = [
        base.transform_filter(f"datum.side == '{side}'")
        .mark_text(align=align, dx=dx, color=theme.muted, fontSize=11)
        .encode(x=x, text="said:N")
        for side, align, dx in (("bid", "right", -6), ("ask", "left", 6))
    ]
    # A price stands across the middle from its bar.
    prices = [
        base.transform_filter(f"datum.side == '{side}'")
        .mark_text(align=align, dx=dx, color=theme.text, fontSize=12, fontWeight="bold")
        .encode(x=alt.datum(0), text="price:N")
        for side, align, dx in (("bid", "left", 8), ("ask", "right", -8))
    ]
    first = rows.slice(0, 1)
    spread = spread_of(levels)
    when = clock_texts(microseconds_of(first.column("received_at")))[0]
    title = f"{first.column('symbol')[0].as_py() or 'unknown'}, received {when}" + (
        "" if spread is None else f", spread {spread:g}"
    )
    return alt.layer(bars, *said, *prices).properties(
        width=WIDTH * 2 // 3,
        height=LEVEL_HEIGHT * len(levels),
        title=alt.TitleParams(title, anchor="start", fontSize=13, color=theme.text),
    )


def chain_chart(subject: Subject, theme: Theme) -> Any:
    """The smile of calls and puts over their open interest, for each moment, of the first few."""
    alt = altair()
    parts = [rows for _, rows in islice(parts_of(subject.rows, "underlying", "moment"), PANELS)]
    return alt.vconcat(*(_smile(rows, theme, named=len(parts) > 1) for rows in parts)) if parts else nothing(theme)


def _smile(rows: pa.Table, theme: Theme, *, named: bool) -> Any:
    alt = altair()
    strikes = numbers_of(rows.column("strike"))
    values = [
        {"strike": strike, "side": side, "iv": iv, "oi": oi, "bid": bid, "ask": ask}
        for side in NAMES
        for strike, iv, oi, bid, ask in zip(strikes.tolist(), *_columns(rows, side), strict=True)
    ]
    low, high = float(np.nanmin(strikes)), float(np.nanmax(strikes))
    pad = max((high - low) * 0.04, 1.0)
    domain = alt.Scale(domain=[low - pad, high + pad], nice=False, zero=False)
    color = alt.Color("side:N", scale=alt.Scale(domain=list(NAMES), range=[theme.series[0], theme.series[1]]))
    tooltip = [alt.Tooltip("side:N"), *(alt.Tooltip(f"{name}:Q") for name in ("strike", "iv", "oi", "bid", "ask"))]
    base = alt.Chart(alt.Data(values=values))
    every = np.unique(strikes)
    marked = every[:: -(-len(every) // 14)].tolist()
    x = alt.X("strike:Q", scale=domain, axis=alt.Axis(title=None, labels=False, ticks=False, values=marked))
    smile = (
        base.transform_filter("isValid(datum.iv)")
        .mark_line(point=alt.OverlayMarkDef(size=38, filled=True), strokeWidth=1.8)
        .encode(
            x=x,
            y=alt.Y(
                "iv:Q", scale=alt.Scale(zero=False), axis=alt.Axis(title="implied volatility", format="~%", tickCount=6)
            ),
            color=color,
            tooltip=tooltip,
        )
    )
    forward = numbers_of(rows.column("forward"))[:1] if "forward" in rows.column_names else np.empty(0)
    marks = [{"strike": value, "text": f"forward {value:,.2f}"} for value in forward.tolist() if low <= value <= high]
    rule = alt.Chart(alt.Data(values=marks)).encode(x=x)
    line = rule.mark_rule(strokeDash=[4, 4], color=theme.muted)
    text = rule.mark_text(align="left", dx=5, dy=-SMILE_HEIGHT // 2 + 8, color=theme.muted, fontSize=11).encode(
        text="text:N"
    )
    gap = float(np.min(np.diff(every), initial=high - low or 1.0))
    width = max(1.0, min(18.0, 0.36 * WIDTH * gap / (high - low + 2 * pad)))
    interest = [
        base.transform_filter(f"datum.side == '{side}' && isValid(datum.oi)")
        .mark_bar(size=width, xOffset=offset * (width + 1) / 2, opacity=0.85)
        .encode(
            x=alt.X("strike:Q", scale=domain, title="strike", axis=alt.Axis(format=",~f", values=marked)),
            y=alt.Y("oi:Q", title="open interest", axis=alt.Axis(format="~s", tickCount=4)),
            color=color,
            tooltip=tooltip,
            description=alt.value("open interest"),
        )
        for side, offset in zip(NAMES, (-1, 1), strict=True)
    ]
    moment = clock_texts(microseconds_of(rows.column("moment"))[:1])[0]
    title = {"title": alt.TitleParams(moment, anchor="start", fontSize=13, color=theme.text)} if named else {}
    upper = alt.layer(line, text, smile).properties(width=WIDTH, height=SMILE_HEIGHT, **title)
    lower = alt.layer(*interest).properties(width=WIDTH, height=INTEREST_HEIGHT)
    return alt.vconcat(upper, lower, spacing=8).resolve_scale(x="shared")


def _columns(rows: pa.Table, side: str) -> list[list[float | None]]:
    return [values_of(numbers_of(rows.column(f"{side}_{name}"))) for name in ("iv", "oi", "bid", "ask")]
