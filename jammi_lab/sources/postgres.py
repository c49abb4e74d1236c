"""PostgreSQL as a source.

Every connection runs with the same settings, those that shape text and time, so that a digest and the rows it speaks of mean the same. A column of
type `numeric` that has no precision, or more than 38 digits, has no type of the same range here: it is read as text, exactly, unless the option
`numeric="double"` says otherwise.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Collection, Iterable, Sequence

from jammi_lab.errors import JammiError, SourceUnavailable
from jammi_lab.names import literal, quote
from jammi_lab.sources import owners
from jammi_lab.sources.attaching import CONNECT_SECONDS
from jammi_lab.sources.base import Asking
from jammi_lab.sources.inside import UNTOLD, Bodies, Gate, Inside
from jammi_lab.sources.owners import Owner
from jammi_lab.sources.servers import Connector

_SESSION = {
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmloption": "content",
}
_SMALLEST_ROW = 28
"""Bytes that a row takes at least in its page."""
_LISTING = """
SELECT n.nspname::text AS "schema", c.relname::text AS "name" FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {where} ORDER BY 1, 2"""
_TABLE = """
WITH RECURSIVE it AS (
  SELECT c.oid, c.relkind::text AS form, c.relname, n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = {schema} AND c.relname = {name} AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
), parts AS (SELECT oid FROM it UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN parts p ON i.inhparent = p.oid), sums AS (
  SELECT bool_and(c.relkind IN ('r', 'p', 'm') AND c.relpersistence = 'p' AND NOT c.relrowsecurity) AS logged,
    sum(CASE WHEN c.relkind NOT IN ('r', 'm') THEN 0 WHEN c.reltuples >= 0 AND c.relpages > 0
      THEN ceil(c.reltuples::float8 / c.relpages * (pg_catalog.pg_relation_size(c.oid) / current_setting('block_size')::float8))
      ELSE pg_catalog.pg_relation_size(c.oid) / {row} END)::float8 AS estimate,
    sum(CASE WHEN c.relkind IN ('r', 'm') THEN pg_catalog.pg_relation_size(c.oid) ELSE 0 END)::bigint AS bytes,
    bool_or(c.relkind NOT IN ('r', 'p', 'm')) AS untold, bool_or(c.relkind = 'f') AS "foreign"
  FROM parts JOIN pg_catalog.pg_class c USING (oid))
SELECT it.oid::bigint AS oid, it.form, sums.*, (
  SELECT json_agg(json_build_array(a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnum,
    COALESCE((SELECT string_agg(e.enumlabel::text, ',' ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum e
      WHERE e.enumtypid IN (a.atttypid, t.typelem)), ''),
    COALESCE((SELECT string_agg(m.attname::text || ' ' || pg_catalog.format_type(m.atttypid, m.atttypmod), ',' ORDER BY m.attnum)
      FROM pg_catalog.pg_attribute m WHERE m.attrelid = t.typrelid AND t.typrelid <> 0 AND m.attnum > 0 AND NOT m.attisdropped), ''))
    ORDER BY a.attnum)
  FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
  WHERE a.attrelid = it.oid AND a.attnum > 0 AND NOT a.attisdropped)::text AS columns
FROM it, sums"""
_BEHIND = r"""
WITH RECURSIVE behind AS (
  SELECT {oid}::oid AS oid UNION SELECT n.oid FROM behind b, LATERAL (
    SELECT i.inhrelid AS oid FROM pg_catalog.pg_inherits i WHERE i.inhparent = b.oid
    UNION ALL SELECT d.refobjid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_rewrite r ON r.ev_class = c.oid AND c.relkind = 'v'
      JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
        AND d.refclassid = 'pg_catalog.pg_class'::regclass WHERE c.oid = b.oid) n
), fickle AS (
  SELECT min(CASE WHEN f[2] IS NULL THEN 'uses ' || COALESCE(p.proname::text || '()', 'TABLESAMPLE') || ', which is volatile there'
    ELSE 'has a LIMIT without an ORDER BY, which gives whatever rows come first' END) AS said FROM behind b
  JOIN pg_catalog.pg_class c ON c.oid = b.oid AND c.relkind = 'v' JOIN pg_catalog.pg_rewrite r ON r.ev_class = c.oid,
  LATERAL regexp_matches(r.ev_action::text, ':(?:op)?funcid (\d+)|{{TABLESAMPLECLAUSE |(:sortClause <> :limitOffset )(?!<> :limitCount <>)', 'g') f
  LEFT JOIN pg_catalog.pg_proc p ON p.oid = f[1]::oid
  WHERE f[1] IS NULL OR p.provolatile = 'v')
SELECT (SELECT said FROM fickle) AS fickle, (SELECT bool_or(c.relkind = 'f') FROM behind JOIN pg_catalog.pg_class c USING (oid)) AS outside"""
"""What a view rests on; asked of views alone, since a server compiles it first (20 ms)."""
_POSITION = """
SELECT (SELECT system_identifier::text FROM pg_catalog.pg_control_system()) AS "system",
  (SELECT timeline_id::text FROM pg_catalog.pg_control_checkpoint()) AS "timeline",
  pg_catalog.pg_postmaster_start_time()::text AS "began",
  CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL ELSE pg_catalog.pg_current_wal_insert_lsn()::text END AS "lsn"
WHERE pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')
  AND pg_catalog.has_function_privilege('pg_catalog.pg_control_checkpoint()', 'EXECUTE')"""
_WRITERS = "SELECT pg_catalog.count(*) AS n FROM pg_catalog.pg_locks WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock'"
"""Transactions that have written and are not over: each holds the lock on its own number until everybody sees what it did."""
_NESTED = re.compile(r"\[\]\[\]|^ENUM\(.*\)\[\]")
"""Types that a query does not give as the scan does."""
_TEXT = re.compile(r"text|character varying(?:\(\d+\))?")
_NUMERIC = re.compile(r"numeric(?:\((\d+),(-?\d+)\))?((?:\[\])*)")


class PostgresConnector(Connector):
    """A registered PostgreSQL database. `record.location` is what `addresses.taken_out` gave."""

    extension = "postgres_scanner"
    type = "postgres"
    one_snapshot = True

    @property
    def path(self) -> str:
        """What libpq is told beside the secret."""
        said = {name: value for name, value in self.address.words if name != "host"}
        said["connect_timeout"] = str(CONNECT_SECONDS)
        said["application_name"] = "jammi_lab"
        said["tcp_user_timeout"] = "30000"
        said["options"] = " ".join(f"-c {name}={value}" for name, value in _SESSION.items())
        return " ".join(f"{name}={_quoted(value)}" for name, value in said.items())

    @property
    def usual(self) -> str:
        """The schema of a new database."""
        return "public"

    def shows(self, schema: str) -> bool:
        """Those that an option names, else all that are not the server's own."""
        schemas = self.record.options.get("schemas")
        return schema in schemas if schemas else not schema.startswith("pg_") and schema != "information_schema"

    def listing(self, asking: Asking) -> list[tuple[str, str]]:
        """Schema and name of each table, partitioned table, view, materialised view and foreign table; partitions of a table are not listed."""
        schemas = self.record.options.get("schemas")
        every = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
        where = f"n.nspname IN ({', '.join(map(literal, schemas))})" if schemas else every
        found = self.query(asking, _LISTING.format(where=f"{where} AND NOT c.relispartition"))
        return sorted(((schema, name) for schema, name in found), key=lambda at: (at[0] != self.default, at))

    def inside(self, asking: Asking, schema: str, name: str) -> Inside | None:
        """What the server's catalog says of a table."""
        rows = self.query(asking, _TABLE.format(schema=literal(schema), name=literal(name), row=_SMALLEST_ROW))
        if not rows:
            return None
        [(oid, form, logged, estimate, size, untold, foreign, told)] = rows
        fickle = None
        if form == "v":
            [(fickle, foreign)] = self.query(asking, _BEHIND.format(oid=int(oid)))
        columns = [tuple(column) for column in json.loads(told or "[]")]
        if (twice := _same_but_case([column[0] for column in columns])) is not None:
            raise SourceUnavailable(
                f"The columns {twice[0]!r} and {twice[1]!r} of {schema}.{name} differ by case alone, and SQL here takes them for one.",
                hint="Make a view on the server that gives them names of their own.",
            )
        return Inside(
            schema,
            name,
            tuple((column, kind) for column, kind, *_ in columns),
            repr((oid, form, self.record.options.get("numeric"), columns)),
            UNTOLD if untold else int(estimate or 0),
            int(size or 0),
            bool(logged),
            ranged=frozenset(column for column, kind, *_ in columns if _TEXT.fullmatch(kind)),
            held=not foreign,
            fickle=f"its view {fickle}" if fickle else "",
            worded=tuple((column, "options={'numeric': 'double'}") for column in self._wide(columns)),
        )

    def gate(self, asking: Asking) -> Gate | None:
        """The insert position of the log, and whether everything that it tells of has been seen: a commit is in the log some time before others see
        it, and that can be long where a standby must confirm it. Whoever is on the way then still holds its lock. When the server was started is
        part of it: a copy of its files that is put back (an image of a container) writes other rows up to the same position."""
        found = self.query(asking, _POSITION)
        if not found or found[0][-1] is None:
            return None
        [(writers,)] = self.query(asking, _WRITERS)  # after the position, so that no commit falls between the two
        return Gate(list(found[0]), writers == 0)

    def bodies(self, asking: Asking, inside: Inside, owner: Owner | None) -> tuple[Bodies, bool]:
        """The scan of the table, which takes filters to the server; a query that reads wide numbers as text where there are such columns, or one
        owner's rows: of conditions on these the scanner sends neither `IS NULL` nor a call, and would fetch the rows of others."""
        asking("CALL pg_clear_cache()")
        place, table = self.place(inside), f"{quote(inside.schema)}.{quote(inside.name)}"
        types = {name: kind for name, kind, *_ in asking(f"DESCRIBE SELECT * FROM {place}")}
        wide = self._wide(inside.columns)
        types |= dict.fromkeys(wide, "VARCHAR")
        owner = None if any(_NESTED.search(kind) for kind in types.values()) else owner
        there = owners.conditions(owner, types, inside.ranged, text=lambda value: f'{literal(value)} COLLATE "C"', lower=_lower)
        plain = "*" if not wide else ", ".join(f"NULL::VARCHAR AS {quote(n)}" if n in wide else quote(n) for n in types)

        def asked(columns: Collection[str]) -> str:
            read = ", ".join(f"{quote(n)}::text AS {quote(n)}" if n in wide else quote(n) for n in types if n in columns)
            sent = f"SELECT {read or '1 AS one'} FROM {table}{owners.sent(there)}"
            cast = ", ".join(f"CAST({quote(n) if n in columns else 'NULL'} AS {kind}) AS {quote(n)}" for n, kind in types.items())
            return f"SELECT {cast} FROM postgres_query({literal(self.attachment.alias)}, {literal(sent)})"

        def narrow(columns: Collection[str]) -> str:
            return asked(columns) if there or set(columns) & set(wide) else f"SELECT {plain} FROM {place}"

        return (narrow(types), types, narrow if wide or there else None), True

    def _wide(self, columns: Iterable[Sequence[str]]) -> list[str]:
        """The columns of numbers that are read as text."""
        return [] if self.record.options.get("numeric") == "double" else [name for name, kind, *_ in columns if _is_wide(kind)]

    def digests(self, asking: Asking, inside: Inside, sets: Sequence[Sequence[str]]) -> tuple[int, list[str]]:
        """For each set two sums over 64-bit hashes of the tuples, with two seeds: 128 bits that do not depend on the order of the rows."""
        asked = [
            f"pg_catalog.sum(pg_catalog.hashtextextended({_tuple(columns)}, {seed})::numeric)::text AS s{number}_{seed}"
            for number, columns in enumerate(sets)
            if columns
            for seed in (0, 1)
        ]
        said = ", ".join(["pg_catalog.count(*) AS n", *asked])
        [(rows, *sums)] = self.query(asking, f"SELECT {said} FROM {quote(inside.schema)}.{quote(inside.name)} AS t")
        pairs = iter(sums)
        return int(rows), [f"{next(pairs)} {next(pairs)}" if columns else "" for columns in sets]

    def largest(self, asking: Asking, inside: Inside, column: str) -> tuple[str | None, int]:
        """(max, count)."""
        [(largest, rows)] = self.query(
            asking,
            f"SELECT pg_catalog.max({quote(column)})::text AS largest, pg_catalog.count(*) AS n FROM {quote(inside.schema)}.{quote(inside.name)}",
        )
        return largest, int(rows)

    def said(self, text: str) -> JammiError | None:
        """The server's words and libpq's, in ours."""
        return _said(text, self.record.name, self.location, self._refused)


def _same_but_case(names: Sequence[str]) -> tuple[str, str] | None:
    """Two names that DuckDB, which compares A to Z without regard to case, cannot tell apart."""
    seen: dict[bytes, str] = {}
    return next(((first, name) for name in names if (first := seen.setdefault(name.encode().lower(), name)) != name), None)


def _lower(column: str) -> str:
    """A to Z and nothing else, in whatever locale."""
    return f"pg_catalog.translate({column}::text, '{string.ascii_uppercase}', '{string.ascii_lowercase}')"


def _tuple(columns: Sequence[str]) -> str:
    """The text of a row of these columns, as the server prints it: NULL, empty text and quotes cannot be taken for one another."""
    return f'ROW({", ".join(f"t.{quote(c)}" for c in columns)})::text COLLATE "C"'


def _is_wide(kind: str) -> bool:
    """Whether a type is a `numeric` that DECIMAL(38) cannot hold."""
    said = _NUMERIC.fullmatch(kind)
    if said is None:
        return False
    return said[1] is None or int(said[1]) > 38 or not 0 <= int(said[2]) <= int(said[1])


def _quoted(value: str) -> str:
    """A value of a libpq connection string."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


_OURS = re.compile(
    r"Failed to |Unable to connect to Postgres|.*to read a Postgres |(?:.*: )?ERROR:|server closed the connection|.*connection to server|"
    r"no connection to the server|SSL SYSCALL"
)
"""How the words of the extension, of libpq and of the server begin; anything else is not about the server."""
_LOST = (
    r"starting up|shutting down|terminating connection|server closed the connection|connection to server was lost|Connection reset|SSL SYSCALL|"
    r"no connection to the server|Broken pipe"
)
_WORDS: Sequence[tuple[str, str, str]] = (
    (r"password authentication failed|no password supplied|authentication failed|SCRAM|no pg_hba\.conf entry", "it does not let this user in", ""),
    (r'role "[^"]*" does not exist', "it does not know this user", "Look at the user in the address."),
    (r'database "([^"]*)" does not exist', "there is no such database on it", "Look at the end of the address."),
    (r"could not translate host name|Name or service not known", "its name is not known", "Look at the host in the address."),
    (r"Connection refused|could not connect|No route to host|Network is unreachable", "nothing answers there",
     "Look whether it runs, and at host and port."),
    (r"timeout expired|Connection timed out|timed out", "it does not answer", "Look whether it runs, and at host and port."),
    (_LOST, "the connection was lost", "Run it again."),
    (r"SSL|certificate", "the encryption of the connection cannot be agreed on", "Look at sslmode and sslrootcert in the address."),
    (r"too many connections|remaining connection slots", "it takes no more connections", "Try again later."),
    (r"unsupported startup parameter", "its pool passes no settings on", "Connect to the server itself, or let the pool ignore `options`."),
)  # fmt: skip


def _said(text: str, source: str, location: str, refused: Callable[[], str]) -> JammiError | None:
    if not _OURS.match(text):
        return None
    if said := re.search(r"permission denied for (\w+ ?\w*) (\S+)", text):
        return SourceUnavailable(
            f"{said[1].capitalize()} {said[2]} of the source {source!r} may not be read: permission denied.",
            hint="Ask its owner for the right to read it.",
        )
    if said := re.search(r'relation "([^"]*)" does not exist', text):
        return SourceUnavailable(f"There is no table {said[1]} on the server any more.", hint="Put it back, or remove what reads it.")
    if said := re.search(r'column "?([^"\s]*)"? does not exist|has no column named "?([^"\s]*)"?', text):
        return SourceUnavailable(
            f"There is no column {said[1] or said[2]} on the server any more.", hint="Run it again; the columns are looked up anew."
        )
    if re.search(r"canceling statement due to|could not serialize|deadlock detected|snapshot too old|conflict with recovery", text):
        return SourceUnavailable("The server stopped the query.", hint="Run it again.")
    if re.search(r"bytes to read a Postgres|Postgres.*(?:binary|decimal)|Got \d+ bytes", text):
        return SourceUnavailable("A table changed its definition while it was read.", hint="Run it again.")
    for words, why, hint in _WORDS:
        if re.search(words, text):
            return SourceUnavailable(f"The server {location} cannot be read: {why}.", hint=hint or refused())
    clause = re.search(r"ERROR:\s*(.+)", text)
    reason = clause[1] if clause else "it gave no usable answer"
    return SourceUnavailable(f"The server {location} cannot be read: {reason.strip().rstrip('.')}.")
