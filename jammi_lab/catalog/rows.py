"""Rows of the catalog as values, and values as rows."""

import enum
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec
import sqlalchemy as sa

from jammi_lab.catalog.schema import evaluations, models, recipes, result_tables, sources, trainings, versions
from jammi_lab.errors import TableDamaged
from jammi_lab.names import fold
from jammi_lab.values.anchors import Anchor
from jammi_lab.values.manifest import Column
from jammi_lab.values.models import Evaluation, ModelRecord, Training
from jammi_lab.values.records import RecipeRecord, SourceRecord, TableKind, TableRecord, TableStatus, VersionRecord

T = TypeVar("T")
E = TypeVar("E", bound=enum.Enum)


class _Held(Generic[T]):
    """Reads what a column holds as JSON of one type. TableDamaged for what nothing here wrote."""

    def __init__(self, kind: type[T]) -> None:
        self._decoder = msgspec.json.Decoder(kind)

    def decode(self, text: Any) -> T:
        try:
            return self._decoder.decode(text)
        except (msgspec.DecodeError, TypeError):
            raise _foreign() from None


def _foreign() -> TableDamaged:
    return TableDamaged(
        "The catalog is damaged: a row of it holds what nothing here wrote.",
        hint="jammi_lab.rebuild(path) makes a new one from the manifests and keeps this one aside.",
    )


def _one_of(kinds: type[E], word: Any) -> E:
    try:
        return kinds(word)
    except ValueError:
        raise _foreign() from None


class Words(dict[str, E]):
    """The members of an enum by the words that a column holds for them. TableDamaged for a word that nothing here wrote."""

    def __init__(self, kinds: type[E]) -> None:
        super().__init__({str(kind): kind for kind in kinds})

    def __missing__(self, word: str) -> E:
        raise _foreign()


_columns = _Held(list[Column])
_anchors = _Held(list[Anchor])
_texts = _Held(list[str])
_options = _Held(dict[str, Any])
_metrics = _Held(dict[str, int | float])
_inputs = _Held(list[tuple[str, str, str]])

TABLE: tuple[sa.Column[Any], ...] = tuple(column for column in result_tables.c if column.name != "table_fold")
"""What `table_record` takes, in its order."""

VERSION: tuple[sa.Column[Any], ...] = tuple(column for column in versions.c if column.name != "recipe_fold")
"""What `version_record` takes, in its order."""

RECIPE: tuple[sa.Column[Any], ...] = tuple(column for column in recipes.c if column.name != "name_fold")
"""What `recipe_record` takes, in its order."""

SOURCE: tuple[sa.Column[Any], ...] = tuple(column for column in sources.c if column.name != "name_fold")
"""What `source_record` takes, in its order."""

MODEL: tuple[sa.Column[Any], ...] = tuple(column for column in models.c if column.name != "name_fold")
"""What `model_record` takes, in its order."""

TRAINING: tuple[sa.Column[Any], ...] = tuple(column for column in trainings.c if column.name != "output_fold")
"""What `training_record` takes, in its order."""

EVALUATION: tuple[sa.Column[Any], ...] = tuple(evaluations.c)
"""What `evaluation_record` takes, in its order."""


def table_record(row: Sequence[Any]) -> TableRecord:
    """The record of a row of TABLE."""
    (name, tenant, kind, status, writer, definition, rows, recipe, version, path, source, model, derived, key, dimensions, size) = row[:16]
    (created, completed, seconds, columns, anchors, digest, manifest_digest, ordered, flight, error) = row[16:26]
    return TableRecord(
        table_name=name,
        kind=_one_of(TableKind, kind),
        status=_one_of(TableStatus, status),
        recipe=recipe,
        version=version,
        tenant=tenant,
        writer_id=writer,
        definition_hash=definition,
        path=path,
        source_id=source,
        model_id=model,
        derived_from=derived,
        key=_texts.decode(key),
        dimensions=dimensions,
        row_count=rows,
        bytes=size,
        created_at=created,
        completed_at=completed,
        seconds=seconds,
        columns=_columns.decode(columns),
        anchors=_anchors.decode(anchors),
        digest=digest,
        manifest_digest=manifest_digest,
        order_sensitive=bool(ordered),
        flight=bool(flight),
        error=error,
    )


def table_row(record: TableRecord) -> dict[str, Any]:
    """The row of a record, by column."""
    row = msgspec.structs.asdict(record)
    row["tenant_id"], row["key_columns"] = row.pop("tenant"), _json(row.pop("key"))
    row["table_fold"] = fold(record.table_name)
    row["kind"], row["status"] = str(record.kind), str(record.status)
    row["columns"], row["anchors"] = _json(record.columns), _json(record.anchors)
    row["order_sensitive"], row["flight"] = int(record.order_sensitive), int(record.flight)
    return row


def version_record(row: Sequence[Any]) -> VersionRecord:
    """The record of a row of VERSION."""
    tenant, recipe, version, table_name, created, pinned, note = row[:7]
    return VersionRecord(recipe=recipe, version=version, table_name=table_name, tenant=tenant, created_at=created, pinned=bool(pinned), note=note)


def version_row(record: VersionRecord) -> dict[str, Any]:
    """The row of a record, by column."""
    return {
        "tenant_id": record.tenant,
        "recipe": record.recipe,
        "recipe_fold": fold(record.recipe),
        "version": record.version,
        "table_name": record.table_name,
        "created_at": record.created_at,
        "pinned": int(record.pinned),
        "note": record.note,
    }


def recipe_record(row: Sequence[Any]) -> RecipeRecord:
    """The record of a row of RECIPE."""
    tenant, name, kind, descriptor, environment, definition, inputs, created, updated = row
    return RecipeRecord(
        name=name,
        kind=_one_of(TableKind, kind),
        descriptor=_options.decode(descriptor),
        environment=_options.decode(environment),
        definition_hash=definition,
        tenant=tenant,
        inputs=_inputs.decode(inputs),
        created_at=created,
        updated_at=updated,
    )


def inputs_of(text: str) -> list[tuple[str, str, str]]:
    """What a recipe reads, from the column that holds it."""
    return _inputs.decode(text)


def recipe_row(record: RecipeRecord) -> dict[str, Any]:
    """The row of a record, by column."""
    return {
        "tenant_id": record.tenant,
        "name": record.name,
        "name_fold": fold(record.name),
        "kind": str(record.kind),
        "descriptor": _json(record.descriptor),
        "environment": _json(record.environment),
        "definition_hash": record.definition_hash,
        "inputs": _json(record.inputs),
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def source_record(row: Sequence[Any]) -> SourceRecord:
    """The record of a row of SOURCE."""
    tenant, name, kind, location, options, anchor, tenant_column, secret, created = row
    return SourceRecord(
        name=name,
        kind=kind,
        location=location,
        tenant=tenant,
        options=_options.decode(options),
        anchor=anchor,
        tenant_column=tenant_column,
        secret=secret,
        created_at=created,
    )


def source_row(record: SourceRecord) -> dict[str, Any]:
    """The row of a record, by column."""
    row = {name: getattr(record, name) for name in SourceRecord.__struct_fields__ if name != "tenant"}
    return row | {"tenant_id": record.tenant, "name_fold": fold(record.name), "options": _json(record.options)}


def model_record(row: Sequence[Any]) -> ModelRecord:
    """The record of a row of MODEL."""
    key, tenant, name, version, type_, backend, task, dimensions, digest, artifact, artifact_digest, base, config, status, created = row
    return ModelRecord(
        name=name,
        tenant=tenant,
        version=version,
        key=key,
        type=type_,
        backend=backend,
        task=task,
        dimensions=dimensions,
        digest=digest,
        artifact=artifact,
        artifact_digest=artifact_digest,
        base=base,
        config=None if config is None else _options.decode(config),
        status=status,
        created_at=created,
    )


def model_row(record: ModelRecord) -> dict[str, Any]:
    """The row of a record, by column."""
    row = {name: getattr(record, name) for name in ModelRecord.__struct_fields__ if name != "tenant"}
    config = None if record.config is None else _json(record.config)
    return row | {"tenant_id": record.tenant, "name_fold": fold(record.name), "config": config}


def training_record(row: Sequence[Any]) -> Training:
    """The record of a row of TRAINING."""
    record_id, tenant, output, base, created = row
    return Training(output=output, base=base, tenant=tenant, record_id=record_id, created_at=created)


def training_row(record: Training) -> dict[str, Any]:
    """The row of a record, by column."""
    return {
        "record_id": record.record_id,
        "tenant_id": record.tenant,
        "output": record.output,
        "output_fold": fold(record.output),
        "base": record.base,
        "created_at": record.created_at,
    }


def evaluation_record(row: Sequence[Any]) -> Evaluation:
    """The record of a row of EVALUATION."""
    record_id, tenant, model, metrics, created = row
    return Evaluation(model=model, metrics=_metrics.decode(metrics), tenant=tenant, record_id=record_id, created_at=created)


def evaluation_row(record: Evaluation) -> dict[str, Any]:
    """The row of a record, by column."""
    return {
        "record_id": record.record_id,
        "tenant_id": record.tenant,
        "model": record.model,
        "metrics": _json(record.metrics),
        "created_at": record.created_at,
    }


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
