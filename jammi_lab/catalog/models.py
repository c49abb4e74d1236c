"""Registered models, their training and evaluation records, and a guarded delete.

The scan for references and the delete are one transaction; so are the check that a model exists and
the insert of a table's row that uses it. The write lock orders one wholly before the other, so no
reference can appear during a delete. (Semantics: jammi-db's model repository, which here also
counts tenants' references to a shared model.)
"""

from __future__ import annotations

import builtins
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.connection import Connection, Statement
from jammi_lab.catalog.repository import DatedRepository
from jammi_lab.catalog.row_mapping import EVALUATION, MODEL, TRAINING, RowMapping
from jammi_lab.catalog.schema import Table, evaluations, models, trainings
from jammi_lab.core import model_records as values
from jammi_lab.core.clock import rfc3339
from jammi_lab.core.errors import ModelNotFound, ModelReferenced
from jammi_lab.core.identifiers import fold
from jammi_lab.core.model_records import Evaluation, ModelRecord, Reference, Training, model_key

Record = Training | Evaluation

_SELECT = f"SELECT {MODEL.columns} FROM models WHERE {scope.visible('models')}"
_OF_KEY = f"{scope.owned_by('models')} AND models.key = :model_key"
_VERSIONS = Statement(
    f"{_SELECT} AND models.name_fold = :fold "
    f"ORDER BY {scope.own_first('models')}, models.version DESC"
)
_LIST = Statement(f"{_SELECT} ORDER BY models.created_at, models.name_fold, models.version")
_INSERT = Statement(models.insert)
_UPDATE = Statement(
    models.update(*(c for c in models.columns if c not in ("key", "tenant_id")))
    + f" WHERE {_OF_KEY}"
)
_DELETE = Statement(f"DELETE FROM models WHERE {_OF_KEY}")
_EXISTS = Statement(
    f"SELECT 1 FROM models WHERE {scope.visible('models')} AND models.key = :model_key"
)


class _Records:
    """The statements over the records of one kind."""

    def __init__(self, table: Table, mapping: RowMapping[Any]) -> None:
        self.mapping, name = mapping, table.name
        self.list = Statement(
            f"SELECT {mapping.columns} FROM {name} WHERE {scope.visible(name)} "
            f"ORDER BY {name}.created_at, {name}.record_id"
        )
        self.owner = Statement(
            f"SELECT {name}.tenant_id FROM {name} WHERE {scope.visible(name)} "
            f"AND {name}.record_id = :record_id"
        )
        self.insert = Statement(table.insert)
        self.delete = Statement(
            f"DELETE FROM {name} WHERE {scope.owned_by(name)} AND {name}.record_id = :record_id"
        )


_RECORDS = {Training: _Records(trainings, TRAINING), Evaluation: _Records(evaluations, EVALUATION)}
_REFERENCES = (
    # owner, referring name, and for tables the model's name as recorded: `references` compares its
    # fold with this model's
    (
        values.RESULT_TABLES,
        Statement(
            "SELECT result_tables.tenant_id, coalesce((SELECT min(versions.recipe) FROM versions "
            f"WHERE {scope.referring('versions')} "
            "AND versions.table_name = result_tables.table_name), result_tables.recipe), "
            f"result_tables.model_id FROM result_tables WHERE {scope.referring('result_tables')} "
            "AND result_tables.model_id IS NOT NULL "
            "AND result_tables.status IN ('ready', 'building')"
        ),
    ),
    (
        values.TRAINING_OUTPUT,
        Statement(
            "SELECT model_training.tenant_id, model_training.base, NULL FROM model_training "
            f"WHERE {scope.referring('model_training')} AND model_training.output_fold = :fold"
        ),
    ),
    (
        values.TRAINING_BASE,
        Statement(
            "SELECT model_training.tenant_id, model_training.output, NULL FROM model_training "
            f"WHERE {scope.referring('model_training')} AND model_training.base = :model_key"
        ),
    ),
    (
        values.EVALUATION,
        Statement(
            "SELECT model_evaluations.tenant_id, model_evaluations.metrics, NULL "
            f"FROM model_evaluations WHERE {scope.referring('model_evaluations')} "
            "AND model_evaluations.model = :model_key"
        ),
    ),
)


class ModelRepository(DatedRepository):
    """The models of the bound scope."""

    def put(self, record: ModelRecord, version: int | None = None) -> ModelRecord:
        """Register a model: as that version, else as the version with its digest, else as a new
        one. Return the registered record.

        An existing version keeps its status, its creation time and the spelling of its name; also
        its artifact, digest and dimensions where the record has none. Raises TenantForbidden.
        """
        self._scope.check_owner(record.tenant, f"The model {record.name!r}")
        with self._database.write() as tx:
            rows = [model for model in self.versions(record.name) if model.tenant == record.tenant]
            number = version if version is not None else _number_for(record, rows)
            name = rows[0].name if rows else record.name
            key = model_key(record.tenant, name, number)
            new_record = record.with_values(name=name, version=number, key=key)
            existing = next((model for model in rows if model.version == number), None)
            if existing is not None:
                new_record = _merge_versions(existing, new_record)
                row = MODEL.encode(new_record)
                _UPDATE.execute(tx, row | scope.owner_key(record.tenant, model_key=key))
            else:
                new_record = new_record.with_values(
                    created_at=record.created_at or rfc3339(self._clock.now_ns())
                )
                _INSERT.execute(tx, MODEL.encode(new_record))
        return new_record

    def get(self, name: str, version: int | None = None) -> ModelRecord | None:
        """The model of that name, own before shared, then the highest version; or exactly that
        version, own before shared."""
        of_version = (m for m in self.versions(name) if version in (None, m.version))
        return next(of_version, None)

    def versions(self, name: str) -> builtins.list[ModelRecord]:
        """The visible versions of a name: own before shared, then the highest first."""
        rows = self._database.fetch(_VERSIONS, self._scope.parameters(fold=fold(name)))
        return [MODEL.decode(row) for row in rows]

    def list(self) -> list[ModelRecord]:
        """Every visible version, in the order of first registration."""
        rows = self._database.fetch(_LIST, self._scope.parameters())
        return [MODEL.decode(row) for row in rows]

    def remove(self, name: str, version: int | None = None) -> ModelRecord | None:
        """Delete the model that `get` returns; None when there is none. Raises ModelReferenced
        while anything refers to it, TenantForbidden."""
        with self._database.write() as tx:
            record = self.get(name, version)
            if record is None:
                return None
            self._scope.check_owner(record.tenant, f"The model {record.name!r}")
            if references := self.references(record):
                raise _referenced_error(record, references)
            _DELETE.execute(tx, scope.owner_key(record.tenant, model_key=record.key))
        return record

    def references(self, record: ModelRecord) -> Sequence[Reference]:
        """What refers to a model: ready and building tables and outputs of trainings by its name;
        bases of trainings and evaluations by its key.

        References of all tenants to a shared model count. Where some of an edge are not visible to
        the reader, all of that edge are one number without names.
        """
        parameters = scope.name_key(record.tenant, record.name) | {"model_key": record.key}
        references = []
        with self._database.read() as tx:
            for edge, statement in _REFERENCES:
                rows = []
                for row in statement.fetch(tx, parameters):
                    if row[2] is None or fold(row[2]) == fold(record.name):
                        rows.append(row)
                if any(tenant not in (None, self._scope.tenant) for tenant, _, _ in rows):
                    references.append(Reference(edge, None, len(rows)))
                    continue
                counts = Counter(
                    ", ".join(msgspec.json.decode(value)) if edge == values.EVALUATION else value
                    for _, value, _ in rows
                )
                references += [Reference(edge, name, counts[name]) for name in sorted(counts)]
        return references

    def add(self, record: Training | Evaluation) -> None:
        """Store a training or evaluation record. Raises TenantForbidden."""
        self._scope.check_owner(record.tenant, "The record")
        with self._database.write() as tx:
            kind = _RECORDS[type(record)]
            kind.insert.execute(tx, kind.mapping.encode(record))

    def records(self) -> Sequence[Record]:
        """The visible records, oldest first."""
        with self._database.read() as tx:
            records: builtins.list[Record] = [
                kind.mapping.decode(row)
                for kind in _RECORDS.values()
                for row in kind.list.fetch(tx, self._scope.parameters())
            ]
        return sorted(records, key=lambda record: record.created_at)

    def remove_record(self, record: Training | Evaluation) -> bool:
        """Delete a record; return whether it existed. Raises TenantForbidden for a shared one under
        a tenant."""
        kind = _RECORDS[type(record)]
        with self._database.write() as tx:
            rows = kind.owner.fetch(tx, self._scope.parameters(record_id=record.record_id))
            if not rows:
                return False
            [[tenant]] = rows
            self._scope.check_owner(tenant, "The record")
            kind.delete.execute(tx, scope.owner_key(tenant, record_id=record.record_id))
        return True


def require_model(tx: Connection, tenant: str | None, key: str) -> None:
    """Raise ModelNotFound unless that tenant sees a model of that key in this transaction."""
    if not _EXISTS.fetch(tx, scope.tenant_parameters(tenant, model_key=key)):
        raise ModelNotFound(
            f"The model {key!r} was deleted meanwhile.",
            hint="Register it again: ws.models.register(name, …).",
        )


def _number_for(record: ModelRecord, versions: Sequence[ModelRecord]) -> int:
    """The highest version with the record's digest, else the next free number."""
    for model in versions:
        if record.digest == model.digest or (
            record.digest is not None and record.digest == model.artifact_digest
        ):
            return model.version
    return 1 + max((model.version for model in versions), default=0)


def _merge_versions(old: ModelRecord, new: ModelRecord) -> ModelRecord:
    """The record that registering an existing version again leaves."""
    unchanged: dict[str, Any] = {"status": old.status, "created_at": old.created_at}
    if new.artifact is None:
        unchanged |= {"artifact": old.artifact, "artifact_digest": old.artifact_digest}
    if new.digest is None:
        unchanged["digest"] = old.digest
    if new.dimensions is None:
        unchanged["dimensions"] = old.dimensions
    return new.with_values(**unchanged)


def _referenced_error(record: ModelRecord, references: Sequence[Reference]) -> ModelReferenced:
    edges = {reference.edge for reference in references}
    steps = ["ws.drop(name) removes tables" if values.RESULT_TABLES in edges else ""]
    steps.append(
        "ws.models.forget(record) removes one of ws.models.records()"
        if edges - {values.RESULT_TABLES}
        else ""
    )
    reference_list = ", ".join(str(reference) for reference in references[:6]) + (
        " …" if len(references) > 6 else ""
    )
    return ModelReferenced(
        f"The model {record.name!r}, version {record.version}, cannot be deleted because it "
        f"is referenced: {reference_list}.",
        references=references,
        hint="; ".join(filter(None, steps)) + ".",
    )
