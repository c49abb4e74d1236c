"""Which rows behind a table with vectors satisfy a condition: told from rows that lie in memory while their source is as it was when they were read,
else from the source (decision 064)."""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from jammi_lab.engine.gate import nodes, offset_in
from jammi_lab.engine.tokens import one_expression
from jammi_lab.errors import JammiError, StatementNotAllowed
from jammi_lab.names import fold, quote
from jammi_lab.observing.providers import Given
from jammi_lab.selected import What, inputs_of, small

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.engine.prepared import Prepared
    from jammi_lab.engine.session import Engine
    from jammi_lab.hits import Behind

_BEFORE = "SELECT 1 WHERE (\n"
_ALL = ("STAR", "POSITIONAL_REFERENCE")
"""What means columns that it does not name."""
_PIECE = 1 << 14
"""Rows that one thread goes over at a time."""
_AS_TEXT = ("UUID", "JSON")
"""Types that Arrow has as text, which says the same."""
Named = frozenset[str] | None
"""The columns that a condition names, and that of the keys; None when it may mean all of them, in their order."""


class Lying:
    """Rows behind a table, each with all its columns or some of them, in memory. May be shared between threads."""

    def __init__(self, rows: "pa.Table", types: Mapping[str, str], texts: Sequence[str]) -> None:
        pieces = rows.combine_chunks().to_batches(max_chunksize=_PIECE)
        self.given, self.types, self.nbytes = Given(rows.from_batches(pieces, rows.schema)), dict(types), int(rows.nbytes)
        """`types`: SQL types by column, just those that memory can give as they are; `nbytes`: bytes held."""
        back = ", ".join(f"{quote(column)}::{types[column]} AS {quote(column)}" for column in texts)
        self.address = f"(SELECT * REPLACE ({back}) FROM {Given.NAME})" if texts else Given.NAME
        """What FROM says; `texts` are columns that are held as text."""
        self.columns: dict[str, str] | None = None
        """All columns of the source, when all were read: name and SQL type."""

    def says(self, columns: Mapping[str, str], named: Named) -> bool:
        """Whether a condition means here what it means over a source with these columns."""
        if named is None:
            return list(self.types.items()) == list(columns.items())
        return all(self.types.get(column) == columns[column] for column in named)


class Conditions:
    """Conditions over the rows behind one table. Nothing is kept here: each question asks for the state of the source."""

    def __init__(self, behind: "Behind") -> None:
        self._behind, self._engine, self._tenant = behind, behind._rooms.engine, behind._rooms.scope.current
        self._known = behind._asked._selections

    def keys(self, where: str, params: Mapping[str, Any] | None) -> "pa.ChunkedArray":
        """Keys of the table whose rows satisfy a condition; `key` means the key column where no column is called so. Raises as binding does."""
        behind, said = self._behind, one_expression(where)
        lying = self._find(said, lay=True)  # first: of a source that was looked at, the columns are known
        key = behind.key_column
        rows = None if lying is None else self._told(lying, said, params)
        if rows is None:
            [prepared] = self._engine.prepare(self._text(said, behind.address), params, tenant=self._tenant)
            began = time.perf_counter()
            rows = prepared.run().table()
            self._learn(said, time.perf_counter() - began)
        kind = behind.columns[key]
        return rows.column(0) if kind == behind.key_type and kind not in ("FLOAT", "DOUBLE") else behind._met(rows, kind)

    def lie(self, where: str) -> bool:
        """Whether a condition is answered without reading the source. Raises as binding does."""
        return self._find(one_expression(where), lay=False) is not None

    def moved(self, where: str) -> bool:
        """Whether it was answered so, and what answered it is another by now, which can be read in a moment. Raises as binding does."""
        said = one_expression(where)
        known = [self._known.find(self._what(named)) for named in (None, self._named(said))]
        return any(each is not None and each.quick for each in known) and self._find(said, lay=False) is None

    def lay(self, where: str) -> None:
        """Read now what later conditions like this one are answered from, when that is possible; nothing is raised."""
        try:
            said = one_expression(where)
            self._hurry(said)
            if self._find(said, lay=True) is None:  # where all columns are too large, some may not be
                self._hurry(said)
                self._find(said, lay=True)
        except JammiError:
            return  # said by whoever asks

    def _text(self, said: str, address: str) -> str:
        key = self._behind.key_column
        also = "" if any(fold(c) == "key" for c in self._behind.columns) else f", {quote(key)} AS key"
        return f"SELECT {quote(key)} FROM (SELECT *{also} FROM {address}) WHERE (\n{said}\n)"

    def _told(self, lying: Lying, said: str, params: Mapping[str, Any] | None) -> "pa.Table | None":
        """The answer from memory, where the columns that it names are those of the source; None when it is an error, which the source tells with the
        place in its own statement."""
        try:
            [prepared] = self._engine.prepare(self._text(said, lying.address), params, tenant=self._tenant, extra=[lying.given])
            return prepared.run().table()
        except JammiError:
            return None

    # -- what lies in memory -------------------------------------------------------------------------------------------------------------

    def _find(self, said: str, *, lay: bool) -> Lying | None:
        """What answers a condition; None when nothing does. With `lay` the rows are read when that is due."""
        if Given.NAME in fold(said):
            return None
        every = self._known.find(self._what(None))
        lying = self._lying(None, lay)
        if lying is None and (every is None or not every.refused):
            return None
        if lying is not None and lying.columns is not None:
            self._behind.columns = lying.columns  # what the source is was just looked at: it need not be bound to be asked
        _ = self._behind.key_column  # says itself what is not there
        columns, named = self._behind.columns, self._named(said)
        if lying is None and named is not None:
            lying = self._lying(named, lay)
        return lying if lying is not None and lying.says(columns, named) else None

    def _lying(self, named: Named, lay: bool) -> Lying | None:
        """Rows with all columns or those that are named, as they are now."""
        selection, count = self._known.find(self._what(named)), self._behind._record.row_count or 0
        if not lay:
            return cast("Lying | None", self._behind.found(selection, "rows"))
        if selection is None or not selection.worth_a_look(count):
            return None
        began = time.perf_counter()
        state = self._behind._state(selection, "rows")
        selection.looked(time.perf_counter() - began)
        if state is None or state == selection.refused:
            return None
        found = cast("Lying | None", self._known.laid.find(state))
        if found is None and selection.due(count):
            found = self._read(named, state)
        return found

    def _read(self, named: Named, state: str) -> Lying | None:
        """The same, read now."""
        what = self._what(named)
        if (selection := self._known.find(what)) is None:
            return None
        began = time.perf_counter()
        try:
            prepared = self._statement(named)
            if inputs_of(prepared) != selection.read or list(dict(prepared.output)) != selection.chosen:
                self._known.forget(what)
                return None
            rows = small(prepared)
        except JammiError:
            return None  # said by the condition that reads the source
        selection.laid_out(time.perf_counter() - began)
        if rows is None:
            selection.refused = state
            return None
        if self._behind._state(selection, "rows") != state:
            return None
        held = self._engine.describe(Given(rows)._relation, self._tenant)
        texts = [column for column, kind in prepared.output if kind in _AS_TEXT and held[column] == "VARCHAR"]
        types = {column: kind for column, kind in prepared.output if held[column] == kind or column in texts}
        found = Lying(rows.select(list(types)), types, texts)
        found.columns = dict(prepared.output) if named is None else None
        self._known.laid.put(state, found)
        return found

    def _learn(self, said: str, took: float) -> None:
        """Learn what reading has taken. A database that is attached compares texts as it likes; rows of a frame are in memory anyway."""
        behind, whats = self._behind, list[Named]([None])
        plain = all(b.relation.body is not None and b.relation.attachment is None for b in behind.whole.inputs)
        if not plain or "collate" in behind.address.lower():
            return
        if (every := self._known.find(self._what(None))) is not None and every.refused:
            whats.append(self._named(said))
        for named in dict.fromkeys(whats):
            prepared = self._statement(named)
            read = inputs_of(prepared)
            self._known.learn(self._what(named), list(dict(prepared.output)), prepared, read, read, took)

    def _hurry(self, said: str) -> None:
        for named in (None, self._named(said)):
            if self._known.find(self._what(named)) is None:
                self._learn(said, 0.0)
            if (selection := self._known.find(self._what(named))) is not None:
                selection.hurry()

    def _what(self, named: Named) -> What:
        return *self._behind._what(())[:3], named

    def _statement(self, named: Named) -> "Prepared":
        if named is None:
            return self._behind.whole
        columns = [c for c in self._behind.columns if c in named]
        [prepared] = self._engine.prepare(f"SELECT {', '.join(map(quote, columns))} FROM {self._behind.address}", tenant=self._tenant)
        return prepared

    def _named(self, said: str) -> Named:
        tree = self._engine.parse_tree(f"{_BEFORE}{said}\n)")
        if tree is None:
            return None
        columns = {fold(column): column for column in self._behind.columns}
        named = {self._behind.key_column}
        for node in nodes(tree["where_clause"]):
            if any(node.get("type") == kind for kind in _ALL) or node.get("class") == "SUBQUERY":
                return None
            if node.get("type") == "COLUMN_REF":
                word = fold(node["column_names"][0])
                if word not in columns and (word != "key" or len(node["column_names"]) > 1):
                    return None  # the name of the rows themselves, or of nothing here
                named.add(columns.get(word, self._behind.key_column))
        return frozenset(named)


def of_the_rows(engine: "Engine", where: str) -> str:
    """A condition that somebody else may have written, a page say, when it reads nothing but the columns behind: it holds no subquery.

    StatementNotAllowed; SqlError for what does not parse."""
    text = f"{_BEFORE}{one_expression(where)}\n)"
    tree = engine.parse_tree(text)
    if tree is None:
        try:
            engine.parameters(text)
        except JammiError as error:
            if error.position is not None:
                error.at(where, min(max(error.position - len(_BEFORE), 0), len(where)))
            raise
        raise StatementNotAllowed(f"The condition {where!r} cannot be read.")
    if found := next((node for node in nodes(tree["where_clause"]) if node.get("class") == "SUBQUERY"), None):
        at = offset_in(text, found.get("query_location"))
        raise StatementNotAllowed(
            "A condition here is over the columns of the rows behind, and cannot hold a subquery.", hint="ws.search(…, where=…) takes one."
        ).at(where, None if at is None else max(at - len(_BEFORE), 0))
    return where
