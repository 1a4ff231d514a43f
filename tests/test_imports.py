"""The directions of imports: which package may use which, and inside a package only downwards."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "storage": set(),
    "ingest": {"storage"},
    "queries": {"storage"},
    "kitelake": {"storage", "ingest", "queries"},
}
# The floors of each package, ground floor first. A module imports from floors below its own.
FLOORS: dict[str, list[set[str]]] = {
    "storage": [
        {"clock"},
        {"digest", "errors", "files", "layout", "market", "reserve", "schema"},
        {"delta", "encode", "journal_format"},
        {"table"},
        {"archive_format", "content", "decoded", "journal_segment"},
        {"journal_reader", "stretches"},
        {"journal_folder"},
        {"journal", "quarantine", "symbols"},
        {"backlog", "places", "verify"},
        {"archive", "replay_rows", "replay_runs"},
        {"replay_stage", "retention"},
        {"replay", "superseded", "writer"},
        {"seal"},
    ],
    "ingest": [
        {"criteria", "errors", "receiver", "redact"},
        {"wire", "auth", "chains", "instrumentcsv"},
        {"instruments"},
        {"columns", "derive", "placement", "session", "underlyings"},
        {"copies", "cycles", "dial", "hub", "stats", "tokens", "watch"},
        {"feeds", "selectors"},
        {"allocation", "connection"},
        {"manager"},
        {"simulator"},
    ],
    "queries": [{"errors", "tail"}, {"result"}, {"lake"}],
    "kitelake": [
        {"errors", "values", "logs", "child", "datafolder", "compat", "systemd"},
        {"configfile", "health", "listfiles", "metrics", "secrets", "special_days"},
        {"accounts", "calendar"},
        {"times"},
        {"instruments", "notify", "prices", "redirect", "report", "show", "status", "subscriptions", "writer"},
        {"config", "plan"},
        {
            "daybook",
            "endofday",
            "forecast",
            "jobs",
            "list_hours",
            "upkeep",
            "login",
            "recorder",
            "reload",
            "resolver",
            "source",
            "streamer",
        },
        {"desk", "housekeeping", "planview", "roster", "statusview"},
        {"overview", "planning"},
        {"lookout"},
        {"check", "service"},
        {"runner", "session"},
        {"commands", "demo"},
        {"maintenance"},
        {"cli"},
    ],
}


def modules(package: str) -> Iterator[tuple[str, Path]]:
    """The modules of a package; a package inside it counts as one."""
    for path in sorted((ROOT / package).rglob("*.py")):
        inside = path.relative_to(ROOT / package)
        yield inside.parts[0].removesuffix(".py"), path


def imported(path: Path) -> Iterator[str]:
    """Dotted names of what a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_only_what_they_may(package: str) -> None:
    forbidden = (set(MAY_IMPORT) | {"tests", "benchmarks", "examples"}) - MAY_IMPORT[package] - {package}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for _, path in modules(package)
        for name in imported(path)
        if name.split(".")[0] in forbidden
    ]
    assert not wrong


@pytest.mark.parametrize("package", FLOORS)
def test_modules_import_only_downwards(package: str) -> None:
    floor_of = {module: number for number, floor in enumerate(FLOORS[package]) for module in floor}
    wrong = []
    for module, path in modules(package):
        if module in ("__init__", "__main__"):
            continue
        assert module in floor_of, f"{package}/{module}: put it on a floor"
        for name in imported(path):
            parts = name.split(".")
            if parts[0] != package or len(parts) < 2 or parts[1] not in floor_of or parts[1] == module:
                continue
            if floor_of[parts[1]] >= floor_of[module]:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}, which is not below it")
    assert not wrong


def test_every_floor_names_modules_that_exist() -> None:
    for package, floors in FLOORS.items():
        there = {module for module, _ in modules(package)}
        assert set().union(*floors) <= there, package


def test_light_at_import() -> None:
    """Capture needs no pandas, no polars, no Twisted: none may come in by any of our modules."""
    heavy = {"pandas", "polars", "twisted", "kiteconnect", "plotext"}
    for package in MAY_IMPORT:
        for _, path in modules(package):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
            names = {alias.name.split(".")[0] for node in top if isinstance(node, ast.Import) for alias in node.names}
            names |= {(node.module or "").split(".")[0] for node in top if isinstance(node, ast.ImportFrom)}
            assert not names & heavy, path
