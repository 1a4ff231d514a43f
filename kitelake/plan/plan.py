"""From subscription lists to connections: what each list means on a day, and who streams what of it. Pure.

Every list is resolved against the instrument list by itself. The lists that are in their hours together say what is
wanted: each instrument once, in the highest mode of its lists, with the best priority and where the list of that
priority wants it. What is wanted is given to the connections, the most important first; the last is left out when
there is no more room.
"""

import datetime as dt
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

from ingest.errors import InstrumentError
from ingest.instruments import Instruments, PriceOf, Share, references, select
from ingest.manager import Allocation, Want
from ingest.settings import ManagerSettings
from ingest.wire import Mode
from kitelake.config import SubscriptionList
from kitelake.schedule import ListHours
from storage.market import ROUND_THE_CLOCK, SCHEDULED, Span, exchange_of_token

_RANK: Final = {Mode.LTP: 0, Mode.QUOTE: 1, Mode.FULL: 2}


@dataclass(frozen=True)
class ListPlan:
    """What one list means, by the instrument list of a day.

    `tokens` in the order of the list. `references` are the instruments around whose prices strikes are chosen (token →
    symbol): they are streamed with the list, in ltp mode, so that there is a price when it is resolved anew. `missing`
    are names that the instrument list does not hold; `problems` say in words what could not be resolved, `notes` what
    else a reader of the plan should know. `unpriced` are those of the problems that end by themselves: the references
    are streamed with the list, and it is resolved anew once there is a price.

    `exchange_of` is the exchange of each token and reference, by the instrument list. `unresolved` are the exchanges of
    names that are not in it, or could not be had, as far as these say, else "".
    `listed` is the day of the instrument list by which it was resolved, None if that is not known; `resolved_on` the
    day on which it was.
    """

    spec: SubscriptionList
    mode: Mode
    tokens: tuple[int, ...] = ()
    references: Mapping[int, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    unpriced: tuple[str, ...] = ()
    exchange_of: Mapping[int, str] = field(default_factory=dict)
    unresolved: frozenset[str] = frozenset()
    listed: dt.date | None = None
    resolved_on: dt.date | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def every_token(self) -> tuple[int, ...]:
        """The tokens, and the references behind them."""
        return tuple(dict.fromkeys((*self.tokens, *self.references)))

    @cached_property
    def exchanges(self) -> frozenset[str]:
        """Of its tokens and references."""
        return frozenset(self.exchange_of.values())

    def by_exchange(self) -> dict[str, tuple[int, ...]]:
        """The tokens of each exchange, in the order of the list."""
        found: dict[str, list[int]] = {}
        for token in self.tokens:
            found.setdefault(self.exchange_of[token], []).append(token)
        return {exchange: tuple(tokens) for exchange, tokens in found.items()}

    def of(self, exchanges: Collection[str]) -> "ListPlan":
        """What of it is of these exchanges."""
        if self.exchanges <= set(exchanges):
            return self
        kept = {token: name for token, name in self.exchange_of.items() if name in exchanges}
        return replace(
            self,
            tokens=tuple(token for token in self.tokens if token in kept),
            references={token: name for token, name in self.references.items() if token in kept},
            exchange_of=kept,
        )


def resolve(
    spec: SubscriptionList,
    instruments: Instruments,
    *,
    price_of: PriceOf,
    default_mode: Mode,
    names: Sequence[str | int] | None = None,
) -> ListPlan:
    """What the list means. `names` are those that its file or URL holds; `price_of` see `ingest.instruments`."""
    plan = ListPlan(spec, spec.mode or default_mode, listed=instruments.date)
    if spec.select is not None:
        found = select(instruments, spec.select, price_of)
        asked = references(instruments, spec.select)
        return replace(
            plan,
            tokens=found.tokens,
            references=asked,
            notes=found.notes,
            problems=found.problems,
            unpriced=found.unpriced,
            exchange_of=exchanges_of(instruments, (*found.tokens, *asked)),
            unresolved=exchanges_asked(spec) if set(found.problems) - set(found.unpriced) else frozenset(),
        )
    tokens: list[int] = []
    missing: list[str] = []
    moved: list[str] = []
    for name in names if names is not None else spec.instruments:
        token = instruments.token(name)
        if token is None and isinstance(name, Share) and (other := instruments.in_another_series(name)) is not None:
            moved.append(f"{name} as {other}")
            token = instruments.token(other)
        if token is None:
            missing.append(str(name))
        else:
            tokens.append(token)
    problems: tuple[str, ...] = ()
    if missing:
        try:
            instruments.resolve(missing)  # one text for all, with near matches
        except InstrumentError as error:
            problems = (str(error),)
    notes = (f"shares of another series than the list says: {', '.join(moved)}",) if moved else ()
    return replace(
        plan,
        tokens=tuple(dict.fromkeys(tokens)),
        missing=tuple(missing),
        notes=notes,
        problems=problems,
        exchange_of=exchanges_of(instruments, tokens),
        unresolved=exchanges_said(missing),
    )


def exchanges_of(instruments: Instruments, tokens: Iterable[int]) -> dict[int, str]:
    """The exchange of each token, by the instrument list; "" for one that is not in it."""
    return {token: (instruments.symbol(token) or "").partition(":")[0] for token in tokens}


def exchanges_asked(spec: SubscriptionList) -> frozenset[str]:
    """Which exchanges a list says that it is of, before it is resolved; "" for what says none."""
    if spec.select is not None and spec.select.exchange:
        return frozenset(map(_known, spec.select.exchange))
    return exchanges_said(spec.instruments) or frozenset({""})


def exchanges_said(names: Iterable[str | int]) -> frozenset[str]:
    """Which exchanges names and tokens say that they are of; "" for one that says none."""
    return frozenset(map(_exchange_said, names))


def _exchange_said(name: str | int) -> str:
    exchange, colon, _ = str(name).strip().upper().partition(":")
    if not colon and exchange.isascii() and exchange.isdigit():
        exchange = exchange_of_token(int(exchange))
    return _known(exchange)


def _known(exchange: str) -> str:
    return exchange if exchange in (*SCHEDULED, *ROUND_THE_CLOCK) else ""


def recentred(before: ListPlan, after: ListPlan, instruments: Instruments) -> ListPlan:
    """The list resolved anew during its hours: it drops what it does not mean any more only if it is told to.

    What the instrument list does not hold is dropped all the same. Nothing is dropped because of a problem that was
    not there before, such as a price that is not known now.
    """
    if after.spec.drop and set(after.problems) <= set(before.problems):
        return after
    tokens = tuple(dict.fromkeys((*after.tokens, *(token for token in before.tokens if token in instruments))))
    references = {**after.references, **{t: name for t, name in before.references.items() if t in instruments}}
    return replace(
        after,
        tokens=tokens,
        references=references,
        exchange_of=exchanges_of(instruments, (*tokens, *references)),
    )


def carried_over(before: Mapping[str, ListPlan], spec: SubscriptionList, default_mode: Mode) -> ListPlan | None:
    """What a list of a configuration that has changed means until it is resolved; `before`: what lists meant so far.

    If it names its instruments as it did, or as another list did whose name it may have taken over, these are its own,
    and all else is as it says. If it names others, it goes on as it was, but for its place: accounts may be gone.
    """
    own = before.get(spec.name)
    for plan in (own, *before.values()):
        if plan is not None and plan.spec.naming == spec.naming:
            return replace(plan, spec=spec, mode=spec.mode or default_mode)
    if own is None:
        return None
    place = {"accounts": spec.accounts, "copies": spec.copies, "priority": spec.priority}
    return replace(own, spec=own.spec.model_copy(update=place))


def wanted(lists: Iterable[ListPlan]) -> dict[int, Want]:
    """What these lists want together, the most important first."""
    together: dict[int, Want] = {}
    for plan in sorted(lists, key=lambda plan: plan.spec.priority):
        spec = plan.spec
        for tokens, mode in ((plan.tokens, plan.mode), (plan.references, Mode.LTP)):
            want = Want(mode, spec.priority, spec.copies, tuple(dict.fromkeys(spec.accounts)))
            for token in tokens:
                there = together.setdefault(token, want)
                if _RANK[mode] > _RANK[there.mode] or (spec.copies or 0) > (there.replicas or 0):
                    replicas = max(filter(None, (spec.copies, there.replicas)), default=None)
                    if replicas is not None and there.accounts:  # one list says where, another one how many times
                        replicas = min(replicas, len(there.accounts))
                    mode_of_both = max(mode, there.mode, key=_RANK.__getitem__)
                    together[token] = replace(there, mode=mode_of_both, replicas=replicas)
    return together


@dataclass(frozen=True)
class PlanPhase:
    """A part of the day in which the same lists are in their hours."""

    span: Span
    lists: tuple[ListPlan, ...]
    wanted: Mapping[int, Want]
    allocation: Allocation
    left_out: tuple[int, ...]


def phases(
    lists: Sequence[ListPlan],
    hours: Mapping[str, ListHours],
    accounts: Sequence[str],
    capture: ManagerSettings,
) -> list[PlanPhase]:
    """The day's phases; each as if it began with nothing. `hours` has those of each list by its name."""
    edges = sorted({edge for each in hours.values() for side in (0, 1) for edge in each.edges(side)})
    found: list[PlanPhase] = []
    for start, stop in itertools.pairwise(edges):
        on = in_hours(lists, hours, start)
        if found and found[-1].lists == on and found[-1].span.stop == start:
            found[-1] = replace(found[-1], span=Span(found[-1].span.start, stop))
        elif on:
            found.append(_phase(Span(start, stop), on, accounts, capture))
    return found


def in_hours(lists: Iterable[ListPlan], hours: Mapping[str, ListHours], now: dt.datetime) -> tuple[ListPlan, ...]:
    """The lists that are in their hours, each with the instruments that are in theirs."""
    open_now = ((plan, hours[plan.name].at(now)) for plan in lists)
    return tuple(plan.of(exchanges) for plan, exchanges in open_now if exchanges)


def _phase(span: Span, lists: tuple[ListPlan, ...], accounts: Sequence[str], capture: ManagerSettings) -> PlanPhase:
    together = wanted(lists)
    allocation = Allocation(
        accounts,
        connections=capture.connections,
        capacity=capture.instruments_per_connection,
        strategy=capture.strategy,
        replicas=capture.copies,
    )
    return PlanPhase(span, lists, together, allocation, tuple(allocation.bring_to(together)))
