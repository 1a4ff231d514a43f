"""The ground truth: its sums, its file, and what happens when that is not whole."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import ServerError
from ingest.server.record import FILE_NAME, ConnectionId, Ledger, Recorded, RecordKind, Tally, read_record

TOKENS = np.array([256265, 408065, 738561], np.int64)


def rows(*places: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(places, np.int64)


def test_everything_is_booked_once(tmp_path: Path) -> None:
    ledger = Ledger(TOKENS, tmp_path)
    first = ledger.open("one", 10)
    second = ledger.open("one", 11)
    other = ledger.open("two", 12)
    assert [sent.id for sent in ledger.connections] == [("one", 1), ("one", 2), ("two", 1)]
    ledger.packets(first, b"abc", rows(0, 2), 20)
    ledger.packets(first, b"de", rows(0), 21)
    ledger.damaged(first, b"bad", rows(1), 22)
    ledger.heartbeat(second, b"\0", 23)
    ledger.text(other, "{}", 24)
    ledger.unsent(first, "down", rows(1, 1), b"never", 25)
    ledger.closed(first, "rst", 26)
    assert ledger.totals() == {
        "packets": 4,
        "frames": 3,
        "bytes": 8,
        "heartbeats": 1,
        "texts": 1,
        "damaged": {"packets": 1, "frames": 1, "bytes": 3},
        "unsent": {"down": 2},
    }
    assert ledger.by_instrument(first) == {
        "instruments": {"256265": 2, "408065": 1, "738561": 1},
        "unsent_instruments": {"down": {"408065": 2}},
    }
    summary = first.summary()
    assert (summary["opened_at_ns"], summary["closed_at_ns"], summary["close_reason"]) == (10, 26, "rst")
    ledger.close()
    one, two = ConnectionId("one", 1), ConnectionId("one", 2)
    assert [record for record in read_record(tmp_path) if record.kind is not RecordKind.OPEN] == [
        Recorded(one, RecordKind.PACKETS, b"abc", 2, 20),
        Recorded(one, RecordKind.PACKETS, b"de", 1, 21),
        Recorded(one, RecordKind.DAMAGED, b"bad", 1, 22),
        Recorded(two, RecordKind.HEARTBEAT, b"\0", 0, 23),
        Recorded(ConnectionId("two", 1), RecordKind.TEXT, b"{}", 0, 24),
        Recorded(one, RecordKind.UNSENT, b"never", 2, 25),
        Recorded(one, RecordKind.CLOSED, b"rst", 0, 26),
    ]


@given(st.lists(st.lists(st.integers(0, 2), max_size=5), max_size=6), st.integers(0, 6))
def test_a_tally_counts_alike_packed_or_not(batches: list[list[int]], pack_at: int) -> None:
    tally = Tally(3)
    for place, batch in enumerate(batches):
        if place == pack_at:
            tally.pack()
        tally.add(rows(*batch))
    flat = [row for batch in batches for row in batch]
    assert dict(tally.items()) == Counter(flat)
    assert tally.total == len(flat)


def test_nothing_is_kept_unless_told(tmp_path: Path) -> None:
    ledger = Ledger(TOKENS, None)
    assert not ledger.recording
    ledger.packets(ledger.open("one", 0), b"abc", rows(0), 0)
    ledger.close()
    assert not list(tmp_path.iterdir())


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_frames_read_back(tmp_path_factory: pytest.TempPathFactory, frames: list[bytes]) -> None:
    folder = tmp_path_factory.mktemp("record")
    ledger = Ledger(TOKENS, folder)
    sent = ledger.open("one", 0)
    for frame in frames:
        ledger.packets(sent, frame, rows(0), 0)
    ledger.flush()
    assert [record.payload for record in read_record(folder) if record.kind is RecordKind.PACKETS] == frames
    ledger.close()


@pytest.mark.parametrize("cut", [1, 3, 20])
def test_a_file_that_ends_midway_is_told(tmp_path: Path, cut: int) -> None:
    ledger = Ledger(TOKENS, tmp_path)
    ledger.packets(ledger.open("one", 0), b"abc", rows(0), 0)
    ledger.close()
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ServerError, match="ends within a record"):
        list(read_record(tmp_path))


def test_another_file_is_told(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"PAR1....")
    with pytest.raises(ServerError, match=r"begins with b'PAR1\.\.\.\.', expected b'KLSIMREC'"):
        list(read_record(tmp_path))


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServerError, match="cannot record into"):
        Ledger(TOKENS, tmp_path / "file" / "record")
