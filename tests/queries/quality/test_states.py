"""What became of an instrument at each moment, over journals written at the times that a test says."""

import datetime as dt
from pathlib import Path

import pytest

import kitelake
from storage.layout import DataLayout
from storage.tables import write_instruments
from tests.support.quotes import NIFTY, QuoteStream, live, lost
from tests.support.reports import DAY, INFY, TCS, at, commit, finish, instruments

pytestmark = pytest.mark.slow

YESTERDAY = DAY - dt.timedelta(days=1)

Stretch = tuple[str, str, str]


def stretches(data: Path, symbol: str | int = "NSE:INFY", **options: float) -> list[Stretch]:
    with kitelake.open(data) as lake:
        rows = lake.intervals(DAY, symbol, **options).arrow().to_pylist()
    return [(f"{row['start']:%H:%M:%S}", f"{row['stop']:%H:%M:%S}", row["state"]) for row in rows]


BEFORE = [
    ("09:00:00", "09:00:02", "not subscribed"),
    ("09:00:02", "09:15:00", "not yet served"),
]


def between(begin: str, end: str, *found: Stretch) -> list[Stretch]:
    """What lies within two times, of the rest of a day that is served."""
    return [*BEFORE, ("09:15:00", begin, "served"), *found, (end, "15:30:00", "served")]


class TestStates:
    def test_a_day_on_which_all_went_well(self, tmp_path: Path, day: QuoteStream) -> None:
        live(day, "09:15:00", "15:30:00")
        finish(day, at("15:30:00"))
        assert stretches(tmp_path) == [*BEFORE, ("09:15:00", "15:30:00", "served")]

    @pytest.mark.parametrize("committed", [False, True])
    def test_a_lost_connection_then_nothing_then_the_cached_packet(
        self, tmp_path: Path, day: QuoteStream, committed: bool
    ) -> None:
        live(day, "09:15:00", "10:00:00")
        lost(day, "10:00:10", "10:01:00")
        day.full(at("10:01:02"), INFY, at("10:00:55"))
        live(day, "10:01:10", "15:30:00")
        finish(day, at("15:30:00"))
        if committed:
            commit(tmp_path)
        assert stretches(tmp_path) == between(
            "10:00:10",
            "10:01:10",
            ("10:00:10", "10:01:00", "disconnected"),
            ("10:01:00", "10:01:02", "not yet served"),
            ("10:01:02", "10:01:10", "cached packet only"),
        )

    def test_a_silent_peer_is_gone_since_its_last_bytes(self, tmp_path: Path, day: QuoteStream) -> None:
        live(day, "09:15:00", "10:00:00")
        day.event(at("10:00:20"), "silent", silent_seconds=15.0)
        lost(day, "10:00:20", "10:00:30")
        live(day, "10:00:31", "15:30:00")
        finish(day, at("15:30:00"))
        assert stretches(tmp_path) == between(
            "10:00:05",
            "10:00:31",
            ("10:00:05", "10:00:30", "disconnected"),
            ("10:00:30", "10:00:31", "not yet served"),
        )

    def test_silence_is_from_a_packet_to_the_next(self, tmp_path: Path, day: QuoteStream) -> None:
        live(day, "09:15:00", "10:00:00")
        live(day, "10:01:00", "10:01:00")  # 60 seconds are not too long
        live(day, "10:02:01", "10:02:01")
        live(day, "10:04:00", "15:30:00")
        finish(day, at("15:30:00"))
        assert stretches(tmp_path) == between(
            "10:01:00", "10:04:00", ("10:01:00", "10:02:01", "silent"), ("10:02:01", "10:04:00", "silent")
        )
        assert stretches(tmp_path, silent=100) == between("10:02:01", "10:04:00", ("10:02:01", "10:04:00", "silent"))

    def test_what_is_not_wanted_any_more_is_not_subscribed(self, tmp_path: Path, day: QuoteStream) -> None:
        live(day, "09:15:00", "10:00:00")
        day.event(at("10:00:00"), "unsubscribed", tokens=[INFY])
        day.event(at("11:00:00"), "subscribed", tokens=[INFY])
        live(day, "11:00:01", "12:00:00")
        day.event(at("12:00:00"), "closed", by="us", clean=True)  # on purpose
        day.event(at("13:00:00"), "connected", opening=2)
        day.event(at("13:00:00"), "subscribed", tokens=[INFY])
        live(day, "13:00:01", "15:30:00")
        finish(day, at("15:30:00"))
        assert stretches(tmp_path) == [
            *BEFORE,
            ("09:15:00", "10:00:00", "served"),
            ("10:00:00", "11:00:00", "not subscribed"),
            ("11:00:00", "11:00:01", "not yet served"),
            ("11:00:01", "12:00:00", "served"),
            ("12:00:00", "13:00:00", "not subscribed"),
            ("13:00:00", "13:00:01", "not yet served"),
            ("13:00:01", "15:30:00", "served"),
        ]

    def test_what_is_not_asked_for_again_was_wanted_up_to_the_opening(self, tmp_path: Path, day: QuoteStream) -> None:
        live(day, "09:15:00", "10:00:00")
        lost(day, "10:00:00", "10:05:00", tokens=(TCS,))
        finish(day, at("15:30:00"))
        assert stretches(tmp_path) == [
            *BEFORE,
            ("09:15:00", "10:00:00", "served"),
            ("10:00:00", "10:05:00", "disconnected"),
            ("10:05:00", "15:30:00", "not subscribed"),
        ]

    def test_frames_for_which_there_was_no_room_are_as_good_as_not_sent(self, tmp_path: Path, day: QuoteStream) -> None:
        live(day, "09:15:00", "10:00:00")
        live(day, "10:00:30", "15:30:00")
        day.frames_lost(at("15:30:00"), at("10:00:05"), at("10:00:25"))
        finish(day, at("15:30:00"))
        assert stretches(tmp_path) == between(
            "10:00:05",
            "10:00:30",
            ("10:00:05", "10:00:25", "disconnected"),
            ("10:00:25", "10:00:30", "not yet served"),
        )

    def test_what_was_asked_for_again_is_not_served_before_something_new_comes(
        self, tmp_path: Path, day: QuoteStream
    ) -> None:
        live(day, "09:15:00", "10:00:00")
        day.event(at("10:02:00"), "asked again", silent=[INFY], wrong_mode=[], unwanted=[])
        day.event(at("10:02:00"), "unsubscribed", tokens=[INFY])
        day.event(at("10:02:00"), "subscribed", tokens=[INFY])
        day.full(at("10:02:01"), INFY, at("10:00:00"))
        live(day, "10:10:00", "15:30:00")
        finish(day, at("15:30:00"))
        assert stretches(tmp_path) == between(
            "10:00:00",
            "10:10:00",
            ("10:00:00", "10:02:00", "silent"),
            ("10:02:00", "10:02:01", "not yet served"),
            ("10:02:01", "10:10:00", "cached packet only"),
        )


class TestRuns:
    @pytest.mark.parametrize("stopped", [False, True])
    def test_a_restart_is_a_lost_connection(self, tmp_path: Path, day: QuoteStream, stopped: bool) -> None:
        live(day, "09:15:00", "10:00:00")
        if stopped:
            finish(day, at("10:00:00"))
        day.journal.close()
        with QuoteStream(tmp_path, at("10:05:00")) as second:
            second.event(at("10:05:01"), "connected", opening=1)
            second.event(at("10:05:02"), "subscribed", tokens=[INFY])
            live(second, "10:05:03", "15:30:00")
            finish(second, at("15:30:00"))
        assert stretches(tmp_path) == between(
            "10:00:00",
            "10:05:03",
            ("10:00:00", "10:05:02", "disconnected"),
            ("10:05:02", "10:05:03", "not yet served"),
        )

    @pytest.mark.parametrize(("stopped", "state"), [(False, "disconnected"), (True, "not subscribed")])
    def test_the_end_of_a_day_by_its_last_run(
        self, tmp_path: Path, day: QuoteStream, stopped: bool, state: str
    ) -> None:
        live(day, "09:15:00", "10:00:00")
        if stopped:
            finish(day, at("10:00:00"))
        day.journal.close()
        assert stretches(tmp_path) == [*BEFORE, ("09:15:00", "10:00:00", "served"), ("10:00:00", "15:30:00", state)]

    def test_a_killed_run_whose_instrument_the_next_does_not_want(self, tmp_path: Path, day: QuoteStream) -> None:
        live(day, "09:15:00", "10:00:00")
        day.journal.close()
        with QuoteStream(tmp_path, at("10:05:00")) as second:
            second.event(at("10:05:01"), "connected", opening=1)
            finish(second, at("15:30:00"))
        assert stretches(tmp_path) == [
            *BEFORE,
            ("09:15:00", "10:00:00", "served"),
            ("10:00:00", "10:05:00", "disconnected"),
            ("10:05:00", "15:30:00", "not subscribed"),
        ]

    def test_a_late_start_counts_from_the_opening_of_the_exchange(self, tmp_path: Path) -> None:
        write_instruments(DataLayout(tmp_path), DAY, instruments((INFY, "INFY")))
        with QuoteStream(tmp_path, at("11:00:00")) as stream:
            stream.event(at("11:00:01"), "connected", opening=1)
            stream.event(at("11:00:02"), "subscribed", tokens=[INFY])
            live(stream, "11:00:03", "15:40:00")
            finish(stream, at("15:40:00"))
        assert stretches(tmp_path) == [
            ("09:15:00", "11:00:02", "not subscribed"),
            ("11:00:02", "11:00:03", "not yet served"),
            ("11:00:03", "15:40:00", "served"),
        ]

    def test_a_run_from_the_day_before_brings_what_it_was_asked_for_then(self, tmp_path: Path) -> None:
        write_instruments(DataLayout(tmp_path), DAY, instruments((INFY, "INFY"), (TCS, "TCS")))
        with QuoteStream(tmp_path, at("20:00:00", YESTERDAY)) as stream:
            for connection in (1, 2):
                stream.event(at("20:00:01", YESTERDAY), "connected", connection, opening=1)
            stream.event(at("20:00:02", YESTERDAY), "subscribed", tokens=[INFY])
            stream.event(at("20:00:02", YESTERDAY), "subscribed", 2, tokens=[TCS])
            stream.event(at("20:00:03", YESTERDAY), "closed", 2, by="peer", reason="network")
            live(stream, "00:00:00", "15:30:00")
            stream.event(at("09:30:00"), "connected", 2, opening=2)
            stream.event(at("09:30:00"), "subscribed", 2, tokens=[TCS])
            finish(stream, at("15:30:00"))
        assert stretches(tmp_path) == [("00:00:00", "15:30:00", "served")]
        assert stretches(tmp_path, "NSE:TCS") == [
            ("00:00:00", "09:30:00", "disconnected"),
            ("09:30:00", "15:30:00", "not yet served"),
        ]


class TestSources:
    def test_several_connections_count_together(self, tmp_path: Path, day: QuoteStream) -> None:
        """One loses its connection at 10:00, the other at 11:00, and from 12:00:10 to 12:01:00 both are away."""
        day.event(at("09:00:01"), "connected", 2, opening=1)
        day.event(at("09:00:02"), "subscribed", 2, tokens=[INFY])
        for connection in (1, 2):
            live(day, "09:15:00", "15:30:00", connection=connection)
        lost(day, "10:00:00", "10:30:00")
        lost(day, "11:00:00", "11:30:00", connection=2)
        lost(day, "12:00:00", "12:01:00")
        lost(day, "12:00:10", "12:05:00", connection=2)
        finish(day, at("15:30:00"))
        assert ("10:00:00", "10:30:00", "disconnected") not in stretches(tmp_path)
        away = [each for each in stretches(tmp_path) if each[2] != "served"][len(BEFORE) :]
        # What comes in the second of the subscription may be the cached packet.
        assert away == [("12:00:10", "12:01:00", "disconnected"), ("12:01:00", "12:01:30", "cached packet only")]

    def test_packets_of_several_connections_break_a_silence(self, tmp_path: Path, day: QuoteStream) -> None:
        day.event(at("09:00:01"), "connected", 2, opening=1)
        day.event(at("09:00:02"), "subscribed", 2, tokens=[INFY])
        time = at("09:15:00")
        while time <= at("15:30:00"):  # each of them every 100 seconds
            day.full(time, INFY, time, connection=1 + int(time.timestamp()) // 50 % 2)
            time += dt.timedelta(seconds=50)
        finish(day, at("15:30:00"))
        assert [each for each in stretches(tmp_path) if each[2] == "silent"] == []

    def test_an_index_and_packets_that_say_no_time(self, tmp_path: Path, day: QuoteStream) -> None:
        """In ltp and quote mode the first packet after a subscription is the cached one."""
        day.event(at("09:10:00"), "subscribed", tokens=[NIFTY, TCS])
        for clock in ("09:10:01", "09:15:00", "09:15:30"):
            day.packet(at(clock), TCS, "ltp")
            day.packet(at(clock), NIFTY, "quote", price_change=1.0)
        finish(day, at("09:16:00"))
        for symbol in ("NSE:NIFTY 50", "NSE:TCS"):
            assert stretches(tmp_path, symbol)[:4] == [
                ("09:00:00", "09:10:00", "not subscribed"),
                ("09:10:00", "09:10:01", "not yet served"),
                ("09:10:01", "09:15:00", "cached packet only"),
                ("09:15:00", "09:16:00", "served"),
            ]

    def test_packets_for_which_nothing_asked_count_from_the_first(self, tmp_path: Path, day: QuoteStream) -> None:
        day.ltp(at("09:15:00"), TCS)
        day.ltp(at("09:15:10"), TCS)
        day.event(at("09:15:20"), "closed", by="peer", reason="network")
        day.event(at("09:15:40"), "connected", opening=2)
        finish(day, at("09:16:00"))
        assert stretches(tmp_path, "NSE:TCS")[1:-1] == [
            ("09:15:00", "09:15:10", "cached packet only"),
            ("09:15:10", "09:15:20", "served"),
            ("09:15:20", "09:15:40", "disconnected"),
            ("09:15:40", "09:16:00", "not yet served"),
        ]
