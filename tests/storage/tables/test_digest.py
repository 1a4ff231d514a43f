"""A file's digest of itself."""

import io
from pathlib import Path

import pytest

from storage.schema import TICKS
from storage.tables.digest import is_as_stamped, stamp
from storage.tables.parquet import write_file
from tests.support.scaled import scaled
from tests.support.tables import sample_rows


def test_a_file_knows_each_of_its_bytes(tmp_path: Path) -> None:
    file = write_file(
        TICKS,
        sample_rows(TICKS, 20),
        values={"date": "2026-11-22", "exchange": "NSE"},
        stem="a",
        table_folder=tmp_path,
        staging=tmp_path / "staging",
    )
    path = tmp_path / file.relative
    whole = path.read_bytes()
    assert is_as_stamped(path)
    for at in range(0, len(whole), scaled(47, 11)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert not is_as_stamped(path)


def test_a_file_without_a_place_for_a_digest_cannot_be_stamped() -> None:
    with pytest.raises(ValueError, match=r"got a file without kitelake\.sha256 in its footer"):
        stamp(io.BytesIO(b"PAR1"))
