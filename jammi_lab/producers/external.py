"""The producer `external`: rows that were computed elsewhere and are handed in."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from jammi_lab.canonical import digest_of
from jammi_lab.engine import passwords
from jammi_lab.engine.session import Engine
from jammi_lab.errors import NotRecomputable, TableNotFound
from jammi_lab.names import near, quote
from jammi_lab.producers.base import Bound, Job, OnProgress, Running
from jammi_lab.producers.keys import key_columns
from jammi_lab.storage.digests import arrow_digests
from jammi_lab.tenancy import TenantScope
from jammi_lab.values.descriptors import ExternalDescriptor, encode_param
from jammi_lab.values.records import TableKind

REVISION = 1


def environment() -> dict[str, Any]:
    """What else shapes the rows: nothing but how they are stored."""
    return {"revision": REVISION}


class Given:
    """Rows that are there already."""

    def __init__(self, table: pa.Table) -> None:
        self._table, self.schema = table, table.schema

    def batches(self, rows: int = 65536) -> Iterator[pa.RecordBatch]:
        """The rows, as given."""
        yield from self._table.to_batches(max_chunksize=rows)

    def close(self) -> None:
        """Nothing is open."""


class ExternalProducer:
    """Takes rows and the names of what they were made from."""

    def __init__(self, engine: Engine, scope: TenantScope) -> None:
        self._engine, self._scope = engine, scope

    def job(self, table: pa.Table, producer_id: str, params: Mapping[str, Any], inputs: Sequence[str], key: Sequence[str]) -> Job:
        """The rows as a job. TableNotFound, with near names, when an input is neither a source nor a recipe; SchemaMismatch when a key column
        is missing; StatementNotAllowed for a password in what is kept of it."""
        passwords.refuse_text("The name of the producer", producer_id)
        for each, value in params.items():
            passwords.refuse_text(f"The value of {each!r}", value)
        names = [str(c) for c in table.schema.names]
        key = key_columns(names, key)
        table = table.replace_schema_metadata(None)
        descriptor = ExternalDescriptor(
            producer_id=producer_id,
            params={n: encode_param(v) for n, v in sorted(params.items())},
            rows_digest=digest_of([[n, str(table.schema.field(n).type), d] for n, d in zip(names, arrow_digests(table).values(), strict=True)]),
            key=key,
        )

        def rows(_: OnProgress | None) -> Running:
            return Running(Given(table))

        return Job(
            kind=TableKind.EXTERNAL,
            descriptor=descriptor,
            environment=environment(),
            inputs=[self.bind(name) for name in inputs],
            rows=rows,
            again=lambda: self.job(table, producer_id, params, inputs, key),
            key=key,
        )

    def bind(self, name: str) -> Bound:
        """Everything of a source or recipe. TableNotFound."""
        for parts in ((name,), tuple(name.split(".")), ("jammi", name)):
            try:
                [prepared] = self._engine.prepare("SELECT * FROM " + ".".join(map(quote, parts)), tenant=self._scope.current)
            except TableNotFound:
                continue
            [bound] = prepared.inputs
            return Bound(bound.relation, bound.columns)
        raise TableNotFound(f"There is no source or recipe {name!r} that the table could have been made from.", near=near(name, self._engine.names()))

    def from_descriptor(self, name: str, descriptor: ExternalDescriptor) -> Job:
        """Never: the rows come from outside. NotRecomputable names who made them."""
        raise NotRecomputable(
            f"{name!r} was made outside the workspace, by {descriptor.producer_id!r}; it cannot be made again from here.",
            hint=f"Run {descriptor.producer_id} again and call ws.register({name!r}, frame, …).",
        )
