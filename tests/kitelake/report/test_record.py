"""The record of a day: what is written is read, and what is no record is said to be none."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.wire import Mode
from kitelake.report import DayRecord, ExchangeRecord, ListRecord, PartRecord, read_record, record_path, write_record
from storage.clock import IST
from storage.errors import DataFolderError
from storage.market.hours import Hours, hours_of
from storage.market.sessions import InstrumentKind, Phase
from tests.support.reports import DAY, INFY, listed, record

TEXT = st.text(st.characters(codec="utf-8"))
MOMENTS = st.datetimes(timezones=st.just(IST))
PARTS = st.builds(
    PartRecord,
    exchange=TEXT,
    hours=st.lists(st.tuples(MOMENTS, MOMENTS)).map(tuple),
    tokens=st.lists(st.integers(1, 2**32 - 1)).map(tuple),
)


def hours_between(minutes: list[int]) -> Hours:
    return hours_of("-".join(f"{minute // 60:02}:{minute % 60:02}" for minute in sorted(minutes)))


OF_A_DAY = st.lists(st.integers(0, 24 * 60), min_size=2, max_size=2, unique=True).map(hours_between)
EXCHANGES = st.builds(
    ExchangeRecord,
    why=TEXT,
    sure=st.booleans(),
    sessions=st.dictionaries(
        st.sampled_from(InstrumentKind), st.lists(st.tuples(st.sampled_from(Phase), OF_A_DAY), max_size=3).map(tuple)
    ),
)
LISTS = st.builds(
    ListRecord,
    name=TEXT,
    mode=st.sampled_from(Mode),
    parts=st.lists(PARTS, max_size=3).map(tuple),
    left_out=st.lists(st.integers(1, 2**32 - 1)).map(tuple),
    problems=st.lists(TEXT).map(tuple),
)
RECORDS = st.builds(
    DayRecord,
    date=st.dates(),
    lists=st.lists(LISTS, max_size=3).map(tuple),
    exchanges=st.dictionaries(TEXT, EXCHANGES, max_size=3),
    accounts=st.dictionaries(TEXT, st.none() | TEXT, max_size=3),
    reported_at=st.none() | MOMENTS,
)


class TestRecord:
    @given(RECORDS)
    def test_comes_back_from_its_file(self, tmp_path_factory: pytest.TempPathFactory, record: DayRecord) -> None:
        data = tmp_path_factory.getbasetemp() / "records"
        write_record(data, record)
        assert read_record(data, record.date) == record

    def test_lies_beside_the_tables_and_is_replaced_as_a_whole(self, tmp_path: Path) -> None:
        assert read_record(tmp_path, DAY) is None
        write_record(tmp_path, record())
        write_record(tmp_path, record(listed("NSE", INFY)))
        assert record_path(tmp_path, DAY) == tmp_path / "days" / "2025-11-24.json"
        assert [path.name for path in (tmp_path / "days").iterdir()] == ["2025-11-24.json"]
        document = json.loads(record_path(tmp_path, DAY).read_text())
        (part,) = document["lists"][0]["parts"]
        assert part["hours"] == [["2025-11-24T09:00:00+05:30", "2025-11-24T15:30:00+05:30"]]

    def test_from_before_exchanges_had_hours_of_their_own_is_read(self, tmp_path: Path) -> None:
        hours = ["2025-11-24T09:00:00+05:30", "2025-11-24T15:30:00+05:30"]
        one = {"name": "NSE", "mode": "ltp", "meaning": "", "hours": [hours], "tokens": [INFY], "problems": []}
        document: dict[str, Any] = {"date": DAY.isoformat(), "lists": [one], "accounts": {}, "reported_at": None}
        path = record_path(tmp_path, DAY)
        path.parent.mkdir()
        path.write_text(json.dumps(document))
        assert read_record(tmp_path, DAY) == record(listed("NSE", INFY))

    @pytest.mark.parametrize("text", ["", "{}", '{"date": "2025-11-24", "weather": 1}', '{"date": "2025-11-25"}'])
    def test_that_is_damaged_is_an_error(self, tmp_path: Path, text: str) -> None:
        path = record_path(tmp_path, DAY)
        path.parent.mkdir()
        path.write_text(text)
        with pytest.raises(DataFolderError, match=r"2025-11-24\.json: got .*, expected "):
            read_record(tmp_path, DAY)

    def test_that_cannot_be_written_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "days").write_text("a file")
        with pytest.raises(DataFolderError, match="cannot be written"):
            write_record(tmp_path, record())
