"""Pages that are kept up to date: whatever changes, the terminal shows the page, and nothing else is written."""

import io

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from kitelake.views.terminal import Screen as Pages
from tests.support.scaled import scaled
from tests.support.screens import Screen

WIDTH = 12
LINES = st.lists(st.text("ab —é", max_size=WIDTH).map(str.rstrip), min_size=1, max_size=9)


class Shown:
    """Pages on a terminal of a size."""

    def __init__(self, height: int) -> None:
        self.screen = Screen(WIDTH, height)
        self.output = io.StringIO()
        self.console = Console(file=self.output, force_terminal=True, width=WIDTH, height=height, _environ={})
        self.pages = Pages(self.console)

    def show(self, lines: list[str]) -> str:
        """What was written for it."""
        self.output.seek(0)
        self.output.truncate()
        self.pages.show(Text("\n".join(lines), no_wrap=True, overflow="crop"))
        self.screen.write(self.output.getvalue())
        return self.output.getvalue()


@settings(max_examples=scaled(60, 1000))
@given(st.integers(1, 8), st.integers(0, 7), st.lists(LINES, min_size=1, max_size=6))
def test_the_terminal_shows_the_last_page(height: int, above: int, pages: list[list[str]]) -> None:
    shown = Shown(height)
    shown.screen.write("$ kitelake\r\n" * min(above, height - 1))
    for lines in pages:
        shown.show(lines)
    room = max(1, height - 1)
    expected = lines[:room]
    if len(lines) > room > 1:
        expected[-1] = "…"
    at = shown.screen.row + 1 - len(expected) - (height > 1)
    assert [line.rstrip() for line in shown.screen.rows[at : at + len(expected)]] == expected
    assert not any(shown.screen.rows[at + len(expected) :])
    assert shown.screen.column == 0
    assert all(line == "$ kitelake" for line in shown.screen.rows[:at])


def test_only_lines_that_changed_are_written() -> None:
    shown = Shown(8)
    shown.show(["one", "two", "three"])
    assert shown.show(["one", "two", "three"]) == ""
    again = shown.show(["one", "zwei", "three"])
    assert "zwei" in again
    assert "one" not in again
    assert "three" not in again
    assert again.count("\x1b[2K") == 1


def test_another_size_is_a_new_page() -> None:
    shown = Shown(8)
    shown.show(["one", "two", "three"])
    shown.console.size = (6, 3)
    assert shown.pages.is_resized
    shown.screen = Screen(6, 3)
    shown.show(["one", "two", "three"])
    assert shown.screen.lines == ["one", "…"]
