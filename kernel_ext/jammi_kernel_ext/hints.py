"""What cells and lines advise: hints of errors in cell syntax instead of Python calls, hints for
the placeholders of other tools, and errors for misplaced input."""

import ast
import contextlib
import linecache
import re
import shlex
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jammi_lab.commands.table import LINE, find_command
from jammi_lab.commands.words import SQL_KEYWORDS
from jammi_lab.core import foreign_errors
from jammi_lab.core.errors import InvalidArgument, JammiError, SqlError, TableNotFound
from jammi_lab.core.identifiers import find_name, fold, quote_identifier, quoted_name
from jammi_lab.core.input_kinds import input_kind
from jammi_lab.core.packaged_tables import rules_of
from jammi_lab.core.suggestions import options_as_flags, translate_advice

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.core.anchors import Input
    from jammi_lab.sources.base import Relation
    from jammi_lab.workspace.result import Result
    from jammi_lab.workspace.workspace import Workspace

# -- Python calls as lines of %jammi


def to_cell_syntax(hint: str) -> str:
    """Translate a hint into cell syntax. A call without an equivalent line is shown on the
    notebook's own workspace."""
    return translate_advice(options_as_flags(hint), "cells")


@contextlib.contextmanager
def cell_syntax_hints() -> Iterator[None]:
    """Translate the hints of errors that leave this block into cell syntax."""
    try:
        yield
    except JammiError as error:
        error.hint = to_cell_syntax(error.hint)
        raise


# -- names of variables


@contextlib.contextmanager
def foreign_syntax_hints(namespace: Mapping[str, Any]) -> Iterator[None]:
    """Add a hint to errors of the statement run in this block. `namespace` holds the notebook's
    variables."""
    try:
        yield
    except JammiError as error:
        column = re.match(r"There is no column (\w+)[. ]", error.message)
        if isinstance(error, SqlError) and column is not None and column[1] in namespace:
            error.hint = f"To use the value of a variable, write ${column[1]}."
        elif not error.hint.startswith("Write ") and (hint := _hint(error, namespace)):
            error.near, error.hint = (), hint
        raise


def _hint(error: JammiError, namespace: Mapping[str, Any]) -> str:
    missing = re.match(r"There is no (?:table (\w+)\.$|source or table '(\w+)' to )", error.message)
    if missing is None or not isinstance(error, TableNotFound):
        return ""
    table, read = missing.groups()
    if table in namespace:
        kind = type(namespace[table]).__name__
        makes = f": pandas.DataFrame({table}) makes one" if kind in ("dict", "list") else ""
        return f"The variable {table} is not a frame; its type is {kind}{makes}."
    return f"ws.sources.add({read!r}, {read}) adds a frame." if read in namespace else ""


# -- methods taken for values, and the reverse; objects of ours in place of frames


_WRONG_BRACKETS = re.compile(
    r"'(?:\w+' object is not (callable)$|"
    r"(?:method|function)' object (?:has no attribute|is not (subscriptable|iterable)$))"
)


def error_hint(error: Exception, namespace: Mapping[str, Any]) -> str:
    """What is said below the error of a cell that takes a method of an object of ours for a value,
    or a value for a method, or that the table of messages knows as a habit; empty for any other
    error, and for one of ours, which says it itself."""
    entry = traceback.extract_tb(error.__traceback__)[-1]
    wrong = _WRONG_BRACKETS.match(str(error))
    if wrong is None:
        if "/jammi_lab/" in entry.filename:
            return ""
        line = getattr(error, "text", "")  # of a SyntaxError
        return foreign_errors.explain("cells", f"{type(error).__name__}: {error} {line}").hint
    line = linecache.getline(entry.filename, entry.lineno or 0).encode()
    with contextlib.suppress(SyntaxError, AttributeError):
        if wrong[2] == "iterable":  # the place of the error is the loop
            written = line.partition(b" in ")[2].strip(b": \n])")
        else:
            written = line[entry.colno : entry.end_colno]
        named: Any = ast.parse(written, mode="eval").body
        if wrong[2] != "iterable":
            named = named.func if wrong[1] else named.value
        owner = named.value
        while not isinstance(owner, ast.Name):
            owner = owner.func if isinstance(owner, ast.Call) else owner.value
        if type(namespace.get(owner.id)).__module__.startswith("jammi_lab."):
            meant = dict(rules_of("suggestions", "brackets")).get(named.attr, "")
            kind = "a value: omit ()" if wrong[1] else f"a method: {named.attr}()"
            return f"{named.attr} is {kind}. {meant}".rstrip()
    return ""


# -- comparisons that find nothing

_MAX_LOOK_BYTES, _MAX_LOOKS = 32 << 20, 3
_COMPARED_TEXT = re.compile(r"""(?<![\w."])(?:\w+\.)?(?:(\w+)|"([^"]+)")\s*=\s*'((?:[^']|'')+)'""")


def empty_hint(ws: "Workspace", result: "Result", shown: "pa.Table") -> str:
    """What is said of a statement that finds nothing when the text that a column is compared with
    is there in other letter case, or with blanks, alone; empty for any other. Columns of frames
    and of small local files are looked at: no index helps this comparison."""
    prepared: Any = getattr(result, "_prepared", None)
    if prepared is None or not _is_nothing(shown):  # without it, a statement that changed rows
        return ""
    for plain, quoted, text in _COMPARED_TEXT.findall(prepared.statement)[:_MAX_LOOKS]:
        column, written = plain or quoted, text.replace("''", "'")
        reads = [
            read
            for read in prepared.inputs
            if read.schema.get(find_name(column, read.schema)) == "VARCHAR"
        ]
        if len(reads) > _MAX_LOOKS or not all(_is_small(read.relation) for read in reads):
            continue
        found = [_forms_of(ws, read.relation.input, column, written) for read in reads]
        others = [other for other, is_there in found if other]
        if others and not any(is_there for _, is_there in found):
            return f"{column} has {others[0]!r}, and no {written!r}."
    return ""


def _is_nothing(rows: "pa.Table") -> bool:
    """Whether there is no row, or one of NULLs and of counts that are 0, as aggregates of no row
    are."""
    import pyarrow as pa

    if rows.num_rows > 1:
        return False
    return all(
        not value.is_valid or (pa.types.is_integer(value.type) and value.as_py() == 0)
        for column in rows.columns
        for value in column
    )


def _forms_of(ws: "Workspace", source: "Input", column: str, text: str) -> tuple[str, bool]:
    """A value that is a text but for letter case and blanks, empty without one; and whether the
    text itself is there."""
    name = quoted_name(*input_kind(source.kind).name_parts(source.name))
    value = quote_identifier(column)
    statement = (
        f"SELECT min({value}), bool_or({value} = $text) FROM {name} "
        f"WHERE lower(trim({value})) = lower(trim($text))"
    )
    with contextlib.suppress(JammiError):
        rows = ws._services.statements.run(statement, {"text": text}, frames=True)
        [(other, is_there)] = rows.fetchall()
        return other or "", bool(is_there)
    return "", False


def _is_small(relation: "Relation") -> bool:
    from jammi_lab.sources.base import NO_REQUIREMENTS

    if relation.requirements != NO_REQUIREMENTS:  # a server, a store
        return False
    frame = relation.read.frame
    size = relation.read.local_bytes if frame is None else frame.nbytes
    return size is not None and size <= _MAX_LOOK_BYTES


# -- misplaced input: SQL on the line of a magic, names in place of a verb


def first_line_error(words: Sequence[str]) -> InvalidArgument | None:
    """The error for a cell whose first line begins with SQL or with a verb of `%jammi`; None
    otherwise."""
    if not words:
        return None
    if find_command(LINE, words[0]) is not None:
        return InvalidArgument(
            f"{words[0]} is a line command, not a cell command.",
            hint=f"Write it with one %: %jammi {shlex.join(words)}",
        )
    if fold(words[0]) not in SQL_KEYWORDS:
        return None
    return InvalidArgument(
        "The statement is on the first line of the cell.",
        hint="Write it below: the first line takes a NAME and flags.",
    )


def name_as_verb_error(
    line: str, ws: "Workspace | None", error: InvalidArgument
) -> InvalidArgument:
    """The error of a line that cannot be parsed. If its first word names a source or table, the
    hint says what to type."""
    if ws is None or not error.message.startswith("Unknown command: "):
        return error
    word = line.split(maxsplit=1)[0]
    for kind, known in (("source", list(ws.sources)), ("table", [r.name for r in ws.recipes])):
        match = find_name(word, known)
        if match is not None:
            return InvalidArgument(
                error.message,
                hint=f"{match} is a {kind}: %jammi preview {shlex.quote(match)} shows its rows.",
            )
    return error
