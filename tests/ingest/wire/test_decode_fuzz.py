"""Mutated frames by the thousand, in `make soak` by the million: no exception, no byte lost.

The decoder is compared with its plain twin. Through the journal the frames pass the writer, a segment's file, the
reader, and the decoder that makes rows of them.
"""

from pathlib import Path
from random import Random

import pytest

from ingest.wire import decode_frames_with_report, plain
from ingest.wire.journal import JournalDecoder
from storage.journal import JournalWriter, Kind, SegmentReader, segments
from storage.layout import DataLayout
from tests.support.packets import mutated, random_frame
from tests.support.scaled import scaled

BATCH = 5_000
STREAM = "20261123T034500-aaaaaa"
NINE_FIFTEEN_NS = 1_795_405_500_000_000_000


def fuzz(frames: int, seed: int, folder: Path) -> None:
    random = Random(seed)
    layout = DataLayout(folder)
    journal = JournalWriter(layout, STREAM, segment_bytes=1 << 20)
    channel = journal.channel("asha", 1)
    packets = total_bytes = quarantined_bytes = 0
    for batch_number in range(frames // BATCH):
        pool = [random_frame(random, random.randrange(7)) for _ in range(200)]
        pool += [random_frame(random, 4, (length,)) for length in (8, 184)]
        batch = [mutated(random, random.choice(pool)) for _ in range(BATCH)]
        table, report = decode_frames_with_report(batch)
        table.validate(full=True)
        assert report.frames == BATCH
        assert report.packets == table.num_rows
        assert report.accounted_bytes == report.total_bytes == sum(map(len, batch)), (seed, batch_number)
        if batch_number % 10 == 0:
            rows, plain_report = plain.decode_frames(batch)
            assert report == plain_report, (seed, batch_number)
            assert table.to_pylist() == rows, (seed, batch_number)
        assert len(report.quarantined) > BATCH // 10  # the mutations do bite
        packets += report.packets
        total_bytes += report.total_bytes
        quarantined_bytes += report.quarantined_bytes
        for number, frame in enumerate(batch):
            journal.append(Kind.BINARY, channel, NINE_FIFTEEN_NS + number, frame)
            if number % 500 == 499:
                journal.flush()
    journal.close()
    assert journal.durable_records == frames // BATCH * BATCH
    found = through_the_journal(layout)
    assert found == (packets, total_bytes, quarantined_bytes)


def through_the_journal(layout: DataLayout) -> tuple[int, int, int]:
    """Rows of ticks, bytes of all frames, and bytes in quarantine, as the segments give them."""
    decoder = JournalDecoder()
    rows = frame_bytes = quarantined_bytes = next_seq = 0
    for number in segments(layout, STREAM):
        with SegmentReader(layout.segment(STREAM, number)) as reader:
            blocks = reader.read()
            assert not reader.finish()
        frame_bytes += sum(len(payload) for block in blocks for _, payload in block.payloads(Kind.BINARY))
        decoded = decoder.decode(STREAM, number, blocks, first_seq=next_seq, symbols=lambda _day: None)
        next_seq += decoded.packets
        ticks = [part.rows for part in decoded.parts.get("ticks", [])]
        rows += sum(part.num_rows for part in ticks)
        seqs = sorted(seq for part in ticks for seq in part.column("seq").to_pylist())
        assert seqs == list(range(next_seq - decoded.packets, next_seq))
        for part in decoded.parts.get("quarantine", []):
            lengths = [len(data) for data in part.rows.column("data").to_pylist()]
            assert part.rows.column("length").to_pylist() == lengths
            quarantined_bytes += sum(lengths)
    assert rows == next_seq
    return rows, frame_bytes, quarantined_bytes


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_mutated_frames(tmp_path: Path, seed: int) -> None:
    fuzz(scaled(2_500, 50_000), seed, tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_million_mutated_frames(tmp_path: Path) -> None:
    fuzz(1_000_000, 3, tmp_path)
