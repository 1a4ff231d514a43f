"""What the engine says of a query's scans of Parquet files."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from queries.lake import SqlLake


def scans(lake: SqlLake, work: Callable[[], object], folder: Path) -> list[dict[str, Any]]:
    """Of the last query that `work` runs: for each scan `files` as in 1/4, and `scanned` of `row_groups`."""
    output = folder / "profile.json"
    lake.sql(f"SET enable_profiling = 'json'; SET profiling_output = '{output}'; SET profiling_mode = 'detailed'")
    work()
    found = list(_scans(json.loads(output.read_text())["operator"]))
    lake.sql("RESET enable_profiling")
    return found


def _scans(operators: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for each in operators:
        extra = each["extra_info"]
        if extra.get("Function") == "READ_PARQUET":
            yield {
                "files": extra.get("Scanning Files"),
                "scanned": each["row_groups_scanned"],
                "row_groups": each["total_row_groups_to_scan"],
            }
        yield from _scans(each.get("children", []))


def files_read(lake: SqlLake, run: Callable[[], object], scratch: Path) -> set[str]:
    """The last two folders of each file that the last query of `run` read. The lake writes its profiles to `scratch`
    from now on."""
    path = scratch / "profile.json"
    for statement in ("enable_profiling = 'json'", f"profiling_output = '{path}'"):
        lake.sql(f"SET {statement}")
    run()
    return set(_folders(json.loads(path.read_text(encoding="utf-8"))))


def _folders(one: dict[str, Any]) -> Iterator[str]:
    names = one.get("extra_info", {}).get("Filename(s)", "")
    yield from ("/".join(name.split("/")[-3:-1]) for name in filter(None, names.split(", ")))
    for child in [*one.get("children", []), *one.get("operator", [])]:
        yield from _folders(child)
