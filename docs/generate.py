"""Write docs/data-dictionary.md from the schema: `make docs`. A test fails when the two differ."""

from collections.abc import Iterator
from pathlib import Path

from storage.schema import TABLES, Table

PAGE = Path(__file__).parent / "data-dictionary.md"

TYPE_NAMES = {"double": "float64", "date32[day]": "date", "timestamp[us, tz=UTC]": "timestamp, UTC"}

INTRODUCTION = """\
# Data dictionary

<!-- Written by `make docs` from storage/schema.py: change it there. -->

Every table is a Delta table in a folder of its own under the data folder: plain Parquet files, partitioned as said
below, and a commit log. In SQL the tables are views of the same names, with the columns in this order, partition
columns first.

- Times are UTC in the files and print in IST in SQL. Prices are rupees as float64, exactly the wire's integer over its
  divisor (10,000,000 for CDS, 10,000 for BCD and NCO, 100 for the others).
- What a packet does not carry is null, never 0.
- Positions such as `packet @44` are bytes from the packet's beginning, as in the broker's documentation; `index` means
  index quote and index full packets, which order their prices otherwise.
"""


def page() -> str:
    """The whole page as Markdown."""
    return "\n".join([INTRODUCTION, *(line for table in TABLES.values() for line in _section(table))]) + "\n"


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
