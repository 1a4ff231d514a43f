"""Lists of instrument names: both forms, and what is refused."""

import os
import random
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.instruments.listing import Share
from kitelake.errors import ConfigError, ListFileError
from kitelake.plan.name_lists import MAX_BYTES, MAX_NAMES, read_list_file, read_names

NSE_LIST = b"""Company Name,Industry,Symbol,Series,ISIN Code
"Infosys, Ltd.",Information Technology,INFY,EQ,INE009A01021
Mahindra & Mahindra Ltd.,Automobile,M&M,EQ,INE101A01026
Bajaj Auto Ltd.,Automobile,BAJAJ-AUTO,EQ,INE917I01010
"""
NSE_NAMES = ["NSE:INFY", "NSE:M&M", "NSE:BAJAJ-AUTO"]


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (NSE_LIST, NSE_NAMES),
        (b"\xef\xbb\xbf" + NSE_LIST.replace(b"\n", b"\r\n"), NSE_NAMES),
        (b'"SYMBOL \n","OPEN \n"\n"INFY","1,500.00"\n', ["NSE:INFY"]),
        (
            b"instrument_token,exchange_token,tradingsymbol,name,exchange\n"
            b"1,1,SENSEX,SENSEX,BSE\n2,2,NIFTY26NOVFUT,NIFTY, nfo \n3,3,INFY,INFOSYS,\n",
            ["BSE:SENSEX", "nfo:NIFTY26NOVFUT", "NSE:INFY"],
        ),
        (b"symbol,exchange\nMCX:GOLD26DECFUT,NSE\n408065,BSE\n", ["MCX:GOLD26DECFUT", "408065"]),
        (b"Sr #,Symbol\n1,INFY\n", ["NSE:INFY"]),
        (b"exchange,symbol,tradingsymbol\nBSE,X,INFY\n", ["BSE:INFY"]),
        (b"# nifty\n\nSymbol\nINFY\n# TCS,a comment\n ,\nITC\n", ["NSE:INFY", "NSE:ITC"]),
        (b"INFY\n", ["NSE:INFY"]),
        (b"INFY\r\nBSE:SENSEX\rNSE:NIFTY 50", ["NSE:INFY", "BSE:SENSEX", "NSE:NIFTY 50"]),
        (
            b"\xef\xbb\xbf# one, two\n\n  408065 # Infosys, by token\nINFY\n\t#\nNSE:INFY\n408065\n",
            ["408065", "NSE:INFY"],
        ),
    ],
)
def test_names_of_both_forms(data: bytes, names: list[str]) -> None:
    assert read_names(data, "list") == names


def test_what_spreadsheets_write_is_no_part_of_a_name() -> None:
    assert read_names(b'"NSE:INFY"\r\n"NIFTY 50" # quoted\r\n', "list") == ["NSE:INFY", "NSE:NIFTY 50"]
    assert read_names(b"sep=,\r\nname,symbol\r\nInfosys,INFY\r\n", "list") == ["NSE:INFY"]


@pytest.mark.parametrize(
    ("row", "name", "is_share"),
    [
        ("ABCLTD,EQ,", "NSE:ABCLTD", True),
        ("ABCLTD, be ,", "NSE:ABCLTD-BE", True),
        ("ABCLTD,BE,nse", "nse:ABCLTD-BE", True),
        ("ABCLTD-BE,BE,", "NSE:ABCLTD-BE", True),
        ("NSE:ABCLTD,E1,BSE", "NSE:ABCLTD-E1", True),
        ("BAJAJ-AUTO,BZ,", "NSE:BAJAJ-AUTO-BZ", True),
        ("ABCLTD,,", "NSE:ABCLTD", False),
        ("ABCLTD,-,", "NSE:ABCLTD", False),
        ("ABCLTD,BE,BSE", "BSE:ABCLTD", False),
        ("408065,BE,", "408065", False),
    ],
)
def test_a_row_with_a_series_names_the_share_of_that_series(row: str, name: str, is_share: bool) -> None:
    (found,) = read_names(f"Symbol,Series,Exchange\n{row}\n".encode(), "list")
    assert (found, isinstance(found, Share)) == (name, is_share)


def test_a_byte_that_is_not_utf8_costs_nothing_where_it_is_in_no_name() -> None:
    data = b"# list of Soci\xe9t\xe9s\n" + NSE_LIST.replace(b"Information", b"Soci\xe9t\xe9")
    assert read_names(data, "list") == NSE_NAMES
    with pytest.raises(ListFileError, match="list, line 3: this is not UTF-8"):
        read_names(NSE_LIST.replace(b"M&M", b"M\xe9M"), "list")
    with pytest.raises(ListFileError, match=r"the columns are Soci\?t\?, ISIN; expected"):
        read_names(b"Soci\xe9t\xe9,ISIN\n", "list")


@pytest.mark.parametrize("kind", ["FIFO", "socket", "device"])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "names"
    with socket.socket(socket.AF_UNIX) as listening:
        if kind == "FIFO":
            os.mkfifo(path)
        elif kind == "socket":
            listening.bind(str(path))
        else:
            path.symlink_to("/dev/zero")
        expected = "cannot be read: it is a FIFO, a device or a socket, expected a regular file"
        with pytest.raises(ListFileError, match=expected):
            read_list_file(path)


SYMBOLS = st.from_regex(r"[A-Z0-9]{1,8}([ &-][A-Z0-9]{1,8}){0,2}", fullmatch=True)
NAMES = st.builds("{}:{}".format, st.sampled_from(["NSE", "BSE", "NFO", "MCX"]), SYMBOLS)


@given(
    names=st.lists(NAMES | st.from_regex(r"[1-9][0-9]{0,8}", fullmatch=True), min_size=1),
    seed=st.integers(),
    end=st.sampled_from(["\n", "\r\n"]),
    as_csv=st.booleans(),
)
def test_what_is_written_in_either_form_is_read_back(names: list[str], seed: int, end: str, as_csv: bool) -> None:
    chance = random.Random(seed)
    lines = ["Name,Symbol,Exchange"] if as_csv else []
    for name in names:
        exchange, _, symbol = name.rpartition(":")
        if as_csv:
            lines.append(f'"a ""name"", or two",{symbol},{exchange}')
        else:
            lines.append(symbol if exchange == "NSE" and not symbol.isdigit() else name)
        lines += chance.choices(["", "  ", "# a comment, with a comma"], k=chance.randrange(2))
    bom = "\ufeff" * chance.randrange(2)
    expected = [name.rpartition(":")[2] if as_csv and name.rpartition(":")[2].isdigit() else name for name in names]
    assert read_names((bom + end.join(lines)).encode(), "list") == list(dict.fromkeys(expected))


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_whatever_comes_is_a_list_of_names_or_a_typed_error(data: bytes) -> None:
    try:
        names = read_names(data, "list")
    except ListFileError:
        return
    assert names
    assert all(name.isprintable() and (":" in name or name.isdigit()) for name in names)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"INFY\nTCS\n\xff\xfe\n", "list, line 3: this is not UTF-8; expected UTF-8 text: CSV with"),
        (b"\xef\xbb\xbf\n\xff", "list, line 2: this is not UTF-8"),
        (
            b"# c\nCompany,ISIN\nInfosys,INE\n",
            "list, line 2: the columns are Company, ISIN; expected .* column symbol or",
        ),
        (b"", "list: it names no instrument; expected UTF-8 text"),
        (b"# nothing\n\n", "list: it names no instrument"),
        (b",,\n \t,\n", "list: it names no instrument"),
        (b"Symbol,Series\n", "list: it names no instrument"),
        (b"INFY\n\nTCS, ITC\n", "list, line 3: expected one name, without commas"),
        (b"name,symbol\nInfosys,INFY\nTCS\n", "list, line 3: got 1 columns, expected 2"),
        (b"name,symbol\nInfosys,\n", "list, line 2: expected a name such as NSE:INFY, or a token such as 408065"),
        (b'name,symbol\n"Infosys,INFY\nTCS,TCS\n', "list, line 3: this is not CSV, look for a single quote mark"),
        (b"\n <!DOCTYPE html>\n<html>", "list: this is a web page; expected"),
        (b"<?xml version='1.0'?>", "list: this is a web page"),
        (b'{"error":"key"}', "list, line 1: expected a name such as"),
        (b"INFY\nTCS;ITC", "list, line 2: expected a name such as .*; commas separate columns$"),
        (b"INFY\tTCS", "list, line 1: expected a name such as .*; commas separate columns$"),
        (b"sep=;\nsymbol;exchange\n", "list, line 2: expected a name such as .*; commas separate columns$"),
        (b'"INFY', "list, line 1: expected a name such as .* 408065$"),
        (b"NSE:\n", "list, line 1: expected a name such as"),
        (b"x" * 65, "list, line 1: expected a name such as"),
        (b"#" * (MAX_BYTES + 1), "list: it has more than 10 MB"),
        (b"\n".join(b"%d" % n for n in range(MAX_NAMES + 1)), "list, line 100001: expected at most 100,000 names"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_list_is_refused_with_line_and_expectation(data: bytes, message: str) -> None:
    with pytest.raises(ListFileError, match=message) as caught:
        read_names(data, "list")
    assert isinstance(caught.value, ConfigError)
    assert len(str(caught.value)) < 300


@pytest.mark.slow
def test_as_many_names_as_may_be() -> None:
    data = b"\n".join(b"%d" % n for n in range(MAX_NAMES))
    assert len(read_names(data + b"\n0\n", "list")) == MAX_NAMES


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "nifty.csv"
    with pytest.raises(ListFileError, match=r"nifty\.csv: cannot be read: No such file or directory"):
        read_list_file(path)
    path.write_bytes(NSE_LIST)
    assert read_list_file(path) == NSE_NAMES
    path.write_bytes(b"a,b\n")
    with pytest.raises(ListFileError, match=r"nifty\.csv, line 1: the columns are a, b"):
        read_list_file(path)
