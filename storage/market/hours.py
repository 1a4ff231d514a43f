"""Times of a day in India, as the market's tables and config.yaml write them. Pure."""

import datetime as dt
from typing import Final, NamedTuple

END_OF_DAY: Final = dt.time.max
"""24:00, which is no time of a day."""


class Hours(NamedTuple):
    """From `start` up to `stop` of one IST day."""

    start: dt.time
    stop: dt.time

    def __str__(self) -> str:
        return f"{clock(self.start)}-{clock(self.stop)}"


def clock(time: dt.time) -> str:
    """`15:35`, `15:35:30`, and `24:00` for END_OF_DAY."""
    if time == END_OF_DAY:
        return "24:00"
    return time.isoformat("seconds" if time.second else "minutes")


def shifted(time: dt.time, by: dt.timedelta) -> dt.time:
    """The same day's time so much later or earlier, to the second; not before 00:00 or after 24:00."""
    seconds = 86_400 if time == END_OF_DAY else time.hour * 3600 + time.minute * 60 + time.second
    seconds = max(0, seconds + int(by.total_seconds()))
    return END_OF_DAY if seconds >= 86_400 else dt.time(seconds // 3600, seconds // 60 % 60, seconds % 60)
