"""What FROM says for an argument that names a source or table, or is SQL."""

import re
from collections.abc import Sequence

from jammi_lab.engine.resolve import Provider
from jammi_lab.engine.session import Engine
from jammi_lab.errors import InvalidArgument, StatementNotAllowed, TableNotFound
from jammi_lab.names import fold, near, quote

_PART = r'(?:[^".\s]+|"(?:[^"]|"")+")'


def address(engine: Engine, tenant: str | None, asked: str, extra: Sequence[Provider] = (), *, to: str = "to read") -> str:
    """The address of a source name, `source.table`, a recipe, all of them also as SQL writes them, or SQL in brackets; `to` says in an error what it
    was wanted for.

    TableNotFound, with near names; StatementNotAllowed; InvalidArgument for what is no text; and what binding SQL raises.
    """
    if not isinstance(asked, str):
        raise InvalidArgument(
            f"An input is the name of a source or table, or SQL, not a {type(asked).__name__}.",
            hint="Give a frame a name first: ws.sources.add(name, frame).",
        )
    refused: StatementNotAllowed | TableNotFound | None = None
    dotted, written = asked.split("."), _written(asked)
    worded = not written and any(c.isspace() for c in asked.strip())
    if worded and not any(fold(n) in (fold(asked), fold(f"jammi.{asked}")) or fold(asked).startswith(f"{fold(n)}.") for n in engine.names(extra)):
        return _bracketed(engine, tenant, asked, extra)  # SQL is not tried as the name of a file
    for parts in ([asked], dotted if len(dotted) <= 3 and "(" not in asked else [], ["jammi", asked], written):
        if not parts or not all(parts):
            continue
        said = ".".join(map(quote, parts))
        try:
            engine.prepare(f"SELECT 1 FROM {said}", tenant=tenant, extra=extra)
        except TableNotFound as error:
            if parts == [asked] and any(fold(n) == fold(asked) for n in engine.names(extra)):  # a database, which says what it holds
                refused = TableNotFound(error.message, near=error.near, hint=error.hint)
        except StatementNotAllowed as error:
            refused = refused or error
        else:
            return said
    if not worded:
        raise refused or TableNotFound(f"There is no source or table {asked!r} {to}.", near=near(asked, engine.names(extra)))
    return _bracketed(engine, tenant, asked, extra)


def _written(asked: str) -> list[str]:
    """The parts of a name as SQL writes it, `mutable."my table"`; empty for a text that quotes none."""
    if '"' not in asked or not re.fullmatch(rf"{_PART}(?:\.{_PART}){{0,2}}", asked.strip()):
        return []
    return [part[1:-1].replace('""', '"') if part.startswith('"') else part for part in re.findall(_PART, asked.strip())]


def _bracketed(engine: Engine, tenant: str | None, asked: str, extra: Sequence[Provider]) -> str:
    """One statement of SQL in brackets. What binding it raises; StatementNotAllowed for several."""
    prepared = engine.prepare(asked, tenant=tenant, extra=extra)
    if len(prepared) != 1:
        raise StatementNotAllowed(f"An input is one statement; this text holds {len(prepared)}.")
    return f"(\n{prepared[0].statement}\n)"
