"""The rows of a partition, sorted into the files of a compacted day: `storage.upkeep.compact` says in which order."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from storage.files import sync_file
from storage.schema import TICKS, Table
from storage.tables import BUFFER_BYTES, digest_of_rows, parquet_writer
from storage.upkeep.stretches import Source, read_stretch, schema_of, stretches, with_texts_in_use

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

STRETCH_ROWS: Final = 1 << 21
ROW_GROUP_ROWS: Final = 1 << 16
TICK_ORDER: Final = ("instrument_token", "stream", "seq")
_NUMBER_BYTES: Final = 8


@dataclass
class Sorted:
    """New files, in order, and the digest of the rows in them as these were read from the old ones."""

    files: list[Path] = field(default_factory=list)
    digest: int = 0


def write_sorted(
    con: "DuckDBPyConnection",
    spec: Table,
    sources: Sequence[Source],
    folder: Path,
    *,
    memory_bytes: int,
    file_bytes: int,
    on_rows: Callable[[int], None],
) -> Sorted:
    """Write all rows of `sources` into new files in `folder`.

    A stretch has STRETCH_ROWS rows, or as many as fit into `memory_bytes`. A file ends with the row group that takes it
    to `file_bytes`. `on_rows` is told how many rows are written so far. Raises OSError, and SealError if the files
    have changed.
    """
    some = [source for source in sources if source.rows]
    done = Sorted()
    schema = schema_of(spec, some)
    groups = _groups(con, spec, schema, some, memory_bytes, done)
    group = next(groups, None)
    rows = 0
    while group is not None:
        path = folder / f"{len(done.files) + 1:04d}.parquet"
        with path.open("w+b", buffering=BUFFER_BYTES) as file, parquet_writer(schema, file) as writer:
            full = False
            while group is not None and not full:
                writer.write_table(group)
                rows += group.num_rows
                on_rows(rows)
                group = next(groups, None)
                full = file.tell() >= file_bytes
        sync_file(path)
        done.files.append(path)
    return done


def _groups(
    con: "DuckDBPyConnection",
    spec: Table,
    schema: pa.Schema,
    sources: Sequence[Source],
    memory_bytes: int,
    done: Sorted,
) -> Iterator[pa.Table]:
    """The rows, one row group after another."""
    import pyarrow.compute as pc  # a tenth of a second, which readers of tables need not wait for

    if not sources:
        return
    keys = [(name, "ascending") for name in (TICK_ORDER if spec is TICKS else spec.key)]
    for stretch in stretches(con, sources, _rows_at_once(spec, sources, memory_bytes)):
        rows = read_stretch(spec, sources, stretch)
        done.digest += digest_of_rows(con, spec, rows)
        places = pc.sort_indices(_codes(rows.select([name for name, _ in keys])), sort_keys=keys)
        for at in range(0, len(places), ROW_GROUP_ROWS):
            group = rows.take(places.slice(at, ROW_GROUP_ROWS))
            yield pa.table([with_texts_in_use(column) for column in group.columns], schema=schema)
        del rows  # before the next ones are read


def _rows_at_once(spec: Table, sources: Sequence[Source], memory_bytes: int) -> int:
    """As many as fit, in columns of numbers, with as much again for what is read of a file and the texts in it."""
    width = _NUMBER_BYTES * len(spec.file_schema) + max(source.width for source in sources)
    return min(STRETCH_ROWS, max(1, int(memory_bytes / width)))


def _codes(rows: pa.Table) -> pa.Table:
    """The rows with codes for texts, which lie in their order."""
    columns = [each.chunk(0).indices if pa.types.is_dictionary(each.type) else each for each in rows.columns]
    return pa.table(columns, names=rows.schema.names)
