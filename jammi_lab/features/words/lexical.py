"""The producer `lexical`: the terms of the texts of a table. Texts that an earlier version has the
terms of are not analysed again."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import Observed
from jammi_lab.core.definitions import TEXT_DIGEST_COLUMN, LexicalDescriptor
from jammi_lab.core.errors import SqlError
from jammi_lab.core.manifest import Manifest
from jammi_lab.core.records import OnProgress, Progress, Reuse, TableKind
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.engine.prepared_statement import PreparedStatement
from jammi_lab.features.words.analyzers import OUTPUT_VERSION as ANALYSIS_VERSION
from jammi_lab.features.words.analyzers import check_analyzer
from jammi_lab.features.words.documents import SCHEMA, analyze_texts
from jammi_lab.steps.checkpoint import DIGEST_BYTES, to_column, to_digests
from jammi_lab.steps.from_clause import from_text
from jammi_lab.steps.jobs import Job, RunningJob, TableRows, statement_job
from jammi_lab.steps.previous_versions import ReusableVersion, find_previous_version
from jammi_lab.steps.sql import environment as sql_environment
from jammi_lab.steps.text_batches import RowTexts, count_reuse, sorted_keys
from jammi_lab.steps.text_statement import (
    check_text_columns,
    missing_column_error,
    text_columns_of,
    text_statement,
)
from jammi_lab.storage.files import StoragePath, open_for_reading
from jammi_lab.storage.parquet import open_parquet
from jammi_lab.storage.vector_arrays import find_rows, to_arrow_rows
from jammi_lab.store import read_leases
from jammi_lab.store.result_files import ResultFiles

OUTPUT_VERSION = 2
"""Increment when equal terms would give other rows than before."""
BATCH_ROWS = 8192
"""Texts analysed at a time."""


class LexicalProducer:
    """Binds texts to analyzers."""

    def __init__(
        self, engine: Engine, scope: TenantScope, catalog: Catalog, results: ResultFiles
    ) -> None:
        self._engine, self._scope, self._catalog, self._results = engine, scope, catalog, results

    def job(
        self,
        name: str,
        source: str,
        key: str,
        text: Sequence[str],
        analyzer: str,
        where: str | None = None,
        *,
        ignore_previous: bool = False,
    ) -> Job:
        """The job of the terms of a source, table or SQL statement, for the recipe `name`.

        Raises InvalidArgument, TableNotFound, SchemaMismatch, and what binding SQL raises.
        """
        check_text_columns(key, text, "a lexical table")
        tenant = self._scope.current
        from_sql = from_text(self._engine, tenant, source, purpose="to search")
        descriptor = (source, key, list(text), check_analyzer(analyzer))
        statement = text_statement(from_sql, key, text, where)
        try:
            return self._bind(name, statement, *descriptor, (), ignore_previous=ignore_previous)
        except SqlError as error:
            raise (
                missing_column_error(self._engine, tenant, source, from_sql, key, text, ()) or error
            ) from None

    def from_descriptor(
        self, name: str, descriptor: LexicalDescriptor, resolvers: Sequence[NameResolver] = ()
    ) -> Job:
        """The job of a recorded definition over the current inputs. Raises what binding raises."""
        recorded = (descriptor.asked, descriptor.key, descriptor.text, descriptor.analyzer)
        return self._bind(name, descriptor.statement, *recorded, resolvers)

    def environment(self) -> dict[str, Any]:
        """Everything besides the descriptor that shapes the rows."""
        return {
            "revision": OUTPUT_VERSION,
            "analysis": ANALYSIS_VERSION,
            "select": sql_environment(self._engine),
        }

    def _previous_version(self, name: str, analyzer: str) -> ReusableVersion:
        """The version whose rows can be taken over."""
        environment = self.environment()

        def is_reusable(manifest: Manifest) -> bool:
            return manifest.descriptor.get("analyzer") == analyzer and all(
                manifest.environment.get(field) == environment[field]
                for field in ("revision", "analysis")
            )

        return find_previous_version(
            self._catalog, self._results, name, TableKind.LEXICAL, is_reusable
        )

    def _bind(
        self,
        name: str,
        statement: str,
        source: str,
        key: str,
        text: list[str],
        analyzer: str,
        resolvers: Sequence[NameResolver],
        *,
        ignore_previous: bool = False,
    ) -> Job:
        [prepared] = self._engine.prepare(
            statement, tenant=self._scope.current, extra_resolvers=resolvers
        )
        descriptor = LexicalDescriptor(
            statement=statement,
            canonical=prepared.canonical(),
            asked=source,
            key=key,
            text=text,
            analyzer=analyzer,
        )
        text_columns = text_columns_of(prepared, key, text)

        def rows(on_progress: OnProgress | None) -> RunningJob:
            previous = (
                ReusableVersion() if ignore_previous else self._previous_version(name, analyzer)
            )
            run = _LexicalRun(prepared, text_columns, analyzer, name, key, previous.path)
            run.run(on_progress)
            return RunningJob(
                run,
                run.reuse,
                snapshots=run.snapshots,
                counts=run.reuse.counts,
                damaged_versions=previous.damaged,
            )

        return statement_job(
            descriptor,
            self.environment(),
            prepared,
            rows,
            rebind=lambda: self._bind(
                name,
                statement,
                source,
                key,
                text,
                analyzer,
                resolvers,
                ignore_previous=ignore_previous,
            ),
            key=["key"],
            columns={"key": prepared.output[0][1]}
            | {"terms": "VARCHAR", "length": "INTEGER", TEXT_DIGEST_COLUMN: "BLOB"},
        )


class _LexicalRun(TableRows):
    """The rows of one run, in key order: those of known texts from the previous version, the others
    analysed. Columns: key, terms, length and text digest."""

    def __init__(
        self,
        prepared: PreparedStatement,
        text_columns: Sequence[int],
        analyzer: str,
        name: str,
        key: str,
        previous: StoragePath | None,
    ) -> None:
        """`text_columns`: the output columns to join as text; output column 0 is the key."""
        self._prepared, self._text_columns, self._analyzer = prepared, text_columns, analyzer
        self._name, self._key, self._previous_path = name, key, previous
        super().__init__()
        self.reuse = Reuse(new=0, changed=0, removed=0, unchanged=0)
        self.snapshots: dict[tuple[str, str, str], Observed] = {}

    def run(self, on_progress: OnProgress | None) -> None:
        """Analyse all texts that the previous version does not have."""
        input_table = self._prepared.run_by_key(self.snapshots).table()
        keys = sorted_keys(input_table.column(0), self._key)
        texts = RowTexts([input_table.column(column) for column in self._text_columns])
        del input_table
        previous = self._read_previous()
        previous_digests = previous[TEXT_DIGEST_COLUMN].combine_chunks()
        sources = find_rows(to_column(texts.digests), previous_digests)
        todo = np.flatnonzero(sources < 0)
        parts = [previous.select(SCHEMA.names).cast(SCHEMA)]
        for start in range(0, len(todo), BATCH_ROWS):
            block = todo[start : start + BATCH_ROWS]
            part = analyze_texts(texts.texts_of(block), self._analyzer)
            parts.append(pa.Table.from_batches([part]))
            if on_progress:
                stage, done = f"words of {self._name}", start + len(block)
                on_progress(Progress(stage=stage, done=done, total=len(todo), unit="texts"))
        sources[todo] = len(previous) + np.arange(len(todo))
        documents = pa.concat_tables(parts).take(to_arrow_rows(sources))
        columns = {name: documents[name] for name in SCHEMA.names}
        digest_column = to_column(texts.digests)
        self._table = pa.table({"key": keys, **columns, TEXT_DIGEST_COLUMN: digest_column})
        self.reuse = count_reuse(
            keys, texts.digests, previous["key"].combine_chunks(), to_digests(previous_digests)
        )

    def _read_previous(self) -> pa.Table:
        """The rows of the previous version; none where it is gone."""
        names = ["key", *SCHEMA.names, TEXT_DIGEST_COLUMN]
        digests = (TEXT_DIGEST_COLUMN, pa.binary(DIGEST_BYTES))
        schema = pa.schema([("key", pa.null()), *SCHEMA, digests])
        # `empty_table` would import pandas
        empty = pa.table([pa.nulls(0, field.type) for field in schema], schema=schema)
        if self._previous_path is None:
            return empty
        release = read_leases.acquire_lease(self._previous_path)
        try:
            with open_for_reading(self._previous_path) as raw, open_parquet(raw) as file:
                table = file.read(names, use_threads=False)
        except FileNotFoundError:
            return empty
        finally:
            release()
        return table
