"""Detects commits in SQLite's write-ahead log that SQLite silently leaves out.

After a kill, SQLite reads the log up to the first frame whose checksum does not match and drops the
rest. A torn last write is no loss, since nobody was told that it was done; a commit after the break
is one.
"""

import contextlib
import sqlite3
import struct
from pathlib import Path
from typing import NamedTuple

from jammi_lab.storage.files import open_for_reading

_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24
_MAGIC, _BIG_ENDIAN = 0x377F0682, 1
_MIN_PAGE_BYTES, _MAX_PAGE_BYTES = 512, 65536


class Commits(NamedTuple):
    """The commits in a log, by its frames' headers."""

    salts: bytes
    """Distinguish this log from earlier ones in the same file."""
    frames: int
    """Frames up to the last one that ends a commit."""
    has_valid_header: bool


def read_commits(path: Path) -> Commits | None:
    """The commits in a log; None when there is no log with frames. Reading it releases no lock,
    because SQLite takes none on it."""
    with contextlib.suppress(OSError), open_for_reading(path) as file:
        header = file.read(_HEADER_BYTES)
        if len(header) < _HEADER_BYTES or not any(header):
            return None
        page_bytes = struct.unpack_from(">I", header, 8)[0]
        salts, frames, number = header[16:24], 0, 0
        if not _is_valid(header, page_bytes):
            has_frames = bool(file.read(_FRAME_HEADER_BYTES).strip(b"\0"))
            return Commits(salts, 0, has_valid_header=False) if has_frames else None
        while len(frame := file.read(_FRAME_HEADER_BYTES)) == _FRAME_HEADER_BYTES:
            number += 1
            # the database's size in pages is only in the last frame of a commit
            if frame[8:16] == salts and any(frame[4:8]):
                frames = number
            file.seek(page_bytes, 1)
        return Commits(salts, frames, has_valid_header=True) if frames else None
    return None


def has_lost_commits(path: Path, commits: Commits, connection: sqlite3.Connection) -> bool:
    """Whether a connection reads fewer commits than were in the log before it was opened, because
    the log is damaged. Raises sqlite3.OperationalError when the write lock is not released."""
    _, frames, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    # less than 0: another kernel checkpoints
    if commits.has_valid_header and (frames < 0 or frames >= commits.frames):
        return False
    # Fewer are readable for a moment while another kernel commits or restarts the log, and for
    # ever if it was killed while it synced a commit; its frames are intact then.
    connection.execute("BEGIN IMMEDIATE")
    try:
        return _is_damaged(path, commits, frames)
    finally:
        connection.rollback()


def _is_damaged(path: Path, commits: Commits, readable: int) -> bool:
    """Whether a frame after the readable ones, up to the last commit, does not match its checksum.
    Nobody must write meanwhile."""
    with contextlib.suppress(OSError), open_for_reading(path) as file:
        header = file.read(_HEADER_BYTES)
        if header[16:24] != commits.salts:
            return False
        page_bytes = struct.unpack_from(">I", header, 8)[0]
        if not _is_valid(header, page_bytes):
            return True
        checksum = struct.unpack_from(">2I", header, 24)
        if readable > 0:
            file.seek((readable - 1) * (_FRAME_HEADER_BYTES + page_bytes), 1)
            checksum = struct.unpack_from(">2I", file.read(_FRAME_HEADER_BYTES), 16)
            file.seek(page_bytes, 1)
        for _ in range(max(readable, 0), commits.frames):
            frame, page = file.read(_FRAME_HEADER_BYTES), file.read(page_bytes)
            if frame[8:16] != commits.salts or len(page) < page_bytes:
                return True
            checksum = _checksum(header, frame[:8] + page, checksum)
            if checksum != struct.unpack_from(">2I", frame, 16):
                return True
    return False


def _is_valid(header: bytes, page_bytes: int) -> bool:
    magic = struct.unpack_from(">I", header)[0]
    if magic & ~_BIG_ENDIAN != _MAGIC or not _MIN_PAGE_BYTES <= page_bytes <= _MAX_PAGE_BYTES:
        return False
    return _checksum(header, header[:24], (0, 0)) == struct.unpack_from(">2I", header, 24)


def _checksum(header: bytes, data: bytes, start: tuple[int, int]) -> tuple[int, int]:
    """The checksum of a log continued over more data (https://sqlite.org/walformat.html)."""
    first, second = start
    words = struct.unpack(f"{'>' if header[3] & _BIG_ENDIAN else '<'}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
