"""The bytes of text files as UTF-8: containers are opened, encodings converted.

DuckDB reads UTF-8, plain or as `.gz` and `.zst`. Of any other file a converted copy is made in a
temporary folder of the process, in a stream, once per state of the file.
"""

import bz2
import codecs
import contextlib
import errno
import gzip
import io
import lzma
import os
import re
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from jammi_lab.core.caches import BoundedCache
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import ResourceExhausted, SourceUnavailable
from jammi_lab.sources.files.file_sets import SourceFile
from jammi_lab.sources.files.formats import COMPRESSED_SUFFIXES, is_skipped
from jammi_lab.sources.files.snapshots import change_token
from jammi_lab.sources.locations import Unreachable
from jammi_lab.sources.read_errors import display_name, truncated_compressed_error
from jammi_lab.sources.temporary_copies import TemporaryCopy, load_copy
from jammi_lab.storage import spill_folders
from jammi_lab.storage.files import CLOCK_SECONDS

BLOCK_BYTES = 1 << 20
_MAX_CACHED_FILES = 1024
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks, the longer ones first."""
_GUESSES = (
    "cp1252",
    "latin-1",
    "utf-16-le",
    "utf-16-be",
    "cp1250",
    "cp1251",
    "shift_jis",
    "gb18030",
    "big5",
    "euc_kr",
)
"""Encodings that a message names where the file can be decoded by them."""
_MAX_NAMED_ENCODINGS = 4
_last_lines = BoundedCache[SourceFile, int](_MAX_CACHED_FILES)
"""The bytes of the last lines of compressed files that were decompressed to the end."""
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LINE_ENDS = b"\r\n"


def is_compressed(source_file: SourceFile) -> bool:
    """Whether the name says that the file is in a container."""
    return source_file.path.lower().endswith(COMPRESSED_SUFFIXES)


def decompressed(file: BinaryIO, source_file: SourceFile) -> BinaryIO:
    """The bytes of an open file, taken out of the container that its name tells. Raises
    SourceUnavailable for a zip archive of several files or none, and for an encrypted one."""
    match os.path.splitext(source_file.path.lower())[1]:
        case ".gz":
            return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]
        case ".bz2":
            return bz2.BZ2File(file)  # type: ignore[return-value]
        case ".xz":
            return lzma.LZMAFile(file)  # type: ignore[return-value]
        case ".zst":
            return pa.CompressedInputStream(file, "zstd")  # type: ignore[no-any-return]
        case ".zip":
            return _member(file, display_name(source_file.path))
    return file


def files_of_archive(file: BinaryIO, name: str) -> list[str]:
    """The names of the files in a zip archive, without hidden ones and those that macOS adds.
    Raises SourceUnavailable for a damaged archive, and for one of hidden files only."""
    try:
        members = zipfile.ZipFile(file).namelist()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError):
        raise truncated_compressed_error(name) from None
    files = [member for member in members if not member.endswith("/")]
    shown = [file for file in files if not any(map(is_skipped, file.split("/")))]
    if files and not shown:
        also = " and the like" if files[1:] else ""
        raise SourceUnavailable(
            f"{name} contains only {files[0][:100]!r}{also}; a file in an archive is left out if "
            "its name or that of a folder begins with . or _.",
            hint="Unpack it, and add the file.",
        )
    return shown


def _member(file: BinaryIO, name: str) -> BinaryIO:
    members = files_of_archive(file, name)
    if len(members) == 1:
        try:
            return zipfile.ZipFile(file).open(members[0])  # type: ignore[return-value]
        except RuntimeError:
            raise SourceUnavailable(
                f"{name} is encrypted, or packed in a way that is not supported.",
                hint="Unpack it, and add the file.",
            ) from None
    raise SourceUnavailable(
        f"{name} contains {len(members)} files; an archive is read if it contains one table.",
        hint="Unpack it, and add the folder.",
    )


def is_nonempty(source_file: SourceFile) -> bool:
    """Whether a text file is not empty. A compressed file is decompressed to the end, once per
    content as proved by its stat.

    Raises OSError, and SourceUnavailable for a truncated compressed file, of which DuckDB would
    silently return the rows before the end.
    """
    if not is_compressed(source_file):
        return source_file.stat.size > 0
    return _last_line_of(source_file) >= 0


def _last_line_of(source_file: SourceFile) -> int:
    """The bytes of the last line of a compressed file that is not blank; -1 for an empty file.
    Raises as `is_nonempty`."""
    if (cached := _last_lines.get(source_file)) is not None:
        return cached
    now = time.time_ns()
    size, is_open = -1, False
    with container_errors(source_file), open_content(source_file) as stream:
        while block := stream.read(BLOCK_BYTES):
            text = block.rstrip(_LINE_ENDS)
            if not text:
                size, is_open = max(size, 0), False
                continue
            begin = _begin_of_last_line(text)
            before = size if is_open and begin == 0 else 0
            size, is_open = before + len(text) - begin, len(text) == len(block)
    if source_file.is_proved(now, CLOCK_SECONDS):
        _last_lines.put(source_file, size)
    return size


def _begin_of_last_line(text: bytes) -> int:
    return max(text.rfind(b"\n"), text.rfind(b"\r")) + 1


@contextlib.contextmanager
def container_errors(source_file: SourceFile) -> Iterator[None]:
    """Raise SourceUnavailable for a truncated or corrupt container that is read inside."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile):
        raise truncated_compressed_error(os.path.basename(source_file.path)) from None
    except OSError as error:
        # Without errno the error comes from the decoder, not from the file system.
        if error.errno is None and not isinstance(error, Unreachable):
            raise truncated_compressed_error(os.path.basename(source_file.path)) from None
        raise


@contextlib.contextmanager
def open_content(source_file: SourceFile) -> Iterator[BinaryIO]:
    """The bytes of a file, taken out of its container. Raises OSError, and as `decompressed`."""
    with source_file.open() as file:
        yield decompressed(file, source_file)


@contextlib.contextmanager
def open_text(
    source_file: SourceFile, encoding: str, errors: str = "replace"
) -> Iterator[io.TextIOWrapper]:
    """The text of a file, with its line ends as they are. Raises as `open_content`."""
    with open_content(source_file) as content:
        yield io.TextIOWrapper(content, encoding, errors, newline="")


@dataclass(frozen=True, slots=True)
class TextFile:
    """A text file of a source, and what says how it is read."""

    source_file: SourceFile
    address: str
    """The name under which DuckDB reads its bytes."""
    options: Mapping[str, Any]
    """The options of the source."""
    copies: list[TemporaryCopy] = field(default_factory=list, compare=False)
    """Keeps the copies that are read in its place."""

    @property
    def path(self) -> str:
        """Its absolute path or URL."""
        return self.source_file.path

    @property
    def encoding(self) -> str:
        """The name of its encoding: by its byte order mark, else by the option, which names one for
        all files or one by file name; else UTF-8. Raises OSError."""
        with open_content(self.source_file) as content:
            start = content.read(4)
        for mark, name in _MARKS:
            if start.startswith(mark):
                return name
        given = self.options.get("encoding", "utf-8")
        if isinstance(given, dict):
            given = given.get(self.source_file.relative) or given.get(os.path.basename(self.path))
        name = codecs.lookup(given or "utf-8").name
        if name == "utf-16":  # without a byte order mark, which is told by the first character
            return "utf-16-be" if start[:1] == b"\0" else "utf-16-le"
        return name

    def last_line_bytes(self, enough: int) -> int:
        """The bytes of its last line that is not blank, or some number above `enough`. Raises as
        `utf8_address`."""
        address = self.utf8_address(0)
        if address == self.address and is_compressed(self.source_file):
            return _last_line_of(self.source_file)
        with self.source_file.open() if address == self.address else open(address, "rb") as file:
            end, text = file.seek(0, os.SEEK_END), b""
            while end and not text:
                start = file.seek(max(0, end - BLOCK_BYTES))
                text = file.read(end - start).rstrip(_LINE_ENDS)
                end = start + len(text)
            start = file.seek(max(0, end - enough - 1))
            text = file.read(end - start)
        return len(text) - _begin_of_last_line(text)

    def utf8_address(self, skip: int | None = None) -> str:
        """The name under which DuckDB reads the file as UTF-8: `address`, or the path of a
        converted copy. A number of lines to `skip` is set for CSV files, of which DuckDB skips the
        byte order mark; lines are skipped here, because DuckDB 1.5.5 counts neither comments nor
        blank lines among them. Raises OSError; SourceUnavailable for bytes that are not of their
        encoding."""
        encoding = self.encoding
        is_readable = encoding == "utf-8" or (encoding == "utf-8-sig" and skip is not None)
        suffix = os.path.splitext(self.path.lower())[1]
        if is_readable and not skip and suffix not in (".bz2", ".xz", ".zip"):
            return self.address
        is_proved = self.source_file.is_proved(time.time_ns(), CLOCK_SECONDS)
        folder = f"{_mark_of(self.source_file)}-{skip or 0}"
        parts = [part for part in os.path.dirname(self.path).split("/") if "=" in part]
        name = os.path.join(folder, *parts, f"{os.path.basename(self.path)}.utf8")

        def write(path: Path) -> None:
            _convert(self.source_file, encoding, skip or 0, path)
            if isinstance(self.options.get("encoding"), str) and not encoding.startswith("utf-8"):
                _check_is_not_utf8(self.source_file, encoding)

        state = [folder, encoding, change_token([self.source_file])]
        key = digest_of(state) if is_proved else None
        copy = load_copy(key, lambda: TemporaryCopy(name, write))
        self.copies.append(copy)
        return str(copy.path)


def _mark_of(source_file: SourceFile) -> str:
    return digest_of([source_file.realm, source_file.path])[:16]


def lines_skipped_in(source_file: SourceFile, message: str) -> int | None:
    """How many first lines the copy of a file lacks that a message names; None for a message that
    names no copy of it."""
    named = re.search(rf"/{_mark_of(source_file)}-(\d+)/", message)
    return None if named is None else int(named[1])


def _convert(source_file: SourceFile, encoding: str, skip: int, path: Path) -> None:
    """Write a copy in UTF-8 without the first lines."""
    line = 1
    try:
        path.parent.mkdir(parents=True)
        with (
            container_errors(source_file),
            open_text(source_file, encoding, "strict") as text,
            open(path, "wb") as copy,
        ):
            for _ in range(skip):
                text.readline()
                line += 1
            while block := text.read(BLOCK_BYTES):
                copy.write(block.encode())
                line += block.count("\n")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode(encoding, "replace")
        line += before.count("\n")
        raise encoding_error(source_file, encoding, line) from None
    except OSError as error:
        if error.errno not in _FULL_DISK:
            raise
        raise ResourceExhausted(
            f"No space is left in {spill_folders.temporary_folder()} for a copy of "
            f"{display_name(source_file.path)} as plain UTF-8.",
            hint="Free some space there, or unpack the file where there is room.",
        ) from None


def _check_is_not_utf8(source_file: SourceFile, encoding: str) -> None:
    """Raise SourceUnavailable for a file that is UTF-8 and would read as other characters."""
    try:
        with open_text(source_file, "utf-8", "strict") as text:
            has_other_characters = False
            while block := text.read(BLOCK_BYTES):
                if "\0" in block:
                    return  # no text in UTF-8
                has_other_characters |= encoding.startswith("utf-") or not block.isascii()
    except UnicodeDecodeError:
        return
    if not has_other_characters:
        return
    hint = "Leave out the option encoding."
    if source_file.relative:
        hint = f'Name the files that have it: options={{"encoding": {{"file": "{encoding}"}}}}.'
    name = display_name(source_file.path)
    raise SourceUnavailable(f"{name} is UTF-8, not {encoding}.", hint=hint)


def encoding_error(
    source_file: SourceFile, encoding: str, line: int | None = None
) -> SourceUnavailable:
    """The error for a text file that is not of its encoding, with those by which it can be decoded.
    Raises OSError."""
    names: list[str] = []
    for guess in _GUESSES:
        if guess == "latin-1" and "cp1252" in names:
            continue  # the same but for control characters
        if guess != encoding and _decodes(source_file, guess):
            names.append(guess)
    name = display_name(source_file.path) + (f", line {line}" if line else "")
    shown = {"utf-8": "UTF-8", "utf-16": "UTF-16"}.get(encoding, encoding)
    if not names:
        return SourceUnavailable(
            f"{name}: not {shown}.",
            hint="Write the file again as UTF-8; if it is no text, name it as what it is, such as "
            ".xlsx or .csv.gz.",
        )
    given = f'"{names[0]}"'
    if source_file.relative:
        given = f'{{"{os.path.basename(source_file.path)}": "{names[0]}"}}'
    others = names[1:_MAX_NAMED_ENCODINGS]
    also = f" It can also be decoded as {', '.join(others)}." if others else ""
    return SourceUnavailable(
        f"{name} is not {shown}.", hint=f'Set options={{"encoding": {given}}}.{also}'
    )


def _decodes(source_file: SourceFile, encoding: str) -> bool:
    """Whether a file is text in this encoding."""
    try:
        with open_text(source_file, encoding, "strict") as text:
            while block := text.read(BLOCK_BYTES):
                if "\0" in block or (encoding.startswith("utf-16") and "\n" not in block):
                    return False
    except UnicodeError:
        return False
    return True
