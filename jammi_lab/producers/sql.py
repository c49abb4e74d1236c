"""The producer `sql`: one statement, run by the engine."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jammi_lab.engine import passwords
from jammi_lab.engine.prepared import Prepared
from jammi_lab.engine.resolve import Provider
from jammi_lab.engine.session import Engine
from jammi_lab.errors import InvalidArgument, SchemaMismatch, StatementNotAllowed
from jammi_lab.names import fold
from jammi_lab.observing.look import Pinned
from jammi_lab.producers.base import Bound, Job, OnProgress, Running
from jammi_lab.producers.keys import key_columns
from jammi_lab.tenancy import TenantScope
from jammi_lab.values.anchors import Observed
from jammi_lab.values.descriptors import SqlDescriptor, decode_param, encode_param
from jammi_lab.values.records import Progress, TableKind

_OF_TYPES = re.compile("typeof|get_type|can_cast_implicitly")
"""Functions whose value is the type of a column; the plan does not show that they look at it."""
REVISION = 1
"""Raised when equal definitions over equal inputs would give other rows than before."""


def environment(engine: Engine) -> dict[str, Any]:
    """What else shapes the rows of a statement."""
    return {"revision": REVISION, "engine": engine.environment()}


class SqlProducer:
    """Binds statements to their inputs."""

    def __init__(self, engine: Engine, scope: TenantScope) -> None:
        self._engine, self._scope = engine, scope

    def job(self, statement: str, params: Mapping[str, Any], key: Sequence[str] = (), extra: Sequence[Provider] = ()) -> Job:
        """The statement as a job.

        Raises StatementNotAllowed unless it is one statement that reads; SqlError, TableNotFound, ParameterMissing as binding does;
        SchemaMismatch when its output cannot be a table or lacks a key column.
        """
        prepared = self._engine.prepare(statement, params, tenant=self._scope.current, extra=extra)
        if len(prepared) != 1:
            raise StatementNotAllowed(f"A recipe is one statement; this text holds {len(prepared)}.", hint="Make one recipe for each statement.")
        [one] = prepared
        key = key_columns([n for n, _ in one.output], key)
        _check_output(one.output)
        for name, value in one.params.items():
            passwords.refuse_value(name, value)
        descriptor = SqlDescriptor(
            statement=statement, canonical=one.canonical(), params={n: encode_param(v) for n, v in sorted(one.params.items())}, key=key
        )

        by_type = _OF_TYPES.search(statement.casefold()) is not None

        def rows(on_progress: OnProgress | None) -> Running:
            witnesses: dict[tuple[str, str, str], Observed] = {}
            ordered = one.run_ordered(key or _inferred_key(one), on_progress=_percent(on_progress), witnesses=witnesses)
            return Running(ordered, witnesses=witnesses)

        return Job(
            kind=TableKind.SQL,
            descriptor=descriptor,
            environment=environment(self._engine),
            inputs=[Bound(b.relation, tuple(sorted(b.schema)) if by_type else b.columns) for b in one.inputs],
            rows=rows,
            again=lambda: self.job(statement, params, key, extra),
            key=key,
            volatile=one.volatile,
            clock=one.clock,
            order_sensitive=one.order_sensitive,
        )

    def from_descriptor(self, descriptor: SqlDescriptor, extra: Sequence[Provider] = ()) -> Job:
        """A recorded definition as a job over the inputs as they are now. Raises as `job` does."""
        return self.job(descriptor.statement, {n: decode_param(v) for n, v in descriptor.params.items()}, descriptor.key, extra)


def _percent(on_progress: OnProgress | None) -> Callable[[float], None] | None:
    if on_progress is None:
        return None
    return lambda percent: on_progress(Progress(stage="run", done=int(percent), total=100, unit="percent"))


def _check_output(output: Sequence[tuple[str, str]]) -> None:
    seen: set[str] = set()
    for name, _ in output:
        if not name:
            raise InvalidArgument("An output column has an empty name.", hint="Give it a name with AS.")
        if fold(name) in seen:
            raise SchemaMismatch(
                f"Two output columns are called {name!r}.", column=name, expected="different names", actual=name, hint="Rename one with AS."
            )
        seen.add(fold(name))


def _inferred_key(one: Prepared) -> list[str]:
    """Columns that probably identify a row, so that a changed value moves no other row: GROUP BY columns, else the key of the one table read."""
    if one.inferred_key:
        return list(one.inferred_key)
    if len(one.inputs) != 1:
        return []
    token = one.inputs[0].relation.token
    key = token.record.key if isinstance(token, Pinned) and token.record else []
    names = {n for n, _ in one.output}
    return list(key) if set(key) <= names else []
