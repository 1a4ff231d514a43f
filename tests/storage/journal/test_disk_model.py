"""A model of a disk, and power cuts at every point of what the journal's writer does with it.

The writer runs over real files while each of its operations is noted: create, write, truncate, rename, unlink, mkdir,
and the two kinds of sync. Some of them fail. Behind each operation the power is cut, again and again with other luck:

- of a file's bytes that no sync has confirmed, each sector is kept, lost, torn at any byte, or never was;
- of a folder's names that no sync has confirmed, each change is kept or lost, in any combination;
- what was pending when a sync failed is settled then, one way or the other, and no later sync mends it.

What is left is put into a folder and read. Every record that the writer had called durable by then must be there, in
order, once, and nothing that was not written.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any, Literal

import pytest

import storage.journal.segment
from storage.errors import JournalError
from storage.journal import JournalWriter, Kind, RecordReader, segments
from storage.layout import DataLayout
from tests.support.scaled import scaled

STREAM = "20261122T091500-1f3a9c"
What = Literal["write", "truncate", "name", "unname", "sync", "failed sync", "sync folder"]


@dataclass(frozen=True)
class Operation:
    """Something the writer did: to a file, or to a name in a folder. `durable` is what it promised before it."""

    what: What
    durable: int
    file: int = -1
    offset: int = 0
    data: bytes = b""
    path: Path = Path()


class Machine:
    """Runs a writer over real files, notes its operations, and lets some fail."""

    def __init__(self, root: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.rng = rng
        self.operations: list[Operation] = []
        self.payloads: list[bytes] = []
        self.failures = 0.0
        self.now = 0.0
        self._writer: JournalWriter | None = None
        self._files: dict[Path, int] = {}
        self._count = 0
        self._patch_files(monkeypatch)
        self._patch_names(monkeypatch)

    def note(self, what: What, **more: Any) -> None:
        durable = 0 if self._writer is None else self._writer.durable_records
        self.operations.append(Operation(what, durable, **more))

    def fails(self) -> bool:
        return self.rng.random() < self.failures

    def _patch_files(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the writer does to a file is noted, or refused."""
        machine = self
        opened: dict[int, int] = {}

        class File(FileIO):
            def __init__(self, path: Path, mode: str) -> None:
                if machine.fails():
                    raise OSError(28, "No space left on device")
                super().__init__(path, mode)
                machine._count += 1
                self.number = machine._files[path] = opened[self.fileno()] = machine._count
                machine.note("name", file=self.number, path=path)

            def write(self, data: Any, /) -> int:
                view = memoryview(data)
                if machine.fails():
                    if machine.rng.random() < 0.5:
                        raise OSError(5, "Input/output error")
                    view = view[: machine.rng.randrange(1, len(view) + 1)]
                machine.note("write", file=self.number, offset=self.tell(), data=bytes(view))
                return super().write(view)

            def truncate(self, size: int | None = None, /) -> int:
                if machine.fails():
                    raise OSError(5, "Input/output error")
                assert size is not None
                machine.note("truncate", file=self.number, offset=size)
                return super().truncate(size)

        def sync_data(descriptor: int) -> None:
            failed = machine.fails()
            machine.note("failed sync" if failed else "sync", file=opened[descriptor])
            if failed:
                raise OSError(5, "Input/output error")

        monkeypatch.setattr(storage.journal.segment, "FileIO", File)
        monkeypatch.setattr(storage.journal.segment, "sync_data", sync_data)

    def _patch_names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the writer does to the names in a folder is noted, or refused."""
        machine = self
        plain_rename, plain_unlink = Path.rename, Path.unlink

        def rename(path: Path, target: Path) -> Path:
            if machine.fails():
                raise OSError(5, "Input/output error")
            number = machine._files[target] = machine._files.pop(path)
            machine.note("unname", path=path)
            machine.note("name", file=number, path=target)
            return plain_rename(path, target)

        def unlink(path: Path, missing_ok: bool = False) -> None:
            machine.note("unname", path=path)
            plain_unlink(path, missing_ok)

        def sync_folder(folder: Path) -> None:
            if machine.fails():
                raise OSError(5, "Input/output error")
            machine.note("sync folder", path=folder)

        monkeypatch.setattr(Path, "rename", rename)
        monkeypatch.setattr(Path, "unlink", unlink)
        monkeypatch.setattr(storage.journal.segment, "sync_folder", sync_folder)

    def run(self, steps: int) -> None:
        """A life of the writer: everything in any order, and mostly an end."""
        layout = DataLayout(self.root)
        for folder in (layout.journal, layout.stream(STREAM)):
            self.note("name", path=folder)
        size = self.rng.choice((1, 2000, 1 << 20))
        writer = self._writer = JournalWriter(
            layout, STREAM, segment_bytes=size, segment_seconds=50, monotonic=lambda: self.now
        )
        self.failures = self.rng.choice((0.0, 0.05, 0.3))
        for _ in range(steps):
            self.now += self.rng.choice((0.01, 0.5, 40))
            action = self.rng.choice(("append", "append", "flush", "flush", "sync"))
            try:
                if action == "append":
                    for _ in range(self.rng.randrange(1, 4)):
                        payload = b"%d " % len(self.payloads) + self.rng.randbytes(self.rng.choice((5, 300, 1500)))
                        writer.append(Kind.BINARY, 0, len(self.payloads), payload)
                        self.payloads.append(payload)
                elif action == "flush":
                    writer.flush()
                else:
                    writer.sync()
            except JournalError:
                continue
        self.failures = self.failures if self.rng.random() < 0.5 else 0.0
        for _ in range(30):
            try:
                writer.close()
            except JournalError:
                continue
            break
        self.note("write", file=0)  # nothing: so that the last promise is kept too


@dataclass
class File:
    """A file on the model's disk: what is certain, and what no sync has confirmed."""

    certain: bytearray = field(default_factory=bytearray)
    pending: list[Operation] = field(default_factory=list)

    def settle(self, rng: random.Random) -> bytearray:
        """What the disk may hold after a power cut."""
        data = bytearray(self.certain)
        luck, sector = rng.choice((0.0, 0.3, 0.9, 1.0)), rng.choice((512, 4096))
        for one in self.pending:
            if one.what == "truncate":
                if rng.random() < luck:
                    del data[one.offset :]
                continue
            at = one.offset
            while at < one.offset + len(one.data):
                end = min(one.offset + len(one.data), at - at % sector + sector)
                lost_or_torn = rng.choice((at, at, rng.randrange(at, end)))
                kept = end if rng.random() < luck else lost_or_torn
                if kept > at:
                    put(data, at, one.data[at - one.offset : kept - one.offset])
                elif rng.random() < 0.3:
                    put(data, at, bytes(end - at))  # the size is there, the bytes are not
                at = end
        return data


def put(data: bytearray, at: int, piece: bytes) -> None:
    if len(data) < at:
        data.extend(bytes(at - len(data)))
    data[at : at + len(piece)] = piece


class Disk:
    """What survives of the operations up to a point."""

    def __init__(self) -> None:
        self.files: dict[int, File] = {}
        self.names: dict[Path, int] = {}
        self.pending: dict[Path, list[Operation]] = {}

    def apply(self, one: Operation, rng: random.Random) -> None:
        if one.what in ("name", "unname"):
            self.pending.setdefault(one.path.parent, []).append(one)
        elif one.what == "sync folder":
            for each in self.pending.pop(one.path, []):
                change(self.names, each)
        elif one.file:
            file = self.files.setdefault(one.file, File())
            if one.what in ("write", "truncate"):
                file.pending.append(one)
            else:
                if one.what == "failed sync":
                    file.certain = file.settle(rng)
                else:
                    for each in file.pending:
                        if each.what == "truncate":
                            del file.certain[each.offset :]
                        else:
                            put(file.certain, each.offset, each.data)
                file.pending.clear()

    def cut(self, rng: random.Random) -> dict[str, bytearray]:
        """The segments by name that are left in the stream's folder after a power cut."""
        names = dict(self.names)
        luck = rng.choice((0.0, 0.5, 1.0))
        for changes in self.pending.values():
            for each in changes:
                if rng.random() < luck:
                    change(names, each)
        whole = {path for path in names if all(parent in names for parent in (path.parent, path.parent.parent))}
        return {path.name: self.files.get(names[path], File()).settle(rng) for path in whole if names[path] > 0}


def change(names: dict[Path, int], one: Operation) -> None:
    if one.what == "name":
        names[one.path] = one.file
    else:
        names.pop(one.path, None)


def recovered(layout: DataLayout) -> Iterator[bytes]:
    """The payloads of all records, as every reader of the journal takes them."""
    record: int | None = 0
    for number in segments(layout, STREAM):
        try:
            reader = RecordReader(layout, STREAM, number, record)
        except JournalError:
            continue
        with reader:
            for block in reader.read():
                yield from (payload for _, payload in block.payloads(Kind.BINARY))
            assert not reader.waiting
            record = reader.next_record


def cut_power(folder: Path, rounds: int, states: int, seed: int) -> tuple[int, int]:
    """Cuts the power `states` times over several lives of a writer; how often, and how many records were durable."""
    rng = random.Random(seed)
    done = promised = 0
    after = DataLayout(folder / "after")
    after.stream(STREAM).mkdir(parents=True)
    for life in range(rounds):
        with pytest.MonkeyPatch.context() as monkeypatch:
            machine = Machine(folder / str(life), rng, monkeypatch)
            machine.run(steps=rng.choice((10, 40, 80)))
        root = machine.root
        disk = Disk()
        disk.names = dict.fromkeys((root, root.parent), 0)
        cuts = -(-(states - done) // (rounds - life) // len(machine.operations))
        for one in machine.operations:
            for _ in range(cuts):
                left = disk.cut(rng)
                for path in after.stream(STREAM).iterdir():
                    path.unlink()
                for name, data in left.items():
                    (after.stream(STREAM) / name).write_bytes(data)
                found = list(recovered(after))
                places = [int(payload.partition(b" ")[0]) for payload in found]
                assert places == sorted(set(places)), f"life {life}: got {places}"
                assert found == [machine.payloads[place] for place in places], f"life {life}"
                missing = set(range(one.durable)) - set(places)
                assert not missing, f"life {life}, before {one.what}: lost {sorted(missing)} of {one.durable}"
                done += 1
                promised += one.durable
            disk.apply(one, rng)
    return done, promised


@pytest.mark.slow
def test_no_durable_record_is_lost_whenever_the_power_is_cut(tmp_path: Path) -> None:
    number = scaled(400, 3_000)
    states, promised = cut_power(tmp_path, rounds=scaled(8, 40), states=number, seed=1)
    assert states >= number
    assert promised > states  # else the model would promise nothing


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
def test_a_hundred_thousand_power_cuts(tmp_path: Path, seed: int) -> None:
    states, _ = cut_power(tmp_path, rounds=150, states=10_000, seed=100 + seed)
    assert states >= 10_000
