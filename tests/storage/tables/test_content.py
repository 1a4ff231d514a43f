"""The digest of rows: any change of a row changes it, and the order of the rows does not."""

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from storage.schema import TICKS
from storage.tables.content import digest_of_rows, digester, read_contents
from storage.tables.parquet import write_parquet
from tests.support.compacting import tick


class TestDigest:
    ROWS = tuple(tick(seq, last_price=seq / 4, oi=seq, symbol=f"NSE:{seq}") for seq in range(8))

    def digest(self, folder: Path, rows: Sequence[dict[str, Any]]) -> tuple[int, int]:
        path = folder / "rows.parquet"
        table = pa.Table.from_pylist(list(rows), schema=TICKS.file_schema)
        write_parquet(table, path)
        with digester() as con:
            (content,) = read_contents(con, TICKS, [str(path)])
            assert digest_of_rows(con, TICKS, table) == content.digest
        return content.rows, content.digest

    def test_order_does_not_matter(self, tmp_path: Path) -> None:
        shuffled = random.Random(1).sample(self.ROWS, len(self.ROWS))
        assert self.digest(tmp_path, shuffled) == self.digest(tmp_path, self.ROWS)

    @pytest.mark.parametrize("column", ["stream", "seq", "symbol", "last_price", "oi", "ask_orders_5", "open", "mode"])
    def test_each_value_matters(self, tmp_path: Path, column: str) -> None:
        kind = TICKS.file_schema.field(column).type
        other = "x" if pa.types.is_string(kind) else 77
        changed = [*self.ROWS[:3], self.ROWS[3] | {column: other}, *self.ROWS[4:]]
        assert self.digest(tmp_path, changed) != self.digest(tmp_path, self.ROWS)

    @pytest.mark.parametrize("column", ["seq", "symbol", "last_price"])
    def test_values_that_changed_places_matter(self, tmp_path: Path, column: str) -> None:
        first, second, *rest = self.ROWS
        changed = [first | {column: second[column]}, second | {column: first[column]}, *rest]
        assert self.digest(tmp_path, changed) != self.digest(tmp_path, self.ROWS)

    def test_a_value_in_another_column_and_nan_for_null_matter(self, tmp_path: Path) -> None:
        first, *rest = self.ROWS
        found = [
            self.digest(tmp_path, [first | change, *rest])
            for change in ({}, {"open": 1.0}, {"high": 1.0}, {"open": math.nan}, {"open": 0.0})
        ]
        assert len(set(found)) == len(found)

    def test_one_row_for_another_matters(self, tmp_path: Path) -> None:
        assert self.digest(tmp_path, [*self.ROWS[1:], self.ROWS[1]]) != self.digest(tmp_path, self.ROWS)
