"""How the files lie: packages that are small enough to know, their tests in a folder each, what tests share in
tests/support, and what starts services in tests/system."""

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "tests"
TOPS = ("storage", "ingest", "queries", "kitelake")
APART = {"benchmarks", "support", "system"}
SERVICE = {"tests.support.running.Running", "tests.support.running.running", "benchmarks.service.Service"}
MODULES = sorted(str(path.relative_to(ROOT)) for path in TESTS.rglob("test_*.py"))


def packages(folder: Path) -> set[str]:
    """The packages in a folder, by their names."""
    return {path.parent.name for path in folder.glob("*/__init__.py")}


def sources() -> list[Path]:
    """All Python files of ours."""
    return [path for top in (*TOPS, "tests", "benchmarks", "examples", "docs") for path in (ROOT / top).rglob("*.py")]


def lines(path: Path) -> int:
    """How many lines a file has."""
    return path.read_text(encoding="utf-8").count("\n")


@functools.cache
def imported(module: str) -> set[str]:
    """Dotted names of what a test module imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def is_test_module(name: str) -> bool:
    """Whether an imported name is a test module, or lies in one."""
    first, *inside = name.split(".")
    return first == "tests" and any(part.startswith("test_") for part in inside)


def test_the_folders_are_the_packages() -> None:
    assert packages(TESTS) == {*TOPS, *APART}
    for top in TOPS:
        assert packages(TESTS / top) == packages(ROOT / top), top


def test_a_package_is_small_enough_to_know() -> None:
    """Four to nine files, the root of a top-level package at most as many, and none of more than 400 lines."""
    for top in TOPS:
        for init in (ROOT / top).rglob("__init__.py"):
            files = [path.name for path in init.parent.glob("*.py") if path.name not in ("__init__.py", "__main__.py")]
            least = 1 if init.parent.name == top else 4
            assert least <= len(files) <= 9, f"{init.parent.relative_to(ROOT)}: {sorted(files)}"
    long = {str(path.relative_to(ROOT)): count for path in sources() if (count := lines(path)) > 400}
    assert not long


def test_no_test_module_imports_another() -> None:
    """What two of them need is in tests/support."""
    assert not [(module, name) for module in MODULES for name in imported(module) if is_test_module(name)]


def test_no_service_is_started_elsewhere_than_in_tests_of_the_system() -> None:
    elsewhere = [module for module in MODULES if not module.startswith("tests/system/")]
    assert not [module for module in elsewhere if SERVICE & imported(module)]
