"""`search(…)` and `neighbors(…)` in FROM: the hits of an exact search as rows of a statement.

A statement that calls them reads the columns key and vector of the embedding table, or the words of
the lexical table, or both. The query, `k`, the identity of the encoder and the analyzer are part of
the definition; an index never is. Only a statement that reads `source_missing` also reads the
source of the table.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jammi_lab.core.anchors import Input
from jammi_lab.core.canonical_json import canonical_json, digest_of
from jammi_lab.core.definitions import encode_param
from jammi_lab.core.records import TableRecord
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.features.search.hits import (
    HIT_COLUMNS,
    HIT_TYPES,
    VECTOR_HIT_COLUMNS,
    WORD_HIT_COLUMNS,
)
from jammi_lab.features.search.queries import SearchRequest, texts_of
from jammi_lab.features.search.search import SearchService, check_searchable, missing_encoder_error
from jammi_lab.features.search.source_rows import SourceRows
from jammi_lab.features.search.word_search import check_lexical
from jammi_lab.features.words.analyzers import analysis_version
from jammi_lab.inputs.observation import PinnedState
from jammi_lab.sources.base import Computed, InputRead, ReadPlan, Relation

if TYPE_CHECKING:
    import pyarrow as pa

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
        by_words = function == "search" and record.recipe_class.has_words
        vectors = None if by_words and len(tables) == 1 else record
        words_record = record if by_words else None
        if len(tables) > 1:
            words_record = self._find_table(tables[1])
        by_row = function == "neighbors"
        call = _Call(self._search, vectors, words_record, query, k, by_row=by_row)
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


class _Call:
    """One call, over the tables and for the tenant at the time when the statement was bound."""

    def __init__(
        self,
        search: SearchService,
        record: TableRecord | None,
        words: TableRecord | None,
        query: Any,
        k: int,
        *,
        by_row: bool,
    ) -> None:
        """`record`: the table with vectors; `words`: the lexical table; one of them may be None."""
        self._search, self._query, self._k, self._by_row = search, query, k, by_row
        self._tenant = search.context.scope.current
        self._record, self._words = record, words
        self._rows: list[SourceRows] = []
        """The source rows of the tables, those behind the vectors first."""
        if words is not None:
            search.words.check_texts(check_lexical(words), query)
        if record is not None:
            check_searchable(record)
        for each in (record, words):
            if each is not None:
                self._rows.append(SourceRows(search.context, each))
        self._has_several_queries = not by_row and self._check_query()

    def _check_query(self) -> bool:
        """Whether there are several queries; checks them as far as that needs no encoder.
        SchemaMismatch, InvalidArgument, ModelNotFound."""
        from jammi_lab.storage.vector_arrays import parse_queries

        if self._record is not None:
            if texts_of(self._query) is None:
                return parse_queries(self._query, self._record.dimensions or 0)[1]
            if not isinstance(self._rows[0].descriptor.get("encoder"), dict):
                raise missing_encoder_error(self._record, self._search.context.tables)
        return not isinstance(self._query, str)

    @property
    def definition(self) -> str:
        """The canonical JSON of everything besides the tables that determines the hits."""
        from jammi_lab.features.search import fusion

        asked: dict[str, Any] = {
            "function": "neighbors" if self._by_row else "search",
            "asked": encode_param(self._query),
            "k": self._k,
        }
        words: dict[str, Any] = {}
        if self._words is not None:
            analyzer = self._rows[-1].descriptor.get("analyzer")
            words = {"analyzer": analyzer, "revision": analysis_version()}
        if self._record is None:
            return canonical_json({**asked, "words": words}).decode()
        by_text = not self._by_row and texts_of(self._query) is not None
        encoder = digest_of(self._rows[0].descriptor["encoder"]) if by_text else None
        meaning = canonical_json({**asked, "encoder": encoder}).decode()
        if self._words is None:
            return meaning
        words["fusion"] = fusion.OUTPUT_VERSION
        return canonical_json({"meaning": meaning, "words": words}).decode()

    @property
    def columns(self) -> dict[str, str]:
        """SQL types by column."""
        names: Sequence[str] = VECTOR_HIT_COLUMNS
        if self._words is not None:
            names = WORD_HIT_COLUMNS if self._record is None else HIT_COLUMNS
        if not self._has_several_queries:
            names = names[1:]
        types = HIT_TYPES | {"key": self._rows[0].key_type}
        return {name: types[name] for name in names}

    @property
    def own_inputs(self) -> list[Input]:
        """The tables that are searched, with the columns read."""
        return [rows.own_input for rows in self._rows]

    def source_inputs(self, columns: Collection[str]) -> list[InputRead]:
        """The other inputs of a statement that reads these columns."""
        return self._rows[0].inputs() if _MISSING in columns else []

    def rows(self, columns: Collection[str]) -> "pa.Table":
        """The hits; the source is read only for a statement that reads `source_missing`.
        RowNotFound, ModelNotFound, TableDamaged."""
        record, query = self._record or self._words, self._query
        assert record is not None, "a call has a table"
        with self._search.context.scope.use(self._tenant):
            if self._by_row:
                # a literal is converted to the type of the keys, as in SQL
                asked = {"row": self._search.matrix(record).typed_key(query)}
            else:
                asked = {"query": query}
            request = SearchRequest(
                **asked, k=self._k, exact=True, reads_source=_MISSING in columns
            )
            words = None if record is self._words else self._words
            answer = self._search.search(record, request, words)
        return answer.table
