"""What a list says, and by what it is told whether it says the same."""

import datetime as dt

import pytest
from pydantic.json_schema import JsonSchemaMode

from kitelake.config import Config
from kitelake.config.subscriptions import SubscriptionList

EXPIRY, FIRST = dt.date(2026, 11, 24), dt.date(2026, 11, 2)


@pytest.mark.parametrize("days", ["trading", "weekdays", "all", "MCX", [EXPIRY], [EXPIRY, FIRST]])
def test_the_days_of_a_list_are_written_as_they_are_read_without_a_warning(days: object) -> None:
    spec = SubscriptionList.model_validate({"name": "a", "instruments": ["NSE:INFY"], "days": days})
    again = SubscriptionList.model_validate_json(spec.model_dump_json())
    assert (again, again.digest) == (spec, spec.digest)


@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_other_programs_may_ask_for_the_schema(mode: JsonSchemaMode) -> None:
    assert "days" in Config.model_json_schema(mode=mode)["$defs"]["SubscriptionList"]["properties"]


def test_lists_of_other_days_are_told_apart() -> None:
    ways = ("trading", "NSE", [FIRST], [FIRST, EXPIRY])
    made = [SubscriptionList.model_validate({"name": "a", "instruments": ["NSE:INFY"], "days": days}) for days in ways]
    assert len({spec.digest for spec in made}) == len(ways)
