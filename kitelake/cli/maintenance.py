"""The commands that look after captured data, and give it away: seal, verify, rebuild, export."""

import datetime as dt
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from kitelake.cli.lookup import SomeSymbolsArgument
from kitelake.cli.options import (
    DATE_METAVAR,
    DEFAULT_CONFIG,
    ConfigOption,
    DataOption,
    StartOption,
    StopOption,
    data_of,
    moment_of,
    newest_day,
    parse_date,
    reason,
    symbols_of,
)
from kitelake.errors import AskError, OutputError
from kitelake.shell import until_interrupted
from queries.errors import ExportError, QueryError

if TYPE_CHECKING:
    from rich.console import Console

    from queries.export import Export
    from queries.export import Progress as ExportProgress
    from storage.layout import DataLayout
    from storage.verify import VerifyReport

RebuildDateOption = Annotated[
    dt.date, typer.Option("--date", parser=parse_date, metavar=DATE_METAVAR, help="YYYY-MM-DD or yesterday.")
]
PartialOption = Annotated[
    bool, typer.Option("--partial", help="Leave rows as they are whose segments are gone, instead of refusing.")
]
DateOption = Annotated[
    dt.date | None, typer.Option(parser=parse_date, metavar=DATE_METAVAR, help="YYYY-MM-DD, today or yesterday.")
]
SHOWN: Final = 20


def _layout(config: Path, data: Path | None) -> "DataLayout":
    from queries.lake import check_folder
    from storage.layout import DataLayout

    folder = data_of(config, data)
    check_folder(folder)
    return DataLayout(folder)


def seal(
    config: ConfigOption = DEFAULT_CONFIG,
    data: DataOption = None,
    date: DateOption = None,
    memory: Annotated[int, typer.Option(min=256, help="MiB for sorting; with less, in shorter stretches.")] = 2048,
) -> None:
    """Turn the many files of a day into few sorted ones. Without --date, of every day before today.

    It may run beside a service and queries, and be stopped at any moment. The service does it after each day by itself.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    from kitelake.processes import days_before
    from storage.clock import IST
    from storage.upkeep import CompactedPartition, CompactProgress, compact_day

    layout = _layout(config, data)
    days = [date] if date is not None else days_before(layout, dt.datetime.now(IST).date())
    console = Console()
    sealed: list[CompactedPartition] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    for day in days:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(str(day))

            def show(at: CompactProgress, bar: Progress = bar, task: TaskID = task) -> None:
                partition = "/".join(at.partition.values())
                bar.update(
                    task,
                    description=f"{at.table} {partition}: {at.step}",
                    completed=at.rows,
                    total=at.total,
                )

            def say(one: CompactedPartition) -> None:
                sealed.append(one)
                console.print(
                    f"{one.table} {'/'.join(one.partition.values())}: {one.rows:,} rows, "
                    f"files before {one.files_before:,} ({one.bytes_before / 2**20:,.1f} MiB), "
                    f"now {one.files:,} ({one.bytes / 2**20:,.1f} MiB)",
                    soft_wrap=True,
                    highlight=False,
                )

            compact_day(layout, day, memory_bytes=memory * 2**20, on_progress=show, on_done=say)
    if not sealed:
        console.print("nothing to seal: every partition is sealed, or there are no rows")


def verify(
    config: ConfigOption = DEFAULT_CONFIG,
    data: DataOption = None,
    date: DateOption = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Make damaged days anew from the journal, where it holds them.")
    ] = False,
) -> None:
    """Check captured data: every file, every row, and the journal as far as it is kept. Exit status 1 for damage.

    It may run beside a service. With --repair it makes what is damaged anew from the journal, and checks again.
    """
    from rich.console import Console

    from ingest.wire import JournalDecoder
    from storage.commit import RebuildError, rebuild_day
    from storage.verify import damaged_days

    layout = _layout(config, data)
    console = Console()
    report = _verify(layout, date, console)
    _show(report, date, console)
    if report.is_sound:
        return
    if any(finding.kind == "log" for finding in report.findings):
        console.print("\nHow a table's log is made anew: docs/operations.md, When something is damaged.")
    days = damaged_days(report)
    if not repair:
        if any(days.values()):
            console.print("\n`kitelake verify --repair` makes the days that the journal holds anew from it.")
        raise typer.Exit(1)
    for day, whole in days.items():
        if not whole:
            console.print(f"{day}: not repaired, since the journal does not hold all of it", style="red")
            continue
        try:
            rebuild_day(layout, JournalDecoder(), day)
        except RebuildError as error:
            console.print(f"{day}: not repaired: {error}", style="red", soft_wrap=True)
        else:
            console.print(f"{day}: made anew from the journal", style="green")
    again = _verify(layout, date, console)
    _show(again, date, console)
    raise typer.Exit(0 if again.is_sound else 1)


def _verify(layout: "DataLayout", date: dt.date | None, console: "Console") -> "VerifyReport":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from ingest.wire import JournalDecoder
    from storage.verify import VerifyProgress
    from storage.verify import verify as verify_folder

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("verifying")

        def show(at: VerifyProgress) -> None:
            bar.update(task, description=f"verifying {at.what}", completed=at.done, total=at.total)

        return verify_folder(layout, JournalDecoder(), date=date, on_progress=show)


def _show(report: "VerifyReport", date: dt.date | None, console: "Console") -> None:
    console.print(
        f"{report.files:,} files with {report.rows:,} rows and {report.segments:,} segments of the journal "
        f"({report.bytes / 2**20:,.1f} MiB) in {report.seconds:.1f} s; "
        f"{report.compared:,} segments compared with their rows",
        soft_wrap=True,
        highlight=False,
    )
    if report.is_sound:
        on = "" if date is None else f" of {date}"
        if report.files:
            console.print("sound", style="green")
        else:
            console.print(f"there is no file{on}: nothing was captured, or nothing is committed yet", style="yellow")
        return
    for finding in report.findings[:SHOWN]:
        where = " ".join(filter(None, (finding.table, finding.path and str(finding.path))))
        mend = " (can be made anew from the journal)" if finding.repairable else ""
        console.print(f"{finding.kind}: {where}: {finding.text}{mend}", style="red", soft_wrap=True, highlight=False)
    if len(report.findings) > SHOWN:
        console.print(f"and {len(report.findings) - SHOWN:,} more", style="red")


def rebuild(
    date: RebuildDateOption,
    config: ConfigOption = DEFAULT_CONFIG,
    data: DataOption = None,
    partial: PartialOption = False,
) -> None:
    """Make the tables of a day anew from the journal, after a change of the decoder for instance.

    It may run beside a service. Nothing is swapped unless the journal holds all that the tables have of that day.
    """
    from rich.console import Console

    from ingest.wire import JournalDecoder
    from storage.commit import rebuild_day

    console = Console()
    layout = _layout(config, data)
    with console.status(f"rebuilding {date} from the journal"):
        outcome = rebuild_day(layout, JournalDecoder(), date, partial=partial)
    rows = ", ".join(f"{count:,} rows of {name}" for name, count in outcome.rows.items() if count)
    console.print(f"{date}: {rows or 'no rows'} made anew from {outcome.segments:,} segments", highlight=False)
    for name, count in outcome.stayed.items():
        if count:
            console.print(f"{count:,} rows of {name} stay as they were: their segments are gone", style="yellow")


def replay_journal(
    date: RebuildDateOption,
    config: ConfigOption = DEFAULT_CONFIG,
    data: DataOption = None,
    partial: PartialOption = False,
) -> None:
    """The name that `kitelake rebuild` had before."""
    typer.echo("kitelake: `replay-journal` is now `rebuild`; the old name goes with the next version", err=True)
    rebuild(date, config, data, partial)


def export(
    target: Annotated[Path, typer.Argument(help="The folder or the file to write.", show_default=False)],
    symbols: SomeSymbolsArgument = None,
    start: StartOption = None,
    stop: StopOption = None,
    form: Annotated[
        Literal["parquet", "csv", "duckdb"] | None,
        typer.Option(
            "--format",
            "-f",
            help="A folder of Parquet files in Hive's partitions, a folder of CSV, or one DuckDB file with views and "
            "macros. By default duckdb for a name that ends in .duckdb, else parquet.",
        ),
    ] = None,
    columns: Annotated[str | None, typer.Option(help="Columns of `ticks`, with commas between; else all.")] = None,
    tables: Annotated[
        str, typer.Option(help="With commas between, of: ticks, instruments, orders, events, quarantine.")
    ] = "ticks,instruments,events",
    force: Annotated[bool, typer.Option("--force", help="Replace an older export, or a DuckDB file.")] = False,
    memory: Annotated[int, typer.Option(min=256, help="MiB for sorting; the rest is sorted on disk.")] = 2048,
    data: DataOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Write captured rows out, for those who have no Kitelake: whole or not at all, with a README.

    For example: `kitelake export november.duckdb 'NFO:NIFTY26NOV*' --start 2026-11-02 --stop 2026-12-01`
    """
    from kitelake import open as open_lake
    from queries.export import Choice, Export
    from queries.history import time_range

    with open_lake(data_of(config, data)) as lake:
        try:
            times = moment_of(lake, start or (None if stop else str(newest_day(lake)))), moment_of(lake, stop)
            choice = Choice(
                time_range(*times),
                symbols_of(symbols) if symbols else None,
                None if columns is None else [name.strip() for name in columns.split(",")],
                [name.strip() for name in tables.split(",")],
            )
            chosen = form or ("duckdb" if target.suffix == ".duckdb" else "parquet")
            asked = Export(lake, target, chosen, choice, force=force, memory_mib=memory)
            rows: dict[str, int] = {}
            until_interrupted(lambda: rows.update(_export(asked)), asked.interrupt)
        except ExportError as error:
            raise OutputError(str(error)) from error
        except QueryError as error:
            raise AskError(str(error)) from error
        if not any(rows.values()):
            why = reason(lake, symbols, *times)
            raise AskError(f"there are no rows to export{'' if why is None else f': {why}'}")
    typer.echo(f"{target}: {', '.join(f'{count:,} rows of {name}' for name, count in rows.items())}")


def _export(asked: "Export") -> dict[str, int]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("exporting")

        def show(at: "ExportProgress") -> None:
            bar.update(task, description=f"{at.part}, {at.rows:,} rows so far", completed=at.done, total=at.total)

        return asked.write(show)


MAINTENANCE: Final[Mapping[str, Callable[..., None]]] = {
    "seal": seal,
    "verify": verify,
    "rebuild": rebuild,
    "export": export,
}
OLD_NAMES: Final[Mapping[str, Callable[..., None]]] = {"replay-journal": replay_journal}
"""Commands that still work by the name they had, and that no help shows."""
