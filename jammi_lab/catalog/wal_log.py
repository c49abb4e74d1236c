"""Detects commits in SQLite's write-ahead log that SQLite silently leaves out.

After a kill, SQLite reads the log up to the first frame whose checksum does not match and drops the
rest. A torn last write is no loss, since nobody was told that it was done; a commit after the break
is one. A log that ends at a commit looks whole, wherever it was cut; the log's index, a file that
outlives the kill, tells how many frames had been committed.
"""

import contextlib
import os
import sqlite3
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jammi_lab.storage.files import open_for_reading

_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24
_MAGIC, _BIG_ENDIAN = 0x377F0682, 1
_MIN_PAGE_BYTES, _MAX_PAGE_BYTES = 512, 65536
_INDEX_HEADER = struct.Struct("=3I2BH8I")
"""The first bytes of the log's index, in the byte order of the machine; they are there twice. Field
3 is whether it is filled, 6 the frames committed, 10 and 11 the salts, 12 and 13 the checksum."""
_INDEX_BYTES = 100
"""Both headers, and the number of frames that the database has."""


class Commits(NamedTuple):
    """The commits in a log, by its frames' headers."""

    salts: bytes
    """Distinguish this log from earlier ones in the same file."""
    frames: int
    """Frames up to the last one that ends a commit, at least those that the index tells."""
    has_valid_header: bool
    is_gone: bool = False
    """Whether there is no log, though its index tells of commits that the database does not
    have."""


class _Index(NamedTuple):
    """What the index of a log tells."""

    salts: bytes
    frames: int
    frames_in_database: int


def read_commits(path: Path, *, with_index: bool) -> Commits | None:
    """The commits that a log has, or must have by its index; None when there are none.

    Reading the log releases no lock, because SQLite takes none on it. Closing the index releases
    those of all connections of this process, so `with_index` is for a process that has none.
    """
    index = _read_index(path) if with_index else None  # before the log, which grows first
    log = _read_log(path)
    if index is None or (log.frames if log else 0) >= index.frames:
        return log if log and (log.frames or not log.has_valid_header) else None
    if log is not None and log.has_valid_header:
        return log._replace(frames=index.frames) if log.salts == index.salts else log
    # Another kernel that empties the log first says in the index that the database has it all.
    is_lost = index.frames > index.frames_in_database and _read_index(path) == index
    return log or (Commits(index.salts, index.frames, False, is_gone=True) if is_lost else None)


def _read_log(path: Path) -> Commits | None:
    """The commits in a log by its own frames; None when it has no header and no frame."""
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
        return Commits(salts, frames, has_valid_header=True)
    return None


def _read_index(log: Path) -> _Index | None:
    """What the index of a log tells; None when there is none, or when it was not written since the
    machine started: what a power cut leaves of it may be older or newer than the log."""
    path = log.with_name(log.name.removesuffix("-wal") + "-shm")
    with contextlib.suppress(OSError), open_for_reading(path) as file:
        if os.fstat(file.fileno()).st_mtime < time.time() - _seconds_since_start():
            return None
        data = file.read(_INDEX_BYTES)
        if len(data) < _INDEX_BYTES or data[:48] != data[48:96]:
            return None
        fields = _INDEX_HEADER.unpack_from(data)
        words = struct.unpack_from("=10I", data)
        if _sum_of(words, (0, 0)) != fields[12:14] or not fields[3]:
            return None
        return _Index(data[32:40], fields[6], int.from_bytes(data[96:100], sys.byteorder))
    return None


def _seconds_since_start() -> float:
    # macOS has no CLOCK_BOOTTIME; its monotonic clock goes on while the machine sleeps
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def has_lost_commits(path: Path, commits: Commits, connection: sqlite3.Connection) -> bool:
    """Whether a connection reads fewer commits than were in the log before it was opened, because
    the log is damaged. Raises sqlite3.OperationalError when the write lock is not released."""
    _, frames, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    if commits.is_gone:
        return True
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
    words = struct.unpack(f"{'>' if header[3] & _BIG_ENDIAN else '<'}{len(data) // 4}I", data)
    return _sum_of(words, start)


def _sum_of(words: Sequence[int], start: tuple[int, int]) -> tuple[int, int]:
    first, second = start
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
