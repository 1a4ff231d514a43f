"""When the journal counts as advancing."""

from kitelake.telemetry.liveness import JournalPulse


def test_records_that_wait_unwritten_stop_the_pulse() -> None:
    pulse = JournalPulse(patience_seconds=30)
    assert pulse.look(appended=10, written=10, open_connections=1, now_monotonic=0)
    assert pulse.look(appended=20, written=10, open_connections=1, now_monotonic=10)
    assert pulse.look(appended=30, written=10, open_connections=1, now_monotonic=39.9)
    assert not pulse.look(appended=40, written=10, open_connections=1, now_monotonic=40)
    assert not pulse.look(appended=40, written=10, open_connections=0, now_monotonic=50)
    assert pulse.look(appended=50, written=41, open_connections=1, now_monotonic=60), "written, though not all"
    assert pulse.look(appended=50, written=41, open_connections=0, now_monotonic=89.9)
    assert not pulse.look(appended=50, written=41, open_connections=0, now_monotonic=90)


def test_open_connections_that_bring_nothing_stop_the_pulse() -> None:
    pulse = JournalPulse(patience_seconds=30)
    assert pulse.look(appended=10, written=10, open_connections=3, now_monotonic=100)
    assert pulse.look(appended=10, written=10, open_connections=3, now_monotonic=129.9)
    assert not pulse.look(appended=10, written=10, open_connections=3, now_monotonic=130)
    assert pulse.look(appended=11, written=11, open_connections=3, now_monotonic=131)


def test_an_idle_night_is_no_standstill_and_its_length_does_not_count_afterwards() -> None:
    pulse = JournalPulse(patience_seconds=30)
    for hour in range(17):
        assert pulse.look(appended=10, written=10, open_connections=0, now_monotonic=3600.0 * hour)
    assert pulse.look(appended=10, written=10, open_connections=1, now_monotonic=61_200), "opened just now"
    assert pulse.look(appended=11, written=10, open_connections=1, now_monotonic=61_203), "came just now"
    assert pulse.look(appended=11, written=11, open_connections=1, now_monotonic=61_206)
    assert not pulse.look(appended=11, written=11, open_connections=1, now_monotonic=61_233)
