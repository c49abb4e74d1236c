"""Connector for files: a file, glob or folder, local or on an object store, or one file over
http."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from jammi_lab.core.anchors import Cost, Observed, Snapshot, Unknown, source_input
from jammi_lab.core.errors import JammiError, SchemaMismatch, SourceUnavailable
from jammi_lab.sources import read_errors, scratch_duckdb
from jammi_lab.sources.base import (
    ObservationContext,
    PartOfFiles,
    ReadPlan,
    Relation,
)
from jammi_lab.sources.credentials import resolve_credentials
from jammi_lab.sources.files import arrow_ipc, file_checks, parquet_schemas, snapshots
from jammi_lab.sources.files.decisions import Decision, decision_for
from jammi_lab.sources.files.file_sets import FileSet, LocalFileSet, SourceFile
from jammi_lab.sources.files.remote_files import file_set_for
from jammi_lab.sources.located_connector import LocatedConnector, SourceGone
from jammi_lab.sources.locations import check_readable_files, scheme_of
from jammi_lab.sources.secrets import Credentials as Secret

_MAX_ATTEMPTS = 3
_PREVIEW_ROWS = 1000


class FileConnector(LocatedConnector):
    """A registered source of files."""

    faults: tuple[type[JammiError], ...] = ()
    """Errors about rows that cannot be read whose reason is in the bytes: these have just been
    digested, so a change is detected although no row can be read."""

    @functools.cached_property
    def file_set(self) -> FileSet:
        """The file set. Raises ExtensionMissing, SecretMissing."""
        if scheme_of(self.pattern) is None:
            return LocalFileSet(self.pattern, self.record.options.get("files"))
        access = resolve_credentials(self.record, self.context.credentials)
        trusts_marks = self.record.anchor != "content"
        return file_set_for(self.pattern, access, trusts_marks=trusts_marks)

    def check(self) -> None:
        """Check that the files exist and their first rows can be read.

        Raises SourceUnavailable, and InvalidArgument for files of the workspace itself or an anchor
        on a missing column.
        """
        relation = self.relation(None)
        try:
            scratch_duckdb.preview(relation, _PREVIEW_ROWS)
        except duckdb.Error as error:
            raise self._read_error(str(error), self._list_files()) from None
        self._check_anchor_column(relation.columns or {})

    def relation(self, table: str | None) -> Relation:
        """The relation of all rows.

        Raises SourceUnavailable, TableNotFound if `table` is not None, and InvalidArgument for
        files of the workspace itself.
        """
        self._check_single_table(table)
        source_files = self._list_files()
        try:
            return self._relation(source_files)
        except OSError as error:
            raise read_errors.unreadable_error(self._error_location(error), error) from None
        except SchemaMismatch as error:
            raise SourceUnavailable(error.message, hint=error.hint) from None
        except duckdb.Error as error:
            raise self._read_error(str(error), source_files) from None

    def notes(self) -> list[str]:
        """What had to be decided to read the files, one sentence each. Raises as `relation`."""
        return list(self._decision(self._list_files()).notes)

    def _decision(self, source_files: Sequence[SourceFile]) -> Decision:
        """How these files are read, decided once per state of the files."""
        return decision_for(
            self.record, source_files, self.context.memo, lambda: self._decide(source_files)
        )

    def _decide(self, source_files: Sequence[SourceFile]) -> Decision:
        """How these files are read, by a look at all footers. Raises duckdb.Error, OSError."""
        if self.kind != "parquet":
            return Decision(self._relation(list(source_files)).columns or {})
        notes: list[str] = []
        if source_files[0].relative:
            schemas = parquet_schemas.schemas_of(source_files)
            options = self.record.options
            notes = parquet_schemas.check_common_types(source_files, schemas, options)
        return Decision(scratch_duckdb.describe(self._parquet_relation(source_files)), tuple(notes))

    def _observe(self, table: str | None, ctx: ObservationContext) -> Observed:
        """The state of the files. Raises as `LocatedConnector`."""
        self._check_single_table(table)
        is_by_content = self.anchor_column is None
        observe_files = self._observe_content if is_by_content else self._observe_column
        for _ in range(_MAX_ATTEMPTS):
            try:
                source_files = self.file_set.list_files(self.kind)
            except (FileNotFoundError, NotADirectoryError):
                raise SourceGone from None
            except OSError as error:
                self._reject_credentials(error)
                raise
            try:
                observed = observe_files(source_files, ctx)
                if (
                    isinstance(observed, Unknown)
                    or observed.cost is Cost.FREE
                    or self.file_set.list_files(self.kind) == source_files
                ):
                    is_free = isinstance(observed, Snapshot) and observed.cost is Cost.FREE
                    if is_free and not self.file_set.is_local:
                        return observed.with_values(cost=Cost.METADATA)
                    return observed
            except FileNotFoundError:
                continue  # one of several files was deleted during the read: list them again
            except duckdb.Error as error:
                raise self._read_error(str(error), source_files) from None
            except pa.ArrowException:
                format_name = "Arrow or Feather" if self.kind == "arrow" else "Parquet"
                problem = f"not a complete {format_name} file"
                raise read_errors.file_error(problem, self.location) from None
        return Unknown("its files change while they are observed")

    def _list_files(self) -> list[SourceFile]:
        try:
            source_files = self.file_set.list_files(self.kind)
        except (FileNotFoundError, NotADirectoryError) as error:
            is_listed = "files" in self.record.options
            raise read_errors.missing_error(
                str(error.filename) if is_listed else self.pattern
            ) from None
        except OSError as error:
            raise read_errors.unreadable_error(self._error_location(error), error) from None
        self._check_readable(source_files)
        return source_files

    def _error_location(self, error: OSError) -> str:
        """The file or location of an error, for display; also drops a rejected credential."""
        self._reject_credentials(error)
        return str(error.filename) if error.filename and self.file_set.is_local else self.location

    def _reject_credentials(self, error: OSError) -> None:
        if (
            isinstance(error, PermissionError)
            and isinstance(self.context.credentials, Secret)
            and not self.file_set.is_local
        ):
            self.context.credentials.reject()

    def _check_readable(self, source_files: list[SourceFile]) -> None:
        if self.file_set.is_local:
            check_readable_files([source_file.path for source_file in source_files], self.folder)

    def _relation(self, source_files: list[SourceFile]) -> Relation:
        if self.kind == "parquet":
            return self._parquet_relation(source_files, self._decision(source_files).columns)
        try:
            rows = arrow_ipc.read_tables(source_files)
            file_checks.check_column_count(self.location, rows.num_columns)
        except pa.ArrowException:
            damaged = self._first_damaged(source_files, arrow_ipc.read_table)
            raise read_errors.file_error("not a complete Arrow or Feather file", damaged) from None
        return Relation(
            source_input(self.record.name),
            ReadPlan(frame=rows),
            columns=scratch_duckdb.sql_types(rows.schema),
        )

    def _parquet_relation(
        self, source_files: Sequence[SourceFile], columns: Mapping[str, str] | None = None
    ) -> Relation:
        schemas = parquet_schemas.schemas_of(source_files)
        access = self.file_set.read_access(source_files)
        all_files = list(zip(source_files, access.addresses, schemas, strict=True))
        is_uniform = parquet_schemas.is_uniform(source_files, schemas)

        def select_files(relative_paths: Collection[str]) -> PartOfFiles:
            chosen = set(relative_paths)
            files = [file for file in all_files if file[0].relative in chosen]
            body = parquet_schemas.build_select(*zip(*files, strict=True))
            return PartOfFiles(body, columns if is_uniform else None)

        return Relation(
            source_input(self.record.name),
            ReadPlan(
                body=parquet_schemas.build_select(source_files, access.addresses, schemas),
                part_of_files=select_files,
                local_bytes=self._local_bytes(source_files),
            ),
            requirements=access.requirements,
            columns=columns,
            explain=self._explain,
        )

    def _local_bytes(self, source_files: Sequence[SourceFile]) -> int | None:
        if not self.file_set.is_local:
            return None
        return sum(source_file.stat.size for source_file in source_files)

    def _observe_content(
        self, source_files: list[SourceFile], ctx: ObservationContext
    ) -> Snapshot | Unknown:
        force = self.record.anchor == "content"
        if not force and (store_payloads := snapshots.store_payloads(source_files)) is not None:
            return self._snapshot(
                source_files,
                list(zip(source_files, store_payloads, strict=True)),
                ctx,
                was_read=False,
            )
        cached = [
            snapshots.cached_payload(source_file, self.kind, ctx, force)
            for source_file in source_files
        ]
        files = list(zip(source_files, cached, strict=True))
        unread = [source_file for source_file, payload in files if payload is None]
        unread_bytes = sum(source_file.stat.size for source_file in unread)
        if (refused := ctx.refuse_scan(unread_bytes)) is not None:
            return refused
        self._check_readable(unread)
        payloads = [
            (source_file, payload or snapshots.read_payload(source_file, self.kind, ctx))
            for source_file, payload in files
        ]
        return self._snapshot(source_files, payloads, ctx, was_read=bool(unread))

    def _snapshot(
        self,
        source_files: list[SourceFile],
        files: snapshots.Files,
        ctx: ObservationContext,
        *,
        was_read: bool,
    ) -> Snapshot:
        digest = snapshots.whole_digest(self.kind, self.record.options, files)
        try:
            columns, described = snapshots.describe_cached(
                self.record, digest, ctx, lambda: dict(self._decision(source_files).columns)
            )
        except self.faults as error:
            return snapshots.unreadable_snapshot(digest, files, error.message.rstrip("."))
        cost = Cost.SCAN if was_read else Cost.METADATA if described else Cost.FREE
        states = (
            snapshots.file_states(self.kind, self.record.options, files)
            if self.file_set.is_local
            else None
        )
        return snapshots.snapshot(digest, files, columns, cost, states)

    def _observe_column(
        self, source_files: list[SourceFile], ctx: ObservationContext
    ) -> Snapshot | Unknown:
        def read() -> tuple[dict[str, str], Sequence[Any]]:
            self._check_readable(source_files)  # a link may have changed since it was added
            relation = self._relation(source_files)
            columns = dict(relation.columns or {})
            select = self._select_largest(columns, "it")
            [found] = scratch_duckdb.query(relation, select, uses_all_threads=True)
            return columns, found

        return self._observe_largest(
            ctx,
            snapshots.change_token(source_files),
            lambda at_ns: all(file.is_proved(at_ns, ctx.racy_seconds) for file in source_files),
            read,
            Cost.METADATA if self.kind == "parquet" else Cost.SCAN,
        )

    def _first_damaged(
        self, source_files: list[SourceFile], read: Callable[[SourceFile], object]
    ) -> str:
        for source_file in source_files:
            try:
                read(source_file)
            except (pa.ArrowException, duckdb.Error):
                return os.path.basename(source_file.path)
        return self.location

    def _read_error(self, text: str, source_files: list[SourceFile]) -> JammiError:
        """The error for a DuckDB message. Finds the first damaged file of several."""
        if self.kind == "parquet" and read_errors.is_damage(text):
            damaged = self._first_damaged(
                source_files,
                lambda source_file: scratch_duckdb.preview(
                    self._relation([source_file]), _PREVIEW_ROWS
                ),
            )
            return read_errors.file_error("its rows are damaged", damaged)
        return read_errors.read_error(text) or read_errors.unexplained_error(self.location, text)

    def _explain(self, text: str) -> JammiError | None:
        """The error for a DuckDB message about a server that does not respond; None for any other
        message."""
        return None if self.file_set.is_local else read_errors.remote_error(self.location, text)
