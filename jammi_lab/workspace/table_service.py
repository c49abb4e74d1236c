"""The operations of a ResultTable: its rows and files, its verdicts, and the versions of its
recipe."""

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import FrameOrigin, Input, InputKind
from jammi_lab.core.checks import Audit
from jammi_lab.core.errors import SessionClosed
from jammi_lab.core.identifiers import fold
from jammi_lab.core.manifest import Manifest
from jammi_lab.core.records import (
    READABLE_STATUSES,
    ProgressOption,
    TableKind,
    TableRecord,
    VersionRecord,
)
from jammi_lab.core.verdicts import Match, Verdict, Verification
from jammi_lab.engine.sql import credential_check
from jammi_lab.freshness.lineage import Lineage
from jammi_lab.freshness.queries import FreshnessQueries
from jammi_lab.inputs.source_names import ResultTableResolver
from jammi_lab.sources.base import Relation
from jammi_lab.sources.frame_origins import origins
from jammi_lab.sources.locations import check_writable_path
from jammi_lab.storage.files import StoragePath, exists
from jammi_lab.storage.parquet import read_footer
from jammi_lab.store import manifests
from jammi_lab.store.removal import Removal
from jammi_lab.store.result_files import ResultFiles, result_snapshot
from jammi_lab.store.retention import VersionRetention
from jammi_lab.store.verify import verify
from jammi_lab.workspace.arguments import ProgressReporter
from jammi_lab.workspace.check_results import CheckResults
from jammi_lab.workspace.diff import ComparedTables, Diff, compare
from jammi_lab.workspace.lookup import TableLookup, TableVersion
from jammi_lab.workspace.result import Result
from jammi_lab.workspace.stamps import Stamp, StampedTable, stamped_table
from jammi_lab.workspace.statements import StatementRunner
from jammi_lab.workspace.version_changes import (
    VersionComparison,
    common_columns,
    equal_row_groups,
)


class TableService:
    """Reads, verifies and removes single versions. Raises TableNotFound for a version of another
    tenant than the bound one."""

    def __init__(
        self,
        catalog: Catalog,
        results: ResultFiles,
        lookup: TableLookup,
        statements: StatementRunner,
        freshness: FreshnessQueries,
        retention: VersionRetention,
        removal: Removal,
        progress: ProgressReporter,
        audit: Callable[[TableRecord, Relation], Audit],
        check_results: Callable[[TableVersion], CheckResults],
        check_writable: Callable[[], None],
        recompute: Callable[[TableRecord], Verification],
    ) -> None:
        self._catalog, self._results, self.lookup = catalog, results, lookup
        self._statements, self._freshness = statements, freshness
        self._retention, self._removal, self._progress = retention, removal, progress
        self._audit, self._check_results = audit, check_results
        self._check_writable, self._recompute = check_writable, recompute

    # -- rows and files
    # ----------------------------------------------------------------------------------------------

    def read(self, record: TableRecord) -> Result:
        """Read all rows. TableNotFound after the table was dropped; TableDamaged."""
        self.lookup.require_readable(record)
        readable = ResultTableResolver(self._catalog, self._results, READABLE_STATUSES)
        return self._statements.read_table(record, readable)

    def origin(self, table: TableVersion) -> FrameOrigin:
        """The origin of frames made from a table: the recipe while this is its newest version, else
        this table alone. TableNotFound."""
        name = self.lookup.lineage_name(table) or table.record.table_name
        snapshot = result_snapshot(table.record, table.version.version)
        return FrameOrigin([snapshot.anchor(Input(kind=InputKind.RESULT, name=name))])

    def record_path_read(self, table: TableVersion) -> None:
        """Record in a notebook that the running cell may read the file of a table. Of a closed
        workspace nothing is recorded: frames of unknown origin have a ground."""
        if origins.follower is not None:
            with contextlib.suppress(SessionClosed):
                origins.record_read(self.origin(table))

    def path(self, record: TableRecord) -> StoragePath:
        """The path of the Parquet file. TableNotFound; TableDamaged."""
        self.lookup.check_visible(record)
        with self.lookup.translate_missing(record):
            return self._results.require_intact(record)

    def index_path(self, record: TableRecord) -> StoragePath | None:
        """The path of the index file beside the table; None when there is none. TableNotFound;
        TableDamaged."""
        from jammi_lab.vectors.index import files as vector_files
        from jammi_lab.words import files as word_files

        parquet = self.path(record)
        path = (
            word_files.words_path(parquet)
            if record.kind is TableKind.LEXICAL
            else vector_files.index_path(parquet, vector_files.GRAPH_SUFFIX)
        )
        return path if exists(path) else None

    def check_export_target(self, path: str | os.PathLike[str]) -> None:
        """Raise InvalidArgument for a path inside the folder of the workspace."""
        root = self._results.root
        check_writable_path(
            os.path.expanduser(os.fspath(path)), root if isinstance(root, Path) else None
        )

    def manifest(self, record: TableRecord) -> Manifest | None:
        """The manifest beside the file, else the catalog's copy. TableNotFound."""
        self.lookup.check_visible(record)
        return self.read_manifest(record)

    def read_manifest(self, record: TableRecord) -> Manifest | None:
        """The same without the tenant check, for a record that came from the catalog."""
        manifest = manifests.parse(manifests.read(self._results.parquet(record)))
        return manifest or manifests.parse(self._catalog.result_tables.manifest(record.table_name))

    def stamp_all(self, tables: Sequence[TableVersion]) -> Stamp | None:
        """What an output or a file that shows some tables says of them; None for no tables."""
        badges = self._statements.badges
        if badges.stamps is None or not tables:
            return None
        shown = [self.stamped(table) for table in tables]
        verdict = badges.request([each.name for each in shown])
        verdict.wait()
        return badges.stamps.stamp(
            shown, tenant=badges.current_tenant(), verdict=verdict.sentence()
        )

    def stamped(self, table: TableVersion) -> StampedTable:
        """A table as stamps name it: by its recipe while it is the newest version, which a newer
        one supersedes, else by its physical name."""
        name = self.lookup.lineage_name(table) or table.record.table_name
        return stamped_table(name, table.version.version, table.record)

    # -- verdicts
    # ----------------------------------------------------------------------------------------------

    def verify(
        self,
        table: TableVersion,
        expected: str | None,
        progress: ProgressOption,
        *,
        recompute: bool,
    ) -> Verification:
        """Compare bytes, manifest and definition hash with what was recorded, and with `recompute`
        the bytes with those of a full computation. ManifestUnsupported; TableNotFound;
        NotRecomputable."""
        self.lookup.check_visible(table.record)
        self.lookup.require_exists(table.record)
        outcome = verify(self._results, table.record, expected, self._progress.callback(progress))
        return (
            self._recompute(table.record) if recompute and isinstance(outcome, Match) else outcome
        )

    def staleness(self, table: object, progress: ProgressOption) -> Verdict:
        """The verdict on a recipe's newest version or on one table. TableNotFound."""
        subject = self.lookup.verdict_subject(table)
        return self._freshness.staleness(*subject, self._progress.callback(progress))

    def lineage(
        self,
        table: object,
        direction: Literal["both", "up", "down"] = "both",
        depth: int | None = None,
        *,
        columns: bool = False,
    ) -> Lineage:
        """The graph around a table, or all of it. TableNotFound; InvalidArgument."""
        name = self.lookup.lineage_name(table)
        return self._freshness.lineage(name, direction, depth, columns=columns)

    # -- versions
    # ----------------------------------------------------------------------------------------------

    def history(self, table: TableVersion) -> list[TableVersion]:
        """All ready versions of its recipe, newest first. TableNotFound."""
        self.lookup.check_visible(table.record)
        return self.lookup.ready_versions(table.version)

    def drop(self, table: TableVersion) -> None:
        """Remove a version. TableNotFound, TenantForbidden."""
        self.lookup.check_visible(table.record)
        self._check_writable()
        self._removal.remove_version(table.version)

    def pin(self, table: TableVersion, note: str | None) -> None:
        """Exempt a version from `expire`. StatementNotAllowed for a password in the note."""
        self.lookup.check_visible(table.record)
        self._check_writable()
        credential_check.check_text("The note of a pinned version", note)
        self._retention.pin(table.version, note)

    def unpin(self, table: TableVersion) -> None:
        """End the exemption from `expire`."""
        self.lookup.check_visible(table.record)
        self._check_writable()
        self._retention.unpin(table.version)

    def restore(self, table: TableVersion) -> tuple[VersionRecord, TableRecord]:
        """Make a new version that refers to the same bytes. TableNotFound, TableDamaged,
        TenantForbidden; CheckFailed when a blocking check does not pass on it."""
        self.lookup.check_visible(table.record)
        self._check_writable()
        tables = ResultTableResolver(self._catalog, self._results)

        def audit(record: TableRecord) -> Audit:
            return self._audit(record, tables.relation(record, record.recipe, record.version))

        return self._retention.restore(table.version, audit)

    def check_results(self, table: TableVersion) -> CheckResults:
        """The stored results of checks on a version. TableNotFound."""
        self.lookup.check_visible(table.record)
        current = TableVersion(self.lookup.current_name(table.version), table.record)
        return self._check_results(current)

    def diff(self, table: TableVersion, number: int | None) -> Diff:
        """The difference from another version of the recipe, by default the previous one.
        TableNotFound, TableDamaged."""
        self.lookup.check_visible(table.record)
        other = self.lookup.version_to_compare(table.version, number)
        tables = ResultTableResolver(self._catalog, self._results)

        def query(statement: str) -> Any:
            with self.lookup.translate_missing(table.record, other.record):
                pair = ComparedTables(tables, table.record, other.record)
                return self._statements.query(statement, table.record.tenant, [pair])

        return compare(table, other, query)

    def comparison(self, table: TableVersion, number: int | None) -> VersionComparison:
        """The comparison with another version of the recipe, by default the previous one. Raises as
        `diff`."""
        self.lookup.check_visible(table.record)
        other = self.lookup.version_to_compare(table.version, number)
        tables = ResultTableResolver(self._catalog, self._results)
        skipped_rows = self._equal_first_rows(table.record, other.record)

        def query(statement: str) -> Any:
            with self.lookup.translate_missing(table.record, other.record):
                pair = ComparedTables(tables, table.record, other.record, skipped_rows)
                return self._statements.query(statement, table.record.tenant, [pair])

        return VersionComparison(table, other, query, skipped_rows)

    def _equal_first_rows(self, new: TableRecord, old: TableRecord) -> int:
        """The number of rows at the beginning of both files that are equal by the digests of their
        row groups."""
        columns = common_columns(new, old)
        current, former = self.read_manifest(new), self.read_manifest(old)
        footer = read_footer(self._results.parquet(new))
        hides_row_number = "file_row_number" in map(fold, columns)
        if current is None or former is None or footer is None or hides_row_number:
            return 0
        groups = equal_row_groups(current, former, [*columns])
        return sum(footer.row_group(group).num_rows for group in range(groups))
