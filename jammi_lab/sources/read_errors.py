"""Errors for unreadable files: one sentence with the file's name, the line if known, and a hint."""

import os
import re
from pathlib import Path

import duckdb
import pyarrow as pa

from jammi_lab.core import foreign_errors
from jammi_lab.core.errors import (
    InvalidArgument,
    JammiError,
    SourceUnavailable,
    too_many_open_files,
)
from jammi_lab.core.identifiers import near_names, near_or_all
from jammi_lab.sources.locations import (
    Unreachable,
    base_of,
    display_location,
    literal_path,
    scheme_of,
)
from jammi_lab.storage.files import open_for_reading

SOURCE_ERRORS = (JammiError, OSError, duckdb.Error, pa.ArrowException)
"""What reading a source can raise."""
_FILE_PATTERNS = (
    re.compile(r"^\s*file ?= ?(.+)$", re.M),
    re.compile(r'file "([^"\n]+)"', re.I),
    re.compile(r"file '([^'\n]+)'", re.I),
    re.compile(r'pattern "([^"\n]+)"'),
)
MAX_FILE_BYTES = 256 << 20
"""Of a longer notebook, text or picture none is looked into."""
_LINE = re.compile(r"CSV Error on Line: (\d+)")
_JSON = re.compile(
    r'Malformed JSON in file "(.*?)", at byte (\d+) in (line|record/value) (\d+)', re.S
)
_DAMAGED = re.compile(
    r"decompress|GZIP stream|corrupted|don't know what type|deserialize "
    r"thrift|flatbuffers|IPC stream",
    re.I,
)


def display_name(name: str) -> str:
    """A file name without its folder and with non-printable characters escaped, so that a message
    stays on one line."""
    return "".join(
        c if c.isprintable() else repr(c)[1:-1] for c in os.path.basename(name.rstrip("/"))
    )


def missing_error(pattern: str) -> SourceUnavailable:
    """The error for a location without files."""
    if scheme_of(pattern) is not None:
        return SourceUnavailable(
            f"There is no file at {display_location(pattern)}.", hint="Check the URL."
        )
    path = literal_path(pattern)
    name = os.path.basename(path or pattern)
    if "\\" in name:
        written = name.replace("\\", "/")
        return SourceUnavailable(
            f"There is no file {name!r}.", hint=f"Folders are separated by /: {written!r}."
        )
    folder = os.path.dirname(path) if path is not None else base_of(pattern)
    is_there = os.path.isdir(folder or ".")
    where, sought = (folder, name) if is_there else os.path.split(folder)
    listed = "The folder has" if is_there else f"{where} has"
    similar = near_or_all(sought, _visible_names(where), listed)
    if is_there and path is None:
        return SourceUnavailable(f"No file matches {display_location(pattern)!r}.", **similar)
    if path is not None and os.path.isdir(path):
        return SourceUnavailable(
            f"The folder {path!r} contains no file that can be read as a table.",
            hint="Add data files to it, or use another folder.",
        )
    if os.path.isfile(name):
        similar["hint"] = f"The working folder has a file {name!r}."
    similar["hint"] = similar["hint"] or "Check the path."
    missing = f"file {name!r} in {folder!r}" if is_there else f"folder {folder!r}"
    return SourceUnavailable(f"There is no {missing}.", **similar)


def read_outside_file(file: Path) -> bytes:
    """The content of a text or a notebook. Raises InvalidArgument."""
    try:
        with open_for_reading(file, follow_links=True) as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise unreadable_text_error(file, error) from None
    if len(data) > MAX_FILE_BYTES:
        raise InvalidArgument(f"{str(file)!r} has more than {MAX_FILE_BYTES >> 20} MiB.")
    return data


def unreadable_text_error(file: Path, error: OSError) -> InvalidArgument:
    """The error for a text, a notebook or a saved file that cannot be read."""
    if os.path.isdir(file):
        return InvalidArgument(
            f"{str(file)!r} is a folder.", hint=f"Name the files in it, as in {file / '*'}."
        )
    near = []
    if isinstance(error, FileNotFoundError):
        near = near_names(file.name, _visible_names(str(file.parent)))
    return InvalidArgument(f"{str(file)!r} cannot be read: {error.strerror}.", near=near)


def _visible_names(folder: str) -> list[str]:
    try:
        return sorted(
            display_name(name) for name in os.listdir(folder or ".") if not name.startswith(".")
        )
    except OSError:
        return []


def unreadable_error(name: str, error: OSError) -> JammiError:
    """The error for an existing file that cannot be read."""
    if exhausted := too_many_open_files(error, display_name(name)):
        return exhausted
    if isinstance(error, PermissionError):
        return file_error("Permission denied", name)
    if isinstance(error, Unreachable):
        return SourceUnavailable(
            f"{display_location(name)} cannot be reached: {error}.",
            hint="Check the URL, the server and the credentials.",
        )
    return SourceUnavailable(
        f"{display_name(name)} cannot be read: {(error.strerror or str(error)).lower()}."
    )


def file_error(problem: str, name: str) -> JammiError:
    """The error for a file with one of the problems of `foreign_errors`."""
    return foreign_errors.to_error("file", problem, name=display_name(name)) or SourceUnavailable(
        f"{display_name(name)} cannot be read: {problem}."
    )


def is_damage(text: str) -> bool:
    """Whether a DuckDB message reports corrupt bytes in a Parquet file."""
    return _DAMAGED.search(text) is not None


def empty_error(location: str, kind: str) -> SourceUnavailable:
    """The error for text files that are all empty."""
    message = f"{display_name(display_location(location))} is empty."
    return SourceUnavailable(
        message, hint="Add a header line and rows." if kind in ("csv", "tsv") else "Add rows."
    )


def truncated_compressed_error(name: str) -> SourceUnavailable:
    """The error for an incomplete compressed text file."""
    suffix = os.path.splitext(name.lower())[1]
    codec = {".gz": "gzip", ".zst": "zstd", ".bz2": "bzip2", ".zip": "zip"}.get(suffix, "xz")
    return SourceUnavailable(
        f"{display_name(name)} is not a complete {codec} file.",
        hint="It may be truncated or incomplete: write it again.",
    )


def read_error(text: str) -> JammiError | None:
    """The error for a DuckDB message about a file; None if the message is about something else."""
    name = _file_name(text)
    if malformed := _JSON.search(
        text
    ):  # DuckDB counts one too many, and values where they are not one to a line
        position = f"{'line' if malformed[3] == 'line' else 'value'} {int(malformed[4]) - 1}"
        return SourceUnavailable(
            f"{display_name(malformed[1])}, {position}: this is not JSON.",
            hint="Correct the file, or set kind=.",
        )
    if (error := foreign_errors.to_error("file", text, name=name)) is not None:
        return error
    if _LINE.search(text) or (
        name != "A file"
        and text.startswith(("IO Error", "Invalid Input Error", "Conversion Error"))
    ):
        return unexplained_error(name, text)
    return None


def unexplained_error(name: str, text: str) -> SourceUnavailable:
    """The error for any other message of DuckDB: its first line, without the class."""
    reason = text.splitlines()[0].split(": ", 1)[-1].rstrip(".")
    return SourceUnavailable(f"{name} cannot be read: {reason}.")


_REMOTE = re.compile(
    r"HTTP "
    r"(?:GET|HEAD|PUT|POST)|\b(?:Unreachable|FileNotFoundError|PermissionError|TimeoutError|jammimount\d+)\b"
)


def remote_error(location: str, text: str) -> JammiError | None:
    """The error for a DuckDB message about remote files; None if the message is about something
    else."""
    if not _REMOTE.search(text):
        return None
    return foreign_errors.to_error("remote", text, location=location)


def _file_name(text: str) -> str:
    for pattern in _FILE_PATTERNS:
        if match := pattern.search(text):
            return display_name(match[1].strip())
    return "A file"


def reason_of(error: BaseException) -> str:
    """One clause about a failed observation."""
    if isinstance(error, JammiError):
        return error.message.rstrip(".")
    if isinstance(error, OSError):
        if isinstance(error, Unreachable):
            return str(error)
        return unreadable_error(str(error.filename or "a file"), error).message.rstrip(".")
    return str(error).splitlines()[0][:200].rstrip(".")
