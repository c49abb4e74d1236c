"""Conversion between rows of the catalog and records."""

import enum
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec
import sqlalchemy as sa

from jammi_lab.catalog.schema import (
    check_results,
    checks,
    evaluations,
    models,
    recipes,
    result_tables,
    sources,
    trainings,
    versions,
)
from jammi_lab.core.anchors import Anchor, InputKind
from jammi_lab.core.checks import CheckOutcome, CheckRecord, CheckResult, Severity
from jammi_lab.core.errors import TableDamaged
from jammi_lab.core.identifiers import fold
from jammi_lab.core.manifest import ManifestColumn
from jammi_lab.core.model_records import Evaluation, ModelRecord, Training
from jammi_lab.core.records import (
    RecipeRecord,
    SourceRecord,
    TableKind,
    TableRecord,
    TableStatus,
    VersionRecord,
)

T = TypeVar("T")
E = TypeVar("E", bound=enum.Enum)


class _JsonColumn(Generic[T]):
    """Decodes a JSON column of one type. Raises TableDamaged for invalid content."""

    def __init__(self, kind: type[T]) -> None:
        self._decoder = msgspec.json.Decoder(kind)

    def decode(self, text: Any) -> T:
        try:
            return self._decoder.decode(text)
        except (msgspec.DecodeError, TypeError):
            raise _damaged_error() from None


def _damaged_error() -> TableDamaged:
    return TableDamaged(
        "The catalog is damaged: a row contains invalid data.",
        hint="jammi_lab.rebuild(path) creates a new catalog from the manifests and keeps this one.",
    )


def _enum_member(kinds: type[E], value: Any) -> E:
    try:
        return kinds(value)
    except ValueError:
        raise _damaged_error() from None


class EnumColumn(dict[str, E]):
    """The members of an enum by their values in a column. Raises TableDamaged for an unknown
    value."""

    def __init__(self, kinds: type[E]) -> None:
        super().__init__({str(kind): kind for kind in kinds})

    def __missing__(self, word: str) -> E:
        raise _damaged_error()


_columns = _JsonColumn(list[ManifestColumn])
_anchors = _JsonColumn(list[Anchor])
_texts = _JsonColumn(list[str])
_options = _JsonColumn(dict[str, Any])
_metrics = _JsonColumn(dict[str, int | float])
_inputs = _JsonColumn(list[tuple[str, str, str]])


class DecodedRows(Generic[T]):
    """The records of one statement's rows, so that a row that did not change is decoded once in a
    kernel and stays the same object.

    Rows are known again by their hash, because the rows themselves take as much memory as the
    records. It is seeded and has 64 bits: two contents of a row do not meet in practice."""

    def __init__(self, decode: Callable[[Sequence[Any]], T]) -> None:
        self._decode = decode
        self._known: dict[Hashable, dict[int, T]] = {}

    def decode(self, rows: Iterable[Any], scope: Mapping[str, Hashable]) -> list[T]:
        """The records of all rows in a scope. Those of its earlier rows are forgotten. Raises
        TableDamaged."""
        group = tuple(scope.values())
        known, decoded = self._known.get(group, {}), dict[int, T]()
        for row in rows:
            key = hash(tuple(row))
            record = known.get(key)
            decoded[key] = self._decode(row) if record is None else record
        self._known[group] = decoded
        return [*decoded.values()]


def _columns_without(table: sa.Table, folded: str) -> tuple[sa.Column[Any], ...]:
    return tuple(column for column in table.c if column.name != folded)


TABLE = _columns_without(result_tables, "table_fold")
"""The columns that `table_record` takes, in order."""

VERSION = _columns_without(versions, "recipe_fold")
"""The columns that `version_record` takes, in order."""

RECIPE = _columns_without(recipes, "name_fold")
"""The columns that `recipe_record` takes, in order."""

SOURCE = _columns_without(sources, "name_fold")
"""The columns that `source_record` takes, in order."""

MODEL = _columns_without(models, "name_fold")
"""The columns that `model_record` takes, in order."""

TRAINING = _columns_without(trainings, "output_fold")
"""The columns that `training_record` takes, in order."""

EVALUATION: tuple[sa.Column[Any], ...] = tuple(evaluations.c)
"""The columns that `evaluation_record` takes, in order."""


CHECK: tuple[sa.Column[Any], ...] = tuple(
    column for column in checks.c if column.name not in ("name_fold", "recipe_fold")
)
"""The columns that `check_record` takes, in order."""

CHECK_RESULT: tuple[sa.Column[Any], ...] = tuple(
    column for column in check_results.c if column.name not in ("check_fold", "anchors_digest")
)
"""The columns that `check_result` takes, in order."""


def table_record(row: Sequence[Any]) -> TableRecord:
    """The record of a row of TABLE."""
    name, tenant, kind, status, writer, definition, rows, recipe = row[:8]
    version, path, source, model, derived, key, dimensions, size = row[8:16]
    created, completed, seconds, columns, anchors, digest, manifest_digest = row[16:23]
    ordered, flight, error = row[23:26]
    return TableRecord(
        table_name=name,
        kind=_enum_member(TableKind, kind),
        status=_enum_member(TableStatus, status),
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
    return VersionRecord(
        recipe=recipe,
        version=version,
        table_name=table_name,
        tenant=tenant,
        created_at=created,
        pinned=bool(pinned),
        note=note,
    )


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
        kind=_enum_member(TableKind, kind),
        descriptor=_options.decode(descriptor),
        environment=_options.decode(environment),
        definition_hash=definition,
        tenant=tenant,
        inputs=_inputs.decode(inputs),
        created_at=created,
        updated_at=updated,
    )


def decode_inputs(text: str) -> list[tuple[str, str, str]]:
    """The inputs of a recipe, from their column."""
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
    row = {
        name: getattr(record, name) for name in SourceRecord.__struct_fields__ if name != "tenant"
    }
    return row | {
        "tenant_id": record.tenant,
        "name_fold": fold(record.name),
        "options": _json(record.options),
    }


def model_record(row: Sequence[Any]) -> ModelRecord:
    """The record of a row of MODEL."""
    (
        key,
        tenant,
        name,
        version,
        type_,
        backend,
        task,
        dimensions,
        digest,
        artifact,
        artifact_digest,
        base,
        config,
        status,
        created,
    ) = row
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
    row = {
        name: getattr(record, name) for name in ModelRecord.__struct_fields__ if name != "tenant"
    }
    config = None if record.config is None else _json(record.config)
    return row | {"tenant_id": record.tenant, "name_fold": fold(record.name), "config": config}


def training_record(row: Sequence[Any]) -> Training:
    """The record of a row of TRAINING."""
    record_id, tenant, output, base, created = row
    return Training(
        output=output, base=base, tenant=tenant, record_id=record_id, created_at=created
    )


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
    return Evaluation(
        model=model,
        metrics=_metrics.decode(metrics),
        tenant=tenant,
        record_id=record_id,
        created_at=created,
    )


def evaluation_row(record: Evaluation) -> dict[str, Any]:
    """The row of a record, by column."""
    return {
        "record_id": record.record_id,
        "tenant_id": record.tenant,
        "model": record.model,
        "metrics": _json(record.metrics),
        "created_at": record.created_at,
    }


def check_record(row: Sequence[Any]) -> CheckRecord:
    """The record of a row of CHECK."""
    tenant, name, recipe, subject, severity, rule, statement, params, created, updated, kind = row
    return CheckRecord(
        name=name,
        recipe=recipe,
        subject=subject,
        severity=_enum_member(Severity, severity),
        rule=rule,
        statement=statement,
        params=_options.decode(params),
        tenant=tenant,
        created_at=created,
        updated_at=updated,
        kind=_enum_member(InputKind, kind),
    )


def check_row(record: CheckRecord) -> dict[str, Any]:
    """The row of a record, by column."""
    row = msgspec.structs.asdict(record)
    row["tenant_id"], row["params"] = row.pop("tenant"), _json(record.params)
    folds = {"name_fold": fold(record.name), "recipe_fold": fold(record.recipe)}
    return row | folds | {"severity": str(record.severity), "kind": record.kind.value}


def check_result(row: Sequence[Any]) -> CheckResult:
    """The result of a row of CHECK_RESULT."""
    tenant, check, table, definition, anchors, severity, outcome, *figures = row
    failing, error, checked_at, seconds = figures
    return CheckResult(
        check=check,
        table_name=table,
        tenant=tenant,
        definition_hash=definition,
        severity=_enum_member(Severity, severity),
        outcome=_enum_member(CheckOutcome, outcome),
        failing=failing,
        error=error,
        anchors=_anchors.decode(anchors),
        checked_at=checked_at,
        seconds=seconds,
    )


def check_result_row(result: CheckResult) -> dict[str, Any]:
    """The row of a result, by column."""
    row = msgspec.structs.asdict(result)
    row["tenant_id"], row["check_name"] = row.pop("tenant"), row.pop("check")
    return row | {
        "check_fold": fold(result.check),
        "anchors": _json(result.anchors),
        "anchors_digest": result.anchors_digest,
        "severity": str(result.severity),
        "outcome": str(result.outcome),
    }


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
