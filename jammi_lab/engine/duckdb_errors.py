"""Translation of DuckDB's errors into `JammiError`: message, position, near names from our own
schemas, and a hint."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from jammi_lab.core import foreign_errors, identifiers
from jammi_lab.core.errors import (
    JammiError,
    SessionClosed,
    SourceUnavailable,
    SqlError,
    TableDamaged,
    too_many_open_files,
)
from jammi_lab.engine import error_hints
from jammi_lab.engine.duckdb_messages import PATH_PATTERN, DuckDBError, first_sentence, parse_error
from jammi_lab.engine.sql import function_list
from jammi_lab.sources.attach import protocol_error
from jammi_lab.sources.base import Relation
from jammi_lab.storage.object_store import UNREACHABLE_ERRNO

_READ_FAILURE = re.compile(
    r"No magic bytes|Failed to read|Malformed JSON in file|Error when sniffing|CSV "
    r"Error|too small to be a Parquet|TProtocol|decompression failure|"
    r"[Pp]arquet file|Invalid unicode .*file|No files found"
)
_QUOTING_KINDS = {
    *("Parser", "Binder", "Catalog", "Invalid Input"),
    *("Conversion", "Constraint", "Out of Range", "Mismatch Type"),
}
"""Errors that repeat values or the statement, whose words tell nothing of the machine."""
_ARROW_FAILURE = re.compile(r"arrow_scan: get_next failed\(\): (?!Invalid)")
"""What is said of Arrow, which calls wrong data invalid."""


@dataclass(frozen=True, slots=True)
class StatementContext:
    """An executed statement: its position in the user's text, and the relations it reads."""

    text: str
    """The whole text that the user wrote."""
    offset: int = 0
    """The offset of the statement in it, in characters."""
    statement: str = ""
    """The statement, as executed after `prefix` bytes."""
    relations: Sequence[Relation] = ()
    """The relations that it reads."""
    columns: Sequence[str] = field(default=())
    """The columns of these relations, for near names."""
    is_bound: bool = False
    """Whether binding against these columns succeeded, so that the error comes from the run."""

    def locate(self, error: JammiError, position: int | None) -> JammiError:
        """The error with its position; `position` is a byte offset into the statement."""
        text = self.statement.encode("utf-8", "replace")
        if position is None or not 0 <= position <= len(text):
            return error.with_position(self.text, None)
        preceding = text[:position].decode(errors="ignore")
        return error.with_position(self.text, self.offset + len(preceding))


def to_jammi_error(
    error: BaseException, context: StatementContext, *, prefix: int = 0
) -> JammiError:
    """The JammiError for an error while a statement was parsed, bound or run. `prefix` is the
    number of bytes executed in front of the statement."""
    if isinstance(error, JammiError):
        return error
    parsed = parse_error(error)
    if unintelligible := _protocol_error(error, context.relations):
        return unintelligible.with_position(context.text, None)
    if exhausted := _resource_error(error, parsed):
        return exhausted.with_position(context.text, None)
    if explained := _connector_error(parsed, context.relations):
        return explained.with_position(context.text, None)
    if (
        parsed.kind not in ("Parser", "Binder", "Catalog")
        and context.relations
        and _is_read_failure(error, parsed, context.relations)
    ):
        return _unreadable_error(parsed, context.relations).with_position(context.text, None)
    parsed = replace(parsed, position=_byte_offset(parsed, context, prefix))
    return context.locate(_statement_error(parsed, context), parsed.position)


def _byte_offset(error: DuckDBError, context: StatementContext, prefix: int) -> int | None:
    """The position of an error as a byte offset into the statement; None in what was inserted.
    DuckDB's parser counts characters, its binder bytes."""
    if error.position is None:
        return None
    statement, offset = context.statement, error.position - prefix
    if error.subtype == "SYNTAX_ERROR" and offset >= 0:
        return len(statement[:offset].encode("utf-8", "replace"))
    return offset


def source_error(error: BaseException, relation: Relation | None = None) -> JammiError:
    """The JammiError for an error while a source was read outside a user's statement; `relation`
    may have no name yet."""
    parsed = parse_error(error)
    relations = (relation,) if relation is not None else ()
    return (
        _protocol_error(error, relations)
        or _resource_error(error, parsed)
        or _connector_error(parsed, relations)
        or _unreadable_error(parsed, [r for r in relations if r.input.name])
    )


def _connector_error(error: DuckDBError, relations: Iterable[Relation]) -> JammiError | None:
    """The error that a relation's connector makes of DuckDB's message; None when it makes none."""
    ordered = sorted(relations, key=lambda relation: not relation.redact_first)
    for explain in [relation.explain for relation in ordered if relation.explain is not None]:
        explanation = explain(error.message)
        if explanation is not None:
            return explanation
    return None


def _resource_error(error: BaseException, parsed: DuckDBError) -> JammiError | None:
    if parsed.kind in _QUOTING_KINDS and not _ARROW_FAILURE.match(parsed.message):
        return None
    if exhausted := too_many_open_files(error, "A file of the statement"):
        return exhausted
    kind = "Out of Memory" if isinstance(error, MemoryError) else parsed.kind
    text = f"{kind}: {parsed.message}"
    return foreign_errors.to_error("resources", text) or foreign_errors.to_error("machine", text)


# -- reading a source


def _reads_server(relation: Relation) -> bool:
    attachment = relation.requirements.attachment
    return attachment is not None and attachment.persistent


def _protocol_error(error: BaseException, relations: Iterable[Relation]) -> JammiError | None:
    """The error for a server whose message is not UTF-8, so that DuckDB's error cannot be read."""
    if not isinstance(error, UnicodeDecodeError) or not any(map(_reads_server, relations)):
        return None
    return protocol_error()


def _is_read_failure(
    error: BaseException, parsed: DuckDBError, relations: Sequence[Relation]
) -> bool:
    if parsed.kind in ("IO", "HTTP", "Permission", "Serialization", "Invalid") or (
        not parsed.kind and isinstance(error, OSError)
    ):
        return True
    if _relations_in_message(parsed.message, relations) or parsed.message.startswith("CSV Error"):
        return True
    return parsed.kind in ("Invalid Input", "Conversion", "") and bool(
        _READ_FAILURE.match(parsed.message)
    )


def _relations_in_message(message: str, relations: Iterable[Relation]) -> list[Relation]:
    """The relations whose files a message names: by exact path, else by folder. A text with a
    slash, which a statement may have, is no part of a path."""
    paths = {p.rstrip(".:") for p in PATH_PATTERN.findall(message)}
    folders = {p.rsplit("/", 1)[0] for p in paths if p.count("/") > 1}
    exact = [r for r in relations if r.read.body and any(f"'{p}'" in r.read.body for p in paths)]
    return exact or [
        r for r in relations if r.read.body and any(f"'{f}/" in r.read.body for f in folders)
    ]


def _unreadable_error(error: DuckDBError, relations: Sequence[Relation]) -> JammiError:
    # Where the message names no file: the bytes of tables were compared with their digests.
    sources = [r for r in relations if not r.input.kind_class.is_result]
    culprits = _relations_in_message(error.message, relations) or sources or list(relations)
    labels = sorted({r.input.label for r in culprits})
    if not labels:
        return SourceUnavailable(f"The source cannot be read: {_reason(error)}.")
    if culprits[0].input.kind_class.is_result and f"[Errno {UNREACHABLE_ERRNO}]" in error.message:
        return SourceUnavailable(
            f"The store of the table {labels[0]} cannot be used: {_reason(error)}.",
            hint="Try again when it is reachable.",
        )
    if len(labels) == 1 and culprits[0].input.kind_class.is_result:
        return TableDamaged(
            f"The table {labels[0]} cannot be read: {_reason(error)}.",
            table=labels[0],
            hint="Run `verify`, then recompute it.",
        )
    subject = f"The source {labels[0]}" if len(labels) == 1 else f"One of {', '.join(labels)}"
    if _reads_server(culprits[0]):
        return SourceUnavailable(
            f"{subject} cannot be read: {_reason(error)}.",
            hint="Check the server, and run the statement again.",
        )
    return SourceUnavailable(
        f"{subject} cannot be read: {_reason(error)}.",
        hint="Check that the file is complete and in the format it was added with.",
    )


def _reason(error: DuckDBError) -> str:
    """The first line of the message, which names the problem; connectors look into the values of
    text files themselves. Of a path only the last part is shown, so that no folder of the machine
    appears in a shared notebook."""
    line = next(filter(str.strip, error.message.splitlines()), "the reader failed")
    return (
        PATH_PATTERN.sub(lambda p: p[0].rsplit("/", 1)[-1] or "the file", line).strip().rstrip(".:")
    )


# -- what is wrong with the statement


def _statement_error(error: DuckDBError, context: StatementContext) -> JammiError:
    """The error for a statement that DuckDB rejects."""
    message = error.message.strip()
    if error.kind == "Parser":
        found = foreign_errors.explain("syntax", message)
        return SqlError(
            found.message or first_sentence(message),
            hint=found.hint
            or error_hints.hint_for_syntax(message, error.position, context.statement),
        )
    if column := _missing_column_name(error):
        return _missing_column_error(column, error, context)
    for pattern, explain in _EXPLANATIONS:
        if match := pattern.match(message):
            return explain(match, error, context)
    if rejected := foreign_errors.to_error("statement", f"{error.kind}: {message}"):
        return rejected
    return SqlError(
        first_sentence(message) or f"The statement failed ({error.kind or 'unknown'} error).",
        hint=foreign_errors.explain("statement_hints", message).hint,
    )


def _unknown_table(
    match: re.Match[str], _error: DuckDBError, _context: StatementContext
) -> SqlError:
    # DuckDB also suggests its generated aliases of unnamed subqueries, which no user wrote.
    aliases = re.findall(r'"((?:[^"]|"")*)"', match[2] or "")
    return SqlError(
        f"No table in FROM is named {match[1]}.",
        near=[a for a in aliases if not a.startswith(("__jammi", "unnamed_subquery"))],
    )


def _wrong_arguments(
    match: re.Match[str], error: DuckDBError, _context: StatementContext
) -> SqlError:
    name, _, types = match[1].replace("_LITERAL", "").partition("(")
    # DuckDB reports operators as functions, too.
    problem = (
        f"There is no function {name}({types}"
        if name.isidentifier()
        else f"The operator {name} does not take ({types}"
    )
    return SqlError(f"{problem}.", hint=error_hints.hint_for_arguments(match[1], error.message))


def _ambiguous_column(
    match: re.Match[str], _error: DuckDBError, _context: StatementContext
) -> SqlError:
    candidates = match[2].replace('"', "").split(" or ")
    if len(set(candidates)) == 1:  # both are t.x: two tables have the same name
        table = candidates[0].rpartition(".")[0]
        return SqlError(
            f"Two tables in FROM are named {table}.", hint="Give one of them another name with AS."
        )
    return SqlError(f"The column {match[1]} is ambiguous: it may be {' or '.join(candidates)}.")


def _misused_function(
    match: re.Match[str], _error: DuckDBError, _context: StatementContext
) -> SqlError:
    if function_list.is_window(match[1]):
        return SqlError(
            f"{match[1]}() is a window function.", hint=f"Write {match[1]}(…) OVER (ORDER BY …)."
        )
    return SqlError(f"The function {match[1]} cannot be used like this.")


_EXPLANATIONS: tuple[
    tuple[re.Pattern[str], Callable[[re.Match[str], DuckDBError, StatementContext], SqlError]], ...
] = (
    (
        re.compile(r'Referenced table "(.*?)" not found!\s*(?:Candidate tables?: (.*))?', re.S),
        _unknown_table,
    ),
    (
        re.compile(r"No function matches the given name and argument types '(.*?)'\. ", re.S),
        _wrong_arguments,
    ),
    (re.compile(r'Ambiguous reference to column name "(.*?)" \(use: (.*)\)'), _ambiguous_column),
    (re.compile(r"(?:\w+ ){0,3}Function with name (.*?) does not exist!", re.S), _misused_function),
)
"""DuckDB's messages about a statement, and what explains each."""


def _missing_column_error(column: str, error: DuckDBError, context: StatementContext) -> SqlError:
    """The error for a missing column: in no input, not in the named table, or removed since the
    statement was bound."""
    labels = ", ".join(sorted({r.input.label for r in context.relations}))
    if identifiers.find_name(column, context.columns) is not None:
        if context.is_bound:
            return SqlError(
                f"The column {column} is no longer in {labels}: it changed while the statement "
                "was being prepared.",
                hint="Run the statement again.",
            )
        qualified = re.match(
            r'(?:Table|Values list) "(.*?)" does not have a column named', error.message
        )
        if qualified is None:
            return SqlError(
                f"The column {column} is not available here.",
                hint=foreign_errors.explain("statement_hints", error.message).hint
                or "An input has it, but the query selected from here does not.",
            )
        return SqlError(f"There is no column {column} in {qualified[1]}.")
    where = f" in {labels}" if labels else ""
    message = f"There is no column {column}{where}."
    statement = context.statement
    if meant := error_hints.hint_for_column(column, context.columns, error.position, statement):
        return SqlError(message, hint=meant)
    # What AS names can be read in WHERE, GROUP BY, HAVING and ORDER BY.
    aliases = identifiers.near_names(column, re.findall(r"\bas\s+(\w+)", statement, re.I))
    known = map(identifiers.quoted_name, aliases or context.columns)
    suggestions = identifiers.near_or_all(column, known)
    suggestions["hint"] = suggestions["hint"] or foreign_errors.explain("no_table", statement).hint
    return SqlError(message, **suggestions)


def _missing_column_name(error: DuckDBError) -> str:
    if error.subtype == "COLUMN_NOT_FOUND" and error.name:
        return error.name
    match = re.match(
        r'(?:Table|Values list|Column) "?.*?"? does not have a column named "(.*?)"'
        r'|Referenced (?:update )?column "?(.*?)"? not found'
        r'|Column "(.*?)" does not exist on \w+ side of join',
        error.message,
        re.S,
    )
    return match[match.lastindex or 1] if match else ""


def closed_error() -> JammiError:
    """The error for a call on a closed engine or stream."""
    return SessionClosed(
        "The workspace or result is closed.",
        hint="Reopen the workspace or run the statement again.",
    )


def stopped_error() -> JammiError:
    """The error for a statement that was running when its engine was closed."""
    return SessionClosed(
        "The workspace was closed while the statement was running.",
        hint="Reopen it and run the statement again.",
    )
