"""FROM text for an argument that is the name of a source or table, or SQL."""

import re
from collections.abc import Sequence

from jammi_lab.core.errors import InvalidArgument, StatementNotAllowed, TableNotFound
from jammi_lab.core.identifiers import fold, near_names, quote_identifier
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.inputs.path_names import bound_path, bound_text

_NAME_PART = r'(?:[^".\s]+|"(?:[^"]|"")+")'


def from_text(
    engine: Engine,
    tenant: str | None,
    source: str,
    resolvers: Sequence[NameResolver] = (),
    *,
    purpose: str = "to read",
) -> str:
    """The FROM text for a source name, `source.table`, a recipe (each also quoted as in SQL), or
    SQL in parentheses. `purpose` completes the error message: what the input was wanted for.

    Raises TableNotFound with near names, StatementNotAllowed, InvalidArgument when `purpose` is not
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
        for n in engine.known_names(resolvers)
    ):
        # do not probe for a file whose name is a SQL text
        return _subquery(engine, tenant, source, resolvers)
    name = _find_name(engine, tenant, source, quoted_parts, resolvers)
    if isinstance(name, str):
        return name
    if not has_spaces:
        raise name or TableNotFound(
            f"There is no source or table {source!r} {purpose}.",
            near=near_names(source, engine.known_names(resolvers)),
        )
    return _subquery(engine, tenant, source, resolvers)


def _find_name(
    engine: Engine,
    tenant: str | None,
    source: str,
    quoted_parts: Sequence[str],
    resolvers: Sequence[NameResolver],
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
            [prepared] = engine.prepare(
                f"SELECT 1 FROM {quoted_name}", tenant=tenant, extra_resolvers=resolvers
            )
        except TableNotFound as error:
            # the name of a database, whose error lists its tables
            if parts == [source] and any(
                fold(n) == fold(source) for n in engine.known_names(resolvers)
            ):
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


def _subquery(
    engine: Engine, tenant: str | None, source: str, resolvers: Sequence[NameResolver]
) -> str:
    """One SQL statement in parentheses. Raises what binding raises, and StatementNotAllowed for
    several statements."""
    prepared = engine.prepare(source, tenant=tenant, extra_resolvers=resolvers)
    if len(prepared) != 1:
        raise StatementNotAllowed(
            f"An input must be one statement; this text contains {len(prepared)}."
        )
    return f"(\n{bound_text(prepared[0])}\n)"
