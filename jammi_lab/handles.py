"""One version of a recipe, as people hold it."""

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from jammi_lab import forms
from jammi_lab.engine.prepared import Prepared
from jammi_lab.errors import InvalidArgument, JammiError, SchemaMismatch
from jammi_lab.framed import Framed
from jammi_lab.markup import Form, Shown
from jammi_lab.result import Result
from jammi_lab.sensing.reports import OnProgress
from jammi_lab.storage.files import AtomicFile, Place, opened
from jammi_lab.storage.remote import RemotePath
from jammi_lab.store.failures import copy_error
from jammi_lab.values.anchors import Input
from jammi_lab.values.manifest import Manifest
from jammi_lab.values.records import Reuse, TableKind, TableRecord, VersionRecord
from jammi_lab.values.verdicts import Verdict, Verification
from jammi_lab.versions import Versioned

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.sensing.lineage import Lineage


class Tables(Protocol):
    """What a ResultTable asks of its workspace."""

    def verify(self, name: "str | ResultTable", expected: str | None = None, *, progress: OnProgress = None) -> Verification: ...
    def staleness(self, name: "str | ResultTable", *, progress: OnProgress = None) -> Verdict: ...
    def lineage(
        self, name: "str | ResultTable | None" = None, *, direction: Literal["both", "up", "down"] = "both", depth: int | None = None
    ) -> "Lineage": ...
    def _read(self, record: TableRecord) -> Result: ...
    def _result(self, prepared: Prepared) -> Result: ...
    def _require_seen(self, record: TableRecord) -> None: ...
    def _path(self, record: TableRecord) -> Place: ...
    def _elsewhere(self, path: str | os.PathLike[str]) -> None: ...
    def _manifest(self, record: TableRecord) -> Manifest | None: ...


class ResultTable(Versioned, Shown, Framed):
    """One version of a recipe: an immutable table with its manifest."""

    _tables: Tables

    def __init__(self, tables: Tables, version: VersionRecord, record: TableRecord, outcome: str = "computed", reuse: Reuse | None = None) -> None:
        self._tables, self._version, self._record = tables, version, record
        self.outcome = outcome
        self._reuse = reuse

    @property
    def name(self) -> str:
        """The recipe."""
        return self._version.recipe

    @property
    def version(self) -> int:
        """Which version of the recipe."""
        return self._version.version

    @property
    def table_name(self) -> str:
        """The physical name."""
        return self._record.table_name

    @property
    def kind(self) -> str:
        """What made it."""
        return self._record.kind.value

    @property
    def status(self) -> str:
        """building, ready, failed or deleting, when it was fetched."""
        return self._record.status.value

    @property
    def source_id(self) -> str | None:
        """The one source whose rows these are; None for several."""
        return self._record.source_id

    @property
    def model_id(self) -> str | None:
        """The encoder, where there is one."""
        return self._record.model_id

    @property
    def derived_from(self) -> str | None:
        """The one result table read, where it is one."""
        return self._record.derived_from

    @property
    def key(self) -> list[str]:
        """The columns that identify a row."""
        return list(self._record.key)

    @property
    def dimensions(self) -> int | None:
        """Width of its vectors."""
        return self._record.dimensions

    @property
    def tenant(self) -> str | None:
        """Whose it is; None is shared."""
        return self._record.tenant

    @property
    def row_count(self) -> int | None:
        """Rows."""
        return self._record.row_count

    @property
    def bytes(self) -> int | None:
        """Size of the Parquet file."""
        return self._record.bytes

    @property
    def seconds(self) -> float | None:
        """How long its making took; None where that is not known."""
        return self._record.seconds

    @property
    def created_at(self) -> str:
        """When its making began, RFC 3339."""
        return self._record.created_at

    @property
    def completed_at(self) -> str | None:
        """When it became ready."""
        return self._record.completed_at

    @property
    def definition_hash(self) -> str | None:
        """The digest of what was computed."""
        return self._record.definition_hash

    @property
    def inputs(self) -> list[Input]:
        """What it was made from, with the columns read."""
        return [a.input for a in self._record.anchors]

    @property
    def reuse(self) -> Reuse | None:
        """New, changed, removed and unchanged rows, of this call or of when it was made; None for producers that reuse no rows, and where no
        manifest tells."""
        if self._reuse is None and self._record.kind is TableKind.EMBEDDING:
            with contextlib.suppress(JammiError):
                self._reuse = Reuse.told(manifest.counts) if (manifest := self.manifest) else None
        return self._reuse

    @property
    def manifest(self) -> Manifest | None:
        """Its attestation; None for a table from before manifests. TableNotFound while another tenant than its own is bound."""
        self._tables._require_seen(self._record)
        return self._tables._manifest(self._record)

    @property
    def path(self) -> Path | Any:
        """The Parquet file; its URL, a text, when it lies in an object store. TableDamaged; TableNotFound as for `manifest`."""
        place = self._tables._path(self._record)
        return place if isinstance(place, Path) else str(place)

    def read(self) -> Result:
        """The rows. TableDamaged when the bytes are gone or are not the published ones."""
        return self._tables._read(self._record)

    def arrow(self) -> "pa.Table":
        """All rows as an Arrow table, as `read().arrow()`. TableDamaged."""
        return self.read().arrow()

    def scan(self, engine: Literal["polars", "duckdb", "pyarrow"] = "polars") -> Any:
        """A lazy scan in another engine: a polars LazyFrame, a DuckDB relation or a pyarrow Dataset. TableDamaged; InvalidArgument."""
        place = self._tables._path(self._record)
        if isinstance(place, RemotePath):
            return _scan_remote(place, engine)
        path = str(place)
        match engine:
            case "polars":
                import polars as pl

                return pl.scan_parquet(path, glob=False, hive_partitioning=False)
            case "duckdb":
                import duckdb

                return duckdb.read_parquet(path, hive_partitioning=False)
            case "pyarrow":
                import pyarrow.dataset as ds

                return ds.dataset(path, format="parquet")
        raise InvalidArgument(f"{engine!r} is no engine to scan with.", near=["polars", "duckdb", "pyarrow"])

    def export(self, path: str | Path) -> Path:
        """A copy of the rows as .parquet, .csv, .arrow or .feather, by the ending; a file of that name is replaced when the copy is whole.

        InvalidArgument for another ending, and a folder that is missing, one of the workspace's own or none that may be written to;
        SchemaMismatch for a column that CSV cannot hold; ResourceExhausted, TableDamaged."""
        target = Path(path).expanduser().absolute()
        try:
            if not target.parent.is_dir():
                raise InvalidArgument(f"There is no folder {str(target.parent)!r} to export to.", hint="Make it first.")
        except OSError as error:
            raise copy_error(error, target) from None
        if (write := _EXPORTS.get(target.suffix.lower())) is None:
            raise InvalidArgument(f"A table cannot be exported as {target.suffix or target.name!r}.", near=[".parquet", ".csv", ".arrow"])
        self._tables._elsewhere(target)
        file = AtomicFile(target)
        try:
            write(self, file.temp)
            file.commit()
        except OSError as error:
            raise copy_error(error, target) from None
        finally:
            file.abort()
        return target

    def verify(self, expected: str | None = None, *, progress: OnProgress = None) -> Verification:
        """Whether the bytes, the manifest and (when given) the definition are as attested."""
        return self._tables.verify(self, expected, progress=progress)

    def staleness(self, *, progress: OnProgress = None) -> Verdict:
        """Whether it is the output of its recipe over its inputs as they are now."""
        return self._tables.staleness(self, progress=progress)

    def lineage(self) -> "Lineage":
        """What it was made from and what was made from it."""
        return self._tables.lineage(self)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.read().__arrow_c_stream__(requested_schema)

    def _form(self) -> Form:
        record = self._record
        return forms.result_table(
            self.name,
            version=self.version,
            kind=self.kind,
            rows=record.row_count,
            columns=[(c.name, c.type) for c in record.columns],
            inputs=[i.label for i in self.inputs],
            key=record.key,
            bytes=record.bytes,
            status=self.status,
            outcome=self.outcome,
            note=str(self._reuse) if self._reuse else record.error or "",
        )


def _write_parquet(table: ResultTable, target: Path) -> None:
    with opened(table._tables._path(table._record)) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy)


def _write_arrow(table: ResultTable, target: Path) -> None:
    from pyarrow import feather

    feather.write_feather(table.arrow(), str(target))


def _write_csv(table: ResultTable, target: Path) -> None:
    import pyarrow as pa
    from pyarrow import csv

    rows = table.arrow()
    for field in rows.schema:
        if pa.types.is_nested(field.type):
            raise SchemaMismatch(
                f"CSV cannot hold the column {field.name!r}.",
                column=field.name,
                expected="a plain type",
                actual=str(field.type),
                hint="Export it as .parquet or .arrow.",
            )
    csv.write_csv(rows, target)


_EXPORTS: dict[str, Callable[[ResultTable, Path], None]] = {
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".arrow": _write_arrow,
    ".feather": _write_arrow,
}


class ResultTables(list[ResultTable], Shown):
    """Versions, one line each when they are shown."""

    __repr__ = Shown.__repr__

    def _form(self) -> Form:
        return forms.result_tables((t.name, t.version, t.kind, t.status, t.row_count, t.bytes) for t in self)


def _scan_remote(place: RemotePath, engine: str) -> Any:
    """A lazy scan of a file in an object store, through its filesystem."""
    import pyarrow.dataset as ds

    dataset = ds.dataset(place.key, filesystem=place.fs, format="parquet")
    match engine:
        case "polars":
            import polars as pl

            return pl.scan_pyarrow_dataset(dataset)
        case "duckdb":
            import duckdb

            return duckdb.from_arrow(dataset)
        case "pyarrow":
            return dataset
    raise InvalidArgument(f"{engine!r} is no engine to scan with.", near=["polars", "duckdb", "pyarrow"])
