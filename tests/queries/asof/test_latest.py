"""The last rows as of moments: which they are, of which day, and what is read to find them."""

import datetime as dt
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kitelake
from kitelake.lake import Lake
from queries.errors import MomentError, QueryError, SymbolError
from queries.history import Near
from queries.lake import Result
from storage.clock import IST
from tests.support.asof_days import DEC, EVERY_DAY, INFY, MONDAY, REUSED, SUNDAY, TCS, TUESDAY, WEDNESDAY, fill
from tests.support.by_hand import Journal, commit, ist, list_instruments, quote
from tests.support.profile import scans
from tests.support.scaled import scaled


def prices(result: Result) -> list[tuple[str | None, float]]:
    rows = result.arrow().to_pylist()
    return [(row["symbol"], row["last_price"]) for row in rows]


class TestWhichRow:
    @pytest.mark.parametrize(
        ("moment", "price"),
        [
            (f"{MONDAY} 09:14:59.899999", None),
            (f"{MONDAY} 09:14:59.9", 1490),
            (f"{MONDAY} 09:15:00.999999", 1500),
            (f"{MONDAY} 09:15:02", 1503),
            (f"{MONDAY}T04:30:00Z", 1510),
            (f"{MONDAY} 23:59", 1510),
            (f"{TUESDAY} 00:00", None),
            (f"{TUESDAY} 09:15:59", None),
            (f"{WEDNESDAY} 12:00", None),
        ],
    )
    def test_the_last_one_received_by_then_on_that_day(self, lake: Lake, moment: str, price: float | None) -> None:
        expected = [] if price is None else [("NSE:INFY", price)]
        assert prices(lake.latest("NSE:INFY", moment)) == expected
        assert prices(lake.sql("from latest('NSE:INFY', moment := $moment)", {"moment": moment})) == expected

    @pytest.mark.parametrize("moment", [TUESDAY, dt.date(2026, 11, 24), f" {TUESDAY} "])
    def test_a_bare_date_is_the_whole_day(self, lake: Lake, moment: str | dt.date) -> None:
        found = lake.latest(DEC, moment).arrow().to_pylist()
        assert [row["last_price"] for row in found] == [26200]
        assert found[0]["moment"] == ist(f"{TUESDAY} 23:59:59.999999")
        assert lake.sql("from latest(moment := $moment)", {"moment": moment}).count() == 3

    def test_days_end_at_midnight(self, lake: Lake) -> None:
        moments = [f"{MONDAY} 23:59:59.999998", MONDAY, f"{TUESDAY} 00:00", f"{TUESDAY} 09:15"]
        assert [price for _, price in prices(lake.latest(DEC, moments))] == [26100, 26105, 26106, 26106]

    def test_all_instruments_if_none_is_named(self, lake: Lake) -> None:
        assert prices(lake.latest(moment=MONDAY)) == [
            ("NFO:NIFTY26DECFUT", 26105),
            ("NFO:NIFTY26N2324000CE", 50),
            ("NFO:NIFTY26NOVFUT", 26010),
            ("NSE:INFY", 1510),
            ("NSE:NIFTY 50", 26000),
            ("NSE:TCS", 3000),
        ]

    def test_as_of_now_if_no_moment_is_named(self, tmp_path: Path) -> None:
        now = dt.datetime.now(IST)
        with Journal(tmp_path, "20261124T034500-bbbbbb") as journal:
            journal.tick(now - dt.timedelta(days=1), INFY, 1)
            journal.tick(now - dt.timedelta(seconds=1), INFY, 2)
            journal.tick(now + dt.timedelta(hours=1), INFY, 3)
            journal.flush()
            if dt.datetime.now(IST).date() != (now - dt.timedelta(seconds=1)).date():
                pytest.skip("midnight")
            with kitelake.open(tmp_path) as lake:
                assert [price for _, price in prices(lake.latest())] == [2]
                assert [price for _, price in prices(lake.sql("from latest()"))] == [2]

    def test_what_a_packet_does_not_carry_is_null(self, lake: Lake) -> None:
        rows = {row["symbol"]: row for row in lake.latest(moment=MONDAY).arrow().to_pylist()}
        assert rows["NSE:TCS"]["volume_traded"] is None
        assert rows["NSE:NIFTY 50"]["bid_price_1"] is None
        assert rows["NSE:NIFTY 50"]["exchange_timestamp"] == ist(f"{MONDAY} 09:15")

    def test_what_was_cached_says_of_when_it_is(self, lake: Lake) -> None:
        (row,) = lake.latest("INFY", f"{MONDAY} 09:14:59.95").arrow().to_pylist()
        assert row["received_at"] == ist(f"{MONDAY} 09:14:59.9")
        assert row["exchange_timestamp"] == ist("2026-11-20 15:29:59")


class TestSeveralMoments:
    def test_rows_come_by_symbol_then_moment_whatever_their_order(self, lake: Lake) -> None:
        moments = [f"{TUESDAY} 10:00", f"{MONDAY} 09:15:01", f"{MONDAY} 11:00", f"{MONDAY} 09:15:01"]
        rows = lake.latest(["NSE:TCS", "NSE:INFY"], moments, ["symbol", "last_price"]).arrow().to_pylist()
        assert [(row["symbol"], row["moment"], row["last_price"]) for row in rows] == [
            ("NSE:INFY", ist(f"{MONDAY} 09:15:01"), 1500),
            ("NSE:INFY", ist(f"{MONDAY} 11:00"), 1510),
            ("NSE:INFY", ist(f"{TUESDAY} 10:00"), 1520),
            ("NSE:TCS", ist(f"{MONDAY} 09:15:01"), 3000),
            ("NSE:TCS", ist(f"{MONDAY} 11:00"), 3000),
        ]

    def test_a_token_that_was_given_out_again_is_what_it_was_on_each_day(self, lake: Lake) -> None:
        days = [MONDAY, TUESDAY]
        both = [("NFO:NIFTY26D0124500CE", 20), ("NFO:NIFTY26N2324000CE", 50)]
        assert prices(lake.latest(REUSED, days)) == both
        assert prices(lake.latest("NFO:NIFTY26N2324000CE", days)) == both[1:]
        assert prices(lake.latest("NFO:NIFTY*CE", days)) == both

    def test_near_is_the_nearest_future_of_each_day(self, lake: Lake) -> None:
        assert prices(lake.latest(Near("NIFTY"), [MONDAY, TUESDAY])) == [
            ("NFO:NIFTY26DECFUT", 26200),
            ("NFO:NIFTY26NOVFUT", 26010),
        ]


class TestMistakes:
    def test_an_unknown_symbol_is_an_error_that_says_what_is_near(self, lake: Lake) -> None:
        with pytest.raises(SymbolError, match=r"NSE:INFI: .* on 2026-11-23; near it: NSE:INFY"):
            lake.latest("NSE:INFI", MONDAY)

    def test_a_day_before_the_first_list_knows_tokens_alone(self, lake: Lake) -> None:
        with pytest.raises(SymbolError, match="there is no instrument list on 2026-11-22 or before"):
            lake.latest("NSE:INFY", SUNDAY)
        assert lake.latest(INFY, SUNDAY).count() == 0

    def test_a_day_without_rows_has_none(self, lake: Lake) -> None:
        assert lake.latest(moment=WEDNESDAY).count() == lake.latest("NSE:INFY", WEDNESDAY).count() == 0
        assert lake.latest(moment=[WEDNESDAY, SUNDAY]).count() == 0

    def test_what_is_no_time_or_no_column_is_an_error(self, lake: Lake) -> None:
        with pytest.raises(MomentError, match="moment: got 'noon'"):
            lake.latest(moment="noon")
        with pytest.raises(MomentError, match="moment: got an empty list"):
            lake.latest(moment=[])
        with pytest.raises(QueryError, match="columns: got 'price', expected some of date, exchange"):
            lake.latest(moment=MONDAY, columns=["last_price", "price"])


class TestMacro:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("symbol", "moment"),
        [
            ("NSE:INFY", f"{MONDAY} 09:15:01.5"),
            ("NSE:NIFTY 50", MONDAY),
            ("NFO:NIFTY26DECFUT", f"{TUESDAY} 09:15:00+05:30"),
        ],
    )
    def test_gives_the_rows_of_the_method(self, lake: Lake, symbol: str, moment: str) -> None:
        params = {"moment": moment}
        method = lake.latest(symbol, moment).arrow()
        assert len(method)
        assert lake.sql(f"from latest('{symbol}', moment := $moment)", params).arrow().equals(method)
        method = lake.latest(["NSE:INFY", "NFO:NIFTY26DECFUT"], moment).arrow()
        query = "from latest(['NSE:INFY', 'NFO:NIFTY26DECFUT'], moment := $moment)"
        assert lake.sql(query, params).arrow().equals(method)
        assert lake.sql("from latest(moment := $moment)", params).arrow().equals(lake.latest(moment=moment).arrow())

    def test_takes_times_of_sql(self, lake: Lake) -> None:
        for moment in (f"TIMESTAMP '{MONDAY} 09:15:01'", f"TIMESTAMPTZ '{MONDAY} 03:45:01+00'"):
            assert prices(lake.sql(f"from latest('NSE:INFY', moment := {moment})")) == [("NSE:INFY", 1500)]
        assert prices(lake.sql(f"from latest('NSE:INFY', moment := DATE '{MONDAY}')")) == [("NSE:INFY", 1510)]

    @pytest.mark.slow
    def test_are_in_a_database_of_the_users_own_too(self, lake: Lake) -> None:
        with lake.connect() as con:
            for which in ("latest", "book", "books"):
                (found,) = con.execute(f"select count(*) from {which}('NSE:INFY', moment := '{MONDAY}')").fetchall()
                assert found == (getattr(lake, which)("NSE:INFY", MONDAY).count(),)

    def test_keeps_to_the_state_of_its_query(self, folder: Path) -> None:
        with kitelake.open(folder) as lake:
            query = f"select count(*) as n from latest(moment := '{MONDAY}') join ticks using (stream, seq)"
            assert lake.sql(query).arrow().to_pylist() == [{"n": 6}]


def test_rows_that_are_not_committed_yet_are_seen(tmp_path: Path) -> None:
    with fill(tmp_path) as journal, kitelake.open(tmp_path) as lake:
        before = lake.latest("NSE:TCS", TUESDAY)
        journal.tick(f"{TUESDAY} 09:17", 2953217, 3100)
        journal.flush()
        assert prices(lake.latest("NSE:TCS", TUESDAY)) == [("NSE:TCS", 3100)]
        assert prices(lake.sql(f"from latest('NSE:TCS', moment := '{TUESDAY}')")) == [("NSE:TCS", 3100)]
        assert before.count() == 0


def test_of_all_instruments_those_that_first_ticked_since_the_last_call_are_seen(tmp_path: Path) -> None:
    """Also if that is long before the last minutes, where they are looked for first."""
    list_instruments(tmp_path, TUESDAY, *EVERY_DAY)
    stream = f"{TUESDAY.replace('-', '')}T0345"
    with Journal(tmp_path, f"{stream}00-aaaaaa") as journal:
        journal.tick(f"{TUESDAY} 15:00", INFY, 1500)
    commit(tmp_path)
    with kitelake.open(tmp_path) as lake:
        assert prices(lake.latest(moment=TUESDAY)) == [("NSE:INFY", 1500)]
        with Journal(tmp_path, f"{stream}01-aaaaaa") as journal:
            journal.tick(f"{TUESDAY} 09:20", DEC, 26100)
            journal.flush()
            both = [("NFO:NIFTY26DECFUT", 26100), ("NSE:INFY", 1500)]
            assert prices(lake.latest(moment=TUESDAY)) == both
        commit(tmp_path)
        assert prices(lake.latest(moment=TUESDAY)) == both
        with Journal(tmp_path, f"{stream}02-aaaaaa") as journal:
            journal.tick(f"{TUESDAY} 09:30", TCS, 3100)
        commit(tmp_path)
        assert prices(lake.latest(moment=TUESDAY)) == [*both, ("NSE:TCS", 3100)]
        assert prices(lake.latest(moment=MONDAY)) == []


@pytest.fixture(scope="module")
def hours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days of NSE and NFO, committed every hour from 9 to 14: each file is of one hour."""
    root = tmp_path_factory.mktemp("hours") / "data"
    for day in (MONDAY, TUESDAY):
        list_instruments(root, day, *EVERY_DAY)
        for hour in range(9, 15):
            with Journal(root, f"{day.replace('-', '')}T{hour:02d}0000-aaaaaa") as journal:
                for token in (INFY, DEC):
                    journal.tick(f"{day} {hour:02d}:30", token, hour, **quote(hour, hour + 1))
    commit(root)
    return root


class TestPruning:
    """Of 24 files, twelve of which are of the other exchange and twelve of the other day."""

    @pytest.mark.slow
    @pytest.mark.parametrize("which", ["latest", "book", "books"])
    def test_files_and_row_groups_are_skipped(self, hours: Path, tmp_path: Path, which: str) -> None:
        moment = f"{TUESDAY} 11:00"
        with kitelake.open(hours) as lake:
            for work in (
                lambda: getattr(lake, which)("NSE:INFY", moment).arrow(),
                lambda: lake.sql(f"from {which}('NSE:INFY', moment := '{moment}')").arrow(),
                lambda: lake.sql(f"from {which}(['NSE:INFY'], moment := '{moment}')").arrow(),
            ):
                keys, rows = scans(lake, work, tmp_path)
                assert keys == {"files": "6/24", "scanned": 2, "row_groups": 6}
                # The rows themselves are in one file, which the first pass told.
                assert rows == {"files": "6/24", "scanned": 1, "row_groups": 6}

    @pytest.mark.slow
    def test_all_instruments_are_of_the_day_and_of_the_time_before(self, hours: Path, tmp_path: Path) -> None:
        with kitelake.open(hours) as lake:
            by_macro = scans(lake, lambda: lake.sql(f"from latest(moment := '{TUESDAY} 11:00')").arrow(), tmp_path)
            assert by_macro == [
                {"files": "12/24", "scanned": 4, "row_groups": 12},
                {"files": "12/24", "scanned": 2, "row_groups": 12},
            ]
            # The last minutes, the others, and the rows.
            by_method = scans(lake, lambda: lake.latest(moment=f"{TUESDAY} 11:00").arrow(), tmp_path)
            assert [scan["scanned"] for scan in by_method] == [0, 4, 2]
            whole_day = scans(lake, lambda: lake.latest(moment=TUESDAY).arrow(), tmp_path)
            assert (whole_day[0]["scanned"], whole_day[2]["scanned"]) == (2, 2)
            assert {scan["files"] for scan in by_method + whole_day} == {"12/24"}

    @pytest.mark.slow
    def test_several_moments_read_their_days_alone(self, hours: Path, tmp_path: Path) -> None:
        with kitelake.open(hours) as lake:
            moments = [f"{MONDAY} 10:00", f"{MONDAY} 12:00"]
            found = scans(lake, lambda: lake.books("NSE:INFY", moments).arrow(), tmp_path)
            assert [scan["files"] for scan in found] == ["6/24", "6/24"]
            assert found[0]["scanned"] == 3


TOKENS = (INFY, DEC, REUSED)
SLOTS = 12
"""Times are few, so that many rows are of the same instant: two a day and the last and first microseconds between."""


def slot_time(slot: int) -> dt.datetime:
    midnight = ist(f"{TUESDAY} 00:00")
    return midnight + dt.timedelta(microseconds=slot - SLOTS // 2) * (1 if abs(slot - SLOTS // 2) < 3 else 10**9)


ROWS = st.lists(
    st.tuples(
        st.integers(0, 1), st.integers(0, SLOTS), st.sampled_from(TOKENS), st.sampled_from(["ltp", "quote", "full"])
    ),
    max_size=25,
)
MOMENTS = st.lists(st.integers(-1, SLOTS + 1), min_size=1, max_size=4)


def slow_latest(rows: list[dict[str, Any]], moment: dt.datetime, carries: bool) -> dict[int, tuple[str, int]]:
    """By token the row's stream and seq, by looking at every row."""
    found: dict[int, tuple[dt.datetime, str, int]] = {}
    for row in rows:
        known = row["received_at"] <= moment and row["received_at"].date() == moment.date()
        if known and (row["mode"] == "full" or not carries):
            key = (row["received_at"], row["stream"], row["seq"])
            found[row["instrument_token"]] = max(key, found.get(row["instrument_token"], key))
    return {token: key[1:] for token, key in found.items()}


@pytest.mark.slow
@settings(max_examples=scaled(3, 300), deadline=None)
@given(ROWS, MOMENTS, st.booleans())
def test_as_a_loop_over_all_rows_finds_them(
    written: list[tuple[int, int, int, str]], slots: list[int], committed: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        reused = "770,3,NIFTY26N2324000CE,NIFTY,0,2026-11-23,24000,0.05,75,CE,NFO-OPT,NFO"
        list_instruments(root, MONDAY, *EVERY_DAY, reused)
        journals = [Journal(root, f"20261123T03450{number}-aaaaaa") for number in range(2)]
        for stream, slot, token, mode in written:
            journals[stream].tick(slot_time(slot), token, mode=mode)
        with journals[0] as first, journals[1] as second:
            first.flush()
            second.flush()
            rows = first.rows + second.rows
        if committed:
            commit(root)
        with kitelake.open(root) as lake:
            moments = sorted({slot_time(slot) for slot in slots})
            for several in (moments, *([each] for each in moments)):
                expected = [
                    (moment, token, *key)
                    for moment in several
                    for token, key in sorted(slow_latest(rows, moment, False).items())
                ]
                found = lake.latest(None, several, ["instrument_token", "stream", "seq"]).arrow().to_pylist()
                assert sorted(tuple(row.values()) for row in found) == sorted(expected)
                expected_books = [(moment, token) for moment in several for token in slow_latest(rows, moment, True)]
                books = lake.books(list(TOKENS), several).arrow().to_pylist()
                assert sorted((row["moment"], row["instrument_token"]) for row in books) == sorted(expected_books)
