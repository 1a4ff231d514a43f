"""Record batches whose columns are written straight into one piece of memory, for batches so small that making an Arrow
array of each column would take longer than everything else.

Arrow reads a record batch from a message of its interprocess format without copying: metadata, and behind it a body in
which the metadata says where each buffer lies (Arrow columnar format, "Serialization and Interprocess Communication").
The metadata of all batches of a schema are alike but for numbers, all of them int64 at fixed places. So Arrow makes
them once, and here the numbers are replaced. Several columns may share bytes: all that are null share zeros.
"""

import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.memory.arrays import are_alike

ALIGNMENT: Final = 64
"""Of every buffer, in bytes, as Arrow recommends."""
WORD: Final = 8
KEPT_TEXTS: Final = 4096
"""A text that all rows of a batch have, as account and mode are as a rule, is kept so often end to end."""
_PREFIX: Final = 8
"""Before the metadata: a mark and their length."""
_BODY_LENGTH, _HEADER = 3, 2  # fields of a Message
_LENGTH, _NODES, _BUFFERS = 0, 1, 2  # fields of a RecordBatch

Ints = NDArray[np.int64]


def _rounded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


class _Template:
    """A message's metadata as words, and which of the words are what."""

    def __init__(self, schema: pa.Schema) -> None:
        message = bytes(pa.RecordBatch.from_pylist([{}], schema).serialize())
        (size,) = struct.unpack_from("<i", message, 4)
        self.words: Ints = np.frombuffer(message[: _PREFIX + size], np.int64)
        root = _PREFIX + struct.unpack_from("<I", message, _PREFIX)[0]
        header = _field(message, root, _HEADER)
        batch = header + struct.unpack_from("<I", message, header)[0]
        self.body_length = _field(message, root, _BODY_LENGTH) // WORD
        self.length = _field(message, batch, _LENGTH) // WORD
        self.nodes = self._pairs(message, _field(message, batch, _NODES))
        self.buffers = self._pairs(message, _field(message, batch, _BUFFERS))

    @staticmethod
    def _pairs(message: bytes, at: int) -> slice:
        """The words of a vector of structs of two int64."""
        vector = at + struct.unpack_from("<I", message, at)[0]
        (count,) = struct.unpack_from("<I", message, vector)
        first = (vector + 4) // WORD
        return slice(first, first + 2 * count)


def _field(message: bytes, table: int, field: int) -> int:
    """Where a field of a table is (FlatBuffers internals): a table begins with how far before it its offsets are."""
    offsets = table - struct.unpack_from("<i", message, table)[0]
    return int(table + struct.unpack_from("<H", message, offsets + 4 + 2 * field)[0])


class BatchForm:
    """Batches of one schema in which the same columns are filled, `numbers`: columns of eight bytes a value.

    The schema's columns are texts, or of four or eight bytes a value.
    """

    def __init__(self, schema: pa.Schema, numbers: Sequence[str]) -> None:
        self.schema = schema
        self.template = _Template(schema)
        self.place = {name: number for number, name in enumerate(schema.names)}
        slots = np.cumsum([0, *(3 if kind == pa.string() else 2 for kind in schema.types)])
        self.validity: Ints = slots[:-1]
        """Which buffer is the validity of each column. Behind it are its values, or offsets and then text."""
        self.width: Ints = np.zeros(slots[-1], np.int64)
        """Bytes a value of each buffer, apart from bitmaps and text."""
        self.width[self.validity + 1] = [4 if kind == pa.string() else kind.bit_width // 8 for kind in schema.types]
        self.offsets: Ints = self.validity[[kind == pa.string() for kind in schema.types]] + 1
        self.numbers: Ints = np.array([self.place[name] for name in numbers], np.int64)

    def begin(self, rows: int, others: Mapping[str, Sequence[NDArray[Any]]], bitmaps: int) -> "OpenBatch":
        """A batch of so many rows, 1 or more, and at most so many `bitmaps` with nulls.

        `others` are columns that are not of eight bytes: their values, or offsets and text. They hold no nulls.
        """
        return OpenBatch(self, rows, others, bitmaps)


class OpenBatch:
    """A batch that is being filled. `numbers` are the rows of memory of those columns, int64, in the form's order, at
    least as long as the batch. Columns that are in none are null."""

    def __init__(self, form: BatchForm, rows: int, others: Mapping[str, Sequence[NDArray[Any]]], bitmaps: int) -> None:
        template, numbers = form.template, form.numbers
        self._form = form
        self._rows = rows
        self._bits = (rows + 7) // 8
        stride = _rounded(rows * WORD)
        head = len(template.words) * WORD
        zeros = _rounded(head)
        self._bitmap = zeros + stride + ALIGNMENT  # offsets are one more than rows
        first = self._bitmap + bitmaps * _rounded(self._bits)
        end = first + len(numbers) * stride
        self._memory = pa.allocate_buffer(
            end + sum(_rounded(array.nbytes) for arrays in others.values() for array in arrays)
        )
        self._bytes: NDArray[np.uint8] = np.frombuffer(self._memory, np.uint8)
        self._bytes[zeros : self._bitmap] = 0
        self.numbers: Ints = self._bytes[first:end].view(np.int64).reshape(len(numbers), stride // WORD)

        words = self._bytes[:head].view(np.int64)
        words[:] = template.words
        words[template.length] = rows
        words[template.body_length] = len(self._bytes) - head
        nodes, buffers = words[template.nodes], words[template.buffers]
        nodes[::2] = rows
        self._nulls, self._places, self._sizes = nodes[1::2], buffers[::2], buffers[1::2]
        self._head = head
        self._nulls[:] = rows
        self._nulls[numbers] = 0
        self._places[:] = zeros - head
        np.multiply(form.width, rows, out=self._sizes)
        self._sizes[form.validity] = self._bits
        self._sizes[form.offsets] += 4
        validity = form.validity[numbers]
        self._sizes[validity] = 0
        self._places[validity + 1] = np.arange(first - head, end - head, stride)
        for name, arrays in others.items():
            place = form.place[name]
            slot = int(form.validity[place])
            self._nulls[place] = self._sizes[slot] = 0
            for array in arrays:
                slot += 1
                self._put(slot, end, array.view(np.uint8))
                end += _rounded(array.nbytes)

    def _put(self, slot: int, at: int, data: NDArray[np.uint8]) -> None:
        self._bytes[at : at + len(data)] = data
        self._places[slot], self._sizes[slot] = at - self._head, len(data)

    def set_valid(self, low: int, high: int, valid: NDArray[np.bool_]) -> None:
        """In `numbers` low to high there is a value where `valid` says so, and else null."""
        nulls = self._rows - int(np.count_nonzero(valid))
        if not nulls:
            return
        places = self._form.numbers[low:high]
        validity = self._form.validity[places]
        self._nulls[places] = nulls
        self._places[validity], self._sizes[validity] = self._bitmap - self._head, self._bits
        self._bytes[self._bitmap : self._bitmap + self._bits] = np.packbits(valid, bitorder="little")
        self._bitmap += _rounded(self._bits)

    def finish(self) -> pa.RecordBatch:
        """What was filled, which must not be written to any more."""
        return pa.ipc.read_record_batch(self._memory, self._form.schema)


def texts(codes: NDArray[np.integer], names: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """The names at these places, as Arrow has texts: where each begins, and all of them end to end."""
    if are_alike(codes):
        return text(names[int(codes[0])], len(codes))
    encoded = [name.encode() for name in names]
    lengths = np.array([len(name) for name in encoded], np.int32).take(codes)
    width = max(map(len, encoded))
    letters = np.array(encoded, f"S{width}").take(codes).view(np.uint8).reshape(len(codes), width)
    offsets = np.zeros(len(codes) + 1, np.int32)
    lengths.cumsum(out=offsets[1:])
    return offsets, letters[np.arange(width) < lengths[:, None]]


def text(name: str, count: int) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """The same of a name that is everywhere."""
    offsets, letters = _repeated(name, count) if count > KEPT_TEXTS else _kept(name)
    return offsets[: count + 1], letters[: count * (len(letters) // (len(offsets) - 1))]


@lru_cache(maxsize=64)
def _kept(name: str) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """The same name often: of fewer times it is the beginning. Not to be changed."""
    return _repeated(name, KEPT_TEXTS)


def _repeated(name: str, count: int) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    letters = name.encode()
    offsets = np.arange(count + 1, dtype=np.int32) * np.int32(len(letters))
    return offsets, np.frombuffer(letters * count, np.uint8)
