"""The report as the service has it made: what keeps its process from starting is an error of the report."""

import datetime as dt
from pathlib import Path

import pytest

from kitelake.config import Config
from kitelake.errors import ReportError, StartError
from kitelake.processes import make_report_apart
from kitelake.processes.child import Child


async def test_one_whose_process_cannot_be_started_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def start(*_: object, **__: object) -> Child:
        raise StartError("no memory")

    monkeypatch.setattr(Child, "start", start)
    account = {"name": "one", "api_key": "key", "access_token": "token"}
    lists = [{"name": "a", "instruments": ["NSE:INFY"]}]
    config = Config.model_validate({"data": tmp_path, "accounts": [account], "subscriptions": lists})
    with pytest.raises(ReportError, match="of 2026-11-23 could not be made: no memory"):
        await make_report_apart(tmp_path, dt.date(2026, 11, 23), config)
