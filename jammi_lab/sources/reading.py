"""How files of each kind become a SELECT: DuckDB's readers with everything said that they would otherwise guess quietly."""

import codecs
import csv
import io
import os
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from jammi_lab.errors import SourceUnavailable
from jammi_lab.names import literal
from jammi_lab.sources import failures
from jammi_lab.sources.kinds import PACKED
from jammi_lab.sources.locations import Unreachable, escape
from jammi_lab.sources.places import Item, Place
from jammi_lab.storage.files import settled

_HEAD = 1 << 16
_DELIMITERS = ",\t;|"
_CSV_WHOLE = 8 << 20
"""Up to this many bytes all of a CSV file decides its types (15 ms per MB); beyond, its first 204 800 rows do, and a later value
that does not fit is an error that names its line."""
_JSON_WHOLE = 256 << 20
"""Up to this many bytes all of a JSON file decides its columns, since DuckDB leaves out, without a word, a key that comes later than its sample."""
_CSV_SAMPLE = 204_800
_JSON_SAMPLE = 1_000_000
_BLOCK = 1 << 20
_GRAIN = 2.0
_MOST = 1024
_unpacked_whole: dict[tuple[str, Item], bool] = {}
"""Packed files that were unpacked to their end, and whether anything was inside."""


def select_from(kind: str, place: Place, items: Sequence[Item], addresses: Sequence[str], options: Mapping[str, Any]) -> str:
    """A SELECT of all rows of these files, in the order given, by the addresses under which DuckDB reads them.

    SourceUnavailable for a name that SQL cannot hold; OSError.
    """
    alone = len(items) == 1 and not items[0].relative
    columns = f"union_by_name={'true' if options.get('union_by_name') else 'false'}"
    partitions = [columns, *(["hive_partitioning=false"] if alone else [])]  # a folder `year=2020` above a single file says nothing about it
    match kind:
        case "parquet":
            said = partitions
        case "csv" | "tsv":
            said = [*_csv(kind, place, items, options), *partitions]
        case _:
            said = [*_json(kind, items), *partitions]
    reader = {"parquet": "read_parquet", "csv": "read_csv", "tsv": "read_csv"}.get(kind, "read_json")
    return f"SELECT * FROM {reader}([{', '.join(map(_path, addresses))}], {', '.join(said)})"


def _path(address: str) -> str:
    try:
        address.encode()
    except UnicodeEncodeError:
        raise SourceUnavailable(f"The file name {address!r} is not UTF-8, and SQL cannot name it.", hint="Rename the file.") from None
    return literal(escape(address))


def _csv(kind: str, place: Place, items: Sequence[Item], options: Mapping[str, Any]) -> list[str]:
    """Delimiter and quote are settled here: where lines are ragged DuckDB's sniffer would rather make one column of everything, or skip lines."""
    said = [f"delim={literal(delimiter_of(kind, place, items[0], options))}", "quote='\"'", "comment=''", "skip=0"]
    if "header" in options:
        said.append(f"header={'true' if options['header'] else 'false'}")
    if "null" in options:
        given = [options["null"]] if isinstance(options["null"], str) else options["null"]
        said.append(f"nullstr=[{', '.join(literal(text) for text in dict.fromkeys(['', *given]))}]")
    if "encoding" in options:
        said.append(f"encoding={literal(options['encoding'].lower())}")
    if options.get("types"):
        said.append(f"types={{{', '.join(f'{literal(column)}: {literal(kind)}' for column, kind in options['types'].items())}}}")
    whole = sum(item.stat.size for item in items) <= _CSV_WHOLE
    return [*said, f"sample_size={-1 if whole else _CSV_SAMPLE}"]


def _json(kind: str, items: Sequence[Item]) -> list[str]:
    whole = sum(item.stat.size for item in items) <= _JSON_WHOLE
    shape = "newline_delimited" if kind == "ndjson" else "auto"
    return [f"format='{shape}'", f"sample_size={-1 if whole else _JSON_SAMPLE}", f"maximum_sample_files={max(len(items), 1)}"]


def delimiter_of(kind: str, place: Place, item: Item, options: Mapping[str, Any]) -> str:
    """The delimiter that was said, or the one by which the first lines have most often as many values as the header. OSError."""
    if "delimiter" in options:
        return str(options["delimiter"])
    if kind == "tsv":
        return "\t"
    lines = [line for line in _head(place, item, options).splitlines()[:50] if line.strip()]
    if not lines:
        return ","

    def score(delimiter: str) -> tuple[bool, int, int]:
        cut = [_count(line, delimiter) for line in lines]
        return cut[0] > 1, cut.count(cut[0]), cut[0]

    return max(_DELIMITERS, key=score) if any(_count(lines[0], d) > 1 for d in _DELIMITERS) else ","


def _count(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=delimiter)))
    except csv.Error:
        return 1


def _head(place: Place, item: Item, options: Mapping[str, Any]) -> str:
    with place.open(item) as file:
        return _unpacked(file, item).read(_HEAD).decode(options.get("encoding", "utf-8"), "replace").removeprefix("\ufeff")


def begins_wide(place: Place, item: Item) -> bool:
    """Whether a text file begins with the byte order mark of UTF-16. OSError."""
    with place.open(item) as file:
        return _unpacked(file, item).read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def holds(place: Place, item: Item) -> bool:
    """Whether a text file holds anything. A packed one is unpacked to its end, once for as long as its stat proves that it is the same.

    SourceUnavailable for one that is torn, of which DuckDB gives the rows that it finds, without a word; OSError.
    """
    if not item.path.lower().endswith(PACKED):
        return item.stat.size > 0
    key = (place.realm, item)
    if key in _unpacked_whole:
        return _unpacked_whole[key]
    now = time.time_ns()
    with place.open(item) as file:
        found = _held(file, item)
    if found is None:
        raise failures.torn_packed(os.path.basename(item.path))
    if item.mark or (item.stat.inode and settled(item.stat, now, _GRAIN)):
        if len(_unpacked_whole) >= _MOST:
            _unpacked_whole.clear()
        _unpacked_whole[key] = found
    return found


def _held(file: BinaryIO, item: Item) -> bool | None:
    """Whether there is anything inside; None when it does not unpack to the end of what its writer put in."""
    held = False
    try:
        unpacked = _unpacked(file, item)
        while unpacked.read(_BLOCK):
            held = True
    except (EOFError, zlib.error):
        return None
    except OSError as error:
        if error.errno is None and not isinstance(error, Unreachable):  # what was read is wrong, not the reading
            return None
        raise
    return held


def _unpacked(file: BinaryIO, item: Item) -> BinaryIO:
    if item.path.lower().endswith(".gz"):
        import gzip

        return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]
    if item.path.lower().endswith(".zst"):
        import pyarrow as pa

        return pa.CompressedInputStream(file, "zstd")  # type: ignore[no-any-return]
    return file


def wrong_line(kind: str, place: Place, item: Item, options: Mapping[str, Any], most: int = 20_000) -> SourceUnavailable | None:
    """What is wrong with the first record, among so many lines, that is not as long as the header or does not end; else where the first line is that
    ends in another way than those before it. OSError."""
    delimiter, name = delimiter_of(kind, place, item, options), os.path.basename(item.path)
    with place.open(item) as file:
        text = io.TextIOWrapper(_unpacked(file, item), options.get("encoding", "utf-8"), "replace", newline="")
        ends: list[str] = []

        def noted() -> Iterator[str]:
            for line in text:
                ends.append(line[len(line.rstrip("\r\n")) :])
                yield line

        rows = csv.reader(noted(), delimiter=delimiter[0], strict=True)
        expected, ended, odd = 0, 0, None
        try:
            for row in rows:
                if row and expected and len(row) != expected:
                    return failures.ragged(name, rows.line_num, expected, len(row))
                expected, ended = expected or len(row), rows.line_num
                first, last = ends[0], ends[-1]  # those within a quotation are of no account
                if odd is None and last and last != first:
                    odd = failures.unlike_end(name, ended, first, last)
                ends[:] = [first]
                if ended > most:
                    break
        except csv.Error as error:
            return failures.unclosed(name, ended + 1) if "unexpected end" in str(error) else odd
    return odd
