"""Registered models, what was recorded about them, and the delete that nothing can slip past.

The scan for references and the delete are one transaction, and so are the look for the model and the row of a table that begins with it: the
write lock puts one wholly before the other. (Semantics: jammi-db's model repository, with tenants' references to a shared model counted too.)
"""

import builtins
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from jammi_lab.catalog import scope
from jammi_lab.catalog.database import Database
from jammi_lab.catalog.rows import (
    EVALUATION,
    MODEL,
    TRAINING,
    evaluation_record,
    evaluation_row,
    model_record,
    model_row,
    training_record,
    training_row,
)
from jammi_lab.catalog.schema import evaluations, models, result_tables, trainings, versions
from jammi_lab.catalog.scope import Scope
from jammi_lab.clock import Clock, rfc3339
from jammi_lab.errors import ModelNotFound, ModelReferenced
from jammi_lab.names import fold
from jammi_lab.values import models as values
from jammi_lab.values.models import Evaluation, ModelRecord, Reference, Training, model_key

Record = Training | Evaluation

_fold: sa.BindParameter[str] = sa.bindparam("fold")
_key: sa.BindParameter[str] = sa.bindparam("model_key")
_ONE: sa.ColumnElement[Any] = sa.literal_column("1")
_GET = scope.select(*MODEL, seen=models).where(models.c.name_fold == _fold).order_by(scope.own_first(models), models.c.version.desc())
_GET_VERSION = _GET.where(models.c.version == sa.bindparam("number"))
_OF = scope.select_of(*MODEL, seen=models).where(models.c.name_fold == _fold).order_by(models.c.version.desc())
_LIST = scope.select(*MODEL, seen=models).order_by(models.c.created_at, models.c.name_fold, models.c.version)
_UPDATE = scope.update_of(models).where(models.c.key == _key)
_DELETE = scope.delete_of(models).where(models.c.key == _key)
_HELD = scope.select(_ONE, seen=models).where(models.c.key == _key)

_TRAININGS = scope.select(*TRAINING, seen=trainings).order_by(trainings.c.created_at, trainings.c.record_id)
_EVALUATIONS = scope.select(*EVALUATION, seen=evaluations).order_by(evaluations.c.created_at, evaluations.c.record_id)
_FORGET = {table: scope.delete_of(table).where(table.c.record_id == sa.bindparam("record_id")) for table in (trainings, evaluations)}
_RECORD = {
    table: scope.select(table.c.tenant_id, seen=table).where(table.c.record_id == sa.bindparam("record_id")) for table in (trainings, evaluations)
}

_t = result_tables
_called = scope.select_reaching(sa.func.min(versions.c.recipe), seen=versions).where(versions.c.table_name == _t.c.table_name).scalar_subquery()
_made = sa.and_(_t.c.model_id.is_not(None), _t.c.status.in_([sa.literal_column("'ready'"), sa.literal_column("'building'")]))
_REFERRING: tuple[tuple[str, sa.Select[Any]], ...] = (
    # whose, what refers, and for tables the model's name as their maker spelt it: which of them fold to this model's is seen below
    (
        values.RESULT_TABLES,
        scope.select_reaching(_t.c.tenant_id, sa.func.coalesce(_called, _t.c.recipe), _t.c.model_id, seen=_t).where(_made),
    ),
    (
        values.TRAINING_OUTPUT,
        scope.select_reaching(trainings.c.tenant_id, trainings.c.base, sa.null(), seen=trainings).where(trainings.c.output_fold == _fold),
    ),
    (
        values.TRAINING_BASE,
        scope.select_reaching(trainings.c.tenant_id, trainings.c.output, sa.null(), seen=trainings).where(trainings.c.base == _key),
    ),
    (
        values.EVALUATION,
        scope.select_reaching(evaluations.c.tenant_id, evaluations.c.metrics, sa.null(), seen=evaluations).where(evaluations.c.model == _key),
    ),
)


class Models:
    """The models of the bound scope."""

    def __init__(self, database: Database, bound: Scope, clock: Clock) -> None:
        self._database, self._scope, self._clock = database, bound, clock

    def put(self, record: ModelRecord, version: int | None = None) -> ModelRecord:
        """The model as it is now registered: as that version, else as the version that has its digest, else as a new one.

        A version that was there keeps its status, its age, the spelling of its name, and its artifact, digest and dimensions where the record has
        none; the rest is the record's. TenantForbidden.
        """
        self._scope.check_owner(record.tenant, f"The model {record.name!r}")
        with self._database.write() as tx:
            there = [model_record(row) for row in tx.execute(_OF, {"owner": record.tenant or "", "fold": fold(record.name)}).all()]
            number = version if version is not None else _number_for(record, there)
            name = there[0].name if there else record.name
            key = model_key(record.tenant, name, number)
            kept = msgspec.structs.replace(record, name=name, version=number, key=key)
            old = next((model for model in there if model.version == number), None)
            if old is not None:
                kept = _over(old, kept)
                tx.execute(_UPDATE.values(**_without_key(kept)), {"owner": record.tenant or "", "model_key": key})
            else:
                kept = msgspec.structs.replace(kept, created_at=record.created_at or rfc3339(self._clock.now_ns()))
                tx.execute(sa.insert(models), model_row(kept))
        return kept

    def get(self, name: str, version: int | None = None) -> ModelRecord | None:
        """The model of that name, own before shared and then the highest version; or exactly that version, own before shared."""
        with self._database.read() as tx:
            if version is None:
                row = tx.execute(_GET.limit(1), self._scope.params(fold=fold(name))).first()
            else:
                row = tx.execute(_GET_VERSION.limit(1), self._scope.params(fold=fold(name), number=version)).first()
        return None if row is None else model_record(row)

    def list(self) -> list[ModelRecord]:
        """Every version that is visible, in the order in which they were first registered."""
        with self._database.read() as tx:
            return [model_record(row) for row in tx.execute(_LIST, self._scope.params()).all()]

    def remove(self, name: str, version: int | None = None) -> ModelRecord | None:
        """The model that `get` finds, which is gone now; None when there is none. ModelReferenced while anything refers to it, TenantForbidden."""
        with self._database.write() as tx:
            record = self.get(name, version)
            if record is None:
                return None
            self._scope.check_owner(record.tenant, f"The model {record.name!r}")
            if found := self.references(record):
                raise _referenced(record, found)
            tx.execute(_DELETE, {"owner": record.tenant or "", "model_key": record.key})
        return record

    def references(self, record: ModelRecord) -> Sequence[Reference]:
        """What refers to a model: ready and building tables and outputs of trainings by its name, bases of trainings and evaluations by its key.

        To a shared model everybody's do; where some are not the reader's to see, all of that edge are a number without a name.
        """
        bound = {"owner": record.tenant or "", "fold": fold(record.name), "model_key": record.key}
        found = []
        with self._database.read() as tx:
            for edge, statement in _REFERRING:
                rows = [row for row in tx.execute(statement, bound).all() if row[2] is None or fold(row[2]) == fold(record.name)]
                if any(tenant not in (None, self._scope.tenant) for tenant, _, _ in rows):
                    found.append(Reference(edge, None, len(rows)))
                    continue
                named = Counter(", ".join(msgspec.json.decode(what)) if edge == values.EVALUATION else what for _, what, _ in rows)
                found += [Reference(edge, name, named[name]) for name in sorted(named)]
        return found

    def add(self, record: Training | Evaluation) -> None:
        """Keep a record of a training or an evaluation. TenantForbidden."""
        self._scope.check_owner(record.tenant, "The record")
        with self._database.write() as tx:
            if isinstance(record, Training):
                tx.execute(sa.insert(trainings), training_row(record))
            else:
                tx.execute(sa.insert(evaluations), evaluation_row(record))

    def records(self) -> Sequence[Record]:
        """The records that are visible, oldest first."""
        with self._database.read() as tx:
            made: builtins.list[Record] = [training_record(row) for row in tx.execute(_TRAININGS, self._scope.params()).all()]
            made += [evaluation_record(row) for row in tx.execute(_EVALUATIONS, self._scope.params()).all()]
        return sorted(made, key=lambda record: record.created_at)

    def forget(self, record: Training | Evaluation) -> bool:
        """Whether the record was there and is gone. TenantForbidden for a shared one under a tenant."""
        table = trainings if isinstance(record, Training) else evaluations
        with self._database.write() as tx:
            row = tx.execute(_RECORD[table], self._scope.params(record_id=record.record_id)).first()
            if row is None:
                return False
            self._scope.check_owner(row[0], "The record")
            tx.execute(_FORGET[table], {"owner": row[0] or "", "record_id": record.record_id})
        return True


def require_model(tx: sa.Connection, tenant: str | None, key: str) -> None:
    """ModelNotFound unless that tenant sees a model of that key in this transaction."""
    if tx.execute(_HELD, scope.as_tenant(tenant, model_key=key)).first() is None:
        raise ModelNotFound(f"The model {key!r} was deleted meanwhile.", hint="Register it again: ws.models.register(name, …).")


def _number_for(record: ModelRecord, there: Sequence[ModelRecord]) -> int:
    """The highest version with the record's digest, else the next one."""
    for model in there:
        if record.digest == model.digest or (record.digest is not None and record.digest == model.artifact_digest):
            return model.version
    return 1 + max((model.version for model in there), default=0)


def _over(old: ModelRecord, new: ModelRecord) -> ModelRecord:
    """What registering a version again leaves."""
    kept: dict[str, Any] = {"status": old.status, "created_at": old.created_at}
    if new.artifact is None:
        kept |= {"artifact": old.artifact, "artifact_digest": old.artifact_digest}
    if new.digest is None:
        kept["digest"] = old.digest
    if new.dimensions is None:
        kept["dimensions"] = old.dimensions
    return msgspec.structs.replace(new, **kept)


def _without_key(record: ModelRecord) -> dict[str, Any]:
    return {column: value for column, value in model_row(record).items() if column not in ("key", "tenant_id")}


def _referenced(record: ModelRecord, found: Sequence[Reference]) -> ModelReferenced:
    edges = {reference.edge for reference in found}
    steps = ["ws.drop(name) removes tables" if values.RESULT_TABLES in edges else ""]
    steps.append("ws.models.forget(record) removes one of ws.models.records()" if edges - {values.RESULT_TABLES} else "")
    said = ", ".join(str(reference) for reference in found[:6]) + (" …" if len(found) > 6 else "")
    return ModelReferenced(
        f"The model {record.name!r}, version {record.version}, cannot be deleted while it is referred to: {said}.",
        references=found,
        hint="; ".join(filter(None, steps)) + ".",
    )
