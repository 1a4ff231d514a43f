"""Kite's binary packets, sans-I/O: bytes to columns and back, and where every byte went."""

from ingest.wire.decode import decode_frames, decode_frames_with_report
from ingest.wire.encode import encode_frames, encode_packets, encode_payload
from ingest.wire.layouts import EXCHANGES, LAYOUTS, MODES, Layout, Mode, divisor_of, exchange_of
from ingest.wire.views import frame_views, packet_view, run_view
from ingest.wire.walk import Quarantined, Reason, Walk, WireReport, walk_frames

__all__ = [
    "EXCHANGES",
    "LAYOUTS",
    "MODES",
    "Layout",
    "Mode",
    "Quarantined",
    "Reason",
    "Walk",
    "WireReport",
    "decode_frames",
    "decode_frames_with_report",
    "divisor_of",
    "encode_frames",
    "encode_packets",
    "encode_payload",
    "exchange_of",
    "frame_views",
    "packet_view",
    "run_view",
    "walk_frames",
]
