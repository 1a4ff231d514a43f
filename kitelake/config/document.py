"""Reading config.yaml, and explaining what is wrong with it in its own terms.

Nothing here knows which options there are: that is `kitelake.config.config`, which passes its model. No text holds a
value of the file or of the environment, since the value might be a secret; keys, places and allowed values are named.
"""

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from kitelake.errors import ConfigError
from storage.files import open_regular

ENV_PREFIX: Final = "KITELAKE_"
ENV_DELIMITER: Final = "__"

# pydantic's error types in words that fit a file
_WORDS: Final = {
    "tuple_type": "expected a list",
    "string_type": "expected text: put it in quotes",
    "string_too_short": "expected some text",
    "string_pattern_mismatch": "expected letters, digits, '.', '_' and '-', and a letter or digit first",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
}


def read_document(path: Path) -> dict[str, Any]:
    """The file as a mapping with text for keys. Raises `ConfigError`."""
    try:
        with open_regular(path) as file:
            data = file.read()
        text = data.decode()
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such file. Name one with --config, or `kitelake init` writes one that runs as it is"
        ) from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: line {line}: cannot be read: it is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        document = yaml.load(text, _Loader)  # noqa: S506 (it is the safe loader, made stricter)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        kind = "" if isinstance(error, _Unusable) else "not YAML: "
        raise ConfigError(f"{path}: {where}{kind}{error.problem}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{path}: line {line}: not YAML: it holds a control character") from None
    except RecursionError:
        raise ConfigError(f"{path}: not YAML that can be read: lists or keys are nested too deeply") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected keys such as data, accounts, subscriptions; got {_kind(document)}")
    return document


class _Unusable(yaml.MarkedYAMLError):
    """It is YAML, and still cannot be meant."""


class _Loader(yaml.SafeLoader):
    """The safe loader, made stricter: every key is text and stands once, and a bad scalar has a place.

    YAML itself lets the last of two equal keys win in silence. (ruamel.yaml does not, but quotes their values, which
    may be secrets, and would need as much of a loader for the rest; it also reads 0755, yes and no otherwise.)
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                raise _Unusable(problem="every key must be text: put it in quotes", problem_mark=key.start_mark)
            if key.value in seen:
                raise _Unusable(problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, AttributeError):  # 2026-13-45, 0x_, !!bool maybe
            kind = node.tag.rpartition(":")[2]
            kind = {"timestamp": "date", "int": "number", "float": "number"}.get(kind, kind)
            problem = f"no {kind} although it looks like one: put it in quotes if it is text"
            raise _Unusable(problem=problem, problem_mark=node.start_mark) from None


def _kind(value: object) -> str:
    names = {type(None): "an empty file", list: "a list", str: "text", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)


def explain(error: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    """One line for each mistake: its place in the file, or the variable that brought it, and what is allowed there."""
    for entry in error.errors(include_url=False, include_input=False, include_context=True):
        location, kind = entry["loc"], entry["type"]
        if kind == "extra_forbidden":
            message = f"unknown key; allowed here: {', '.join(_fields_at(model, location[:-1]))}"
        elif kind == "missing":
            message = "missing"
        elif kind in ("model_type", "model_attributes_type", "dict_type"):
            allowed = ", ".join(_fields_at(model, location))
            message = f"expected keys with values; allowed here: {allowed}" if allowed else "expected keys with values"
        else:
            message = _WORDS.get(kind) or entry["msg"].removeprefix("Value error, ")
            for theirs in ("Input should ", "String should ", "Value should "):
                message = message.replace(theirs, "must ") if message.startswith(theirs) else message
        if location and location[-1] == "[key]":  # pydantic's mark of a mapping's key
            location, message = location[:-1], f"this key {message}"
        key, colon, rest = message.partition(": ")
        if colon and key in _fields_at(model, location):  # a check of several keys says which one it is about
            location, message = (*location, key), rest
        place = _place(location)
        yield f"{place}: {message}" if place else message


def explain_variable(error: SettingsError) -> str:
    """The same for an environment variable that is not the JSON that a list or a section must be."""
    field = re.search(r'field "(\w+)"', str(error))
    return f"the environment variable {ENV_PREFIX}{field[1].upper()}: expected JSON" if field else str(error)


def _place(location: tuple[int | str, ...]) -> str:
    place = ""
    for part in location:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
    for length in range(1, len(location) + 1):
        variable = ENV_PREFIX + ENV_DELIMITER.join(map(str, location[:length])).upper()
        if variable in os.environ:
            return f"{place} (the environment variable {variable})"
    return place


def _fields_at(model: Any, location: tuple[int | str, ...]) -> list[str]:
    """The keys that the model at this place of the file knows; none if there is another value at this place."""
    for part in location:
        if isinstance(part, str):
            field = model.model_fields.get(part) if model else None
            model = _model_in(field.annotation) if field else None
    return list(model.model_fields) if model else []


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in getattr(annotation, "__args__", ()) if (found := _model_in(part))), None)


def unknown_variables(model: type[BaseModel], known: Collection[str]) -> Iterator[str]:
    """One line for each environment variable that looks like an option and is none, unless it is `known`."""
    for name in sorted(os.environ):
        if name.upper().startswith(ENV_PREFIX) and name not in known:
            allowed = _allowed_instead(name.upper().removeprefix(ENV_PREFIX), model)
            if allowed:
                yield f"the environment variable {name} sets no option; allowed: {', '.join(allowed)}"


def _allowed_instead(name: str, model: Any) -> list[str]:
    """The variables that there are where this one goes wrong; none if it is right."""
    prefix = ENV_PREFIX
    parts = name.lower().split(ENV_DELIMITER)
    for depth, part in enumerate(parts):
        inner = _section(model, part)
        if part not in model.model_fields or (inner is None and depth + 1 < len(parts)):
            return [
                f"{prefix}{each.upper()}" + (f"{ENV_DELIMITER}…" if _section(model, each) else "")
                for each in model.model_fields
            ]
        prefix += f"{part.upper()}{ENV_DELIMITER}"
        model = inner
    return []


def _section(model: Any, name: str) -> Any:
    """The model behind an option with options of its own. A list is none: a variable sets it as a whole, in JSON."""
    field = model.model_fields.get(name)
    return None if field is None or get_origin(field.annotation) is tuple else _model_in(field.annotation)
