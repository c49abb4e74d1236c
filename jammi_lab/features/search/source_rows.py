"""The source rows behind an embedding table: the columns that hits are shown with, as they are
now."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jammi_lab.core.anchors import Anchor, Input, Snapshot, result_input
from jammi_lab.core.errors import (
    JammiError,
    SchemaMismatch,
    SourceUnavailable,
    SqlError,
    TableNotFound,
)
from jammi_lab.core.identifiers import find_name, fold, near_or_all, quote_identifier
from jammi_lab.core.records import TableRecord
from jammi_lab.engine.sql.tokens import check_expression
from jammi_lab.features.search.context import SearchContext
from jammi_lab.features.search.hits import HIT_TYPES, VECTOR_HIT_COLUMNS, SearchAnswer
from jammi_lab.features.search.queries import SearchRequest
from jammi_lab.inputs.source_names import InlineRows
from jammi_lab.sources.base import InputRead, Relation

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from jammi_lab.catalog.result_tables import ResultTableRepository
    from jammi_lab.engine.prepared_statement import PreparedStatement
    from jammi_lab.features.vectors.matrix import KeyedRows

_KEY_COLUMN = "__jammi_key"
_INTEGER_TYPES = {
    f"{sign}{name}"
    for sign in ("", "U")
    for name in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
}
_COMPARABLE_TYPES = (
    _INTEGER_TYPES | {"DECIMAL", "FLOAT", "DOUBLE"},
    {
        "DATE",
        "TIMESTAMP",
        "TIMESTAMP_S",
        "TIMESTAMP_MS",
        "TIMESTAMP_NS",
        "TIMESTAMP WITH TIME ZONE",
    },
)
"""Types of keys that compare with each other."""


def origin_of(
    record: TableRecord,
    tables: "ResultTableRepository",
    is_derived: Callable[[TableRecord], bool],
) -> TableRecord:
    """The table from whose vectors those of a table were derived, in the version that was read,
    through derived tables; the last one when the version that it read is gone."""
    seen = set[str]()
    while is_derived(record) and record.table_name not in seen:
        seen.add(record.table_name)
        vector_anchors = []
        for a in record.anchors:
            if a.input.kind_class.is_result and a.columns == ("key", "vector"):
                vector_anchors.append(a)
        versions = [
            tables.version(a.input.name, a.version) for a in vector_anchors if a.version is not None
        ]
        record = next((v[1] for v in versions if v is not None), None) or next(
            (r for a in vector_anchors if (r := tables.get(a.input.name))), record
        )
    return record


class SourceRows:
    """The rows of the source that an embedding table was made from, else the table's own rows."""

    def __init__(self, context: SearchContext, record: TableRecord) -> None:
        self.context, self.record = context, record
        self.descriptor: Mapping[str, Any] = context.descriptor(record)
        self._origin = origin_of(record, context.tables, lambda each: each.recipe_class.keeps_rows)
        self._origin_descriptor = (
            self.descriptor if self._origin is record else context.descriptor(self._origin)
        )
        self._is_embedded = (
            self._origin.recipe_class.has_texts and "statement" in self._origin_descriptor
        )
        self._imported_from: str | None = (
            self._origin_descriptor.get("source")
            if self._origin.recipe_class.resupply_hint
            else None
        )
        self._reads_own_table = not self._is_embedded and self._imported_from is None
        self._key = "key" if self._reads_own_table else str(self._origin_descriptor["key"])

    @functools.cached_property
    def address(self) -> str:
        """The text in FROM. TableNotFound; SourceUnavailable."""
        if self._reads_own_table:
            return f"jammi.{quote_identifier(self.record.table_name)}"
        from jammi_lab.steps.text_statement import recorded_from_text

        if self._is_embedded:
            return recorded_from_text(self._origin_descriptor)
        source = str(self._imported_from)
        if (
            len(self._origin.anchors) == 1
            and (plain := _plain_address(self._origin.anchors[0].input, source)) is not None
        ):
            return plain
        return self.context.source_address(source)

    @property
    def key_column(self) -> str:
        """The column of the source rows that holds the keys, as the source spells it."""
        return self._column_name(self._key)

    @functools.cached_property
    def columns(self) -> dict[str, str]:
        """The columns of the source rows: name and SQL type, in their order."""
        return dict(self._prepare(f"SELECT * FROM {self.address}").output)

    def select_columns(
        self, select: Sequence[str], reserved_names: Sequence[str] = VECTOR_HIT_COLUMNS
    ) -> list[str]:
        """The columns to add, as the source spells them. SchemaMismatch for one that is not there
        or whose name every answer has."""
        key_names = {fold(self._key)} & {"key"}
        requested = [column for column in select if fold(str(column)) not in key_names]
        if reserved := [column for column in requested if fold(str(column)) in reserved_names]:
            raise SchemaMismatch(
                f"{reserved[0]!r} is a column of every search result and cannot be selected.",
                column=reserved[0],
                hint="Join the result with the source in SQL, and rename the source's column.",
            )
        return list(dict.fromkeys(self._column_name(column) for column in requested))

    def matching_keys(self, where: str, params: Mapping[str, Any] | None) -> "pa.ChunkedArray":
        """Keys of the table whose source rows satisfy a condition; `key` means the key column where
        no column has that name. Raises as binding does."""
        condition, key = check_expression(where), self.key_column
        quoted = quote_identifier(key)
        alias = f", {quoted} AS key"
        if any(fold(column) == "key" for column in self.columns):
            alias = ""
        text = f"SELECT {quoted} FROM (SELECT *{alias} FROM {self.address}) WHERE (\n{condition}\n)"
        rows = self._prepare(text, params=params).run().table()
        kind = self.columns[key]
        if kind == self.key_type and kind not in ("FLOAT", "DOUBLE"):
            return rows.column(0)
        return self._equal_keys(rows, kind)

    def matching_mask(
        self, request: SearchRequest, rows: "KeyedRows"
    ) -> "NDArray[np.bool_] | None":
        """A mask of the rows of the table whose source rows satisfy the condition; None without
        one. Raises as binding does."""
        if request.where is None:
            return None
        return rows.key_mask(self.matching_keys(request.where, request.params))

    def _equal_keys(self, rows: "pa.Table", kind: str) -> "pa.ChunkedArray":
        """The keys of the table that equal those of a column of another type, or of a type with
        NaN."""
        key_sql, source_key_sql = self._comparable_sql(
            f"o.{quote_identifier('key')}", f"s.{quote_identifier(_KEY_COLUMN)}", kind
        )
        text = (
            f"SELECT o.key FROM jammi.{quote_identifier(self.record.table_name)} o WHERE EXISTS "
            f"(FROM {InlineRows.NAME} s WHERE {key_sql} = {source_key_sql})"
        )
        prepared = self._prepare(text, [InlineRows(rows.rename_columns([_KEY_COLUMN]))])
        return prepared.run().table().column(0)

    def _comparable_sql(self, key_sql: str, source_key_sql: str, kind: str) -> tuple[str, str]:
        """Both sides of an equation of a key with a source key of that type: as text where the
        types do not compare."""
        types = {each.split("(", 1)[0] for each in (kind, self.key_type)}
        if kind == self.key_type or any(types <= family for family in _COMPARABLE_TYPES):
            return key_sql, source_key_sql
        return f"{key_sql}::VARCHAR", f"{source_key_sql}::VARCHAR"

    def answer(self, hits: "pa.Table", columns: Sequence[str], *, filtered: bool) -> SearchAnswer:
        """The hits with columns of their source rows. A hit whose row is gone is marked; rows that
        passed a filter exist."""
        if not columns:
            if (
                self._reads_own_table
                or filtered
                or (self._is_embedded and self._inputs_unchanged())
            ):
                return self._with_missing_flag(hits, missing=False)
            if not self._key_is_readable():
                return self._with_missing_flag(hits, missing=True)
        return self.join_with_source(hits, columns)

    def inputs(self) -> list[InputRead]:
        """The inputs that decide whether source rows exist, as recorded when the vectors were made:
        of a named table the key column, else all that was read."""
        if self._reads_own_table:
            return []
        anchors = [a for a in self._origin.anchors if a.pinned and a.input.kind_class.has_rows]
        by_sql = (
            self.address.startswith("(")
            if self._is_embedded
            else any(c.isspace() for c in str(self._imported_from))
        )
        plain = len(anchors) == 1 and not by_sql
        reads = []
        for anchor in anchors:
            key = [c for c in anchor.columns if fold(c) == fold(self._key)]
            columns = tuple(key) if plain and key else anchor.columns
            source = Input(kind=anchor.input.kind, name=anchor.input.name, table=anchor.input.table)
            types = dict(zip(anchor.columns, anchor.types, strict=True))
            reads.append(InputRead(Relation(source), columns, types))
        return reads

    def _inputs_unchanged(self) -> bool:
        """Whether the inputs are as they were when the vectors were made: then every row that was
        embedded exists. Nothing is read for it."""
        anchors = self._origin.anchors
        if not anchors or not all(a.pinned for a in anchors):
            return False
        observation, tenant = self.context.observe(False), self.context.scope.current
        try:
            return all(_is_unchanged(a, observation.observe(a.input, tenant)) for a in anchors)
        finally:
            observation.close()

    def _key_is_readable(self) -> bool:
        """Whether the key column can be read at all."""
        try:
            self._prepare(f"SELECT {quote_identifier(self._key)} FROM {self.address}")
        except (TableNotFound, SourceUnavailable, SqlError):
            return False
        return True

    def _with_missing_flag(self, hits: "pa.Table", *, missing: bool) -> SearchAnswer:
        """The hits with one value of `source_missing` for all of them."""
        from jammi_lab.storage.vector_arrays import boolean_array

        table = hits.append_column("source_missing", boolean_array(missing, len(hits)))
        types = {**HIT_TYPES, "key": self.key_type}
        return SearchAnswer(table, [types[name] for name in table.column_names], [self.own_input])

    def join_with_source(self, hits: "pa.Table", columns: Sequence[str]) -> SearchAnswer:
        """The hits joined with their source rows by a statement."""
        prepared = self._join_statement(hits, columns)
        table = self.context.start(prepared).table()
        read = [
            b.relation.input.with_values(columns=b.columns)
            for b in prepared.inputs
            if b.relation.input.name != InlineRows.NAME
        ]
        return SearchAnswer(table, [kind for _, kind in prepared.output], [self.own_input, *read])

    def _join_statement(self, hits: "pa.Table", columns: Sequence[str]) -> "PreparedStatement":
        """The statement that joins hits with their rows."""
        order_columns = [name for name in ("query", "rank") if name in hits.column_names]
        order_sql = ", ".join(f"h.{name}" for name in order_columns)
        hit_columns = ", ".join(f"h.{quote_identifier(name)}" for name in hits.column_names)
        selected = "".join(f", s.{quote_identifier(c)}" for c in columns)
        key = self._column_name(self._key)
        key_sql, source_key_sql = self._comparable_sql(
            f"h.{quote_identifier('key')}", f"s.{quote_identifier(_KEY_COLUMN)}", self.columns[key]
        )
        inner = "".join(f", {quote_identifier(c)}" for c in columns)
        # DISTINCT: a key that occurs twice in the source by now is still one hit.
        text = (
            f"SELECT DISTINCT ON ({order_sql}) {hit_columns}{selected}, "
            f"s.{quote_identifier(_KEY_COLUMN)} IS NULL AS source_missing "
            f"FROM {InlineRows.NAME} h LEFT JOIN (SELECT {quote_identifier(key)} AS "
            f"{quote_identifier(_KEY_COLUMN)}{inner} FROM {self.address}) s "
            f"ON {key_sql} = {source_key_sql} ORDER BY {order_sql}{selected}"
        )
        return self._prepare(text, [InlineRows(hits)])

    def _prepare(
        self,
        text: str,
        extra: Sequence[Any] = (),
        *,
        params: Mapping[str, Any] | None = None,
    ) -> "PreparedStatement":
        [prepared] = self.context.engine.prepare(
            text,
            params,
            tenant=self.context.scope.current,
            extra_resolvers=[*extra, self.context.frames],
        )
        return prepared

    @property
    def own_input(self) -> Input:
        """The searched table, with the columns that a search reads."""
        columns = ("key", "terms" if self.record.recipe_class.has_words else "vector")
        return result_input(self.record.recipe, columns=columns)

    @property
    def key_type(self) -> str:
        """The SQL type of the keys."""
        return next((c.type for c in self.record.columns if c.name == "key"), "VARCHAR")

    def _column_name(self, column: str) -> str:
        """A column of the source rows, as the source spells it. SchemaMismatch, with the near name,
        for one that is not there or that is reserved."""
        try:
            columns = self.columns
        except (TableNotFound, SourceUnavailable) as error:
            raise self._with_hint(error) from error
        match = find_name(str(column), columns)
        if match is None:
            raise SchemaMismatch(
                f"The source of {self.record.recipe!r} has no column {column!r}.",
                column=str(column),
                actual=", ".join(columns),
                **near_or_all(str(column), columns),
            )
        return match

    def _with_hint(self, error: JammiError) -> JammiError:
        """The same error with the hint that a search without source columns still works."""
        hint = f"{error.hint} A search without where= and select= still works.".lstrip()
        return type(error)(error.message, hint=hint)


def _is_unchanged(anchor: Anchor, state: object) -> bool:
    """Whether the observed state of an input is the one of an anchor."""
    return isinstance(state, Snapshot) and state.anchor(anchor.input, anchor.columns).same_state(
        anchor
    )


def _plain_address(source: Input, name: str) -> str | None:
    """The text in FROM for the one input of imported vectors when it was named by its bare name. It
    keeps its meaning when another object takes that name."""
    if source.table is not None or fold(source.name) != fold(name):
        return None
    schema = source.kind_class.schema
    quoted = quote_identifier(source.name)
    return f"{schema}.{quoted}" if schema else quoted
