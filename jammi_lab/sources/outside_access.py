"""What a workspace may use beyond its own folder because a file of the folder names it."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.core.records import SourceRecord
from jammi_lab.sources.files.formats import FILE_KINDS
from jammi_lab.sources.files.remote_files import file_set_for
from jammi_lab.sources.locations import base_of, full_location, literal_path, project_of, scheme_of
from jammi_lab.sources.read_errors import unreadable_error
from jammi_lab.storage.trusted_folders import is_trusted

_LOCAL_KINDS = (*FILE_KINDS, "sqlite", "duckdb", "xlsx")
"""Kinds that read no other place than their location: tables of a lake list their files, and the
connector of a package may do anything."""


@dataclass
class OutsideAccess:
    """What the sources of one workspace may open."""

    folder: Path | None
    """The local folder of the workspace."""
    trusts_names: bool = True
    """Whether what the files of the folder name was trusted when the workspace was opened."""
    connects: bool = True
    """Whether servers and stores may be connected to."""
    _named: list[SourceRecord] = field(default_factory=list)

    @property
    def trusts_folder(self) -> bool:
        """Whether this user trusts the folder by now."""
        if not self.trusts_names and self.folder is not None:
            self.trusts_names = is_trusted(self.folder)
        return self.trusts_names

    def name_source(self, record: SourceRecord) -> None:
        """Allow a source that a call names, with its location and options."""
        self._named.append(record)

    def check(self, record: SourceRecord) -> None:
        """Raise SourceUnavailable for a source that must not be opened."""
        if record.kind == "frame":
            return
        if not self.connects and _may_connect(record):
            raise SourceUnavailable(
                f"The source {record.name} is on a server, and marks and check commands never "
                "connect.",
                hint="ws.status() connects.",
            )
        if self.trusts_folder or record.with_values(created_at="") in self._named:
            return
        self.check_inside(record, self.untrusted_clause())

    def check_inside(self, record: SourceRecord, clause: str) -> None:
        """Raise SourceUnavailable, with the clause, for a source that may lead out of the
        project."""
        if record.kind not in _LOCAL_KINDS or self._lies_outside(record):
            raise SourceUnavailable(
                f"The source {record.name} lies outside the project, and {clause}."
            )

    def untrusted_clause(self) -> str:
        """That the folder is not trusted, and the line that trusts it."""
        return f"the workspace's folder is not trusted: jl.trust({str(self.folder)!r}) trusts it"

    def _lies_outside(self, record: SourceRecord) -> bool:
        """Whether a location is a URL, or a file of it lies outside the project, also by a link or
        in the option `files`."""
        location, files = record.location, record.options.get("files", [])
        if (
            not isinstance(files, list)
            or scheme_of(location) is not None
            or self.folder is None
            or "\0" in location
        ):
            return True
        pattern, project = full_location(location, self.folder), project_of(self.folder)
        path = literal_path(pattern)
        root = base_of(pattern) if path is None else path
        listed = [os.path.join(root, str(file)) for file in files]
        if not all(_is_inside(name, project) for name in (root, *listed)):
            return True
        if path is not None and not os.path.isdir(path):
            return False
        try:
            names = file_set_for(pattern, None).names()
        except OSError as error:
            raise unreadable_error(str(error.filename or pattern), error) from None
        return not all(_is_inside(name, project) for name in names)


def _is_inside(path: str, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(folder)


def _may_connect(record: SourceRecord) -> bool:
    is_local = record.kind in (*_LOCAL_KINDS, "delta", "iceberg")
    return scheme_of(record.location) is not None or not is_local
