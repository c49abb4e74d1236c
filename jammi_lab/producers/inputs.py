"""What producers over several tables read: embedding tables by name, and any source, table or SQL by its columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jammi_lab.engine.prepared import Prepared
from jammi_lab.engine.resolve import Provider
from jammi_lab.engine.session import Engine
from jammi_lab.errors import InvalidArgument, JammiError, SchemaMismatch, TableNotFound
from jammi_lab.names import fold, near, quote
from jammi_lab.observing.look import Pinned
from jammi_lab.producers.addresses import address
from jammi_lab.producers.base import Bound
from jammi_lab.tenancy import TenantScope
from jammi_lab.values.descriptors import StepInput
from jammi_lab.values.records import TableRecord
from jammi_lab.vectors.indexes import SEARCHABLE, Indexes
from jammi_lab.vectors.matrix import Matrix

if TYPE_CHECKING:
    from jammi_lab.vectors.ann import Ann

Asked = tuple[str, str]
"""What was asked for, as it was written, and the statement that reads it."""


@dataclass(frozen=True)
class Taken:
    """One input, bound to what its name meant just now."""

    said: StepInput
    """As a descriptor keeps it."""
    prepared: Prepared
    """The statement."""

    @property
    def asked(self) -> Asked:
        """What it takes to bind it again."""
        return self.said.asked, self.said.statement

    @property
    def record(self) -> TableRecord | None:
        """The result table, when one was named."""
        tokens = [i.relation.token for i in self.prepared.inputs]
        return tokens[0].record if len(tokens) == 1 and isinstance(tokens[0], Pinned) else None

    @property
    def columns(self) -> list[str]:
        """The columns that its statement puts out."""
        return [name for name, _ in self.prepared.output]


class Inputs:
    """Binds what is asked for, and reads it."""

    def __init__(self, engine: Engine, scope: TenantScope, vectors: Indexes) -> None:
        self._engine, self._scope, self._vectors = engine, scope, vectors

    def vectors_named(self, asked: str) -> Asked:
        """An embedding table by its recipe or physical name. TableNotFound; SchemaMismatch for what has no vectors; InvalidArgument."""
        if not isinstance(asked, str) or not asked.strip():
            raise InvalidArgument(f"An embedding table is named by a text, not by {asked!r}.")
        name = asked[len("jammi.") :].strip('"') if fold(asked).startswith("jammi.") else asked
        try:
            taken = self.take((asked, f"SELECT 1 FROM jammi.{quote(name)}"))
        except TableNotFound as error:
            if self._is_something(asked):
                raise _no_vectors(asked, "no embedding table") from None
            known = [n.partition(".")[2] for n in self._engine.names() if n.startswith("jammi.")]
            close = near(name, known)
            hint = error.hint or ("" if close else "ws.recipes() lists what there is.")
            raise TableNotFound(error.message if error.hint else f"There is no table {asked!r}.", near=close, hint=hint) from None
        kind = taken.record.kind if taken.record else None
        if kind not in SEARCHABLE:
            raise _no_vectors(asked, f"a table of kind {kind.value if kind else 'unknown'}")
        return asked, f'SELECT "key", "vector" FROM jammi.{quote(name)}'

    def table_named(self, asked: str, columns: Sequence[str] | None, extra: Sequence[Provider], *, to: str = "to read") -> Asked:
        """A source, `source.table`, recipe or SQL: all its columns (SQL as it stands, with the order that it says), or some.

        TableNotFound; SchemaMismatch, with near names, for a column that is not there; and what binding SQL raises."""
        place = address(self._engine, self._scope.current, asked, extra, to=to)
        whole = place[2:-2] if place.startswith("(\n") else f"SELECT * FROM {place}"
        if columns is None:
            return asked, whole
        names = self.take((asked, whole), extra).columns
        spelt = dict.fromkeys(column_of(asked, names, column) for column in columns)
        return asked, f"SELECT {', '.join(map(quote, spelt))} FROM {place}"

    def take(self, asked: Asked, extra: Sequence[Provider] = ()) -> Taken:
        """One input, bound. Raises as binding does."""
        [prepared] = self._engine.prepare(asked[1], tenant=self._scope.current, extra=extra)
        return Taken(StepInput(asked[0], asked[1], prepared.canonical()), prepared)

    def taken_today(self, inputs: Sequence[StepInput], extra: Sequence[Provider]) -> tuple[list[Bound], bool]:
        """What a recorded definition reads today, and whether its inputs still say the same. Raises as binding does."""
        taken = [self.take((i.asked, i.statement), extra) for i in inputs]
        return bound_of(taken), all(t.said.canonical == i.canonical for t, i in zip(taken, inputs, strict=True))

    def matrix(self, taken: Taken) -> Matrix:
        """The vectors of an embedding table, whose bytes stay while they are loaded. TableDamaged."""
        record, [read] = taken.record, taken.prepared.inputs
        assert record is not None, "an embedding table is a result table"
        release = read.relation.hold() if read.relation.hold is not None else lambda: None
        try:
            return self._vectors.matrix(record)
        finally:
            release()

    def index(self, taken: Taken) -> "Ann | None":
        """The index of an embedding table, made first if there is none; None where there can be none. KeyboardInterrupt."""
        return None if taken.record is None else self._vectors.index(taken.record, build=True)

    def _is_something(self, asked: str) -> bool:
        try:
            address(self._engine, self._scope.current, asked)
        except JammiError:
            return False
        return True


def bound_of(taken: Sequence[Taken]) -> list[Bound]:
    """All that is read, each input once with its columns united."""
    found: dict[tuple[str, str, str], Bound] = {}
    for each in (read for t in taken for read in t.prepared.inputs):
        known = found.get(each.relation.input.identity)
        columns = {*each.columns, *(known.columns if known else ())}
        found[each.relation.input.identity] = Bound(known.relation if known else each.relation, tuple(sorted(columns)))
    return list(found.values())


def shared(taken: Sequence[Taken]) -> dict[str, Any]:
    """What a job says of its inputs."""
    return {
        "inputs": bound_of(taken),
        "volatile": sorted({v for t in taken for v in t.prepared.volatile}),
        "clock": any(t.prepared.clock for t in taken),
        "order_sensitive": any(t.prepared.order_sensitive for t in taken),
    }


def column_of(table: str, names: Sequence[str], column: str) -> str:
    """A column as a table spells it. SchemaMismatch, with the near name; InvalidArgument for what is no name."""
    if not isinstance(column, str) or not column:
        raise InvalidArgument(f"A column is named by a text, not by {column!r}.")
    found = next((n for n in names if n == column), None) or next((n for n in names if fold(n) == fold(column)), None)
    if found is None:
        close = near(column, names)
        raise SchemaMismatch(
            f"{table!r} has no column {column!r}.",
            table=table,
            column=column,
            expected=column,
            actual=", ".join(names),
            hint=f"Did you mean {close[0]}?" if close else "",
        )
    return found


def _no_vectors(asked: str, what: str) -> SchemaMismatch:
    return SchemaMismatch(
        f"{asked!r} is {what} and has no vectors.",
        table=asked,
        column="vector",
        expected="an embedding table",
        actual=what,
        hint="ws.embed makes a table that has.",
    )
