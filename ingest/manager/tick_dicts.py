"""Packets as the dictionaries of the official client."""

from typing import Any

from ingest.wire import decode_packet, split_frame
from storage.ticks import tick_dict

Tick = dict[str, Any]


def ticks_of(frame: bytes) -> list[Tick]:
    """A frame's packets as the official client's dictionaries."""
    return [tick_dict(decode_packet(packet)) for packet in split_frame(frame)[0]]
