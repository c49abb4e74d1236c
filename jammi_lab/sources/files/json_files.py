"""How JSON files are read. DuckDB finds the keys and the types of all values; which texts are dates
and times is decided here, from all of them."""

import contextlib
import functools
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import duckdb

from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.core.identifiers import fold, quote_identifier, sql_literal
from jammi_lab.sources import scratch_duckdb
from jammi_lab.sources.base import Relation
from jammi_lab.sources.files import csv_errors, text_types
from jammi_lab.sources.files.decisions import Decision
from jammi_lab.sources.files.file_checks import (
    check_column_count,
    check_declared_columns,
    check_numbers,
)
from jammi_lab.sources.files.readers import partition_options, partition_types, path_literal
from jammi_lab.sources.files.text_bytes import TextFile
from jammi_lab.sources.files.text_columns import TextColumn, decide_columns
from jammi_lab.sources.files.text_types import Form
from jammi_lab.sources.read_errors import display_name

_MAX_TYPED_DEPTH = 62
"""What is nested deeper is a column of type JSON: Arrow has no deeper types."""
_NO_FORMAT = "no format"
"""A format of dates that no text has, so that DuckDB makes no text a date."""
_TIMES = Form.DATE | Form.TIMESTAMP | Form.TIMESTAMPTZ | Form.TIME
_NUMBERED_NAME = re.compile(r"(.*)_\d+", re.S)
_TEXT_KINDS = ("VARCHAR", "UUID", "TIME")
"""What DuckDB takes texts for. It writes UUID and TIME otherwise than the file may."""
_NESTED_TYPE = re.compile(r'("(?:[^"]|"")*")|(?<!MAP\()\b([A-Z]+)\b(?=[,)\[])')
"""A quoted name, or a type inside of a nested type that is no key."""
_NESTED_TEXTS = {"UUID": "VARCHAR", "TIME": "VARCHAR"}
_NUMBERS_AS_TEXT = {
    "DOUBLE": "VARCHAR",
    "BIGINT": "DOUBLE",
    "UBIGINT": "DOUBLE",
    "HUGEINT": "DOUBLE",
    "VARCHAR": "JSON",
}
"""Types with which the text of a nested value shows as plain digits only what is DOUBLE."""
_LONG_NUMBER = r"(^|[\[:,=]) ?-?(\d{{16,}}|\d[\d.]*[eE]\+?\d{{3,}})($|[,\]}}])"
_HAS_LONG_NUMBER = f"regexp_matches({{}}::VARCHAR, {sql_literal(_LONG_NUMBER)})"
"""Whether a nested value, with its numbers as text, has one that DOUBLE may not hold."""
_FIRST_RECORDS = "(SELECT json FROM it LIMIT 1000)"
"""Their keys are counted before any detection: one line can have hundreds of thousands."""
_HAS_VALUES = "{} IS NOT NULL"
_VALUE = "json"
"""The column of values that are no records."""
_RECORD = "__jammi_record"
"""A column of whole records, which no folder `key=value` hides."""
_IS_BEYOND_DOUBLE = "isinf(TRY_CAST({0} AS DOUBLE)) OR {0} ~ '-?[0-9]{{39,}}'"
"""Whether the text of a number is beyond the range of DOUBLE, or an integer that no type holds."""


def decide(
    kind: str, files: Sequence[TextFile], relation_of: Callable[[str], Relation]
) -> Decision:
    """How these files are read, decided from all their values. Raises OSError, duckdb.Error,
    SourceUnavailable."""
    options = files[0].options
    reading: dict[str, Any] = {"kind": kind, "columns": None, "casts": {}, "has_maps": True}
    reading |= {"keys": None, "records": str(options.get("records", "auto")).lower()}
    source_files = [file.source_file for file in files]

    def rows_of(columns: Mapping[str, str] | None, selected: str = "*") -> Relation:
        decision = Decision(columns or {}, (), reading | {"columns": columns})
        select = select_of(decision, files)
        return relation_of(f"SELECT {selected} FROM ({select})")

    detected = _detect(reading, rows_of, functools.partial(_check_key_count, files, relation_of))
    check_numbers(files)
    check_declared_columns(options.get("types", {}), list(detected))
    partitions = partition_types(source_files)
    names = list(detected)
    detected = _without_folders(detected, partitions, files[0].path)
    declared = {fold(name) for name in options.get("types", {})}
    looked = [
        name
        for name, kind in detected.items()
        if kind in (*_TEXT_KINDS, "DOUBLE", "HUGEINT") or fold(name) in declared
    ]
    types = {
        name: "VARCHAR" if name in looked else _replace_types(kind, _NESTED_TEXTS)
        for name, kind in detected.items()
    }
    reading["keys"] = _keys_of(files, relation_of, rows_of(None), names, partitions)
    if reading["keys"] is not None or _has_bare_values(reading, files, relation_of, detected):
        reading["records"] = "false"
    nested = [name for name, kind in types.items() if name not in looked and "DOUBLE" in kind]
    digits = {name: _replace_types(types[name], _NUMBERS_AS_TEXT) for name in nested}
    inexact = _columns_where(nested, _HAS_LONG_NUMBER, rows_of(types | digits))
    types |= dict.fromkeys(inexact, "JSON")
    reading["columns"] = dict(types)
    if looked:
        as_texts = ", ".join(
            f"CAST({quoted} AS VARCHAR) AS {quoted}" for quoted in map(quote_identifier, looked)
        )
        texts = rows_of(reading["columns"], as_texts)
        size = sum(source_file.stat.size for source_file in source_files)
        try:
            decided = decide_columns(texts, looked, options, size, _TIMES)
        except csv_errors.Misfit as misfit:
            known = Decision({}, (), reading)
            relations = (relation_of(select_of(known, [file])) for file in files)
            raise _misfit_error(misfit, files, relations) from None
        for name, column in _columns(decided, detected, texts).items():
            types[name] = column.type
            if column.cast is not None:
                reading["casts"][name] = column.cast
    undeclared = {name: kind for name, kind in types.items() if fold(name) not in declared}
    notes = _notes_of(undeclared, detected, rows_of(reading["columns"]))
    return Decision(types | partitions, tuple(notes), reading)


def _detect(
    reading: dict[str, Any],
    rows_of: Callable[[None], Relation],
    check_key_count: Callable[[str], None],
) -> dict[str, str]:
    """The columns and types that DuckDB finds, also of records with many different keys, of which
    it makes one value each. The time for columns of their own grows with the square of their
    number, which is checked before."""
    check_key_count(_FIRST_RECORDS)
    detected = scratch_duckdb.describe(rows_of(None))
    if detected.get("json", "").startswith("MAP"):
        check_key_count("it")
        reading["has_maps"] = False
        detected = scratch_duckdb.describe(rows_of(None))
    return detected


def _check_key_count(
    files: Sequence[TextFile], relation_of: Callable[[str], Relation], records: str
) -> None:
    """Raise SourceUnavailable when these records have too many keys."""
    keys = f"SELECT unnest(json_keys(json)) AS key FROM {records}"
    with contextlib.suppress(duckdb.Error):  # detection tells of these where they are
        [[count]] = scratch_duckdb.query(
            _objects_of(files, relation_of), f"SELECT count(DISTINCT key) FROM ({keys})"
        )
        check_column_count(files[0].path, count)


def _objects_of(files: Sequence[TextFile], relation_of: Callable[[str], Relation]) -> Relation:
    paths = ", ".join(path_literal(file.utf8_address()) for file in files)
    return relation_of(f"SELECT json FROM read_json_objects([{paths}], hive_partitioning=false)")


def _has_bare_values(
    reading: Mapping[str, Any],
    files: Sequence[TextFile],
    relation_of: Callable[[str], Relation],
    detected: Mapping[str, str],
) -> bool:
    """Whether the only column is of values that are no records, and not a key of this name."""
    if list(detected) != [_VALUE]:
        return False
    values = select_of(Decision({}, (), {**reading, "records": "false"}), files)
    return scratch_duckdb.describe(relation_of(values))[_VALUE] == detected[_VALUE]


def _without_folders(
    detected: Mapping[str, str], partitions: Collection[str], path: str
) -> dict[str, str]:
    """The columns that no folder `key=value` hides. Raises SourceUnavailable without any."""
    shown = {name: kind for name, kind in detected.items() if name not in partitions}
    if partitions and not shown:
        raise SourceUnavailable(
            f"{display_name(path)} has no key that is not the name of a folder, too.",
            hint="Rename the folder or the key.",
        )
    return shown


def _keys_of(
    files: Sequence[TextFile],
    relation_of: Callable[[str], Relation],
    rows: Relation,
    names: Sequence[str],
    partitions: Collection[str],
) -> dict[str, str] | None:
    """The key of each column where one differs from its name, by which DuckDB would find no value:
    it counts columns without a name, and numbers those that differ by case. `rows`: as DuckDB
    reads them by itself. Raises SourceUnavailable, duckdb.Error for a key that a record has twice.
    """
    folded = {fold(name) for name in names}
    suspects = {name: "" for place, name in enumerate(names) if name == f"C{place}"}
    for name in names:
        numbered = _NUMBERED_NAME.fullmatch(name)
        if numbered is not None and fold(numbered[1]) in folded:
            suspects[name] = numbered[1]
    names = [name for name in names if name not in partitions]
    if suspects.keys().isdisjoint(names):
        return None
    found = scratch_duckdb.query(
        _objects_of(files, relation_of), "SELECT DISTINCT unnest(json_keys(json)) FROM it"
    )
    keys = {key for (key,) in found if key not in partitions}
    key_of = {name: name if name in keys else suspects.get(name, name) for name in names}
    if set(key_of.values()) != keys:
        raise SourceUnavailable(
            f"{display_name(files[0].path)} has keys that differ only by case, and one with a "
            "number that a column of such a key would get.",
            hint="Rename one of the keys.",
        )
    if key_of.keys() == keys:
        return None
    scratch_duckdb.query(rows, "SELECT count(COLUMNS(*)) FROM it")
    return key_of


def _misfit_error(
    misfit: csv_errors.Misfit, files: Sequence[TextFile], rows_of_files: Iterable[Relation]
) -> SourceUnavailable:
    """The error for a value that is not of its declared type, in the first record that has it."""
    path, number = files[0].path, None
    value = f"CAST({quote_identifier(misfit.column)} AS VARCHAR)"
    for file, rows in zip(files, rows_of_files, strict=True):
        if misfit.column in scratch_duckdb.describe(rows):
            numbered = f"SELECT row_number() OVER () AS number, {value} AS value FROM it"
            first = (
                f"SELECT min(number) FROM ({numbered}) WHERE value = {sql_literal(misfit.value)}"
            )
            [[number]] = scratch_duckdb.query(rows, first)
        if number is not None:
            path = file.path
            break
    return misfit.error_at(csv_errors.place_in(path, number, "record"))


def _notes_of(types: Mapping[str, str], detected: Mapping[str, str], rows: Relation) -> list[str]:
    """What to tell of columns that DuckDB took for `detected`."""
    mixed = [name for name, kind in types.items() if kind == detected[name] == "JSON"]
    return [
        f"{name}: {'JSON' if kind == 'JSON' else 'text'}, because DOUBLE does not hold all its "
        "numbers"
        for name, kind in types.items()
        if _is_inexact(detected[name], kind)
    ] + [
        f"{name}: JSON, because it has values of several kinds; "
        f"options={{'types': {{{name!r}: 'VARCHAR'}}}} reads them as text"
        for name in _columns_where(mixed, _HAS_VALUES, rows)
    ]


def _is_inexact(detected: str, kind: str) -> bool:
    """Whether a column of numbers is read otherwise than DuckDB would."""
    if kind == "VARCHAR":
        return detected not in _TEXT_KINDS
    return kind == "JSON" != detected


def _replace_types(kind: str, types: Mapping[str, str]) -> str:
    """A nested type with other types inside of it."""
    return _NESTED_TYPE.sub(lambda match: match[1] or types.get(match[2], match[2]), kind)


def _columns_where(names: Sequence[str], condition: str, rows: Relation) -> list[str]:
    """Which of these columns have a value for which a condition holds."""
    if not names:
        return []
    conditions = (condition.format(quote_identifier(name)) for name in names)
    tests = ", ".join(f"bool_or({each})" for each in conditions)
    [found] = scratch_duckdb.query(rows, f"SELECT {tests} FROM it")
    return [name for name, holds in zip(names, found, strict=True) if holds]


def _columns(
    decided: Mapping[str, TextColumn], detected: Mapping[str, str], texts: Relation
) -> dict[str, TextColumn]:
    """How columns are read that DuckDB took for `detected`: those with a number beyond DOUBLE as
    the texts that they are."""
    exponents = []
    for name, found in decided.items():
        if detected[name] == "DOUBLE" and Form.TEXT in found.forms and not found.is_declared:
            exponents.append(name)
    beyond = _columns_where(exponents, _IS_BEYOND_DOUBLE, texts)
    return {
        name: found if name in beyond else _column(name, detected[name], found)
        for name, found in decided.items()
    }


def _column(name: str, detected: str, column: TextColumn) -> TextColumn:
    """How a column is read that DuckDB took for `detected`."""
    value = quote_identifier(name)
    if column.is_declared or detected in _TEXT_KINDS:
        kind = column.type
    else:
        kind = text_types.type_of_number(column.forms)
    cast = None if kind == "VARCHAR" else f"CAST(nullif({value}, '') AS {kind})"
    return TextColumn(kind, cast, is_declared=column.is_declared)


def select_of(decision: Decision, files: Sequence[TextFile]) -> str:
    """A SELECT of all rows of these files, in order, as it was decided. Raises OSError,
    SourceUnavailable."""
    reading, options = decision.reading, files[0].options
    paths = ", ".join(path_literal(file.utf8_address()) for file in files)
    shape = "newline_delimited" if reading["kind"] == "ndjson" else "auto"
    reader_options = [
        f"format={sql_literal(options.get('format', shape))}",
        f"records={sql_literal(reading['records'])}",
        f"maximum_depth={_MAX_TYPED_DEPTH}",
        *partition_options([file.source_file for file in files]),
    ]
    selected = "*"
    if reading["columns"] is None:
        reader_options += [
            f"dateformat={sql_literal(_NO_FORMAT)}",
            f"timestampformat={sql_literal(_NO_FORMAT)}",
            "sample_size=-1",
            f"maximum_sample_files={len(files)}",
            f"union_by_name={'true' if options.get('union_by_name') else 'false'}",
            *([] if reading["has_maps"] else ["map_inference_threshold=-1"]),
        ]
    elif reading["keys"] is None:
        columns = ", ".join(
            f"{sql_literal(name)}: {sql_literal(kind)}" for name, kind in reading["columns"].items()
        )
        reader_options.append(f"columns={{{columns}}}")
    else:
        reader_options.append(f"columns={{{_RECORD}: 'JSON'}}")
        values = (
            f"{_value_at(reading['keys'][name], kind)} AS {quote_identifier(name)}"
            for name, kind in reading["columns"].items()
        )
        selected = f"{', '.join(values)}, * EXCLUDE ({_RECORD})"
    rows = f"SELECT {selected} FROM read_json([{paths}], {', '.join(reader_options)})"
    casts = [f"{cast} AS {quote_identifier(name)}" for name, cast in reading["casts"].items()]
    return f"SELECT * REPLACE ({', '.join(casts)}) FROM ({rows})" if casts else rows


def _value_at(key: str, kind: str) -> str:
    """The value of a key of a record, as `read_json` gives it."""
    pointer = sql_literal("/" + key.replace("~", "~0").replace("/", "~1"))
    structure = sql_literal(json.dumps(kind, ensure_ascii=False))
    return f"json_transform({_RECORD}->{pointer}, {structure})"
