"""OpenLineage export: one START and one COMPLETE or FAIL event per computed table, with schema,
version and column lineage.

Run ids are derived from the table's physical name, so that a repeated export is idempotent.
External datasets are named by OpenLineage's conventions (`file` and the path, `s3://bucket` and the
key, `postgres://host:port` and the table). Recipes and frames are in the workspace's namespace.
Locations are exported without credentials.
"""

import os
import uuid
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.core.anchors import Anchor, Input
from jammi_lab.core.checks import Severity
from jammi_lab.core.errors import ExtensionMissing, InvalidArgument, SourceUnavailable, TableDamaged
from jammi_lab.core.input_kinds import MODEL_KIND
from jammi_lab.core.module_imports import import_modules
from jammi_lab.core.records import SourceRecord, TableRecord, TableStatus, VersionRecord
from jammi_lab.core.version import __version__
from jammi_lab.freshness.table_column_lineage import ColumnEdge, ColumnLineage
from jammi_lab.sources.locations import (
    display_location,
    full_location,
    resolve_output_path,
    scheme_of,
    without_credentials,
)
from jammi_lab.storage.files import StoragePath, write_outside
from jammi_lab.store import manifests

if TYPE_CHECKING:
    from openlineage.client.event_v2 import InputDataset, Job, RunEvent

NAMESPACE = "jammi_lab"
_PRODUCER = f"urn:jammi-lab:{__version__}"
_RUN_NAMESPACE = uuid.UUID("2f9a5b0e-6d1c-5a55-9a8e-7b6f1b6a4c11")
_DATABASES = {
    "postgresql": ("postgres", 5432),
    "mysql": ("mysql", 3306),
    "mariadb": ("mysql", 3306),
}

NamedTable = tuple[str, TableRecord]
"""The recipe name of a table, and its record."""


class RunEvents:
    """The events of the visible tables of a workspace."""

    def __init__(
        self, catalog: Catalog, columns: ColumnLineage, folder: Path | None, tables: StoragePath
    ) -> None:
        """`tables` is the folder of the result tables, into which nothing is exported."""
        self._catalog, self._columns, self._folder = catalog, columns, folder
        self._tables = tables

    def of_newest(self, names: Container[str]) -> "list[RunEvent]":
        """The runs that computed the newest versions of some recipes. Raises as `EventBuilder`."""
        newest = self._catalog.result_tables.current()
        tables = [(version.recipe, record) for version, record in newest if version.recipe in names]
        return EventBuilder(self._catalog, self._columns, self._folder).build(tables)

    def export(self, target: str | os.PathLike[str], namespace: str) -> int:
        """Write the events of all runs to a file, one JSON object per line; returns their number.

        InvalidArgument for a URL; SourceUnavailable when the file cannot be written; raises as
        `EventBuilder`.
        """
        if isinstance(target, str) and scheme_of(target) is not None:
            raise InvalidArgument(
                f"Events are written to a file, not sent to {without_credentials(target)!r}.",
                hint="Send the lines of the file: curl -d posts one to an OpenLineage server.",
            )
        path = resolve_output_path(target, self._tables)
        tables = _oldest_named_tables(self._catalog.result_tables.list(status=None))
        events = EventBuilder(self._catalog, self._columns, self._folder, namespace).build(tables)
        self._columns.flush()
        from openlineage.client.serde import Serde

        try:
            write_outside(path, "".join(Serde.to_json(event) + "\n" for event in events).encode())
        except OSError as error:
            raise SourceUnavailable(
                f"{str(target)!r} cannot be written: {error.strerror}.",
                hint="Choose a file in a folder where you have write permission.",
            ) from None
        return len(events)


def _oldest_named_tables(versions: Iterable[tuple[VersionRecord, TableRecord]]) -> list[NamedTable]:
    """Each physical table once, oldest first, with the recipe name of its oldest version."""
    oldest: dict[str, NamedTable] = {}
    for version, record in sorted(versions, key=lambda pair: (pair[0].created_at, pair[0].version)):
        oldest.setdefault(record.table_name, (version.recipe, record))
    return list(oldest.values())


class EventBuilder:
    """Builds the events of tables. ExtensionMissing when the client is not installed."""

    def __init__(
        self,
        catalog: Catalog,
        columns: ColumnLineage,
        folder: Path | None = None,
        namespace: str = NAMESPACE,
    ) -> None:
        try:
            with import_modules():  # all of it: other methods take parts of what is loaded here
                import openlineage.client.event_v2
                import openlineage.client.facet_v2
                import openlineage.client.serde
        except ImportError:
            raise ExtensionMissing(
                "The OpenLineage client is not installed.",
                hint="pip install 'jammi-lab[openlineage]'",
            ) from None
        self._catalog = catalog
        self._columns = columns
        self._folder = folder
        self._namespace = namespace
        self._facets: Any = openlineage.client.facet_v2
        self._sources = {source.name: source for source in catalog.sources.list()}

    def build(self, tables: Iterable[NamedTable]) -> "list[RunEvent]":
        """The events of ready, rejected and failed tables, by time; other runs have not ended."""
        ended = []
        for name, record in tables:
            if record.status not in (TableStatus.BUILDING, TableStatus.DELETING):
                ended.append((name, record))
        events = [e for name, record in ended for e in self._run_events(name, record)]
        return sorted(events, key=lambda e: e.eventTime)

    def _run_events(self, name: str, record: TableRecord) -> "list[RunEvent]":
        """The run that computed a table, and the run of its checks."""
        from openlineage.client.event_v2 import OutputDataset, RunState

        is_ready = record.status is TableStatus.READY
        manifest = None
        if is_ready:
            manifest = manifests.parse(self._catalog.result_tables.manifest(record.table_name))
        descriptor = {} if manifest is None else manifest.descriptor
        namespace = self._tenant_namespace(record.tenant)
        inputs = [
            self._input(anchor, record.tenant)
            for anchor in record.anchors
            if anchor.input.kind_class.has_rows
        ]
        inputs += self._model_inputs(record, descriptor)
        planned = OutputDataset(namespace, name, outputFacets={})
        message = record.error or "The table was not completed."
        failure = _facet(
            self._facets.error_message_run.ErrorMessageRunFacet,
            message=message,
            programmingLanguage="Python",
        )
        job = self._job(namespace, name, record.kind.upper(), descriptor.get("statement"))
        run = self._new_run(job, record.table_name, inputs)
        try:
            return [
                run(RunState.START, record.created_at, [planned]),
                run(
                    RunState.COMPLETE if is_ready else RunState.FAIL,
                    record.completed_at or record.created_at,
                    [self._output(name, record) if is_ready else planned],
                    {} if is_ready else {"errorMessage": failure},
                ),
                *self._check_events(name, record),
            ]
        except ValueError:  # the client checks times alone
            raise TableDamaged(
                f"The catalog has an invalid time for {name!r} version {record.version}.",
                table=record.table_name,
                hint=f"Drop that version, or recompute {name!r}.",
            ) from None

    def _new_run(
        self, job: "Job", key: str, inputs: "list[InputDataset]"
    ) -> "Callable[..., RunEvent]":
        """Makes the events of a run from state, time, outputs and facets of the run."""
        from openlineage.client.event_v2 import Run, RunEvent

        run_id = str(uuid.uuid5(_RUN_NAMESPACE, key))

        def event(state: Any, time: str, outputs: list[Any], facets: Any = None) -> "RunEvent":
            return RunEvent(
                eventType=state,
                eventTime=time,
                run=Run(run_id, facets=facets or {}),
                job=job,
                producer=_PRODUCER,
                inputs=inputs,
                outputs=outputs,
            )

        return event

    def _check_events(self, name: str, record: TableRecord) -> "list[RunEvent]":
        """The run of the checks of a table, which reads it and makes nothing; its latest results
        are assertions about that input. None without any."""
        from openlineage.client.event_v2 import InputDataset, RunState

        results = [
            (check, result)
            for check in self._catalog.checks.of_recipe(record.tenant, name)
            for result in self._catalog.checks.results(check, record.table_name, 1)
        ]
        if not results:
            return []
        assertions = [
            self._facets.data_quality_assertions_dataset.Assertion(
                assertion="custom_sql",
                success=result.passes,
                severity="error" if result.severity is Severity.BLOCK else "warn",
                name=check.name,
                description=check.text,
                expected="0",
                actual=None if result.failing is None else str(result.failing),
            )
            for check, result in results
        ]
        facet = _facet(
            self._facets.data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet,
            assertions=assertions,
        )
        namespace = self._tenant_namespace(record.tenant)
        dataset = InputDataset(
            namespace,
            name,
            facets={"version": self._version(record.version)},
            inputFacets={"dataQualityAssertions": facet},
        )
        times = [result.checked_at for _, result in results]
        job = self._job(namespace, f"{name}.checks", "CHECK")
        run = self._new_run(job, f"{record.table_name}.checks", [dataset])
        return [run(RunState.START, min(times), []), run(RunState.COMPLETE, max(times), [])]

    def _job(self, namespace: str, name: str, job_type: str, statement: object = None) -> "Job":
        from openlineage.client.event_v2 import Job

        facets = {
            "jobType": _facet(
                self._facets.job_type_job.JobTypeJobFacet,
                processingType="BATCH",
                integration="JAMMI_LAB",
                jobType=job_type,
            )
        }
        if statement:
            facets["sql"] = _facet(
                self._facets.sql_job.SQLJobFacet, query=str(statement), dialect="duckdb"
            )
        return Job(namespace, name, facets=facets)

    def _version(self, version: object) -> Any:
        return _facet(
            self._facets.dataset_version_dataset.DatasetVersionDatasetFacet,
            datasetVersion=str(version),
        )

    def _schema(self, columns: Iterable[tuple[str, str]]) -> Any:
        field = self._facets.schema_dataset.SchemaDatasetFacetFields
        return _facet(
            self._facets.schema_dataset.SchemaDatasetFacet,
            fields=[field(name=c, type=t) for c, t in columns],
        )

    def _input(self, anchor: Anchor, tenant: str | None) -> Any:
        from openlineage.client.event_v2 import InputDataset

        facets = {}
        if anchor.columns and anchor.types:
            facets["schema"] = self._schema(zip(anchor.columns, anchor.types, strict=False))
        if anchor.pinned:
            version = anchor.value if anchor.version is None else anchor.version
            facets["version"] = self._version(version)
        return InputDataset(*self.dataset(anchor.input, tenant), facets=facets, inputFacets={})

    def _model_inputs(self, record: TableRecord, descriptor: Mapping[str, Any]) -> list[Any]:
        """The embedding model of a table as an input dataset. Its version is the digest of its
        weights if that is known."""
        from openlineage.client.event_v2 import InputDataset

        if not record.recipe_class.has_encoder or record.model_id is None:
            return []
        encoder = descriptor.get("encoder") or {}
        version = encoder.get("weights") or encoder.get("version")
        facets = {"version": self._version(version)} if version else {}
        namespace, name = self._tenant_namespace(record.tenant), f"{MODEL_KIND}.{record.model_id}"
        return [InputDataset(namespace, name, facets=facets, inputFacets={})]

    def _output(self, name: str, record: TableRecord) -> Any:
        from openlineage.client.event_v2 import OutputDataset

        facets = {
            "schema": self._schema((c.name, c.type) for c in record.columns),
            "version": self._version(record.version),
        }
        edges = self._columns.edges(name, record)
        if edges:
            facets["columnLineage"] = self._column_lineage(edges, record)
        statistics = _facet(
            self._facets.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet,
            rowCount=record.row_count,
            size=record.bytes,
        )
        return OutputDataset(
            self._tenant_namespace(record.tenant),
            name,
            facets=facets,
            outputFacets={"outputStatistics": statistics},
        )

    def _column_lineage(self, edges: Sequence[ColumnEdge], record: TableRecord) -> Any:
        f = self._facets.column_lineage_dataset
        datasets = {a.input.label: self.dataset(a.input, record.tenant) for a in record.anchors}
        fields: dict[str, Any] = {}
        for edge in edges:
            transformation = f.Transformation(type="DIRECT" if edge.direct else "INDIRECT")
            field = f.InputField(
                *datasets[edge.input], field=edge.input_column, transformations=[transformation]
            )
            fields.setdefault(edge.derived_column, f.Fields(inputFields=[])).inputFields.append(
                field
            )
        return _facet(f.ColumnLineageDatasetFacet, fields=fields)

    def dataset(self, input: Input, tenant: str | None) -> tuple[str, str]:
        """Namespace and name of an input."""
        source = self._sources.get(input.name) if input.kind_class.is_stored else None
        if source is not None and source.kind != "frame":
            return external_dataset(source, input.table, self._folder)
        prefix = "" if input.kind_class.is_result else f"{input.kind}."
        return self._tenant_namespace(tenant), prefix + input.label

    def _tenant_namespace(self, tenant: str | None) -> str:
        return f"{self._namespace}/{tenant}" if tenant else self._namespace


def _facet(kind: Callable[..., Any], **fields: Any) -> Any:
    return kind(producer=_PRODUCER, **fields)


def external_dataset(
    source: SourceRecord, table: str | None, folder: Path | None
) -> tuple[str, str]:
    """The OpenLineage namespace and name of an external source."""
    location = display_location(source.location)
    scheme = scheme_of(location)
    if scheme is None or scheme in ("sqlite", "duckdb"):
        path = (
            full_location(source.location, folder)
            if scheme is None
            else location.split("://", 1)[1]
        )
        return "file", os.path.abspath(path) + (f"#{table}" if table else "")
    parts = urlsplit(without_credentials(location))
    host = parts.netloc.rpartition("@")[2]
    path_in_source = parts.path.strip("/")
    if scheme in _DATABASES:
        scheme_name, port = _DATABASES[scheme]
        address = host if host.rpartition(":")[2].isdigit() else f"{host}:{port}"
        return f"{scheme_name}://{address}", ".".join(
            part for part in (path_in_source, table or "") if part
        ) or "/"
    return f"{scheme}://{host}", (path_in_source + (f"#{table}" if table else "")) or "/"
