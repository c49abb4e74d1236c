"""Handles of result tables, one version of a recipe each, and their operations: rows and files,
verdicts, and the versions of the recipe."""

import contextlib
import functools
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jammi_lab.core import reprs
from jammi_lab.core.anchors import FrameOrigin, Input, result_input
from jammi_lab.core.attribute_suggestions import answer_name_in_list
from jammi_lab.core.command_hints import cell_or_python, command_line
from jammi_lab.core.dataframes import TableMixin
from jammi_lab.core.errors import (
    InvalidArgument,
    JammiError,
    TableDamaged,
)
from jammi_lab.core.forms import form, listing_table, shown_type
from jammi_lab.core.html import (
    Rendered,
    ReprMixin,
    count_noun,
    format_bytes,
    plain_text,
    vstack,
)
from jammi_lab.core.identifiers import check_choice, check_count, fold
from jammi_lab.core.manifest import Manifest, equal_row_groups
from jammi_lab.core.module_imports import import_modules
from jammi_lab.core.recipes import decode_params
from jammi_lab.core.records import (
    READABLE_STATUSES,
    ProgressOption,
    Reuse,
    TableRecord,
    TableVersion,
    VersionRecord,
)
from jammi_lab.core.verdicts import Match, Verdict, Verification
from jammi_lab.engine.sql import credential_check
from jammi_lab.features.checks.results import CheckResults
from jammi_lab.features.outputs.stamps import (
    Stamp,
    StampedSource,
    StampedTable,
    stamped_table,
    value_digest,
)
from jammi_lab.features.pictures.lineage import Lineage
from jammi_lab.inputs.result_names import ResultKind
from jammi_lab.inputs.version_changes import (
    ROW_NUMBER,
    VersionComparison,
    common_columns,
)
from jammi_lab.sources.frame_origins import origins
from jammi_lab.sources.locations import escape
from jammi_lab.steps.recompute_check import verify_by_recomputation
from jammi_lab.storage.files import StoragePath, exists, open_for_reading
from jammi_lab.storage.object_store import RemotePath
from jammi_lab.storage.parquet import read_footer
from jammi_lab.store.result_files import result_snapshot
from jammi_lab.store.sidecars import GRAPH_SUFFIX, sidecar_path
from jammi_lab.store.verify import verify
from jammi_lab.workspace.diff import Diff, compared_tables, diff_of
from jammi_lab.workspace.export import export
from jammi_lab.workspace.result import Result

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from jammi_lab.workspace.assembly import Services


class Tables:
    """Finds versions of tables, and what records and outputs say of them."""

    def __init__(self, services: "Services") -> None:
        self._services = services

    def find(self, table: "str | ResultTable", version: int | None = None) -> "ResultTable":
        """The newest ready version of a recipe, one version, or a physical table. A ResultTable is
        returned unchanged. TableNotFound, with near names."""
        match = self._services.lookup.find(table, version)
        if isinstance(table, ResultTable):
            return table
        found = ResultTable(self._services, *match)
        found._is_of_recipe = version is None and table != match.record.table_name
        return found

    def from_versions(self, versions: Iterable[TableVersion]) -> "ResultTables":
        """Handles of several versions, in their order."""
        return ResultTables(ResultTable(self._services, *each) for each in versions)

    def history(
        self, name: str, versions: Iterable[TableVersion] | None = None
    ) -> "VersionHistory":
        """Versions of a recipe with what each of them changed; by default all that can be read,
        rejected ones among them. TableNotFound."""
        if versions is None:
            versions = self._services.lookup.all_versions(name)
        return VersionHistory(name, self.from_versions(versions))

    def staleness(self, table: object, progress: ProgressOption) -> Verdict:
        """The verdict on a recipe's newest version or on one table. TableNotFound."""
        subject = self._services.lookup.verdict_subject(table)
        on_progress = self._services.progress.callback(progress)
        return self._services.freshness.staleness(*subject, on_progress)

    def lineage(
        self,
        table: object,
        direction: Literal["both", "up", "down"] = "both",
        depth: int | None = None,
        *,
        columns: bool = False,
    ) -> Lineage:
        """The graph around a table, or all of it. TableNotFound; InvalidArgument."""
        name = self._services.lookup.lineage_name(table)
        graph = self._services.freshness.lineage(name, direction, depth, columns=columns)
        return Lineage(graph, self._services.run_events.of_newest)

    def stamped_table(self, table: TableVersion) -> StampedTable:
        """A table as stamps name it: by its recipe while it is the newest version, which a newer
        one supersedes, else by its physical name."""
        name = self._services.lookup.lineage_name(table) or table.record.table_name
        return stamped_table(name, table.version.version, table.record)

    def stamp_all(
        self,
        tables: Sequence[TableVersion],
        shown_verdicts: str | None = None,
        sources: Sequence[StampedSource] = (),
        unrecorded: Sequence[str] = (),
    ) -> Stamp | None:
        """What an output or a file that shows some tables says of them; None for no tables.
        `shown_verdicts`: the verdicts in the output as a sentence, else they are evaluated.
        `sources`, `unrecorded`: the other inputs that it shows, with and without a known state."""
        badges = self._services.badges
        if badges.stamps is None or not tables:
            return None
        shown = [self.stamped_table(table) for table in tables]
        if shown_verdicts is None:
            badge = badges.request([each.name for each in shown])
            badge.wait()
            shown_verdicts = badge.sentence()
        return badges.stamps.stamp(
            shown,
            sources=sources,
            unrecorded=unrecorded,
            tenant=badges.current_tenant(),
            verdict=shown_verdicts,
        )


_MAX_SHOWN_COLUMNS = 12
_SCANNING_ENGINES = ("polars", "duckdb", "pyarrow")
MAX_COMPARED_VERSIONS = 10
"""Maximum number of versions that are compared with the one before; the newest ones are."""


class ResultTable(TableMixin, ReprMixin):
    """One version of a recipe: an immutable table with its manifest."""

    def __init__(
        self,
        services: "Services",
        version: VersionRecord,
        record: TableRecord,
        outcome: str = "computed",
        reuse: Reuse | None = None,
    ) -> None:
        self._services, self._version, self._record = services, version, record
        self.outcome = outcome
        self._reuse = reuse
        self._first_rows: Rendered | None = None
        self._is_of_recipe = False
        """Whether it was asked for by its recipe, so that running the code again would give a newer
        version."""

    @property
    def _table_version(self) -> TableVersion:
        return TableVersion(self._version, self._record)

    @property
    def name(self) -> str:
        """The recipe."""
        return self._version.recipe

    @property
    def version(self) -> int:
        """Which version of the recipe."""
        return self._version.version

    @property
    def table_name(self) -> str:
        """The physical name."""
        return self._record.table_name

    @property
    def kind(self) -> str:
        """The kind of producer that made it."""
        return self._record.kind

    @property
    def status(self) -> str:
        """building, ready, rejected, failed or deleting, as of when the handle was fetched."""
        return self._record.status.value

    @property
    def source_id(self) -> str | None:
        """The source of its rows; None for several."""
        return self._record.source_id

    @property
    def model_id(self) -> str | None:
        """The encoder that made its vectors; None without one."""
        return self._record.model_id

    @property
    def derived_from(self) -> str | None:
        """The result table that it was made from, for derived vectors the one with the vectors;
        None for several or none."""
        return self._record.derived_from

    @property
    def key(self) -> list[str]:
        """The columns that identify a row."""
        return list(self._record.key)

    @property
    def columns(self) -> list[str]:
        """The names of its columns."""
        return [column.name for column in self._record.columns]

    @property
    def schema(self) -> "pa.Schema":
        """The Arrow schema of its rows, as `read().schema`. TableDamaged."""
        return self._read().schema

    @property
    def dimensions(self) -> int | None:
        """The width of its vectors; None without vectors."""
        return self._record.dimensions

    @property
    def task(self) -> str:
        """What its rows are for: the kind, which is also the task part of the physical name."""
        return self.kind

    @property
    def metric(self) -> str | None:
        """How rows are compared: cosine for vectors and neighbour graphs, bm25 for words; None for
        other kinds."""
        if self._record.recipe_class.has_words:
            return "bm25"
        return self._record.recipe_class.metric

    @property
    def text_columns(self) -> list[str] | None:
        """The columns whose texts were encoded or analysed; None for other kinds, and without a
        manifest."""
        manifest = self.manifest if self._record.recipe_class.has_texts else None
        return None if manifest is None else list(manifest.descriptor["text"])

    @property
    def index_path(self) -> Path | Any:
        """The path of the index file; in an object store its URL, a string. None without one, as
        for small tables, whose vectors are all compared. TableNotFound; TableDamaged."""
        location = sidecar_path(self._intact_path(), GRAPH_SUFFIX)
        return _shown_path(location) if exists(location) else None

    @property
    def tenant(self) -> str | None:
        """The owner; None is shared."""
        return self._record.tenant

    @property
    def row_count(self) -> int | None:
        """The number of rows."""
        self._note_read()
        return self._record.row_count

    @property
    def bytes(self) -> int | None:
        """The size of the Parquet file."""
        return self._record.bytes

    @property
    def seconds(self) -> float | None:
        """How long the computation took; None when unknown."""
        return self._record.seconds

    @property
    def created_at(self) -> str:
        """When the computation began, RFC 3339."""
        return self._record.created_at

    @property
    def completed_at(self) -> str | None:
        """When it became ready, RFC 3339."""
        return self._record.completed_at

    @property
    def definition_hash(self) -> str | None:
        """The digest of the definition that was computed."""
        return self._record.definition_hash

    @property
    def inputs(self) -> list[Input]:
        """The inputs that it was made from, with the columns read."""
        return [a.input for a in self._record.anchors]

    @property
    def reuse(self) -> Reuse | None:
        """New, changed, removed and unchanged rows of this call, else of the computation. None for
        producers that reuse no rows, and without a manifest."""
        if self._reuse is None and self._record.recipe_class.reuses_rows:
            with contextlib.suppress(JammiError):
                self._reuse = (
                    Reuse.from_counts(manifest.counts) if (manifest := self.manifest) else None
                )
        return self._reuse

    @property
    def manifest(self) -> Manifest | None:
        """The manifest; None for a table older than manifests. TableNotFound while another tenant
        than its own is bound."""
        self._services.lookup.check_visible(self._record)
        return self._services.read_manifest(self._record)

    @property
    def checks(self) -> CheckResults:
        """What the checks on the recipe found in this version. Runs nothing: a check that was added
        since is run by `ws.check`. TableNotFound as for `manifest`."""
        lookup = self._services.lookup
        lookup.check_visible(self._record)
        current = TableVersion(lookup.current_name(self._version), self._record)
        return self._services.check_service.of_version(current)

    @property
    def path(self) -> Path | Any:
        """The path of the Parquet file, also of a damaged table; in an object store its URL, a
        string. TableNotFound as for `manifest`."""
        try:
            location = self._intact_path()
        except TableDamaged:
            location = self._services.results.parquet(self._record)
        self._note_read()
        return _shown_path(location)

    def _note_read(self) -> None:
        """Note that a cell takes the path of the rows, by which it may read them, or their number.
        Of a closed workspace or a dropped table nothing is recorded: frames of unknown origin have
        a ground."""
        if origins.follower is not None:
            with contextlib.suppress(JammiError):
                origins.record_read(self._origin())

    def _intact_path(self) -> StoragePath:
        """The path of the Parquet file. TableNotFound; TableDamaged."""
        lookup = self._services.lookup
        lookup.check_visible(self._record)
        with lookup.translate_missing(self._record):
            return self._services.results.require_intact(self._record)

    def _origin(self) -> FrameOrigin:
        """The origin of frames made from it: the recipe while this is its newest version, or when
        it was asked for by that name, else this table alone. TableNotFound."""
        lookup = self._services.lookup
        name = lookup.lineage_name(self) or self.table_name
        if self._is_of_recipe:
            name = lookup.current_name(self._version).recipe
        snapshot = result_snapshot(self._record, self.version)
        return FrameOrigin([snapshot.anchor(result_input(name))])

    def read(self) -> Result:
        """Read the rows. TableDamaged when the bytes are missing or not the published ones."""
        result = self._with_origin(self._read())
        result._is_whole_recipe = self._is_of_recipe
        return result

    def head(self, n: int = 5) -> Result:
        """Read the first `n` rows. InvalidArgument when `n` is no integer from 0; TableDamaged."""
        return self._with_origin(self._read(f" LIMIT {check_count('n', n)}"))

    def _with_origin(self, result: Result) -> Result:
        result._origin = self._origin()
        result._read_as = self._services.tables.stamped_table(self._table_version)
        return result

    def _read(self, ending: str = "") -> Result:
        parts, record = self._services, self._record
        parts.lookup.require_readable(record)
        readable = ResultKind(parts.catalog, parts.results, READABLE_STATUSES)
        return self._services.statements.read_table(record, readable, ending)

    def arrow(self) -> "pa.Table":
        """All rows as an Arrow table, as `read().arrow()`. TableDamaged."""
        return self.read().arrow()

    def polars(self) -> "pl.DataFrame":
        """All rows as a polars frame, as `read().polars()`. TableDamaged; SchemaMismatch."""
        return self.read().polars()

    def pandas(self, *, exact: bool = False) -> "pd.DataFrame":
        """All rows as a pandas frame, as `read().pandas(exact=…)`. TableDamaged."""
        return self.read().pandas(exact=exact)

    def scan(self, engine: Literal["polars", "duckdb", "pyarrow"] = "polars") -> Any:
        """A lazy scan in another engine: a polars LazyFrame, a DuckDB relation or a pyarrow
        Dataset. TableDamaged; InvalidArgument."""
        frame = self._scan(engine)
        form = "scan" if engine == "polars" and self._is_of_recipe else ""
        origins.record_read(self._origin().with_values(form=form), frame)
        return frame

    def _scan(self, engine: str) -> Any:
        location = self._intact_path()
        check_choice("engine", engine, _SCANNING_ENGINES)
        if engine == "pyarrow":
            return _dataset(location)
        is_remote = isinstance(location, RemotePath)
        if engine == "duckdb":
            import duckdb

            if is_remote:
                return duckdb.from_arrow(_dataset(location))
            return duckdb.read_parquet(escape(str(location)), hive_partitioning=False)
        with import_modules():
            import polars as pl

        if is_remote:
            return pl.scan_pyarrow_dataset(_dataset(location))
        return pl.scan_parquet(str(location), glob=False, hive_partitioning=False)

    def export(self, path: str | Path) -> Path:
        """Write the rows to a .parquet, .csv, .arrow or .feather file, by the extension. An
        existing file is replaced when the copy is complete. The file holds a stamp, for
        `jammi-lab check-file`; of CSV and Arrow files it is in `<file>.jammi.json`. Returns the
        path.

        InvalidArgument for another extension and for a folder that is missing, not writable or part
        of the workspace; SchemaMismatch for a column that CSV cannot hold; ResourceExhausted,
        TableDamaged."""
        origins.record_read(self._origin())
        return export(path, self, self._copy_parquet, self._stamp)

    def _copy_parquet(self, target: Path) -> None:
        with (
            open_for_reading(self._intact_path()) as source,
            target.open("wb") as copy,
        ):
            shutil.copyfileobj(source, copy)

    def verify(
        self,
        expected: str | None = None,
        *,
        recompute: bool = False,
        progress: ProgressOption = None,
    ) -> Verification:
        """Compare the bytes, the manifest and (when passed) the definition hash with the record.
        With `recompute`, also compute the statement in full over the recorded inputs, and compare
        the bytes; NotRecomputable where that is not possible."""
        parts, record = self._services, self._record
        parts.lookup.check_visible(record)
        parts.lookup.require_exists(record)
        on_progress = parts.progress.callback(progress)
        outcome = verify(parts.results, record, expected, on_progress)
        if recompute and isinstance(outcome, Match):
            return verify_by_recomputation(parts.build_context, parts.recorded_recipes, record)
        return outcome

    def staleness(self, *, progress: ProgressOption = None) -> Verdict:
        """The verdict: whether it equals the output of its recipe over its current inputs."""
        return self._services.tables.staleness(self, progress)

    def lineage(self, *, columns: bool = False) -> "Lineage":
        """The graph of its inputs and of the tables made from it; with `columns` also of their
        columns."""
        return self._services.tables.lineage(self, columns=columns)

    @property
    def pinned(self) -> bool:
        """Whether it is exempt from `expire`."""
        return self._version.pinned

    @property
    def note(self) -> str | None:
        """Why it is pinned."""
        return self._version.note

    def history(self) -> "list[ResultTable]":
        """All ready versions of its recipe, newest first, displayed with the time of each and what
        it changed. TableNotFound while another tenant than its own is bound."""
        self._services.lookup.check_visible(self._record)
        return self._services.tables.history(
            self.name, self._services.lookup.ready_versions(self._version)
        )

    def drop(self) -> None:
        """Remove this version. Its bytes are deleted with the last version that refers to them.
        TableNotFound as for `history` and after its recipe was renamed; TenantForbidden."""
        self._check_changeable()
        self._services.removal.remove_version(self._version)

    def pin(self, note: str | None = None) -> None:
        """Exempt this version from `expire`, with a note why. TableNotFound, TenantForbidden;
        StatementNotAllowed for a password in the note."""
        self._check_changeable()
        credential_check.check_text("The note of a pinned version", note)
        self._services.retention.pin(self._version, note)
        self._version = self._version.with_values(pinned=True, note=note)

    def unpin(self) -> None:
        """Let `expire` remove this version. TableNotFound, TenantForbidden."""
        self._check_changeable()
        self._services.retention.unpin(self._version)
        self._version = self._version.with_values(pinned=False, note=None)

    def restore(self) -> "ResultTable":
        """Make a new version, the newest of its recipe, that refers to the bytes of this one, and
        hold the recipe (`ws.hold`); its definition does not change.

        Raises TableNotFound, TableDamaged, TenantForbidden.
        """
        self._check_changeable()
        parts = self._services
        restored = parts.retention.restore(self._version, parts.audit)
        return ResultTable(self._services, *restored, "reused")

    def _check_changeable(self) -> None:
        self._services.lookup.check_visible(self._record)
        self._services.check_writable()

    def diff(self, version: int | None = None) -> Diff:
        """The difference from another version of its recipe to this one, by default from the
        previous ready one.

        Rows are compared by key when both versions have the same one, else as multisets. Raises
        TableNotFound, TableDamaged.
        """
        comparison, other = self._comparison(version)
        title = f"{other.recipe}, version {other.version} → {self.version}"
        return diff_of(comparison, title)

    def _comparison(self, version: int | None) -> tuple[VersionComparison, VersionRecord]:
        """The comparison with another version of the recipe, by default the previous one, and that
        version. Raises as `diff`."""
        services, record = self._services, self._record
        lookup = services.lookup
        lookup.check_visible(record)
        other = lookup.version_to_compare(self._version, version)
        skipped_rows = self._equal_first_rows(other.record)

        def query(statement: str) -> Any:
            with lookup.translate_missing(record, other.record):
                pair = compared_tables(services.result_kind, record, other.record, skipped_rows)
                return services.statements.query(statement, record.tenant, [pair])

        return VersionComparison(record, other.record, query, skipped_rows), other.version

    def _equal_first_rows(self, old: TableRecord) -> int:
        """The number of rows at the beginning of both files that are equal by the digests of their
        row groups."""
        columns = common_columns(self._record, old)
        current, former = map(self._services.read_manifest, (self._record, old))
        footer = read_footer(self._services.results.require_intact(self._record))
        hides_row_number = ROW_NUMBER in map(fold, columns)
        if current is None or former is None or footer is None or hides_row_number:
            return 0
        groups = equal_row_groups(current.leaves, former.leaves, [*columns])
        return sum(footer.row_group(group).num_rows for group in range(groups))

    def _show_first_rows(self, n: int) -> None:
        """Show the first `n` rows below the properties, as read now; none of a table that cannot be
        read."""
        with (
            contextlib.suppress(JammiError),
            contextlib.closing(self._read()) as rows,
        ):
            rows.limit = n
            self._first_rows = rows._content()

    def __len__(self) -> int:
        """The number of rows. InvalidArgument of a version that has none, as after a failed run."""
        if self.row_count is None:
            raise InvalidArgument(
                f"{self.name!r} has no rows: version {self.version} is not ready."
            )
        return self.row_count

    def __bool__(self) -> bool:
        return True

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.read().__arrow_c_stream__(requested_schema)

    def _stamp(self) -> Stamp | None:
        try:
            stamp = self._services.tables.stamp_all([self._table_version])
            manifest = self.manifest
        except JammiError:  # of a closed workspace
            return None
        if stamp is None or manifest is None:
            return stamp
        params = decode_params(manifest.descriptor.get("params") or {})
        digests = {name: value_digest(value) for name, value in params.items()}
        return stamp.with_values(params=digests)

    def _repr_mimebundle_(
        self, form: Rendered | None = None, **_: Any
    ) -> tuple[dict[str, str], dict[str, Any]]:
        data = (form or self._rendered()).data
        stamp, stamps = self._stamp(), self._services.badges.stamps
        return data, {} if stamp is None or stamps is None else stamps.metadata(stamp, data)

    def _rendered(self) -> Rendered:
        record = self._record
        state = self.outcome if self.status == "ready" else self.status
        title = f"{self.name}, version {self.version}"
        with contextlib.suppress(JammiError):  # the workspace may be closed
            newest = self._services.catalog.result_tables.newest_of_owner(self.tenant, self.name)
            if newest is not None and newest[0].version > self.version:
                title += f" of {newest[0].version}"
        title += f": {state}" if state else ""
        note = str(self._reuse) if self._reuse else record.error or ""
        columns = [f"{c.name} {shown_type(c.type)}" for c in record.columns[:_MAX_SHOWN_COLUMNS]]
        if (hidden := len(record.columns) - len(columns)) > 0:
            columns.append(f"and {hidden:,} more")
        holds = "" if record.row_count is None else count_noun(record.row_count, "row")
        if holds and record.bytes is not None:
            holds += f", {format_bytes(record.bytes)}"
        origin = [
            ("key", ", ".join(record.key)),
            ("made from", ", ".join(each.label for each in self.inputs)),
        ]
        if self._first_rows:  # they tell the rest
            line = [title, holds, *(f"{name} {value}" for name, value in origin if value)]
            return vstack(form(" · ".join(line), notes=[note]), self._first_rows)
        facts = [("kind", self.kind), ("holds", holds), ("columns", ", ".join(columns)), *origin]
        return form(title, facts=facts, notes=[note])


class ResultTables(list[ResultTable], ReprMixin):
    """A list of versions, displayed with one line each."""

    __repr__ = ReprMixin.__repr__
    if not TYPE_CHECKING:
        __getitem__ = answer_name_in_list

    def _rendered(self) -> Rendered:
        if not self:
            create = reprs.materialize_command()
            return plain_text(f"No result tables yet: {create} creates one.")
        lines = [
            (
                t.name,
                t.version,
                t.kind,
                t.status,
                reprs.format_row_count(t._record.row_count),
                format_bytes(t.bytes),
            )
            for t in self
        ]
        return listing_table(
            ["name", "version", "kind", "status", "rows", "size"],
            lines,
            aligned="lrllrr",
            note=count_noun(len(lines), "result table"),
        )


class VersionHistory(ResultTables):
    """The versions of a table, newest first, with the time at which each was completed and what it
    changed in the rows of the ready one before."""

    def __init__(self, name: str, versions: Iterable[ResultTable]) -> None:
        super().__init__(versions)
        self.name = name

    def former(self, table: ResultTable) -> ResultTable | None:
        """The newest ready version before this one."""
        earlier = (t for t in self if t.version < table.version and t.status == "ready")
        return next(earlier, None)

    @functools.cached_property
    def changes(self) -> dict[int, str]:
        """What the newest versions changed, by version: `price: 3 of 200,000 rows`. Empty for a
        version whose difference is not known, as of large tables."""
        return {
            new.version: new._services.row_comparison.describe_changes(new._record, old._record)
            for new in [*self][:MAX_COMPARED_VERSIONS]
            if (old := self.former(new))
        }

    def notes(self, table: ResultTable) -> list[str]:
        """Whether a version is pinned, was rejected or has the rows of an earlier one, as after
        `restore`, and the note of its pin."""
        same = [t.version for t in self if t.table_name == table.table_name]
        words = [
            "pinned" if table.pinned else "",
            "rejected" if table.status == "rejected" else "",
            f"rows of version {same[-1]}" if same[-1] < table.version else "",
            table.note or "",
        ]
        return [word for word in words if word]

    def _rendered(self) -> Rendered:
        rows = [
            (
                t.version,
                reprs.format_row_count(t._record.row_count) or None,
                format_bytes(t.bytes),
                ", ".join(self.notes(t)),
                completion_time(t),
                self.changes.get(t.version, ""),
            )
            for t in self
        ]
        return listing_table(
            ["version", "rows", "size", "note", "completed (UTC)", "changed"],
            rows,
            aligned="rrllll",
            optional=["note"],
            caption=self.name,
            note="; ".join([count_noun(len(self), "version"), *self._command_note()]),
        )

    def _repr_mimebundle_(self, **_: Any) -> Any:
        newest = next((t for t in self if t.status == "ready"), None)
        return newest and newest._repr_mimebundle_(self._rendered())

    def _command_note(self) -> list[str]:
        """How to see the rows in which the newest ready version and the one before differ."""
        new = next((t for t in self if t.status == "ready" and self.former(t)), None)
        if new is None or (old := self.former(new)) is None:
            return []
        cell = command_line("%jammi", "diff", self.name, f"{old.version}", f"{new.version}")
        python = f"ws.table({self.name!r}, {new.version}).diff({old.version})"
        return [f"{cell_or_python(cell, python)} shows the rows that changed"]


def completion_time(table: ResultTable) -> str:
    """When a version was completed, in seconds of UTC."""
    return moment_text(table.completed_at or "")


def moment_text(time: str) -> str:
    """An RFC 3339 time for display, in seconds."""
    return time[:19].replace("T", " ")


def _shown_path(location: StoragePath) -> Path | Any:
    return location if isinstance(location, Path) else str(location)


def _dataset(location: StoragePath) -> Any:
    """A file as a pyarrow Dataset; of an object store through its filesystem."""
    with import_modules():
        import pyarrow.dataset as ds

    if isinstance(location, RemotePath):
        return ds.dataset(location.key, filesystem=location.fs, format="parquet")
    return ds.dataset(str(location), format="parquet")
