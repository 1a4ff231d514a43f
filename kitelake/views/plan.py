"""The plan of a day for a reader: by list, by connection, what is left out and why, and what it may cost."""

from collections.abc import Iterator
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kitelake.plan import PRICED_LATER, DayPlan, ListPlan, PlanPhase, why_not
from kitelake.schedule import Day, ListHours
from kitelake.views.terminal import plain_table
from storage.market import Phase, place_of_exchange
from storage.memory import Mode

_WRAPPED: Final = ("list", "hours", "day")
"""These columns are broken where the terminal is narrow."""


def render_plan(plan: DayPlan) -> RenderableType:
    """The plan in tables, 80 columns wide or wider."""
    parts: list[RenderableType] = [Text(_title(plan), "bold"), Text(_source(plan), "dim")]
    parts += [*(Text(f"- {note}", "yellow") for note in plan.instruments.notes), "", _lists(plan)]
    parts += ["", _exchanges(plan)]
    for phase in plan.phases:
        lists = "1 list" if len(phase.lists) == 1 else f"{len(phase.lists)} lists"
        parts += ["", Text(f"{phase.span.hours}: {lists}", "bold"), _connections(phase)]
        parts += [Text(line, "red") for line in _left_out(phase)]
    notes = [Text(f"- {one.name}: {note}") for one in plan.lists for note in one.notes]
    notes += [Text(f"- {one.name}: {text}; {PRICED_LATER}", "yellow") for one in plan.lists for text in one.unpriced]
    problems = [
        Text(f"- {one.name}: {problem}", "red")
        for one in plan.lists
        for problem in one.problems
        if problem not in one.unpriced
    ]
    warnings = [Text(f"- {warning}", "yellow") for warning in plan.calendar.warnings(plan.date)]
    for title, lines in (("Notes", notes), ("Problems", problems), ("Calendar", warnings)):
        if lines:
            parts += ["", Text(title, "bold"), *lines]
    return Group(*parts)


def lines_of_plan(plan: DayPlan) -> Iterator[str]:
    """Each instrument of each phase on a line: hours, symbol, token, mode, connection or `left out`, lists."""
    for phase in plan.phases:
        places: dict[int, list[str]] = {}
        for slot, there in phase.allocation.placement().items():
            for token in there:
                places.setdefault(token, []).append(f"{slot.account}/{slot.connection}")
        lists: dict[int, list[str]] = {}
        for one in phase.lists:
            for token in one.every_token:
                lists.setdefault(token, []).append(one.name)
        for token, want in phase.wanted.items():
            where = " ".join(places.get(token, ["left out"]))
            symbol = plan.instruments.symbol(token) or "?"
            yield "\t".join((str(phase.span.hours), symbol, str(token), want.mode, where, ", ".join(lists[token])))


def _title(plan: DayPlan) -> str:
    return f"Plan for {plan.date:%A} {plan.date.day} {plan.date:%B %Y}"


def _source(plan: DayPlan) -> str:
    listed = plan.instruments.date
    age = (plan.date - listed).days if listed else 0
    old = "" if age == 0 else f", {age} days older" if age > 1 else ", one day older"
    return f"by the instrument list of {listed} ({len(plan.instruments):,} instruments{old})"


def _lists(plan: DayPlan) -> RenderableType:
    columns = ("list", "mode", "hours", ">prio", ">instruments", ">ticks/s", ">a day")
    table = plain_table(columns, wrapped=_WRAPPED)
    total = [0.0] * 4
    for one in plan.lists:
        hours = plan.hours[one.name]
        if not hours.spans:
            table.add_row(Text(one.name), one.mode, Text(_closed(plan, one), "dim"), str(one.spec.priority))
            continue
        expected = plan.forecasts[one.name]
        numbers = (len(one.tokens), expected.ticks_a_second, expected.table_bytes, expected.journal_bytes)
        total = [before + number for before, number in zip(total, numbers, strict=True)]
        about = "" if expected.measured else "~"
        table.add_row(
            Text(one.name),
            one.mode,
            _hours(one, hours),
            str(one.spec.priority),
            f"{len(one.tokens):,}",
            f"{about}{expected.ticks_a_second:,.0f}",
            f"{about}{_bytes(expected.table_bytes)}",
        )
    table.add_section()
    table.add_row("in all", "", "", "", f"{total[0]:,.0f}", f"{total[1]:,.0f}", _bytes(total[2]))
    hint = (
        "ticks/s in a list's hours; ~ by rules of thumb, else as on the last reported day.\n"
        f"A day in the tables; the journal takes another {_bytes(total[3])}, for as long as retention.journal says."
    )
    return Group(table, Text(hint, "dim"))


def _closed(plan: DayPlan, one: ListPlan) -> str:
    whys = {why for _, why in why_not(one.spec, one, plan.calendar, plan.date)}
    return f"not on this day ({'; '.join(sorted(whys))})"


def _hours(one: ListPlan, hours: ListHours) -> str:
    """`08:55-16:15`, or a line for each exchange where they differ. Those of mere references are left out."""
    selected = {one.exchange_of[token] for token in one.tokens}
    texts = {
        name: ", ".join(str(span.hours) for span in spans)
        for name, spans in hours.by_exchange.items()
        if name in selected or name not in one.exchanges or not selected
    }
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    order = sorted(texts, key=place_of_exchange)
    return "\n".join(f"{name or 'not resolved yet'} {texts[name] or 'closed'}" for name in order)


def _exchanges(plan: DayPlan) -> Table:
    """On which hours the plan counts."""
    names = {name for one in plan.lists for name in one.spec.session or one.exchanges}
    table = plain_table(("exchange", "trading", "captured", "day"), wrapped=_WRAPPED)
    for name in sorted(names, key=place_of_exchange):
        day = plan.calendar.day(name, plan.date)
        trading = "\n".join(_sessions(day)) or "closed"
        captured = ", ".join(str(span.hours) for span in day.spans)
        table.add_row(name, trading, captured, Text(day.why, "" if day.sure else "yellow"))
    return table


def hours_in_words(day: Day) -> str:
    """`trades 09:15-15:30, pre-open 09:00-09:15; captured 08:55-16:15`, or `closed`."""
    if not day.spans:
        return "closed"
    return f"trades {', '.join(_sessions(day))}; captured {', '.join(str(span.hours) for span in day.spans)}"


def _sessions(day: Day) -> Iterator[str]:
    """Continuous trading, and each other phase by its name."""
    if day.sessions:
        yield ", ".join(map(str, day.hours(Phase.CONTINUOUS)))
    for phase in (Phase.PRE_OPEN, Phase.AUCTION, Phase.POST_CLOSE):
        if hours := day.hours(phase):
            yield f"{phase} {', '.join(map(str, hours))}"


def _connections(phase: PlanPhase) -> Table:
    table = plain_table(("connection", *(f">{mode}" for mode in Mode), ">in all", ">free"), wrapped=_WRAPPED)
    capacity = phase.allocation.capacity // max(len(phase.allocation.slots), 1)
    placement = phase.allocation.placement()
    for slot in sorted(phase.allocation.slots):
        modes = list(placement.get(slot, {}).values())
        counts = [f"{modes.count(mode):,}" for mode in Mode]
        table.add_row(f"{slot.account}/{slot.connection}", *counts, f"{len(modes):,}", f"{capacity - len(modes):,}")
    return table


def _left_out(phase: PlanPhase) -> Iterator[str]:
    if not phase.left_out:
        return
    left = set(phase.left_out)
    total = len(phase.wanted)
    yield (
        f"left out: {len(left):,} of {total:,} instruments, since the connections have {phase.allocation.capacity:,} "
        "places; the lists of the largest priority give way first:"
    )
    for one in phase.lists:
        if count := sum(token in left for token in one.every_token):
            yield f"  {one.name} (priority {one.spec.priority}): {count:,} of {len(one.every_token):,}"


def _bytes(count: float) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count / 2**10:,.0f} KiB"
