"""Drawing what a query gave."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from queries.pictures.picture import Picture


class Pictured:
    """What has rows, and can be drawn."""

    def arrow(self) -> Any:
        """The rows."""
        raise NotImplementedError

    def plot(
        self,
        path: str | Path | None = None,
        *,
        dark: bool = False,
        gaps: "Pictured | None" = None,
        title: str | None = None,
        definition: str | None = None,
    ) -> "Picture":
        """Draw what the rows are: bars as candles, a book as a ladder, a chain as a smile, the intervals of a day as a
        heat map, latency and spread as lines; of any others with a column of times, the numbers over it.

        Into the file, .png, .svg or .html, if there is one. A notebook shows what it returns. `gaps`, of `Lake.gaps`,
        are shaded behind candles. What is said above them, `title` and `definition`, is of the rows themselves unless
        it is given. Times are IST. Needs the extra `plot`. Raises PictureError for rows that cannot be drawn,
        MissingLibraryError without the extra, OSError for a file that cannot be written.
        """
        from queries.pictures.picture import Picture
        from queries.pictures.subject import subject_of

        shaded = None if gaps is None else gaps.arrow()
        picture = Picture(subject_of(self.arrow(), gaps=shaded, title=title, definition=definition), dark=dark)
        if path is not None:
            picture.save(path)
        return picture
