"""A picture of rows on the terminal, as wide and as high as it is."""

from collections.abc import Callable, Iterator
from typing import Final

from rich.console import Console
from rich.text import Text

from kitelake.drawing.candles import candle_lines
from kitelake.drawing.chart import line_charts
from kitelake.drawing.depth import chain_lines, ladder_lines
from kitelake.drawing.heat import heat_lines
from kitelake.views import CONTROL
from queries.pictures import Kind, Subject

LEAST_WIDTH: Final = 20
MOST_WIDTH: Final = 160
LEAST_HEIGHT: Final = 10
AROUND: Final = 4
"""Title, definition, and the line on which one goes on typing."""
_KINDS: Final[dict[Kind, Callable[[Subject, int, int], Iterator[Text]]]] = {
    Kind.CANDLES: candle_lines,
    Kind.BOOK: ladder_lines,
    Kind.CHAIN: chain_lines,
    Kind.COVERAGE: heat_lines,
    Kind.LATENCY: line_charts,
    Kind.SPREAD: line_charts,
    Kind.LINES: line_charts,
}


def print_drawing(subject: Subject) -> None:
    """Draw it on the standard output; in a file or a pipe without colour, 80 wide unless COLUMNS says otherwise."""
    console = Console(highlight=False)
    width = max(LEAST_WIDTH, min(MOST_WIDTH, console.width))
    for line in draw_rows(subject, width, max(LEAST_HEIGHT, console.height)):
        if not CONTROL.keys().isdisjoint(map(ord, line.plain)):  # a name may have come from anywhere
            line.plain = line.plain.translate(CONTROL)
        console.print(line, width=width)


def draw_rows(subject: Subject, width: int, height: int) -> Iterator[Text]:
    """Its lines: title, definition, picture, in about so many characters."""
    yield Text(subject.title, "bold")
    yield Text(f"{subject.definition}; times in IST", "dim")
    drawn = False
    for line in _KINDS[subject.kind](subject, width, height - AROUND):
        drawn = True
        yield line
    if not drawn:
        yield Text("nothing to draw")
