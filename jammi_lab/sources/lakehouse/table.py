"""A lakehouse table: where it is, its snapshots and their files, and what errors about it mean."""

import os
import re
from abc import ABC, abstractmethod
from typing import NamedTuple

from jammi_lab.core import foreign_errors
from jammi_lab.core.caches import BoundedCache
from jammi_lab.core.errors import ExtensionMissing, InvalidArgument, JammiError, SourceUnavailable
from jammi_lab.core.records import SourceRecord
from jammi_lab.sources import read_errors
from jammi_lab.sources.base import NO_WORKSPACE, SourceContext
from jammi_lab.sources.credentials import resolve_credentials
from jammi_lab.sources.files.object_stores import StoreAccess
from jammi_lab.sources.lakehouse.appended_files import DataFiles
from jammi_lab.sources.lakehouse.table_location import (
    StoreTableFiles,
    TableFiles,
    first_outside,
    local_path,
    s3_url,
)
from jammi_lab.sources.located_connector import LocatedConnector
from jammi_lab.sources.locations import (
    check_readable_files,
    check_readable_path,
    display_location,
    escape,
    literal_path,
    scheme_of,
)
from jammi_lab.sources.scan_conditions import without_pushdown


class TableSnapshot(NamedTuple):
    """One snapshot of a table."""

    table: str
    """The table's id; a table that is created again under the same name has another one."""
    version: int
    """The number of the snapshot."""
    location: str
    """The path or URL to read it from."""
    fields: tuple[tuple[str, str], ...]
    """The columns in order, each with a digest of its identity: its type, and its id in the files.
    A column that was dropped and added again under its name reads other values from the same
    files."""
    commit: str = ""
    """What else tells states apart: a digest of the commit, where a table restored from a backup
    uses the same numbers again, or of the names by which columns are found."""
    is_former: bool = False
    """Whether it is not the current snapshot of the table."""
    commit_file: str = ""
    """The file that was written when the snapshot was committed, after its data files; empty if
    there is none."""
    unpushed: tuple[str, ...] = ()
    """The columns whose conditions may not skip files: some files may have another type, such as
    FLOAT in place of DOUBLE, or the log has no exact bounds."""

    @property
    def snapshot_id(self) -> str:
        """The unique id of the snapshot."""
        return f"{self.table}:{self.version}{self.commit and ':'}{self.commit}"


_MAX_LISTED_SNAPSHOTS = 8
_listed_files = BoundedCache[tuple[str, str, str], DataFiles](_MAX_LISTED_SNAPSHOTS)
"""The data files of snapshots, by format, location and id: what is new in one snapshot is compared
with it when the next one comes."""
_MAX_FILES_IN_STORE = 10_000
"""In tables of more files a missing one is seen when it is read: a store lists 1 000 at once."""
_ABOUT_LOG = re.compile("Kernel|log segment|snapshot|metadata|manifest|[Aa]vro")
"""What messages of DuckDB's extensions about the log of a table contain."""


class LakehouseTable(LocatedConnector, ABC):
    """A table in a local folder or under an s3 URL, and its snapshots. Each format implements the
    abstract part."""

    format = ""
    """The format's name in messages."""
    extension = ""
    method = ""
    """The anchor method, for display."""
    keeps_row_order = True
    """Whether each scan of a snapshot returns the rows in the same order."""

    def __init__(self, record: SourceRecord, context: SourceContext = NO_WORKSPACE) -> None:
        super().__init__(record, context)
        pattern = self.pattern
        scheme = scheme_of(pattern)
        if scheme not in (None, "s3", "s3a"):
            raise InvalidArgument(
                f"{self.format} tables can be read from local folders and from s3, "
                f"not from {display_location(pattern)}."
            )
        path = literal_path(pattern)
        if path is None:
            raise InvalidArgument(
                f"{display_location(pattern)!r} matches several locations; a source is one "
                f"{self.format} table."
            )
        self.path = path if scheme is None else s3_url(path)

    def table_files(self, location: str) -> TableFiles:
        """The access to a table's files. Raises SecretMissing, ExtensionMissing."""
        if scheme_of(location) is None:
            return TableFiles(location)
        access = resolve_credentials(self.record, self.context.credentials)
        assert isinstance(access, StoreAccess), "the location is in a store"
        return StoreTableFiles(location, access)

    @abstractmethod
    def current_snapshot(self) -> TableSnapshot:
        """The current snapshot. Raises SourceGone, SourceUnavailable, ExtensionMissing."""

    @abstractmethod
    def scan(self, state: TableSnapshot) -> str:
        """All rows of a snapshot, as they stand behind FROM."""

    def select(self, state: TableSnapshot) -> str:
        """A SELECT of all rows of a snapshot. DuckDB 1.5.5 casts a condition to the type of each
        file, so that `v > 1.5` misses the 2 of a file of integers."""
        columns = ", ".join(map(without_pushdown, state.unpushed))
        replaced = f" REPLACE ({columns})" if columns else ""
        return f"SELECT *{replaced} FROM {self.scan(state)}"

    @abstractmethod
    def former_snapshots(
        self, current: TableSnapshot, version: int, read: tuple[str, ...]
    ) -> list[TableSnapshot]:
        """The possible states of an earlier snapshot of the same table: one for each schema that it
        may have been read with, as far as the columns `read` can still be read with it. Raises as
        `current_snapshot`."""

    @abstractmethod
    def data_files(self, state: TableSnapshot) -> dict[str, tuple[int, bool]]:
        """The files of a snapshot by DuckDB's own listing, named as in its scan: the row count, and
        whether no row is deleted. Raises as `query`, and SourceUnavailable if DuckDB would read
        wrong rows."""

    def table_home(self, state: TableSnapshot) -> str:
        """The folder or URL of the table."""
        return state.location

    def has_unique_ids(self, state: TableSnapshot) -> bool:  # noqa: ARG002
        """Whether no other snapshot ever has the id of this one."""
        return True

    def _check_location(self) -> None:
        if scheme_of(self.path) is None:
            check_readable_path(self.path, self.folder)

    def _check_files(self, state: TableSnapshot) -> tuple[str, ...]:
        """The local files of a snapshot. Raises InvalidArgument if it lists files of the workspace,
        or the snapshot of a table in a store lists files outside the table: its writer could
        otherwise make us read the rows of every tenant, or files of this machine."""
        home = self.table_home(state)
        locations = list(self.list_files(state))
        if scheme_of(home) is not None and (outside := first_outside(home, locations)) is not None:
            raise InvalidArgument(
                f"The {self.format} table {self._name} lists a file outside the table: "
                f"{read_errors.display_name(outside)}.",
                hint="A table in a store must contain all of its files.",
            )
        paths = tuple(path for each in locations if (path := local_path(each)) is not None)
        if scheme_of(home) is None and len(paths) < len(locations):
            raise InvalidArgument(
                f"The {self.format} table {self._name} lists a file on a server.",
                hint="A table in a local folder must contain local files.",
            )
        check_readable_files(paths, self.folder)
        return paths

    def _check_stored_files(self, state: TableSnapshot) -> None:
        """Raise SourceUnavailable if a store lacks a file of a snapshot, whose rows nobody can
        read. Raises OSError."""
        files = self.list_files(state)
        if len(files) > _MAX_FILES_IN_STORE:
            return
        missing = self.table_files(self.table_home(state)).find_missing(files)
        if missing is not None:
            raise self._read_error(f'No such file "{missing}"')

    def list_files(self, state: TableSnapshot) -> DataFiles:
        """`data_files`, cached because they never change."""
        key = (self.kind, self.table_home(state), state.snapshot_id)
        if (files := _listed_files.get(key)) is None:
            files = self.data_files(state)
            if self.has_unique_ids(state):
                _listed_files.put(key, files)
        return files

    def explain(self, message: str) -> JammiError | None:
        """The error for a DuckDB message about a snapshot; None for any other message."""
        missing = foreign_errors.to_error("lake", message, format=self.format, name=self._name)
        if missing is not None:
            return missing
        if (remote := read_errors.remote_error(self.location, message)) is not None:
            return remote
        if _ABOUT_LOG.search(message):
            return self._unreadable_error(message)
        return None

    @property
    def _name(self) -> str:
        return read_errors.display_name(self.path.rstrip("/"))

    def _read_error(self, text: str) -> JammiError:
        return self.explain(text) or self._unreadable_error(text)

    def _unreadable_error(self, text: str) -> SourceUnavailable:
        reason = text.split("\n", maxsplit=1)[0].removeprefix("IO Error: ").rstrip(".")
        return SourceUnavailable(
            f"The {self.format} table {self._name} cannot be read: {reason[:200]}.",
            hint="Its last write may be incomplete: check its writer.",
        )

    def _missing_error(self) -> SourceUnavailable:
        if scheme_of(self.path) is not None:
            return SourceUnavailable(
                f"There is no {self.format} table at {self.location}.", hint="Check the URL."
            )
        if not os.path.lexists(self.path):
            return read_errors.missing_error(escape(self.path.rstrip("/")))
        return SourceUnavailable(
            f"The folder {self._name} contains no {self.format} table.",
            hint="Use the top folder of the table.",
        )

    def _package_error(self, package: str) -> ExtensionMissing:
        return ExtensionMissing(
            f"The package {package} is not installed.",
            hint=f'Run: pip install "jammi-lab[{self.kind}]".',
        )
