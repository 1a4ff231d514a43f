"""Resolves subscription lists: reads their files and URLs, looks up the prices that they need, and asks `plan`.

What cannot be read costs its own list alone, and not even that where the list was resolved before: then what it meant
last goes on.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from ingest.instruments import Instruments, Price, references
from ingest.manager import TickerManager
from ingest.wire import Mode
from kitelake.config import SubscriptionList
from kitelake.errors import ListFileError
from kitelake.plan.fetched_lists import cached_list, fetch_list
from kitelake.plan.name_lists import read_list_file
from kitelake.plan.plan import ListPlan, resolve
from kitelake.plan.prices import captured_prices, first_known, live_prices
from storage.layout import DataLayout

CACHE: Final = "lists"
"""The folder, in the data folder, of what URLs of lists answered with last."""
FILE_SECONDS: Final = 10.0

Names = Sequence[str | int]


class Resolver:
    """For one data folder. `online` says whether URLs are fetched; else their cached copies serve."""

    def __init__(self, layout: DataLayout, *, online: bool) -> None:
        self._data = layout.root
        self._cache = layout.root / CACHE
        self._online = online

    async def resolve(
        self,
        specs: Sequence[SubscriptionList],
        instruments: Instruments,
        *,
        default_mode: Mode,
        before: Mapping[str, ListPlan] | None = None,
        manager: TickerManager | None = None,
    ) -> list[ListPlan]:
        """What the lists mean now. `before` is what they meant last; `manager` is asked for live prices."""
        names = await asyncio.gather(*(self._names(spec) for spec in specs))
        prices = await self._prices(specs, instruments, manager)

        def work() -> list[ListPlan]:
            price_of = first_known(*prices, instruments=instruments)
            return [
                resolve(spec, instruments, price_of=price_of, default_mode=default_mode, names=given)
                for spec, (given, _) in zip(specs, names, strict=True)
            ]

        plans = await asyncio.to_thread(work)
        return [
            _complained(plan, problem, (before or {}).get(plan.name), unread=given is None)
            for plan, (given, problem) in zip(plans, names, strict=True)
        ]

    async def _names(self, spec: SubscriptionList) -> tuple[Names | None, str | None]:
        """What its file or URL names, and what is wrong with that; no names for one that cannot be read."""
        try:
            if spec.file is not None:
                async with asyncio.timeout(FILE_SECONDS):  # a network mount may hang
                    return await asyncio.to_thread(read_list_file, spec.file), None
            if spec.url is not None and self._online:
                return await fetch_list(spec.url, self._cache)
            if spec.url is not None:
                copy = await asyncio.to_thread(cached_list, spec.url, self._cache)
                return copy, None if copy is not None else "its URL was not fetched yet"
        except TimeoutError:
            return None, f"{spec.file}: cannot be read within {FILE_SECONDS:g} s"
        except ListFileError as error:
            return None, str(error)
        return spec.instruments, None

    async def _prices(
        self, specs: Sequence[SubscriptionList], instruments: Instruments, manager: TickerManager | None
    ) -> list[Mapping[int, Price]]:
        selects = [spec.select for spec in specs if spec.select is not None]
        asked = await asyncio.to_thread(lambda: {t for select in selects for t in references(instruments, select)})
        if not asked:
            return []
        live: dict[int, Price] = {}
        if manager is not None:
            streamed = {token for there in manager.placement().values() for token in there}
            live = await live_prices(manager, asked & streamed)
        captured = await asyncio.to_thread(captured_prices, self._data, asked - live.keys())
        return [live, captured]


def _complained(plan: ListPlan, problem: str | None, before: ListPlan | None, *, unread: bool) -> ListPlan:
    """The plan with the problem of its file or URL in it; if that was not read, what the list meant before."""
    if problem is None:
        return plan
    if unread and before is not None and before.tokens:
        problem = f"{problem}; what it meant before goes on"
        plan = before  # by what config.yaml said then, if it says something else now
    elif unread:
        plan = replace(plan, unresolved=frozenset({""}))
    return replace(plan, problems=(problem, *(known for known in plan.problems if known != problem)))


def files_of(specs: Sequence[SubscriptionList]) -> list[Path]:
    """The files that these lists are in."""
    return [spec.file for spec in specs if spec.file is not None]
