"""What tests ask a lake."""

from queries.lake.lake import SqlLake

STREAM = "20261123T034500-aaaaaa"
TICKS = "select stream, seq, instrument_token, last_price from ticks order by all"


def rows(lake: SqlLake, query: str, params: object = None) -> list[tuple[object, ...]]:
    table = lake.sql(query, params).arrow()  # type: ignore[arg-type]
    return [tuple(row.values()) for row in table.to_pylist()]
