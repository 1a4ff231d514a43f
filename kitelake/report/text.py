"""The report in words: a line, and a text for mails. Times are IST."""

import datetime as dt
from collections.abc import Iterator

from kitelake.report.model import ConnectionReport, Gaps, ListReport, MissedReport, Report
from storage.clock import IST


def duration(seconds: float) -> str:
    """As in "0.3 s", "12 s", "5 min 3 s", "2 h 5 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    minutes = round(whole / 60)
    return f"{minutes // 60:,} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60:,} h"


def clock(time: dt.datetime) -> str:
    """As in "11:02:03 IST"."""
    return f"{time.astimezone(IST):%H:%M:%S} IST"


def gaps_in_words(gaps: Gaps) -> str:
    """As in "no gap", "1 gap of 12 s", "3 gaps of 40 s in all"."""
    if not gaps.number:
        return "no gap"
    if gaps.number == 1:
        return f"1 gap of {duration(gaps.total_seconds)}"
    return f"{gaps.number:,} gaps of {duration(gaps.total_seconds)} in all"


def place_of(gaps: Gaps) -> str:
    """What may follow: " from 11:02:03 IST", or ", the longest of 12 s from 11:02:03 IST"; nothing without a gap."""
    if gaps.longest_from is None:
        return ""
    begin = f" from {clock(gaps.longest_from)}"
    return begin if gaps.number == 1 else f", the longest of {duration(gaps.longest_seconds)}{begin}"


def counted(number: int, thing: str) -> str:
    """As in "1 row", "62,087 rows"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def summary(report: Report) -> str:
    """One line: "24 Nov: 8,591 of 8,600 instruments ticked, 62,087 rows, 1 gap of 12 s"."""
    day = f"{report.date.day} {report.date:%b}"
    return f"{day}: {_instruments(report)}, {_rows(report.rows)}, {gaps_in_words(report.gaps)}"


def as_text(report: Report) -> str:
    """Lines for a mail. They are not aligned: many readers show mails in letters of unequal width."""
    parts = [("Problems", list(report.problems))] if report.problems else []
    parts.append(("Lists", [_list_line(each) for each in report.lists]))
    parts.append(("Connections", [_connection_line(each) for each in report.connections]))
    parts.append(("Coverage, in the hours of trading", [_state_line(*each) for each in shares_of(report)]))
    parts.append((missed_title(report), [_missed_line(each) for each in report.missed]))
    parts.append(("In all", list(totals_of(report))))
    blocks = [f"{title}\n" + "\n".join(f"- {line}" for line in lines) for title, lines in parts if lines]
    return "\n\n".join([f"{title_of(report)}\n{summary(report)}", *blocks]) + "\n"


def title_of(report: Report) -> str:
    made_at = report.made_at.astimezone(IST)
    as_of = clock(made_at) if made_at.date() == report.date else f"{made_at.day} {made_at:%b %Y}, {clock(made_at)}"
    return f"{report.date:%A}, {report.date.day} {report.date:%B %Y}, as of {as_of}"


def _instruments(report: Report) -> str:
    return f"{report.ticked:,} of {counted(report.wanted, 'instrument')} ticked"


def _rows(rows: int) -> str:
    return counted(rows, "row")


def counts_of(each: ListReport) -> tuple[int, ...]:
    return each.wanted, each.subscribed, each.ticked, each.silent, each.rows


def silent_symbols_of(each: ListReport) -> str:
    return ", ".join(each.silent_symbols) + (", …" if each.silent > len(each.silent_symbols) else "")


def _list_line(each: ListReport) -> str:
    silent = f"{each.silent:,} silent" + (f" ({silent_symbols_of(each)})" if each.silent_symbols else "")
    return (
        f"{each.name} ({each.mode}): {each.wanted:,} wanted, {each.subscribed:,} subscribed, {each.ticked:,} ticked, "
        f"{silent}, {_rows(each.rows)}"
    )


def _connection_line(each: ConnectionReport) -> str:
    name, gaps = f"{each.account}/{each.connection}", gaps_in_words(each.gaps)
    return f"{name}: {gaps}{place_of(each.gaps)}, {counted(each.reconnects, 'reconnect')}"


def shares_of(report: Report) -> Iterator[tuple[str, int, str]]:
    """Of each state how many instruments were in it, and for how much of all their time, as in "99.2 %"."""
    total = sum(each.seconds for each in report.coverage)
    for each in report.coverage:
        share = 100 * each.seconds / total if total else 0.0
        yield each.state, each.instruments, f"{share:.1f} %" if share >= 0.1 else "< 0.1 %" if share else "0 %"


def _state_line(state: str, instruments: int, share: str) -> str:
    return f"{state}: {counted(instruments, 'instrument')}, {share} of the time of all"


def missed_title(report: Report) -> str:
    """Above what was missed."""
    more = report.missed_instruments > len(report.missed)
    return f"Missed at least, of {counted(report.missed_instruments, 'instrument')}" + (", the worst" if more else "")


def missed_cells(each: MissedReport) -> tuple[str, ...]:
    """Gaps, their time, volume, and the day's high and low that came in them."""
    prices = ("–" if price is None else f"{price:,.2f}" for price in (each.high, each.low))
    return f"{each.gaps:,}", duration(each.seconds), f"{each.volume:,}", *prices


def _missed_line(each: MissedReport) -> str:
    line = f"{each.symbol}: {counted(each.gaps, 'gap')} of {duration(each.seconds)}, a volume of {each.volume:,}"
    line += "" if each.high is None else f", a high of {each.high:,.2f}"
    return line + ("" if each.low is None else f", a low of {each.low:,.2f}")


def totals_of(report: Report) -> Iterator[str]:
    yield f"{_rows(report.rows)}; the day's files have {report.file_bytes / 2**20:,.1f} MiB"
    if report.other_rows:
        yield (
            f"{_rows(report.other_rows)} of these {'is' if report.other_rows == 1 else 'are'} of instruments that are "
            "captured for their price only, or outside the lists' hours"
        )
    for line in report.quiet:
        yield f"nothing traded on {line}"
    if report.quarantined_ranges:
        yield f"in quarantine: {counted(report.quarantined_ranges, 'range')} of {report.quarantined_bytes:,} bytes"
    if (latency := report.latency) is not None:
        yield (
            f"latency of {counted(latency.packets, 'live packet')}: p50 {latency.p50_seconds:,.2f} s, "
            f"p99 {latency.p99_seconds:,.2f} s, at most {latency.max_seconds:,.2f} s "
            "(too high by up to 1 s: the exchange's times are whole seconds)"
        )
    if report.not_live:
        verb = "is" if report.not_live == 1 else "are"
        yield f"{counted(report.not_live, 'cached or stale packet')} {verb} not counted in the latency"
