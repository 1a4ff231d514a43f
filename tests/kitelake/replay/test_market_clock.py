"""The market's clock against a sum of what passed while it ran, with a real time that the test turns."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitelake.replay.market_clock import MarketClock

START, STOP = 1_000_000_000, 1_000_000_000 + 3_600_000_000
SPEEDS = [0.5, 1.0, 10.0, 250.0, math.inf]


class Real:
    """A monotonic clock in nanoseconds."""

    def __init__(self) -> None:
        self.ns = 12_345

    def __call__(self) -> int:
        return self.ns


def clock_of(speed: float = 1.0) -> tuple[MarketClock, Real]:
    """One that was released."""
    real = Real()
    clock = MarketClock(START, STOP, speed, real_ns=real)
    clock.release()
    return clock, real


class Oracle:
    """The same by adding up, moment by moment."""

    def __init__(self, speed: float) -> None:
        self.us = float(START)
        self.limit = float(STOP)
        self.speed, self.paused, self.held = speed, False, False

    def pass_ns(self, ns: int) -> None:
        if not self.paused and not self.held and math.isfinite(self.speed):
            self.us = min(self.us + ns * self.speed / 1000, max(self.limit, self.us))


steps = st.one_of(
    st.tuples(st.just("pass"), st.integers(0, 60_000_000_000)),
    st.tuples(st.sampled_from(["pause", "resume", "hold", "release"]), st.none()),
    st.tuples(st.just("set_speed"), st.sampled_from(SPEEDS)),
    st.tuples(st.sampled_from(["limit", "seek"]), st.integers(START - 10, STOP + 10)),
)


@given(st.sampled_from(SPEEDS), st.lists(steps, max_size=30))
def test_whatever_is_done_to_it_it_shows_what_has_passed_and_never_falls(
    speed: float, done: list[tuple[str, int | float | None]]
) -> None:
    clock, real = clock_of(speed)
    oracle = Oracle(speed)
    before = clock.now_us()
    for what, value in done:
        match what, value:
            case "pass", int():
                real.ns += value
                oracle.pass_ns(value)
            case "limit", int():
                clock.limit(value)
                oracle.limit = max(min(value, STOP), oracle.us)
            case "seek", int():
                clock.seek(value)
                oracle.us = max(oracle.us, min(value, STOP))
            case "set_speed", float():
                clock.set_speed(value)
                oracle.speed = value
            case _:
                getattr(clock, what)()
                if what in {"pause", "resume"}:
                    oracle.paused = what == "pause"
                else:
                    oracle.held = what == "hold"
        assert before <= clock.now_us() <= STOP
        assert abs(clock.now_us() - oracle.us) <= 1 + len(done), "a microsecond at most for each turn"
        assert (clock.paused, clock.held, clock.speed) == (oracle.paused, oracle.held, oracle.speed)
        before = clock.now_us()


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=200))
def test_delays_do_not_add_up(looks: list[int]) -> None:
    """However often one looks, and however far ahead the limit is put each time."""
    clock, real = clock_of(10.0)
    began = real.ns
    for ns in looks:
        real.ns += ns
        now = clock.now_us()
        assert now == min(START + (real.ns - began) * 10 // 1000, STOP)
        clock.limit(now + 11_000_000)
        clock.seek(now)


def test_what_stood_is_not_made_up_for() -> None:
    clock, real = clock_of()
    clock.limit(START + 200_000)
    real.ns += 60_000_000_000
    assert clock.now_us() == START + 200_000
    clock.limit(START + 400_000)
    assert clock.now_us() == START + 200_000
    real.ns += 100_000_000
    assert clock.now_us() == START + 300_000
    clock.hold()
    real.ns += 60_000_000_000
    clock.release()
    assert clock.now_us() == START + 300_000


def test_how_long_it_takes() -> None:
    clock, real = clock_of(10.0)
    assert clock.seconds_until(START) == 0
    assert clock.seconds_until(START + 5_000_000) == pytest.approx(0.5)
    real.ns += 100_000_000
    assert clock.seconds_until(START + 5_000_000) == pytest.approx(0.4)
    clock.limit(START + 4_000_000)
    assert clock.seconds_until(START + 5_000_000) == math.inf
    assert clock.seconds_until(START + 4_000_000) == pytest.approx(0.3)
    for stop, go_on in ((clock.pause, clock.resume), (clock.hold, clock.release)):
        stop()
        assert clock.seconds_until(START + 4_000_000) == math.inf
        go_on()
        assert clock.seconds_until(START + 4_000_000) == pytest.approx(0.3)


@given(st.sampled_from(SPEEDS[:-1]), st.integers(START, STOP))
def test_after_so_long_it_is_there(speed: float, us: int) -> None:
    clock, real = clock_of(speed)
    real.ns += math.ceil(clock.seconds_until(us) * 1e9) + 1
    assert us <= clock.now_us() <= us + 1 + 2 * speed


def test_at_full_speed_it_stands_where_it_was_told_to_be() -> None:
    clock, real = clock_of(math.inf)
    real.ns += 10**12
    assert clock.now_us() == START
    clock.seek(START + 7)
    assert clock.now_us() == START + 7
    clock.set_speed(1.0)
    real.ns += 1_000_000
    assert clock.now_us() == START + 1007
    clock.seek(START + 1007)
    real.ns += 1_000_000
    assert clock.now_us() == START + 2007


def test_it_begins_held_and_again_after_a_reset() -> None:
    real = Real()
    clock = MarketClock(START, STOP, 10.0, paused=True, real_ns=real)
    for _ in range(2):
        real.ns += 1_000_000_000
        clock.resume()
        assert clock.now_us() == START
        clock.release()
        real.ns += 1_000_000_000
        assert clock.now_us() == START + 10_000_000
        clock.seek(STOP + 5)
        assert clock.now_us() == STOP
        clock.reset()
