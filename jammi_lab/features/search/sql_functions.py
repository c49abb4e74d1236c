"""`search(…)` and `neighbors(…)` in FROM: the hits of an exact search as rows of a statement.

A statement that calls them reads the columns key and vector of the embedding table, or the words of
the lexical table, or both. The query, `k`, the identity of the encoder and the analyzer are part of
the definition; an index never is. Only a statement that reads `source_missing` also reads the
source of the table.
"""

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jammi_lab.core.anchors import Input
from jammi_lab.core.canonical_json import canonical_json, digest_of
from jammi_lab.core.definitions import encode_param
from jammi_lab.core.records import TableRecord
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.features.search.answers import HIT_COLUMNS, Answer
from jammi_lab.features.search.hits import HIT_TYPES, hits_table
from jammi_lab.features.search.queries import texts_of
from jammi_lab.features.search.search import SearchService, check_searchable, missing_encoder_error
from jammi_lab.features.search.source_rows import SourceRows
from jammi_lab.features.search.word_search import HIT_COLUMNS as WORD_HIT_COLUMNS
from jammi_lab.features.search.word_search import check_lexical
from jammi_lab.features.words.analyzers import OUTPUT_VERSION as ANALYSIS_VERSION
from jammi_lab.inputs.observation import PinnedState
from jammi_lab.sources.base import Computed, InputRead, ReadPlan, Relation

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.features.vectors.matrix import Matrix

_MISSING = "source_missing"


class SearchFunctions(NameResolver):
    """Resolves calls of the two table functions to relations."""

    def __init__(
        self,
        search: SearchService,
        find_table: Callable[[str], TableRecord],
        table_relation: Callable[[str], Relation | None],
    ) -> None:
        """`find_table`: the record of the table that a name means; raises TableNotFound.
        `table_relation`: what FROM reads for that name."""
        self._search, self._find_table, self._table_relation = search, find_table, table_relation

    def call(self, function: str, arguments: tuple[Any, ...]) -> Relation | None:
        """The relation of `search('table', query, k, words)` or `neighbors('table', key, k)`; None
        for another function.

        Raises TableNotFound, TableDamaged; SchemaMismatch for a table that cannot be searched so
        and a vector of another width; InvalidArgument for k < 0 and for anything but texts where
        words are searched; ModelNotFound for a text where no encoder is known. RowNotFound is
        raised when the statement runs.
        """
        if function not in ("search", "neighbors"):
            return None
        from jammi_lab.storage.vector_arrays import check_k

        name, query, k, *words = arguments
        record, k = self._find_table(name), check_k(k)
        tables = [name, *(each for each in words if each is not None)]
        call: _FunctionCall | _WordsCall
        if len(tables) > 1:
            call = _WordsCall(self._search, record, self._find_table(tables[1]), query, k)
        elif function == "search" and record.recipe_class.has_words:
            call = _WordsCall(self._search, None, record, query, k)
        else:
            call = _FunctionCall(self._search, record, query, k, by_row=function == "neighbors")
        reads = [
            InputRead(table, table_inputs.columns, dict(table.columns or {}))
            for table, table_inputs in zip(
                map(self._pinned_relation, tables), call.own_inputs, strict=True
            )
        ]
        return replace(
            reads[0].relation,
            acquire=None,
            columns=call.columns,
            read=ReadPlan(
                computed=Computed(
                    definition=call.definition,
                    inputs=lambda columns: [*reads, *call.source_inputs(columns)],
                    rows=lambda columns, _: call.rows(columns),
                )
            ),
        )

    def _pinned_relation(self, name: str) -> Relation:
        table = self._table_relation(name)
        if table is None or not isinstance(table.token, PinnedState):
            raise TypeError(f"a ready table is resolved by its name, not so {name!r}")
        return table


class _FunctionCall:
    """One call, over the table and for the tenant at the time when the statement was bound."""

    def __init__(
        self, search: SearchService, record: TableRecord, query: Any, k: int, *, by_row: bool
    ) -> None:
        self._search, self.record, self._query = search, check_searchable(record), query
        self._k, self._by_row = k, by_row
        self._tenant = search.context.scope.current
        self.source_rows = search.source_rows(record)
        self._has_several_queries = not by_row and self._check_query()

    def _check_query(self) -> bool:
        """Whether there are several queries; checks them as far as that needs no encoder.
        SchemaMismatch, InvalidArgument, ModelNotFound."""
        from jammi_lab.storage.vector_arrays import parse_queries

        if texts_of(self._query) is None:
            return parse_queries(self._query, self.record.dimensions or 0)[1]
        if not isinstance(self.source_rows.descriptor.get("encoder"), dict):
            raise missing_encoder_error(self.record, self._search.context.tables)
        return not isinstance(self._query, str)

    @property
    def definition(self) -> str:
        """The canonical JSON of everything besides the vectors that determines the hits."""
        by_text = not self._by_row and texts_of(self._query) is not None
        encoder = digest_of(self.source_rows.descriptor["encoder"]) if by_text else None
        function = "neighbors" if self._by_row else "search"
        return canonical_json(
            {
                "function": function,
                "asked": encode_param(self._query),
                "k": self._k,
                "encoder": encoder,
            }
        ).decode()

    @property
    def columns(self) -> dict[str, str]:
        """SQL types by column."""
        first = {"query": "INTEGER"} if self._has_several_queries else {}
        return first | {
            "key": self.source_rows.key_type,
            "rank": "INTEGER",
            "similarity": "FLOAT",
            _MISSING: "BOOLEAN",
        }

    @property
    def own_inputs(self) -> list[Input]:
        """The table that is searched, with the columns read."""
        return [self.source_rows.own_input]

    def source_inputs(self, columns: Collection[str]) -> list[InputRead]:
        """The other inputs of a statement that reads these columns."""
        return self.source_rows.inputs() if _MISSING in columns else []

    def rows(self, columns: Collection[str]) -> "pa.Table":
        """The hits. RowNotFound, ModelNotFound, TableDamaged."""
        with self._search.context.scope.use(self._tenant):
            matrix = self._search.matrix(self.record)
            if self._by_row:
                hits = matrix.neighbors(self._query_row(matrix), self._k)
            else:
                queries, _ = self._search.query_vectors(self.record, self._query)
                hits = matrix.search(queries, self._k)
            table = hits_table(matrix, hits, has_query_column=self._has_several_queries)
            return _flag_missing(
                table, columns, lambda: self.source_rows.answer(table, (), filtered=False)
            )

    def _query_row(self, matrix: "Matrix") -> int:
        """The position of the row. A literal is converted to the type of the keys, as in SQL.
        RowNotFound."""
        from jammi_lab.storage.vector_arrays import to_key

        if (
            matrix.find_row(self._query) is None
            and (key := to_key(self._query, matrix.keys.type)) is not None
        ):
            return self._search.row_of(self.record, matrix, key)
        return self._search.row_of(self.record, matrix, self._query)


class _WordsCall:
    """One call of `search` that reads a lexical table, alone or beside one with vectors, over the
    tables and for the tenant at the time when the statement was bound."""

    def __init__(
        self,
        search: SearchService,
        record: TableRecord | None,
        words_record: TableRecord,
        query: Any,
        k: int,
    ) -> None:
        """`record`: the table with vectors; None for a search by words alone."""
        self._search, self._query, self._k = search, query, k
        self._words_record, self._tenant = check_lexical(words_record), search.context.scope.current
        search.words.check_texts(words_record, query)
        self._vectors_call = (
            None if record is None else _FunctionCall(search, record, query, k, by_row=False)
        )
        self._words_rows = SourceRows(search.context, words_record)

    @property
    def definition(self) -> str:
        """The canonical JSON of everything besides the tables that determines the hits."""
        from jammi_lab.features.search import fusion

        analyzer = self._words_rows.descriptor.get("analyzer")
        words: dict[str, Any] = {"analyzer": analyzer, "revision": ANALYSIS_VERSION}
        if self._vectors_call is None:
            asked = encode_param(self._query)
            return canonical_json(
                {"function": "search", "asked": asked, "k": self._k, "words": words}
            ).decode()
        words["fusion"] = fusion.OUTPUT_VERSION
        meaning = self._vectors_call.definition
        return canonical_json({"meaning": meaning, "words": words}).decode()

    @property
    def columns(self) -> dict[str, str]:
        """SQL types by column."""
        names = WORD_HIT_COLUMNS if self._vectors_call is None else HIT_COLUMNS
        types = HIT_TYPES | {"key": (self._vectors_rows or self._words_rows).key_type}
        first = 1 if isinstance(self._query, str) else 0
        return {name: types[name] for name in names[first:]}

    @property
    def _vectors_rows(self) -> SourceRows | None:
        return None if self._vectors_call is None else self._vectors_call.source_rows

    @property
    def own_inputs(self) -> list[Input]:
        """The tables that are searched, with the columns read."""
        tables = [self._vectors_rows, self._words_rows]
        return [rows.own_input for rows in tables if rows is not None]

    def source_inputs(self, columns: Collection[str]) -> list[InputRead]:
        """The other inputs of a statement that reads these columns."""
        return (self._vectors_rows or self._words_rows).inputs() if _MISSING in columns else []

    def rows(self, columns: Collection[str]) -> "pa.Table":
        """The hits. ModelNotFound, TableDamaged."""
        from jammi_lab.features.search import fusion

        words, query, k = self._words_record, self._query, self._k
        with self._search.context.scope.use(self._tenant):
            if self._vectors_call is None:
                hits = self._search.words.hit_rows(words, query, k)
                return _flag_missing(
                    hits, columns, lambda: self._words_rows.answer(hits, (), filtered=False)
                )
            record, rows = self._vectors_call.record, self._vectors_call.source_rows
            pair, hits = self._search.fused_hits(record, words, query, k, exact=True)
            return _flag_missing(
                hits,
                columns,
                lambda: fusion.join_answers(rows, self._words_rows, pair, hits, (), filtered=False),
            )


def _flag_missing(
    hits: "pa.Table", columns: Collection[str], join: Callable[[], Answer]
) -> "pa.Table":
    """The hits with `source_missing`; the source is read only for a statement that reads it."""
    from jammi_lab.storage.vector_arrays import boolean_array

    if _MISSING in columns:
        return join().table
    return hits.append_column(_MISSING, boolean_array(False, len(hits)))
