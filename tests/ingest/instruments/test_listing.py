"""The instrument list: read without guessing, refused when it is not one, and asked for names."""

import datetime as dt
import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import InstrumentError
from ingest.instruments.listing import Instruments, parse_instruments
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
MANY = "".join(f"{token},1,S{token},,0,,0,0,1,EQ,NSE,NSE\n" for token in range(100, 300))
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
        "1,1,A,A,0,25-11-2026,0,0,1,FUT,NFO-FUT,NFO\n",
        "1,1,A,A,0,,100,0,1,CE,NFO-OPT,NFO\n",
    ],
)
def test_a_few_rows_that_cannot_be_used_are_dropped_with_a_warning(bad: str, caplog: pytest.LogCaptureFixture) -> None:
    table = parse_instruments((HEADER + MANY + bad).encode(), date=DAY)
    assert table["instrument_token"].to_pylist() == list(range(100, 300))
    assert "1 of 201 rows of the instrument list were dropped" in caplog.text
    assert ("(got 25-11-2026 as an expiry, expected YYYY-MM-DD)" in caplog.text) is ("25-11-2026" in bad)


def read(text: str | bytes) -> tuple[dict[int, dict[str, object]], list[str]]:
    """The rows by their tokens, and the notes."""
    notes: list[str] = []
    table = parse_instruments(text.encode() if isinstance(text, str) else text, date=DAY, note=notes.append)
    return {row["instrument_token"]: row for row in table.to_pylist()}, notes


WHOLE, _ = read(HEADER + ROWS)


def test_rows_that_say_the_same_count_once() -> None:
    assert read(HEADER + ROWS + ROWS) == (
        WHOLE,
        [
            "10 of 20 rows of the instrument list repeat others, and count once: NSE:INFY, BSE:INFY, NSE:NIFTY 50, "
            "NFO:NIFTY26NOVFUT, NFO:NIFTY26DECFUT, …"
        ],
    )


@pytest.mark.parametrize(
    "spelled",
    [
        "408065.0,1594,INFY,INFOSYS,1500.5,,0,0.05,1,EQ,NSE,NSE",
        "+408065,1594.00,INFY,INFOSYS,1500.50,,0.0,.05,1.,EQ,NSE,NSE",
        '408065,01594, INFY ,"INFOSYS",+15005e-1,,-0,5E-2,1,EQ,NSE,NSE',
    ],
)
def test_what_is_spelled_in_another_way_says_the_same(spelled: str) -> None:
    assert read(f"{HEADER}{spelled}\n{ROWS}") == (
        WHOLE,
        ["1 of 11 rows of the instrument list repeat others, and count once: NSE:INFY"],
    )


def test_none_of_the_rows_that_contradict_each_other_is_taken() -> None:
    """Of three rows of INFY, two say the same; NIFTY's future has two lot sizes."""
    more = (
        "408065,1594,INFY,INFOSYS,1500.5,,0,0.05,1,EQ,NSE,NSE\n"
        "408065,11536,TCS,TCS,1500.5,,0,0.05,1,EQ,NSE,NSE\n"
        "12345858,48226,NIFTY26NOVFUT,NIFTY,0,2026-11-24,0,0.1,,FUT,NFO-FUT,NFO\n"
    )
    rows, notes = read(HEADER + ROWS + more)
    assert rows == {token: row for token, row in WHOLE.items() if token not in (408065, 12345858)}
    assert notes == [
        "1 of 13 rows of the instrument list repeat others, and count once: NSE:INFY",
        "2 of 10 tokens of the instrument list have rows that contradict each other: "
        "408065 (NSE:INFY, NSE:TCS: exchange_token, tradingsymbol, name); 12345858 (NFO:NIFTY26NOVFUT: lot_size); "
        "none of these rows is taken",
    ]


def test_of_a_long_list_as_many_rows_may_contradict_as_may_be_unreadable() -> None:
    long = "".join(f"{token},1,S{token},,0,,0,0,1,EQ,NSE,NSE\n" for token in range(1, 3001))
    against = "".join(f"{token},1,T{token},,0,,0,0,1,EQ,NSE,NSE\n" for token in range(1, 17))
    rows, (note,) = read(HEADER + long + against[: against.index("16,1,")])
    assert (len(rows), note[:15]) == (2985, "15 of 3,000 tok")
    with pytest.raises(InstrumentError, match="16 of 3,000 tokens"):
        read(HEADER + long + against)


def test_a_name_that_is_not_utf8_is_read_as_latin1_and_the_cells_beside_it_as_they_are() -> None:
    text = (HEADER + ROWS).encode().replace(b"INFY,INFOSYS", b"INF\xc3\x89,SOCI\xc9T\xc9", 1)
    rows, notes = read(text)
    assert (rows[408065]["name"], rows[408065]["symbol"]) == ("SOCIÉTÉ", "NSE:INFÉ")
    assert {token: row for token, row in rows.items() if token != 408065} == {
        token: row for token, row in WHOLE.items() if token != 408065
    }
    assert notes == ["1 of 11 lines of the instrument list are not UTF-8, and were read as Latin-1: line 2"]


@pytest.mark.parametrize(
    "other", ["{2}-{1}-{0}", "{2}/{1}/{0}", "{1}/{2}/{0}", "{2}-Nov-{0}", "{2}.{1}.26", "{0}/{1}/{2}"]
)
def test_a_list_whose_dates_are_all_in_another_order_is_refused_for_that(other: str) -> None:
    days = [other.format("2026", "11", day) for day in ("24", "25")]
    futures = "".join(f"{token},1,F{token},,0,{day},0,0,1,FUT,NFO-FUT,NFO\n" for token, day in enumerate(days, 1))
    with pytest.raises(InstrumentError) as caught:
        read(HEADER + MANY + futures)  # 2 of 202 rows
    assert str(caught.value) == (
        f"the expiries of the instrument list are in another order: got {days[0]} as an expiry, expected YYYY-MM-DD"
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (HEADER.encode(), "has no rows"),
        (b"<html>502 Bad Gateway</html>", "lacks instrument_token, exchange_token"),
        ((HEADER + ROWS).replace("tick_size", "size").encode(), "lacks tick_size; its columns are: instrument_token"),
        (
            (HEADER + MANY + MANY.replace(",S", ",T")).encode(),
            r"200 of 200 tokens of the instrument list have rows that contradict each other: 100 \(NSE:S100, NSE:T100: "
            r"tradingsymbol\); .*; and 195 more; expected one row a token",
        ),
        (
            (HEADER + ROWS.replace("2026-11-24", "24-11-2026").replace("2026-12-29", "12/29/2026")).encode(),
            r"5 of the 10 rows .* at most 1% may \(got 24-11-2026 as an expiry, expected YYYY-MM-DD\)",
        ),
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
