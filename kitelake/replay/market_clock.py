"""The market's time, made of the real one: at a speed, with pauses.

Theory. While the clock runs, the market's time is a straight line of the real one, from an origin that is absolute: no
step is added to another, so delays and roundings do not add up. Only what stops the clock or turns it moves the origin:
a pause, a hold, a seek, another speed, and the limit.

The limit is how far the clock may go at most until it is told again; whoever sends packets lets it be a little ahead of
what is sent. Time for which the clock stood, at the limit or held, is not made up for: a server that was stopped for a
minute goes on where it was, without a burst.

At speed `inf` the real time is of no account: the clock stands where it was told to be, by `seek`.
"""

import math
import time
from collections.abc import Callable
from typing import Final

from storage.clock import NS_PER_SECOND, US_PER_SECOND

MOST_SPEED: Final = 1e9
"""Beyond it a day takes less time than a look at the clock: what is faster is as fast as can be."""


class MarketClock:
    """Microseconds since the epoch, from `start_us` to `stop_us`. Held at first, until it is released."""

    def __init__(
        self,
        start_us: int,
        stop_us: int,
        speed: float = 1.0,
        *,
        paused: bool = False,
        real_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`speed`: market seconds a real one; `inf`: as fast as the packets can be sent. `real_ns` must not fall."""
        self.start_us = start_us
        self.stop_us = stop_us
        self._speed = _usable(speed)
        self._paused = paused
        self._held = True
        self._limit_us = stop_us
        self._real_ns = real_ns
        self._origin_us = start_us
        self._origin_ns = real_ns()

    @property
    def speed(self) -> float:
        return self._speed

    @property
    def paused(self) -> bool:
        return self._paused

    @property
    def held(self) -> bool:
        return self._held

    def now_us(self) -> int:
        """The market's time; it falls only at a reset."""
        return min(self._line_us(), max(self._limit_us, self._origin_us))

    def seconds_until(self, us: int) -> float:
        """Real seconds until the market's time is `us`, as things are; `inf` if it does not come to that."""
        if us <= self.now_us():
            return 0.0
        if not self._runs or us > self._limit_us:
            return math.inf
        return (us - self._line_us()) / (US_PER_SECOND * self._speed)

    def pause(self) -> None:
        self._turn()
        self._paused = True

    def resume(self) -> None:
        self._turn()
        self._paused = False

    def hold(self) -> None:
        """Stand still, paused or not, until `release`."""
        self._turn()
        self._held = True

    def release(self) -> None:
        self._turn()
        self._held = False

    def set_speed(self, speed: float) -> None:
        self._turn()
        self._speed = _usable(speed)

    def limit(self, us: int) -> None:
        """Go no further than this, nor than the end, until told again."""
        if self._line_us() > self._limit_us:
            self._turn()  # it stood there: what would have passed is lost
        self._limit_us = max(min(us, self.stop_us), self.now_us())

    def seek(self, us: int) -> None:
        """Be there at once if it is ahead, whatever the limit, but not beyond the end."""
        if us > self.now_us():
            self._origin_us, self._origin_ns = min(us, self.stop_us), self._real_ns()

    def reset(self) -> None:
        """Begin again, held; as paused, and as fast, as it is."""
        self._origin_us, self._origin_ns = self.start_us, self._real_ns()
        self._limit_us = self.stop_us
        self._held = True

    @property
    def _runs(self) -> bool:
        return not self._paused and not self._held and math.isfinite(self._speed)

    def _line_us(self) -> int:
        """Where it would be without a limit."""
        if not self._runs:
            return self._origin_us
        return self._origin_us + int((self._real_ns() - self._origin_ns) * self._speed * US_PER_SECOND / NS_PER_SECOND)

    def _turn(self) -> None:
        """What changes from now on changes it from where it is."""
        self._origin_us, self._origin_ns = self.now_us(), self._real_ns()


def _usable(speed: float) -> float:
    return math.inf if speed > MOST_SPEED else float(speed)
