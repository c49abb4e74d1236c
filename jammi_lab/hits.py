"""From places in a matrix to an answer: the hits of a search with columns of the rows behind them, as they are now."""

import functools
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from jammi_lab.canonical import digest_of
from jammi_lab.errors import JammiError, SchemaMismatch, SourceUnavailable, SqlError, TableNotFound
from jammi_lab.names import fold, near, quote
from jammi_lab.result import Result
from jammi_lab.selected import Laid, Selection, Selections, What, inputs_of, small
from jammi_lab.sources.base import Relation
from jammi_lab.sources.computed import Read
from jammi_lab.values.anchors import Anchor, Input, InputKind, Snapshot
from jammi_lab.values.records import TableKind, TableRecord

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.engine.prepared import Prepared
    from jammi_lab.vectors.cache import Sized
    from jammi_lab.vectors.exact import Hits, Places
    from jammi_lab.vectors.matrix import Matrix
    from jammi_lab.wiring import Rooms

_OURS = ("query", "key", "rank", "similarity", "source_missing")
_KEY = "__jammi_key"
_WHOLE = {f"{sign}{name}" for sign in ("", "U") for name in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")}
_COMPARED = (
    _WHOLE | {"DECIMAL", "FLOAT", "DOUBLE"},
    {"DATE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE"},
)
"""Types of keys that compare with each other."""


class Asked(Protocol):
    """What is asked of the workspace."""

    _rooms: "Rooms"

    @property
    def _complete(self) -> dict[tuple[str | None, str], bool]: ...
    @property
    def _selections(self) -> Selections: ...
    def _descriptor(self, record: TableRecord) -> Mapping[str, Any]: ...
    def _result(self, prepared: "Prepared") -> Result: ...
    def _rows(self, table: "pa.Table", types: Sequence[str], inputs: Sequence[Input]) -> Result: ...


class Behind:
    """The rows behind an embedding table: those of the source it was made from, else its own."""

    def __init__(self, asked: Asked, record: TableRecord) -> None:
        self._rooms, self._asked, self._record = asked._rooms, asked, record
        self.descriptor: Mapping[str, Any] = asked._descriptor(record)
        self._first = self._before(record)
        self._made = self.descriptor if self._first is record else asked._descriptor(self._first)
        self._embedded = self._first.kind is TableKind.EMBEDDING and "statement" in self._made
        self._imported_from: str | None = self._made.get("source") if self._first.kind is TableKind.IMPORTED else None
        self._own = not self._embedded and self._imported_from is None
        self._key = "key" if self._own else str(self._made["key"])
        self._select: tuple[str, ...] = ()

    def _before(self, record: TableRecord) -> TableRecord:
        """The table whose vectors were propagated, as it was then: its rows are those of the derived one. The table itself, when that is gone."""
        tables = self._rooms.catalog.tables
        while record.kind is TableKind.GRAPH_PROPAGATION:
            read = [a for a in record.anchors if a.input.kind is InputKind.RESULT and a.columns == ("key", "vector")]
            versions = [tables.version(a.input.name, a.version) for a in read if a.version is not None]
            found = next((v[1] for v in versions if v is not None), None) or next((r for a in read if (r := tables.get(a.input.name))), None)
            if found is None:
                break
            record = found
        return record

    @functools.cached_property
    def address(self) -> str:
        """What FROM says. TableNotFound; SourceUnavailable."""
        if self._own:
            return f"jammi.{quote(self._record.table_name)}"
        from jammi_lab.producers.embedding import address_of

        if self._embedded:
            return address_of(self._made)
        if len(self._first.anchors) == 1 and (plain := _named(self._first.anchors[0].input, str(self._imported_from))) is not None:
            return plain
        return self._rooms.producers.embedding.address(str(self._imported_from))

    @property
    def key_column(self) -> str:
        """The column of the rows behind that holds the keys, as it is spelt."""
        return self._spelt(self._key)

    @functools.cached_property
    def whole(self) -> "Prepared":
        """The statement that reads all the rows with all their columns."""
        [prepared] = self._rooms.engine.prepare(f"SELECT * FROM {self.address}", tenant=self._rooms.scope.current)
        return prepared

    @functools.cached_property
    def columns(self) -> dict[str, str]:
        """The columns of the rows behind: name and SQL type, in their order."""
        return dict(self.whole.output)

    def chosen(self, select: Sequence[str]) -> list[str]:
        """The columns to add, as they are spelt. SchemaMismatch for one that is not there, or would be called as one that every answer has."""
        self._select = tuple(map(str, select))
        own = {fold(self._key)} & {"key"}
        wanted = [column for column in select if fold(str(column)) not in own]
        if clash := [column for column in wanted if fold(str(column)) in _OURS]:
            raise SchemaMismatch(
                f"A search gives a column {clash[0]!r} of its own.",
                column=clash[0],
                hint="Join the answer with the source in SQL, where it can have another name.",
            )
        return list(dict.fromkeys(self._spelt(column) for column in wanted))

    def _met(self, rows: "pa.Table", kind: str) -> "pa.ChunkedArray":
        """The keys of the table that equal some of a column of another type, or with NaN in it."""
        from jammi_lab.observing.providers import Given

        own, theirs = self._equal(f"o.{quote('key')}", f"s.{quote(_KEY)}", kind)
        text = f"SELECT o.key FROM jammi.{quote(self._record.table_name)} o WHERE EXISTS (FROM {Given.NAME} s WHERE {own} = {theirs})"
        [prepared] = self._rooms.engine.prepare(text, tenant=self._rooms.scope.current, extra=[Given(rows.rename_columns([_KEY]))])
        return prepared.run().table().column(0)

    def _equal(self, own: str, theirs: str, kind: str) -> tuple[str, str]:
        """Both sides of an equation of a key with one of the rows behind, of that type: as text where the types do not compare."""
        both = {each.split("(", 1)[0] for each in (kind, self.key_type)}
        if kind == self.key_type or any(both <= family for family in _COMPARED):
            return own, theirs
        return f"{own}::VARCHAR", f"{theirs}::VARCHAR"

    def laid(self, select: Sequence[str], keys: "pa.Array") -> Laid | None:
        """The selected columns of all rows, in the order of these keys of the table; None where they have to be read."""
        known, what = self._asked._selections, self._what(select)
        selection = known.find(what)
        if selection is None or not selection.worth_a_look(len(keys)):
            return None
        began = time.perf_counter()
        state = self._state(selection)
        selection.looked(time.perf_counter() - began)
        if state is None or state == selection.refused:
            return None
        if (found := known.laid.find(state)) is None and selection.due(len(keys)):
            found = self._lay_out(what, selection, keys, state)
        return cast("Laid | None", found)

    def lies(self, select: Sequence[str]) -> bool:
        """Whether the selected columns lie there, as they are now; nothing is read."""
        return self.found(self._asked._selections.find(self._what(select)), "beside") is not None

    def moved(self, select: Sequence[str]) -> bool:
        """Whether they lay there, and are others by now, which can be laid out in a moment."""
        known = self._asked._selections.find(self._what(select))
        return known is not None and known.quick and not self.lies(select)

    def lay(self, select: Sequence[str], keys: "pa.Array") -> None:
        """Lay the columns out, where that can be done, without waiting until they were read several times. Raises as reading does."""
        known, what = self._asked._selections, self._what(select)
        if known.find(what) is None and len(keys):
            self.answer(as_hits(keys[:1]), self.chosen(select), filtered=False).arrow()
        if (selection := known.find(what)) is not None and not selection.pause:
            selection.hurry()
            self.laid(select, keys)

    def found(self, selection: Selection | None, laid: str) -> "Sized | None":
        """What was laid out of the rows as they are now, in that way."""
        if selection is None or not selection.fixed or selection.pause:
            return None
        state = self._state(selection, laid)
        return None if state is None else self._asked._selections.laid.find(state)

    def _lay_out(self, what: What, selection: Selection, keys: "pa.Array", state: str) -> Laid | None:
        """The same, read now for all rows as for the hits of a search."""
        began = time.perf_counter()
        try:
            prepared = self._statement(as_hits(keys), selection.chosen)
            if _beside_hits(inputs_of(prepared)) != selection.read:
                self._asked._selections.forget(what)
                return None
            rows = small(prepared)
        except JammiError:
            return None  # said by the search that reads the source
        selection.laid_out(time.perf_counter() - began)
        if rows is None:
            selection.refused = state
            return None
        if len(rows) != len(keys) or self._state(selection) != state:
            return None
        found = Laid(rows.drop_columns(["rank", "similarity"]), dict(prepared.output), selection.inputs)
        self._asked._selections.laid.put(state, found)
        return found

    def _what(self, select: Sequence[str]) -> What:
        return self._rooms.scope.current, self._record.table_name, self._first.table_name, tuple(map(str, select))

    def _state(self, selection: Selection, laid: str = "beside") -> str | None:
        """A name for the columns of a selection as they are now, in the way in which they are laid out; None when that cannot be told. Of rows
        that conditions are asked of it names all columns of the inputs, also those not read: a condition may mean any."""
        anchors = self._now((i, i.columns) for i in selection.read)
        if anchors is None or not all(a.pinned and not a.note and not a.method.startswith("column:") for a in anchors):
            return None  # what is so on somebody's word is not enough here: the rows are to be those of now
        told = [[*a.input.identity, a.kind.value, a.method, a.value, *([a.schema] if laid == "rows" else [])] for a in anchors]
        who = [self._rooms.scope.current, self._record.table_name, self._first.table_name, self._record.digest]
        return digest_of([laid, who, selection.chosen, told, self._rooms.engine.environment()])

    def beside(self, laid: Laid, hits: "pa.Table", places: "Places") -> Result:
        """The hits with columns that were laid out; `places`: those of the hits among the vectors."""
        table = laid.beside(hits, places)
        types = {"query": "INTEGER", **laid.types}
        return self._asked._rows(table, [types[name] for name in table.column_names], laid.inputs)

    def answer(
        self, hits: "pa.Table", chosen: Sequence[str], *, filtered: bool, keys: "pa.Array | None" = None, places: "Places | None" = None
    ) -> Result:
        """The hits with columns of the rows behind them. A hit whose row is gone is marked; rows that came through a filter are there.
        `keys` and `places`: all keys of the table, and where those of the hits are among them."""
        if not chosen:
            if self._own or filtered or (self._unmoved() and (self._embedded or self._complete())):
                return self._marked(hits, missing=False)
            if keys is not None and places is not None and (laid := self.laid((), keys)) is not None:
                return self.beside(laid, hits, places)
            if not self._reachable():
                return self._marked(hits, missing=True)
        return self._joined(hits, chosen)

    def inputs(self) -> list[Read]:
        """What tells whether the rows are there, as it was when the vectors were made: of a named table the key column, else all that was read."""
        if self._own:
            return []
        anchors = [a for a in self._first.anchors if a.pinned and a.input.kind is not InputKind.CLOCK]
        by_sql = self.address.startswith("(") if self._embedded else any(c.isspace() for c in str(self._imported_from))
        plain = len(anchors) == 1 and not by_sql
        reads = []
        for anchor in anchors:
            key = [c for c in anchor.columns if fold(c) == fold(self._key)]
            columns = tuple(key) if plain and key else anchor.columns
            what = Input(kind=anchor.input.kind, name=anchor.input.name, table=anchor.input.table)
            reads.append(Read(Relation(input=what), columns, dict(zip(anchor.columns, anchor.types, strict=True))))
        return reads

    def _unmoved(self) -> bool:
        """Whether what is behind is as it was when the vectors came: every row that was embedded is there still. Nothing of it is read."""
        anchors = self._first.anchors
        if not anchors or not all(a.pinned for a in anchors):
            return False
        now = self._now((a.input, a.columns) for a in anchors)
        return now is not None and all(a.same_state(b) for a, b in zip(now, anchors, strict=True))

    def _now(self, inputs: Iterable[tuple[Input, tuple[str, ...]]]) -> list[Anchor] | None:
        """The state of inputs, over some of their columns; None when that of one cannot be told."""
        look, tenant, anchors = self._rooms.look(False), self._rooms.scope.current, []
        try:
            for asked, columns in inputs:
                if not isinstance(now := look.observe(asked, tenant), Snapshot):
                    return None
                anchors.append(now.anchor(asked, columns))
        finally:
            look.close()
        return anchors

    def _complete(self) -> bool:
        """Whether every imported key had its row in the source as it was then; told of a source that is still so, which is read once for that."""
        known, what = self._asked._complete, (self._rooms.scope.current, self._first.table_name)
        if what not in known:
            try:
                table, key = f"jammi.{quote(self._first.table_name)}", quote(self._spelt(self._key))
                without = f"NOT EXISTS (FROM {self.address} s WHERE s.{key}::VARCHAR = o.{quote('key')}::VARCHAR)"
                [prepared] = self._rooms.engine.prepare(f"SELECT 1 FROM {table} o WHERE {without} LIMIT 1", tenant=what[0])
                found = len(prepared.run().table()) == 0
            except JammiError:
                return False
            if not self._unmoved():
                return False  # what was read may be another state
            known[what] = found
        return known[what]

    def _reachable(self) -> bool:
        """Whether the key column can be read at all."""
        try:
            self._rooms.engine.prepare(f"SELECT {quote(self._key)} FROM {self.address}", tenant=self._rooms.scope.current)
        except (TableNotFound, SourceUnavailable, SqlError):
            return False
        return True

    def _marked(self, hits: "pa.Table", *, missing: bool) -> Result:
        from jammi_lab.vectors.arrays import flags_of

        table = hits.append_column("source_missing", flags_of(missing, len(hits)))
        kinds = {"query": "INTEGER", "key": self.key_type, "rank": "INTEGER", "similarity": "FLOAT", "source_missing": "BOOLEAN"}
        return self._asked._rows(table, [kinds[name] for name in table.column_names], [self._read])

    def _joined(self, hits: "pa.Table", chosen: Sequence[str]) -> Result:
        began = time.perf_counter()
        prepared = self._statement(hits, chosen)
        result = self._asked._result(prepared)
        read = _beside_hits(result.inputs)
        result.inputs = [self._read, *read]
        self._asked._selections.learn(self._what(self._select), chosen, prepared, result.inputs, read, time.perf_counter() - began)
        return result

    def _statement(self, hits: "pa.Table", chosen: Sequence[str]) -> "Prepared":
        """What joins hits with their rows."""
        from jammi_lab.observing.providers import Given

        place = [name for name in ("query", "rank") if name in hits.column_names]
        places = ", ".join(f"h.{name}" for name in place)
        first = "h.query, " if "query" in place else ""
        taken = "".join(f", s.{quote(c)}" for c in chosen)
        key = self._spelt(self._key)
        own, theirs = self._equal(f"h.{quote('key')}", f"s.{quote(_KEY)}", self.columns[key])
        inner = "".join(f", {quote(c)}" for c in chosen)
        # a key that stands twice in the source by now is still one hit
        text = (
            f"SELECT DISTINCT ON ({places}) {first}h.key, h.rank, h.similarity{taken}, s.{quote(_KEY)} IS NULL AS source_missing "
            f"FROM {Given.NAME} h LEFT JOIN (SELECT {quote(key)} AS {quote(_KEY)}{inner} FROM {self.address}) s "
            f"ON {own} = {theirs} ORDER BY {places}{taken}"
        )
        [prepared] = self._rooms.engine.prepare(text, tenant=self._rooms.scope.current, extra=[Given(hits)])
        return prepared

    @property
    def _read(self) -> Input:
        return Input(kind=InputKind.RESULT, name=self._record.recipe, columns=("key", "vector"))

    @property
    def key_type(self) -> str:
        """The SQL type of the keys."""
        return next((c.type for c in self._record.columns if c.name == "key"), "VARCHAR")

    def _spelt(self, column: str) -> str:
        """A column behind the table, as it is spelt there. SchemaMismatch, with the near name, for one that is not there or is called as ours."""
        try:
            columns = self.columns
        except (TableNotFound, SourceUnavailable) as error:
            raise self._gone(error) from error
        found = next((c for c in columns if fold(c) == fold(str(column))), None)
        if found is None:
            close = near(str(column), columns)
            raise SchemaMismatch(
                f"There is no column {column!r} in what {self._record.recipe!r} was made from.",
                column=str(column),
                actual=", ".join(columns),
                hint=f"Did you mean {close[0]}?" if close else "",
            )
        return found

    def _gone(self, error: JammiError) -> JammiError:
        """The same error with a way on."""
        hint = f"{error.hint} Without where= and select= the hits come all the same.".lstrip()
        return type(error)(error.message, hint=hint)


def _named(behind: Input, asked: str) -> str | None:
    """What FROM says for the one input of imported vectors, when what was asked for is just its name; it means the same whatever else is called so
    by now."""
    if behind.table is not None or fold(behind.name) != fold(asked):
        return None
    match behind.kind:
        case InputKind.SOURCE | InputKind.FRAME:
            return quote(behind.name)
        case InputKind.RESULT:
            return f"jammi.{quote(behind.name)}"
    return None


def _beside_hits(inputs: Iterable[Input]) -> list[Input]:
    """What a statement over hits reads beside them."""
    from jammi_lab.observing.providers import Given

    return [i for i in inputs if i.name != Given.NAME]


def as_hits(keys: "pa.Array") -> "pa.Table":
    """Rows as a search has them, in their order."""
    import numpy as np
    import pyarrow as pa

    return pa.table({"key": keys, "rank": np.arange(1, len(keys) + 1, dtype=np.int32), "similarity": np.zeros(len(keys), np.float32)})


def as_table(matrix: "Matrix", found: "Hits", *, many: bool) -> "pa.Table":
    """key, rank and similarity of hits; with several queries their number first."""
    import numpy as np
    import pyarrow as pa

    from jammi_lab.vectors.arrays import array_of

    queries, hits = found.rows.shape
    columns: dict[str, Any] = {"query": array_of(np.repeat(np.arange(queries, dtype=np.int32), hits))} if many else {}
    columns["key"] = matrix.keys_at(found.rows.reshape(-1))
    ranks = np.arange(1, hits + 1, dtype=np.int32)
    columns["rank"] = array_of(np.tile(ranks, queries) if many else ranks)
    columns["similarity"] = array_of(found.similarities)
    return pa.Table.from_arrays(list(columns.values()), names=list(columns))
