"""How values are written, as SQL: DuckDB makes the texts while it runs the query, whatever form they go into.

Times are as ISO has them, those with a zone in IST. Bytes are hex, numbers exact. Lists, structs and maps are JSON, a
map as a list of pairs, since its keys need not be text.
"""

import datetime as dt
import json
from collections.abc import Sequence
from typing import Final

from duckdb.sqltypes import DuckDBPyType

from queries.lake import literal, quoted
from storage.clock import IST

MAX_DECIMALS: Final = 6
WHOLE: Final = frozenset({"tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger", "ubigint"})
FLOATS: Final = frozenset({"float", "double"})
NUMBERS: Final = WHOLE | FLOATS | {"hugeint", "uhugeint", "bignum", "decimal"}
TIMES: Final = frozenset({"timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns", "timestamp with time zone"})
NESTED: Final = frozenset({"list", "array", "struct", "map", "tuple"})
# Strings come from the broker: none of them may move the cursor or colour the terminal.
CONTROL: Final = {c: f"\\x{c:02x}" for c in (*range(32), *range(127, 160))} | {9: "\\t", 10: "\\n", 13: "\\r"}

Cell = str | None


def jsonable(kind: DuckDBPyType, value: str, *, strict: bool, depth: int = 0) -> str:
    """An expression for the value in a form that JSON has; `value` is one for the value itself.

    If `strict`, any JSON reader takes it, and numbers are numbers: NaN and infinity, which JSON has not, are null. Else
    it is for people, and decimals are text, so that they stay exact.
    """

    def inner(child: DuckDBPyType, of: str) -> str:
        return jsonable(child, of, strict=strict, depth=depth + 1)

    each = f"each{depth}"
    children = _children(kind)
    if kind.id in FLOATS:
        return f"CASE WHEN isfinite({value}) THEN {value} END" if strict else value
    if kind.id == "decimal":
        return f"({_digits(value)})::JSON" if strict else f"{value}::VARCHAR"
    if kind.id in NUMBERS or kind.id in ("boolean", "tuple"):
        return value
    if kind.id == "union":
        return f"json_extract(to_json({value}), '$.*')[1]"
    if kind.id in ("list", "array"):
        return f"list_transform({value}, lambda {each}: {inner(children['child'], each)})"
    if kind.id == "struct":
        fields = [
            f"{quoted(name)} := {inner(of, f'struct_extract({value}, {literal(name)})')}"
            for name, of in children.items()
        ]
        return f"CASE WHEN {value} IS NOT NULL THEN struct_pack({', '.join(fields)}) END" if fields else value
    if kind.id == "map":
        pair = ", ".join(f"to_json({inner(children[part], f'{each}.{part}')})" for part in ("key", "value"))
        return f"list_transform(map_entries({value}), lambda {each}: [{pair}])"
    return text(kind, value)


def _children(kind: DuckDBPyType) -> dict[str, DuckDBPyType]:
    """The types inside of a nested one, by name: fields, `child`, `key` and `value`."""
    return {name: of for name, of in kind.children if isinstance(of, DuckDBPyType)} if kind.id in NESTED else {}


def _digits(value: str) -> str:
    """An expression for the digits of a decimal: 12.50 is 12.5, and 12.00 is 12."""
    plain = f"{value}::VARCHAR"
    return f"CASE WHEN contains({plain}, '.') THEN rtrim(rtrim({plain}, '0'), '.') ELSE {plain} END"


def json_text(kind: DuckDBPyType, value: str) -> str:
    """An expression for the text of a value in JSON."""
    of_value = _digits(value) if kind.id == "decimal" else f"to_json({jsonable(kind, value, strict=True)})::VARCHAR"
    return f"coalesce({of_value}, 'null')"


def text(kind: DuckDBPyType, value: str) -> str:
    """An expression for the text of a value."""
    as_it_is = f"{value}::VARCHAR"
    if kind.id in NESTED:
        return f"CASE WHEN {value} IS NOT NULL THEN to_json({jsonable(kind, value, strict=False)})::VARCHAR END"
    if kind.id in TIMES:
        moment, zone = value, ""
        if kind.id == "timestamp with time zone":  # whatever zone the session is in
            moment, zone = f"timezone('UTC', {value}) + INTERVAL '5:30'", "+05:30"
        form = "%Y-%m-%dT%H:%M:%S." + ("%n" if kind.id == "timestamp_ns" else "%f")
        iso = f"strftime({moment}, '{form}{zone}')"
        return f"coalesce(TRY({iso}), {as_it_is})"  # the first and the last times that there are, it cannot shift
    if kind.id == "time":
        return f"CASE WHEN contains({as_it_is}, '.') THEN rpad({as_it_is}, 15, '0') ELSE {as_it_is} END"
    return f"lower(hex({value}))" if kind.id == "blob" else as_it_is


def spaced(cells: Sequence[Cell]) -> list[Cell]:
    """JSON with spaces behind its commas and colons, to read."""
    return [cell and json.dumps(json.loads(cell), ensure_ascii=False) for cell in cells]


def short_times(cells: Sequence[Cell]) -> list[Cell]:
    """Times to read: without zone and `T`, and without the part of a second that none of them has."""
    plain = [cell and cell.removesuffix("+05:30").replace("T", " ") for cell in cells]
    parts = [cell.partition(".")[2] for cell in plain if cell]
    needed = max((len(part.rstrip("0")) for part in parts), default=0)
    cut = max(map(len, parts), default=0) - -(-needed // 3) * 3
    return [cell[:-cut].rstrip(".") if cell and cut and "." in cell else cell for cell in plain]


def aligned_floats(values: Sequence[float | None]) -> list[Cell]:
    """With as many decimals as the value that needs most, so that the points stand under one another."""
    digits = max((len(repr(v).partition(".")[2]) for v in values if v is not None and _is_plain(v)), default=1)
    digits = min(digits, MAX_DECIMALS)
    return [None if v is None else f"{v:.{digits}f}" if _is_plain(v) else f"{v:.{MAX_DECIMALS}g}" for v in values]


def _is_plain(value: float) -> bool:
    return value == 0 or 1e-4 <= abs(value) < 1e15


def to_ist(time: dt.datetime) -> dt.datetime:
    """A time with a zone in IST; any other as it is."""
    return time if time.tzinfo is None else time.astimezone(IST)
