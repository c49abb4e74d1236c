"""Connector for text files: CSV, TSV, JSON, NDJSON, and texts that are read whole."""

import os
import re
from collections.abc import Sequence
from typing import Any

import duckdb

from jammi_lab.core.anchors import source_input
from jammi_lab.core.errors import JammiError, SourceUnavailable
from jammi_lab.core.identifiers import sql_literal
from jammi_lab.sources import read_errors
from jammi_lab.sources.base import ReadPlan, Relation
from jammi_lab.sources.files import csv_errors, csv_files, file_checks, json_files, row_copies
from jammi_lab.sources.files.connector import FileConnector
from jammi_lab.sources.files.decisions import Decision
from jammi_lab.sources.files.file_sets import ReadAccess, SourceFile
from jammi_lab.sources.files.readers import path_literal
from jammi_lab.sources.files.text_bytes import (
    TextFile,
    encoding_error,
    is_nonempty,
    lines_skipped_in,
)

_NOT_UTF8 = re.compile(r"not utf-8 encoded|Invalid unicode|invalid UTF-8|not valid UTF8", re.I)
_LINE_NUMBER = re.compile(r"CSV Error on Line: (\d+)")
_PARSE_ERRORS = (duckdb.InvalidInputException, duckdb.ConversionException, duckdb.BinderException)
"""What DuckDB raises for malformed text; unlike any other error, it does not depend on the moment
of the read."""
_EQUAL_KEYS = re.compile(r'Duplicate name "(.*?)" in struct|has duplicate key "(.*?)"')
_INVALID_STATE = "state machine reached an invalid state"


class TextConnector(FileConnector):
    """A registered source of text files."""

    faults = (SourceUnavailable,)

    def check(self) -> None:
        """Check that the files can be read, all their values included. Raises SourceUnavailable;
        InvalidArgument for an anchor on a missing column."""
        self._check_anchor_column(self.relation(None).columns or {})

    def _decide(self, source_files: Sequence[SourceFile]) -> Decision:
        if self.kind == "text":
            return Decision({"name": "VARCHAR", "text": "VARCHAR"})
        nonempty = self._nonempty_files(source_files)
        if self.kind in ("json", "ndjson"):
            file_checks.check_depth(nonempty)
        files, access = self._text_files(nonempty)
        try:
            decision: Decision = self._reader.decide(
                self.kind, files, lambda body: self._relation_of(body, access)
            )
            return decision
        except _PARSE_ERRORS as error:
            raise self._read_error(str(error), nonempty) from None

    @property
    def _reader(self) -> Any:
        """The module that decides and reads."""
        return csv_files if self.kind in ("csv", "tsv") else json_files

    def _relation(self, source_files: Sequence[SourceFile]) -> Relation:
        decision = self._decision(source_files)
        files, access = self._text_files(self._nonempty_files(source_files))
        if self.kind == "text":
            body = _build_select_of_texts(files)
        else:
            body = self._reader.select_of(decision, files)
        relation = self._relation_of(body, access, decision, files)
        if self.kind == "text" or not self.file_set.is_local or self.record.anchor == "content":
            return relation
        return row_copies.with_copy(relation, source_files, self._list_files)

    def _text_files(self, source_files: Sequence[SourceFile]) -> tuple[list[TextFile], ReadAccess]:
        """These files, and how DuckDB reads them."""
        access = self.file_set.read_access(source_files)
        files = [
            TextFile(source_file, address, self.record.options)
            for source_file, address in zip(source_files, access.addresses, strict=True)
        ]
        return files, access

    def _relation_of(
        self,
        body: str,
        access: ReadAccess,
        decision: Decision | None = None,
        files: Sequence[TextFile] = (),
    ) -> Relation:
        return Relation(
            source_input(self.record.name),
            ReadPlan(
                body=body,
                local_bytes=self._local_bytes([file.source_file for file in files]),
            ),
            requirements=access.requirements,
            columns=None if decision is None else decision.columns,
            explain=lambda text: self._message_error(text, files),
        )

    def _nonempty_files(self, source_files: Sequence[SourceFile]) -> list[SourceFile]:
        """The files that are not empty: DuckDB would invent a column for an empty text file.

        Raises SourceUnavailable if all are empty, and for an incomplete compressed file.
        """
        if self.kind == "text":
            return list(source_files)
        nonempty = [file for file in source_files if is_nonempty(file)]
        if not nonempty:
            raise read_errors.empty_error(self.location, self.kind)
        return nonempty

    def _message_error(self, text: str, files: Sequence[TextFile]) -> JammiError | None:
        """The error for a DuckDB message about these files; None for any other message."""
        if not self.file_set.is_local and (error := read_errors.remote_error(self.location, text)):
            return error
        mentioned = []
        for file in files:
            if file.address in text or lines_skipped_in(file.source_file, text) is not None:
                mentioned.append(file.source_file)
        return self._read_error(text, mentioned) if mentioned else None

    def _read_error(self, text: str, source_files: Sequence[SourceFile]) -> JammiError:
        """The error for a DuckDB message about one of these files."""
        named = []
        for file in source_files:
            if file.path in text or lines_skipped_in(file, text) is not None:
                named.append((file, lines_skipped_in(file, text)))
        source_file, skipped = named[0] if named else (source_files[0], None)
        try:
            return self._error_in(text, source_file, skipped or 0)
        except OSError as error:
            return read_errors.unreadable_error(self._error_location(error), error)

    def _error_in(self, text: str, source_file: SourceFile, skipped: int) -> JammiError:
        path = source_file.path
        if _NOT_UTF8.search(text):
            match = _LINE_NUMBER.search(text)
            line = int(match[1]) + skipped if match else None
            return encoding_error(source_file, "utf-8", line)
        if keys := _EQUAL_KEYS.search(text):
            return SourceUnavailable(
                f"{read_errors.display_name(path)}: an object has the key {keys[1] or keys[2]!r} "
                "twice; capital letters do not count.",
                hint="Rename one of the keys.",
            )
        error: JammiError | None = None
        if self.kind in ("csv", "tsv"):
            options = self.record.options
            error = csv_errors.csv_error(text, path, skipped, options)
            # DuckDB did not see the line
            is_unseen = error is not None and error.message.endswith(": ''.")
            if is_unseen or (error is None and _INVALID_STATE in text):
                error = csv_files.line_error(self.kind, TextFile(source_file, path, options))
        name = read_errors.display_name(path)
        return error or read_errors.read_error(text) or read_errors.unexplained_error(name, text)


def _build_select_of_texts(files: Sequence[TextFile]) -> str:
    """A SELECT of the name and the text of each file."""
    names = ", ".join(
        f"{sql_literal(file.address)}: "
        f"{sql_literal(file.source_file.relative or os.path.basename(file.path))}"
        for file in files
    )
    paths = ", ".join(path_literal(file.address) for file in files)
    return (
        f"SELECT element_at(MAP {{{names}}}, filename)[1] AS name, content AS text "
        f"FROM read_text([{paths}])"
    )
