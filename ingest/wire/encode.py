"""Rows of the ticks table to packets and frames: the inverse of decode, bit for bit, without a Python loop over rows.

A row's layout follows from its mode and from whether it has a `price_change`, which only index packets carry: ltp is
8 bytes, quote 44 (index 28), full 184 (index 32). Values that the layout does not carry are left out. Exchange and
divisor come from the token, not from the `exchange` column. Prices become the nearest wire integer; a null time
becomes 0; the padding of depth entries is 0, so frames whose padding is 0 survive decode and encode unchanged.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ingest.errors import WireError, WireValueError
from ingest.wire.layouts import (
    DIVISOR,
    FULL,
    INDEX_FULL,
    INDEX_QUOTE,
    LAYOUTS,
    LTP,
    MODES,
    PREFIX_BYTES,
    QUOTE,
    US_PER_SECOND,
    Layout,
)
from ingest.wire.walk import Ints
from storage.schema import DEPTH_LEVELS, TICKS

INT32_MIN: Final = -(2**31)
INT32_MAX: Final = 2**31 - 1
UINT32_MAX: Final = 2**32 - 1
UINT16_MAX: Final = 2**16 - 1

_LENGTH_BY_MODE: Final = np.array(
    [[LTP.length, LTP.length], [QUOTE.length, INDEX_QUOTE.length], [FULL.length, INDEX_FULL.length]]
)
"""By place of the mode in `MODES`, and whether there is a `price_change`."""
_TIMES: Final = frozenset({"last_trade_time", "exchange_timestamp"})


def encode_packets(table: pa.Table) -> list[bytes]:
    """Each row's packet, without prefixes. Raises WireValueError for a value that does not fit into its packet."""
    packets = _Encoder(table)
    ends = np.cumsum(packets.lengths)
    payload = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
    packets.write(payload, ends - packets.lengths)
    data = payload.tobytes()
    return [data[start:end] for start, end in pairwise([0, *ends.tolist()])]


def encode_frames(table: pa.Table, packets_per_frame: int | Sequence[int]) -> list[bytes]:
    """Rows as frames, in order: `packets_per_frame` each (the last may have fewer), or as many as each number says.

    Raises WireValueError for a value that does not fit into its packet, WireError for numbers of packets that are not
    0 to 65535 each or do not add up to the table's rows.
    """
    payload, lengths = encode_payload(table, packets_per_frame)
    data = payload.tobytes()
    return [data[start:end] for start, end in pairwise([0, *np.cumsum(lengths).tolist()])]


def encode_payload(table: pa.Table, packets_per_frame: int | Sequence[int]) -> tuple[NDArray[np.uint8], Ints]:
    """As `encode_frames`, but as `walk_frames` takes it: all frames end to end as uint8, and their lengths as int64."""
    sizes = _frame_sizes(len(table), packets_per_frame)
    packets = _Encoder(table)
    frame_of = np.arange(len(sizes)).repeat(sizes)
    ends = np.cumsum(packets.lengths + PREFIX_BYTES) + PREFIX_BYTES * (frame_of + 1)
    starts = ends - packets.lengths
    frame_lengths = np.full(len(sizes), PREFIX_BYTES, np.int64)
    np.add.at(frame_lengths, frame_of, packets.lengths + PREFIX_BYTES)

    payload = np.empty(int(frame_lengths.sum()), np.uint8)
    headers = np.cumsum(frame_lengths) - frame_lengths
    payload[headers] = sizes >> 8
    payload[headers + 1] = sizes & 0xFF
    payload[starts - 2] = 0  # no packet is longer than a byte can say
    payload[starts - 1] = packets.lengths
    packets.write(payload, starts)
    return payload, frame_lengths


def _frame_sizes(rows: int, packets_per_frame: int | Sequence[int]) -> Ints:
    if isinstance(packets_per_frame, int):
        if not 1 <= packets_per_frame <= UINT16_MAX:
            raise WireError(f"packets per frame: got {packets_per_frame}, expected 1 to {UINT16_MAX}")
        full, rest = divmod(rows, packets_per_frame)
        return np.array([packets_per_frame] * full + [rest] * bool(rest), np.int64)
    sizes = np.array(packets_per_frame, np.int64)
    least, most = (int(np.min(sizes)), int(np.max(sizes))) if len(sizes) else (0, 0)
    if least < 0 or most > UINT16_MAX:
        raise WireError(f"packets per frame: got {least} to {most}, expected 0 to {UINT16_MAX}")
    if sizes.sum() != rows:
        raise WireError(f"packets per frame: got {sizes.sum()} in all, expected {rows}, one a row")
    return sizes


class _Encoder:
    """Rows as packed packets, one array a layout; `write` puts them where they belong."""

    def __init__(self, table: pa.Table) -> None:
        self._given = dict(zip(table.column_names, table.columns, strict=True))
        self._rows = len(table)
        self._columns: dict[str, tuple[NDArray[Any], NDArray[np.bool_]]] = {}
        self.lengths = self._row_lengths()
        tokens, valid = self._column("instrument_token")
        self._divisors = DIVISOR.take(np.where(valid, tokens, 0) & 0xFF)
        self._packed = []
        for layout in LAYOUTS.values():
            rows = np.flatnonzero(self.lengths == layout.length)
            if len(rows):
                self._packed.append((rows, self._pack(layout, rows)))

    def write(self, payload: NDArray[np.uint8], starts: Ints) -> None:
        """Packet i goes to `payload[starts[i]:]`."""
        for rows, packed in self._packed:
            kind = f"V{packed.itemsize}"
            # Element i is the packet that begins at byte i: one assignment writes each packet whole.
            window = np.ndarray((len(payload) - packed.itemsize + 1,), kind, payload, strides=(1,))
            window[starts[rows]] = packed.view(kind)

    def _row_lengths(self) -> Ints:
        modes = self._arrow("mode", pa.string())
        codes = pc.index_in(modes, value_set=pa.array(MODES))
        if codes.null_count:
            row = int(np.flatnonzero(codes.is_null().to_numpy(zero_copy_only=False))[0])
            raise WireValueError("mode", row, modes[row].as_py(), ", ".join(MODES))
        _, is_index = self._column("price_change")
        lengths: Ints = _LENGTH_BY_MODE[codes.to_numpy(), is_index.astype(np.int64)]
        return lengths

    def _pack(self, layout: Layout, rows: Ints) -> NDArray[Any]:
        packed = np.zeros(len(rows), layout.dtype)
        for field in layout.dtype.names or ():
            if field != "depth":
                packed[field] = self._field(field, rows, layout.dtype[field])
                continue
            depth = packed["depth"]
            for side, name in enumerate(("bid", "ask")):
                for level in range(DEPTH_LEVELS):
                    for what in ("quantity", "price", "orders"):
                        column = f"{name}_{what}_{level + 1}"
                        depth[what][:, side, level] = self._field(column, rows, depth.dtype[what])
        return packed

    def _field(self, column: str, rows: Ints, dtype: np.dtype[Any]) -> NDArray[Any]:
        """The wire's integers of one column for some rows; WireValueError for the first that does not fit."""
        values, valid = self._column(column)
        values, valid = values[rows], valid[rows]
        if column in _TIMES:
            whole, rest = np.divmod(values, US_PER_SECOND)
            fits = (whole >= 1) & (whole <= UINT32_MAX) & (rest == 0)
            self._check(
                column, rows, fits | ~valid, "null or whole seconds from 1970-01-01 00:00:01 to 2106-02-07 06:28:15"
            )
            return np.where(valid, whole, 0)
        if dtype.kind == "i":
            divisors = self._divisors[rows]
            with np.errstate(invalid="ignore", over="ignore"):
                scaled = np.rint(values * divisors)
                fits = (scaled >= INT32_MIN) & (scaled <= INT32_MAX) & valid
            if not fits.all():
                divisor = float(divisors[int(np.argmin(fits))])
                self._check(column, rows, fits, f"{INT32_MIN / divisor} to {INT32_MAX / divisor}")
            return scaled
        top = UINT32_MAX if dtype.itemsize == 4 else UINT16_MAX
        self._check(column, rows, (values >= 0) & (values <= top) & valid, f"0 to {top}")
        return values

    def _check(self, column: str, rows: Ints, fits: NDArray[np.bool_], expected: str) -> None:
        if fits.all():
            return
        row = int(rows[int(np.argmin(fits))])
        value = self._given[column][row].as_py() if column in self._given else None
        raise WireValueError(column, row, value, expected)

    def _column(self, name: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Values, with 0 for null, and where they are not null. A column that the table lacks is null."""
        if name not in self._columns:
            array = self._arrow(name, TICKS.schema.field(name).type)
            if pa.types.is_timestamp(array.type):
                array = array.cast(pa.int64())
            valid = np.ones(len(array), np.bool_)
            if array.null_count:
                valid = array.is_valid().to_numpy(zero_copy_only=False)
                array = array.fill_null(0)
            self._columns[name] = array.to_numpy(zero_copy_only=False), valid
        return self._columns[name]

    def _arrow(self, name: str, kind: pa.DataType) -> pa.Array:
        column = self._given.get(name)
        if column is None:
            return pa.nulls(self._rows, kind)
        try:
            if column.type != kind:
                column = column.cast(kind)
            return pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, kind)
        except pa.ArrowException as error:
            raise WireError(f"{name}: got {column.type}, expected {kind}: {error}") from error
