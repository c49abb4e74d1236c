"""Sources of kinds that other packages add, in the entry-point group `jammi_lab.connectors`.

The name of the entry point is the kind of source and the scheme of its URLs; its object is called
as `open(location, options, secret)` and returns a reader. `reader.read(table)` returns a frame; a
source with several tables also has `reader.tables()`. The rows are read for each observation and
compared by content, so nothing of the package is trusted about their state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from jammi_lab.core.anchors import Observed, Unknown, source_input
from jammi_lab.core.entry_points import CONNECTORS, load_package_entry, package_entries
from jammi_lab.core.errors import InvalidArgument, JammiError, SourceUnavailable
from jammi_lab.core.identifiers import fold
from jammi_lab.sources.base import ObservationContext, ReadPlan, Relation
from jammi_lab.sources.frames import as_arrow, frame_snapshot, unique_names
from jammi_lab.sources.located_connector import LocatedConnector
from jammi_lab.sources.locations import scheme_of
from jammi_lab.sources.scratch_duckdb import sql_types

if TYPE_CHECKING:
    import pyarrow as pa

_METHOD = "digest of the rows"


class Reader(Protocol):
    """What the function of a package returns."""

    def read(self, table: str | None) -> Any:
        """The rows of a table as a pandas, polars or pyarrow frame; `table` is None when the source
        is one table."""
        ...


def package_kind(location: str, kind: str | None) -> str | None:
    """The kind of a source that an installed package reads: `kind`, or the scheme of a URL."""
    name = kind if kind is not None else scheme_of(location)
    entry = None if name is None else package_entries(CONNECTORS).get(fold(name))
    return None if entry is None else entry.name


class PackageConnector(LocatedConnector):
    """A registered source that the reader of a package reads."""

    def check(self) -> None:
        """Check that every table can be listed, and a single one be read. SourceUnavailable;
        SchemaMismatch; ExtensionMissing; InvalidArgument for an anchor."""
        if self.record.anchor not in ("auto", "content"):
            raise InvalidArgument(
                f"A source of kind {self.kind!r} cannot have the anchor {self.record.anchor!r}: "
                "its state is the digest of its rows.",
                hint="Omit anchor.",
            )
        if not self.tables():
            sql_types(self._rows(None).schema)

    def tables(self) -> list[str]:
        """The tables; empty if the source is one table."""
        reader = self._open()
        if not hasattr(reader, "tables"):
            return []
        return [str(name) for name in self._call(reader.tables)]

    def relation(self, table: str | None) -> Relation:
        """The current rows. SourceUnavailable; SchemaMismatch."""
        rows = self._rows(table)
        return Relation(
            source_input(self.record.name, table),
            ReadPlan(frame=rows),
            columns=sql_types(rows.schema),
        )

    def _observe(self, table: str | None, ctx: ObservationContext) -> Observed:
        """A snapshot by the digests of the columns. Raises as `relation`."""
        rows = self._rows(table)
        if ctx.scan_bytes is not None and rows.nbytes > ctx.scan_bytes:
            return Unknown(f"would scan {rows.nbytes:,} bytes; run `ws.status(deep=True)`")
        return frame_snapshot(rows).with_values(method=_METHOD)

    def _rows(self, table: str | None) -> pa.Table:
        reader = self._open()
        return unique_names(as_arrow(self._call(reader.read, table)))

    def _open(self) -> Any:
        open_reader = load_package_entry(CONNECTORS, self.record.kind)
        typed, secret = self.context.credentials()
        return self._call(
            open_reader, self.pattern, dict(self.record.options), secret or typed.get("password")
        )

    def _call(self, function: Any, *arguments: Any) -> Any:
        """The result of a function of the package. SourceUnavailable for its exceptions."""
        try:
            return function(*arguments)
        except JammiError:
            raise
        except Exception as error:
            raise SourceUnavailable(
                f"The source {self.record.name!r} cannot be read by the connector "
                f"{self.record.kind!r}: {type(error).__name__}: {str(error)[:200]}.",
            ) from error
