"""What DuckDB read to answer a query, by its own profile."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from queries.lake.lake import SqlLake


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
