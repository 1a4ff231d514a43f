"""Whether the tables and versions are there that the rest of the folder speaks of.

A log that is gone, or whose last versions are, contradicts nothing in itself. But:

- Data files lie only in a table that has a log. All tables of the journal are there before the first segment is
  committed to one of them, and the lists are before ticks have a `symbol`.
- A segment is committed to ticks last. What another table has of a segment is in ticks too, or will be: then the
  segment is in the journal.
- The files of a segment that is neither are there because it was committed once; so are those of a committed segment
  of which the table itself knows nothing.
"""

from collections.abc import Collection, Iterator, Mapping

from storage.journal import segments, streams
from storage.layout import DataLayout, is_rebuilt, parse_file
from storage.schema import INSTRUMENTS, TABLES, TICKS, Table
from storage.verify.findings import VerifyFinding
from storage.verify.log import LogState


def compare_tables(
    layout: DataLayout, states: Mapping[str, LogState], missing: Collection[str], ticks_now: LogState
) -> Iterator[VerifyFinding]:
    """What is not there. `states` are of the tables whose logs can be read, ticks the oldest; `ticks_now` is newer.

    `missing` are the tables that have no log. Raises JournalError if the journal cannot be read.
    """
    for name in missing:
        if text := _why_expected(layout, TABLES[name], states):
            yield VerifyFinding("log", text, name)
    if TICKS.name not in states:
        return
    journal = {stream: set(segments(layout, stream)) for stream in streams(layout)}
    for name, state in states.items():
        if name != INSTRUMENTS.name:
            yield from _ahead(TABLES[name], state, ticks_now, journal)
            yield from _not_named(layout, TABLES[name], state, states[TICKS.name], ticks_now, journal)


def _why_expected(layout: DataLayout, spec: Table, states: Mapping[str, LogState]) -> str:
    files = sum(1 for _ in layout.table(spec.name).glob("*=*/**/*.parquet"))
    if files:
        return f"got {files} files and no log"
    if spec is INSTRUMENTS:
        ticks = states.get(TICKS.name, LogState()).files.values()
        named = any(file.stats["nullCount"].get("symbol", file.rows) < file.rows for file in ticks)
        return "it is not there, and ticks have symbols" if named else ""
    others = [name for name, state in states.items() if any("/" not in app for app in state.transactions)]
    return f"it is not there, and {', '.join(others)} have rows of the journal" if others else ""


def _ahead(spec: Table, state: LogState, ticks: LogState, journal: Mapping[str, set[int]]) -> Iterator[VerifyFinding]:
    """Segments that are committed to a table, and neither to ticks nor in the journal."""
    for stream, number in state.transactions.items():
        if "/" not in stream and number > ticks.transactions.get(stream, -1) and number not in journal.get(stream, ()):
            text = f"segment {number} is committed to {spec.name}, and neither to ticks nor in the journal"
            yield VerifyFinding("log", text, TICKS.name, stream=stream)


def _not_named(
    layout: DataLayout,
    spec: Table,
    state: LogState,
    ticks: LogState,
    ticks_now: LogState,
    journal: Mapping[str, set[int]],
) -> Iterator[VerifyFinding]:
    """Files that a version named once, and none does any more."""
    folder = layout.table(spec.name)
    known = {parse_file(relative) for relative in (*state.files, *state.removed)}
    found = []
    for path in folder.glob("*=*/**/*.parquet"):
        relative = path.relative_to(folder).as_posix()
        segment = parse_file(relative)
        if segment is None or is_rebuilt(relative) or segment in known:
            continue
        stream, number = segment
        is_lost = number > ticks_now.transactions.get(stream, -1) and number not in journal.get(stream, ())
        is_unknown = state.transactions.get(stream, -1) < number <= ticks.transactions.get(stream, -1)
        if is_lost or is_unknown:
            found.append(relative)
    if found:
        yield VerifyFinding(
            "log", f"got {len(found)} files of segments that no version names, as {min(found)}", spec.name
        )
