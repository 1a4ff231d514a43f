"""When each subscription list is captured on a day, by what it means and by the calendar. Pure."""

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Final

from kitelake.config import SubscriptionList
from kitelake.plan.plan import ListPlan, exchanges_asked
from kitelake.schedule import Calendar, ListHours, windows_of
from storage.market import SCHEDULED, merged, place_of_exchange

_DATES_SHOWN: Final = 3


def hours_of_list(spec: SubscriptionList, plan: ListPlan | None, calendar: Calendar, date: dt.date) -> ListHours:
    """When the list is captured on that day, by what it means; None: it is not resolved yet.

    What is not in an instrument list from before that day may be in that of the day, and counts as open, as does a list
    of which nothing is found: while its exchange is, if it says of which it is, else while any is.
    """
    exchanges = set(plan.exchanges if plan is not None else exchanges_asked(spec))
    if plan is not None and (not exchanges or plan.listed is None or plan.listed < date):
        exchanges |= plan.unresolved
    ordered = sorted(exchanges)
    if spec.session is not None:
        (whole,) = set(windows_of(spec.days, spec.window, spec.session, calendar, date, together=True).values())
        return ListHours(dict.fromkeys(ordered, whole))
    asked = [*ordered, *(SCHEDULED if "" in exchanges else ())]
    found = windows_of(spec.days, spec.window, [name for name in asked if name], calendar, date)
    unknown = merged(span for name in SCHEDULED for span in found.get(name, ()))
    return ListHours({name: found[name] if name else unknown for name in ordered})


def hours_of_lists(
    specs: Iterable[SubscriptionList],
    plans: Mapping[str, ListPlan],
    calendar: Calendar,
    date: dt.date,
) -> dict[str, ListHours]:
    """When each list is captured on that day, by its name. `plans` has those that are resolved.

    One that config.yaml has changed keeps its hours until it is resolved again.
    """
    found = {}
    for spec in specs:
        plan = plans.get(spec.name)
        found[spec.name] = hours_of_list(spec if plan is None else plan.spec, plan, calendar, date)
    return found


def why_not(spec: SubscriptionList, plan: ListPlan | None, calendar: Calendar, date: dt.date) -> list[tuple[str, str]]:
    """Why the list is not captured on that day, and whose reason each is: the list's, or an exchange's by its name."""
    known = plan.exchanges if plan is not None else exchanges_asked(spec)
    if not known:
        return [(spec.name, "it means no instrument")]
    exchanges = spec.session or (SCHEDULED if "" in known else sorted(known, key=place_of_exchange))
    days = {name: calendar.day(name, date) for name in exchanges}
    if not any(day.spans for day in days.values()):
        return [(name, day.why) for name, day in days.items()]
    if isinstance(spec.days, str):
        return [(spec.name, f"its days: {spec.days}")]
    shown = ", ".join(map(str, spec.days[:_DATES_SHOWN]))
    more = len(spec.days) - _DATES_SHOWN
    return [(spec.name, f"its days: {shown}{f' and {more} more' if more > 0 else ''}")]
