"""A restricted lake and statements at random: they read nothing outside, and write nothing."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queries.errors import QueryError
from tests.support.restricted import AROUND, EXPRESSIONS, SECRET, SOURCES, STATEMENTS, OurLake, files_of
from tests.support.scaled import scaled

pytestmark = pytest.mark.slow

PIECES = st.sampled_from([*SOURCES, "ticks", "answers", "range(3)", "a", "(from a)"])
WHOLE = st.one_of(
    st.sampled_from(STATEMENTS), PIECES.map("from {}".format), st.sampled_from(EXPRESSIONS).map("select {}".format)
)
NASTY = st.recursive(
    WHOLE,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(AROUND), PIECES).map(lambda pair: pair[0].replace("{0}", pair[1])),
        st.tuples(st.sampled_from(AROUND), inner).map(lambda pair: pair[0].replace("{0}", f"({pair[1]})")),
        st.tuples(inner, inner).map(lambda pair: f"{pair[0]}; {pair[1]}"),
        st.tuples(PIECES, inner).map(lambda pair: f"with a as ({pair[1]}) select * from {pair[0]}"),
        inner.map(lambda text: f"explain analyze {text}"),
        inner.map(lambda text: f"prepare p as {text}"),
    ),
    max_leaves=6,
)


@settings(max_examples=scaled(75, 1000), deadline=None)
@given(query=NASTY)
def test_statements_change_nothing_and_see_nothing(shut: OurLake, root: Path, outside: Path, query: str) -> None:
    text = query.replace("{root}", str(root)).replace("{out}", str(outside))
    before = files_of(root, outside)
    try:
        shown = str(shut.sql(text, timeout=5.0).arrow().slice(0, 100).to_pylist())
    except QueryError:
        shown = ""
    assert SECRET not in shown
    assert "root:" not in shown
    assert files_of(root, outside) == before
