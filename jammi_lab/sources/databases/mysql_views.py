"""Dependencies of MySQL and MariaDB views, by the view text that the server prints, with names in
backticks and tables qualified by their schemas.

A view has neither an update time nor an engine. Whether it changed follows from the tables behind
it. Whether two reads of it may differ is not analysed: a view is deterministic if it and the views
behind it use nothing but the functions listed here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.identifiers import quoted_name

RunOnServer = Callable[[str], list[tuple[Any, ...]]]
"""Runs a SELECT on the server and returns its rows."""
QualifiedName = tuple[str, str]
"""Schema and name."""

_QUOTED = re.compile(r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|`(?:[^`]|``)*`", re.S)
_UNREADABLE = re.compile("['\"@]")
"""An unterminated string, or a variable."""
_UNKNOWN = re.compile(r"(`\d+`|[a-z_$][\w$]*)\s*\(|\b(limit|fetch)\b", re.I)
"""A name before a parenthesis, and what returns some of the rows."""
_TABLE = re.compile(r"\b(?:from|(?:straight_)?join)[\s(]+`(\d+)`\.`(\d+)`(?!\.)", re.I)
_KNOWN = frozenset(
    # what else stands before a parenthesis
    "select from where on using join as and or not xor in is like between exists any all some case "
    "when then else end interval union except intersect having by distinct div with rollup binary "
    "collate charset char varchar decimal signed unsigned time datetime "
    # aggregates whose value does not depend on the order of the rows
    "count sum avg min max std stddev stddev_pop stddev_samp variance var_pop var_samp bit_and "
    "bit_or bit_xor "
    "abs acos asin atan atan2 ceil ceiling conv cos cot crc32 degrees exp floor greatest least ln "
    "log log10 log2 mod pi pow power radians round sign sin sqrt tan truncate "
    "ascii bin bit_length char_length character_length concat concat_ws elt export_set field "
    "find_in_set format from_base64 hex insert instr lcase left length locate lower lpad ltrim "
    "make_set md5 mid oct octet_length ord position quote regexp_instr regexp_replace "
    "regexp_substr repeat replace reverse right rpad rtrim sha sha1 sha2 soundex space strcmp "
    "substr substring substring_index to_base64 trim ucase unhex upper "
    "adddate addtime date date_add date_format date_sub datediff day dayname dayofmonth dayofweek "
    "dayofyear from_days from_unixtime hour last_day makedate maketime microsecond minute month "
    "monthname period_add period_diff quarter sec_to_time second str_to_date subdate subtime "
    "time_format time_to_sec timediff timestamp timestampadd timestampdiff to_days to_seconds week "
    "weekday weekofyear year yearweek "
    "curdate curtime current_date current_time current_timestamp localtime localtimestamp now "
    "unix_timestamp utc_date utc_time utc_timestamp "
    "cast convert coalesce if ifnull nullif isnull inet_aton inet_ntoa inet6_aton inet6_ntoa "
    "json_array json_contains json_extract json_length json_object json_quote json_type "
    "json_unquote json_valid json_value".split()
)
"""Words that may stand before a parenthesis in a deterministic view."""
WRITTEN_RECENTLY = (
    "GREATEST(COALESCE(update_time, 0), COALESCE(create_time, 0)) > NOW() - INTERVAL 2 SECOND"
)
"""Whether a table was written within the last two seconds."""
_BEHIND = (
    "SELECT {number} AS place, CAST(table_type AS CHAR) AS form, CAST(engine AS CHAR) AS engine, "
    "CONCAT_WS(' ', COALESCE(update_time, 'never'), COALESCE(create_time, 'never')) AS written, "
    "CASE WHEN " + WRITTEN_RECENTLY + " THEN CAST(NOW(6) AS CHAR) END AS fresh, "
    "(SELECT CAST(view_definition AS CHAR) FROM information_schema.views WHERE {same}) AS said "
    "FROM information_schema.tables WHERE {same}"
)
_STORED_TYPES = ("BASE TABLE", "SEQUENCE", "SYSTEM VERSIONED", "TEMPORARY")


def parse_view(text: str) -> tuple[set[QualifiedName], str]:
    """The tables and views that the text of a view names, and why two reads of it may differ, as
    the end of a sentence; empty if they cannot."""
    names = list[str]()

    def number(match: re.Match[str]) -> str:
        if not match[0].startswith("`"):
            return "0"
        names.append(match[0][1:-1].replace("``", "`"))
        return f"`{len(names) - 1}`"

    plain = _QUOTED.sub(number, text)
    if _UNREADABLE.search(plain):
        return set(), "cannot be parsed"
    for word, clause in _UNKNOWN.findall(plain):
        if clause:
            return set(), f"has a {clause.upper()}, with which two reads may differ"
        if word.lower() not in _KNOWN:
            function = names[int(word[1:-1])] if word.startswith("`") else word.lower()
            return set(), f"uses {function}(), with which two reads may differ"
    return {(names[int(schema)], names[int(name)]) for schema, name in _TABLE.findall(plain)}, ""


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
    """Collect everything behind a view, by one query for each layer of views. `quote_text` quotes a
    literal. Raises duckdb.Error."""
    behind, states = ViewDependencies(), list[Any]()
    visited, level = set[QualifiedName](), {view}
    while level and not behind.volatile_because:
        visited |= level
        names = sorted(level)
        rows = {int(number): row for number, *row in run(_select_of_level(names, quote_text))}
        level = set()
        for number, name in enumerate(names):
            row = rows.get(number)
            states.append([name, row and (row[2], row[4])])
            level |= _add(behind, name, row, is_own=name == view) - visited
    behind.write_stamp = digest_of(states)
    return behind


def _select_of_level(names: list[QualifiedName], quote_text: Callable[[str], str]) -> str:
    """One branch of a UNION per name: with a condition on several names the server would open every
    table that it has."""
    selects = []
    for number, (schema, name) in enumerate(names):
        same = f"table_schema = {quote_text(schema)} AND table_name = {quote_text(name)}"
        selects.append(_BEHIND.format(number=number, same=same))
    return " UNION ALL ".join(selects)


def _add(
    behind: ViewDependencies, qualified: QualifiedName, row: list[Any] | None, *, is_own: bool
) -> set[QualifiedName]:
    """Add one table or view to what is behind a view; return what it reads itself."""
    name = ".".join(map(quoted_name, qualified))
    if row is None or (row[0] == "VIEW" and not row[4]):
        behind.volatile_because = (
            "this user may not read the text of its view (GRANT SHOW VIEW)"
            if is_own
            else f"its view depends on {name}, whose definition this user may not read"
        )
        return set()
    form, engine, _, recent_write_time, text = row
    if form == "VIEW":
        tables, volatile_because = parse_view(text)
        if volatile_because:
            behind.volatile_because = f"its view {volatile_because}"
        return tables
    if not form.startswith(_STORED_TYPES):
        behind.volatile_because = f"its view reads {name}, which the server generates on each read"
    behind.is_logged = behind.is_logged and engine == "InnoDB"
    if recent_write_time is not None:
        behind.recent_write_time = max(behind.recent_write_time or "", recent_write_time)
    return set()
