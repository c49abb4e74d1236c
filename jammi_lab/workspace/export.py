"""Writes rows to files outside the workspace: Parquet, Arrow and CSV, with their stamp."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from jammi_lab.core.errors import InvalidArgument, SchemaMismatch
from jammi_lab.features.outputs.file_stamps import stamp_file
from jammi_lab.features.outputs.stamps import Stamp
from jammi_lab.sources.locations import (
    check_no_credentials,
    check_writable_path,
    resolve_output_path,
)
from jammi_lab.storage.files import AtomicFile, remove_leftovers
from jammi_lab.store.storage_errors import copy_error, translate_storage_errors
from jammi_lab.store.workspace_identity import ID_FILE

if TYPE_CHECKING:
    import pyarrow as pa

Write = Callable[[Path], None]
"""Writes the rows to a new file."""


class ExportableRows(Protocol):
    """What has rows."""

    def arrow(self) -> "pa.Table": ...


def export(
    path: str | Path, rows: ExportableRows, write_parquet: Write, stamp: Callable[[], Stamp | None]
) -> Path:
    """Write the rows to a file in the format of its extension, and its stamp. The file appears when
    it is complete. InvalidArgument; SchemaMismatch; ResourceExhausted."""
    check_no_credentials(str(path))
    target = resolve_output_path(path)
    writers: dict[str, Write] = {
        ".parquet": write_parquet,
        ".csv": lambda file: _write_csv(rows.arrow(), file),
        ".arrow": lambda file: _write_arrow(rows.arrow(), file),
    }
    writers[".feather"] = writers[".arrow"]
    if (write := writers.get(target.suffix.lower())) is None:
        raise InvalidArgument(
            f"A table cannot be exported as {target.suffix or target.name!r}.",
            hint="A path ends in .parquet, .csv or .arrow; Excel takes "
            f"ws.table('name').pandas().to_excel({target.stem + '.xlsx'!r}).",
        )
    with translate_storage_errors(str(target), copy_error):
        if not target.parent.is_dir():
            raise InvalidArgument(
                f"The folder {str(target.parent)!r} does not exist.",
                hint="Create it first.",
            )
        _check_outside_workspaces(target)
        remove_leftovers(target)
        file = AtomicFile(target)
        try:
            write(file.temp)
            if (made := stamp()) is not None:
                stamp_file(file.temp, made, target)
            file.commit()
        finally:
            file.abort()
    return target


def _check_outside_workspaces(target: Path) -> None:
    """Raise InvalidArgument for a file of the own folders of any workspace."""
    for folder in target.resolve().parents:
        if (folder / "catalog.sqlite3").is_file() or (folder / ID_FILE).is_file():
            check_writable_path(str(target), folder)


def _write_arrow(rows: "pa.Table", target: Path) -> None:
    from pyarrow import feather

    feather.write_feather(rows, str(target))


def _write_csv(rows: "pa.Table", target: Path) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    for field, values in zip(rows.schema, rows.columns, strict=True):
        try:
            is_plain = not pa.types.is_nested(field.type)
            if pa.types.is_binary(field.type):
                values.cast(pa.string())
            if pa.types.is_temporal(field.type):  # Arrow has no text of a date such as 'infinity'
                texts = values.cast(pa.string())
                is_plain = not pc.any(pc.match_substring(texts, "<value out of range")).as_py()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # bytes that are no text
            is_plain = False
        if not is_plain:
            raise SchemaMismatch(
                f"CSV cannot hold the column {field.name!r}.",
                column=field.name,
                expected="plain values",
                actual=str(field.type),
                hint="Export it as .parquet or .arrow.",
            )
    csv.write_csv(rows, target)
