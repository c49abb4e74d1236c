"""MySQL and MariaDB as sources.

Comparisons mean here what they mean in DuckDB. A server compares text by the collation of the column, where 'A' and 'a' may be equal, and
floating-point numbers by other rules; so conditions on numbers, dates and times are sent to the server, and those on text, binary and floating-point
columns are decided here, over the rows that are left. Grouping and ordering are done here, too. The session's time zone is UTC.

DuckDB's own questions to the server (`mysql_query`) run beside the transaction of a scan, not in it. So the state is observed before and after a
scan; what moves with every write to a table (its update time), or to those behind a view, is observed with it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

import duckdb

from jammi_lab.errors import JammiError, SourceUnavailable
from jammi_lab.names import literal, quote
from jammi_lab.sources import mysql_views, owners
from jammi_lab.sources.base import Asking
from jammi_lab.sources.inside import UNTOLD, Bodies, Gate, Inside
from jammi_lab.sources.owners import Owner
from jammi_lab.sources.servers import Connector
from jammi_lab.sources.turns import turns

_SYSTEM = ("information_schema", "mysql", "performance_schema", "sys")
_LISTING = "SELECT table_schema AS s, table_name AS n FROM information_schema.tables WHERE table_type <> 'SYSTEM VIEW' AND {where} ORDER BY 1, 2"
_TABLE = """
SELECT 0 AS place, CAST(table_type AS CHAR) AS form, CAST(engine AS CHAR) AS engine, CAST(table_rows AS CHAR) AS estimate,
  CAST(data_length AS CHAR) AS bytes, CAST(update_time AS CHAR) AS updated, CAST(create_time AS CHAR) AS created, CAST(@@version AS CHAR) AS version,
  CASE WHEN {lately} THEN CAST(NOW(6) AS CHAR) END AS fresh,
  IF(@@lower_case_table_names, 0, (
    SELECT COUNT(*) FROM information_schema.tables
    WHERE table_schema = {schema} AND LOWER(table_name) = LOWER({name}) AND CAST(table_name AS BINARY) <> {name_bytes}
  ) + (
    SELECT COUNT(*) FROM information_schema.schemata WHERE LOWER(schema_name) = LOWER({schema}) AND CAST(schema_name AS BINARY) <> {schema_bytes}
  )) AS twins
FROM information_schema.tables WHERE {same} AND table_type <> 'SYSTEM VIEW'
UNION ALL
SELECT ordinal_position, CAST(column_name AS CHAR), CAST(column_type AS CHAR), CAST(data_type AS CHAR),
  CAST(COALESCE(character_set_name, '') AS CHAR), CAST(COALESCE(collation_name, '') AS CHAR), NULL, NULL, NULL, NULL
FROM information_schema.columns WHERE {same} ORDER BY 1"""
"""The table, and then its columns: a join of the two would have the server look into every table. All texts are of one collation, for UNION."""
_SAME = (
    "table_schema = {schema} AND table_name = {name} AND CAST(table_schema AS BINARY) = {schema_bytes} AND CAST(table_name AS BINARY) = {name_bytes}"
)
"""The server compares these names by a collation, by which `t` and `T` are one, also where they are two tables."""
_GATE = """
SELECT MAX(CASE WHEN variable_name = 'UPTIME' THEN NULL ELSE variable_value END) AS lsn, @@hostname AS host, CAST(@@port AS CHAR) AS port,
  CAST(FLOOR((UNIX_TIMESTAMP() - MAX(CASE WHEN variable_name = 'UPTIME' THEN CAST(variable_value AS UNSIGNED) ELSE 0 END)) / 16) AS CHAR) AS began
FROM {status}.global_status WHERE variable_name IN ('UPTIME', 'INNODB_LSN_CURRENT', 'INNODB_REDO_LOG_CURRENT_LSN')"""
_RANGED = re.compile(r"(?:\w+_)?(?:bin|0900_bin|(?:general|swedish|unicode|unicode_520|0900_ai|uca1400_ai)(?:_nopad)?_ci|uca1400_nopad_ai_ci)")
"""Collations in which ACME, Acme and acme are one, or are in the order of their bytes."""
_EXACT = re.compile(r"(tiny|small|medium|big)?int|integer|year|decimal|numeric|date|datetime|timestamp|time")
_CHARACTERS = re.compile(r"(tiny|medium|long)?text|(var)?char|enum|set|json")
_LONG = re.compile(r"(tiny|medium|long)?(text|blob)|json")
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\).*")


class MysqlConnector(Connector):
    """A registered MySQL or MariaDB database. `record.location` is what `addresses.taken_out` gave."""

    extension = "mysql_scanner"
    type = "mysql"
    _status = "information_schema"
    """The schema in which the server tells its status."""
    settings: Mapping[str, str | bool] = {
        "mysql_aggregate_pushdown_enabled": False,
        "mysql_order_pushdown_enabled": False,
        "mysql_query_timeout_enabled": False,
        "mysql_tinyint1_as_boolean": False,
        "mysql_session_time_zone": "+00:00",
    }

    @property
    def path(self) -> str:
        """Nothing beside the secret."""
        return ""

    def _server(self) -> tuple[str, int] | None:
        return None if any(name == "socket" for name, _ in self.address.words) else self.address.server

    @property
    def usual(self) -> str:
        """The database of the address."""
        return self.address.database

    def shows(self, schema: str) -> bool:
        """Those that an option names, else all that are not the server's own, or the one of the address."""
        schemas = self.record.options.get("schemas") or ([self.address.database] if self.address.database else None)
        return schema in schemas if schemas else schema not in _SYSTEM

    def listing(self, asking: Asking) -> list[tuple[str, str]]:
        """Tables and views of the database in the address, or of the databases that `schemas` names, or of all."""
        schemas = self.record.options.get("schemas") or ([self.address.database] if self.address.database else None)
        among = ", ".join(map(_text, schemas or _SYSTEM))
        where = f"table_schema {'' if schemas else 'NOT '}IN ({among})"
        found = self.query(asking, _LISTING.format(where=where))
        return sorted(((schema, name) for schema, name in found if _sendable(schema, name)), key=lambda at: (at[0] != self.default, at))

    def inside(self, asking: Asking, schema: str, name: str) -> Inside | None:
        """What the server's catalog says of a table. SourceUnavailable for a name that would not reach the server as it is."""
        at = {"schema": _text(schema), "name": _text(name), "schema_bytes": _bytes(schema), "name_bytes": _bytes(name)}
        same = _SAME.format(**at)
        rows = self.query(asking, _TABLE.format(**at, same=same, lately=mysql_views.FRESH))
        if not rows or rows[0][0] != 0:
            return None
        (_, form, engine, estimate, size, updated, created, version, now, twins), *rest = rows
        columns = [column[1:6] for column in rest]
        if odd := [each for each in (schema, name, *(column for column, *_ in columns)) if not _sendable(each)]:
            raise SourceUnavailable(
                f"The name {odd[0]!r} holds a backtick or a backslash, and would reach the server as another name.",
                hint="Make a view on the server that gives it a plain name.",
            )
        if twins:
            raise SourceUnavailable(
                f"There are two tables or databases whose names differ from {schema}.{name} by case alone, and DuckDB would read either.",
                hint="Make a view on the server that gives it a name of its own.",
            )
        logged = in_log = form == "BASE TABLE" and engine == "InnoDB"
        fickle = ""
        if form == "VIEW":
            rests = mysql_views.behind(lambda select: self.query(asking, select), (schema, name), _text)
            fickle, updated, now, in_log = rests.fickle, rests.written, rests.fresh, rests.logged
        self._status = "information_schema" if "MariaDB" in version else "performance_schema"
        # The server tells times in seconds: of a second that has just been, the log position tells more, and without one nothing does.
        gate = self.gate(asking) if now is not None and in_log else None
        finer = "" if now is None else gate.position[-1] if gate is not None else now
        return Inside(
            schema,
            name,
            tuple((column, kind) for column, kind, *_ in columns),
            repr((form, columns)),
            UNTOLD if estimate is None else int(estimate),
            int(size or 0),
            logged,
            f"{updated} {created} {finer}",
            frozenset(column for column, *_, collation in columns if _RANGED.fullmatch(collation)),
            fickle=fickle,
        )

    def gate(self, asking: Asking) -> Gate | None:
        """The log position of InnoDB. Nothing tells whether a commit that the log holds is seen already, which takes it microseconds."""
        found = self.query(asking, _GATE.format(status=self._status))
        [(lsn, *identity)] = found
        return None if lsn is None else Gate([*identity, lsn], quiet=False)

    def bodies(self, asking: Asking, inside: Inside, owner: Owner | None) -> tuple[Bodies, bool]:
        """What DuckDB remembers is taken where it is what the server says now. Where it is not, DuckDB forgets all tables, if no statement reads one
        in this moment (`turns`); while one does, this table is read by a query, which takes no filter to the server."""
        now, remembered = self._now(asking, inside), self._remembered(asking, inside)
        if remembered != now:
            with turns(asking.memory, self.type).forget() as mine:
                if mine:
                    asking("CALL mysql_clear_cache()")
            remembered = self._remembered(asking, inside) if mine else None
        return self._written(inside, owner, now if remembered is None else remembered, remembered is not None), remembered is not None

    def _remembered(self, asking: Asking, inside: Inside) -> dict[str, str] | None:
        """Columns and types of the table as DuckDB scans it; None where it knows of none."""
        left = turns(asking.memory, self.type).read()
        try:
            return {name: kind for name, kind, *_ in asking(f"DESCRIBE SELECT * FROM {self.place(inside)}")}
        except duckdb.CatalogException:
            return None
        finally:
            left()

    def _now(self, asking: Asking, inside: Inside) -> dict[str, str]:
        """The same as the server says it now. A query gives text of a binary collation as bytes."""
        columns = ", ".join(_tick(name) for name, _ in inside.columns)
        sent = f"SELECT {columns} FROM {_tick(inside.schema)}.{_tick(inside.name)} LIMIT 0"
        text = {name for name, kind in inside.columns if _CHARACTERS.match(kind)}
        described = asking(f"DESCRIBE SELECT * FROM mysql_query({literal(self.attachment.alias)}, {literal(sent)})")
        return {name: "VARCHAR" if name in text else kind for name, kind, *_ in described}

    def _written(self, inside: Inside, owner: Owner | None, types: dict[str, str], scanned: bool) -> Bodies:
        """The scan of the table; columns whose comparison the server would understand otherwise are put behind an expression, which is not sent. A
        query where there are wide numbers, and for one owner's rows: the scanner sends no `IS NULL`, and two readings would be of two states."""
        place, table = self.place(inside), f"{_tick(inside.schema)}.{_tick(inside.name)}"
        wide = {name for name, kind in inside.columns if (said := _DECIMAL.fullmatch(kind)) and int(said[1]) > 38}
        types |= dict.fromkeys(wide, "VARCHAR")
        as_text = {name for name, kind in types.items() if kind == "VARCHAR"}  # a query gives text of a binary collation as bytes
        there = owners.conditions(owner, types, inside.ranged, quoted=_tick, text=_text, lower=lambda column: f"LOWER({column})")
        plain = ", ".join(f"NULL::VARCHAR AS {quote(n)}" if n in wide else _kept_here(n, t) for n, t in types.items())

        def narrow(columns: Collection[str]) -> str:
            if scanned and not there and not wide & set(columns):
                return f"SELECT {plain} FROM {place}"
            read = ", ".join(f"CAST({_tick(n)} AS CHAR) AS {_tick(n)}" if n in as_text else _tick(n) for n in types if n in columns)
            sent = f"SELECT {read or '1 AS one'} FROM {table}{owners.sent(there)}"
            cast = ", ".join(f"CAST({quote(n) if n in columns else 'NULL'} AS {kind}) AS {quote(n)}" for n, kind in types.items())
            return f"SELECT {cast} FROM mysql_query({literal(self.attachment.alias)}, {literal(sent)})"

        return narrow(types), types, narrow if wide or there or not scanned else None

    def digests(self, asking: Asking, inside: Inside, sets: Sequence[Sequence[str]]) -> tuple[int, list[str]]:
        """For each set the sums of both halves of the rows' MD5: sums, since with XOR two equal rows would be as none."""
        kinds = dict(inside.columns)
        asked, told = [], []
        for number, columns in enumerate(sets):
            if columns:
                row = f"CONCAT_WS(',', {', '.join(_value(c, kinds[c]) for c in columns)})"
                told.append(f"MD5({row}) AS m{number}")
                halves = (f"CAST(CONV({side}(m{number}, 16), 16, 10) AS UNSIGNED)" for side in ("LEFT", "RIGHT"))
                asked += [f"CAST(SUM({half}) AS CHAR) AS s{number}_{place}" for place, half in enumerate(halves)]
                asked.append(f"CAST(COUNT(m{number}) AS CHAR) AS n{number}")
        table = f"{_tick(inside.schema)}.{_tick(inside.name)}"
        rows, *found = self.query(
            asking, f"SELECT {', '.join(['CAST(COUNT(*) AS CHAR) AS n', *asked])} FROM (SELECT {', '.join(told) or '1 AS m'} FROM {table}) AS t"
        )[0]
        parts = iter(found)
        digests = []
        for columns in sets:
            first, second, counted = (next(parts), next(parts), next(parts)) if columns else ("", "", rows)
            if counted != rows:
                raise SourceUnavailable(
                    f"{inside.name} has rows that are too large for the server to digest.", hint="Raise max_allowed_packet there."
                )
            digests.append(f"{first} {second}" if columns else "")
        return int(rows), digests

    def largest(self, asking: Asking, inside: Inside, column: str) -> tuple[str | None, int]:
        """(max, count)."""
        table = f"{_tick(inside.schema)}.{_tick(inside.name)}"
        [(largest, rows)] = self.query(asking, f"SELECT CAST(MAX({_tick(column)}) AS CHAR) AS m, CAST(COUNT(*) AS CHAR) AS n FROM {table}")
        return largest, int(rows)

    def said(self, text: str) -> JammiError | None:
        """The server's words in ours."""
        if not text.startswith(("Failed to ", "MySQL ", "Lost connection")):  # not what the extension says
            return None
        for words, why, hint in _WORDS:
            if said := re.search(words, text):
                return SourceUnavailable(f"The server {self.location} cannot be read: {why.format(*said.groups())}.", hint=hint or self._refused())
        clause = re.search(r'(?:query "[^"]*"|parameters "[^"]*"): (.+)', text)
        reason = clause[1] if clause else "it gave no usable answer"
        return SourceUnavailable(f"The server {self.location} cannot be read: {reason.strip().rstrip('.')}.")


_WORDS: Sequence[tuple[str, str, str]] = (
    (r"Access denied for user '[^']*'@'[^']*' to database '([^']*)'",
     "this user may not see the database {0}", "Ask its owner for the right to read it."),
    (r"Access denied for user", "it does not let this user in", ""),
    (r"SELECT command denied to user \S+ for (?:table|column) (.+?)(?: in table.*)?\s*$",
     "{0} may not be read, permission denied", "Ask its owner for the right to read it."),
    (r"Unknown database '([^']*)'", "there is no database {0} on it", "Look at the end of the address."),
    (r"Table '([^']*)' doesn't exist", "there is no table {0} on it any more", "Put it back, or remove what reads it."),
    (r"Unknown column '([^']*)'", "there is no column {0} any more", "Run it again; the columns are looked up anew."),
    (r"Unknown (?:MySQL )?server host", "its name is not known", "Look at the host in the address."),
    (r"Can't connect|Connection refused", "nothing answers there", "Look whether it runs, and at host and port."),
    (r"Lost connection|gone away|Connection was killed|shutdown in progress", "the connection was lost", "Run it again."),
    (r"execution was interrupted|max_statement_time|Lock wait timeout|Deadlock", "the server stopped the query", "Run it again."),
    (r"Too many connections", "it takes no more connections", "Try again later."),
    (r"[Tt]able definition has changed", "a table changed its definition while it was read", "Run it again."),
    (r"SSL|TLS|certificate", "the encryption of the connection cannot be agreed on", "Look at ssl_mode and ssl_ca in the address."),
)  # fmt: skip


def _sendable(*names: str) -> bool:
    """Whether DuckDB's scanner writes these names as the server reads them: 1.5.5 lets a backtick or backslash end them, or mean another table."""
    return not any("`" in name or "\\" in name for name in names)


def _kept_here(name: str, kind: str) -> str:
    """A column such that no condition on it is sent, unless the server understands it as DuckDB does. The least of one value is that value, costs
    nothing, and DuckDB does not see through it (1.5.5)."""
    return f"least({quote(name)}) AS {quote(name)}" if kind in ("VARCHAR", "BLOB", "FLOAT", "DOUBLE") else quote(name)


def _value(column: str, kind: str) -> str:
    """A value as text that holds no comma and no N but for NULL; different for different values."""
    name, base = _tick(column), kind.split("(", 1)[0].split(" ", 1)[0].lower()
    if _CHARACTERS.fullmatch(base):  # as it is read: the same bytes are other letters in another character set
        name = f"CONVERT({name} USING utf8mb4)"
    if base == "bit":
        text = f"CAST({name} + 0 AS CHAR)"
    elif base in ("float", "double", "real"):
        text = f"CAST({name} * 1e0 AS CHAR)"  # a FLOAT as text has six digits only
    elif _EXACT.fullmatch(base):
        text = f"CAST({name} AS CHAR)"
    elif _LONG.fullmatch(base):
        text = f"MD5({name})"
    else:
        text = f"HEX({name})"
    return f"IFNULL({text}, 'N')"


def _tick(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _text(value: str) -> str:
    """A text literal whatever the server's mode says of backslashes."""
    return f"CONVERT({_bytes(value)} USING utf8mb4)"


def _bytes(value: str) -> str:
    return f"x'{value.encode().hex()}'"
