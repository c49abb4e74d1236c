"""What a view of MySQL or MariaDB rests on, read from its text as the server tells it: every table by its schema, names in backticks.

A view has no time of its last write and no engine. Whether somebody wrote behind it is told by the tables behind it; whether it gives the same rows
at each reading, by what it and the views behind it call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from jammi_lab.canonical import digest_of
from jammi_lab.names import written

Ask = Callable[[str], list[tuple[Any, ...]]]
"""A SELECT for the server → its rows."""
At = tuple[str, str]
"""Schema and name."""

_TOKEN = re.compile(r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|`(?:[^`]|``)*`|[A-Za-z_$][\w$]*|\d[\w.]*|\S", re.S)
_FICKLE = frozenset(
    "rand uuid uuid_v4 uuid_v7 uuid_short sys_guid random_bytes encrypt sysdate nextval lastval setval sleep benchmark connection_id last_insert_id "
    "found_rows row_count get_lock release_lock release_all_locks is_free_lock is_used_lock load_file".split()
)
"""Functions that give another value at each reading, or on each connection, though nothing was written."""
_MOST = 256
_TELLING = ("BASE TABLE", "SEQUENCE", "SYSTEM VERSIONED", "TEMPORARY")
FRESH = "GREATEST(COALESCE(update_time, 0), COALESCE(create_time, 0)) > NOW() - INTERVAL 2 SECOND"
"""Whether a table was written in the second of now or the one before."""
_TABLES = (
    "SELECT {number} AS place, CAST(table_type AS CHAR) AS form, CAST(engine AS CHAR) AS engine, "
    "CONCAT_WS(' ', COALESCE(update_time, 'never'), COALESCE(create_time, 'never')) AS written, "
    "CASE WHEN " + FRESH + " THEN CAST(NOW(6) AS CHAR) END AS fresh FROM information_schema.tables WHERE {same}"
)
_TEXTS = "SELECT {number} AS place, CAST(view_definition AS CHAR) AS said FROM information_schema.views WHERE {same}"
_ROUTINES = (
    "SELECT {number} AS place, CAST(is_deterministic AS CHAR) AS declared, CAST(sql_data_access AS CHAR) AS access FROM information_schema.routines "
    "WHERE routine_schema = {schema} AND routine_name = {name} AND routine_type = 'FUNCTION'"
)


@dataclass(slots=True)
class Text:
    """What the text of a view says."""

    tables: set[At] = field(default_factory=set)
    """Tables and views that it reads."""
    functions: set[At] = field(default_factory=set)
    """Stored functions that it calls; the schema is empty where it is the view's own."""
    fickle: str = ""
    """Why its rows may be others at each reading, as a clause."""


@dataclass(slots=True)
class _Level:
    """What stands between two brackets."""

    select: bool = False
    ordered: bool = False


def read(text: str) -> Text | None:
    """What a view's text says; None when it cannot be read to its end."""
    tokens, found = _TOKEN.findall(text), Text()
    levels, wanted, at = [_Level()], False, 0
    while at < len(tokens):
        token, at = tokens[at], at + 1
        if token in ("'", '"', "`", "@"):
            return None  # a text or name without an end, or a setting
        if token.startswith("`"):
            parts, at = _dotted(tokens, at - 1)
            if at < len(tokens) and tokens[at] == "(" and len(parts) < 3:
                found.functions.add((parts[0] if len(parts) == 2 else "", parts[-1]))
            elif wanted and len(parts) == 2:
                found.tables.add((parts[0], parts[1]))
            wanted = False
            continue
        word, level = token.lower(), levels[-1]
        if word == "(":
            levels.append(_Level())
            continue  # FROM ((a JOIN b) …)
        if word == ")":
            if len(levels) == 1:
                return None
            levels.pop()
        elif word == "select":
            level.select, level.ordered = True, False
        elif word == "order":
            level.ordered = True
        elif word in ("limit", "fetch") and not level.ordered:
            found.fickle = found.fickle or "has a LIMIT without an ORDER BY, which gives whatever rows come first"
        elif word in _FICKLE and at < len(tokens) and tokens[at] == "(":
            found.fickle = found.fickle or f"uses {word}(), which is volatile there"
        wanted = word in ("join", "straight_join") or (word == "from" and level.select)
    return found if len(levels) == 1 else None


def _dotted(tokens: list[str], at: int) -> tuple[list[str], int]:
    """The parts of a name that begins here, and where it is over."""
    parts = [_plain(tokens[at])]
    while at + 2 < len(tokens) and tokens[at + 1] == "." and tokens[at + 2].startswith("`"):
        at += 2
        parts.append(_plain(tokens[at]))
    return parts, at + 1


def _plain(name: str) -> str:
    return name[1:-1].replace("``", "`")


@dataclass(slots=True)
class Behind:
    """What is behind a view."""

    fickle: str = ""
    """Why two readings may differ although nothing was written; empty where they do not."""
    written: str = ""
    """What moves with every write to a table behind it."""
    fresh: str | None = None
    """The moment of now, where one of them has been written so lately that its time does not tell it from a write to come."""
    logged: bool = True
    """Whether the log of InnoDB tells of every write."""


def behind(ask: Ask, view: At, text: Callable[[str], str]) -> Behind:
    """What is behind a view; `text` writes a literal. A few small questions for each layer of views. duckdb.Error."""
    found, times = Behind(), list[Any]()
    seen, level = set[At](), {view}
    while level and not found.fickle:
        if len(seen) + len(level) > _MOST:
            found.fickle = f"its view rests on more than {_MOST} tables"
            break
        seen |= level
        order = sorted(level)
        tables = _asked(ask, _TABLES, order, text)
        texts = _asked(ask, _TEXTS, [at for at in order if at in tables and tables[at][0] == "VIEW"], text)
        level = set()
        for at in order:
            said = _of_one(at, view, tables.get(at), texts.get(at), found)
            times.append([at, tables.get(at, ())[2:3], texts.get(at)])
            if said is not None and not found.fickle:
                found.fickle = _of_functions(ask, {(schema or at[0], name) for schema, name in said.functions}, text)
                level |= said.tables - seen
    found.written = digest_of([[list(at), list(told), list(said or ())] for at, told, said in times])
    return found


def _of_one(at: At, view: At, table: tuple[Any, ...] | None, texts: tuple[Any, ...] | None, found: Behind) -> Text | None:
    """What one table or view adds to what is behind; for a view what its text says."""
    name = ".".join(map(written, at))
    if table is None or (table[0] == "VIEW" and not (texts and texts[0])):
        found.fickle = (
            "the server does not show the text of its view to this user (GRANT SHOW VIEW)"
            if at == view
            else f"its view rests on {name}, of which the server does not tell this user what it is"
        )
        return None
    form, engine, _, fresh = table
    if form != "VIEW":
        if not form.startswith(_TELLING):
            found.fickle = f"its view reads {name}, which the server makes at each reading"
        found.logged = found.logged and engine == "InnoDB"
        found.fresh = max(filter(None, (found.fresh, fresh)), default=None)
        return None
    said = read(texts[0]) if texts else None
    if said is None:
        found.fickle = f"the text of the view {name} cannot be read"
    elif said.fickle:
        found.fickle = f"its view {said.fickle}"
    return said


def _of_functions(ask: Ask, functions: Iterable[At], text: Callable[[str], str]) -> str:
    """Why stored functions make a view's rows differ at each reading; empty when they do not."""
    order = sorted(functions)
    told = _asked(ask, _ROUTINES, order, text)
    for at in order:
        name = ".".join(map(written, at))
        if at not in told:
            return f"its view uses {name}(), of which the server does not tell this user what it is"
        declared, access = told[at]
        if declared != "YES":
            return f"its view uses {name}(), which is not declared DETERMINISTIC there"
        if access in ("READS SQL DATA", "MODIFIES SQL DATA"):
            return f"its view uses {name}(), which reads tables that its view does not name"
    return ""


def _asked(ask: Ask, select: str, order: list[At], text: Callable[[str], str]) -> dict[At, tuple[Any, ...]]:
    """The answers for each of these, which are asked for one by one: with conditions on several the server would look into every table it has."""
    parts = []
    for number, (schema, name) in enumerate(order):
        one, other = text(schema), text(name)
        parts.append(select.format(number=number, schema=one, name=other, same=f"table_schema = {one} AND table_name = {other}"))
    return {order[int(place)]: tuple(rest) for place, *rest in ask(" UNION ALL ".join(parts))} if parts else {}
