"""The directions of imports, as the picture in docs/architecture.md has them, and that packages show what they give."""

import ast
import functools
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOPS = ("storage", "ingest", "queries", "kitelake")
LINE = re.compile(r"^(?P<inside>  )?(?P<name>[a-z]+)  +(?P<purpose>\S.*?)(?:  +→ (?P<uses>[a-z, ]+))?$")


def picture() -> dict[str, set[str]]:
    """Package -> the packages it may import, as the document says it. What lies at the root of a top-level package
    may import the top-level packages below it, and every package inside may import that root."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = text.split("## Packages", 1)[1].split("```", 2)[1]
    allowed: dict[str, set[str]] = {}
    top = ""
    for line in filter(None, block.splitlines()):
        found = LINE.match(line)
        assert found, f"docs/architecture.md: not understood: {line!r}"
        uses = {name.strip() for name in (found["uses"] or "").split(",")} - {""}
        if found["inside"]:
            allowed[f"{top}.{found['name']}"] = {f"{top}.{name}" for name in uses} | {top} | allowed[top]
        else:
            top = found["name"]
            below = {name for name in allowed if name.split(".")[0] in uses}
            allowed[top] = below
    return allowed


PICTURE = picture()


def sources(top: str) -> list[Path]:
    return sorted((ROOT / top).rglob("*.py"))


def package_of(path: Path) -> str:
    """The package that a file lies in: `storage.journal`, or `storage` for what lies at its root."""
    return ".".join(path.relative_to(ROOT).parts[:-1])


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imported(path: Path) -> list[str]:
    """Dotted names of what a file imports, also inside functions."""
    names: list[str] = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def test_the_picture_is_of_the_packages_that_there_are() -> None:
    there = {package_of(path) for top in TOPS for path in sources(top)}
    assert set(PICTURE) == there


def test_the_picture_has_no_circle() -> None:
    TopologicalSorter({name: uses - {name} for name, uses in PICTURE.items()}).prepare()


@pytest.mark.parametrize("package", PICTURE)
def test_a_package_has_one_sentence_and_what_it_shows(package: str) -> None:
    init = ROOT / Path(*package.split(".")) / "__init__.py"
    first, *rest = ast.parse(init.read_text(encoding="utf-8")).body
    assert isinstance(first, ast.Expr), f"{init}: begins with what the package is"
    shows = ["import lazy_loader", "__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)"]
    assert [ast.unparse(node) for node in rest] in ([], shows), init
    assert bool(rest) == init.with_suffix(".pyi").exists()


@pytest.mark.parametrize("package", PICTURE)
def test_packages_import_only_what_they_may(package: str) -> None:
    wrong = []
    for path in (ROOT / Path(*package.split("."))).glob("*.py"):
        if path.name in ("__init__.py", "__main__.py"):
            continue
        for name in imported(path):
            parts = name.split(".")
            if parts[0] in ("tests", "benchmarks", "examples", "docs"):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
            if parts[0] not in TOPS:
                continue
            target = ".".join(parts[:2]) if ".".join(parts[:2]) in PICTURE else parts[0]
            if target == package:
                continue
            if target not in PICTURE[package]:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}: docs/architecture.md has no such arrow")
            elif "." in target and len(parts) != 3:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}, past what {target} shows")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("top", TOPS)
def test_no_circle_of_files(top: str) -> None:
    """Imports of files by each other, those inside functions too."""
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sources(top)}
    uses = {
        module: {
            target
            for name in imported(path)
            for target in (name, name.rpartition(".")[0])
            if target in files and target != module
        }
        for module, path in files.items()
        if path.name != "__init__.py"
    }
    TopologicalSorter(uses).prepare()


def test_light_at_import() -> None:
    """Capture needs no pandas, no polars, no Twisted: none may come in by any of our modules."""
    heavy = {"pandas", "polars", "twisted", "kiteconnect", "plotext"}
    for top in TOPS:
        for path in sources(top):
            nodes = [node for node in parsed(path).body if isinstance(node, ast.Import | ast.ImportFrom)]
            names = {alias.name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
            names |= {(node.module or "").split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
            assert not names & heavy, path


@pytest.mark.parametrize(
    "stub",
    sorted(stub for top in TOPS for stub in (ROOT / top).rglob("__init__.pyi")),
    ids=lambda stub: stub.parent.name,
)
def test_what_is_shown_has_a_name_of_its_own(stub: Path) -> None:
    """A name that a file of the package has as well would hide one of the two."""
    shown = re.findall(r"^from \.\w+ import (\w+) as \1$", stub.read_text(encoding="utf-8"), re.MULTILINE)
    modules = re.findall(r"^from \. import (\w+) as \1$", stub.read_text(encoding="utf-8"), re.MULTILINE)
    assert not set(shown) & {path.stem for path in stub.parent.glob("*.py")}
    assert len(shown) + len(modules) == len({*shown, *modules}) == stub.read_text(encoding="utf-8").count("\n")
