"""Where statements end, beside what DuckDB itself makes of the same text."""

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kitelake.shell.loop import parts
from kitelake.shell.statements import is_complete, split, text_begun
from tests.support.scaled import scaled

PIECES = (
    "select 1",
    "select 'a;''b'",
    'select 1 as "x;y"',
    "select $$;$$",
    "select $t$ ; $$ $t$",
    "select e'\\';'",
    "select 'é漢;'",
    "-- ; '\n",
    "/* ; /* ' */ ; */",
    ";",
    " \n",
)


@settings(max_examples=scaled(100, 2_000))
@given(st.lists(st.sampled_from(PIECES), max_size=8))
def test_statements_are_those_of_duckdb(pieces: list[str]) -> None:
    text = "".join(piece + "; " * piece.startswith("select") for piece in pieces)
    statements, rest = split(text)
    assert not rest
    assert len(statements) == len(duckdb.extract_statements(text))
    assert all(len(duckdb.extract_statements(each)) == 1 for each in statements)


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("", True),
        (" \n", True),
        ("select 1;", True),
        ("select 1; -- and no more", True),
        ("select 1", False),
        ("select ';", False),
        ("select $$;", False),
        ('select ";', False),
        ("/* ;", False),
        ("select 1; select", False),
        ("select '\udcff';", True),
        (".help", True),
    ],
)
def test_a_text_is_complete_where_its_last_statement_has_ended(text: str, complete: bool) -> None:
    assert is_complete(text) == complete


@pytest.mark.parametrize(
    ("statement", "begun"),
    [
        ("from bars('INF", "INF"),
        ("from bars(['NSE:INFY', '", ""),
        ("select 'a'", None),
        ("select 'a''b", "a''b"),
        ("select 1", None),
        ("select 1 -- '", None),
        ("", None),
    ],
)
def test_a_text_that_has_begun(statement: str, begun: str | None) -> None:
    assert text_begun(statement) == begun


def test_commands_stand_between_statements() -> None:
    text = ".mode csv\n\nselect 1;\n.once x.csv\n.timer off\nselect\n2; select '.a';\nselect 3"
    assert list(parts(text)) == [
        ".mode csv",
        "select 1;",
        ".once x.csv",
        ".timer off",
        "select\n2;",
        "select '.a';",
        "select 3",
    ]
