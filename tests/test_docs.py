"""The documents say what is: the data dictionary, the options, the commands, the links."""

import re
from pathlib import Path
from typing import Any

import pytest

from docs.generate import PAGE, page
from kitelake.cli import app
from kitelake.config import Config

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\((?!https?:)([^)#]+)[^)]*\)")
PATH_IN_CODE = re.compile(r"`((?:storage|ingest|queries|kitelake|tests|benchmarks|docs|examples)/[\w/.]+)`")
OPTION_IN_CODE = re.compile(r"`(journal|capture|instruments|simulator|kite|log|metrics)\.(\w+)`")
COMMAND_IN_CODE = re.compile(r"`kitelake (\w+)")


def test_the_data_dictionary_is_the_schema() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make docs`"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_names_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for link in LINK.findall(text):
        assert (document.parent / link).exists(), link
    for path in PATH_IN_CODE.findall(text):
        assert (ROOT / path).exists(), path
    for section, option in OPTION_IN_CODE.findall(text):
        model: Any = Config.model_fields[section].annotation
        assert option in model.model_fields, f"{section}.{option}"
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    assert set(COMMAND_IN_CODE.findall(text)) <= commands


def test_every_command_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in app.registered_commands:
        assert command.callback is not None
        assert f"kitelake {command.name or command.callback.__name__}" in text
