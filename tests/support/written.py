"""Examples in documents: their code, run as a user would, and what it answers as plain rows."""

import ast
import datetime as dt
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pandas as pd  # type: ignore[import-untyped]
import pyarrow as pa

from kitelake.lake import Lake, Result

EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Question(NamedTuple):
    """A heading of the third level with its blocks of SQL and of Python, in order."""

    text: str
    sql: list[str]
    python: list[str]


class Answer(NamedTuple):
    """`names` of the columns are None where the code gives none."""

    names: list[str] | None
    rows: list[tuple[Any, ...]]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def section(document: Path, heading: str) -> str:
    """The text under a heading of the second level."""
    _, found, rest = document.read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    assert found, heading
    return rest.partition("\n## ")[0]


def questions(text: str) -> Iterator[Question]:
    for part in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        heading, _, rest = part.partition("\n")
        yield Question(heading, blocks(rest, "sql"), blocks(rest, "python"))


def run_python(code: str, lake: Lake, **names: Any) -> Any:
    """Run it. Returns the value of its last expression."""
    *first, last = ast.parse(code).body
    space = {"lake": lake, **names}
    exec(compile(ast.Module(first, []), "<document>", "exec"), space)
    assert isinstance(last, ast.Expr), "the last line is the answer"
    return eval(compile(ast.Expression(last.value), "<document>", "eval"), space)


def answer_of(value: Any) -> Answer:
    """Rows of plain values: instants as numbers, whatever is missing as None."""
    if isinstance(value, Result):
        value = value.arrow()
    if isinstance(value, pd.DataFrame):
        value = [list(value.columns), *value.itertuples(index=False, name=None)]
    elif isinstance(value, pa.Table):
        columns = [column.to_pylist() for column in value.columns]
        value = [value.column_names, *zip(*columns, strict=True)]
    else:
        value = [None, *value]
    names, *rows = value
    return Answer(
        names,
        [tuple(map(_plain, row if isinstance(row, Sequence) and not isinstance(row, str) else [row])) for row in rows],
    )


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, dt.datetime) and value.tzinfo is None:  # pandas has no dates
        return value.date()
    if isinstance(value, dt.datetime):
        return (value.astimezone(dt.UTC) - EPOCH) // dt.timedelta(microseconds=1)
    return value.item() if hasattr(value, "item") else value


def is_close(one: Any, other: Any) -> bool:
    """Whether two plain values are the same, as far as sums of floats in another order can be."""
    if isinstance(one, float | int) and isinstance(other, float | int):
        return math.isclose(one, other, rel_tol=1e-7, abs_tol=1e-9)
    return bool(one == other)


def differences(one: Answer, other: Answer) -> list[str]:
    """What is not the same, in words."""
    if one.names is not None and other.names is not None and one.names != other.names:
        return [f"columns {one.names} and {other.names}"]
    if len(one.rows) != len(other.rows):
        return [f"{len(one.rows)} and {len(other.rows)} rows: {one.rows[:2]} and {other.rows[:2]}"]
    return [
        f"row {place}: {row} and {its}"
        for place, (row, its) in enumerate(zip(one.rows, other.rows, strict=True))
        if len(row) != len(its) or not all(map(is_close, row, its))
    ]
