"""How CSV files are read. Delimiter, heading and types are decided here, from the first lines and
then from all values; DuckDB's reader gets every option explicitly and guesses nothing.
"""

import csv
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.core.identifiers import fold, quote_identifier, sql_literal, unique_names
from jammi_lab.sources import read_errors
from jammi_lab.sources.base import Relation
from jammi_lab.sources.files import csv_errors
from jammi_lab.sources.files.decisions import Decision
from jammi_lab.sources.files.file_checks import (
    check_column_count,
    check_declared_columns,
    check_same_columns,
)
from jammi_lab.sources.files.file_sets import SourceFile
from jammi_lab.sources.files.formats import COMPRESSED_SUFFIXES, UNDELIMITED_SUFFIXES
from jammi_lab.sources.files.readers import partition_options, partition_types, path_literal
from jammi_lab.sources.files.text_bytes import TextFile, encoding_error, open_text
from jammi_lab.sources.files.text_columns import decide_columns

if TYPE_CHECKING:
    import _csv

_MAX_HEADING_CHARACTERS = 4 << 20
_HEAD_CHARACTERS = 1 << 16
_DELIMITERS = ",\t;|"
_SNIFFED_ROWS = 50
_MAX_LINE_BYTES = 2_000_000
"""DuckDB's own."""
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?')
_PASSED_OPTIONS = ("null_padding", "max_line_size")
"""Options that DuckDB's reader gets as they are."""


@dataclass(frozen=True, slots=True)
class Head:
    """What the first lines of a file tell."""

    names: tuple[str, ...]
    """The names of its columns, made unique."""
    skip: int
    """Number of lines before the heading, or before the first row."""
    width: int
    """Number of values in the first record; 0 for a file without one."""
    has_heading: bool
    """Whether the first record is the heading."""


@dataclass(frozen=True, slots=True)
class CsvDialect:
    """How the records of all files are divided into values."""

    delim: str
    quote: str
    escape: str
    comment: str

    def records(self, lines: Iterable[str], *, strict: bool = False) -> "_csv.Reader":
        """The records of these lines; `line_num` of the result counts lines."""
        separator = self.delim
        if len(separator) > 1:  # Python's reader takes one character
            lines, separator = (line.replace(self.delim, "\x1f") for line in lines), "\x1f"
        is_doubled = self.escape in ("", self.quote)
        return csv.reader(
            lines,
            delimiter=separator,
            quotechar=self.quote or None,
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            doublequote=is_doubled,
            escapechar=None if is_doubled else self.escape,
            strict=strict,
        )


def dialect_of(kind: str, file: TextFile) -> CsvDialect:
    """The dialect of the options; the delimiter is by default the one that divides the first lines
    into the most values, equally many in each. Raises OSError; SourceUnavailable where there are
    two such delimiters, and for a file whose name asks for one."""
    options = file.options
    quote = options.get("quote", '"')
    dialect = CsvDialect("", quote, options.get("escape", quote), options.get("comment", ""))
    name = os.path.basename(file.path)
    if "delim" in options:
        return replace(dialect, delim=options["delim"])
    if kind == "tsv":
        return replace(dialect, delim="\t")
    lines = _first_lines(file)
    if lines and (said := _SEPARATOR_LINE.fullmatch(lines[0].rstrip("\r\n"))):
        return replace(dialect, delim=said[1])
    stem, suffix = os.path.splitext(name.lower())
    if suffix in COMPRESSED_SUFFIXES:
        suffix = os.path.splitext(stem)[1]
    if suffix in UNDELIMITED_SUFFIXES:
        raise csv_errors.delimiter_error(name, lines[0] if lines else "")
    return replace(dialect, delim=_delimiter(name, lines, options, dialect))


def _delimiter(name: str, lines: list[str], options: Mapping[str, Any], dialect: CsvDialect) -> str:
    scores, preamble = {}, 0
    for delimiter in _DELIMITERS:
        records = list(_records_of(replace(dialect, delim=delimiter), lines, options))
        counts = [len(record) for _, record in records]
        start = next((index for index, count in enumerate(counts) if count > 1), 0)
        if start > 0 and counts[start:] == [counts[start]] * max(len(counts) - start, 2):
            preamble = records[start][0]
        if counts and counts[0] > 1:
            scores[delimiter] = (counts.count(counts[0]) / len(counts), counts[0])
    if not scores and preamble:
        raise csv_errors.preamble_error(name, preamble + 1, lines[preamble])
    rivals = [each for each, score in scores.items() if score[0] == 1.0]
    if len(rivals) > 1:
        raise csv_errors.ambiguous_delimiter_error(name, rivals)
    return max(scores, key=lambda delimiter: scores[delimiter], default=",")


def _first_lines(file: TextFile) -> list[str]:
    """The first lines of a file with their ends, at most as many as hold a heading. Raises OSError,
    SourceUnavailable for bytes that are not of the file's encoding."""
    encoding = file.encoding
    lines: list[str] = []
    size = 0
    marked = "utf-8-sig" if encoding == "utf-8" else encoding
    try:
        with open_text(file.source_file, marked, "strict") as text:
            while size <= _HEAD_CHARACTERS and (line := text.readline(_MAX_HEADING_CHARACTERS)):
                size += len(line)
                lines.append(line)
    except UnicodeDecodeError as error:
        line_number = len(lines) + 1 + error.object[: error.start].count(b"\n")
        raise encoding_error(file.source_file, encoding, line_number) from None
    return lines


def _records_of(
    dialect: CsvDialect, lines: list[str], options: Mapping[str, Any]
) -> Iterator[tuple[int, list[str]]]:
    """The first records that are neither blank nor comments, each with the number of lines before
    it."""
    skipped = options.get("skip", 0)
    if "skip" not in options and lines and _SEPARATOR_LINE.fullmatch(lines[0].rstrip("\r\n")):
        skipped = 1
    reader = dialect.records(iter(lines[skipped:]))
    before, count = skipped, 0
    while count <= _SNIFFED_ROWS:
        try:
            record = next(reader)
        except (StopIteration, csv.Error):
            return
        is_comment = bool(dialect.comment) and lines[before].startswith(dialect.comment)
        if record and not is_comment and (len(record) > 1 or lines[before].strip()):
            yield before, record
            count += 1
        before = skipped + reader.line_num


def head_of(dialect: CsvDialect, file: TextFile) -> Head:
    """The heading of a file. Without the option `header`, the first record is the heading unless
    all its values are numbers, dates or truth values. Raises OSError, SourceUnavailable for too
    many columns."""
    lines, options = _first_lines(file), file.options
    before, record = next(_records_of(dialect, lines, options), (options.get("skip", 0), []))
    if any("\0" in text for text in record):
        raise csv_errors.binary_error(file.path)
    check_column_count(file.path, len(record))
    has_heading = options.get("header")
    if has_heading is None:
        has_heading = not record or not _are_values(record)
    names = record if has_heading else [""] * len(record)
    named = (text.strip() or f"column{number}" for number, text in enumerate(names))
    return Head(tuple(unique_names(named)), before, len(record), bool(has_heading))


_VALUE = re.compile(
    r"[+-]?\d+([.,]\d+)*([eE][+-]?\d+)?|\d{4}-\d\d-\d\d([ T]\S+)?|\d\d:\d\d(:\S+)?|true|false|",
    re.IGNORECASE,
)


def _are_values(record: Sequence[str]) -> bool:
    return any(record) and all(_VALUE.fullmatch(text.strip()) for text in record)


def heads_of(dialect: CsvDialect, files: Sequence[TextFile]) -> list[Head]:
    """The heading of each file, where they agree. Raises OSError; SourceUnavailable where one has
    other columns, or none where others have."""
    options = files[0].options
    heads = [head_of(dialect, file) for file in files]
    first = next((index for index, head in enumerate(heads) if head.width), 0)
    for index, (file, head) in enumerate(zip(files, heads, strict=True)):
        if not head.width:
            heads[index] = replace(heads[first], skip=0)
        elif head.has_heading != heads[first].has_heading:
            raise csv_errors.heading_error(
                file.path, files[first].path, has_heading=head.has_heading
            )
        elif not options.get("union_by_name"):
            check_same_columns(
                read_errors.display_name(file.path),
                head.names,
                read_errors.display_name(files[first].path),
                heads[first].names,
            )
    given = tuple(options.get("names", ()))
    if given:
        heads = [
            replace(head, names=tuple(unique_names((*given, *head.names[len(given) :]))))
            for head in heads
        ]
    return heads


def decide(
    kind: str, files: Sequence[TextFile], relation_of: Callable[[str], Relation]
) -> Decision:
    """How these files are read, decided from all their values. Raises OSError, duckdb.Error,
    SourceUnavailable."""
    for file in files:
        file.utf8_address(0)  # checks the encoding
    options = files[0].options
    source_files = [file.source_file for file in files]
    dialect = dialect_of(kind, files[0])
    heads = heads_of(dialect, files)
    if not heads[0].width:
        raise read_errors.empty_error(files[0].path, kind)
    names = list({fold(name): name for head in heads for name in head.names}.values())
    check_declared_columns(options.get("types", {}), names)
    if dialect.comment:
        for head, file in zip(heads, files, strict=True):
            _check_comments(dialect, head, file)
    headings = list(dict.fromkeys((head.names, head.has_heading) for head in heads))
    reading: dict[str, Any] = {
        "dialect": asdict(dialect),
        "headings": headings,
        "files": [[headings.index((head.names, head.has_heading)), head.skip] for head in heads],
        "casts": {},
    }
    of_folders = _partition_types(source_files, names)
    texts = Decision(dict.fromkeys(names, "VARCHAR"), (), reading)
    select = select_of(texts, files)
    size = sum(source_file.stat.size for source_file in source_files)
    try:
        columns = decide_columns(relation_of(select), names, options, size)
    except csv_errors.Misfit as misfit:
        raise _misfit_error(misfit, dialect, heads, files) from None
    longest = options.get("max_line_size", _MAX_LINE_BYTES)
    for file in files:
        # DuckDB 1.5.5 leaves out a last line that does not fit into its buffer; others it names
        if file.last_line_bytes(longest) > longest:
            raise csv_errors.last_line_error(file.path, longest)
    types = {name: column.type for name, column in columns.items()}
    casts = {name: c.cast for name, c in columns.items() if c.cast is not None}
    return Decision(
        types | of_folders,
        (*_notes_of_heading(heads[0], options), *(c.note for c in columns.values() if c.note)),
        reading | {"casts": casts},
    )


def _check_comments(dialect: CsvDialect, head: Head, file: TextFile) -> None:
    """Raise SourceUnavailable for a line in which the character of comments stands inside, outside
    of quotation marks: DuckDB cuts the line there."""
    quote, delim = re.escape(dialect.quote), re.escape(dialect.delim)
    with open_text(file.source_file, file.encoding) as text:
        for number, line in enumerate(itertools.islice(text, head.skip, None), head.skip + 1):
            rest = re.sub(f"(^|{delim}){quote}.*?{quote}", "-", line).strip()
            if dialect.comment in rest and not rest.startswith(dialect.comment):
                raise csv_errors.comment_error(file.path, number, line)


def _notes_of_heading(head: Head, options: Mapping[str, Any]) -> list[str]:
    """What to tell of a heading with names that could be values, and of a first line that is taken
    for values."""
    if not head.has_heading and "header" not in options:
        return ["heading: none, as all in the first line are values; options={'header': True}"]
    doubtful = [name for name in head.names if _VALUE.fullmatch(name)]
    if not head.has_heading or not doubtful:
        return []
    told = f'heading: the first line, although "{doubtful[0]}" could be a value'
    return [f"{told}; options={{'header': False}}"]


def _partition_types(source_files: Sequence[SourceFile], names: Sequence[str]) -> dict[str, str]:
    """The columns of `key=value` folders. Raises SourceUnavailable for one that is in the files,
    too."""
    types = partition_types(source_files)
    folded = {fold(name) for name in names}
    for key in types:
        if fold(key) in folded:
            raise csv_errors.partition_name_error(source_files[0].path, key)
    return types


def select_of(decision: Decision, files: Sequence[TextFile]) -> str:
    """A SELECT of all rows of these files, in order, as it was decided. Raises OSError,
    SourceUnavailable."""
    reading, options = decision.reading, files[0].options
    readable = []
    for file, (heading, skip) in zip(files, reading["files"], strict=True):
        readable.append((file.utf8_address(skip), heading))
    of_folders = partition_options([file.source_file for file in files])
    selects = []
    for heading, group in itertools.groupby(readable, lambda each: each[1]):
        names, has_heading = reading["headings"][heading]
        reader_options = [
            *_reader_options(decision, names, options),
            f"header={'true' if has_heading else 'false'}",
            *of_folders,
        ]
        paths = ", ".join(path_literal(address) for address, _ in group)
        casts = []
        for name in names:
            if name in reading["casts"]:
                casts.append(f"{reading['casts'][name]} AS {quote_identifier(name)}")
        selected = f"* REPLACE ({', '.join(casts)})" if casts else "*"
        selects.append(f"SELECT {selected} FROM read_csv([{paths}], {', '.join(reader_options)})")
    return " UNION ALL BY NAME ".join(selects)


def _reader_options(
    decision: Decision, names: Sequence[str], options: Mapping[str, Any]
) -> list[str]:
    """Options of `read_csv`, which guesses nothing. An empty text in quotation marks is no NULL."""
    casts = decision.reading["casts"]
    folded = {fold(name): kind for name, kind in decision.columns.items()}
    columns = ", ".join(
        f"{sql_literal(name)}: {sql_literal('VARCHAR' if name in casts else folded[fold(name)])}"
        for name in names
    )
    dialect = decision.reading["dialect"]
    is_lenient = options.get("strict_mode") is False and len(names) > 1
    nulls = options.get("nullstr", "")
    nulls = dict.fromkeys(["", *([nulls] if isinstance(nulls, str) else nulls)])
    return [
        "auto_detect=false",
        f"columns={{{columns}}}",
        *(f"{name}={sql_literal(value)}" for name, value in dialect.items()),
        f"nullstr=[{', '.join(map(sql_literal, nulls))}]",
        f"allow_quoted_nulls={'true' if 'nullstr' in options else 'false'}",
        # Without `new_line` the value after a lone \r is NULL where the first line ends in \r\n.
        # Of one column, line ends would be rows.
        *(["strict_mode=false", "new_line='\\n'"] if is_lenient else ()),
        *(f"{name}={str(options[name]).lower()}" for name in _PASSED_OPTIONS if name in options),
    ]


def _misfit_error(
    misfit: csv_errors.Misfit,
    dialect: CsvDialect,
    heads: Sequence[Head],
    files: Sequence[TextFile],
) -> SourceUnavailable:
    """The error for the first value that is not of its declared type."""
    for head, file in zip(heads, files, strict=True):
        index = {fold(name): n for n, name in enumerate(head.names)}.get(fold(misfit.column))
        for line, record in _all_records(dialect, head, file):
            if index is not None and index < len(record) and record[index] == misfit.value:
                return misfit.error_at(csv_errors.place_in(file.path, line))
    return misfit.error_at(csv_errors.place_in(files[0].path, None))


def _all_records(
    dialect: CsvDialect, head: Head, file: TextFile
) -> Iterator[tuple[int, list[str]]]:
    """All records after the lines that are skipped, each with the number of its last line."""
    with open_text(file.source_file, file.encoding) as text:
        reader = dialect.records(itertools.islice(text, head.skip, None))
        for record in reader:
            yield head.skip + reader.line_num, record


def line_error(kind: str, file: TextFile) -> SourceUnavailable | None:
    """The error for the first line that ends otherwise than the first one, or else for the first
    quotation that is not closed; None where there is none. Raises OSError."""
    dialect, encoding = dialect_of(kind, file), file.encoding
    with open_text(file.source_file, encoding) as text:
        ends: list[str] = []

        def lines() -> Iterator[str]:
            for line in text:
                ends.append(line[len(line.rstrip("\r\n")) :])
                yield line

        records = dialect.records(lines(), strict=True)
        before = 0
        try:
            for record in records:
                first, last = ends[0], ends[-1]  # line ends inside a quotation do not count
                before = records.line_num
                if last and last != first:
                    return csv_errors.line_end_error(file.path, before, first, last, len(record))
                ends[:] = [first]
        except csv.Error:
            with open_text(file.source_file, encoding) as again:
                line = next(itertools.islice(again, before, None), "")
            return csv_errors.quote_error(file.path, before + 1, line, file.options)
    return None
