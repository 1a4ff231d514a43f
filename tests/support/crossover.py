"""One strategy, as a plain loop over a feed: long while a fast average of closes is above a slow one, else out.

Backtest frameworks run the same over what adapters give them, and must come to the same trades.
"""

import datetime as dt
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from kitelake.lake import Lake
from queries.feed import Bar, FeedTick

SYMBOL: Final = "NSE:INFY"
WIDTH: Final = "1m"
FAST: Final = 5
SLOW: Final = 20
EDGE: Final = 1e-6
"""What is nearer together than this is equal: frameworks round averages differently."""
PAGE: Final = Path(__file__).parents[2] / "docs" / "adapters.md"


class Trade(NamedTuple):
    """`side` is 1 for bought, -1 for sold."""

    time: dt.datetime
    side: int
    price: float


class Crossover:
    """The decisions: of each close, whether to be long after it."""

    def __init__(self) -> None:
        self._closes: deque[float] = deque(maxlen=SLOW)

    def wants(self, close: float) -> bool:
        self._closes.append(close)
        last = list(self._closes)
        return len(last) == SLOW and sum(last[-FAST:]) / FAST - sum(last) / SLOW > EDGE


def at_closes(lake: Lake) -> list[Trade]:
    """Each trade at the close of the bar that decides it."""
    return [Trade(bar.time, side, bar.close) for bar, _, side, _ in _decisions(lake)]


def at_next_opens(lake: Lake) -> list[Trade]:
    """Each at the open of the bar after it, named by that bar's end; none after the last bar."""
    return [Trade(after.time, side, after.open) for _, after, side, _ in _decisions(lake) if after is not None]


def at_quotes(lake: Lake) -> list[Trade]:
    """Each when the bar closes, at the best ask or bid of the last tick before."""
    return [Trade(bar.time, side, ask if side > 0 else bid) for bar, _, side, (bid, ask) in _decisions(lake)]


def _decisions(lake: Lake) -> Iterator[tuple[Bar, Bar | None, int, tuple[float, float]]]:
    """The bar, the one after it, the side, and the quote when the bar closes."""
    rule, is_long = Crossover(), False
    quote = (0.0, 0.0)
    waiting: tuple[Bar, int, tuple[float, float]] | None = None
    for item in lake.feed(SYMBOL, bars=WIDTH):
        if isinstance(item, FeedTick):
            quote = (item.bid_price_1, item.ask_price_1)
        elif isinstance(item, Bar):
            if waiting is not None:
                yield waiting[0], item, waiting[1], waiting[2]
                waiting = None
            if (wants := rule.wants(item.close)) != is_long:
                waiting, is_long = (item, 1 if wants else -1, quote), wants
    if waiting is not None:
        yield waiting[0], None, waiting[1], waiting[2]


def example(framework: str, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Run the lines under that heading of docs/adapters.md over a data folder. Returns what they named."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "kite").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    _, _, text = PAGE.read_text(encoding="utf-8").partition(f"\n### {framework}\n")
    (code, *_) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(list(filter(None, code.splitlines()))) <= 12
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, str(PAGE), "exec"), space)
    return space
