"""What the numbers mean: health in words, sums that leave out what is not known."""

from ingest.connection.session import State
from ingest.connection.stats import ConnectionStats, Health, ManagerStats, Status, health_of


def connection(number: int, state: State = State.OPEN, **changes: object) -> ConnectionStats:
    return ConnectionStats(account="one", connection=number, state=state, **{"instruments": 100, **changes})  # type: ignore[arg-type]


def test_nothing_to_stream_is_healthy() -> None:
    assert health_of([]) == Health(Status.HEALTHY, 100.0, ())
    assert health_of([connection(1, State.WAITING, instruments=0)]).status is Status.HEALTHY


def test_one_of_two_connections_down_is_degraded_and_both_are_critical() -> None:
    down = connection(2, State.UNAUTHORIZED, problem="the server answered 403 Forbidden")
    health = health_of([connection(1), down])
    assert health == Health(
        Status.DEGRADED, 50.0, ("one/2 is unauthorized, 100 instruments: the server answered 403 Forbidden",)
    )
    assert health_of([down]).status is Status.CRITICAL
    assert health_of([connection(1), connection(2)]) == Health(Status.HEALTHY, 100.0, ())


def test_a_few_that_never_traded_are_usual_and_many_are_not() -> None:
    assert health_of([connection(1, silent=5)]) == Health(Status.HEALTHY, 95.0, ())
    assert health_of([connection(1, silent=6)]).reasons == ("one/1: 6 of 100 instruments brought nothing yet",)
    assert health_of([connection(1, silent=100)]).status is Status.CRITICAL
    assert health_of([connection(1, wrong_mode=2)]).reasons == (
        "one/1: 2 instruments come in another mode than asked for",
    )


def test_past_failures_do_not_count() -> None:
    assert health_of([connection(1, decode_failures=99, reconnects=7, asked_again=3)]).status is Status.HEALTHY


def test_notes_are_reasons() -> None:
    assert health_of([connection(1)], ["3 instruments wait for room"]).status is Status.DEGRADED


def test_sums_by_account_and_in_total() -> None:
    stats = ManagerStats(
        [
            connection(1, frames=2, packets=5, last_frame_age_seconds=1.0, uptime_seconds=9.0, latency_p99_seconds=0.1),
            connection(2, State.WAITING, frames=3, packets=None, decode_failures=None, last_frame_age_seconds=4.0),
        ]
    )
    total = stats.total
    assert stats.accounts == {"one": total}
    assert (total.connections, total.connected, total.instruments, total.frames, total.packets) == (2, 1, 200, 5, 5)
    assert (total.last_frame_age_seconds, total.uptime_seconds, total.latency_p99_seconds) == (4.0, 9.0, 0.1)
    assert total.latency_p50_seconds is None
