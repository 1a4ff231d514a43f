"""The rows of one segment: what a decoder makes of its blocks, checked, and what is said of its damage.

The writer, a rebuild and the live tail of a query all take a segment's rows from here, so that a row is the same row
whoever looks at it, and all three refuse the same. What is different about them they pass: which blocks and from which
`seq`, what of the damage is known, and which values of a `unique` column are stored already.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from storage.commit.decoder import (
    Decoded,
    DecodedInPieces,
    Decoder,
    Fetch,
    Found,
    Part,
    PieceDecoder,
    Pieces,
    TailDecoder,
)
from storage.commit.quarantine import damage_parts
from storage.errors import RowsError, SegmentMissingError, SegmentReadError
from storage.journal import Block, Damage
from storage.layout import DataLayout, archive_of
from storage.schema import EVENTS, ORDERS, QUARANTINE, TICKS, Table
from storage.tables import canonical_rows

if TYPE_CHECKING:
    from storage.tables import SymbolLookup  # with Delta's library, which a reader needs not load

SegmentId = tuple[str, int]
"""A stream and a number in it."""

JOURNAL_TABLES: Final = (EVENTS, ORDERS, QUARANTINE, TICKS)
"""The tables whose rows come from the journal, in the order of their commits."""


def decode_segment(
    decoder: Decoder, stream: str, number: int, blocks: Sequence[Block], *, first_seq: int, symbols: "SymbolLookup"
) -> Decoded:
    """The rows of a segment, or of its next blocks: of each of JOURNAL_TABLES, at most one part a partition.

    Raises RowsError if the decoder gives rows of other tables, partitions or columns, or another number of ticks than
    of packets; and whatever the decoder raises.
    """
    decoded = decoder.decode(stream, number, blocks, first_seq=first_seq, symbols=symbols)
    parts = _checked(JOURNAL_TABLES, decoded.parts)
    rows = count_rows(parts[TICKS.name])
    if rows != decoded.packets:
        raise RowsError(f"decoder: got {rows} rows of ticks, expected as many as packets: {decoded.packets}")
    return Decoded(parts, decoded.packets)


def decode_in_pieces(
    decoder: Decoder, stream: str, number: int, blocks: Sequence[Block], *, first_seq: int, symbols: "SymbolLookup"
) -> DecodedInPieces:
    """The same, the ticks in pieces if the decoder can, else in one. Of pieces only the number is not checked here."""
    if not isinstance(decoder, PieceDecoder):
        decoded = decode_segment(decoder, stream, number, blocks, first_seq=first_seq, symbols=symbols)
        ticks = [Pieces(part.values, [part.rows]) for part in decoded.parts[TICKS.name]]
        others = {name: parts for name, parts in decoded.parts.items() if name != TICKS.name}
        return DecodedInPieces(others, ticks, decoded.packets)
    found = decoder.decode_in_pieces(stream, number, blocks, first_seq=first_seq, symbols=symbols)
    others = _checked([spec for spec in JOURNAL_TABLES if spec is not TICKS], found.parts)
    return DecodedInPieces(others, found.ticks, found.packets)


def find_in_segment(
    decoder: TailDecoder, stream: str, number: int, blocks: Sequence[Block], *, first_seq: int, fetch: Fetch
) -> tuple[Found, dict[str, list[Part]]]:
    """What is in a segment, or in its next blocks, and of the tables besides ticks the rows, one part a partition.

    Raises RowsError for what `decode_segment` does, as far as it is seen without decoding ticks; and whatever the
    decoder raises.
    """
    found = decoder.find(stream, number, blocks, first_seq=first_seq, fetch=fetch)
    others = _checked([spec for spec in JOURNAL_TABLES if spec is not TICKS], found.others())
    rows = sum(len(ticks) for ticks in found.ticks)
    if rows != found.packets:
        raise RowsError(f"decoder: got {rows} rows of ticks, expected as many as packets: {found.packets}")
    return found, others


def with_damage(
    parts: Mapping[str, Sequence[Part]],
    layout: DataLayout,
    stream: str,
    number: int,
    damage: Sequence[tuple[int, Damage]],
    blocks: Sequence[Block],
) -> dict[str, list[Part]]:
    """The same parts, with rows of quarantine for (segment, damage) pairs that were found with segment `number`.

    What has no block beside it in `blocks` gets the time at which the segment was last written. Raises
    SegmentMissingError if the segment has gone meanwhile, SegmentReadError if the system does not let it be looked at.
    """
    found = {name: list(some) for name, some in parts.items()}
    if damage:
        written_ns = segment_stat(layout, stream, number)[1]
        rows = damage_parts(stream, damage, blocks, fallback_ns=written_ns)
        found[QUARANTINE.name] = _merged(QUARANTINE, [*found.get(QUARANTINE.name, ()), *rows])
    return found


def segment_stat(layout: DataLayout, stream: str, number: int) -> tuple[int, int]:
    """Size, and when it was last written in ns, of a segment, plain or archived. Raises as `with_damage` does."""
    path = layout.segment(stream, number)
    try:
        stat = (path if path.exists() else archive_of(path)).stat()
    except FileNotFoundError as error:
        raise SegmentMissingError(f"segment {stream}/{number}: cannot look at it: {error}") from error
    except OSError as error:
        raise SegmentReadError(f"segment {stream}/{number}: cannot look at it: {error}") from error
    return stat.st_size, stat.st_mtime_ns


def first_of_each(rows: pa.Table, columns: Sequence[str], seen: set[tuple[object, ...]]) -> pa.Table:
    """The rows whose values in `columns` are not among `seen`, nor in a row before them. `seen` takes them in."""
    fresh = []
    for values in values_of(rows, columns):
        fresh.append(values not in seen)
        seen.add(values)
    return rows.filter(pa.array(fresh, pa.bool_()))


def values_of(rows: pa.Table, columns: Sequence[str]) -> Iterable[tuple[object, ...]]:
    """What `first_of_each` tells rows apart by."""
    return zip(*(rows.column(name).to_pylist() for name in columns), strict=True)


def from_record(parts: Sequence[Part], record: int | None) -> list[Part]:
    """The rows without those of records before `record`.

    There are some if a writer died between the commits of a segment of which less can be read today: this table then
    has what the ticks get from a later segment.
    """
    import pyarrow.compute as pc  # a tenth of a second, which readers of tables need not wait for

    if record is None:
        return list(parts)
    kept = [(part, pc.greater_equal(part.rows.column("record"), record).fill_null(True)) for part in parts]
    return [Part(part.values, part.rows.filter(mask)) for part, mask in kept if pc.any(mask).as_py()]


def count_rows(parts: Iterable[Part]) -> int:
    """How many rows there are in all parts."""
    return sum(part.rows.num_rows for part in parts)


def _checked(specs: Sequence[Table], parts: Mapping[str, Sequence[Part]]) -> dict[str, list[Part]]:
    names = [spec.name for spec in specs]
    if unknown := sorted(parts.keys() - set(names)):
        raise RowsError(f"decoder: got rows for {unknown}, expected {names}")
    return {spec.name: _merged(spec, parts.get(spec.name, ())) for spec in specs}


def _merged(spec: Table, parts: Iterable[Part]) -> list[Part]:
    """Parts with rows, one a partition, in the table's columns. Raises RowsError for other columns or partitions."""
    rows: dict[tuple[str, ...], list[pa.Table]] = {}
    for part in parts:
        if tuple(part.values) != spec.partition_by:
            raise RowsError(f"rows for {spec.name}: got partition {dict(part.values)}, expected {spec.partition_by}")
        checked = canonical_rows(spec, part.rows)
        if checked.num_rows:
            rows.setdefault(tuple(part.values.values()), []).append(checked)
    return [
        Part(dict(zip(spec.partition_by, values, strict=True)), _joined(spec, tables))
        for values, tables in rows.items()
    ]


def _joined(spec: Table, tables: Sequence[pa.Table]) -> pa.Table:
    """One table. Several may differ in which strings are dictionary-encoded, so those are made plain."""
    return tables[0] if len(tables) == 1 else pa.concat_tables([table.cast(spec.file_schema) for table in tables])
