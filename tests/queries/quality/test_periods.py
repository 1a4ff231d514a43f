"""Whatever happens to connections, intervals tile the day, and packets lie where they can."""

import datetime as dt
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kitelake
from tests.support.quotes import QuoteStream
from tests.support.reports import DAY, INFY, TCS, at
from tests.support.scaled import scaled

pytestmark = pytest.mark.slow

BEGIN = at("10:00:00")
STEPS = st.sampled_from(["open", "lose", "close", "ask", "drop", "tick", "tick", "tick"])
ENDS = st.sampled_from(["stopped", "killed", "goes on", "goes on", "goes on"])


class Script:
    """Two connections that come and go, and instruments that are asked for and dropped, over several runs."""

    def __init__(self, data: Path) -> None:
        self.time = BEGIN
        self.packets: dict[int, list[dt.datetime]] = {INFY: [], TCS: []}
        self._data = data
        self.begin_run()

    def begin_run(self) -> None:
        self.stream = QuoteStream(self._data, self.time)
        self._opened: set[int] = set()
        self._held: dict[int, set[int]] = {1: set(), 2: set()}

    def take(self, step: str, connection: int, token: int, ago: int) -> None:
        """A step, if it can be."""
        held = self._held[connection]
        if step == "open" and connection not in self._opened:
            self._opened.add(connection)
            self._event("connected", connection, opening=1)
            if held:
                self._event("subscribed", connection, tokens=sorted(held))
        elif connection not in self._opened:
            return
        elif step == "lose":
            self._opened.discard(connection)
            self._event("closed", connection, by="peer", reason="network")
        elif step == "close":
            self._opened.discard(connection)
            held.clear()
            self._event("closed", connection, by="us", clean=True)
        elif step == "ask":
            held.add(token)
            self._event("subscribed", connection, tokens=[token])
        elif step == "drop" and token in held:
            held.discard(token)
            self._event("unsubscribed", connection, tokens=[token])
        elif step == "tick" and token in held:
            self.stream.full(self.time, token, self.time - dt.timedelta(seconds=ago), connection=connection)
            self.packets[token].append(self.time)

    def end_run(self, *, stopped: bool) -> None:
        if stopped:
            for connection in self._opened:
                self._event("closed", connection, by="us", clean=True)
            self.stream.service(self.time, "stopped")
        self.stream.journal.close()

    def _event(self, event: str, connection: int, **data: object) -> None:
        self.stream.event(self.time, event, connection, **data)


@settings(max_examples=scaled(5, 100))
@given(
    st.lists(st.tuples(STEPS, st.integers(1, 2), st.sampled_from([INFY, TCS]), st.integers(1, 90), ENDS), max_size=40)
)
def test_intervals_tile_the_day_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int, int, str]]
) -> None:
    data = tmp_path_factory.mktemp("tiles")
    script = Script(data)
    for step, connection, token, wait, end in steps:
        script.time += dt.timedelta(seconds=wait)
        script.take(step, connection, token, wait % 3)
        if end != "goes on":
            script.end_run(stopped=end == "stopped")
            script.time += dt.timedelta(seconds=wait)
            script.begin_run()
    script.end_run(stopped=True)

    with kitelake.open(data) as lake:
        rows = lake.intervals(DAY).arrow().to_pylist()
        totals = lake.coverage(DAY).arrow().to_pylist()
    for total in totals:
        own = [row for row in rows if row["instrument_token"] == total["instrument_token"]]
        packets = script.packets[total["instrument_token"]]
        assert [own[0]["start"], own[-1]["stop"]] == [BEGIN, script.time]
        assert all(one["stop"] == other["start"] for one, other in pairwise(own))
        seconds = sum(value for name, value in total.items() if name.endswith("_seconds"))
        assert seconds == (script.time - BEGIN).seconds
        assert total["packets"] == len(packets)
        for row in own:
            assert row["start"] < row["stop"]
            inside = [time for time in packets if row["start"] < time < row["stop"]]
            assert not inside or row["state"] in ("served", "cached packet only")
            assert row["state"] != "silent" or row["seconds"] > 60
    assert {row["instrument_token"] for row in rows} == {total["instrument_token"] for total in totals}
