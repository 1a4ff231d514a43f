"""The watchdog: what was asked for and does not come is noticed, asked for again, and forgiven when it comes."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ingest.connection.watchdog import LONGEST_SECONDS, Complaints, StreamWatchdog
from ingest.settings import WatchdogSettings
from ingest.wire import Mode
from tests.support.packets import damaged_frames, frame_of, frames

SETTINGS = WatchdogSettings(answer_seconds=10, stall_seconds=60)
NOTHING = Complaints()
LENGTH = {Mode.LTP: 8, Mode.QUOTE: 44, Mode.FULL: 184}
INFY, RELIANCE, NIFTY = 408065, 738561, 256265


def packet(token: int, mode: Mode) -> bytes:
    length = {Mode.LTP: 8, Mode.QUOTE: 28, Mode.FULL: 32}[mode] if token & 0xFF == 9 else LENGTH[mode]
    return token.to_bytes(4, "big") + bytes(length - 4)


def told(instruments: dict[int, Mode], settings: WatchdogSettings = SETTINGS) -> StreamWatchdog:
    watchdog = StreamWatchdog(settings)
    watchdog.opened(0.0)
    watchdog.told(instruments, 0.0)
    return watchdog


def sees(watchdog: StreamWatchdog, now: float, *packets: bytes) -> None:
    watchdog.frames([frame_of(list(packets)), b"\x00"], now)


def test_all_is_well_when_everything_comes_as_asked_for() -> None:
    watchdog = told({INFY: Mode.FULL, RELIANCE: Mode.LTP, NIFTY: Mode.QUOTE})
    for now in range(0, 200, 5):
        sees(watchdog, now, packet(INFY, Mode.FULL), packet(RELIANCE, Mode.LTP), packet(NIFTY, Mode.QUOTE))
        assert watchdog.complaints(float(now)) == NOTHING
    assert (watchdog.packets, watchdog.decode_failures, watchdog.asked_again) == (120, 0, 0)
    assert (watchdog.silent, watchdog.wrong_mode) == ((), ())


def test_a_silent_instrument_is_asked_for_anew_after_ever_longer_waits() -> None:
    watchdog = told({INFY: Mode.FULL, RELIANCE: Mode.FULL})
    asked = []
    for now in range(2230):
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
    watchdog = told({INFY: Mode.FULL, RELIANCE: Mode.LTP})
    sees(watchdog, 0.1, packet(INFY, Mode.QUOTE), packet(RELIANCE, Mode.QUOTE))
    sees(watchdog, 0.2, packet(RELIANCE, Mode.LTP))
    assert watchdog.complaints(9.0) == NOTHING, "packets that were on their way do not count"
    sees(watchdog, 10.0, packet(INFY, Mode.FULL), packet(INFY, Mode.QUOTE))
    assert watchdog.wrong_mode == (INFY,)
    assert watchdog.complaints(10.0) == Complaints(wrong_mode=(INFY,))
    assert watchdog.complaints(11.0) == NOTHING, "told once until the next wait is over"
    sees(watchdog, 12.0, packet(INFY, Mode.FULL))
    assert not watchdog.wrong_mode
    assert watchdog.complaints(100.0).wrong_mode == ()


def test_what_was_given_up_and_still_comes_is_asked_to_stop() -> None:
    watchdog = told({INFY: Mode.LTP, RELIANCE: Mode.LTP})
    watchdog.told({INFY: Mode.LTP}, 1.0)
    sees(watchdog, 2.0, packet(INFY, Mode.LTP), packet(RELIANCE, Mode.LTP))
    assert watchdog.complaints(2.0) == NOTHING, "packets that were on their way do not count"
    sees(watchdog, 11.0, packet(INFY, Mode.LTP), packet(RELIANCE, Mode.LTP), packet(RELIANCE, Mode.LTP))
    assert watchdog.complaints(11.0) == Complaints(unwanted=(RELIANCE,))
    assert watchdog.complaints(11.0) == NOTHING


def test_changes_leave_what_is_known_of_the_others() -> None:
    watchdog = told({INFY: Mode.LTP, RELIANCE: Mode.LTP})
    sees(watchdog, 1.0, packet(INFY, Mode.LTP), packet(RELIANCE, Mode.LTP))
    watchdog.told({INFY: Mode.LTP, RELIANCE: Mode.FULL, NIFTY: Mode.LTP}, 5.0)
    assert watchdog.complaints(14.0) == NOTHING
    assert watchdog.complaints(15.0).silent == (NIFTY, RELIANCE)


def test_a_socket_with_heartbeats_only_is_tried_with_one_instrument_and_then_given_up() -> None:
    watchdog = told({INFY: Mode.LTP, RELIANCE: Mode.LTP})
    sees(watchdog, 1.0, packet(INFY, Mode.LTP), packet(RELIANCE, Mode.LTP))
    watchdog.frames([b"\x00"], 60.0)
    assert watchdog.complaints(60.9) == NOTHING
    assert watchdog.complaints(61.0) == Complaints(probe=INFY)
    assert watchdog.complaints(70.9) == NOTHING
    assert watchdog.complaints(71.0) == Complaints(barren=True)


def test_after_hours_the_answers_alone_make_the_waits_longer_and_ticks_make_them_short_again() -> None:
    watchdog = told({INFY: Mode.LTP})
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


def test_a_new_socket_begins_with_nothing_and_one_without_instruments_is_left_alone() -> None:
    watchdog = told({INFY: Mode.LTP})
    assert watchdog.complaints(10.0).silent == (INFY,)
    watchdog.opened(11.0)
    assert not watchdog.silent
    assert watchdog.complaints(1000.0) == NOTHING
    watchdog.told({INFY: Mode.LTP}, 1000.0)
    assert watchdog.complaints(1009.0) == NOTHING


@given(st.lists(st.one_of(frames(), damaged_frames(), st.binary(max_size=40)), max_size=20))
def test_whatever_comes_is_counted_and_nothing_raises(some: list[bytes]) -> None:
    from ingest.wire import decode_frames_with_report

    watchdog = told({INFY: Mode.FULL})
    for one in some:
        watchdog.frames([one], 20.0)
    watchdog.complaints(30.0)
    table, report = decode_frames_with_report(some)
    assert (watchdog.packets, watchdog.decode_failures) == (table.num_rows, len(report.quarantined))
