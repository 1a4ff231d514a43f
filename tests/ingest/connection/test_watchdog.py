"""The watch: what was asked for and does not come is noticed, asked for again, and forgiven when it comes."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ingest.connection.watchdog import LONGEST_SECONDS, Complaints, Watch
from ingest.settings import WatchSettings
from ingest.wire import Mode
from tests.support.packets import damaged_frames, frame_of, frames

SETTINGS = WatchSettings(answer_seconds=10, stall_seconds=60)
NOTHING = Complaints()
LENGTH = {Mode.LTP: 8, Mode.QUOTE: 44, Mode.FULL: 184}
INFY, RELIANCE, NIFTY = 408065, 738561, 256265


def packet(token: int, mode: Mode) -> bytes:
    length = {Mode.LTP: 8, Mode.QUOTE: 28, Mode.FULL: 32}[mode] if token & 0xFF == 9 else LENGTH[mode]
    return token.to_bytes(4, "big") + bytes(length - 4)


def told(instruments: dict[int, Mode], settings: WatchSettings = SETTINGS) -> Watch:
    watch = Watch(settings)
    watch.opened(0.0)
    watch.told(instruments, 0.0)
    return watch


def sees(watch: Watch, now: float, *packets: bytes) -> None:
    watch.frames([frame_of(list(packets)), b"\x00"], now)


def test_all_is_well_when_everything_comes_as_asked_for() -> None:
    watch = told({INFY: Mode.FULL, RELIANCE: Mode.LTP, NIFTY: Mode.QUOTE})
    for now in range(0, 200, 5):
        sees(watch, now, packet(INFY, Mode.FULL), packet(RELIANCE, Mode.LTP), packet(NIFTY, Mode.QUOTE))
        assert watch.complaints(float(now)) == NOTHING
    assert (watch.packets, watch.decode_failures, watch.asked_again) == (120, 0, 0)
    assert (watch.silent, watch.wrong_mode) == ((), ())


def test_a_silent_instrument_is_asked_for_anew_after_ever_longer_waits() -> None:
    watch = told({INFY: Mode.FULL, RELIANCE: Mode.FULL})
    asked = []
    for now in range(2230):
        sees(watch, now, packet(INFY, Mode.FULL))
        complaints = watch.complaints(float(now))
        assert set(complaints.silent) <= {RELIANCE}
        if complaints.silent:
            asked.append(now)
    assert asked == [10, 30, 70, 150, 310, 630, 1270]
    assert watch.silent == (RELIANCE,)
    assert watch.asked_again == len(asked)
    sees(watch, 2230.0, packet(RELIANCE, Mode.FULL))
    assert not watch.silent


def test_a_wrong_mode_is_noticed_after_a_while_and_forgiven_when_it_is_right() -> None:
    watch = told({INFY: Mode.FULL, RELIANCE: Mode.LTP})
    sees(watch, 0.1, packet(INFY, Mode.QUOTE), packet(RELIANCE, Mode.QUOTE))
    sees(watch, 0.2, packet(RELIANCE, Mode.LTP))
    assert watch.complaints(9.0) == NOTHING, "packets that were on their way do not count"
    sees(watch, 10.0, packet(INFY, Mode.FULL), packet(INFY, Mode.QUOTE))
    assert watch.wrong_mode == (INFY,)
    assert watch.complaints(10.0) == Complaints(wrong_mode=(INFY,))
    assert watch.complaints(11.0) == NOTHING, "told once until the next wait is over"
    sees(watch, 12.0, packet(INFY, Mode.FULL))
    assert not watch.wrong_mode
    assert watch.complaints(100.0).wrong_mode == ()


def test_what_was_given_up_and_still_comes_is_asked_to_stop() -> None:
    watch = told({INFY: Mode.LTP, RELIANCE: Mode.LTP})
    watch.told({INFY: Mode.LTP}, 1.0)
    sees(watch, 2.0, packet(INFY, Mode.LTP), packet(RELIANCE, Mode.LTP))
    assert watch.complaints(2.0) == NOTHING, "packets that were on their way do not count"
    sees(watch, 11.0, packet(INFY, Mode.LTP), packet(RELIANCE, Mode.LTP), packet(RELIANCE, Mode.LTP))
    assert watch.complaints(11.0) == Complaints(unwanted=(RELIANCE,))
    assert watch.complaints(11.0) == NOTHING


def test_changes_leave_what_is_known_of_the_others() -> None:
    watch = told({INFY: Mode.LTP, RELIANCE: Mode.LTP})
    sees(watch, 1.0, packet(INFY, Mode.LTP), packet(RELIANCE, Mode.LTP))
    watch.told({INFY: Mode.LTP, RELIANCE: Mode.FULL, NIFTY: Mode.LTP}, 5.0)
    assert watch.complaints(14.0) == NOTHING
    assert watch.complaints(15.0).silent == (NIFTY, RELIANCE)


def test_a_socket_with_heartbeats_only_is_tried_with_one_instrument_and_then_given_up() -> None:
    watch = told({INFY: Mode.LTP, RELIANCE: Mode.LTP})
    sees(watch, 1.0, packet(INFY, Mode.LTP), packet(RELIANCE, Mode.LTP))
    watch.frames([b"\x00"], 60.0)
    assert watch.complaints(60.9) == NOTHING
    assert watch.complaints(61.0) == Complaints(probe=INFY)
    assert watch.complaints(70.9) == NOTHING
    assert watch.complaints(71.0) == Complaints(barren=True)


def test_after_hours_the_answers_alone_make_the_waits_longer_and_ticks_make_them_short_again() -> None:
    watch = told({INFY: Mode.LTP})
    sees(watch, 0.0, packet(INFY, Mode.LTP))
    probes = []
    for now in range(4000):
        complaints = watch.complaints(float(now))
        assert not complaints.barren
        if complaints.probe:
            probes.append(now)
            sees(watch, now + 0.5, packet(INFY, Mode.LTP))
    waits = [after - before for before, after in itertools.pairwise([0, *probes])]
    assert waits[:4] == [60, 121, 241, 481]
    assert max(waits) <= LONGEST_SECONDS + 1
    sees(watch, 4000.0, packet(INFY, Mode.LTP), packet(INFY, Mode.LTP))
    assert watch.complaints(4060.0).probe == INFY


def test_a_new_socket_begins_with_nothing_and_one_without_instruments_is_left_alone() -> None:
    watch = told({INFY: Mode.LTP})
    assert watch.complaints(10.0).silent == (INFY,)
    watch.opened(11.0)
    assert not watch.silent
    assert watch.complaints(1000.0) == NOTHING
    watch.told({INFY: Mode.LTP}, 1000.0)
    assert watch.complaints(1009.0) == NOTHING


@given(st.lists(st.one_of(frames(), damaged_frames(), st.binary(max_size=40)), max_size=20))
def test_whatever_comes_is_counted_and_nothing_raises(some: list[bytes]) -> None:
    from ingest.wire import decode_frames_with_report

    watch = told({INFY: Mode.FULL})
    for one in some:
        watch.frames([one], 20.0)
    watch.complaints(30.0)
    table, report = decode_frames_with_report(some)
    assert (watch.packets, watch.decode_failures) == (table.num_rows, len(report.quarantined))
