"""Connector for sheets of Excel workbooks. Any change of the file's bytes changes the state."""

import re
import zipfile
from typing import Any

from jammi_lab.core.anchors import Input, InputKind
from jammi_lab.core.errors import JammiError, SourceUnavailable
from jammi_lab.core.identifiers import sql_literal
from jammi_lab.sources import duckdb_extensions, read_errors, scratch_duckdb
from jammi_lab.sources.base import ObservationContext, ReadPlan, Relation, Requirements
from jammi_lab.sources.files import snapshots
from jammi_lab.sources.files.connector import FileConnector
from jammi_lab.sources.files.file_sets import SourceFile

_CELL = re.compile(r"Failed to parse cell '(\w+)': Could not convert string '(.*?)' to (\w+)", re.S)
_SHEET = re.compile(r'Sheet "(.*?)" not found')
_SUGGESTIONS = re.compile(r'Did you mean: (".*)')


class ExcelConnector(FileConnector):
    """A registered sheet: the first one, or the one of the option `sheet`. With `header=False` the
    columns are named A1, B1 …"""

    def check(self) -> None:
        """Check the extension and the file. Raises SourceUnavailable, ExtensionMissing,
        InvalidArgument."""
        duckdb_extensions.path_of("excel")
        super().check()

    def _relation(self, source_files: list[SourceFile]) -> Relation:
        [source_file] = source_files
        with self.file_set.open(source_file) as file:
            if not zipfile.is_zipfile(file):  # DuckDB would fail and keep the file open
                raise self._truncated_error()
        columns = snapshots.cached_columns(self.record, source_files)
        if columns is None and self.file_set.is_local:
            self._check_files(source_files)
        access = self.file_set.read_access(source_files)
        options: dict[str, Any] = self.record.options
        arguments = ["stop_at_empty := false"]
        if "sheet" in options:
            arguments.append(f"sheet := {sql_literal(options['sheet'])}")
        if "header" in options:
            arguments.append(f"header := {'true' if options['header'] else 'false'}")
        return Relation(
            Input(InputKind.SOURCE, self.record.name),
            ReadPlan(
                body=f"SELECT * FROM read_xlsx({sql_literal(access.addresses[0])}, "
                f"{', '.join(arguments)})"
            ),
            requirements=Requirements(
                filesystem=access.filesystem,
                scoped_secret=access.scoped_secret,
                extensions=("excel",),
            ),
            columns=columns,
            explain=self.explain,
        )

    def _describe(self, source_files: list[SourceFile], ctx: ObservationContext) -> dict[str, str]:
        relation = self._relation(source_files)
        return (
            ctx.describe(relation) if self.file_set.is_local else scratch_duckdb.describe(relation)
        )

    def _parse_fault(self, source_files: list[SourceFile]) -> str | None:
        [source_file] = source_files
        with self.file_set.open(source_file) as file:
            is_complete = zipfile.is_zipfile(file)
        return (
            super()._parse_fault(source_files)
            if is_complete
            else self._truncated_error().message.rstrip(".")
        )

    def _read_error(self, text: str, source_files: list[SourceFile]) -> JammiError:
        error = self.explain(text)
        return (
            error
            if isinstance(error, SourceUnavailable)
            else super()._read_error(text, source_files)
        )

    def _truncated_error(self) -> SourceUnavailable:
        return SourceUnavailable(
            f"{read_errors.display_name(self.pattern)} is not a complete Excel workbook.",
            hint="It may be truncated, or an old .xls: save it as .xlsx.",
        )

    def explain(self, message: str) -> JammiError | None:
        """The error for a wrong cell, a missing sheet or a damaged workbook."""
        name = read_errors.display_name(self.pattern)
        if match := _CELL.search(message):
            return SourceUnavailable(
                f"{name}, cell {match[1]}: {match[2][:60]!r} is not a {match[3]}, the type of "
                "the column's first value.",
                hint="Correct the cell, or format the whole column as text in the workbook.",
            )
        if match := _SHEET.search(message):
            close = (
                re.findall(r'"(.*?)"', suggestions[1])
                if (suggestions := _SUGGESTIONS.search(message))
                else []
            )
            return SourceUnavailable(
                f"{name} has no sheet {match[1]!r}.", near=close, hint='Set options={"sheet": …}.'
            )
        if "No rows found" in message:
            return SourceUnavailable(
                f"{name}: the sheet is empty.",
                hint="Add a header line and rows, or use another sheet.",
            )
        if (
            "Failed to open zip" in message
            or "[Content_Types].xml" in message
            or "zip" in message.lower()
        ):
            return self._truncated_error()
        if "XML parse error" in message:
            return SourceUnavailable(
                f"{name}: a sheet is damaged.",
                hint="Open it in a spreadsheet program and save it again.",
            )
        return None
