"""The documents say what is: the data dictionary, the options, the commands, the events, the links."""

import ast
import re
import typing
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic import BaseModel

from docs.captured_day import NAMES, PICTURES
from docs.generate import PAGE, page
from kitelake.cli.app import app
from kitelake.config.config import Config, load_config
from kitelake.config.reload import AT_START
from storage.events import Event, ServiceEvent

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)[^)]*\)")
PATH_IN_CODE = re.compile(r"`((?:storage|ingest|queries|kitelake|tests|benchmarks|docs|examples)/[\w/.]+)`")
OPTION_IN_CODE = re.compile(rf"`({'|'.join(Config.model_fields)})\.(\w+)`")
COMMAND_IN_CODE = re.compile(r"(?:`|\$ )kitelake ([\w-]+)([^`\n|]*)")
OPTION_OF_COMMAND = re.compile(r"--[\w-]+")
COMMANDS: dict[str, Any] = vars(typer.main.get_command(app))["commands"]


def options_of(section: str) -> set[str]:
    """The options of a section of config.yaml, or of one entry of it."""
    annotation = Config.model_fields[section].annotation
    models = [each for each in (annotation, *typing.get_args(annotation)) if isinstance(each, type)]
    return {option for model in models if issubclass(model, BaseModel) for option in model.model_fields}


def test_the_data_dictionary_is_the_schema() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make docs`"


def test_the_readme_shows_the_pictures_that_are_drawn() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {path.name for path in PICTURES.iterdir()} == set(NAMES) == set(re.findall(r"\(docs/pictures/(\S+)\)", text))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_names_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for link in LINK.findall(text):
        assert (document.parent / link).exists(), link
    for path in PATH_IN_CODE.findall(text):
        assert (ROOT / path).exists(), path
    for section, option in OPTION_IN_CODE.findall(text):
        assert option in options_of(section), f"{section}.{option}"
    for command, rest in COMMAND_IN_CODE.findall(text):
        assert command in COMMANDS, command
        known = {name for parameter in COMMANDS[command].params for name in parameter.opts + parameter.secondary_opts}
        assert set(OPTION_OF_COMMAND.findall(rest)) <= known, f"kitelake {command}{rest}"


def test_every_command_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in (name for name, each in COMMANDS.items() if not each.hidden):
        assert f"kitelake {command}" in text


def test_the_example_in_operations_is_a_configuration(tmp_path: Path) -> None:
    (example,) = (text for text in re.findall(r"```yaml\n(.*?)```", OPERATIONS, re.DOTALL) if "subscriptions:" in text)
    for name in re.findall(r"\{file: /srv/kitelake/(\S+)\}", example):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"a-secret-of-{file.name}")
        file.chmod(0o600)
    path = tmp_path / "config.yaml"
    path.write_text(example.replace("/srv/kitelake", str(tmp_path)))
    config = load_config(path)
    assert [spec.name for spec in config.subscriptions] == ["indices", "NIFTY options", "everything else"]


def test_operations_names_the_sections_that_a_reload_leaves_for_the_next_start() -> None:
    (line,) = (line for line in OPERATIONS.splitlines() if line.startswith("- At the next start"))
    assert re.findall(r"`(\w+)`", line) == list(AT_START)


def test_operations_has_every_event() -> None:
    table = OPERATIONS.partition("### Events")[2].partition("## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    documented = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell) if name != "event"]
    assert sorted(documented) == sorted({*Event, *ServiceEvent, *events_of_the_service()})


def events_of_the_service() -> set[str]:
    """What is passed as the first argument to methods of the name `event`, by itself or by way of a variable."""
    found: set[str] = set()
    for path in (ROOT / "kitelake").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        assigned = {ast.unparse(node.targets[0]): node.value for node in nodes if isinstance(node, ast.Assign)}
        for node in nodes:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "event":
                first = assigned.get(ast.unparse(node.args[0]), node.args[0])
                found |= {str(part.value) for part in ast.walk(first) if isinstance(part, ast.Constant)}
    return found - {"done"} | done_by_the_upkeep()


def done_by_the_upkeep() -> set[str]:
    """What the upkeep process tells, which the service journals as it comes, under the key "done"."""
    text = (ROOT / "kitelake" / "processes" / "upkeep.py").read_text(encoding="utf-8")
    return set(re.findall(r'\btell\("([^"]+)"', text))
