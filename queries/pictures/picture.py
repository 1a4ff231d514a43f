"""A picture: the chart of what rows are, and its forms, PNG, SVG and HTML, which need no browser and no network."""

import json
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from queries.errors import PictureError
from queries.pictures.candles import candles_chart
from queries.pictures.coverage import coverage_chart
from queries.pictures.depth import book_chart, chain_chart
from queries.pictures.lines import lines_chart
from queries.pictures.subject import Kind, Subject
from queries.pictures.theme import DARK, LIGHT, Theme, altair, finished, needed
from storage.files import replacing

PIXELS: Final = 2
FORMS: Final = (".png", ".svg", ".html")
_CHARTS: Final[dict[Kind, Callable[[Subject, Theme], Any]]] = {
    Kind.CANDLES: candles_chart,
    Kind.BOOK: book_chart,
    Kind.CHAIN: chain_chart,
    Kind.COVERAGE: coverage_chart,
    Kind.LATENCY: lines_chart,
    Kind.SPREAD: lines_chart,
    Kind.LINES: lines_chart,
}


def is_picture(path: Path) -> bool:
    """Whether a file of that name can hold a picture."""
    return path.suffix.lower() in FORMS


class Picture:
    """A chart, which a notebook shows as it is.

    Raises MissingLibraryError where the extra `plot` is not installed.
    """

    def __init__(self, subject: Subject, *, dark: bool = False) -> None:
        altair()
        self._subject = subject
        self._theme = DARK if dark else LIGHT

    @cached_property
    def chart(self) -> Any:
        """The same as a chart of altair's, to change it, or to set it beside others."""
        chart = _CHARTS[self._subject.kind](self._subject, self._theme)
        return finished(chart, self._theme, self._subject.title, self._subject.definition)

    def png(self) -> bytes:
        """As a PNG, of twice the pixels."""
        return bytes(self._library().vegalite_to_png(self._spec(), scale=PIXELS))

    def svg(self) -> str:
        """As an SVG."""
        return str(self._library().vegalite_to_svg(self._spec()))

    def html(self) -> str:
        """As a page that holds all it needs, and shows values under the pointer."""
        # Names come from the broker, or from a query: none of them may end the script that it stands in.
        spec = json.loads(re.sub("<(?=[/!])", "<\u200b", json.dumps(self._spec())))
        return str(self._library().vegalite_to_html(spec, bundle=True))

    def save(self, path: str | Path) -> None:
        """Write it, as the name's end says: .png, .svg or .html. The file is there when it is whole.

        Raises PictureError for another end, and OSError for a file that cannot be written.
        """
        path = Path(path)
        if not is_picture(path):
            raise PictureError(f"{path}: got a name that ends in {path.suffix!r}, expected .png, .svg or .html")
        form = path.suffix.lower()
        made = self.png() if form == ".png" else (self.svg() if form == ".svg" else self.html()).encode()
        with replacing(path, durable=False) as sink:
            sink.write(made)

    def _repr_svg_(self) -> str:
        return self.svg()

    @staticmethod
    def _library() -> Any:
        return needed("vl_convert")

    def _spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.chart.to_dict(validate=False)
        return spec
