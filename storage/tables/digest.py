"""A Parquet file's digest of itself, in its footer.

Parquet has checksums for the contents of pages only. The pages' headers and the footer have none, and a reader believes
them: how values are encoded, where they are, and the bounds by which it leaves out row groups. So a file of ours has in
its footer, as key-value metadata, the SHA-256 of all its bytes, where the 64 hexadecimal digits of the digest itself
count as zeros. Any engine reads such a file as before; `storage.verify.folder` finds any byte that has changed.

To write one: give the rows' schema the metadata `NO_DIGEST`, write the file, then call `stamp`.
"""

import hashlib
from pathlib import Path
from typing import BinaryIO, Final

DIGEST_KEY: Final = b"kitelake.sha256"
_ZEROS: Final = b"0" * 64
NO_DIGEST: Final = {DIGEST_KEY: _ZEROS}
"""The schema metadata of a file that is to be stamped."""
_MARK: Final = DIGEST_KEY + b"\x18\x40"  # Thrift's compact form: then comes the next field, a binary of 64 bytes
_TAIL_BYTES: Final = 64 << 10  # behind the metadata the footer has only its author and a few bytes a column
_CHUNK_BYTES: Final = 1 << 20


def stamp(file: Path | BinaryIO) -> None:
    """Put a file's digest in the place that `NO_DIGEST` kept for it. Raises OSError; ValueError if there is none."""
    if isinstance(file, Path):
        with file.open("r+b") as opened:
            stamp(opened)
        return
    at = _place(file)
    if at is None:
        raise ValueError(f"got a file without {DIGEST_KEY.decode()} in its footer")
    digest = _digest(file, at)
    file.seek(at)
    file.write(digest)


def is_as_stamped(path: Path) -> bool | None:
    """Whether the file has all the bytes that it was stamped with; None if it has no digest. Raises OSError."""
    with path.open("rb") as file:
        at = _place(file)
        if at is None:
            return None
        file.seek(at)
        return file.read(len(_ZEROS)) == _digest(file, at)


def _place(file: BinaryIO) -> int | None:
    """Where the digest's digits begin."""
    start = max(file.seek(0, 2) - _TAIL_BYTES, 0)
    file.seek(start)
    at = file.read().rfind(_MARK)
    return None if at < 0 else start + at + len(_MARK)


def _digest(file: BinaryIO, at: int) -> bytes:
    sha256 = hashlib.sha256()
    file.seek(0)
    while left := at - file.tell():
        sha256.update(file.read(min(left, _CHUNK_BYTES)))
    sha256.update(_ZEROS)
    file.seek(at + len(_ZEROS))
    while chunk := file.read(_CHUNK_BYTES):
        sha256.update(chunk)
    return sha256.hexdigest().encode()
