"""Connector for SQLite files. DuckDB's SQLite scanner reads the rows; a child process reads table
names, views and digests."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.core.identifiers import quote_identifier, sql_literal
from jammi_lab.sources.base import (
    Attachment,
    Consistency,
    ObservationContext,
    Query,
    Relation,
)
from jammi_lab.sources.databases import reader_process
from jammi_lab.sources.databases.database_file import (
    DatabaseFileConnector,
    FileTable,
    TableContent,
    plain_text,
    stats_are_settled,
)
from jammi_lab.sources.databases.reader_main import GENERATED
from jammi_lab.sources.temporary_copies import TemporaryCopy, load_copy

_MAX_EXACT_INTEGER = 2**53
_REAL = re.compile("REAL|FLOA|DOUB", re.IGNORECASE)
"""Declared types with which SQLite itself stores integers as floating-point numbers."""
_MISREAD = {
    "DOUBLE": "typeof({0}) = 'integer' AND NOT {0} BETWEEN -9007199254740992 AND 9007199254740992",
    "DATE": "CASE typeof({0}) WHEN 'integer' THEN {0} % 86400 <> 0 WHEN 'text' THEN length({0}) > "
    "10 AND ltrim(substr({0}, 11), ' T0:.Z') <> '' ELSE {0} IS NOT NULL END",
    "TIMESTAMP": "CASE typeof({0}) WHEN 'integer' THEN NOT {0} BETWEEN -62135596800 AND "
    "253402300799 WHEN 'real' THEN {0} < 5373485 WHEN 'text' THEN substr({0}, 12) GLOB "
    "'*[+-]*[1-9]*' OR {0} GLOB '*.??????*[1-9]*' END",
}
"""Conditions for values that the scanner reads as others (1.5.5): integers as DOUBLE; times of day
as dates; an offset or the seventh digit of a second, which it drops; milliseconds since 1970, and
days of the Julian calendar, as seconds."""


class SqliteConnector(DatabaseFileConnector):
    """A registered SQLite file. With the option `text`, every value is read as text."""

    engine = "SQLite"
    messages = "sqlite_file"
    log_suffixes = ("-wal", "-journal")

    def read_tables(self) -> list[FileTable]:
        """All tables and views. Raises SourceUnavailable."""
        return [
            FileTable(
                "main",
                entry["name"],
                tuple((name, kind) for name, kind in entry["columns"]),
                entry["view"],
                entry["why"],
            )
            for entry in self.ask_reader(do="tables", path=self.path)["tables"]
        ]

    def table_relation(self, info: FileTable) -> Relation:
        """A SELECT of one table of the file, or of a copy while this process has the file open: a
        second library must not open it, because closing it would drop the first one's locks
        (`reader_process`). Raises SourceUnavailable."""
        if not reader_process.is_open_here(self.path):
            return self._relation_at(info, self.path)
        stats = self._stats()
        key = digest_of([self.path, repr(stats)]) if stats_are_settled(stats) else None
        copy = load_copy(key, self._copy)
        relation = self._relation_at(info, str(copy.path))
        return replace(relation, acquire=lambda: [copy].clear)

    def _copy(self) -> TemporaryCopy:
        return TemporaryCopy(
            os.path.basename(self.path),
            lambda target: self.ask_reader(do="copy", path=self.path, to=str(target)),
        )

    def _relation_at(self, info: FileTable, path: str) -> Relation:
        """A SELECT of one table by DuckDB's scanner. SQLite itself expands a view, which can name
        nothing outside its file."""
        attachment = self._attachment(path)
        if self.record.options.get("text"):
            kinds = dict.fromkeys(dict(info.columns), "VARCHAR")
            body = _query_as_text(info, attachment.alias, kinds, "CAST({} AS TEXT)")
            return self._relation_of(info, body, attachment)
        self._check_values(info)
        classes = self._storage_classes(info)
        if any(kind.startswith(GENERATED) for _, kind in info.columns) or any(
            "real" in each for each in classes.values()
        ):
            kinds = {
                name: _type_of_classes(classes[name]) if name in classes else _declared_type(kind)
                for name, kind in info.columns
            }
            body = _query_as_text(info, attachment.alias, kinds, "printf('%!.17g', {})")
        else:
            body = _scan(info, attachment, classes)
        relation = self._relation_of(info, body, attachment)
        if not classes and not _conditions(info):
            return relation
        return replace(relation, consistency=Consistency(guard=self._guard(info, classes)))

    def _guard(
        self, info: FileTable, classes: Mapping[str, frozenset[str]]
    ) -> Callable[[Query], None]:
        """`Consistency.guard`: the types were decided by the values of an earlier moment, and a
        cast to them would round a number that was written since."""

        def guard(_: Query) -> None:
            self._check_values(info)
            if self._storage_classes(info) != classes:
                raise SourceUnavailable(
                    f"{self._name}: the values of {info.label} changed their type during the read.",
                    hint="Run the statement again.",
                )

        return guard

    def _storage_classes(self, info: FileTable) -> dict[str, frozenset[str]]:
        """The storage classes of the columns without a declared type, such as those that a view
        computes, kept while the stats prove that nothing was written. Raises SourceUnavailable."""
        columns = [name for name, kind in info.columns if not kind or kind == GENERATED]
        if not columns:
            return {}
        row = self._look(f"{_select_classes(columns)} FROM {quote_identifier(info.name)}")
        classes = dict[str, frozenset[str]]()
        for column, found in zip(columns, row, strict=True):
            classes[column] = frozenset(filter(None, (found or "").split(",")))
        return classes

    def _check_values(self, info: FileTable) -> None:
        """Raise SourceUnavailable for a value that the scanner would read as another."""
        conditions = _conditions(info)
        if not conditions:
            return
        values = ", ".join(
            f"max(CASE WHEN {condition} THEN CAST({quote_identifier(name)} AS TEXT) END)"
            for name, condition in conditions.items()
        )
        row = self._look(f"SELECT {values} FROM {quote_identifier(info.name)}")
        for name, value in zip(conditions, row, strict=True):
            if value is not None:
                kind = dict(info.columns)[name].removeprefix(GENERATED)
                raise SourceUnavailable(
                    f"{self._name}: column {name!r} of {info.label} is declared as {kind} and "
                    f"contains {value!r}, which would be read as another value.",
                    hint='Correct the value, or read every column as text: options={"text": True}.',
                )

    def _look(self, select: str) -> list[str | None]:
        """The row of a SELECT of aggregates, kept while the stats prove that nothing was written.
        Raises SourceUnavailable."""
        answer = self.read_cached(
            select, lambda: self.ask_reader(do="query", path=self.path, select=select)
        )
        [row] = answer["rows"]
        return list(row)

    def notes(self) -> list[str]:
        """The columns without a declared type that are text because their values are of several
        kinds. Raises SourceUnavailable."""
        notes = []
        for info in self._tables():
            if info.unreadable_because:
                continue
            for name, classes in self._storage_classes(info).items():
                kinds = sorted({each.rpartition(" ")[2] for each in classes})
                if len(kinds) > 1 and _type_of_classes(classes) == "VARCHAR":
                    notes.append(f"{info.name}.{name}: text, because it has {' and '.join(kinds)}")
        return notes

    def digest_table(self, info: FileTable, ctx: ObservationContext) -> TableContent:
        """Column digests over the values that SQLite returns. Raises SourceUnavailable."""
        columns = [name for name, _ in info.columns]
        answer = self.ask_reader(
            ctx.timeout_seconds,
            do="content",
            path=self.path,
            table=info.name,
            view=info.is_view,
            columns=columns,
        )
        return TableContent(dict(zip(columns, answer["digests"], strict=True)), answer["rows"])


def _conditions(info: FileTable) -> dict[str, str]:
    """By column, the condition for values that the scanner would read as others."""
    return {
        name: _MISREAD[_declared_type(kind)].format(quote_identifier(name))
        for name, kind in info.columns
        if _declared_type(kind) in _MISREAD and not _REAL.search(kind)
    }


def _query_as_text(info: FileTable, alias: str, kinds: Mapping[str, str], real: str) -> str:
    """A SELECT that SQLite runs, for what the scanner does not read: computed columns, and numbers
    of more than 15 digits without a declared type. `real` is the text of a floating-point number,
    with {} for the column."""
    texts, values = [], []
    for name, kind in kinds.items():
        quoted = quote_identifier(name)
        texts.append(
            f"CASE typeof({quoted}) WHEN 'real' THEN {real.format(quoted)} "
            f"WHEN 'blob' THEN hex({quoted}) ELSE CAST({quoted} AS TEXT) END AS {quoted}"
        )
        value = f"unhex({quoted})" if kind == "BLOB" else f"CAST({quoted} AS {kind})"
        values.append(plain_text(quoted) if kind == "VARCHAR" else f"{value} AS {quoted}")
    select = f"SELECT {', '.join(texts)} FROM {quote_identifier(info.name)}"
    return (
        f"SELECT {', '.join(values)} FROM sqlite_query({sql_literal(alias)}, {sql_literal(select)})"
    )


def _scan(info: FileTable, attachment: Attachment, classes: Mapping[str, frozenset[str]]) -> str:
    """A SELECT by the scanner, which returns a column without a declared type as BLOB, whatever its
    values are."""
    expressions = []
    for name, declared in info.columns:
        quoted = quote_identifier(name)
        kind = _declared_type(declared) if declared else _type_of_classes(classes[name])
        if declared and kind == "VARCHAR":
            expressions.append(plain_text(quoted))
        elif declared or kind == "BLOB":
            expressions.append(quoted)
        else:
            expressions.append(f"CAST(decode({quoted}) AS {kind}) AS {quoted}")
    source = (
        f"sqlite_scan({sql_literal(attachment.path)}, {sql_literal(info.name)})"
        if info.is_view
        else f"{attachment.alias}.main.{quote_identifier(info.name)}"
    )
    return f"SELECT {', '.join(expressions)} FROM {source}"


def _select_classes(columns: Sequence[str]) -> str:
    """A SELECT of the storage classes of the values of each column, apart from NULL. `short real`
    has no more digits than SQLite writes in a text; a floating-point number does not hold a
    `long integer`."""
    classes = (
        f"group_concat(DISTINCT CASE typeof({column}) WHEN 'null' THEN NULL "
        f"WHEN 'integer' THEN iif({column} BETWEEN -{_MAX_EXACT_INTEGER} AND {_MAX_EXACT_INTEGER}, "
        "'integer', 'long integer') "
        f"WHEN 'real' THEN iif(CAST(CAST({column} AS TEXT) AS REAL) = {column}, 'short real', "
        f"'real') ELSE typeof({column}) END)"
        for column in map(quote_identifier, columns)
    )
    return f"SELECT {', '.join(classes)}"


def _type_of_classes(classes: frozenset[str]) -> str:
    """The type of a column without a declared type: that of its values; text for several kinds."""
    if classes and classes <= {"integer", "long integer"}:
        return "BIGINT"
    if classes and classes <= {"integer", "real", "short real"}:
        return "DOUBLE"
    return "BLOB" if classes == {"blob"} else "VARCHAR"


def _declared_type(declared: str) -> str:
    """The type of a column by the words in its declaration, as SQLite and DuckDB's scanner take
    it."""
    words = declared.removeprefix(GENERATED).upper()
    kinds = {"INT": "BIGINT", "CHAR": "VARCHAR", "CLOB": "VARCHAR", "TEXT": "VARCHAR",
             "BLOB": "BLOB", "REAL": "DOUBLE", "FLOA": "DOUBLE", "DOUB": "DOUBLE",
             "DEC": "DOUBLE", "NUM": "DOUBLE", "TIME": "TIMESTAMP", "DATE": "DATE"}  # fmt: skip
    return next((kind for word, kind in kinds.items() if word in words), "VARCHAR")
