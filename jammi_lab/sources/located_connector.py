"""What the connectors of stored records have in common: kind, location, anchors, and what a failed
observation means."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import duckdb

from jammi_lab.core.anchors import Cost, Observed, Snapshot, Unknown, Vanished
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import InvalidArgument, TableNotFound
from jammi_lab.core.identifiers import fold, near_or_all, quote_identifier, quoted_name
from jammi_lab.core.records import SourceRecord
from jammi_lab.sources import read_errors
from jammi_lab.sources.base import NO_WORKSPACE, ObservationContext, SourceContext
from jammi_lab.sources.locations import display_location, full_location
from jammi_lab.storage.digests import NO_STAT, CacheEntry, observation_key


def find_table(tables: Iterable[Sequence[str]], name: str) -> str | None:
    """The label of a table, of tables that are each given as its label and its other names. Case is
    ignored. None if none matches, or several: which one is meant could change later."""
    wanted = fold(name)
    matches = [names[0] for names in tables if wanted in map(fold, names)]
    return matches[0] if len(matches) == 1 else None


class SourceGone(Exception):
    """What the location names no longer exists."""


class LocatedConnector:
    """A connector of a record whose location comes from `locations.store_location`."""

    is_database = False

    def __init__(self, record: SourceRecord, context: SourceContext = NO_WORKSPACE) -> None:
        self.record, self.context = record, context
        self.folder = context.folder
        self.pattern = full_location(record.location, self.folder)
        """The absolute path, pattern or URL."""

    @property
    def kind(self) -> str:
        """The registered kind."""
        return self.record.kind

    @property
    def location(self) -> str:
        """The path or URL for display, without credentials."""
        return display_location(self.record.location, self.folder)

    @property
    def anchor_column(self) -> str | None:
        """The column of `anchor="column:…"`; None for any other anchor."""
        return self.record.anchor.partition(":")[2] or None

    def tables(self) -> list[str]:
        """Empty: it is one table."""
        return []

    def find(self, parts: Sequence[str]) -> str | None:  # noqa: ARG002
        """None: it is no database."""
        return None

    def notes(self) -> list[str]:
        """What had to be decided to read it, one sentence each. Raises SourceUnavailable."""
        return []

    def observe(self, table: str | None, ctx: ObservationContext) -> Observed:
        """A Snapshot; Vanished when the source or the table no longer exists; Unknown when the
        state cannot be determined within the limits of the observation."""
        if self.record.anchor == "none":
            return Unknown('the source was added with anchor="none"')
        try:
            return self._observe(table, ctx)
        except (SourceGone, TableNotFound):
            return Vanished()
        except read_errors.SOURCE_ERRORS as error:
            return Unknown(read_errors.reason_of(error))

    def _observe(self, table: str | None, ctx: ObservationContext) -> Observed:
        """As `observe`, for the anchors that look at the source. Raises SourceGone, TableNotFound,
        and `read_errors.SOURCE_ERRORS` when the state cannot be determined."""
        raise NotImplementedError

    def _observe_largest(
        self,
        ctx: ObservationContext,
        state: str,
        is_proved: Callable[[int], bool],
        read: Callable[[], tuple[dict[str, str], Sequence[Any]]],
        cost: Cost,
    ) -> Snapshot:
        """The state by `anchor="column:…"`. An earlier one is taken where the source was in the
        same `state`, if that is proved by the moment of that observation; else `read` returns the
        columns, and what `_column_snapshot` takes."""
        options = digest_of([self.record.options, duckdb.__version__])
        key = observation_key(self.record.anchor, self.kind, self.record.location, options)
        entry = ctx.cache.get(key)
        if entry is not None and entry.payload["of"] == state and is_proved(entry.observed_at_ns):
            columns, found = entry.payload["columns"], entry.payload["found"]
            return self._column_snapshot(dict(columns), found, Cost.FREE)
        names, found = read()
        payload = {"of": state, "columns": list(names.items()), "found": list(found)}
        ctx.cache.put(key, CacheEntry(NO_STAT, ctx.now_ns, payload))
        return self._column_snapshot(names, found, cost)

    def _select_largest(self, columns: Iterable[str], rows: str) -> str:
        """A SELECT of the largest value of the column of the anchor, as text, and of the row count;
        `rows` stands behind FROM. Raises InvalidArgument for a missing column."""
        self._check_anchor_column(columns)
        name = quote_identifier(self.anchor_column or "")
        return f"SELECT max({name})::VARCHAR, count(*) FROM {rows}"

    def _column_snapshot(
        self, columns: dict[str, str], found: Sequence[Any], cost: Cost, **more: Any
    ) -> Snapshot:
        """The state by `anchor="column:…"`. `found`: the largest value of that column as text, and
        the row count."""
        return Snapshot(
            columns=columns,
            whole=digest_of(list(found)),
            method=self.record.anchor,
            cost=cost,
            row_count=found[1],
            **more,
        )

    def _check_single_table(self, table: str | None) -> None:
        """Raise TableNotFound for the name of a table in a source that is one."""
        if table is not None:
            raise TableNotFound(
                f"{self.record.name!r} is a single table and has no table {table!r}.",
                hint=f"Use FROM {quoted_name(self.record.name)}.",
            )

    def _check_anchor_column(self, columns: Iterable[str]) -> None:
        """Raise InvalidArgument for an anchor on a column that is missing."""
        names = list(dict.fromkeys(columns))
        if self.anchor_column is not None and self.anchor_column not in names:
            raise InvalidArgument(
                f"There is no column {self.anchor_column!r} to anchor on.",
                **near_or_all(self.anchor_column, names),
            )
