"""How each kind of input is observed."""

import contextlib
import datetime
import zoneinfo
from dataclasses import replace

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.config import Settings
from jammi_lab.errors import JammiError
from jammi_lab.observing import equal_rows
from jammi_lab.observing.look import Look, Observer
from jammi_lab.observing.memo import ObservationMemo
from jammi_lab.observing.outside import Outside
from jammi_lab.observing.seen import LastSeen
from jammi_lab.sources.base import Comparing, Connector, Describe, Looking, Query
from jammi_lab.store.results import snapshot_of
from jammi_lab.values.anchors import Anchor, AnchorKind, Input, InputKind, Observed, Snapshot, Unknown, Vanished
from jammi_lab.values.records import SourceRecord, TableStatus

CURRENT_DATE = Input(kind=InputKind.CLOCK, name="current_date")
JAMMI_CATALOG = "jammi_catalog"
"""The name under which SQL reads what the workspace knows of itself; no source can be called so."""


class Observers:
    """Observes sources, frames, result tables and the clock for one workspace."""

    def __init__(self, catalog: Catalog, outside: Outside, memo: ObservationMemo, settings: Settings, describe: Describe, query: Query) -> None:
        self._catalog, self._outside, self._memo, self._settings = catalog, outside, memo, settings
        self._describe, self._query = describe, query
        self._more: dict[InputKind, Observer] = {}

    def add(self, kind: InputKind, observer: Observer) -> None:
        """Let a further kind of input be observed."""
        self._more[kind] = observer

    def by_kind(self) -> dict[InputKind, Observer]:
        """One observer for each kind of input that can be read."""
        ours = {InputKind.SOURCE: self.source, InputKind.FRAME: self.source, InputKind.RESULT: self.result, InputKind.CLOCK: self.clock}
        return ours | self._more

    def looking(self, look: Look, read_sets: frozenset[tuple[str, ...] | None] = frozenset({None})) -> Looking:
        """What a look lends to connectors: bounded unless it is deep."""
        settings = self._settings
        return Looking(
            memo=self._memo,
            describe=self._describe,
            query=self._query,
            now_ns=look.now_ns,
            racy_seconds=settings["look.racy_seconds"],
            scan_bytes=None if look.deep else settings["look.scan_bytes"],
            scan_rows=None if look.deep else settings["look.scan_rows"],
            timeout_seconds=settings["look.timeout_seconds"],
            read_sets=read_sets,
        )

    def source(self, input: Input, look: Look) -> Observed:
        """A registered source, or a frame in a variable of the notebook."""
        if input.name == JAMMI_CATALOG:
            return Unknown(why="what the workspace knows of itself changes with all that is done in it")
        found = self._outside.find(input.name)
        if found is not None:
            seen = found[1].observe(input.table, self.looking(look, look.read_sets(input)))
            self._note(*found, input.table, seen, look.now_ns)
            return seen
        if input.kind is InputKind.SOURCE:
            named = self._outside.path(input.name)
            return Vanished() if named is None else named.observe(input.table, self.looking(look))
        variable = self._outside.variable(input.name)
        if variable is None:
            gone = LastSeen(self._memo).was_removed(input.name, self._catalog.scope.tenant)
            return Vanished() if gone else Unknown(why=f"the frame {input.name} is not in this kernel")
        return variable.observe(None, self.looking(look))

    def _note(self, record: SourceRecord, connector: Connector, table: str | None, seen: Observed, now_ns: int) -> None:
        """Keep what was seen, and with it which tables are inside: asked for once, when a source was added without being opened."""
        known = LastSeen(self._memo)
        known.note(record, table, seen, now_ns)
        if table is None or isinstance(seen, Unknown):
            return
        if known.tables(record) is None:
            with contextlib.suppress(JammiError, OSError):
                known.found(record, connector.tables(), now_ns)
        known.corrected(record, table, isinstance(seen, Snapshot), now_ns)

    def same_rows(self, recorded: Anchor, look: Look) -> bool | Unknown:
        """Whether a source whose state moved holds the same rows in the columns of a recorded anchor; False when nobody can tell."""
        connector = self._connector(recorded.input)
        if isinstance(connector, Comparing):
            return connector.same_rows(recorded, self.looking(look))
        return connector is not None and equal_rows.same(connector, recorded, self.looking(look))

    def note_rows(self, anchor: Anchor, look: Look) -> None:
        """Remember what the rows of a source are, so that `same_rows` can tell when it is written anew; at most what a shallow look may read."""
        connector = self._connector(anchor.input)
        if connector is not None:
            settings = self._settings
            bounded = replace(self.looking(look), scan_rows=settings["look.scan_rows"], scan_bytes=settings["look.scan_bytes"])
            equal_rows.note(connector, anchor, bounded)

    def _connector(self, input: Input) -> Connector | None:
        """That of a registered source, of files that a statement named by their path, or of a frame in a variable of the notebook."""
        if (found := self._outside.find(input.name)) is not None:
            return found[1]
        return self._outside.path(input.name) if input.kind is InputKind.SOURCE else self._outside.variable(input.name)

    def result(self, input: Input, _: Look) -> Observed:
        """The newest ready version of a recipe, or one exact table."""
        newest = self._catalog.tables.newest(input.name)
        if newest is not None:
            return snapshot_of(newest[1], newest[0].version)
        exact = self._catalog.tables.get(input.name)
        return Vanished() if exact is None or exact.status is not TableStatus.READY else snapshot_of(exact)

    def clock(self, _: Input, look: Look) -> Observed:
        """The date in `engine.timezone`."""
        zone = self._settings["engine.timezone"]
        today = datetime.datetime.fromtimestamp(look.now_ns / 1e9, zoneinfo.ZoneInfo(zone)).date()
        return Snapshot(columns={}, whole=today.isoformat(), method=f"date in {zone}", kind=AnchorKind.CLOCK)
