"""Registered models, their training and evaluation records, and a guarded delete.

The scan for references and the delete are one transaction; so are the check that a model exists and
the insert of a table's row that uses it. The write lock orders one wholly before the other, so no
reference can appear during a delete. (Semantics: jammi-db's model repository, which here also
counts tenants' references to a shared model.)
"""

import builtins
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.database import Database
from jammi_lab.catalog.row_mapping import EVALUATION, MODEL, TRAINING
from jammi_lab.catalog.schema import evaluations, models, result_tables, trainings, versions
from jammi_lab.catalog.tenant_scope import TenantPredicate
from jammi_lab.core import model_records as values
from jammi_lab.core.clock import Clock, rfc3339
from jammi_lab.core.errors import ModelNotFound, ModelReferenced
from jammi_lab.core.identifiers import fold
from jammi_lab.core.model_records import Evaluation, ModelRecord, Reference, Training, model_key

Record = Training | Evaluation

_fold: sa.BindParameter[str] = sa.bindparam("fold")
_key: sa.BindParameter[str] = sa.bindparam("model_key")
_ONE: sa.ColumnElement[Any] = sa.literal_column("1")
_VERSIONS = (
    scope.select(*MODEL.columns, tables=models)
    .where(models.c.name_fold == _fold)
    .order_by(scope.own_first(models), models.c.version.desc())
)
_LIST = scope.select(*MODEL.columns, tables=models).order_by(
    models.c.created_at, models.c.name_fold, models.c.version
)
_UPDATE = scope.update_owned_by(models).where(models.c.key == _key)
_DELETE = scope.delete_owned_by(models).where(models.c.key == _key)
_EXISTS = scope.select(_ONE, tables=models).where(models.c.key == _key)

_TRAININGS = scope.select(*TRAINING.columns, tables=trainings).order_by(
    trainings.c.created_at, trainings.c.record_id
)
_EVALUATIONS = scope.select(*EVALUATION.columns, tables=evaluations).order_by(
    evaluations.c.created_at, evaluations.c.record_id
)
_DELETE_RECORD = {
    table: scope.delete_owned_by(table).where(table.c.record_id == sa.bindparam("record_id"))
    for table in (trainings, evaluations)
}
_RECORD = {
    table: scope.select(table.c.tenant_id, tables=table).where(
        table.c.record_id == sa.bindparam("record_id")
    )
    for table in (trainings, evaluations)
}

_t = result_tables
_recipe_name = (
    scope.select_referring_to(sa.func.min(versions.c.recipe), tables=versions)
    .where(versions.c.table_name == _t.c.table_name)
    .scalar_subquery()
)
_uses_model = sa.and_(
    _t.c.model_id.is_not(None),
    _t.c.status.in_([sa.literal_column("'ready'"), sa.literal_column("'building'")]),
)
_REFERENCES: tuple[tuple[str, sa.Select[Any]], ...] = (
    # owner, referring name, and for tables the model's name as recorded: `references` compares its
    # fold with this model's
    (
        values.RESULT_TABLES,
        scope.select_referring_to(
            _t.c.tenant_id, sa.func.coalesce(_recipe_name, _t.c.recipe), _t.c.model_id, tables=_t
        ).where(_uses_model),
    ),
    (
        values.TRAINING_OUTPUT,
        scope.select_referring_to(
            trainings.c.tenant_id, trainings.c.base, sa.null(), tables=trainings
        ).where(trainings.c.output_fold == _fold),
    ),
    (
        values.TRAINING_BASE,
        scope.select_referring_to(
            trainings.c.tenant_id, trainings.c.output, sa.null(), tables=trainings
        ).where(trainings.c.base == _key),
    ),
    (
        values.EVALUATION,
        scope.select_referring_to(
            evaluations.c.tenant_id, evaluations.c.metrics, sa.null(), tables=evaluations
        ).where(evaluations.c.model == _key),
    ),
)


class ModelRepository:
    """The models of the bound scope."""

    def __init__(self, database: Database, active_scope: TenantPredicate, clock: Clock) -> None:
        self._database, self._scope, self._clock = database, active_scope, clock

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
            new_record = msgspec.structs.replace(record, name=name, version=number, key=key)
            existing = next((model for model in rows if model.version == number), None)
            if existing is not None:
                new_record = _merge_versions(existing, new_record)
                tx.execute(
                    _UPDATE.values(**_without_key(new_record)),
                    {"owner": record.tenant or "", "model_key": key},
                )
            else:
                new_record = msgspec.structs.replace(
                    new_record, created_at=record.created_at or rfc3339(self._clock.now_ns())
                )
                tx.execute(sa.insert(models), MODEL.encode(new_record))
        return new_record

    def get(self, name: str, version: int | None = None) -> ModelRecord | None:
        """The model of that name, own before shared, then the highest version; or exactly that
        version, own before shared."""
        of_version = (m for m in self.versions(name) if version in (None, m.version))
        return next(of_version, None)

    def versions(self, name: str) -> builtins.list[ModelRecord]:
        """The visible versions of a name: own before shared, then the highest first."""
        with self._database.read() as tx:
            rows = tx.execute(_VERSIONS, self._scope.parameters(fold=fold(name))).all()
        return [MODEL.decode(row) for row in rows]

    def list(self) -> list[ModelRecord]:
        """Every visible version, in the order of first registration."""
        with self._database.read() as tx:
            return [MODEL.decode(row) for row in tx.execute(_LIST, self._scope.parameters()).all()]

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
            tx.execute(_DELETE, {"owner": record.tenant or "", "model_key": record.key})
        return record

    def references(self, record: ModelRecord) -> Sequence[Reference]:
        """What refers to a model: ready and building tables and outputs of trainings by its name;
        bases of trainings and evaluations by its key.

        References of all tenants to a shared model count. Where some of an edge are not visible to
        the reader, all of that edge are one number without names.
        """
        parameters = {
            "owner": record.tenant or "",
            "fold": fold(record.name),
            "model_key": record.key,
        }
        references = []
        with self._database.read() as tx:
            for edge, statement in _REFERENCES:
                rows = [
                    row
                    for row in tx.execute(statement, parameters).all()
                    if row[2] is None or fold(row[2]) == fold(record.name)
                ]
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
            if isinstance(record, Training):
                tx.execute(sa.insert(trainings), TRAINING.encode(record))
            else:
                tx.execute(sa.insert(evaluations), EVALUATION.encode(record))

    def records(self) -> Sequence[Record]:
        """The visible records, oldest first."""
        with self._database.read() as tx:
            records: builtins.list[Record] = [
                TRAINING.decode(row)
                for row in tx.execute(_TRAININGS, self._scope.parameters()).all()
            ]
            records += [
                EVALUATION.decode(row)
                for row in tx.execute(_EVALUATIONS, self._scope.parameters()).all()
            ]
        return sorted(records, key=lambda record: record.created_at)

    def remove_record(self, record: Training | Evaluation) -> bool:
        """Delete a record; return whether it existed. Raises TenantForbidden for a shared one under
        a tenant."""
        table = trainings if isinstance(record, Training) else evaluations
        with self._database.write() as tx:
            row = tx.execute(
                _RECORD[table], self._scope.parameters(record_id=record.record_id)
            ).first()
            if row is None:
                return False
            self._scope.check_owner(row[0], "The record")
            tx.execute(
                _DELETE_RECORD[table], {"owner": row[0] or "", "record_id": record.record_id}
            )
        return True


def require_model(tx: sa.Connection, tenant: str | None, key: str) -> None:
    """Raise ModelNotFound unless that tenant sees a model of that key in this transaction."""
    if tx.execute(_EXISTS, scope.tenant_parameters(tenant, model_key=key)).first() is None:
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
    return msgspec.structs.replace(new, **unchanged)


def _without_key(record: ModelRecord) -> dict[str, Any]:
    return {
        column: value
        for column, value in MODEL.encode(record).items()
        if column not in ("key", "tenant_id")
    }


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
