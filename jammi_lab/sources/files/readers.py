"""The SELECT that reads files of each kind, with all reader options explicit that DuckDB would
otherwise guess, and checks of text files."""

import codecs
import csv
import io
import os
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from jammi_lab.core.caches import BoundedCache
from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.core.identifiers import sql_literal
from jammi_lab.sources import read_errors
from jammi_lab.sources.files.file_sets import FileSet, SourceFile
from jammi_lab.sources.files.formats import COMPRESSED_SUFFIXES
from jammi_lab.sources.locations import Unreachable, escape
from jammi_lab.storage.files import is_settled

_HEAD_BYTES = 1 << 16
_DELIMITERS = ",\t;|"
_MAX_FULL_CSV_BYTES = 8 << 20
"""Up to this size, types are inferred from all rows (15 ms per MB); beyond it, from the first
204 800, and a later value that does not fit is an error with its line number."""
_MAX_FULL_JSON_BYTES = 256 << 20
"""Up to this size, columns are inferred from all rows, because DuckDB silently drops keys that
first occur after its sample."""
_CSV_SAMPLE_ROWS = 204_800
_JSON_SAMPLE_ROWS = 1_000_000
_MAX_TYPED_JSON_DEPTH = 62
"""What is nested deeper is a column of type JSON: Arrow has no deeper types."""
BLOCK_BYTES = 1 << 20
_TIMESTAMP_RESOLUTION_SECONDS = 2.0
_MAX_CACHED_FILES = 1024
_nonempty_by_file = BoundedCache[tuple[str, SourceFile], bool](_MAX_CACHED_FILES)
"""Compressed files that were decompressed to the end, and whether they contain anything."""


def build_select(
    kind: str,
    file_set: FileSet,
    source_files: Sequence[SourceFile],
    addresses: Sequence[str],
    options: Mapping[str, Any],
) -> str:
    """A SELECT of all rows of these text files, in order. `addresses` are the names under which
    DuckDB reads them. Raises SourceUnavailable for a name that is not UTF-8, OSError."""
    is_single_file = len(source_files) == 1 and not source_files[0].relative
    columns = f"union_by_name={'true' if options.get('union_by_name') else 'false'}"
    # A folder `year=2020` above a single file is not a partition of the source.
    partitioning = [columns, *(["hive_partitioning=false"] if is_single_file else [])]
    match kind:
        case "csv" | "tsv":
            reader_options = [*_csv_options(kind, file_set, source_files, options), *partitioning]
        case _:
            reader_options = [*_json_options(kind, source_files), *partitioning]
    reader = {"csv": "read_csv", "tsv": "read_csv"}.get(kind, "read_json")
    return (
        f"SELECT * FROM {reader}([{', '.join(map(path_literal, addresses))}], "
        f"{', '.join(reader_options)})"
    )


def path_literal(address: str) -> str:
    """The literal of an address in SQL. Raises SourceUnavailable for one that is not UTF-8."""
    try:
        address.encode()
    except UnicodeEncodeError:
        raise SourceUnavailable(
            f"The file name {address!r} is not UTF-8, so SQL cannot refer to it.",
            hint="Rename the file.",
        ) from None
    return sql_literal(escape(address))


def _csv_options(
    kind: str, file_set: FileSet, source_files: Sequence[SourceFile], options: Mapping[str, Any]
) -> list[str]:
    """Options of `read_csv`. Delimiter and quote are explicit: on ragged lines DuckDB's sniffer
    would rather read a single column or skip lines."""
    reader_options = [
        f"delim={sql_literal(delimiter_of(kind, file_set, source_files[0], options))}",
        "quote='\"'",
        "comment=''",
        "skip=0",
    ]
    if "header" in options:
        reader_options.append(f"header={'true' if options['header'] else 'false'}")
    if "null" in options:
        nulls = [options["null"]] if isinstance(options["null"], str) else options["null"]
        reader_options.append(
            f"nullstr=[{', '.join(sql_literal(text) for text in dict.fromkeys(['', *nulls]))}]"
        )
    if "encoding" in options:
        reader_options.append(f"encoding={sql_literal(options['encoding'].lower())}")
    if options.get("types"):
        types = (
            f"{sql_literal(name)}: {sql_literal(type_)}" for name, type_ in options["types"].items()
        )
        reader_options.append(f"types={{{', '.join(types)}}}")
    infer_from_all = (
        sum(source_file.stat.size for source_file in source_files) <= _MAX_FULL_CSV_BYTES
    )
    return [*reader_options, f"sample_size={-1 if infer_from_all else _CSV_SAMPLE_ROWS}"]


def _json_options(kind: str, source_files: Sequence[SourceFile]) -> list[str]:
    infer_from_all = (
        sum(source_file.stat.size for source_file in source_files) <= _MAX_FULL_JSON_BYTES
    )
    shape = "newline_delimited" if kind == "ndjson" else "auto"
    return [
        f"format='{shape}'",
        f"maximum_depth={_MAX_TYPED_JSON_DEPTH}",
        f"sample_size={-1 if infer_from_all else _JSON_SAMPLE_ROWS}",
        f"maximum_sample_files={max(len(source_files), 1)}",
    ]


def delimiter_of(
    kind: str, file_set: FileSet, source_file: SourceFile, options: Mapping[str, Any]
) -> str:
    """The delimiter of the options, or the one with which most of the first lines have as many
    values as the header. Raises OSError."""
    if "delimiter" in options:
        return str(options["delimiter"])
    if kind == "tsv":
        return "\t"
    lines = [
        line
        for line in _read_head(file_set, source_file, options).splitlines()[:50]
        if line.strip()
    ]
    if not lines:
        return ","

    def score(delimiter: str) -> tuple[bool, int, int]:
        counts = [_count_values(line, delimiter) for line in lines]
        return counts[0] > 1, counts.count(counts[0]), counts[0]

    return (
        max(_DELIMITERS, key=score)
        if any(_count_values(lines[0], d) > 1 for d in _DELIMITERS)
        else ","
    )


def _count_values(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=delimiter)))
    except csv.Error:
        return 1


def _read_head(file_set: FileSet, source_file: SourceFile, options: Mapping[str, Any]) -> str:
    with file_set.open(source_file) as file:
        return (
            decompressed(file, source_file)
            .read(_HEAD_BYTES)
            .decode(options.get("encoding", "utf-8"), "replace")
            .removeprefix("\ufeff")
        )


def has_utf16_mark(file_set: FileSet, source_file: SourceFile) -> bool:
    """Whether a text file begins with the byte order mark of UTF-16. Raises OSError."""
    with file_set.open(source_file) as file:
        return decompressed(file, source_file).read(2) in (
            codecs.BOM_UTF16_LE,
            codecs.BOM_UTF16_BE,
        )


def is_nonempty(file_set: FileSet, source_file: SourceFile) -> bool:
    """Whether a text file is not empty. A compressed file is decompressed to the end, once per
    content as proved by its stat.

    Raises OSError, and SourceUnavailable for a truncated compressed file, of which DuckDB would
    silently return the rows before the end.
    """
    if not source_file.path.lower().endswith(COMPRESSED_SUFFIXES):
        return source_file.stat.size > 0
    key = (file_set.realm, source_file)
    if (cached := _nonempty_by_file.get(key)) is not None:
        return cached
    now = time.time_ns()
    with file_set.open(source_file) as file:
        nonempty = decompresses_to_data(file, source_file)
    if nonempty is None:
        raise read_errors.truncated_compressed_error(os.path.basename(source_file.path))
    if source_file.mark or (
        source_file.stat.inode and is_settled(source_file.stat, now, _TIMESTAMP_RESOLUTION_SECONDS)
    ):
        _nonempty_by_file.put(key, nonempty)
    return nonempty


def decompresses_to_data(file: BinaryIO, source_file: SourceFile) -> bool | None:
    """Whether a compressed file contains anything; None if it is truncated or corrupt."""
    has_data = False
    try:
        stream = decompressed(file, source_file)
        while stream.read(BLOCK_BYTES):
            has_data = True
    except (EOFError, zlib.error):
        return None
    except OSError as error:
        # Without errno the error comes from the decoder, not from the file system.
        if error.errno is None and not isinstance(error, Unreachable):
            return None
        raise
    return has_data


def decompressed(file: BinaryIO, source_file: SourceFile) -> BinaryIO:
    """The bytes of an open file, decompressed where its name says that it is compressed."""
    if source_file.path.lower().endswith(".gz"):
        import gzip

        return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]
    if source_file.path.lower().endswith(".zst"):
        import pyarrow as pa

        return pa.CompressedInputStream(file, "zstd")  # type: ignore[no-any-return]
    return file


def line_error(
    kind: str,
    file_set: FileSet,
    source_file: SourceFile,
    options: Mapping[str, Any],
    max_lines: int = 200_000,
) -> SourceUnavailable | None:
    """The error for the first record in the first `max_lines` lines with another number of values
    than the header or an unclosed quotation; else for the first line with another line ending; else
    None. Raises OSError."""
    delimiter = delimiter_of(kind, file_set, source_file, options)
    name = os.path.basename(source_file.path)
    with file_set.open(source_file) as file:
        text = io.TextIOWrapper(
            decompressed(file, source_file),
            options.get("encoding", "utf-8"),
            "replace",
            newline="",
        )
        ends: list[str] = []

        def lines_with_endings() -> Iterator[str]:
            for line in text:
                ends.append(line[len(line.rstrip("\r\n")) :])
                yield line

        rows = csv.reader(lines_with_endings(), delimiter=delimiter[0], strict=True)
        expected, last_line, ending_error = 0, 0, None
        try:
            for row in rows:
                if row and expected and len(row) != expected:
                    return read_errors.ragged_error(name, rows.line_num, expected, len(row))
                expected, last_line = expected or len(row), rows.line_num
                first, last = ends[0], ends[-1]  # line endings inside a quotation do not count
                if ending_error is None and last and last != first:
                    ending_error = read_errors.line_ending_error(name, last_line, first, last)
                ends[:] = [first]
                if last_line > max_lines:
                    break
        except csv.Error as error:
            return (
                read_errors.unclosed_quote_error(name, last_line + 1)
                if "unexpected end" in str(error)
                else ending_error
            )
    return ending_error
