"""Days at random, captured by hand: whatever befalls connections, sources, packets and volumes, by a seed."""

import datetime as dt
from dataclasses import dataclass, field
from random import Random

from tests.support.captured import INFY, NIFTY_50, NIFTY_FUT, SECOND_US, TINY, Captured, Line, Run, us_of

FIRST_DAY = dt.date(2026, 11, 24)
TOKENS = (INFY, TINY, NIFTY_FUT, NIFTY_50)
MODES = ("full", "full", "full", "quote", "quote", "ltp", "quote, then full")
_CLUSTERS = ("08:58:50", "09:07:30", "09:14:30", "09:59:40", "12:00:00", "15:14:30", "15:29:40", "15:39:30", "15:50:00")


@dataclass
class _Market:
    """One instrument: what a packet would say now."""

    rng: Random
    price: float
    volume: int = 0
    turnover: float = 0.0
    high: float = 0.0
    low: float = 0.0
    traded_us: int | None = None
    stamped_us: int | None = None
    oi: int = 1000

    def trade(self, at_us: int, quantity: int) -> None:
        self.price = round(max(self.price, 100) * self.rng.uniform(0.98, 1.02) * 20) / 20
        self.volume += quantity
        self.turnover += quantity * self.price
        self.high = max(self.high, self.price)
        self.low = min(self.low or self.price, self.price)
        self.traded_us = self.stamped_us = at_us
        self.oi += self.rng.randrange(-5, 6)

    def new_day(self, at_us: int) -> None:
        """The exchange begins a day: what was there is forgotten, or not yet."""
        if self.rng.random() < 0.5:
            self.volume, self.turnover, self.high, self.low = 0, 0.0, 0.0, 0.0
            self.stamped_us = at_us if self.rng.random() < 0.5 else self.stamped_us


@dataclass
class _Subscriber:
    """A connection as it is now: `modes` of what it is asked for."""

    line: Line
    modes: dict[int, str] = field(default_factory=dict)
    last_us: int | None = None
    sent: set[int] = field(default_factory=set)


class RandomDays:
    """Puts days into a folder."""

    def __init__(self, captured: Captured, rng: Random) -> None:
        self.captured = captured
        self.rng = rng
        self.run: Run | None = None
        self.subscribers: list[_Subscriber] = []
        self.several = rng.random() < 0.4
        self.begins_anew = rng.random() < 0.2
        self.markets = {token: _Market(rng, rng.choice([0.0, 1000.0])) for token in TOKENS}

    def put(self, days: int) -> None:
        for number in range(days):
            self.captured.on(FIRST_DAY + dt.timedelta(days=number))
            if number == 0 or self.rng.random() < 0.5:
                self.captured.instruments()
            if number == 2:  # what was asked for more than a day ago is not looked for
                self.run, self.subscribers = None, []
            self._day()
            if self.rng.random() < 0.3:
                self.captured.commit()
        self.captured.flush()

    def _day(self) -> None:
        rng = self.rng
        opened = dict.fromkeys(TOKENS, False)
        new_day_us = us_of(self.captured.day, "08:59")
        for cluster in sorted(rng.sample(_CLUSTERS, rng.randrange(3, 7))):
            at_us = us_of(self.captured.day, cluster) + rng.randrange(SECOND_US)
            for _ in range(rng.randrange(3, 12)):
                at_us += rng.choice([60_000, 300_000, 1_000_000, 5_000_000, 20_000_000]) + rng.randrange(50_000)
                for token, market in self.markets.items():
                    if not opened[token] and at_us > new_day_us and rng.random() < 0.7:
                        opened[token] = True
                        market.new_day(at_us)
                    elif opened[token] and rng.random() < 0.6:
                        self._trade(token, market, at_us)
                self._live(at_us)
                self._packets(at_us)

    def _trade(self, token: int, market: _Market, at_us: int) -> None:
        today = us_of(self.captured.day, "00:00")
        if market.traded_us is None or market.traded_us < today:  # the day's first
            market.volume, market.turnover, market.high, market.low = 0, 0.0, 0.0, 0.0
            market.trade(at_us - 30_000, 1_000_000 if self.begins_anew else self.rng.randrange(1, 500))
        elif self.begins_anew and market.volume > 900_000 and self.rng.random() < 0.1:
            market.volume, market.turnover = 0, 0.0
        for _ in range(self.rng.randrange(1, 4)):
            market.trade(at_us - self.rng.randrange(1_000, 40_000), self.rng.randrange(1, 100))

    def _live(self, at_us: int) -> None:
        """Something may befall the service or a connection, five hundredths of a second before `at_us`."""
        rng, noted_us = self.rng, at_us - 20_000
        if self.run is None or rng.random() < 0.04:
            if self.run is not None and rng.random() < 0.5:
                self.run.stopped(noted_us - 15_000)
            self.run = self.captured.run(None if rng.random() < 0.1 and not self.captured.runs else noted_us - 10_000)
            names = [("asha", 1), ("asha", 2), ("ravi", 1)][: 3 if self.several else 1]
            self.subscribers = [_Subscriber(self.run.line(*name)) for name in names]
        for number, each in enumerate(self.subscribers):
            self._befall(each, noted_us + 1_000 * number)

    def _befall(self, each: _Subscriber, at_us: int) -> None:
        rng = self.rng
        if not each.modes:
            if rng.random() < 0.5:
                tokens = rng.sample(TOKENS, rng.randrange(1, 5))
                each.line.begin(at_us, *tokens)
                each.modes = {token: rng.choice(MODES) for token in tokens}
                each.sent = set()
        elif rng.random() < 0.1:
            match rng.randrange(5):
                case 0:
                    each.line.closed(at_us)
                    each.modes = {}
                case 1 if each.last_us is not None:
                    each.line.silent(at_us, round((at_us - each.last_us) / SECOND_US, 3))
                    each.line.closed(at_us + 100)
                    each.modes = {}
                case 2:
                    token = rng.choice(list(each.modes))
                    each.line.unsubscribed(at_us, token)
                    del each.modes[token]
                case 3:
                    each.line.subscribed(at_us, *each.modes)  # asked again
                case _:
                    others = [token for token in TOKENS if token not in each.modes]
                    if others:
                        each.line.subscribed(at_us, *others)
                        each.modes |= {token: rng.choice(MODES) for token in others}

    def _packets(self, at_us: int) -> None:
        for number, each in enumerate(self.subscribers):
            for token, mode in each.modes.items():
                if token not in each.sent or self.rng.random() < 0.7:
                    self._packet(each, token, mode, at_us + 2_000 * number + 100 * TOKENS.index(token))

    def _packet(self, each: _Subscriber, token: int, mode: str, at_us: int) -> None:
        market, line, rng = self.markets[token], each.line, self.rng
        if mode == "quote, then full":
            mode = "full" if token in each.sent else "quote"
        volume = market.volume
        # A correction; none in the same interval as a beginning anew, whose value is then that of the largest volume.
        if volume > 20 and not self.begins_anew and rng.random() < 0.05:
            volume -= rng.randrange(1, 6)
        average = round(market.turnover / market.volume, 2) if market.volume else 0.0
        price = 0.0 if rng.random() < 0.02 else market.price
        if mode == "ltp":
            line.ltp(at_us, token, price)
        elif mode == "quote":
            line.quote(at_us, token, price, volume=volume, average=average, high=market.high, low=market.low)
        else:
            line.full(
                at_us, token, price, volume=volume, average=average, high=market.high, low=market.low,
                traded=market.traded_us, stamped=market.stamped_us, oi=market.oi,
            )  # fmt: skip
        each.sent.add(token)
        each.last_us = at_us
