"""Columns of an instrument list as arrays, one value a row. Pure."""

import math
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.instruments.chains import NEVER, Ints, Mask, chains
from ingest.instruments.criteria import OPTIONS
from ingest.instruments.listing import Instruments


def column(table: pa.Table, name: str) -> pa.Array:
    """As it stands."""
    return table[name].combine_chunks()


def upper(table: pa.Table, name: str) -> pa.Array:
    """In capitals."""
    return pc.utf8_upper(column(table, name))


def mask(values: pa.Array) -> Mask:
    """Null is no."""
    found: Mask = pc.fill_null(values, False).to_numpy(zero_copy_only=False)
    return found


def is_in(values: pa.Array, wanted: Iterable[str]) -> Mask:
    """Which are one of these."""
    return mask(pc.is_in(values, pa.array(list(wanted), pa.string())))


def between(table: pa.Table, name: str, low: float | None, high: float | None) -> Mask:
    """Both bounds included; null is nowhere."""
    values = column(table, name).cast(pa.float64()).to_numpy(zero_copy_only=False)
    fits: Mask = (values >= (-math.inf if low is None else low)) & (values <= (math.inf if high is None else high))
    return fits


def options(table: pa.Table) -> Mask:
    """Which rows are options."""
    return is_in(column(table, "instrument_type"), OPTIONS)


def days_of(instruments: Instruments) -> Ints:
    """The expiry of each row, as `ingest.instruments.chains` counts it."""
    days: Ints = pc.fill_null(column(instruments.table, "expiry").cast(pa.int32()), NEVER).to_numpy().astype(np.int64)
    return days


def series_of(instruments: Instruments) -> Ints:
    """A number for each row that rows of the same segment and name have in common."""
    segment, name = (
        column(instruments.table, each).dictionary_encode("encode").indices.to_numpy().astype(np.int64)
        for each in ("segment", "name")
    )
    series: Ints = segment * len(name) + name
    return series


def chains_of(instruments: Instruments) -> Ints:
    """A number for each row that rows of the same series and expiry have in common."""
    return chains(series_of(instruments), days_of(instruments))
