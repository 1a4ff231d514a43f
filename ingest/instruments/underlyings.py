"""Around which price the strikes of each expiry are chosen: that of its own underlying. Pure.

Options on an index or a share are on that, whatever their expiry, and a future serves where it has no price. Options
on commodities and currencies are on a future: on the first one of their name that does not expire before they do, so
that each expiry may have another (MCX's options expire some days before the future into which they devolve).
"""

import datetime as dt
import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from ingest.instruments.listing import SHOWN, Instruments
from storage.market import EQUITY_DERIVATIVES, spot_of


@dataclass(frozen=True)
class Price:
    """A price in rupees, and in words where it is from: "the live stream", "the instrument list"."""

    value: float
    source: str


PriceOf = Callable[[int], Price | None]


def is_price(value: float | None) -> bool:
    """Whether strikes can be chosen around it.

    A 0 in the stream or the list means that there is none. A future may trade below 0, but no strike is there.
    """
    return value is not None and 0 < value < math.inf


def listed_price(instruments: Instruments) -> PriceOf:
    """The `last_price` of the instrument list."""
    columns = (instruments.table[name].to_pylist() for name in ("instrument_token", "last_price"))
    prices = {token: price for token, price in zip(*columns, strict=True) if is_price(price)}
    return lambda token: Price(prices[token], "the instrument list") if token in prices else None


@dataclass(frozen=True)
class Chain:
    """Options of one name that expire on the same day."""

    exchange: str
    name: str
    expiry: dt.date


@dataclass(frozen=True)
class ChainUnderlying:
    """What the price of a chain may be taken from: tokens of the index or share, and of a future; None: not listed.

    `token` is the one whose price it is.
    """

    chain: Chain
    spot: int | None
    future: int | None
    token: int = 0
    price: Price | None = None

    @property
    def candidates(self) -> tuple[int, ...]:
        """In the order in which they are asked for a price."""
        return tuple(token for token in (self.spot, self.future) if token is not None)

    def priced(self, price_of: PriceOf) -> Self:
        """With the price of the first candidate that has one."""
        for token in self.candidates:
            price = price_of(token)
            if price is not None and is_price(price.value):
                return replace(self, token=token, price=price)
        return self


def underlyings(instruments: Instruments, chains: Iterable[Chain]) -> list[ChainUnderlying]:
    """That of each chain, not yet priced."""
    futures = _futures(instruments)
    found: list[ChainUnderlying] = []
    for chain in chains:
        tokens = (instruments.token(symbol) for symbol in spot_of(chain.exchange, chain.name))
        spot = next((token for token in tokens if token is not None), None)
        expiries = futures.get((chain.exchange, chain.name), [])
        place = bisect_left(expiries, (chain.expiry, 0))
        if place == len(expiries) and spot is not None:
            place -= 1  # a future of the same index or share, if not of the same time
        found.append(ChainUnderlying(chain, spot, expiries[place][1] if 0 <= place < len(expiries) else None))
    return found


def _futures(instruments: Instruments) -> Mapping[tuple[str, str], list[tuple[dt.date, int]]]:
    """Expiry and token of the futures of each exchange and name that have not expired, the nearest first."""
    table, today = instruments.table, pa.scalar(instruments.on, pa.date32())
    table = table.filter(pc.and_(pc.equal(table["instrument_type"], "FUT"), pc.greater_equal(table["expiry"], today)))
    found: dict[tuple[str, str], list[tuple[dt.date, int]]] = defaultdict(list)
    for row in table.sort_by("expiry").select(["exchange", "name", "expiry", "instrument_token"]).to_pylist():
        if row["name"] is not None:
            found[row["exchange"], row["name"]].append((row["expiry"], row["instrument_token"]))
    return found


def notes_on(instruments: Instruments, priced: Sequence[ChainUnderlying]) -> Iterator[str]:
    """In words around which prices: each, or of many how many have theirs from where."""
    prices: dict[tuple[str, int], list[ChainUnderlying]] = {}
    for one in priced:
        prices.setdefault((one.chain.name, one.token), []).append(one)
    names = len({one.chain.name for one in priced})
    firsts = [group[0] for group in prices.values()]
    if len(prices) > SHOWN:
        sources = Counter(one.price.source for one in firsts if one.price).most_common(SHOWN)
        counts = [f"{count:,} ({source})" for source, count in sources]
        if others := len(prices) - sum(count for _, count in sources):
            counts.append(f"{others:,} (other sources)")
        futures = sum(one.spot not in (None, one.token) for one in firsts)
        since = f"; {futures:,} of a future, since the index or share has no price" if futures else ""
        each = "each" if len(prices) == names else "each expiry"
        yield f"{names:,} names, {each} around its own price: {', '.join(counts)}{since}"
        return
    several = Counter(name for name, _ in prices)
    for (name, token), group in prices.items():
        first = group[0]
        assert first.price is not None
        since = ""
        if first.spot not in (None, token):
            since = f", since {_symbol(instruments, first.candidates[0])} has no price"
        elif first.spot is None and first.chain.exchange in EQUITY_DERIVATIVES:
            since = ", since neither an index nor a share of that name is known"
        price = f"{first.price.value:,.4f}".removesuffix("00")
        label = f"{name}{_of_expiries(group) if several[name] > 1 else ''}"
        yield f"{label} around {price} of {_symbol(instruments, token)} ({first.price.source}){since}"


def unpriced(
    instruments: Instruments, missing: Sequence[ChainUnderlying], priced: Sequence[ChainUnderlying]
) -> list[str]:
    """A problem that names those without a price, if there are any. `priced` are the others."""
    if not missing:
        return []
    partly = {one.chain.name for one in priced}
    groups: dict[str, list[ChainUnderlying]] = {}
    for one in missing:
        groups.setdefault(one.chain.name, []).append(one)
    texts = []
    for name, group in list(groups.items())[:SHOWN]:
        tokens = dict.fromkeys(token for one in group for token in one.candidates)
        symbols = " or ".join(_symbol(instruments, token) for token in tokens)
        label = f"{name}{_of_expiries(group) if name in partly or not tokens else ''}"
        texts.append(f"{label} ({symbols or 'no index or share of it is listed, and no future that lasts until then'})")
    if len(groups) > SHOWN:
        texts.append(f"and {len(groups) - SHOWN:,} more")
    return [f"no price to choose strikes around, so none are selected: {', '.join(texts)}"]


def _of_expiries(group: Sequence[ChainUnderlying]) -> str:
    days = sorted(one.chain.expiry for one in group)
    more = f" and {len(days) - SHOWN:,} more" if len(days) > SHOWN else ""
    return f" of {', '.join(map(str, days[:SHOWN]))}{more}"


def _symbol(instruments: Instruments, token: int) -> str:
    return instruments.symbol(token) or str(token)
