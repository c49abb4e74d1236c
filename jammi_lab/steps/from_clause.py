"""FROM text for an argument that is the name of a source or table, or SQL."""

import re
from collections.abc import Sequence
from typing import Protocol

from jammi_lab.core.errors import InvalidArgument, StatementNotAllowed, TableNotFound
from jammi_lab.core.identifiers import fold, near_names, quote_identifier
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.inputs.path_names import bound_path, bound_text

_NAME_PART = r'(?:[^".\s]+|"(?:[^"]|"")+")'


class Binder(Protocol):
    """Binds statements."""

    def prepare(self, statement: str) -> list[PreparedStatement]:
        """Bind the statements of a text. Raises what binding raises."""
        ...

    def known_names(self) -> list[str]:
        """All names that can be used in FROM now."""
        ...


def from_text(ctx: Binder, source: object, purpose: str = "to read") -> str:
    """The FROM text for a source name, `source.table`, a recipe (each also quoted as in SQL), or
    SQL in parentheses. `purpose` completes the error message: what the input was wanted for.

    Raises TableNotFound with near names, StatementNotAllowed, InvalidArgument when `source` is not
    a string, and what binding SQL raises.
    """
    if not isinstance(source, str):
        raise InvalidArgument(
            f"An input must be the name of a source or table, or SQL, got {type(source).__name__}.",
            hint="Give a frame a name first: ws.sources.add(name, frame).",
        )
    quoted_parts = _quoted_parts(source)
    has_spaces = not quoted_parts and any(c.isspace() for c in source.strip())
    if has_spaces and not any(
        fold(n) in (fold(source), fold(f"jammi.{source}")) or fold(source).startswith(f"{fold(n)}.")
        for n in ctx.known_names()
    ):
        return _subquery(ctx, source)  # do not probe for a file whose name is a SQL text
    name = _find_name(ctx, source, quoted_parts)
    if isinstance(name, str):
        return name
    if not has_spaces:
        raise name or TableNotFound(
            f"There is no source or table {source!r} {purpose}.",
            near=near_names(source, ctx.known_names()),
            hint="ws.sources.list() and ws.tables() list them.",
        )
    return _subquery(ctx, source)


def _find_name(
    ctx: Binder, source: str, quoted_parts: Sequence[str]
) -> str | StatementNotAllowed | TableNotFound | None:
    """The quoted name that the argument means: as it is, in parts, a recipe, or as quoted in SQL.
    Otherwise the most telling of the errors, if one says more than that nothing has the name."""
    first_error: StatementNotAllowed | TableNotFound | None = None
    dotted_parts = source.split(".")
    for parts in (
        [source],
        dotted_parts if len(dotted_parts) <= 3 and "(" not in source else [],
        ["jammi", source],
        quoted_parts,
    ):
        if not parts or not all(parts):
            continue
        quoted_name = ".".join(map(quote_identifier, parts))
        try:
            [prepared] = ctx.prepare(f"SELECT 1 FROM {quoted_name}")
        except TableNotFound as error:
            # the name of a database, whose error lists its tables
            if parts == [source] and fold(source) in map(fold, ctx.known_names()):
                first_error = TableNotFound(error.message, near=error.near, hint=error.hint)
        except StatementNotAllowed as error:
            first_error = first_error or error
        else:
            path = bound_path(prepared.inputs[0].relation.input)
            return quoted_name if path is None else quote_identifier(path)
    return first_error


def _quoted_parts(source: str) -> list[str]:
    """The parts of a name that is quoted as in SQL, such as `mutable."my table"`; empty for a text
    without quotes."""
    if '"' not in source or not re.fullmatch(
        rf"{_NAME_PART}(?:\.{_NAME_PART}){{0,2}}", source.strip()
    ):
        return []
    return [
        part[1:-1].replace('""', '"') if part.startswith('"') else part
        for part in re.findall(_NAME_PART, source.strip())
    ]


def _subquery(ctx: Binder, source: str) -> str:
    """One SQL statement in parentheses. Raises what binding raises, and StatementNotAllowed for
    several statements."""
    prepared = ctx.prepare(source)
    if len(prepared) != 1:
        raise StatementNotAllowed(
            f"An input must be one statement; this text contains {len(prepared)}."
        )
    return f"(\n{bound_text(prepared[0])}\n)"
