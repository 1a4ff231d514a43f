"""The instrument list: read without guessing, refused when it is not one, and asked for names."""

import datetime as dt
import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import InstrumentError
from ingest.instruments import Instruments, parse_instruments
from storage.schema import INSTRUMENTS

HEADER = (
    "instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,tick_size,lot_size,instrument_type,"
    "segment,exchange\n"
)
ROWS = """\
408065,1594,INFY,INFOSYS,1500.5,,0,0.05,1,EQ,NSE,NSE
128028676,500209,INFY,INFOSYS,0,,0,0.05,1,EQ,BSE,BSE
256265,1001,NIFTY 50,NIFTY 50,0,,0,0,0,EQ,INDICES,NSE
12345858,48226,NIFTY26NOVFUT,NIFTY,0,2026-11-24,0,0.1,65,FUT,NFO-FUT,NFO
12346114,48227,NIFTY26DECFUT,NIFTY,0,2026-12-29,0,0.1,65,FUT,NFO-FUT,NFO
10000130,39063,NIFTY2612426000CE,NIFTY,0,2026-11-24,26000,0.05,65,CE,NFO-OPT,NFO
10000386,39064,NIFTY2612426000PE,NIFTY,0,2026-11-24,26000,0.05,65,PE,NFO-OPT,NFO
10000642,39065,NIFTY26D0126000CE,NIFTY,0,2026-12-01,26000,0.05,65,CE,NFO-OPT,NFO
10000898,39066,NIFTY26N1726000CE,NIFTY,0,2026-11-17,26000,0.05,65,CE,NFO-OPT,NFO
20000258,78126,BANKNIFTY26NOVFUT,BANKNIFTY,0,2026-11-24,0,0.2,30,FUT,NFO-FUT,NFO
"""
DAY = dt.date(2026, 11, 22)


@pytest.fixture(scope="module")
def listed() -> Instruments:
    return Instruments(parse_instruments((HEADER + ROWS).encode(), date=DAY))


def test_rows_as_the_table_has_them() -> None:
    table = parse_instruments((HEADER + ROWS).encode(), date=DAY)
    assert table.schema == INSTRUMENTS.schema
    assert table.to_pylist()[:2] == [
        {
            "date": DAY,
            "instrument_token": 408065,
            "exchange_token": 1594,
            "tradingsymbol": "INFY",
            "name": "INFOSYS",
            "last_price": 1500.5,
            "expiry": None,
            "strike": 0.0,
            "tick_size": 0.05,
            "lot_size": 1,
            "instrument_type": "EQ",
            "segment": "NSE",
            "exchange": "NSE",
            "symbol": "NSE:INFY",
        },
        table.to_pylist()[1],
    ]
    assert table["expiry"].to_pylist()[3] == dt.date(2026, 11, 24)


def test_gzip_crlf_quotes_and_columns_in_another_order() -> None:
    plain = parse_instruments((HEADER + ROWS).encode(), date=DAY)
    assert parse_instruments(gzip.compress((HEADER + ROWS).encode()), date=DAY).equals(plain)
    assert parse_instruments((HEADER + ROWS).replace("\n", "\r\n").encode(), date=DAY).equals(plain)
    assert parse_instruments((HEADER + ROWS).replace("INFOSYS", '"INFOSYS"').encode(), date=DAY).equals(plain)
    turned = "\n".join(",".join(reversed(line.split(","))) for line in (HEADER + ROWS).splitlines())
    assert parse_instruments(turned.encode(), date=DAY).equals(plain)


def test_a_byte_order_mark_is_no_part_of_the_first_column() -> None:
    data = (HEADER + ROWS).encode()
    assert parse_instruments(b"\xef\xbb\xbf" + data, date=DAY) == parse_instruments(data, date=DAY)


def test_values_that_do_not_parse_are_null() -> None:
    bad = "1,x,A,,?,2026-02-30,1.2.3,1e9999,4.5,EQ,NSE,NSE\n"
    row = parse_instruments((HEADER + bad).encode(), date=DAY).to_pylist()[0]
    empty = ("exchange_token", "name", "last_price", "expiry", "strike", "tick_size", "lot_size")
    assert {name: row[name] for name in empty} == dict.fromkeys(empty)
    assert row["symbol"] == "NSE:A"


@pytest.mark.parametrize(
    "bad",
    [
        "x,1,A,,0,,0,0,1,EQ,NSE,NSE\n",
        ",1,A,,0,,0,0,1,EQ,NSE,NSE\n",
        "1,1,,,0,,0,0,1,EQ,NSE,NSE\n",
        "1,1,A,,0,,0,0,1,EQ,NSE,\n",
        "1,1,A\n",
        "1,1,A,,0,,0,0,1,EQ,NSE,NSE,more\n",
        "0,1,A,,0,,0,0,1,EQ,NSE,NSE\n",
        "-7,1,A,,0,,0,0,1,EQ,NSE,NSE\n",
        "4294967296,1,A,,0,,0,0,1,EQ,NSE,NSE\n",
        "1,1,A,A,0,2026-13-29,0,0,1,FUT,NFO-FUT,NFO\n",
        "1,1,A,A,0,,100,0,1,CE,NFO-OPT,NFO\n",
    ],
)
def test_a_few_rows_that_cannot_be_used_are_dropped_with_a_warning(bad: str, caplog: pytest.LogCaptureFixture) -> None:
    good = "".join(f"{token},1,S{token},,0,,0,0,1,EQ,NSE,NSE\n" for token in range(100, 300))
    table = parse_instruments((HEADER + good + bad).encode(), date=DAY)
    assert table["instrument_token"].to_pylist() == list(range(100, 300))
    assert "1 of 201 rows of the instrument list were dropped" in caplog.text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (HEADER.encode(), "has no rows"),
        (b"<html>502 Bad Gateway</html>", "lacks instrument_token, exchange_token"),
        ((HEADER + ROWS).replace("tick_size", "size").encode(), "lacks tick_size; its columns are: instrument_token"),
        ((HEADER + ROWS + ROWS).encode(), r"10 tokens stand more than once in the instrument list, as in 408065"),
        ((HEADER + ROWS + "x,1,A,,0,,0,0,1,EQ,NSE,NSE\n").encode(), "1 of the 11 rows of the instrument list lack"),
        (gzip.compress((HEADER + ROWS).encode())[:-20], "is not whole gzip"),
        (b"\x00\xff\xfe" * 100, "the instrument list"),
    ],
)
def test_what_is_not_an_instrument_list_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InstrumentError, match=message):
        parse_instruments(data, date=DAY)


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: (HEADER + text).encode()))
def test_any_bytes_give_a_list_or_the_typed_error(data: bytes) -> None:
    try:
        table = parse_instruments(data, date=DAY)
    except InstrumentError:
        return
    assert table.num_rows
    assert table["symbol"].null_count == 0


@given(st.data())
def test_a_damaged_list_gives_a_list_or_the_typed_error(data: st.DataObject) -> None:
    whole = bytearray((HEADER + ROWS).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        table = parse_instruments(bytes(whole), date=DAY)
    except InstrumentError:
        return
    assert len(set(table["instrument_token"].to_pylist())) == table.num_rows


def test_names_and_tokens_resolve_in_order(listed: Instruments) -> None:
    names: list[str | int] = ["NSE:NIFTY 50", 408065, "408065", "BSE:INFY", "nse:infy", " NFO:NIFTY26NOVFUT "]
    assert listed.resolve(names) == [256265, 408065, 408065, 128028676, 408065, 12345858]
    assert listed.symbol(256265) == "NSE:NIFTY 50"
    assert listed.symbol(1) is None
    assert (408065 in listed, 1 in listed, len(listed)) == (True, False, 10)
    assert repr(listed) == "Instruments(10 of 2026-11-22)"


def test_unknown_names_are_all_told_with_near_matches(listed: Instruments) -> None:
    with pytest.raises(InstrumentError) as caught:
        listed.resolve(["NSE:INFI", "NFO:NIFTY26NOVFU", "408065", 99, "MCX:"])
    assert str(caught.value).startswith(
        "not in the instrument list of 2026-11-22: NSE:INFI (did you mean NSE:INFY?); "
        "NFO:NIFTY26NOVFU (did you mean NFO:NIFTY26NOVFUT"
    )
    assert str(caught.value).endswith("; 99; MCX:")


def test_a_name_without_exchange_is_unknown_but_explained(listed: Instruments) -> None:
    with pytest.raises(InstrumentError, match=r"INFY \(did you mean (NSE|BSE):INFY"):
        listed.resolve(["INFY"])


def test_many_unknown_names_are_counted(listed: Instruments) -> None:
    with pytest.raises(InstrumentError, match=r"; and 15 more$"):
        listed.resolve([f"NSE:ZZZ{i}" for i in range(20)])


def test_a_name_means_what_it_meant_on_the_day_of_the_list() -> None:
    later = ROWS.replace("12345858,48226", "12399874,48437").replace("408065,1594,INFY", "12345858,48226,NIFTY27JANFUT")
    lists = [
        Instruments(parse_instruments((HEADER + rows).encode(), date=day))
        for rows, day in ((ROWS, DAY), (later, dt.date(2026, 11, 23)))
    ]
    assert [listed.resolve(["NFO:NIFTY26NOVFUT"]) for listed in lists] == [[12345858], [12399874]]
    assert [listed.symbol(12345858) for listed in lists] == ["NFO:NIFTY26NOVFUT", "NSE:NIFTY27JANFUT"]
    assert [listed.token("NSE:INFY") for listed in lists] == [408065, None]
    assert [listed.date for listed in lists] == [DAY, dt.date(2026, 11, 23)]
