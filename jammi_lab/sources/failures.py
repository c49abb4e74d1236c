"""What is said when a file cannot be read: one sentence, the file's name, the line where known, and what to do."""

import os
import re

from jammi_lab.errors import JammiError, SourceUnavailable
from jammi_lab.names import near
from jammi_lab.sources.locations import Unreachable, base_of, literal_path, scheme_of, shown

_FILE = (
    re.compile(r"^\s*file ?= ?(.+)$", re.M),
    re.compile(r'file "([^"\n]+)"', re.I),
    re.compile(r"file '([^'\n]+)'", re.I),
    re.compile(r'pattern "([^"\n]+)"'),
)
_LINE = re.compile(r"CSV Error on Line: (\d+)")
_COUNTS = re.compile(r"Expected Number of Columns: (\d+) Found: (\d+)")
_VALUE = re.compile(r"""Error when converting column "(.*?)"\. Could not convert string "(.*?)" to '(.*?)'""", re.S)
_NO_COLUMN = re.compile(r'COLUMN_TYPES error: Columns with names: "(.*?)"')
_JSON = re.compile(r'Malformed JSON in file "(.*?)", at byte (\d+) in (line|record/value) (\d+)', re.S)
_UNLIKE = (
    re.compile(
        r'Schema mismatch between globbed files.*?schema: (?P<first>[^\n]+)\nCurrent file: (?P<other>[^\n]+)\nColumn with name: "(?P<column>[^"]*)"',
        re.S,
    ),
    re.compile(
        r'schema mismatch in glob: column "(?P<column>[^"]*)" was read from the original file "(?P<first>[^"]*)", but .*? in file "(?P<other>[^"]*)"'
    ),
)
_END = {"\r\n": "\\r\\n", "\n": "\\n", "\r": "\\r"}
_DAMAGED = re.compile(r"decompress|GZIP stream|corrupted|don't know what type|deserialize thrift|flatbuffers|IPC stream", re.I)
_TORN = ("No magic bytes found", "too small to be a Parquet file", "Footer length", "footer", "Thrift", "TProtocolException", "Invalid Parquet")


def tidy(name: str) -> str:
    """A file's name without its folders, and with what cannot be seen made visible: a sentence stays one line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in os.path.basename(name))


def missing(pattern: str) -> SourceUnavailable:
    """The error for a location where no file is."""
    if scheme_of(pattern) is not None:
        return SourceUnavailable(f"There is no file at {shown(pattern)}.", hint="Look at the address.")
    path = literal_path(pattern)
    folder = os.path.dirname(path) if path is not None else base_of(pattern)
    if folder and not os.path.isdir(folder):
        above = os.path.dirname(folder)
        return SourceUnavailable(f"There is no folder {folder!r}.", near=near(os.path.basename(folder), _visible(above)), hint="Look at the path.")
    if path is None:
        return SourceUnavailable(
            f"No file matches {shown(pattern)!r}.", near=near(os.path.basename(pattern), _visible(folder)), hint="Look at the glob."
        )
    if os.path.isdir(path):
        return SourceUnavailable(
            f"The folder {path!r} holds no file that can be read as a table.", hint="Put data files into it, or name another folder."
        )
    return SourceUnavailable(
        f"There is no file {os.path.basename(path)!r} in {folder!r}.", near=near(os.path.basename(path), _visible(folder)), hint="Look at the path."
    )


def _visible(folder: str) -> list[str]:
    try:
        return [tidy(name) for name in os.listdir(folder or ".") if not name.startswith(".")]
    except OSError:
        return []


def unreadable(name: str, error: OSError) -> SourceUnavailable:
    """The error for a file that is there and cannot be read."""
    if isinstance(error, PermissionError):
        return SourceUnavailable(f"{tidy(name)} may not be read: permission denied.", hint="Ask its owner for the right to read it.")
    if isinstance(error, Unreachable):
        return SourceUnavailable(f"{shown(name)} cannot be reached: {error}.", hint="Look at the address, the server and the credentials.")
    return SourceUnavailable(f"{tidy(name)} cannot be read: {(error.strerror or str(error)).lower()}.")


def not_parquet(name: str) -> SourceUnavailable:
    """The error for bytes that are no whole Parquet file."""
    return SourceUnavailable(
        f"{tidy(name)} is not a whole Parquet file.", hint="It may be torn or still being written: write it again, or say its true kind."
    )


def is_damage(text: str) -> bool:
    """Whether what DuckDB says of a Parquet file is that bytes in it are not what its writer put there."""
    return _DAMAGED.search(text) is not None


def damaged(name: str) -> SourceUnavailable:
    """The error for a Parquet file that is whole by its end, and holds bytes that nothing can be read from."""
    return SourceUnavailable(f"{tidy(name)} is damaged: its rows cannot be read.", hint="Write it again, or take it from a copy.")


def not_arrow(name: str) -> SourceUnavailable:
    """The error for bytes that are no whole Arrow or Feather file."""
    return SourceUnavailable(f"{tidy(name)} is not a whole Arrow or Feather file.", hint="It may be torn or still being written: write it again.")


def empty(location: str, kind: str) -> SourceUnavailable:
    """The error for text files none of which holds anything."""
    said = f"{tidy(shown(location).rstrip('/'))} is empty."
    return SourceUnavailable(said, hint="Put a header line and rows into it." if kind in ("csv", "tsv") else "Put rows into it.")


def torn_packed(name: str) -> SourceUnavailable:
    """The error for a packed text file that was cut short or is none."""
    what = "gzip" if name.lower().endswith(".gz") else "zstd"
    return SourceUnavailable(f"{tidy(name)} is not a whole {what} file.", hint="It may be torn or still being written: write it again.")


def wide(name: str, kind: str) -> SourceUnavailable:
    """The error for text that was written as UTF-16 and is read as UTF-8."""
    hint = 'Say so: options={"encoding": "utf-16"}.' if kind in ("csv", "tsv") else "Write the file anew as UTF-8."
    return SourceUnavailable(f"{tidy(name)} is UTF-16, not UTF-8.", hint=hint)


def ragged(name: str, line: int | None, expected: int | None = None, found: int | None = None) -> SourceUnavailable:
    """The error for a CSV line with too many or too few values."""
    where = f"{tidy(name)}, line {line}" if line else tidy(name)
    if expected and found:
        said = f"{where}: {found} value{'s' if found != 1 else ''} where {expected} are expected."
    else:
        said = f"{where}: the lines do not all have the same number of values."
    return SourceUnavailable(said, hint='Mend that line, or say how the columns are cut: options={"delimiter": ";"}.')


def unclosed(name: str, line: int) -> SourceUnavailable:
    """The error for a CSV value that begins with a quotation mark and does not end."""
    return SourceUnavailable(f"{tidy(name)}, line {line}: a quotation mark is opened and never closed.", hint="Mend that line.")


def unlike_end(name: str, line: int, first: str, other: str) -> SourceUnavailable:
    """The error for a CSV file of which not all lines end in the same way."""
    said = f"{tidy(name)}, line {line}: it ends in {_END.get(other, other)}, and the lines before it in {_END.get(first, first)}."
    return SourceUnavailable(said, hint="Write the file anew with one line end; Python's csv writes \\r\\n unless it is told lineterminator='\\n'.")


def unlike(text: str) -> SourceUnavailable | None:
    """The error for a file that has other columns than the first one of its glob or folder; None when the text is about something else."""
    found = next((at for shape in _UNLIKE if (at := shape.search(text)) is not None), None)
    if found is None:
        return None
    said = f"{tidy(found['other'])} and {tidy(found['first'])} do not have the same columns: {found['column']!r} is missing from the former"
    kinds = re.search(r"expected to have type: (\S+) But has type: (\S+)", text)
    if kinds is not None:
        former, latter = kinds[2].lower(), kinds[1].lower()
        said = f"{tidy(found['other'])} and {tidy(found['first'])} differ: {found['column']!r} is {former} in the former, not {latter}"
    return SourceUnavailable(f"{said}.", hint='Give all files the same columns, or say options={"union_by_name": True}: what a file lacks is NULL.')


def value_failure(text: str) -> SourceUnavailable | None:
    """The error for a value that is not of the type that the rows before it gave its column; None when the text is about something else."""
    value, line = _VALUE.search(text), _LINE.search(text)
    if value is None or line is None:
        return None
    column, held, kind = value.groups()
    if held == column:
        said = f"{_name(text)}, line {line[1]}: the header stands where values are expected ({held[:60]!r} is no {kind})."
        return SourceUnavailable(said, hint="Remove the lines before it: the header is the first line of a file.")
    said = f"{_name(text)}, line {line[1]}: column {column!r} holds {held[:60]!r}, which is no {kind}."
    return SourceUnavailable(
        said,
        hint=f'Mend the value, say that it means nothing: options={{"null": "{held[:20]}"}}, or read text: {{"types": {{"{column}": "VARCHAR"}}}}.',
    )


def read_failure(text: str) -> SourceUnavailable | None:
    """What DuckDB says while it reads a file, in our words; None when the text is not about a file that was read."""
    name = _name(text)
    line = int(found[1]) if (found := _LINE.search(text)) else None
    if counts := _COUNTS.search(text):
        return ragged(name, line, int(counts[1]), int(counts[2]))
    if (said := value_failure(text) or unlike(text)) is not None:
        return said
    if absent := _NO_COLUMN.search(text):
        return SourceUnavailable(
            f"The option 'types' names the column {absent[1]!r}, which is not in the file.", hint="Names are those of the header."
        )
    if "not utf-8 encoded" in text or "Invalid unicode" in text:
        return SourceUnavailable(f"{name} is not UTF-8.", hint='Say what it is: options={"encoding": "latin-1"} or options={"encoding": "utf-16"}.')
    if malformed := _JSON.search(text):  # DuckDB counts one too many, and values where they are not one to a line
        where = f"{'line' if malformed[3] == 'line' else 'value'} {int(malformed[4]) - 1}"
        return SourceUnavailable(f"{tidy(malformed[1])}, {where}: this is not JSON.", hint="Mend the file, or say its true kind.")
    if "when sniffing file" in text:
        return ragged(name, None)
    if "No files found that match" in text or "No such file" in text:
        return SourceUnavailable(f"{name} is gone.", hint="Put the file back, or remove the source.")
    if any(word in text for word in _TORN):
        return not_parquet(name)
    if "Permission denied" in text:
        return unreadable(name, PermissionError())
    if _LINE.search(text) or (name != "A file" and text.startswith(("IO Error", "Invalid Input Error", "Conversion Error"))):
        return SourceUnavailable(f"{name} cannot be read: {text.splitlines()[0].split(': ', 1)[-1].rstrip('.')}.")
    return None


_REMOTE = re.compile(r"HTTP (?:GET|HEAD|PUT|POST)|\b(?:Unreachable|FileNotFoundError|PermissionError|TimeoutError|jammimount\d+)\b")
_DENIED = re.compile(r"HTTP 40[13]|PermissionError|permission denied", re.I)
_GONE = re.compile(r"HTTP 404|FileNotFoundError")


def remote_failure(location: str, text: str) -> SourceUnavailable | None:
    """What DuckDB says when it cannot read files that are elsewhere, in our words; None when the text is about something else."""
    if not _REMOTE.search(text):
        return None
    if _DENIED.search(text):
        return SourceUnavailable(f"{location} may not be read: permission denied.", hint="Look at the credentials.")
    if _GONE.search(text):
        return SourceUnavailable(f"{location} is gone, or a file of it.", hint="Put the file back, or remove the source.")
    return SourceUnavailable(f"{location} cannot be reached while it is read.", hint="Look at the address, the server and the credentials.")


def _name(text: str) -> str:
    for shape in _FILE:
        if found := shape.search(text):
            return tidy(found[1].strip())
    return "A file"


def why(error: BaseException) -> str:
    """One clause about a failed observation."""
    if isinstance(error, JammiError):
        return error.message.rstrip(".")
    if isinstance(error, OSError):
        if isinstance(error, Unreachable):
            return str(error)
        return unreadable(os.path.basename(str(error.filename or "")) or "a file", error).message.rstrip(".")
    return str(error).splitlines()[0][:200].rstrip(".")
