"""The types of the columns of text files, decided by looks at all their values: first at a sample,
which tells what to expect, then at everything, and once more at what is not as expected."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from jammi_lab.core.identifiers import fold, quote_identifier, sql_literal
from jammi_lab.sources import scratch_duckdb
from jammi_lab.sources.base import Relation
from jammi_lab.sources.files import text_types
from jammi_lab.sources.files.csv_errors import Misfit
from jammi_lab.sources.files.text_types import ALL_FORMS, NO_FORMS, Form

_SAMPLE_ROWS = 2_000
_SMALL_BYTES = 1 << 18
"""Files of fewer bytes are looked at once, for every form of value."""
_LOOK_COLUMNS = 250
"""Columns of one look: the expressions for all columns of a wide file would take much memory."""


@dataclass(frozen=True, slots=True)
class TextColumn:
    """How a column of texts is read."""

    type: str
    """Its SQL type."""
    cast: str | None = None
    """The expression of its values over the column as text; None where DuckDB's own cast gives
    the same."""
    note: str | None = None
    """What was decided, as a sentence; None where there was nothing to decide."""
    forms: Form = NO_FORMS
    """The forms of its values."""
    is_declared: bool = False
    """Whether its type was given."""


_Looks = dict[str, tuple[Form, str]]
"""The forms of the values of each column, and the least text that has no other form."""


def decide_columns(
    texts: Relation,
    names: Sequence[str],
    options: Mapping[str, Any],
    size: int,
    forms: Form = ALL_FORMS,
) -> dict[str, TextColumn]:
    """How each column is read. `texts` has all columns as VARCHAR and `size` is that of the files
    in bytes; a type is decided from values of these `forms` only. Raises duckdb.Error, Misfit."""
    declared = {fold(name): kind for name, kind in options.get("types", {}).items()}
    kinds = {name: declared.get(fold(name)) for name in names}
    if options.get("all_varchar"):
        kinds = {name: kind or "VARCHAR" for name, kind in kinds.items()}
    is_large = size > _SMALL_BYTES
    with scratch_duckdb.connect(texts, uses_all_threads=is_large) as connection:
        look = _Look(connection, kinds, options)
        found = look.look_at(names, f"(FROM it LIMIT {_SAMPLE_ROWS})" if is_large else "it")
        if is_large:
            expected, found = found, look.look_for(found)
            others = [n for n in names if Form.TEXT in found[n][0] & ~expected[n][0]]
            found |= look.look_at(others, "it")
    return {
        name: _column(name, kinds[name], found[name][0], found[name][1], options, forms)
        for name in names
    }


def _column(
    name: str,
    declared: str | None,
    found: Form,
    example: str,
    options: Mapping[str, Any],
    allowed: Form,
) -> TextColumn:
    is_declared = declared is not None
    if declared is not None and Form.TEXT in found:
        raise Misfit(name, declared, example)
    kind = text_types.type_of(found) if declared is None else declared
    if not is_declared and (kind == "VARCHAR" or found & ~allowed):
        note = text_types.note_of(name, found, example)
        return TextColumn("VARCHAR", None, note, found)
    has_separators = options.get("decimal_separator", ".") != "." or "thousands" in options
    is_formatted = is_declared or bool(found & text_types.FORMATTED)
    has_format = is_formatted and ("dateformat" in options or "timestampformat" in options)
    cast = None
    if Form.EMPTY in found or has_separators or has_format:
        value = quote_identifier(name)
        cast = text_types.cast_text(value, kind, options, is_formatted=is_formatted)
    return TextColumn(kind, cast, forms=found, is_declared=is_declared)


@dataclass(frozen=True, slots=True)
class _Look:
    connection: duckdb.DuckDBPyConnection
    kinds: Mapping[str, str | None]
    options: Mapping[str, Any]

    def look_at(self, names: Sequence[str], rows: str) -> _Looks:
        """What the values of these columns look like in `rows`. One expression tells it of all
        columns, because to plan it takes 5 ms."""
        kinds = {*self.kinds.values()}
        cases = [f"WHEN {sql_literal(k or '')} THEN {self._form('v', k)}" for k in kinds]
        found: _Looks = dict.fromkeys(names, (NO_FORMS, ""))
        for part in _parts(names):
            columns = ", ".join(
                f"{{v: {quote_identifier(n)}, name: {sql_literal(n)}, "
                f"kind: {sql_literal(self.kinds[n] or '')}}}"
                for n in part
            )
            query = (
                f"SELECT name, bit_or(f), min(CASE WHEN f = {int(Form.TEXT)} THEN v END) FROM "
                f"(SELECT *, CASE kind {' '.join(cases)} END AS f FROM "
                f"(SELECT unnest([{columns}], recursive := true) FROM {rows})) GROUP BY name"
            )
            for name, forms, example in self.connection.execute(query).fetchall():
                found[name] = (Form(forms), example or "")
        return found

    def look_for(self, expected: _Looks) -> _Looks:
        """The same of all rows, with the forms that were expected; others count as TEXT."""
        found: _Looks = {}
        for part in _parts([*expected]):
            forms = (self._form(quote_identifier(n), self.kinds[n], expected[n][0]) for n in part)
            query = f"SELECT {', '.join(f'bit_or({form})' for form in forms)} FROM it"
            [row] = self.connection.execute(query).fetchall()
            for name, each in zip(part, row, strict=True):
                found[name] = (expected[name][0] | (each or 0), expected[name][1])
        return found

    def _form(self, value: str, kind: str | None, expected: Form | None = None) -> str:
        if kind is None:
            return text_types.form_of(value, self.options, expected)
        if kind.lower() == "varchar":
            return f"CASE WHEN {value} IS NULL THEN 0 ELSE {int(Form.TIME)} END"
        return (
            f"CASE WHEN {value} IS NULL THEN 0 WHEN {value} = '' THEN {int(Form.EMPTY)} "
            f"WHEN {text_types.fits_type(value, kind, self.options)} THEN {int(Form.TIME)} "
            f"ELSE {int(Form.TEXT)} END"
        )


def _parts(names: Sequence[str]) -> list[Sequence[str]]:
    return [names[start : start + _LOOK_COLUMNS] for start in range(0, len(names), _LOOK_COLUMNS)]
