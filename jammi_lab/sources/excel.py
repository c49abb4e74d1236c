"""Sheets of Excel workbooks as sources. Any change of the file's bytes is an advance."""

import re
import zipfile
from typing import Any

from jammi_lab.errors import JammiError, SourceUnavailable
from jammi_lab.names import literal
from jammi_lab.sources import extensions, failures, scratch, sightings
from jammi_lab.sources.base import Looking, Relation
from jammi_lab.sources.files import FileConnector
from jammi_lab.sources.places import Item
from jammi_lab.values.anchors import Input, InputKind

_CELL = re.compile(r"Failed to parse cell '(\w+)': Could not convert string '(.*?)' to (\w+)", re.S)
_SHEET = re.compile(r'Sheet "(.*?)" not found')
_NEAR = re.compile(r'Did you mean: (".*)')


class ExcelConnector(FileConnector):
    """A registered sheet of a workbook: the first one, or that of the option `sheet`. With `header=False` its columns are A1, B1 …"""

    def check(self) -> None:
        """As every file; and the extension must be there. SourceUnavailable, ExtensionMissing, InvalidArgument."""
        extensions.path_of("excel")
        super().check()

    def _relation(self, items: list[Item]) -> Relation:
        [item] = items
        with self.place.open(item) as file:
            if not zipfile.is_zipfile(file):  # DuckDB would say so, too, and keep the file open
                raise self._torn_book()
        reading = self.place.reading(items)
        options: dict[str, Any] = self.record.options
        said = ["stop_at_empty := false"]
        if "sheet" in options:
            said.append(f"sheet := {literal(options['sheet'])}")
        if "header" in options:
            said.append(f"header := {'true' if options['header'] else 'false'}")
        return Relation(
            Input(InputKind.SOURCE, self.record.name),
            body=f"SELECT * FROM read_xlsx({literal(reading.addresses[0])}, {', '.join(said)})",
            columns=sightings.known_columns(self.record, items),
            filesystem=reading.filesystem,
            scoped=reading.scoped,
            extensions=("excel",),
            explain=self.explain,
        )

    def _describe(self, items: list[Item], looking: Looking) -> dict[str, str]:
        relation = self._relation(items)
        return looking.describe(relation) if self.place.local else scratch.describe(relation)

    def _fault(self, items: list[Item]) -> str | None:
        [item] = items
        with self.place.open(item) as file:
            whole = zipfile.is_zipfile(file)
        return super()._fault(items) if whole else self._torn_book().message.rstrip(".")

    def _check_formats(self, items: list[Item]) -> None:
        """Nothing: what the sheet is like shows when it is described."""

    def _said(self, text: str, items: list[Item]) -> SourceUnavailable:
        said = self.explain(text)
        return said if isinstance(said, SourceUnavailable) else super()._said(text, items)

    def _torn_book(self) -> SourceUnavailable:
        return SourceUnavailable(
            f"{failures.tidy(self.pattern)} is not a whole Excel workbook.", hint="It may be torn, or an old .xls: save it as .xlsx."
        )

    def explain(self, said: str) -> JammiError | None:
        """Which cell, which sheet, which part of the workbook."""
        name = failures.tidy(self.pattern)
        if found := _CELL.search(said):
            return SourceUnavailable(
                f"{name}, cell {found[1]}: {found[2][:60]!r} is no {found[3]}, which is what the column's first value is.",
                hint="Mend the cell, or make the whole column text in the workbook.",
            )
        if found := _SHEET.search(said):
            close = re.findall(r'"(.*?)"', near[1]) if (near := _NEAR.search(said)) else []
            return SourceUnavailable(f"{name} has no sheet {found[1]!r}.", near=close, hint='Say which: options={"sheet": …}.')
        if "No rows found" in said:
            return SourceUnavailable(f"{name}: the sheet is empty.", hint="Put a header line and rows into it, or name another sheet.")
        if "Failed to open zip" in said or "[Content_Types].xml" in said or "zip" in said.lower():
            return self._torn_book()
        if "XML parse error" in said:
            return SourceUnavailable(f"{name}: a sheet is broken.", hint="Open it in a spreadsheet program and save it again.")
        return None
