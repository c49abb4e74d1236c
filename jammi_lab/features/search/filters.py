"""`where=` of a search: the keys of the rows whose source rows satisfy a condition.

A condition is evaluated over cached rows while their source is unchanged, else over the source.
"""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from jammi_lab.core.errors import JammiError
from jammi_lab.core.identifiers import fold, quote_identifier
from jammi_lab.engine.sql.allowlist import walk_nodes
from jammi_lab.engine.sql.tokens import check_expression
from jammi_lab.features.search.column_cache import SelectionKey, inputs_of, read_within_limit
from jammi_lab.inputs.source_names import InlineRows

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.engine.engine import Engine
    from jammi_lab.engine.prepared_statement import PreparedStatement
    from jammi_lab.features.search.source_rows import SourceRows

_PREFIX = "SELECT 1 WHERE (\n"
_WILDCARD_NODES = ("STAR", "POSITIONAL_REFERENCE")
"""Expressions that mean columns without naming them."""
BATCH_ROWS = 1 << 14
"""Rows that one thread evaluates at a time."""
_TEXT_TYPES = ("UUID", "JSON")
"""Types that Arrow holds as text without loss."""
NamedColumns = frozenset[str] | None
"""The columns that a condition names, and that of the keys; None when it may mean all of them, in
their order."""


class CachedRows:
    """Source rows in memory, with all columns or some of them. Safe to share between threads."""

    def __init__(
        self, rows: "pa.Table", types: Mapping[str, str], text_columns: Sequence[str]
    ) -> None:
        viewed = _view_texts(rows.combine_chunks())
        batches = viewed.to_batches(max_chunksize=BATCH_ROWS)
        self.provider = InlineRows(viewed.from_batches(batches, viewed.schema))
        self.types, self.nbytes = dict(types), int(rows.nbytes)
        """`types`: SQL types of the columns that memory holds without loss; `nbytes`: bytes
        held."""
        casts = ", ".join(
            f"{quote_identifier(c)}::{types[c]} AS {quote_identifier(c)}" for c in text_columns
        )
        self.address = (
            f"(SELECT * REPLACE ({casts}) FROM {InlineRows.NAME})"
            if text_columns
            else InlineRows.NAME
        )
        """The text for FROM."""
        self.columns: dict[str, str] | None = None
        """Name and SQL type of all columns of the source, when all were read."""

    def covers(self, columns: Mapping[str, str], named: NamedColumns) -> bool:
        """Whether a condition means the same here as over a source with these columns."""
        if named is None:
            return list(self.types.items()) == list(columns.items())
        return all(self.types.get(column) == columns[column] for column in named)


def _view_texts(rows: "pa.Table") -> "pa.Table":
    """The rows with texts as Arrow's string views, which DuckDB reads in a fifth less time."""
    import pyarrow as pa

    types = [pa.string_view() if pa.types.is_string(f.type) else f.type for f in rows.schema]
    fields = [f.with_type(kind) for f, kind in zip(rows.schema, types, strict=True)]
    return rows.cast(pa.schema(fields))


class RowFilter:
    """Evaluates conditions over the source rows of one table. It keeps no state: each call checks
    the state of the source."""

    def __init__(self, rows: "SourceRows") -> None:
        self._rows, self._cache = rows, rows.context.columns
        self._engine: Engine = rows.context.engine
        self._tenant = rows.context.scope.current

    def matching_keys(self, where: str, params: Mapping[str, Any] | None) -> "pa.ChunkedArray":
        """Keys of the table whose source rows satisfy a condition; `key` means the key column where
        no column has that name. Raises as binding does."""
        source, condition = self._rows, check_expression(where)
        # The cache comes first: it knows the columns of a source that was just observed.
        cached = self._find_rows(condition)
        key = source.key_column
        rows = None if cached is None else self._evaluate_cached(cached, condition, params)
        if rows is None:
            [prepared] = self._engine.prepare(
                self._statement_text(condition, source.address), params, tenant=self._tenant
            )
            began = time.perf_counter()
            rows = prepared.run().table()
            self._record_read(condition, time.perf_counter() - began)
        kind = source.columns[key]
        if kind == source.key_type and kind not in ("FLOAT", "DOUBLE"):
            return rows.column(0)
        return source.matching_keys(rows, kind)

    def load(self, where: str) -> None:
        """Cache now, where possible, what later conditions like this one are evaluated over;
        raises nothing."""
        try:
            condition = check_expression(where)
            self._load_soon(condition)
            # Where all columns are too large for the cache, those that are named may not be.
            if self._find_rows(condition) is None:
                self._load_soon(condition)
                self._find_rows(condition)
        except JammiError:
            return  # the search with this condition raises it

    def _statement_text(self, condition: str, address: str) -> str:
        key = self._rows.key_column
        key_alias = (
            ""
            if any(fold(c) == "key" for c in self._rows.columns)
            else f", {quote_identifier(key)} AS key"
        )
        return (
            f"SELECT {quote_identifier(key)} FROM (SELECT *{key_alias} FROM {address}) WHERE "
            f"(\n{condition}\n)"
        )

    def _evaluate_cached(
        self, cached: CachedRows, condition: str, params: Mapping[str, Any] | None
    ) -> "pa.Table | None":
        """The matching keys by the cached rows; None for an error, which the statement over the
        source raises with the position in its own text."""
        try:
            [prepared] = self._engine.prepare(
                self._statement_text(condition, cached.address),
                params,
                tenant=self._tenant,
                extra_resolvers=[cached.provider],
            )
            return prepared.run().table()
        except JammiError:
            return None

    # -- the cache of rows
    # ----------------------------------------------------------------------------------------------

    def _find_rows(self, condition: str) -> CachedRows | None:
        """The cached rows that a condition can be evaluated over, which are read when that is due;
        None when there are none."""
        if InlineRows.NAME in fold(condition):
            return None
        all_columns = self._cache.find(self._key(None))
        cached = self._cached_rows(None)
        if cached is None and (all_columns is None or not all_columns.too_large_state):
            return None
        if cached is not None and cached.columns is not None:
            # The source was just observed: its columns are known without binding it.
            self._rows.columns = cached.columns
        _ = self._rows.key_column  # raises for a key column that is gone
        columns, named = self._rows.columns, self._named_columns(condition)
        if cached is None and named is not None:
            cached = self._cached_rows(named)
        return cached if cached is not None and cached.covers(columns, named) else None

    def _cached_rows(self, named: NamedColumns) -> CachedRows | None:
        """Rows with all columns or the named ones, as they are now."""
        selection, count = self._cache.find(self._key(named)), self._rows.record.row_count or 0
        if selection is None or not selection.should_check(count):
            return None
        began = time.perf_counter()
        state = self._rows.state_of(selection, "rows")
        selection.record_check(time.perf_counter() - began)
        if state is None or state == selection.too_large_state:
            return None
        cached = cast("CachedRows | None", self._cache.loaded.find(state))
        if cached is None and selection.load_is_due(count):
            cached = self._load_rows(named, state)
        return cached

    def _load_rows(self, named: NamedColumns, state: str) -> CachedRows | None:
        """Read the rows into the cache; None where that is not possible."""
        key = self._key(named)
        if (selection := self._cache.find(key)) is None:
            return None
        began = time.perf_counter()
        try:
            prepared = self._statement(named)
            columns = list(dict(prepared.output))
            if inputs_of(prepared) != selection.read_inputs or columns != selection.columns:
                self._cache.evict(key)
                return None
            rows = read_within_limit(prepared)
        except JammiError:
            return None  # the condition that reads the source raises it
        selection.record_load(time.perf_counter() - began)
        if rows is None:
            selection.too_large_state = state
            return None
        if self._rows.state_of(selection, "rows") != state:
            return None
        memory_types = self._engine.describe(InlineRows(rows).relation, self._tenant)
        texts = [
            c for c, kind in prepared.output if kind in _TEXT_TYPES and memory_types[c] == "VARCHAR"
        ]
        types = {c: kind for c, kind in prepared.output if memory_types[c] == kind or c in texts}
        cached = CachedRows(rows.select(list(types)), types, texts)
        cached.columns = dict(prepared.output) if named is None else None
        self._cache.loaded.store(state, cached)
        return cached

    def _record_read(self, condition: str, seconds: float) -> None:
        """Record what reading the source took. Not for an attached database, which compares texts
        in its own way, nor for a frame, whose rows are in memory."""
        selections = list[NamedColumns]([None])
        is_cacheable = all(
            b.relation.read.body is not None and b.relation.requirements.attachment is None
            for b in self._rows.all_rows.inputs
        )
        if not is_cacheable or "collate" in self._rows.address.lower():
            return
        if (
            all_columns := self._cache.find(self._key(None))
        ) is not None and all_columns.too_large_state:
            selections.append(self._named_columns(condition))
        for named in dict.fromkeys(selections):
            prepared = self._statement(named)
            inputs, columns = inputs_of(prepared), list(dict(prepared.output))
            self._cache.record_read(self._key(named), columns, prepared, inputs, inputs, seconds)

    def _load_soon(self, condition: str) -> None:
        for named in (None, self._named_columns(condition)):
            if self._cache.find(self._key(named)) is None:
                self._record_read(condition, 0.0)
            if (selection := self._cache.find(self._key(named))) is not None:
                selection.load_soon()

    def _key(self, named: NamedColumns) -> SelectionKey:
        return *self._rows.selection_key(())[:3], named

    def _statement(self, named: NamedColumns) -> "PreparedStatement":
        if named is None:
            return self._rows.all_rows
        columns = [c for c in self._rows.columns if c in named]
        [prepared] = self._engine.prepare(
            f"SELECT {', '.join(map(quote_identifier, columns))} FROM {self._rows.address}",
            tenant=self._tenant,
        )
        return prepared

    def _named_columns(self, condition: str) -> NamedColumns:
        tree = self._engine.parse_tree(f"{_PREFIX}{condition}\n)")
        if tree is None:
            return None
        columns = {fold(column): column for column in self._rows.columns}
        named = {self._rows.key_column}
        for node in walk_nodes(tree["where_clause"]):
            wildcard = any(node.get("type") == kind for kind in _WILDCARD_NODES)
            if wildcard or node.get("class") == "SUBQUERY":
                return None
            if node.get("type") == "COLUMN_REF":
                word = fold(node["column_names"][0])
                if word not in columns and (word != "key" or len(node["column_names"]) > 1):
                    return None  # the name of the row itself, or an unknown name
                named.add(columns.get(word, self._rows.key_column))
        return frozenset(named)
