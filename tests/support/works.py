"""What `tests.support.lives` does in processes that die."""

import datetime
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from storage.commit.decoder import Decoded, Decoder, Part
from storage.commit.rebuild import rebuild_day
from storage.commit.writer import SegmentWriter
from storage.journal import Block
from storage.layout import DataLayout
from storage.tables.symbols import SymbolLookup
from storage.upkeep import sort
from storage.upkeep.archive import archive_committed
from storage.upkeep.compact import compact_day
from tests.support.lake import ToyDecoder
from tests.support.lives import Step

DAY = datetime.date(2026, 11, 23)


class Changed:
    """A decoder that was changed: `change` is made of the rows of ticks."""

    def __init__(self, decoder: Decoder, change: Callable[[pa.Table], pa.Table]) -> None:
        self.decoder = decoder
        self.change = change

    def decode(
        self, stream: str, segment: int, blocks: Sequence[Block], *, first_seq: int, symbols: SymbolLookup
    ) -> Decoded:
        decoded = self.decoder.decode(stream, segment, blocks, first_seq=first_seq, symbols=symbols)
        ticks = [Part(part.values, self.change(part.rows)) for part in decoded.parts.get("ticks", [])]
        return Decoded({**decoded.parts, "ticks": ticks}, sum(part.rows.num_rows for part in ticks))


def one_rupee_more(rows: pa.Table) -> pa.Table:
    at = rows.schema.get_field_index("last_price")
    return rows.set_column(at, "last_price", pc.add(rows.column("last_price"), 1.0))


def commit(root: Path, after_step: Step) -> None:
    """Commit all dead streams."""
    writer = SegmentWriter(DataLayout(root), ToyDecoder(), after_step=after_step)
    writer.run(poll_seconds=0.01, stop=threading.Event())


def rebuild(root: Path, after_step: Step) -> None:
    """Rebuild DAY with another decoder than that which it was committed with."""
    rebuild_day(DataLayout(root), Changed(ToyDecoder(), one_rupee_more), DAY, after_step=after_step)


def archive(root: Path, _after_step: Step) -> None:
    """Archive what is committed."""
    archive_committed(DataLayout(root), ToyDecoder())


def compact(root: Path, after_step: Step) -> None:
    """Compact DAY."""
    compact_day(DataLayout(root), DAY, after_step=after_step)


def compact_hour(root: Path, after_step: Step) -> None:
    """Compact what there is of DAY, which goes on, in stretches of so few rows."""
    sort.STRETCH_ROWS = 100  # type: ignore[misc]
    compact_day(DataLayout(root), DAY, goes_on=True, after_step=after_step)
