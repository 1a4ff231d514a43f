"""The watchdog and its timers: what was asked for and does not come is noticed, asked for again, and forgiven."""

import asyncio
import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.connection.session import StreamSession
from ingest.connection.stats import Traffic
from ingest.connection.watchdog import (
    LONGEST_SECONDS,
    LOOK_FRAMES,
    SAMPLE_SECONDS,
    Complaints,
    StreamWatchdog,
    Supervisor,
)
from ingest.settings import WatchdogSettings
from ingest.wire import Mode, decode_frames_with_report
from tests.support.packets import damaged_frames, frame_of, frames

SETTINGS = WatchdogSettings(answer_seconds=10, stall_seconds=60)
NOTHING = Complaints()
LENGTH = {Mode.LTP: 8, Mode.QUOTE: 44, Mode.FULL: 184}
INFY, RELIANCE, NIFTY = 408065, 738561, 256265


def packet(token: int, mode: Mode) -> bytes:
    length = {Mode.LTP: 8, Mode.QUOTE: 28, Mode.FULL: 32}[mode] if token & 0xFF == 9 else LENGTH[mode]
    return token.to_bytes(4, "big") + bytes(length - 4)


def watching(instruments: dict[int, Mode], settings: WatchdogSettings = SETTINGS) -> StreamWatchdog:
    watchdog = StreamWatchdog(settings)
    watchdog.opened(0.0)
    watchdog.told(instruments, 0.0)
    return watchdog


def sees(watchdog: StreamWatchdog, now: float, *packets: bytes) -> None:
    watchdog.look_into([frame_of(list(packets)), b"\x00"], now)


def test_all_is_well_when_everything_comes_as_asked_for() -> None:
    watchdog = watching({INFY: Mode.FULL, RELIANCE: Mode.LTP, NIFTY: Mode.QUOTE})
    for now in range(0, 200, 5):
        sees(watchdog, now, packet(INFY, Mode.FULL), packet(RELIANCE, Mode.LTP), packet(NIFTY, Mode.QUOTE))
        assert watchdog.complaints(float(now)) == NOTHING
    assert (watchdog.packets, watchdog.decode_failures, watchdog.asked_again) == (120, 0, 0)
    assert (watchdog.silent, watchdog.wrong_mode) == ((), ())


def test_a_silent_instrument_is_asked_for_again_after_ever_longer_waits() -> None:
    watchdog = watching({INFY: Mode.FULL, RELIANCE: Mode.FULL})
    asked = []
    for now in range(0, 2230, 5):
        sees(watchdog, now, packet(INFY, Mode.FULL))
        complaints = watchdog.complaints(float(now))
        assert set(complaints.silent) <= {RELIANCE}
        if complaints.silent:
            asked.append(now)
    assert asked == [10, 30, 70, 150, 310, 630, 1270]
    assert watchdog.silent == (RELIANCE,)
    assert watchdog.asked_again == len(asked)
    sees(watchdog, 2230.0, packet(RELIANCE, Mode.FULL))
    assert not watchdog.silent


def test_a_wrong_mode_is_noticed_after_a_while_and_forgiven_when_it_is_right() -> None:
    watchdog = watching({INFY: Mode.FULL, RELIANCE: Mode.LTP})
    sees(watchdog, 0.1, packet(INFY, Mode.QUOTE), packet(RELIANCE, Mode.QUOTE))
    sees(watchdog, 0.2, packet(RELIANCE, Mode.LTP))
    assert watchdog.complaints(9.0) == NOTHING, "packets that were on their way do not count"
    sees(watchdog, 10.0, packet(INFY, Mode.FULL), packet(INFY, Mode.QUOTE))
    assert watchdog.wrong_mode == (INFY,)
    assert watchdog.complaints(10.0) == Complaints(wrong_mode=(INFY,))
    assert watchdog.complaints(11.0) == NOTHING, "reported once until the next wait is over"
    sees(watchdog, 12.0, packet(INFY, Mode.FULL))
    assert not watchdog.wrong_mode
    assert watchdog.complaints(100.0).wrong_mode == ()


def test_what_was_given_up_and_still_comes_is_asked_to_stop() -> None:
    watchdog = watching({INFY: Mode.LTP, RELIANCE: Mode.LTP})
    watchdog.told({INFY: Mode.LTP}, 1.0)
    sees(watchdog, 2.0, packet(INFY, Mode.LTP), packet(RELIANCE, Mode.LTP))
    assert watchdog.complaints(2.0) == NOTHING, "packets that were on their way do not count"
    sees(watchdog, 11.0, packet(INFY, Mode.LTP), packet(RELIANCE, Mode.LTP), packet(RELIANCE, Mode.LTP))
    assert watchdog.complaints(11.0) == Complaints(unwanted=(RELIANCE,))
    assert watchdog.complaints(11.0) == NOTHING


def test_changes_leave_what_is_known_of_the_others() -> None:
    watchdog = watching({INFY: Mode.LTP, RELIANCE: Mode.LTP})
    sees(watchdog, 1.0, packet(INFY, Mode.LTP), packet(RELIANCE, Mode.LTP))
    watchdog.told({INFY: Mode.LTP, RELIANCE: Mode.FULL, NIFTY: Mode.LTP}, 5.0)
    assert watchdog.complaints(14.0) == NOTHING
    assert watchdog.complaints(15.0).silent == (NIFTY, RELIANCE)


def test_a_socket_with_heartbeats_only_is_tried_with_one_instrument_and_then_given_up() -> None:
    watchdog = watching({INFY: Mode.LTP, RELIANCE: Mode.LTP})
    sees(watchdog, 1.0, packet(INFY, Mode.LTP), packet(RELIANCE, Mode.LTP))
    watchdog.look_into([b"\x00"], 60.0)
    assert watchdog.complaints(60.9) == NOTHING
    assert watchdog.complaints(61.0) == Complaints(probe=INFY)
    assert watchdog.complaints(70.9) == NOTHING
    assert watchdog.complaints(71.0) == Complaints(barren=True)


def test_after_hours_the_answers_alone_make_the_waits_longer_and_ticks_make_them_short_again() -> None:
    watchdog = watching({INFY: Mode.LTP})
    sees(watchdog, 0.0, packet(INFY, Mode.LTP))
    probes = []
    for now in range(4000):
        complaints = watchdog.complaints(float(now))
        assert not complaints.barren
        if complaints.probe:
            probes.append(now)
            sees(watchdog, now + 0.5, packet(INFY, Mode.LTP))
    waits = [after - before for before, after in itertools.pairwise([0, *probes])]
    assert waits[:4] == [60, 121, 241, 481]
    assert max(waits) <= LONGEST_SECONDS + 1
    sees(watchdog, 4000.0, packet(INFY, Mode.LTP), packet(INFY, Mode.LTP))
    assert watchdog.complaints(4060.0).probe == INFY


@pytest.mark.parametrize("packets", [1, 2])
def test_ticks_make_the_waits_short_again_although_the_socket_ends_at_once(packets: int) -> None:
    watchdog = watching({INFY: Mode.LTP})
    sees(watchdog, 0.0, packet(INFY, Mode.LTP))
    assert watchdog.complaints(60.0).probe == INFY
    sees(watchdog, 61.0, *packets * [packet(INFY, Mode.LTP)])
    watchdog.opened(61.0)
    watchdog.told({INFY: Mode.LTP}, 61.0)
    sees(watchdog, 61.0, packet(INFY, Mode.LTP))
    assert (watchdog.complaints(121.0).probe == INFY) is (packets > 1)


def test_a_new_socket_begins_with_nothing_and_one_without_instruments_is_left_alone() -> None:
    watchdog = watching({INFY: Mode.LTP})
    assert watchdog.complaints(10.0).silent == (INFY,)
    watchdog.opened(11.0)
    assert not watchdog.silent
    assert watchdog.complaints(1000.0) == NOTHING
    watchdog.told({INFY: Mode.LTP}, 1000.0)
    assert watchdog.complaints(1009.0) == NOTHING


@given(st.lists(st.one_of(frames(), damaged_frames(), st.binary(max_size=40)), max_size=20))
def test_whatever_comes_is_counted_and_nothing_raises(some: list[bytes]) -> None:
    watchdog = watching({INFY: Mode.FULL})
    for one in some:
        watchdog.look_into([one], 20.0)
    watchdog.complaints(30.0)
    table, report = decode_frames_with_report(some)
    assert (watchdog.packets, watchdog.decode_failures) == (table.num_rows, len(report.quarantined))


def settled(instruments: dict[int, Mode], now: float = 100.0) -> StreamWatchdog:
    """All of them have come, and long enough ago."""
    watchdog = watching(instruments)
    watchdog.look_into([frame_of([packet(token, mode) for token, mode in instruments.items()])], now)
    watchdog.packets = 0
    return watchdog


@given(st.lists(st.one_of(frames(), damaged_frames(), st.binary(max_size=40)), max_size=20))
def test_what_is_only_counted_is_counted_as_by_the_walk(some: list[bytes]) -> None:
    watchdog = settled({INFY: Mode.FULL})
    even = [frame_of(2 * [packet(INFY, mode)]) for mode in Mode]
    rest = watchdog.count([*even, *some], 101.0)
    assert watchdog.packets >= 6
    assert not set(rest) & set(even)
    if rest:
        watchdog.look_into(rest, 101.0)
    table, report = decode_frames_with_report([*even, *some])
    assert (watchdog.packets, watchdog.decode_failures) == (table.num_rows, len(report.quarantined))


def test_frames_are_looked_into_while_something_is_new_or_wrong_and_then_now_and_again() -> None:
    watchdog = watching({INFY: Mode.FULL, RELIANCE: Mode.FULL})
    infy, reliance, wrong = (
        [frame_of([packet(token, mode)])]
        for token, mode in ((INFY, Mode.FULL), (RELIANCE, Mode.FULL), (RELIANCE, Mode.LTP))
    )

    def looks(frames: list[bytes], now: float) -> bool:
        """Whether it wants to look into them."""
        rest = watchdog.count(frames, now)
        if rest:
            watchdog.look_into(rest, now)
        return bool(rest)

    assert looks(infy, 1.0), "new"
    assert looks(infy, 100.0), "one has not come"
    assert looks(reliance, 100.0)
    assert not looks(infy, 101.0)
    assert not looks(wrong, 99.9 + SAMPLE_SECONDS), "the last that is only counted"
    assert looks(wrong, 100.1 + SAMPLE_SECONDS)
    assert watchdog.wrong_mode == (RELIANCE,)
    assert looks(wrong, 110.0), "wrong"
    assert looks(reliance, 111.0)
    assert not looks(infy, 110.9 + SAMPLE_SECONDS)
    assert looks(infy, 111.0 + SAMPLE_SECONDS)
    watchdog.told({INFY: Mode.FULL}, 130.0)
    assert looks(infy, 130.0), "new"
    assert watchdog.packets == 11


@pytest.mark.parametrize(
    "other",
    [b"\x00", frame_of([packet(NIFTY, Mode.FULL), packet(INFY, Mode.FULL)]), frame_of([packet(INFY, Mode.FULL)])],
    ids=["heartbeat", "of several lengths", "even"],
)
@pytest.mark.parametrize("token", [RELIANCE, RELIANCE + 256])
def test_odd_frames_do_not_keep_the_others_from_being_looked_into(other: bytes, token: int) -> None:
    """What is wrong in an even frame is noticed although others come that are always looked into."""
    watchdog = settled({INFY: Mode.FULL, RELIANCE: Mode.FULL, NIFTY: Mode.FULL})
    noticed = []
    for now in range(100, 160, 3):
        rest = watchdog.count([frame_of([packet(token, Mode.LTP)]), other], float(now))
        if rest:
            watchdog.look_into(rest, now + 0.4)
        complaints = watchdog.complaints(now + 0.5)
        noticed += [*complaints.wrong_mode, *complaints.unwanted]
    assert set(noticed) == {token}


# The timers of a socket


@dataclass(eq=False)
class Timer:
    at: float
    call: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class Timers:
    """A clock and timers that a test drives."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: list[Timer] = []

    def clock(self) -> float:
        return self.now

    def call_later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        timer = Timer(self.now + seconds, call)
        self._timers.append(timer)
        return cast("asyncio.TimerHandle", timer)

    @property
    def waiting(self) -> list[Timer]:
        return sorted((timer for timer in self._timers if not timer.cancelled), key=lambda timer: timer.at)

    def pass_to(self, moment: float) -> None:
        """Run what is due until then, in its order."""
        while self.waiting and self.waiting[0].at <= moment:
            timer = self.waiting[0]
            self._timers.remove(timer)
            self.now = timer.at
            timer.call()
        self.now = moment


class Supervised:
    """A supervisor of a socket that was opened at 1000 s, and what it reported: (seconds since then, what)."""

    def __init__(self, **changes: Any) -> None:
        settings = WatchdogSettings(**changes)
        self.timers = Timers()
        self.session = StreamSession(settings, lambda: 0.5)
        self.watchdog = StreamWatchdog(settings)
        self.traffic = Traffic(last_bytes_at=self.timers.now)
        self.reported: list[tuple[float, object]] = []
        self.supervisor = Supervisor(
            "one/1",
            settings,
            self.session,
            self.watchdog,
            self.traffic,
            silent=lambda seconds: self.report(f"silent for {seconds:g}"),
            barren=lambda: self.report("barren"),
            complain=lambda complaints: self.report(complaints) if complaints != NOTHING else None,
            clock=self.timers.clock,
        )
        self.supervisor.opened(self.timers.call_later)

    def report(self, what: object) -> None:
        self.reported.append((self.timers.now - 1000, what))

    def until(self, second: float) -> None:
        self.timers.pass_to(1000 + second)

    def gets(self, *packets: bytes) -> None:
        """A frame comes, of these packets or a heartbeat."""
        self.traffic.last_bytes_at = self.timers.now
        self.supervisor.take([frame_of(list(packets)) if packets else b"\x00"])


def test_a_peer_is_alive_as_long_as_bytes_come_and_dead_after_so_much_silence() -> None:
    one = Supervised(raw_only=True, liveness_seconds=6)
    for second in range(3, 100, 3):
        one.until(second)
        one.gets()
    one.until(104.9)
    assert one.reported == []
    one.until(200)
    assert one.reported == [(105, "silent for 6")], "at the earliest moment, and once"
    assert not one.timers.waiting


def test_a_mode_that_is_not_kept_is_complained_of_until_it_is() -> None:
    one = Supervised(answer_seconds=10, liveness_seconds=1000)
    one.watchdog.told({INFY: Mode.FULL}, one.timers.now)
    for second in range(1, 40):
        one.until(second)
        one.gets(packet(INFY, Mode.QUOTE if second < 20 else Mode.FULL))
    assert one.reported == [(10.5, Complaints(wrong_mode=(INFY,)))]
    assert not one.watchdog.wrong_mode


def test_a_socket_that_serves_nothing_is_barren_and_no_longer_checked() -> None:
    one = Supervised(answer_seconds=10, stall_seconds=4, liveness_seconds=1000)
    one.watchdog.told({INFY: Mode.FULL}, one.timers.now)
    one.until(100)
    assert one.reported == [(4, Complaints(probe=INFY)), (10, Complaints(silent=(INFY,))), (14, "barren")]


def test_frames_wait_to_be_looked_into_together_and_a_closed_socket_leaves_no_timer() -> None:
    one = Supervised()
    one.gets(packet(INFY, Mode.LTP))
    assert one.watchdog.packets == 0
    one.supervisor.look()
    assert one.watchdog.packets == 1
    for _ in range(LOOK_FRAMES):
        one.gets(packet(INFY, Mode.LTP))
    assert one.watchdog.packets == 1 + LOOK_FRAMES
    assert len(one.timers.waiting) == 2
    one.supervisor.stop()
    one.supervisor.stop()
    assert not one.timers.waiting


def test_when_all_is_well_frames_are_counted_as_they_come_and_not_kept() -> None:
    one = Supervised(answer_seconds=10, liveness_seconds=1000)
    one.watchdog.told({INFY: Mode.LTP}, one.timers.now)
    one.until(21)
    one.gets(packet(INFY, Mode.LTP))
    one.supervisor.look()
    frame = frame_of(3 * [packet(INFY, Mode.LTP)])
    kept = sys.getrefcount(frame)
    one.supervisor.take([frame, frame])
    assert one.watchdog.packets == 7
    assert sys.getrefcount(frame) == kept
    one.gets()
    assert one.watchdog.packets == 7, "a heartbeat"
