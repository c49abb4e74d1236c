"""Observers: one for each kind of input."""

import contextlib
import datetime
import zoneinfo
from dataclasses import replace

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import (
    Anchor,
    AnchorKind,
    Input,
    InputKind,
    MissingFrame,
    Observed,
    Snapshot,
    Unknown,
    Vanished,
)
from jammi_lab.core.errors import JammiError
from jammi_lab.core.records import SourceRecord, TableStatus
from jammi_lab.core.settings import Settings
from jammi_lab.inputs import row_comparison
from jammi_lab.inputs.observation import Observation, Observer
from jammi_lab.inputs.observation_cache import LastObservations, ObservationCache
from jammi_lab.inputs.source_names import SourceDirectory
from jammi_lab.sources.base import (
    Connector,
    Describe,
    ObservationContext,
    RunSelect,
    SupportsRowComparison,
)
from jammi_lab.store.result_files import result_snapshot

CURRENT_DATE = Input(kind=InputKind.CLOCK, name="current_date")
JAMMI_CATALOG = "jammi_catalog"
"""The SQL schema of the workspace's own catalog; reserved, so no source can have this name."""


class Observers:
    """Observes sources, frames, result tables and the clock for one workspace."""

    def __init__(
        self,
        catalog: Catalog,
        directory: SourceDirectory,
        cache: ObservationCache,
        settings: Settings,
        describe: Describe,
        query: RunSelect,
    ) -> None:
        self._catalog = catalog
        self._directory = directory
        self._cache = cache
        self._settings = settings
        self._describe, self._query = describe, query
        self._added: dict[InputKind, Observer] = {}

    def add(self, kind: InputKind, observer: Observer) -> None:
        """Register the observer of another kind of input."""
        self._added[kind] = observer

    def by_kind(self) -> dict[InputKind, Observer]:
        """The observers by input kind."""
        built_in = {
            InputKind.SOURCE: self.observe_source,
            InputKind.FRAME: self.observe_source,
            InputKind.RESULT: self.observe_result,
            InputKind.CLOCK: self.observe_clock,
        }
        return built_in | self._added

    def context(
        self,
        observation: Observation,
        read_sets: frozenset[tuple[str, ...] | None] = frozenset({None}),
    ) -> ObservationContext:
        """The observation context for connectors: with read limits unless the pass is deep."""
        settings = self._settings
        return ObservationContext(
            cache=self._cache,
            describe=self._describe,
            query=self._query,
            now_ns=observation.now_ns,
            racy_seconds=settings["look.racy_seconds"],
            # Rows bound what costs by the row, such as a digest evaluated on a server; bytes bound
            # what is read at the speed of a disk, whatever the rows are: a file or a frame.
            scan_bytes=None if observation.deep else settings["look.scan_bytes"],
            scan_rows=None if observation.deep else settings["look.scan_rows"],
            timeout_seconds=settings["look.timeout_seconds"],
            read_sets=read_sets,
        )

    def observe_source(self, input: Input, observation: Observation) -> Observed:
        """The state of a registered source, or of a frame in a notebook variable."""
        if input.name == JAMMI_CATALOG:
            return Unknown(why="tables of jammi_catalog change with every operation")
        registered = self._directory.find(input.name)
        if registered is not None:
            context = replace(
                self.context(observation, observation.requested_columns(input)),
                shared=observation.shared_read(input),
            )
            state = registered[1].observe(input.table, context)
            self._record_observation(*registered, input.table, state, observation.now_ns)
            return state
        if input.kind is InputKind.SOURCE:
            path_connector = self._directory.path_connector(input.name)
            return (
                Vanished()
                if path_connector is None
                else path_connector.observe(input.table, self.context(observation))
            )
        variable = self._directory.frame_variable(input.name)
        if variable is None:
            was_removed = LastObservations(self._cache).was_removed(
                input.name, self._catalog.scope.tenant
            )
            return (
                Vanished()
                if was_removed
                else MissingFrame(why=f"the frame {input.name} is not in this kernel")
            )
        return variable.observe(None, self.context(observation))

    def _record_observation(
        self,
        record: SourceRecord,
        connector: Connector,
        table: str | None,
        state: Observed,
        now_ns: int,
    ) -> None:
        """Store the observation. If the tables of the source are unknown (it was added without
        being opened), list and store them too."""
        last_observations = LastObservations(self._cache)
        last_observations.record_observation(record, table, state, now_ns)
        if table is None or isinstance(state, Unknown):
            return
        if last_observations.tables(record) is None:
            with contextlib.suppress(JammiError, OSError):
                last_observations.record_tables(record, connector.tables(), now_ns)
        last_observations.update_table(record, table, isinstance(state, Snapshot), now_ns)

    def has_same_rows(self, recorded: Anchor, observation: Observation) -> bool | Unknown:
        """Whether a source whose state changed contains the same rows in the columns of a recorded
        anchor; False when that cannot be determined."""
        connector = self._connector(recorded.input)
        if isinstance(connector, SupportsRowComparison):
            return connector.same_rows(recorded, self.context(observation))
        return connector is not None and row_comparison.has_same_rows(
            connector, recorded, self.context(observation)
        )

    def note_rows(self, anchor: Anchor, observation: Observation) -> None:
        """Store the digest of a source's rows, so that `same_rows` can compare it after a rewrite.
        Reads at most what a shallow pass may read."""
        connector = self._connector(anchor.input)
        if connector is not None:
            settings = self._settings
            limited = replace(
                self.context(observation),
                scan_rows=settings["look.scan_rows"],
                scan_bytes=settings["look.scan_bytes"],
            )
            row_comparison.note_rows(connector, anchor, limited)

    def _connector(self, input: Input) -> Connector | None:
        """The connector of a registered source, of files named by path, or of a frame in a notebook
        variable."""
        if (registered := self._directory.find(input.name)) is not None:
            return registered[1]
        return (
            self._directory.path_connector(input.name)
            if input.kind is InputKind.SOURCE
            else self._directory.frame_variable(input.name)
        )

    def observe_result(self, input: Input, _: Observation) -> Observed:
        """The state of a recipe's newest ready version, or of one physical table."""
        newest = self._catalog.result_tables.newest(self._catalog.aliases.resolve(input.name))
        if newest is not None:
            return result_snapshot(newest[1], newest[0].version)
        exact = self._catalog.result_tables.get(input.name)
        return (
            Vanished()
            if exact is None or exact.status is not TableStatus.READY
            else result_snapshot(exact)
        )

    def observe_clock(self, _: Input, observation: Observation) -> Observed:
        """The current date in `engine.timezone`."""
        zone = self._settings["engine.timezone"]
        today = datetime.datetime.fromtimestamp(
            observation.now_ns / 1e9, zoneinfo.ZoneInfo(zone)
        ).date()
        return Snapshot(
            columns={}, whole=today.isoformat(), method=f"date in {zone}", kind=AnchorKind.CLOCK
        )
