"""Runs as OpenLineage events: one START and one COMPLETE or FAIL for each table that was made, with schema, version and column lineage.

Run ids follow from the table's physical name, so that exporting twice tells the receiver nothing new. Datasets that lie outside have the names that
OpenLineage gives them (`file` and the path, `s3://bucket` and the key, `postgres://host:port` and the table); recipes and frames live in the
namespace of the workspace. Nothing here holds a credential: locations come without theirs.
"""

import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jammi_lab.catalog.catalog import Catalog
from jammi_lab.clock import seconds_since
from jammi_lab.errors import ExtensionMissing, InvalidArgument, SourceUnavailable, TableDamaged
from jammi_lab.sensing.columns import ColumnEdge, ColumnLineage
from jammi_lab.sensing.models import MODEL
from jammi_lab.sources.locations import full_location, scheme_of, shown, without_credentials
from jammi_lab.storage.files import write_atomic
from jammi_lab.store import manifests
from jammi_lab.values.anchors import Anchor, Input, InputKind
from jammi_lab.values.manifest import Manifest
from jammi_lab.values.records import SourceRecord, TableKind, TableRecord, TableStatus, VersionRecord

if TYPE_CHECKING:
    from openlineage.client.event_v2 import Job, RunEvent

NAMESPACE = "jammi_lab"
_RUNS = uuid.UUID("2f9a5b0e-6d1c-5a55-9a8e-7b6f1b6a4c11")
_DATABASES = {"postgresql": ("postgres", 5432), "mysql": ("mysql", 3306), "mariadb": ("mysql", 3306)}
_SECONDS = 10.0
"""How long one request may take."""

Made = tuple[str, TableRecord]
"""What a table is called, and its record."""


def made_by_versions(found: Iterable[tuple[VersionRecord, TableRecord]]) -> list[Made]:
    """Each physical table once, the oldest first, under the name of the oldest version that refers to it."""
    oldest: dict[str, Made] = {}
    for version, record in sorted(found, key=lambda pair: (pair[0].created_at, pair[0].version)):
        oldest.setdefault(record.table_name, (version.recipe, record))
    return list(oldest.values())


class Events:
    """Makes the events of tables. ExtensionMissing without the client."""

    def __init__(self, catalog: Catalog, columns: ColumnLineage, folder: Path | None = None, namespace: str = NAMESPACE) -> None:
        try:
            import openlineage.client.facet_v2
        except ImportError:
            raise ExtensionMissing("The OpenLineage client is not installed.", hint="pip install 'jammi-lab[openlineage]'") from None
        self._catalog, self._columns, self._folder, self._namespace = catalog, columns, folder, namespace
        self._facets: Any = openlineage.client.facet_v2
        self._sources = {source.name: source for source in catalog.sources.list()}

    def of(self, tables: Iterable[Made]) -> "list[RunEvent]":
        """The events of ready and failed tables, by time; others have not ended."""
        events = [e for name, record in tables if record.status in (TableStatus.READY, TableStatus.FAILED) for e in self._run(name, record)]
        return sorted(events, key=lambda e: e.eventTime)

    def _run(self, name: str, record: TableRecord) -> "list[RunEvent]":
        from openlineage.client.event_v2 import OutputDataset, Run, RunEvent, RunState

        times = (record.created_at, record.completed_at)
        if (wrong := next((at for at in times if at is not None and seconds_since(at, 0) is None), None)) is not None:
            said = f"The catalog says of {name!r} version {record.version} that it was made at {wrong[:50]!r}, which is no time."
            raise TableDamaged(said, table=record.table_name, hint=f"Drop that version, or make {name!r} again.")
        ready = record.status is TableStatus.READY
        manifest = manifests.parse(self._catalog.tables.manifest(record.table_name)) if ready else None
        producer = f"urn:jammi-lab:{manifest.engine_version if manifest else 'unknown'}"
        job = self._job(name, record, manifest, producer)
        run = str(uuid.uuid5(_RUNS, record.table_name))
        inputs = [self._input(anchor, record.tenant, producer) for anchor in record.anchors if anchor.input.kind is not InputKind.CLOCK]
        inputs += self._model(record, manifest, producer)
        output = OutputDataset(self._own(record.tenant), name, outputFacets={})
        start = RunEvent(
            eventType=RunState.START,
            eventTime=record.created_at,
            run=Run(run, facets={}),
            job=job,
            producer=producer,
            inputs=inputs,
            outputs=[output],
        )
        end = RunEvent(
            eventType=RunState.COMPLETE if ready else RunState.FAIL,
            eventTime=record.completed_at or record.created_at,
            run=Run(run, facets={} if ready else self._failure(record, producer)),
            job=job,
            producer=producer,
            inputs=inputs,
            outputs=[self._output(name, record, producer)] if ready else [output],
        )
        return [start, end]

    def _job(self, name: str, record: TableRecord, manifest: Manifest | None, producer: str) -> "Job":
        from openlineage.client.event_v2 import Job

        f = self._facets
        facets = {
            "jobType": f.job_type_job.JobTypeJobFacet(
                processingType="BATCH", integration="JAMMI_LAB", jobType=record.kind.value.upper(), producer=producer
            )
        }
        statement = (manifest.descriptor if manifest else {}).get("statement")
        if statement:
            facets["sql"] = f.sql_job.SQLJobFacet(query=str(statement), dialect="duckdb", producer=producer)
        return Job(self._own(record.tenant), name, facets=facets)

    def _failure(self, record: TableRecord, producer: str) -> dict[str, Any]:
        said = record.error or "The table was not finished."
        return {"errorMessage": self._facets.error_message_run.ErrorMessageRunFacet(message=said, programmingLanguage="Python", producer=producer)}

    def _input(self, anchor: Anchor, tenant: str | None, producer: str) -> Any:
        from openlineage.client.event_v2 import InputDataset

        f, (namespace, name) = self._facets, self.dataset(anchor.input, tenant)
        fields = [f.schema_dataset.SchemaDatasetFacetFields(name=c, type=t) for c, t in zip(anchor.columns, anchor.types, strict=False)]
        facets = {}
        if fields:
            facets["schema"] = f.schema_dataset.SchemaDatasetFacet(fields=fields, producer=producer)
        if anchor.pinned:
            version = str(anchor.version) if anchor.version is not None else anchor.value
            facets["version"] = f.dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=version, producer=producer)
        return InputDataset(namespace, name, facets=facets, inputFacets={})

    def _model(self, record: TableRecord, manifest: Manifest | None, producer: str) -> list[Any]:
        """The model that a table was embedded by, as what it read: its version is the digest of its weights, where they are shown."""
        from openlineage.client.event_v2 import InputDataset

        if record.kind is not TableKind.EMBEDDING or record.model_id is None:
            return []
        encoder = (manifest.descriptor if manifest else {}).get("encoder") or {}
        facets = {}
        if version := encoder.get("weights") or encoder.get("version"):
            facets["version"] = self._facets.dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=str(version), producer=producer)
        return [InputDataset(self._own(record.tenant), f"{MODEL}.{record.model_id}", facets=facets, inputFacets={})]

    def _output(self, name: str, record: TableRecord, producer: str) -> Any:
        from openlineage.client.event_v2 import OutputDataset

        f = self._facets
        fields = [f.schema_dataset.SchemaDatasetFacetFields(name=c.name, type=c.type) for c in record.columns]
        facets = {
            "schema": f.schema_dataset.SchemaDatasetFacet(fields=fields, producer=producer),
            "version": f.dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=str(record.version), producer=producer),
        }
        if edges := self._columns.edges(name, record):
            facets["columnLineage"] = self._column_lineage(edges, record, producer)
        statistics = f.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            rowCount=record.row_count, size=record.bytes, producer=producer
        )
        return OutputDataset(self._own(record.tenant), name, facets=facets, outputFacets={"outputStatistics": statistics})

    def _column_lineage(self, edges: Sequence[ColumnEdge], record: TableRecord, producer: str) -> Any:
        f = self._facets.column_lineage_dataset
        places = {a.input.label: self.dataset(a.input, record.tenant) for a in record.anchors}
        fields: dict[str, Any] = {}
        for edge in edges:
            how = f.Transformation(type="DIRECT" if edge.direct else "INDIRECT")
            read = f.InputField(*places[edge.input], field=edge.input_column, transformations=[how])
            fields.setdefault(edge.derived_column, f.Fields(inputFields=[])).inputFields.append(read)
        return f.ColumnLineageDatasetFacet(fields=fields, producer=producer)

    def dataset(self, input: Input, tenant: str | None) -> tuple[str, str]:
        """Namespace and name of an input."""
        source = self._sources.get(input.name) if input.kind is InputKind.SOURCE else None
        if source is not None and source.kind != "frame":
            return outside(source, input.table, self._folder)
        prefix = "" if input.kind is InputKind.RESULT else f"{input.kind.value}."
        return self._own(tenant), prefix + input.label

    def _own(self, tenant: str | None) -> str:
        return f"{self._namespace}/{tenant}" if tenant else self._namespace


def outside(source: SourceRecord, table: str | None, folder: Path | None) -> tuple[str, str]:
    """The namespace and name that OpenLineage has for data outside."""
    location = shown(source.location)
    scheme = scheme_of(location)
    if scheme is None or scheme in ("sqlite", "duckdb"):
        path = full_location(source.location, folder) if scheme is None else location.split("://", 1)[1]
        return "file", os.path.abspath(path) + (f"#{table}" if table else "")
    parts = urlsplit(without_credentials(location))
    host = parts.netloc.rpartition("@")[2]
    below = parts.path.strip("/")
    if scheme in _DATABASES:
        called, port = _DATABASES[scheme]
        place = host if host.rpartition(":")[2].isdigit() else f"{host}:{port}"
        return f"{called}://{place}", ".".join(each for each in (below, table or "") if each) or "/"
    return f"{scheme}://{host}", (below + (f"#{table}" if table else "")) or "/"


def send(events: "Sequence[RunEvent]", target: str | os.PathLike[str], api_key: str | None = None) -> None:
    """Write events to a file, one JSON object a line, or post them to a server, one request each.

    InvalidArgument for a place that is neither; SourceUnavailable when it does not take them.
    """
    if isinstance(target, str) and scheme_of(target) in ("http", "https"):
        _post(events, target, api_key)
        return
    if isinstance(target, str) and scheme_of(target) is not None:
        raise InvalidArgument(f"Events go to a file or to an http address, not to {without_credentials(target)!r}.")
    from openlineage.client.serde import Serde

    body = "".join(Serde.to_json(event) + "\n" for event in events)
    path = Path(os.path.abspath(os.path.expanduser(os.fspath(target))))
    try:
        write_atomic(path, body.encode())
    except OSError as error:
        raise SourceUnavailable(
            f"{str(target)!r} cannot be written: {error.strerror}.", hint="Choose a file in a folder that you may write to."
        ) from None


def _post(events: "Sequence[RunEvent]", url: str, api_key: str | None) -> None:
    from openlineage.client.transport.http import ApiKeyTokenProvider, HttpConfig, HttpTransport, TokenProvider

    parts = urlsplit(url)
    if parts.username or parts.password or parts.query:
        raise InvalidArgument("A credential does not belong into the address.", hint="Put it into the environment variable OPENLINEAGE_API_KEY.")
    key = api_key or os.environ.get("OPENLINEAGE_API_KEY")
    auth = ApiKeyTokenProvider({"api_key": key}) if key else TokenProvider({})
    config = HttpConfig(
        url=f"{parts.scheme}://{parts.netloc}",
        endpoint=parts.path.strip("/") or "api/v1/lineage",
        timeout=_SECONDS,
        auth=auth,
        retry={"total": 0},
    )
    transport = HttpTransport(config)
    _each(events, transport.emit, f"{parts.scheme}://{parts.netloc}{parts.path}")


def _each(events: "Sequence[RunEvent]", emit: "Callable[[RunEvent], object]", shown_url: str) -> None:
    for sent, event in enumerate(events):
        try:
            emit(event)
        except Exception as error:  # noqa: BLE001 — whatever its library raises, its text may hold what was sent
            status = getattr(getattr(error, "response", None), "status_code", None)
            said = f"answered {status}" if status else f"cannot be reached ({type(error).__name__})"
            raise SourceUnavailable(f"{shown_url} {said}; {sent:,} of {len(events):,} events were taken.", hint="Sending again is safe.") from None
