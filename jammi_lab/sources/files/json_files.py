"""How JSON files are read. DuckDB finds the keys and the types of all values; which texts are dates
and times is decided here, from all of them."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jammi_lab.core.identifiers import fold, quote_identifier, sql_literal
from jammi_lab.sources import scratch_duckdb
from jammi_lab.sources.base import Relation
from jammi_lab.sources.files import csv_errors, text_types
from jammi_lab.sources.files.decisions import Decision
from jammi_lab.sources.files.file_sets import FileSet, SourceFile
from jammi_lab.sources.files.readers import partition_options, partition_types, path_literal
from jammi_lab.sources.files.text_bytes import utf8_address
from jammi_lab.sources.files.text_columns import Misfit, TextColumn, decide_columns
from jammi_lab.sources.files.text_types import Form

_MAX_TYPED_DEPTH = 62
"""What is nested deeper is a column of type JSON: Arrow has no deeper types."""
_NO_FORMAT = "no format"
"""A format of dates that no text has, so that DuckDB makes no text a date."""
_TIMES = Form.DATE | Form.TIMESTAMP | Form.TIMESTAMPTZ | Form.TIME
_NUMBERED_NAME = re.compile(r"(.*)_\d+", re.S)


def decide(
    kind: str,
    file_set: FileSet,
    source_files: Sequence[SourceFile],
    addresses: Sequence[str],
    options: Mapping[str, Any],
    relation_of: Callable[[str], Relation],
) -> Decision:
    """How these files are read, decided from all their values. Raises OSError, duckdb.Error,
    SourceUnavailable."""
    undecided = Decision({}, (), {"kind": kind, "columns": None, "casts": {}})
    select = select_of(undecided, file_set, source_files, addresses, options)
    detected = scratch_duckdb.describe(relation_of(select))
    csv_errors.check_declared_columns(options.get("types", {}), list(detected))
    partitions = partition_types(source_files)
    detected = {name: kind for name, kind in detected.items() if name not in partitions}
    declared = {fold(name) for name in options.get("types", {})}
    looked = [
        name
        for name, kind in detected.items()
        if kind in ("VARCHAR", "DOUBLE", "HUGEINT") or fold(name) in declared
    ]
    texts = {name: "VARCHAR" if name in looked else kind for name, kind in detected.items()}
    columns = None if _needs_detection(list(detected)) else texts
    reading = {"kind": kind, "columns": columns, "casts": {}}
    if not looked:
        return Decision(detected | partitions, (), reading)
    select = select_of(Decision(texts, (), reading), file_set, source_files, addresses, options)
    as_texts = ", ".join(
        f"CAST({quote_identifier(name)} AS VARCHAR) AS {quote_identifier(name)}" for name in looked
    )
    relation = relation_of(f"SELECT {as_texts} FROM ({select})")
    size = sum(source_file.stat.size for source_file in source_files)
    try:
        decided = decide_columns(relation, looked, options, size, _TIMES)
    except Misfit as misfit:
        raise csv_errors.misfit_error(
            source_files[0].path, None, misfit.column, misfit.value, misfit.kind
        ) from None
    decided = {name: _column(name, detected[name], column) for name, column in decided.items()}
    notes = tuple(
        f"{name}: text, because DOUBLE does not hold all its numbers"
        for name, column in decided.items()
        if column.type == "VARCHAR" and detected[name] != "VARCHAR" and not column.is_declared
    )
    types = {name: decided[name].type if name in decided else kind for name, kind in texts.items()}
    casts = {name: column.cast for name, column in decided.items() if column.cast is not None}
    return Decision(types | partitions, notes, reading | {"casts": casts})


def _column(name: str, detected: str, column: TextColumn) -> TextColumn:
    """How a column is read that DuckDB took for `detected`."""
    value = quote_identifier(name)
    if column.is_declared or detected == "VARCHAR":
        kind = column.type
    else:
        kind = text_types.type_of_number(column.forms)
    cast = None if kind == "VARCHAR" else f"CAST({value} AS {kind})"
    return TextColumn(kind, cast, is_declared=column.is_declared)


def _needs_detection(names: Sequence[str]) -> bool:
    """Whether the columns cannot be given to DuckDB by name: it has made a name of a value that is
    no object, or has numbered keys that differ only by case."""
    folded = {fold(name) for name in names}
    numbered = [_NUMBERED_NAME.fullmatch(name) for name in names]
    return list(names) == ["json"] or any(
        match is not None and fold(match[1]) in folded for match in numbered
    )


def select_of(
    decision: Decision,
    file_set: FileSet,
    source_files: Sequence[SourceFile],
    addresses: Sequence[str],
    options: Mapping[str, Any],
) -> str:
    """A SELECT of all rows of these files, in order, as it was decided. Raises OSError,
    SourceUnavailable."""
    reading = decision.reading
    paths = [
        path_literal(utf8_address(file_set, source_file, address, options))
        for source_file, address in zip(source_files, addresses, strict=True)
    ]
    shape = "newline_delimited" if reading["kind"] == "ndjson" else "auto"
    reader_options = [
        f"format={sql_literal(options.get('format', shape))}",
        f"maximum_depth={_MAX_TYPED_DEPTH}",
        *partition_options(decision.columns, source_files),
    ]
    if "records" in options:
        reader_options.append(f"records={sql_literal(str(options['records']).lower())}")
    if reading["columns"] is None:
        reader_options += [
            f"dateformat={sql_literal(_NO_FORMAT)}",
            f"timestampformat={sql_literal(_NO_FORMAT)}",
            "sample_size=-1",
            f"maximum_sample_files={len(source_files)}",
            f"union_by_name={'true' if options.get('union_by_name') else 'false'}",
        ]
    else:
        columns = ", ".join(
            f"{sql_literal(name)}: {sql_literal(kind)}" for name, kind in reading["columns"].items()
        )
        reader_options.append(f"columns={{{columns}}}")
    casts = [f"{cast} AS {quote_identifier(name)}" for name, cast in reading["casts"].items()]
    selected = f"* REPLACE ({', '.join(casts)})" if casts else "*"
    return f"SELECT {selected} FROM read_json([{', '.join(paths)}], {', '.join(reader_options)})"
