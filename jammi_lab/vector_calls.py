"""`search(…)` and `neighbors(…)` in FROM: the hits of an exact search as rows of a statement.

A statement that calls them reads the columns key and vector of the embedding table. What is asked, `k` and the identity of the encoder that a text
goes through are part of the definition; an index never is. Only a statement that reads `source_missing` also reads what was embedded.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from jammi_lab.canonical import canonical_json, digest_of
from jammi_lab.hits import Asked, Behind, as_table
from jammi_lab.observing.look import Pinned
from jammi_lab.observing.providers import JAMMI, ResultProvider
from jammi_lab.sources.base import Relation
from jammi_lab.sources.computed import Computed, Read
from jammi_lab.values.descriptors import encode_param
from jammi_lab.values.records import TableRecord

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.handles import ResultTable
    from jammi_lab.vectors.matrix import Matrix

_READ = ("key", "vector")
_MISSING = "source_missing"


class Searched(Asked, Protocol):
    """What is asked of the workspace beside what is behind a table."""

    def table(self, name: "str | ResultTable", version: int | None = None) -> "ResultTable": ...
    def _searchable(self, table: "str | ResultTable") -> TableRecord: ...
    def _matrix(self, record: TableRecord) -> "Matrix": ...
    def _row(self, matrix: "Matrix", record: TableRecord, key: Any) -> int: ...
    def _queries(self, record: TableRecord, descriptor: Any, query: Any) -> tuple[Any, bool]: ...


class VectorCalls:
    """Provides the relations of the two functions."""

    def __init__(self, workspace: Searched) -> None:
        self._workspace = workspace

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:  # noqa: ARG002  # a call is no name
        """None: nothing here has a name of its own."""
        return None

    def names(self) -> Sequence[str]:
        """None."""
        return []

    def call(self, function: str, arguments: tuple[Any, ...]) -> Relation | None:
        """The relation of `search('table', query, k)` or `neighbors('table', key, k)`; None for another function.

        Raises TableNotFound, TableDamaged; SchemaMismatch for a table without vectors and a vector that is no query for it; InvalidArgument for
        k < 0; ModelNotFound for a text where no encoder is known. RowNotFound comes when the statement is run.
        """
        if function not in ("search", "neighbors"):
            return None
        from jammi_lab.vectors.arrays import check_k

        name, asked, k = arguments
        record = self._workspace._searchable(self._workspace.table(name))
        hits = _Hits(self._workspace, record, asked, check_k(k), by_row=function == "neighbors")
        rooms = self._workspace._rooms
        table = ResultProvider(rooms.catalog, rooms.results).resolve((JAMMI, name))
        if table is None or not isinstance(table.token, Pinned):
            raise TypeError(f"a ready table is resolved by its name, not so {name!r}")
        return replace(
            table,
            body=None,
            hold=None,
            columns=hits.columns,
            computed=Computed(says=hits.says, reads=hits.reads(Read(table, _READ, dict(table.columns or {}))), rows=hits.rows),
        )


class _Hits:
    """One call over one table as it was when the statement was bound, for the tenant of then."""

    def __init__(self, workspace: Searched, record: TableRecord, asked: Any, k: int, *, by_row: bool) -> None:
        self._workspace, self._record, self._asked, self._k, self._by_row = workspace, record, asked, k, by_row
        self._tenant = workspace._rooms.scope.current
        self._behind = Behind(workspace, record)
        self._many = not by_row and self._check_query()

    def _check_query(self) -> bool:
        """Whether there are several queries, found sound as far as that needs no encoder. SchemaMismatch, InvalidArgument, ModelNotFound."""
        from jammi_lab.searching import no_encoder, texts_of
        from jammi_lab.vectors.arrays import queries_of

        if texts_of(self._asked) is None:
            return queries_of(self._asked, self._record.dimensions or 0)[1]
        if not isinstance(self._behind.descriptor.get("encoder"), dict):
            raise no_encoder(self._record, self._workspace._rooms.catalog.tables)
        return not isinstance(self._asked, str)

    @property
    def says(self) -> str:
        """What shapes the hits beside the vectors."""
        from jammi_lab.searching import texts_of

        by_text = not self._by_row and texts_of(self._asked) is not None
        encoder = digest_of(self._behind.descriptor["encoder"]) if by_text else None
        function = "neighbors" if self._by_row else "search"
        return canonical_json({"function": function, "asked": encode_param(self._asked), "k": self._k, "encoder": encoder}).decode()

    @property
    def columns(self) -> dict[str, str]:
        """SQL types by column."""
        first = {"query": "INTEGER"} if self._many else {}
        return first | {"key": self._behind.key_type, "rank": "INTEGER", "similarity": "FLOAT", _MISSING: "BOOLEAN"}

    def reads(self, table: Read) -> Any:
        """The inputs, by the columns that a statement reads of the hits."""
        return lambda columns: [table, *self._behind.inputs()] if _MISSING in columns else [table]

    def rows(self, columns: Collection[str]) -> "pa.Table":
        """The hits. RowNotFound, ModelNotFound, TableDamaged."""
        from jammi_lab.vectors.arrays import flags_of

        with self._workspace._rooms.scope.use(self._tenant):
            matrix = self._workspace._matrix(self._record)
            if self._by_row:
                found = matrix.neighbours(self._row(matrix), self._k)
            else:
                queries, _ = self._workspace._queries(self._record, self._behind.descriptor, self._asked)
                found = matrix.search(queries, self._k)
            hits = as_table(matrix, found, many=self._many)
            if _MISSING not in columns:
                return hits.append_column(_MISSING, flags_of(False, len(hits)))
            return self._behind.answer(hits, (), filtered=False).arrow()

    def _row(self, matrix: "Matrix") -> int:
        """The row that is meant; a literal means a key of the table's type, as a literal does in SQL. RowNotFound."""
        from jammi_lab.vectors.arrays import as_key

        if matrix.row_of(self._asked) is None and (key := as_key(self._asked, matrix.keys.type)) is not None:
            return self._workspace._row(matrix, self._record, key)
        return self._workspace._row(matrix, self._record, self._asked)
