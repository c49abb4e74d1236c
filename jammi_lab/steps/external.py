"""The producer `external`: rows that were computed outside the workspace and registered."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from jammi_lab.core.anchors import FrameOrigin, given_rows
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.definitions import ExternalDescriptor, encode_param, merge_params
from jammi_lab.core.errors import NotRecomputable, TableNotFound
from jammi_lab.core.identifiers import near_names, quote_identifier
from jammi_lab.core.records import OnProgress, TableKind
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.engine.engine import Engine
from jammi_lab.engine.sql import credential_check
from jammi_lab.steps.jobs import BoundInput, Job, RunningJob, TableRows
from jammi_lab.steps.key_check import key_columns
from jammi_lab.storage.digests import arrow_digests

OUTPUT_VERSION = 1
"""Increment when equal rows would be stored otherwise than before."""


def environment() -> dict[str, Any]:
    """Everything besides the descriptor that shapes the rows: only how they are stored."""
    return {"revision": OUTPUT_VERSION}


class ExternalProducer:
    """Registers rows together with the names of their inputs."""

    def __init__(self, engine: Engine, scope: TenantScope) -> None:
        self._engine, self._scope = engine, scope

    def job(
        self,
        table: pa.Table,
        producer_id: str,
        params: Mapping[str, Any],
        inputs: Sequence[str],
        key: Sequence[str],
        origin: FrameOrigin | None = None,
    ) -> Job:
        """The job of registering rows, made from `origin`.

        Raises TableNotFound with near names when an input is neither a source nor a recipe,
        SchemaMismatch when a key column is missing, StatementNotAllowed when a recorded text
        contains a password."""
        credential_check.check_text("The name of the producer", producer_id)
        for param_name, value in merge_params(params).items():
            credential_check.check_text(f"The value of {param_name!r}", value)
        names = [str(c) for c in table.schema.names]
        key = key_columns(names, key)
        table = table.replace_schema_metadata(None)
        descriptor = ExternalDescriptor(
            producer_id=producer_id,
            params={n: encode_param(v) for n, v in sorted(params.items())},
            rows_digest=digest_of(
                [
                    [n, str(table.schema.field(n).type), d]
                    for n, d in zip(names, arrow_digests(table).values(), strict=True)
                ]
            ),
            key=key,
        )

        def rows(_: OnProgress | None) -> RunningJob:
            return RunningJob(TableRows(table))

        return Job(
            kind=TableKind.EXTERNAL,
            descriptor=descriptor,
            environment=environment(),
            inputs=[self.bind(name) for name in inputs],
            start=rows,
            rebind=lambda: self.job(table, producer_id, params, inputs, key, origin),
            key=key,
            rows_anchor=None if origin is None else given_rows(descriptor.rows_digest, origin),
        )

    def bind(self, name: str) -> BoundInput:
        """A source or recipe with all its columns. Raises TableNotFound."""
        for parts in ((name,), tuple(name.split(".")), ("jammi", name)):
            try:
                [prepared] = self._engine.prepare(
                    "SELECT * FROM " + ".".join(map(quote_identifier, parts)),
                    tenant=self._scope.current,
                )
            except TableNotFound:
                continue
            [bound] = prepared.inputs
            return BoundInput(bound.relation, bound.columns)
        raise TableNotFound(
            f"There is no source or recipe {name!r} to record as an input of the table.",
            near=near_names(name, self._engine.known_names()),
        )

    def from_descriptor(self, name: str, descriptor: ExternalDescriptor) -> Job:
        """Raise NotRecomputable: rows from outside cannot be computed here."""
        raise NotRecomputable(
            f"{name!r} was computed outside the workspace, by {descriptor.producer_id!r}; it "
            "cannot be recomputed here.",
            hint=f"Run {descriptor.producer_id} again and call ws.register({name!r}, frame, …).",
        )
