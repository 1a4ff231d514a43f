"""The report in tables, for a terminal."""

from rich.console import Group, RenderableType
from rich.text import Text

from kitelake.report import (
    ConnectionReport,
    Report,
    clock,
    counts_of,
    duration,
    missed_cells,
    missed_title,
    shares_of,
    silent_symbols_of,
    summary,
    title_of,
    totals_of,
)
from kitelake.views.terminal import ruled_table

NO_WORD = "–"


def render_report(report: Report) -> RenderableType:
    """Tables for rich to print, 80 columns wide or wider."""
    lines = [Text(title_of(report), "bold"), Text(summary(report)), Text()]
    silent = [
        Text(f"silent in {each.name}: {silent_symbols_of(each)}", "dim") for each in report.lists if each.silent_symbols
    ]
    totals = [Text(line) for line in totals_of(report)]
    problems = [Text(f"• {problem}", "bold red") for problem in report.problems]
    tables: list[RenderableType] = [
        ruled_table(
            ("list", "mode", "wanted", "subscribed", "ticked", "silent", "rows"),
            [(each.name, each.mode.value, *(f"{n:,}" for n in counts_of(each))) for each in report.lists],
            words=2,
        ),
        *silent,
        Text(),
        ruled_table(
            ("connection", "gaps", "in all", "longest", "from", "reconnects"),
            [_connection_cells(each) for each in report.connections],
            words=1,
        ),
        Text(),
    ]
    if report.coverage:
        rows = [(state, f"{instruments:,}", share) for state, instruments, share in shares_of(report)]
        tables += [ruled_table(("in the hours of trading", "instruments", "of the time"), rows, words=1), Text()]
    if report.missed:
        tables += [
            Text(missed_title(report)),
            ruled_table(
                ("instrument", "gaps", "in all", "volume", "high", "low"),
                [(each.symbol, *missed_cells(each)) for each in report.missed],
                words=1,
            ),
            Text(),
        ]
    return Group(*lines, *tables, *totals, *([Text(), *problems] if problems else []))


def _connection_cells(each: ConnectionReport) -> tuple[str, ...]:
    gaps = each.gaps
    name, reconnects = f"{each.account}/{each.connection}", f"{each.reconnects:,}"
    if gaps.longest_from is None:
        return name, "0", NO_WORD, NO_WORD, NO_WORD, reconnects
    total, most = duration(gaps.total_seconds), duration(gaps.longest_seconds)
    return name, f"{gaps.number:,}", total, most, clock(gaps.longest_from), reconnects
