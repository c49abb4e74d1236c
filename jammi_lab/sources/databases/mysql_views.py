"""Dependencies of MySQL and MariaDB views, parsed from the view text that the server prints, with
names in backticks and tables qualified by their schemas.

A view has neither an update time nor an engine. Whether it changed follows from the tables behind
it; whether it is deterministic, from the functions that it and the views behind it call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.identifiers import quoted_name

RunOnServer = Callable[[str], list[tuple[Any, ...]]]
"""Runs a SELECT on the server and returns its rows."""
QualifiedName = tuple[str, str]
"""Schema and name."""

_TOKEN = re.compile(
    r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|`(?:[^`]|``)*`|[A-Za-z_$][\w$]*|\d[\w.]*|\S",
    re.S,
)
_VOLATILE_FUNCTIONS = frozenset(
    "rand uuid uuid_v4 uuid_v7 uuid_short sys_guid random_bytes encrypt sysdate nextval "
    "lastval setval sleep benchmark connection_id last_insert_id "
    "found_rows row_count get_lock release_lock release_all_locks is_free_lock is_used_lock "
    "load_file rownum".split()
)
"""Functions whose value differs between reads or connections although nothing was written."""
_LISTS = ("group_concat", "json_arrayagg", "json_objectagg")
_PLACES = ("row_number", "ntile", "lag", "lead", "first_value", "last_value", "nth_value")
"""Functions of windows that depend on the order of rows."""
_MAX_TABLES = 256
_KNOWN_TABLE_TYPES = ("BASE TABLE", "SEQUENCE", "SYSTEM VERSIONED", "TEMPORARY")
WRITTEN_RECENTLY = (
    "GREATEST(COALESCE(update_time, 0), COALESCE(create_time, 0)) > NOW() - INTERVAL 2 SECOND"
)
"""Whether a table was written within the last two seconds."""
_TABLES = (
    "SELECT {number} AS place, CAST(table_type AS CHAR) AS form, CAST(engine AS CHAR) AS engine, "
    "CONCAT_WS(' ', COALESCE(update_time, 'never'), COALESCE(create_time, 'never')) AS written, "
    "CASE WHEN "
    + WRITTEN_RECENTLY
    + " THEN CAST(NOW(6) AS CHAR) END AS fresh FROM information_schema.tables WHERE {same}"
)
_TEXTS = (
    "SELECT {number} AS place, CAST(view_definition AS CHAR) AS said FROM "
    "information_schema.views WHERE {same}"
)
_ROUTINES = (
    "SELECT {number} AS place, CAST(is_deterministic AS CHAR) AS declared, "
    "CAST(sql_data_access AS CHAR) AS access FROM information_schema.routines "
    "WHERE routine_schema = {schema} AND routine_name = {name} AND routine_type = 'FUNCTION'"
)


@dataclass(slots=True)
class ViewText:
    """A parsed view."""

    tables: set[QualifiedName] = field(default_factory=set)
    """Tables and views that it reads."""
    functions: set[QualifiedName] = field(default_factory=set)
    """Stored functions that it calls; an empty schema means that of the view."""
    volatile_because: str = ""
    """Why its rows may differ between reads, as a clause; empty if they cannot."""


@dataclass(slots=True)
class _Level:
    """The state of one level of parentheses."""

    opened_by: str = ""
    """The word before its parenthesis."""
    has_select: bool = False
    has_order_by: bool = False
    has_places: bool = False
    """Whether a function in it depends on the order of a window."""


def parse_view(text: str) -> ViewText | None:
    """Parse the text of a view; None if it cannot be parsed to the end."""
    tokens, view = _TOKEN.findall(text), ViewText()
    levels, expects_table, position = [_Level()], False, 0
    while position < len(tokens):
        token, position = tokens[position], position + 1
        if token in ("'", '"', "`", "@"):
            return None  # an unterminated string or name, or a variable
        if token.startswith("`"):
            parts, position = _qualified_name(tokens, position - 1)
            if position < len(tokens) and tokens[position] == "(" and len(parts) < 3:
                view.functions.add((parts[0] if len(parts) == 2 else "", parts[-1]))
            elif expects_table and len(parts) == 2:
                view.tables.add((parts[0], parts[1]))
            expects_table = False
            continue
        word, level = token.lower(), levels[-1]
        if word == "(":
            levels.append(_Level(tokens[position - 2].lower() if position > 1 else ""))
            continue  # FROM ((a JOIN b) …)
        if word == ")":
            if len(levels) == 1:
                return None
            levels.pop()
            by = level.opened_by
            if not level.has_order_by and (
                by in _LISTS or (by == "over" and levels[-1].has_places)
            ):
                view.volatile_because = (
                    view.volatile_because
                    or f"uses {by}() without an ORDER BY, which takes rows as they arrive"
                )
        elif word == "select":
            level.has_select, level.has_order_by = True, False
        elif word == "order":
            key = "".join(tokens[position + 1 : position + 2])
            # a number is a column, but in a window a constant; MariaDB prints it as ''
            is_constant = level.opened_by == "over" and (key.isdigit() or key.startswith("'"))
            level.has_order_by = not is_constant
        elif word in ("limit", "fetch") and not level.has_order_by:
            view.volatile_because = (
                view.volatile_because
                or "has a LIMIT without an ORDER BY, which returns arbitrary rows"
            )
        elif word in _VOLATILE_FUNCTIONS and position < len(tokens) and tokens[position] == "(":
            view.volatile_because = view.volatile_because or f"uses {word}(), which is volatile"
        level.has_places = level.has_places or word in _PLACES
        expects_table = word in ("join", "straight_join") or (word == "from" and level.has_select)
    return view if len(levels) == 1 else None


def _qualified_name(tokens: list[str], position: int) -> tuple[list[str], int]:
    """The parts of the qualified name at `position`, and the position after it."""
    parts = [_unquote(tokens[position])]
    while (
        position + 2 < len(tokens)
        and tokens[position + 1] == "."
        and tokens[position + 2].startswith("`")
    ):
        position += 2
        parts.append(_unquote(tokens[position]))
    return parts, position + 1


def _unquote(name: str) -> str:
    return name[1:-1].replace("``", "`")


@dataclass(slots=True)
class ViewDependencies:
    """The state of everything behind a view."""

    volatile_because: str = ""
    """Why two reads may differ although nothing was written; empty if they cannot."""
    write_stamp: str = ""
    """Changes with every write to a table behind it."""
    recent_write_time: str | None = None
    """The server's current time, if a table was written so recently that its update time would not
    change with another write."""
    is_logged: bool = True
    """Whether every write moves the log position of InnoDB."""


def view_dependencies(
    run: RunOnServer, view: QualifiedName, quote_text: Callable[[str], str]
) -> ViewDependencies:
    """Collect everything behind a view, with three small queries per layer of views. `text` quotes
    a literal. Raises duckdb.Error."""
    dependencies, times = ViewDependencies(), list[Any]()
    visited, level = set[QualifiedName](), {view}
    while level and not dependencies.volatile_because:
        if len(visited) + len(level) > _MAX_TABLES:
            dependencies.volatile_because = f"its view depends on more than {_MAX_TABLES} tables"
            break
        visited |= level
        names = sorted(level)
        tables = _rows_by_name(run, _TABLES, names, quote_text)
        view_texts = _rows_by_name(
            run,
            _TEXTS,
            [
                qualified
                for qualified in names
                if qualified in tables and tables[qualified][0] == "VIEW"
            ],
            quote_text,
        )
        level = set()
        for qualified in names:
            parsed = _add_dependency(
                qualified, view, tables.get(qualified), view_texts.get(qualified), dependencies
            )
            times.append([qualified, tables.get(qualified, ())[2:3], view_texts.get(qualified)])
            if parsed is not None and not dependencies.volatile_because:
                dependencies.volatile_because = _volatile_function(
                    run,
                    {(schema or qualified[0], name) for schema, name in parsed.functions},
                    quote_text,
                )
                level |= parsed.tables - visited
    dependencies.write_stamp = digest_of(
        [
            [list(qualified), list(table_state), list(parsed or ())]
            for qualified, table_state, parsed in times
        ]
    )
    return dependencies


def _add_dependency(
    qualified: QualifiedName,
    view: QualifiedName,
    table: tuple[Any, ...] | None,
    view_text: tuple[Any, ...] | None,
    dependencies: ViewDependencies,
) -> ViewText | None:
    """Add one table or view to `dependencies`; return the parsed text of a view."""
    name = ".".join(map(quoted_name, qualified))
    if table is None or (table[0] == "VIEW" and not (view_text and view_text[0])):
        dependencies.volatile_because = (
            "this user may not read the text of its view (GRANT SHOW VIEW)"
            if qualified == view
            else f"its view depends on {name}, whose definition this user may not read"
        )
        return None
    table_type, engine, _, recent_write_time = table
    if table_type != "VIEW":
        if not table_type.startswith(_KNOWN_TABLE_TYPES):
            dependencies.volatile_because = (
                f"its view reads {name}, which the server generates on each read"
            )
        dependencies.is_logged = dependencies.is_logged and engine == "InnoDB"
        dependencies.recent_write_time = max(
            filter(None, (dependencies.recent_write_time, recent_write_time)), default=None
        )
        return None
    parsed = parse_view(view_text[0]) if view_text else None
    if parsed is None:
        dependencies.volatile_because = f"the text of the view {name} cannot be parsed"
    elif parsed.volatile_because:
        dependencies.volatile_because = f"its view {parsed.volatile_because}"
    return parsed


def _volatile_function(
    run: RunOnServer, functions: Iterable[QualifiedName], quote_text: Callable[[str], str]
) -> str:
    """Why stored functions make the rows differ between reads; empty if they do not."""
    names = sorted(functions)
    routines = _rows_by_name(run, _ROUTINES, names, quote_text)
    for qualified in names:
        name = ".".join(map(quoted_name, qualified))
        if qualified not in routines:
            return f"its view uses {name}(), whose definition this user may not read"
        declared, access = routines[qualified]
        if declared != "YES":
            return f"its view uses {name}(), which is not declared DETERMINISTIC"
        if access in ("READS SQL DATA", "MODIFIES SQL DATA"):
            return f"its view uses {name}(), which reads tables that the view does not name"
    return ""


def _rows_by_name(
    run: RunOnServer, select: str, names: list[QualifiedName], quote_text: Callable[[str], str]
) -> dict[QualifiedName, tuple[Any, ...]]:
    """The rows of `select` by name, one branch of a UNION per name: with a condition on several
    names the server would open every table that it has."""
    parts = []
    for number, (schema, name) in enumerate(names):
        quoted_schema, other_name = quote_text(schema), quote_text(name)
        parts.append(
            select.format(
                number=number,
                schema=quoted_schema,
                name=other_name,
                same=f"table_schema = {quoted_schema} AND table_name = {other_name}",
            )
        )
    return (
        {names[int(position)]: tuple(rest) for position, *rest in run(" UNION ALL ".join(parts))}
        if parts
        else {}
    )
