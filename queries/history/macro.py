"""The macro of the captured ticks of instruments, and how macros take names. Apart from the method, since whoever names
the table `ticks` has named the macro too."""

from queries.history.moments import sql_range
from queries.lake import Overloads

ORDER = "symbol, received_at, stream, seq"
"""How rows of ticks come: by symbol, then time, then as they were received."""


def overloads(parameters: str, body: str) -> Overloads:
    """A macro's for a name and for a list of names; `body` has {which} where rows of ticks are chosen.

    Files of other exchanges are skipped: rows of an instrument are in its own, in INDICES or in UNKNOWN. A name alone
    is compared by `=`, since `in` on a text would match parts of it.
    """
    parts = (
        ("symbols VARCHAR", "symbol = symbols AND exchange IN (split_part(symbols, ':', 1), 'INDICES', 'UNKNOWN')"),
        (
            "symbols VARCHAR[]",
            "symbol IN symbols AND (exchange IN ('INDICES', 'UNKNOWN')"
            " OR exchange IN list_transform(symbols, lambda name: split_part(name, ':', 1)))",
        ),
    )
    return [(f"{symbols}, {parameters}", body.replace("{which}", which)) for symbols, which in parts]


OVERLOADS = overloads(
    "start := NULL, stop := NULL", f"SELECT * FROM ticks WHERE {{which}} AND {sql_range()} ORDER BY {ORDER}"
)
