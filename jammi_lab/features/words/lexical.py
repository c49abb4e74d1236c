"""The producer `lexical`: the terms of the texts of a table. Texts that an earlier version has the
terms of are not analysed again."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.definitions import TEXT_DIGEST_COLUMN, LexicalDescriptor
from jammi_lab.core.errors import SqlError
from jammi_lab.core.manifest import Manifest
from jammi_lab.core.records import TableKind
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.features.words.analyzers import OUTPUT_VERSION as ANALYSIS_VERSION
from jammi_lab.features.words.analyzers import check_analyzer
from jammi_lab.features.words.documents import SCHEMA, analyze_texts
from jammi_lab.steps.from_clause import from_text
from jammi_lab.steps.jobs import Job
from jammi_lab.steps.row_texts import TextWork
from jammi_lab.steps.row_wise import OutputParts, RowWise
from jammi_lab.steps.sql import environment as sql_environment
from jammi_lab.steps.text_statement import (
    check_text_columns,
    missing_column_error,
    text_columns_of,
    text_statement,
)
from jammi_lab.storage.vector_arrays import RowNumbers
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
        environment = self.environment()

        def is_reusable(manifest: Manifest) -> bool:
            return manifest.descriptor.get("analyzer") == analyzer and all(
                manifest.environment.get(field) == environment[field]
                for field in ("revision", "analysis")
            )

        rows = RowWise(
            self._catalog,
            self._results,
            name,
            TableKind.LEXICAL,
            descriptor,
            environment,
            prepared,
            text_columns_of(prepared, key, text),
            "key",
            lambda: LexicalWork(analyzer),
            is_reusable,
            ignore_known=ignore_previous,
        )
        return rows.job(
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


class LexicalWork(TextWork):
    """The terms of the texts of one run."""

    stage = "words of"
    done_word = "analysed"

    def __init__(self, analyzer: str) -> None:
        self._analyzer = analyzer
        self._parts = OutputParts()

    def take_over(self, rows: RowNumbers, outputs: pa.Table) -> None:
        """Receive the known terms of some rows."""
        self._parts.add(rows, outputs.select(SCHEMA.names).cast(SCHEMA), is_saved=True)

    def compute(self, rows: RowNumbers, _keys: pa.Array, /) -> Iterator[int]:
        """Analyse the texts of some rows."""
        for start in range(0, len(rows), BATCH_ROWS):
            block = rows[start : start + BATCH_ROWS]
            part = analyze_texts(self._texts.texts_of(block), self._analyzer)
            self._parts.add(block, pa.Table.from_batches([part]), is_saved=False)
            yield len(block)

    def unsaved(self) -> list[tuple[RowNumbers, pa.Table]]:
        """The terms of the texts analysed since the last time, with their rows."""
        return self._parts.take_unsaved()

    def outputs(self, same_row: RowNumbers) -> dict[str, pa.ChunkedArray]:
        """The terms of all rows."""
        tables = [pa.Table.from_batches([], SCHEMA), *self._parts.tables]
        terms = pa.concat_tables(tables).take(self._parts.positions(same_row))
        return {name: terms[name] for name in SCHEMA.names}
