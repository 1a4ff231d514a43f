"""Faults as they are posted, and how long they stand."""

import pytest

from ingest.server.faults import Delay, FaultError, Ignore, Refuse, RefuseRest, StandingFaults, Switch, parse_fault


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "drop"},
        {"kind": "drop", "how": "close", "code": 1011, "account": "one", "connection": 2},
        {"kind": "silent", "seconds": 2.5, "deaf": True},
        {"kind": "garbage", "form": "trailing", "count": 3},
        {"kind": "truncated"},
        {"kind": "refuse", "status": 502, "times": 2},
        {"kind": "rest", "status": 429, "path": "/instruments"},
        {"kind": "delay", "by_seconds": 0.5},
        {"kind": "delay", "what": "frames", "by_seconds": 0.5, "seconds": 3},
        {"kind": "ignore", "every": 3},
        {"kind": "token", "account": "one", "access_token": "new"},
        {"kind": "order", "data": {"status": "COMPLETE"}},
        {"kind": "text", "type": "error", "data": "simulated"},
        {"kind": "pause"},
        {"kind": "resume"},
        {"kind": "clear"},
    ],
)
def test_faults_read(values: dict[str, object]) -> None:
    assert parse_fault(values).kind == values["kind"]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ([], "not a fault"),
        ({}, "'kind'"),
        ({"kind": "explode"}, "'drop'"),
        ({"kind": "drop", "how": "gently"}, "drop.how"),
        ({"kind": "drop", "hwo": "rst"}, "drop.hwo"),
        ({"kind": "refuse", "status": 200}, "refuse.status"),
        ({"kind": "refuse", "times": 0}, "refuse.times"),
        ({"kind": "delay"}, "delay.by_seconds"),
        ({"kind": "ignore", "every": 0}, "ignore.every"),
    ],
)
def test_what_is_no_fault_is_refused_by_name(values: object, complaint: str) -> None:
    with pytest.raises(FaultError) as error:
        parse_fault(values)
    assert complaint in str(error.value)


def test_a_complaint_does_not_repeat_the_value() -> None:
    with pytest.raises(FaultError) as error:
        parse_fault({"kind": "token", "account": 1, "access_token": ["hunter2"]})
    assert "token.access_token" in str(error.value)
    assert "hunter2" not in str(error.value)


def refuse(**fields: object) -> Refuse:
    fault = parse_fault({"kind": "refuse", **fields})
    assert isinstance(fault, Refuse)
    return fault


def test_refusals_stand_once_unless_told_otherwise() -> None:
    standing = StandingFaults()
    standing.add(refuse(), 0.0)
    assert standing.take(Refuse, "one", 1.0) == refuse()
    assert standing.take(Refuse, "one", 1.0) is None


def test_faults_stand_for_so_many_times() -> None:
    standing = StandingFaults()
    standing.add(refuse(status=429, times=2), 0.0)
    standing.add(refuse(status=502), 0.0)
    assert standing.take(Refuse, None, 0.0) == refuse(status=429, times=2)
    assert standing.take(Refuse, None, 0.0) == refuse(status=429, times=2)
    assert standing.take(Refuse, None, 0.0) == refuse(status=502)
    assert standing.take(Refuse, None, 0.0) is None


def test_faults_stand_for_so_long() -> None:
    standing = StandingFaults()
    standing.add(refuse(seconds=5), 100.0)
    assert standing.take(Refuse, "one", 104.9) is not None
    assert standing.take(Refuse, "one", 104.9) is not None
    assert standing.take(Refuse, "one", 105.0) is None


def test_faults_are_about_whom_they_say() -> None:
    standing = StandingFaults()
    standing.add(refuse(account="one"), 0.0)
    rest = parse_fault({"kind": "rest", "path": "/instruments", "times": 5})
    assert isinstance(rest, RefuseRest)
    standing.add(rest, 0.0)
    assert standing.take(Refuse, "two", 0.0) is None
    assert standing.take(Refuse, None, 0.0) is None
    assert standing.take(Refuse, "one", 0.0) is not None
    assert standing.take(RefuseRest, None, 0.0, lambda fault: "/user".startswith(fault.path)) is None
    assert standing.take(RefuseRest, None, 0.0, lambda fault: "/instruments/NSE".startswith(fault.path)) == rest


def test_others_stand_until_cleared() -> None:
    standing = StandingFaults()
    for values in ({"kind": "ignore", "every": 2}, {"kind": "delay", "by_seconds": 1}):
        fault = parse_fault(values)
        assert isinstance(fault, Ignore | Delay)
        standing.add(fault, 0.0)
    for _ in range(3):
        assert standing.take(Ignore, "one", 1e9) is not None
        assert standing.take(Delay, "one", 1e9) is not None
    standing.clear()
    assert standing.take(Ignore, "one", 1e9) is None


def test_plain_orders_take_no_particulars() -> None:
    assert parse_fault({"kind": "pause"}) == Switch(kind="pause")
    with pytest.raises(FaultError, match=r"pause\.seconds"):
        parse_fault({"kind": "pause", "seconds": 3})
