"""What a person should act on, in sentences, by the report of a day and its record. Pure."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Final

from kitelake.report.model import ConnectionReport, Report
from kitelake.report.record import DayRecord
from kitelake.report.text import counted, gaps_in_words, place_of

WORRYING_SECONDS: Final = 60.0
"""Gaps of a connection that are longer in all are a problem."""
ALIKE_SECONDS: Final = 10.0
"""Gaps that differ by no more, in where they begin and in all, count as the same: reconnects wait for random times."""


def problems_of(report: Report, record: DayRecord) -> Iterator[str]:
    """What a person should act on, the worst first."""
    quiet = {line.partition(":")[0] for line in report.quiet}
    resting = {one.name for one in record.lists if one.parts and all(part.exchange in quiet for part in one.parts)}
    nothing = report.wanted > 0 and report.rows == 0 and not {one.name for one in record.lists} <= resting
    if nothing:
        yield "nothing was captured: there is no row of this day"
    for account, problem in record.accounts.items():
        if problem is not None:
            yield f"account {account} has no good token: {problem}"
    for each in report.lists:
        if each.silent and not each.ticked and not nothing and each.name not in resting:
            yield f"list {each.name}: none of its {counted(each.subscribed, 'instrument')} ticked"
    yield from _outages(report.connections)
    for planned in record.lists:
        if planned.left_out:
            yield f"list {planned.name}: no room for {counted(len(planned.left_out), 'instrument')}"
        for problem in planned.problems:
            yield f"list {planned.name}: {problem}"
    if report.quarantined_ranges:
        yield (
            f"{counted(report.quarantined_ranges, 'range')} of {report.quarantined_bytes:,} bytes would not decode: "
            "see the table quarantine"
        )


def _outages(connections: Sequence[ConnectionReport]) -> Iterator[str]:
    """A line for each connection with worrying gaps; but one for all, or all of an account, with the same gaps."""
    if len(connections) > 1 and _are_alike(connections):
        yield from _outage(connections, f"none of the {len(connections)} connections was connected throughout; ")
        return
    for account, those in itertools.groupby(connections, key=lambda each: each.account):
        of_account = list(those)
        if len(of_account) > 1 and _are_alike(of_account):
            several = f"none of the {len(of_account)} connections of account {account} was connected throughout; "
            yield from _outage(of_account, several)
        else:
            for each in of_account:
                yield from _outage([each], "")


def _are_alike(connections: Sequence[ConnectionReport]) -> bool:
    """Whether they seem to have been lost and found together."""
    gaps = [each.gaps for each in connections]
    begins = [each.longest_from.timestamp() for each in gaps if each.longest_from is not None]
    totals = [each.total_seconds for each in gaps]
    return (
        len({each.number for each in gaps}) == 1
        and len(begins) == len(gaps)
        and max(begins) - min(begins) <= ALIKE_SECONDS
        and max(totals) - min(totals) <= ALIKE_SECONDS
    )


def _outage(connections: Sequence[ConnectionReport], several: str) -> Iterator[str]:
    worst = max(connections, key=lambda each: each.gaps.total_seconds)
    if worst.gaps.total_seconds > WORRYING_SECONDS:
        name, said = f"{worst.account}/{worst.connection}", f"{gaps_in_words(worst.gaps)}{place_of(worst.gaps)}"
        yield f"{several}{name}, the worst: {said}" if several else f"{name} was not connected throughout: {said}"
