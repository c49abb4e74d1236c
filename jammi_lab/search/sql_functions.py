"""`search(…)` and `neighbors(…)` in FROM: the hits of an exact search as rows of a statement.

A statement that calls them reads the columns key and vector of the embedding table. The query, `k`
and the identity of the encoder are part of the definition; an index never is. Only a statement that
reads `source_missing` also reads the source of the vectors.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jammi_lab.core.canonical_json import canonical_json, digest_of
from jammi_lab.core.definitions import encode_param
from jammi_lab.core.records import TableRecord
from jammi_lab.inputs.observation import PinnedState
from jammi_lab.search.queries import texts_of
from jammi_lab.search.search import SearchService, check_searchable, missing_encoder_error
from jammi_lab.search.source_rows import hits_table
from jammi_lab.sources.base import Computed, InputRead, ReadPlan, Relation

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.vectors.matrix import Matrix

_READ_COLUMNS = ("key", "vector")
_MISSING = "source_missing"


class VectorFunctions:
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

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:  # noqa: ARG002  # a call is no name
        """None: a table function has no name of its own."""
        return None

    def names(self) -> Sequence[str]:
        """None."""
        return []

    def call(self, function: str, arguments: tuple[Any, ...]) -> Relation | None:
        """The relation of `search('table', query, k)` or `neighbors('table', key, k)`; None for
        another function.

        Raises TableNotFound, TableDamaged; SchemaMismatch for a table without vectors and a vector
        of another width; InvalidArgument for k < 0; ModelNotFound for a text where no encoder is
        known. RowNotFound is raised when the statement runs.
        """
        if function not in ("search", "neighbors"):
            return None
        from jammi_lab.vectors.arrays import check_k

        name, query, k = arguments
        record = check_searchable(self._find_table(name))
        call = _FunctionCall(
            self._search, record, query, check_k(k), by_row=function == "neighbors"
        )
        table = self._table_relation(name)
        if table is None or not isinstance(table.token, PinnedState):
            raise TypeError(f"a ready table is resolved by its name, not so {name!r}")
        return replace(
            table,
            acquire=None,
            columns=call.columns,
            read=ReadPlan(
                computed=Computed(
                    definition=call.definition,
                    inputs=call.input_reads(
                        InputRead(table, _READ_COLUMNS, dict(table.columns or {}))
                    ),
                    rows=call.rows,
                )
            ),
        )


class _FunctionCall:
    """One call, over the table and for the tenant at the time when the statement was bound."""

    def __init__(
        self, search: SearchService, record: TableRecord, query: Any, k: int, *, by_row: bool
    ) -> None:
        self._search, self._record, self._query, self._k = search, record, query, k
        self._by_row = by_row
        self._tenant = search.context.scope.current
        self._source_rows = search.source_rows(record)
        self._has_several_queries = not by_row and self._check_query()

    def _check_query(self) -> bool:
        """Whether there are several queries; checks them as far as that needs no encoder.
        SchemaMismatch, InvalidArgument, ModelNotFound."""
        from jammi_lab.vectors.arrays import parse_queries

        if texts_of(self._query) is None:
            return parse_queries(self._query, self._record.dimensions or 0)[1]
        if not isinstance(self._source_rows.descriptor.get("encoder"), dict):
            raise missing_encoder_error(self._record, self._search.context.tables)
        return not isinstance(self._query, str)

    @property
    def definition(self) -> str:
        """The canonical JSON of everything besides the vectors that determines the hits."""
        by_text = not self._by_row and texts_of(self._query) is not None
        encoder = digest_of(self._source_rows.descriptor["encoder"]) if by_text else None
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
            "key": self._source_rows.key_type,
            "rank": "INTEGER",
            "similarity": "FLOAT",
            _MISSING: "BOOLEAN",
        }

    def input_reads(self, table: InputRead) -> Any:
        """A function from the columns that a statement reads to the inputs."""
        return lambda columns: (
            [table, *self._source_rows.inputs()] if _MISSING in columns else [table]
        )

    def rows(self, columns: Collection[str]) -> "pa.Table":
        """The hits. RowNotFound, ModelNotFound, TableDamaged."""
        from jammi_lab.vectors.arrays import boolean_array

        with self._search.context.scope.use(self._tenant):
            matrix = self._search.matrix(self._record)
            if self._by_row:
                hits = matrix.neighbors(self._query_row(matrix), self._k)
            else:
                queries, _ = self._search.query_vectors(self._record, self._query)
                hits = matrix.search(queries, self._k)
            table = hits_table(matrix, hits, has_query_column=self._has_several_queries)
            if _MISSING not in columns:
                return table.append_column(_MISSING, boolean_array(False, len(table)))
            return self._source_rows.answer(table, (), filtered=False).rows()

    def _query_row(self, matrix: "Matrix") -> int:
        """The position of the row. A literal is converted to the type of the keys, as in SQL.
        RowNotFound."""
        from jammi_lab.vectors.arrays import to_key

        if (
            matrix.find_row(self._query) is None
            and (key := to_key(self._query, matrix.keys.type)) is not None
        ):
            return self._search.row_of(self._record, matrix, key)
        return self._search.row_of(self._record, matrix, self._query)
