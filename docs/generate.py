"""Write docs/data-dictionary.md from the schema, and draw docs/pictures: `make docs`.

A test fails when the page and the schema differ.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import kitelake
from docs.captured_day import PICTURES, draw_pictures
from storage.schema import TABLES, TICKS, Table

PAGE = Path(__file__).parent / "data-dictionary.md"

TYPE_NAMES = {"double": "float64", "date32[day]": "date", "timestamp[us, tz=UTC]": "timestamp, UTC"}

INTRODUCTION = """\
# Data dictionary

<!-- Written by `make docs` from storage/schema.py: change it there. -->

Every table is a Delta table in a folder of its own under the data folder: plain Parquet files, partitioned as said
below, and a commit log. In SQL the tables are views of the same names, with the columns in this order, partition
columns first; but the table `ticks` is called `ticks_all` there, beside [relations](#relations) that are made of it.

- Times are UTC in the files and print in IST in SQL. Prices are rupees as float64, exactly the wire's integer over its
  divisor (10,000,000 for CDS, 10,000 for BCD and NCO, 100 for the others).
- What a packet does not carry is null, never 0.
- Positions such as `packet @44` are bytes from the packet's beginning, as in the broker's documentation; `index` means
  index quote and index full packets, which order their prices otherwise.
"""


RELATIONS = {
    "ticks": "`ticks_all`, of each instrument from one connection at a time. `source_since` is since when that one is "
    "shown, null where the instrument had but one.",
    "quotes": "The best bid and ask of each packet of `ticks` that has a book. `mid` = (bid + ask) / 2, `spread` = "
    "ask - bid, `microprice` = (bid × ask_quantity + ask × bid_quantity) / (bid_quantity + ask_quantity).",
    "depth": "One row a side and level of each book in `ticks`; empty levels have none.",
    "trades": "Changes of the cumulative volume from packet to packet; see [queries](queries.md#trades).",
}
"""What SQL may name beside the tables, with what is said of it. `sessions` is the helpers' own."""


def page() -> str:
    """The whole page as Markdown."""
    lines = [line for table in TABLES.values() for line in _section(table)]
    return "\n".join([INTRODUCTION, *lines, *_relations()]) + "\n"


def _relations() -> Iterator[str]:
    yield "## Relations\n"
    yield "Made by a query that names them, of the same state as everything else in it.\n"
    yield "| relation | rows | columns |"
    yield "| --- | --- | --- |"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "journal").mkdir()
        with kitelake.open(folder) as lake:
            for name, rows in RELATIONS.items():
                columns = lake.sql(f"FROM {name}").columns
                if name == "ticks":
                    columns = [
                        "those of the table",
                        *(column for column in columns if column not in TICKS.schema.names),
                    ]
                shown = ", ".join(column if " " in column else f"`{column}`" for column in columns)
                yield f"| `{name}` | {rows} | {shown} |"
    yield ""


def _section(table: Table) -> Iterator[str]:
    yield f"## {table.name}\n"
    yield f"{table.summary}\n"
    facts = [f"Partitioned by {_code(table.partition_by)}", f"a row is identified by {_code(table.key)}"]
    if table.unique:
        facts.append(f"rows of equal `{table.unique}` are stored once")
    yield "; ".join(facts) + ".\n"
    yield "| column | type | unit | source | null |"
    yield "| --- | --- | --- | --- | --- |"
    for column in table.columns:
        cells = (
            f"`{column.name}`",
            TYPE_NAMES.get(str(column.type), str(column.type)),
            column.unit,
            column.source,
            column.null,
        )
        yield "| " + " | ".join(cells) + " |"
    yield ""


def _code(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    for name, picture in draw_pictures().items():
        (PICTURES / name).write_text(picture, encoding="utf-8")
