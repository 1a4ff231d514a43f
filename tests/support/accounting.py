"""What the simulator sent, by its own record, against what is stored: every packet a row, field for field.

The record is decoded by the plain twin of the codec.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

import kitelake
from ingest.server.record import RecordKind, read_record
from ingest.wire.plain import decode_packet, split_frame
from storage.schema import TICKS
from tests.support.running import Running, committed_rows
from tests.support.simulation import Simulation

Sequences = dict[tuple[str, int], list[dict[str, Any]]]
NOT_ON_THE_WIRE = {"date", "received_at", "stream", "seq", "account", "connection", "symbol"}


def sent(record: Path) -> Sequences:
    """What the simulator sent of each instrument to each account, in order. An instrument is on one connection at a
    time, so its packets are ordered even across reconnects."""
    sequences: Sequences = defaultdict(list)
    for entry in read_record(record):
        if entry.kind in (RecordKind.PACKETS, RecordKind.DAMAGED):
            for packet in split_frame(entry.payload)[0]:
                row = {name: value for name, value in decode_packet(packet).items() if value is not None}
                sequences[entry.connection.account, row["instrument_token"]].append(row)
    return sequences


def stored(data: Path) -> Sequences:
    """What is in the table, likewise."""
    sequences: Sequences = defaultdict(list)
    with kitelake.open(data) as lake:
        columns = ", ".join(f'"{c.name}"' for c in TICKS.columns if c.name not in NOT_ON_THE_WIRE)
        # Of streams that began in the same second the names do not say which was first.
        order = "min(received_at) over (partition by stream), stream, seq"
        table = lake.sql(f"select account, {columns} from ticks order by {order}").arrow()
    for row in table.to_pylist():
        sequences[row.pop("account"), row["instrument_token"]].append(
            {name: value for name, value in row.items() if value is not None}
        )
    return sequences


def assert_accounted(service: Running, simulator: Simulation) -> None:
    """After the service has stopped: the table holds what was sent, and nothing else."""
    packets = simulator.stats()["packets"]
    simulator.stop()
    assert committed_rows(service.data) == packets
    expected, found = sent(Path(simulator.settings["record"])), stored(service.data)
    assert found.keys() == expected.keys()
    for key, rows in expected.items():
        assert found[key] == rows, key
