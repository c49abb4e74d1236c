"""SQLite files as sources. The rows are read by DuckDB's SQLite scanner, the names, views and digests by a child process."""

import re

from jammi_lab.errors import JammiError, SourceUnavailable
from jammi_lab.names import fold, literal, quote
from jammi_lab.sources import copies, extensions, outside_process
from jammi_lab.sources.base import Attachment, Looking, Relation, key_of
from jammi_lab.sources.embedded import Content, EmbeddedConnector, Failed, Inside
from jammi_lab.sources.outside_process import ChildFailed
from jammi_lab.values.anchors import Input, InputKind

_MISMATCH = re.compile(r'Invalid type in column "(.*?)": (?:column was declared as (\w+)|expected ([\w ]+?)), found "(.*?)" of type "(\w+)"', re.S)
_DATE = re.compile(r'invalid (date|timestamp) field format: "(.*?)"', re.S)
_AS_TEXT = 'Mend the value, or read every column as text: options={"text": True}.'
_NOBODY = Input(InputKind.SOURCE, "")


class SqliteConnector(EmbeddedConnector):
    """A registered SQLite file. With the option `text` every value is read as text."""

    engine = "SQLite"
    beside = ("-wal", "-journal")

    def ready(self) -> None:
        """Nothing, when the extension is installed. ExtensionMissing."""
        extensions.path_of("sqlite_scanner")

    def inside(self) -> list[Inside]:
        """All tables and views. Failed."""
        try:
            found = outside_process.ask({"do": "tables", "path": self.path})["tables"]
        except ChildFailed as error:
            raise Failed(self.said(error)) from None
        return [Inside("main", each["name"], tuple((name, kind) for name, kind in each["columns"]), each["view"], each["why"]) for each in found]

    def reading(self, inside: Inside) -> Relation:
        """DuckDB's scan of one table; a view is left to SQLite itself, which knows nothing but its own file."""
        attachment = Attachment(
            key=key_of(self.record.tenant, fold(self.record.name)), type="sqlite", extension="sqlite_scanner", path=self._safe_path(), lasting=False
        )
        if self.record.options.get("text"):
            casts = ", ".join(f"CAST({quote(name)} AS TEXT) AS {quote(name)}" for name, _ in inside.columns)
            source = f"sqlite_query({literal(attachment.alias)}, {literal(f'SELECT {casts} FROM {quote(inside.name)}')})"
            return Relation(_NOBODY, body=f"SELECT * FROM {source}", attachment=attachment)
        source = (
            f"sqlite_scan({literal(attachment.path)}, {literal(inside.name)})" if inside.view else f"{attachment.alias}.main.{quote(inside.name)}"
        )
        # a column without a declared type comes as bytes, whatever it holds
        said = ", ".join(quote(name) if kind else f"decode({quote(name)}) AS {quote(name)}" for name, kind in inside.columns)
        return Relation(_NOBODY, body=f"SELECT {said} FROM {source}", attachment=attachment)

    def content(self, inside: Inside, looking: Looking) -> Content:
        """Digests of what SQLite itself gives. Failed."""
        columns = [name for name, _ in inside.columns]
        request = {"do": "content", "path": self.path, "table": inside.name, "view": inside.view, "columns": columns}
        try:
            seen = outside_process.ask(request, looking.timeout_seconds)
        except ChildFailed as error:
            raise Failed(self.said(error)) from None
        return Content(dict(zip(columns, seen["digests"], strict=True)), seen["rows"])

    def largest(self, inside: Inside, column: str, looking: Looking) -> tuple[str | None, int]:
        """As SQLite orders the values. Failed."""
        try:
            seen = outside_process.ask({"do": "largest", "path": self.path, "table": inside.name, "column": column}, looking.timeout_seconds)
        except ChildFailed as error:
            raise Failed(self.said(error)) from None
        return seen["largest"], seen["rows"]

    def explain(self, said: str) -> JammiError | None:
        """Values that do not fit the declared type, and files that are none."""
        if found := _MISMATCH.search(said):
            column, declared, expected, value, kind = found.groups()
            return SourceUnavailable(
                f"{self._name}: column {column!r} is declared as {declared or expected} and holds {value[:60]!r} of type {kind}.", hint=_AS_TEXT
            )
        if found := _DATE.search(said):
            return SourceUnavailable(f"{self._name}: a column is declared as {found[1]} and holds {found[2][:60]!r}.", hint=_AS_TEXT)
        if "invalid UTF8" in said or "not a valid UTF8" in said or "blob contained invalid" in said:
            return SourceUnavailable(f"{self._name}: a column without a declared type holds bytes that are no text.", hint="Declare it as BLOB.")
        if "database is locked" in said:
            return SourceUnavailable(f"{self._name} is being written by somebody else.", hint="Try again when its owner is done.")
        if "file is not a database" in said or "malformed" in said:
            return SourceUnavailable(f"{self._name} is not a whole SQLite database.", hint="It may be torn, or of another kind.")
        if "unable to open database file" in said:
            return SourceUnavailable(f"{self._name} cannot be opened.", hint="Look whether it is there, and whether its folder may be written.")
        return None

    def _safe_path(self) -> str:
        """The file, or a copy of it while this very process has it open: see `outside_process`. SourceUnavailable."""
        if not outside_process.open_here(self.path):
            return self.path
        return copies.of(self.path, self._stats(), self._copied)

    def _copied(self, to: str) -> None:
        try:
            outside_process.ask({"do": "copy", "path": self.path, "to": to})
        except ChildFailed as error:
            raise self.said(error) from None
