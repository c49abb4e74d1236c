"""Connector for sheets of workbooks. Any change of the file's bytes changes the state."""

import hashlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from jammi_lab.core.anchors import source_input
from jammi_lab.core.caches import ObjectCache
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import ExtensionMissing, SourceUnavailable
from jammi_lab.core.identifiers import fold, quote_identifier
from jammi_lab.sources import read_errors, scratch_duckdb
from jammi_lab.sources.base import ReadPlan, Relation
from jammi_lab.sources.databases import reader_process
from jammi_lab.sources.databases.reader_process import ReaderError
from jammi_lab.sources.files import file_checks
from jammi_lab.sources.files.connector import FileConnector
from jammi_lab.sources.files.csv_errors import Misfit
from jammi_lab.sources.files.decisions import Decision
from jammi_lab.sources.files.file_sets import SourceFile
from jammi_lab.sources.files.text_columns import decide_columns
from jammi_lab.sources.files.workbook_columns import cell_address
from jammi_lab.sources.scratch_duckdb import sql_types

_READER = "jammi_lab.sources.files.workbook_reader"
"""Imported by the child process only."""
_MAX_KEPT_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet as it was read."""

    rows: pa.Table
    notes: tuple[str, ...]
    """What had to be decided, one sentence each."""

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return int(self.rows.nbytes)


_sheets = ObjectCache(_MAX_KEPT_BYTES)
"""Sheets of recent statements, by the digest of the file's bytes and the options."""


class ExcelConnector(FileConnector):
    """A registered sheet: the first one, or the one of the option `sheet`."""

    faults = (SourceUnavailable,)

    def _decide(self, source_files: Sequence[SourceFile]) -> Decision:
        sheet = self._sheet(source_files)
        return Decision(sql_types(sheet.rows.schema), sheet.notes)

    def _relation(self, source_files: list[SourceFile]) -> Relation:
        rows = self._sheet(source_files).rows
        return Relation(
            source_input(self.record.name),
            ReadPlan(frame=rows),
            columns=sql_types(rows.schema),
        )

    def _sheet(self, source_files: Sequence[SourceFile]) -> Sheet:
        """The sheet. Raises SourceUnavailable, ExtensionMissing, OSError."""
        if len(source_files) > 1:
            raise SourceUnavailable(
                f"{self.location} matches {len(source_files)} workbooks; a source reads one.",
                hint="Add each as a source and combine them with UNION ALL BY NAME.",
            )
        with source_files[0].open() as file:
            data = file.read()
        key = digest_of([hashlib.sha256(data).hexdigest(), self.record.options])
        return _sheets.load(key, lambda: self._read(data, source_files[0]))

    def _read(self, data: bytes, source_file: SourceFile) -> Sheet:
        if importlib.util.find_spec("python_calamine") is None:
            raise ExtensionMissing(
                "The package python_calamine, which reads workbooks, is not installed.",
                hint='Run: pip install "jammi-lab[excel]".',
            )
        name = read_errors.display_name(source_file.path)
        with tempfile.TemporaryDirectory(prefix="jammi-") as folder:
            copy, target = os.path.join(folder, "workbook"), os.path.join(folder, "rows")
            Path(copy).write_bytes(data)
            request = {
                "do": "workbook",
                "module": _READER,
                "paths": sys.path,
                "path": copy,
                "name": name,
                "options": self.record.options,
                "to": target,
            }
            try:
                answer = reader_process.request(request)
            except ReaderError as error:
                raise SourceUnavailable(
                    f"{name} cannot be read: its sheets may be too large for memory, or it is "
                    "damaged.",
                    hint="Open it in a spreadsheet program and save it again, or save the sheet "
                    "as CSV.",
                ) from error
            if "refused" in answer:
                message, hint, near = answer["refused"]
                raise SourceUnavailable(message, hint=hint, near=near)
            with pa.OSFile(target) as file:
                rows = pa.ipc.open_file(file).read_all()
        file_checks.check_column_count(name, rows.num_columns)
        if types := self.record.options.get("types"):
            rows = _with_types(rows, types)
        return Sheet(rows.replace_schema_metadata(), tuple(answer["notes"]))


def _with_types(rows: pa.Table, types: Mapping[str, str]) -> pa.Table:
    """The rows with the columns of `types`, which are texts, in these types. Raises
    SourceUnavailable for a value that does not fit."""
    declared = {fold(name) for name in types}
    names = [name for name in rows.column_names if fold(name) in declared]
    relation = Relation(source_input(""), ReadPlan(frame=rows))
    try:
        columns = decide_columns(relation, names, {"types": types}, rows.nbytes)
    except Misfit as misfit:
        column = rows.column_names.index(misfit.column)
        row = pc.index(rows[column], misfit.value).as_py()
        place = {key.decode(): value.decode() for key, value in rows.schema.metadata.items()}
        cell = cell_address(int(place["column"]) + column, int(place["row"]) + row)
        raise misfit.error_at(f"{place['place']}, cell {cell}") from None
    casts = []
    for name, typed in columns.items():
        quoted = quote_identifier(name)
        casts.append(f"CAST({quoted} AS {typed.type}) AS {quoted}")
    with scratch_duckdb.connect(relation) as connection:
        rows_typed = connection.execute(f"SELECT * REPLACE ({', '.join(casts)}) FROM it")
        return rows_typed.to_arrow_table()
