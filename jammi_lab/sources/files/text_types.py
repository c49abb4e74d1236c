"""Types of columns of texts, decided from all their values: what a value can be, as SQL; the type
that holds all of them exactly; and whether values fit a type that was declared.

A value is of a form only if it can be read in one way. Each form is a bit, so that `bit_or` over a
column tells which forms occur in it.
"""

import re
from collections.abc import Mapping
from enum import IntFlag
from typing import Any

from jammi_lab.core.identifiers import sql_literal


class Form(IntFlag):
    """The forms of texts."""

    SMALL = 1
    """An integer of at most 15 digits, which is exact in DOUBLE, too; without leading zeros."""
    SMALL_NEGATIVE = 2
    DECIMAL = 4
    """A number with a point whose digits survive in DOUBLE."""
    DATE = 8
    TIMESTAMP = 16
    TIMESTAMPTZ = 32
    TIME = 64
    BOOLEAN = 128
    LARGE = 256
    """An integer of more digits that BIGINT holds."""
    UNSIGNED = 512
    """An integer beyond BIGINT that UBIGINT holds."""
    HUGE = 1024
    """An integer that only HUGEINT holds."""
    NEGATIVE = 2048
    """A negative integer of more than 15 digits."""
    FORMATTED_DATE = 4096
    """A date of the option `dateformat`."""
    FORMATTED_TIMESTAMP = 8192
    """A time of the option `timestampformat`."""
    FORMATTED_TIMESTAMPTZ = 65536
    """The same with an offset or a zone."""
    EMPTY = 16384
    """An empty text in quotation marks, which is not NULL."""
    TEXT = 32768
    """Any other text."""


NO_FORMS = Form(0)
ALL_FORMS = ~NO_FORMS
_SMALL = Form.SMALL | Form.SMALL_NEGATIVE
_INTEGERS = _SMALL | Form.LARGE | Form.UNSIGNED | Form.HUGE | Form.NEGATIVE
FORMATTED = Form.FORMATTED_DATE | Form.FORMATTED_TIMESTAMP | Form.FORMATTED_TIMESTAMPTZ
_LONG = Form.LARGE | Form.UNSIGNED | Form.HUGE
_TYPES = (
    (_SMALL | Form.LARGE | Form.NEGATIVE, "BIGINT"),
    (Form.SMALL | Form.LARGE | Form.UNSIGNED, "UBIGINT"),
    (_INTEGERS, "HUGEINT"),
    (_SMALL | Form.DECIMAL, "DOUBLE"),
    (Form.BOOLEAN, "BOOLEAN"),
    (Form.DATE, "DATE"),
    (Form.FORMATTED_DATE, "DATE"),
    (Form.DATE | Form.TIMESTAMP, "TIMESTAMP"),
    (Form.FORMATTED_TIMESTAMP, "TIMESTAMP"),
    (Form.FORMATTED_TIMESTAMPTZ, "TIMESTAMP WITH TIME ZONE"),
    (Form.TIMESTAMPTZ, "TIMESTAMP WITH TIME ZONE"),
    (Form.TIME, "TIME"),
)
"""The first type all of whose forms cover those of a column."""
_LEAP_YEAR = r"(\d\d(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)"
ISO_DATE = (
    r"(\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|"
    rf"02-(0[1-9]|1\d|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
_MINUTES = r"([01]\d|2[0-3]):[0-5]\d"
_SECONDS = r":[0-5]\d(\.\d{1,6})?"
_CLOCK = rf"{_MINUTES}({_SECONDS})?"
_ISO_TIMESTAMP = rf"{ISO_DATE}[ T]{_CLOCK}"
_ISO_ZONED = rf"{ISO_DATE}[ T]{_MINUTES}{_SECONDS}(Z|[+-](0\d|1[0-5])(:?[0-5]\d)?)"
_DECIMAL = r"-?((0|[1-9]\d*)?\.\d+([eE][+-]?\d{1,3})?|[1-9]e[+-]\d{2,3})"
"""Also what Python writes for 1e-07, but not codes such as 1E5."""
_MODERATE_DECIMAL = r"-?((0|[1-9]\d*)?\.\d+([eE][+-]?0?\d{1,2})?|[1-9]e[+-]\d{2})"
"""Of an exponent that DOUBLE has."""
_MAX_SAFE_DIGITS = 15
_LONG_INTEGER = r"-?[1-9]\d{15,38}"
_MAX_SAFE_BYTES = 16
"""Of a number with a point whose digits, at most 15, survive in DOUBLE whatever they are."""


def type_of(forms: Form) -> str:
    """The SQL type of a column with values of these forms. A column without values is VARCHAR."""
    forms &= ~Form.EMPTY
    if not forms:
        return "VARCHAR"
    return next((name for held, name in _TYPES if not forms & ~held), "VARCHAR")


def type_of_number(forms: Form) -> str:
    """The SQL type of a column of numbers of JSON, some of which are no integers of BIGINT."""
    if Form.TEXT in forms and not forms & _LONG:  # an exponent
        return "DOUBLE"
    return type_of(forms)


def _is_exact_decimal(value: str) -> str:
    """A condition: a number with a point whose digits are those of its DOUBLE, so that two
    different numbers stay different. Python's and R's way of writing a DOUBLE is tried first."""
    number = f"TRY_CAST({value} AS DOUBLE)"
    digits = f"rtrim({value}, '0')"
    significant = f"strlen(ltrim(rtrim(replace({value}, '.', ''), '0'), '-0'))"
    return (
        f"CASE WHEN strlen({value}) <= {_MAX_SAFE_BYTES} AND "
        f"{matches_pattern(value, _MODERATE_DECIMAL)} THEN true "
        f"WHEN {number}::VARCHAR = {value} THEN right({value}, 1) <= '9' "
        f"ELSE {matches_pattern(value, _DECIMAL)} AND ({significant} = 0 OR "
        f"({significant} <= {_MAX_SAFE_DIGITS} AND abs({number}) BETWEEN 1e-300 AND 1e300) OR "
        f"format('{{:.17g}}', {number}) = {digits}) END"
    )


def matches_pattern(value: str, pattern: str) -> str:
    """A condition: the whole value matches."""
    return f"regexp_full_match({value}, {sql_literal(pattern)})"


def as_number(value: str, options: Mapping[str, Any]) -> str:
    """A number as SQL writes it, from one with the options' separators; NULL where the value is
    none, so that `1,5` with the separator of thousands `,` is no number."""
    point = options.get("decimal_separator", ".")
    thousands = options.get("thousands", "")
    if point == "." and not thousands:
        return value
    fraction = rf"({re.escape(point)}\d+)?"
    whole = r"\d+"
    number = f"replace({value}, {sql_literal(point)}, '.')"
    if thousands:
        whole = rf"(\d+|\d{{1,3}}({re.escape(thousands)}\d\d\d)+)"
        without = f"replace({value}, {sql_literal(thousands)}, '')"
        number = f"replace({without}, {sql_literal(point)}, '.')"
    return f"(CASE WHEN {matches_pattern(value, f'-?{whole}{fraction}')} THEN {number} END)"


def _conditions(value: str, options: Mapping[str, Any]) -> list[tuple[Form, str]]:
    """The condition of each form, the cheaper ones first."""
    number = as_number(value, options)
    conditions = [
        (Form.SMALL, matches_pattern(number, r"0|[1-9]\d{0,14}")),
        (Form.SMALL_NEGATIVE, matches_pattern(number, r"-[1-9]\d{0,14}")),
        (Form.DECIMAL, _is_exact_decimal(number)),
        (Form.DATE, matches_pattern(value, ISO_DATE)),
        (Form.TIMESTAMP, matches_pattern(value, _ISO_TIMESTAMP)),
        (Form.BOOLEAN, matches_pattern(value, "(?i)true|false")),
        (Form.TIME, matches_pattern(value, _CLOCK)),
        (Form.TIMESTAMPTZ, matches_pattern(value, _ISO_ZONED)),
    ]
    long_integer = matches_pattern(number, _LONG_INTEGER)
    for sign, mark in ((f" AND {number} LIKE '-%'", Form.NEGATIVE), ("", Form(0))):
        conditions += [
            (form | mark, f"{long_integer} AND TRY_CAST({number} AS {name}) IS NOT NULL{sign}")
            for form, name in (
                (Form.LARGE, "BIGINT"),
                (Form.UNSIGNED, "UBIGINT"),
                (Form.HUGE, "HUGEINT"),
            )
        ]
    for form, kind in (
        (Form.FORMATTED_DATE, "date"),
        (Form.FORMATTED_TIMESTAMP, "timestamp"),
        (Form.FORMATTED_TIMESTAMPTZ, "timestamptz"),
    ):
        if time_format := _format_of(kind, options):
            conditions.append((form, _fits_format(value, kind, time_format)))
    return conditions


def _format_of(kind: str, options: Mapping[str, Any]) -> str | None:
    """The format in which the options say that values of a type are written. Times with an offset
    or a zone are instants."""
    if kind == "date":
        return options.get("dateformat")
    time_format: str | None = options.get("timestampformat")
    is_zoned = time_format is not None and re.search("%[zZ]", time_format) is not None
    return time_format if kind in (_ZONED_TYPES if is_zoned else _PARTS_OF_SECONDS) else None


def _fits_format(value: str, kind: str, time_format: str) -> str:
    """A condition: a value is of a format, and of a type that keeps all that it says."""
    parsed = f"try_strptime({value}, {sql_literal(time_format)})"
    return f"year({parsed}) >= 1000 AND TRY_CAST({parsed} AS {kind}) = {parsed}"


def form_of(value: str, options: Mapping[str, Any], expected: Form | None = None) -> str:
    """The form of a value as a number. With `expected`, values of other forms count as TEXT, which
    takes less time."""
    conditions = [(Form.EMPTY, f"{value} = ''")]
    if expected is None or not expected & Form.TEXT:
        conditions += [
            (form, condition)
            for form, condition in _conditions(value, options)
            if expected is None or form & expected == form
        ]
    cases = " ".join(f"WHEN {condition} THEN {int(form)}" for form, condition in conditions)
    return f"CASE WHEN {value} IS NULL THEN 0 {cases} ELSE {int(Form.TEXT)} END"


_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)"
_DECLARED = re.compile(r"(?:decimal|numeric) ?(?:\( ?(\d+) ?(?:, ?(\d+) ?)?\))?")
"""DECIMAL alone has three digits after the point."""
_WHOLE_TYPES = frozenset(
    "bigint hugeint int integer smallint tinyint ubigint uhugeint uinteger usmallint "
    "utinyint".split()
)
_TEXT_TYPES = ("varchar", "text", "string", "char")
_ZONED_TYPES = ("timestamptz", "timestamp with time zone")
_PARTS_OF_SECONDS = {"timestamp_s": 0, "timestamp_ms": 3, "timestamp": 6, "timestamp_ns": 9}


def fits_type(value: str, kind: str, options: Mapping[str, Any]) -> str:
    """A condition: a text is a value of a declared type, with nothing rounded or cut."""
    name = kind.lower()
    if name in _TEXT_TYPES:
        return "true"
    number = as_number(value, options)
    is_cast = f"TRY_CAST({number} AS {kind}) IS NOT NULL"
    if name in _WHOLE_TYPES:
        return f"{matches_pattern(number, r'[+-]?[0-9]+')} AND {is_cast}"
    if name in ("double", "float", "real"):
        is_number = matches_pattern(number, rf"(?i){_NUMBER}(e[+-]?\d+)?")
        is_other = matches_pattern(number, "(?i)[+-]?(nan|inf|infinity)")
        return f"{is_number} AND isfinite(TRY_CAST({number} AS {kind})) OR {is_other}"
    if declared := _DECLARED.fullmatch(name):
        scale = declared[2] or ("0" if declared[1] else "3")
        pattern = rf"[+-]?(\d+(\.\d{{0,{scale}}}0*)?|\.\d{{0,{scale}}}0*)"
        return f"{matches_pattern(number, pattern)} AND {is_cast}"
    if time_format := _format_of(name, options):
        return _fits_format(value, kind, time_format)
    condition = f"TRY_CAST({value} AS {kind}) IS NOT NULL"
    if name == "date":
        return matches_pattern(value, ISO_DATE)
    if name in _PARTS_OF_SECONDS:
        digits = _PARTS_OF_SECONDS[name]
        pattern = rf"{ISO_DATE}([ T]{_MINUTES}(:[0-5]\d(\.\d{{0,{digits}}}0*)?)?)?"
        return f"{matches_pattern(value, pattern)} AND {condition}"
    if name in _ZONED_TYPES:
        return matches_pattern(value, _ISO_ZONED)
    if name == "time":
        return matches_pattern(value, _CLOCK)
    return condition


def cast_text(value: str, kind: str, options: Mapping[str, Any], *, is_formatted: bool) -> str:
    """The value of a text that fits a column of this type; with `is_formatted`, times are written
    as the options say."""
    name = kind.lower()
    if name in _TEXT_TYPES:
        return value
    text = f"nullif({value}, '')"
    time_format = _format_of(name, options) if is_formatted else None
    if time_format is not None:
        text = f"strptime({text}, {sql_literal(time_format)})"
    elif name in _WHOLE_TYPES or name.startswith(("decimal", "numeric", "double", "float", "real")):
        text = as_number(text, options)
    return f"CAST({text} AS {kind})"


def is_mixed(forms: Form) -> bool:
    """Whether a column of type VARCHAR has values that are no plain texts."""
    return bool(forms & ~(Form.TEXT | Form.EMPTY))


_LOOKS = (
    (r"-?\d{1,3}(\.\d{3})*,\d+", {"decimal_separator": ",", "thousands": "."}),
    (r"-?\d{1,3}(,\d{3})+(\.\d+)?", {"thousands": ","}),
    (r"(0?[1-9]|[12]\d|3[01])/(0?[1-9]|1[0-2])/\d{4}", {"dateformat": "%d/%m/%Y"}),
    (r"(0?[1-9]|1[0-2])/(0?[1-9]|[12]\d|3[01])/\d{4}", {"dateformat": "%m/%d/%Y"}),
    (r"\d{1,2}\.\d{1,2}\.\d{4}", {"dateformat": "%d.%m.%Y"}),
)
"""Options that read values of a pattern as numbers or dates."""


_NULL_MARK = re.compile(r"[^\w\s]{1,3}|[#\\]?[A-Za-z]{1,4}[/.]?[A-Za-z]{0,4}[!?]?")
"""What is written for a missing value: NA, \\N, n/a, -, ?, #N/A, null."""


def note_of(column: str, forms: Form, example: str) -> str | None:
    """The sentence that tells why a column is text; None where that is no decision."""
    options = [f"options={given!r}" for look, given in _LOOKS if re.fullmatch(look, example)]
    if options:
        return f"{column}: text, because {_shown_text(example)}; {' or '.join(options)}"
    if re.fullmatch(r"-?0\d+", example):
        return f"{column}: text, because {_shown_text(example)} begins with 0"
    if re.fullmatch(r"-?\d+(\.\d*)?", example):
        return f"{column}: text, because {_shown_text(example)} is not exact as a number"
    if not is_mixed(forms):
        return None
    if not example:
        return f"{column}: text, because no other type holds all its values"
    note = f"{column}: text, because {_shown_text(example)}"
    if _NULL_MARK.fullmatch(example) is None:
        return note
    return f"{note}; options={{'nullstr': [{example!r}]}} reads that as NULL"


def _shown_text(example: str) -> str:
    return '"' + (example if len(example) <= 40 else f"{example[:39]}…") + '"'
