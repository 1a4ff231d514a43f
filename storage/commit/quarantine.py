"""Rows for what a decoder never saw: damage of the journal, and segments that no decoder takes.

They have no record, and no bytes either: the segment keeps those, and retention keeps the segment.
"""

from collections.abc import Sequence

import pyarrow as pa

from storage.clock import ist_date, microseconds
from storage.commit.decoder import Part
from storage.journal import Block, Damage
from storage.schema import QUARANTINE


def damage_parts(
    stream: str, damage: Sequence[tuple[int, Damage]], blocks: Sequence[Block], *, fallback_ns: int
) -> list[Part]:
    """Quarantine rows for (segment, damage) pairs, a part for each IST day.

    Damage has no receive time of its own: it gets that of the last record before it in `blocks`, else of the first
    one behind it, else `fallback_ns`.
    """
    days: dict[str, list[dict[str, object]]] = {}
    for segment, item in damage:
        received_at_ns = _nearest_ns(item.offset, blocks, fallback_ns)
        day = ist_date(received_at_ns).isoformat()
        row = {
            "received_at": microseconds(received_at_ns),
            "stream": stream,
            "segment": segment,
            "offset": item.offset,
            "length": item.length,
            "reason": item.reason,
        }
        days.setdefault(day, []).append(row)
    return [Part({"date": day}, _quarantine_rows(rows)) for day, rows in sorted(days.items())]


def _nearest_ns(offset: int, blocks: Sequence[Block], fallback_ns: int) -> int:
    # Blocks that hold a channel table alone have the time of the segment's making.
    received = [block for block in blocks if block.kinds.any()]
    before = [block for block in received if block.offset < offset]
    if before:
        return int(before[-1].received_at_ns[-1])
    return int(received[0].received_at_ns[0]) if received else fallback_ns


def _quarantine_rows(rows: Sequence[dict[str, object]]) -> pa.Table:
    schema = QUARANTINE.file_schema
    arrays = [pa.array([row.get(field.name) for row in rows], _as_written(field.type)) for field in schema]
    return pa.table([array.cast(field.type) for array, field in zip(arrays, schema, strict=True)], schema=schema)


def _as_written(kind: pa.DataType) -> pa.DataType:
    """Times come as whole microseconds."""
    return pa.int64() if pa.types.is_timestamp(kind) else kind
