"""What a selection may say: refused with what was expected, and shorthands."""

import datetime as dt
from typing import Any

import pytest
from pydantic import ValidationError

from ingest.instruments.criteria import Expiries, Select


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({}, "expected at least one of exchange, segment, types, names, underlying, symbols"),
        ({"types": "EQ", "expiries": 2}, "expected one of the types FUT, CE, PE where there are expiries"),
        ({"types": ["EQ", "FUT"], "strikes": {"min": 1}}, "expected one of the types CE, PE where there are strikes"),
        ({"lot_size": 65, "exclude": "x"}, "expected at least one of exchange"),
        ({"names": []}, "expected at least one of exchange"),
        ({"names": ["x", " "]}, "at least 1 character"),
        ({"names": [True]}, "valid string"),
        ({"types": ["OPT"]}, "'EQ', 'FUT', 'CE' or 'PE'"),
        ({"exchnge": "NSE"}, "Extra inputs"),
        ({"underlying": "NIFTY 50"}, "expected EXCHANGE:TRADINGSYMBOL, such as NSE:NIFTY 50"),
        ({"names": "x", "expiries": 0}, "expected how many of the nearest, 1 or more"),
        ({"names": "x", "expiries": True}, "expected how many of the nearest, 1 or more"),
        ({"names": "x", "expiries": {}}, "expected at least one of nearest, kind, before"),
        ({"names": "x", "expiries": {"nearest": True}}, "valid integer"),
        ({"names": "x", "expiries": {"before": 20261124}}, "expected a date such as 2026-11-24"),
        ({"names": "x", "expiries": {"before": dt.datetime(2026, 11, 24)}}, "expected a date"),  # noqa: DTZ001
        ({"names": "x", "expiries": {"before": "2026-11-31"}}, "expected a date"),
        ({"names": "x", "expiries": {"kind": "daily"}}, "'weekly' or 'monthly'"),
        ({"names": "x", "strikes": {}}, "expected at least one of around, min, max"),
        ({"names": "x", "strikes": {"count": 1}}, "expected at least one of around, min, max"),
        ({"names": "x", "strikes": {"count": 1, "min": 1}}, "expected `around` with `count` or `percent`"),
        ({"names": "x", "strikes": {"around": "spot"}}, "expected either `count` or `percent` with `around`"),
        ({"names": "x", "strikes": {"around": 5, "count": 1, "percent": 1}}, "expected either `count` or `percent`"),
        ({"names": "x", "strikes": {"around": "spott", "count": 1}}, "expected `spot` or a price in rupees"),
        ({"names": "x", "strikes": {"around": 0, "count": 1}}, "expected `spot` or a price in rupees"),
        ({"names": "x", "strikes": {"around": True, "count": 1}}, "expected `spot` or a price in rupees"),
        ({"names": "x", "strikes": {"around": float("nan"), "count": 1}}, "expected `spot` or a price in rupees"),
        ({"names": "x", "strikes": {"around": 5, "count": -1}}, "greater than or equal to 0"),
        ({"names": "x", "strikes": {"around": 5, "percent": 0}}, "greater than 0"),
        ({"names": "x", "strikes": {"min": float("inf")}}, "finite number"),
        ({"names": "x", "strikes": {"min": 2, "max": 1}}, "expected a `min` that is not greater than `max`"),
        ({"names": "x", "lot_size": {"min": 2, "max": 1}}, "expected a `min` that is not greater than `max`"),
        ({"names": "x", "lot_size": True}, "expected a number of units, or keys with values: min, max"),
        ({"names": "x", "lot_size": "x"}, "expected a number of units"),
    ],
)
def test_what_select_does_not_take(given_: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Select.model_validate(given_)
    assert message in str(caught.value)
    assert "input_value" not in str(caught.value)


def test_shorthands_are_what_they_stand_for() -> None:
    short = {"names": " nifty ", "types": "CE", "expiries": 2, "lot_size": 65, "strikes": {"around": 5, "percent": 2}}
    long = {
        "names": ["NIFTY"],
        "types": ["CE"],
        "expiries": {"nearest": 2},
        "lot_size": {"min": 65, "max": 65},
        "strikes": {"around": 5.0, "percent": 2.0},
    }
    assert Select.model_validate(short) == Select.model_validate(long)
    assert Select.model_validate(Select.model_validate(short).model_dump()) == Select.model_validate(long)
    json = '{"names": "NIFTY", "expiries": {"before": "2026-12-08"}}'
    assert Select.model_validate_json(json).expiries == Expiries(before=dt.date(2026, 12, 8))
