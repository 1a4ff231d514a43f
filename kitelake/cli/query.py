"""`kitelake sql`: one query over what was captured."""

import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kitelake.cli.options import DEFAULT_CONFIG, INTERRUPTED, ConfigOption, DataOption, data_of


class Format(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    ARROW = "arrow"
    PARQUET = "parquet"


def sql(
    query: Annotated[
        str,
        typer.Argument(
            help="SQL over ticks, instruments, orders, events, quarantine. Of several statements, with `;` between "
            "them, all run and the last one's result is printed."
        ),
    ],
    data: DataOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    output_format: Annotated[Format, typer.Option("--format", "-f", help="How to print the result.")] = Format.TABLE,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
    restricted: Annotated[
        bool,
        typer.Option(
            "--restricted",
            help="Allow one SELECT, DESCRIBE or EXPLAIN over the tables and nothing else: no file, no setting. Within "
            "1 GB of memory, 2 threads and 30 seconds.",
        ),
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="End the query when it takes longer than this.")
    ] = None,
) -> None:
    """Query the captured ticks, including what arrived a moment ago. Times are IST."""
    from kitelake import open as open_lake
    from kitelake.views import check_output, write_result

    with open_lake(data_of(config, data), restricted=restricted, timeout=timeout) as lake:
        check_output(output, lake.root)
        until_interrupted(lambda: write_result(lake.sql(query), output_format, output), lake.interrupt)


def until_interrupted(work: Callable[[], object], interrupt: Callable[[], None]) -> None:
    """Do the work in another thread, because the main one does not hear Ctrl-C while DuckDB has it."""
    from concurrent.futures import ThreadPoolExecutor, wait

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        try:
            done.result()
        except KeyboardInterrupt:
            for _ in range(50):  # it may not be in DuckDB at that moment, but come back to it
                interrupt()
                if wait([done], 0.1).done:
                    raise
            os._exit(INTERRUPTED)  # it waits for a reader that does not read
        finally:
            del done  # which has the error, and the error this frame: DuckDB's objects would never be let go
