"""File access of Delta and Iceberg tables: a local folder or a prefix of an s3 bucket."""

from __future__ import annotations

import os
import urllib.parse
from typing import TYPE_CHECKING

from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.sources.files import object_stores
from jammi_lab.sources.files.object_stores import StoreAccess, translate_errors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jammi_lab.sources.base import ScopedSecret


class TableFiles:
    """The files of a table in a local folder."""

    def __init__(self, home: str) -> None:
        self.home = home

    def has_folder(self, folder: str) -> bool:
        """Whether a subfolder exists. Raises OSError."""
        return os.path.isdir(os.path.join(self.home, folder))

    def list_names(self, folder: str) -> list[str]:
        """The names of the files in a subfolder; empty if it does not exist. Raises OSError."""
        try:
            return os.listdir(os.path.join(self.home, folder))
        except FileNotFoundError:
            return []

    def find_missing(self, locations: Iterable[str]) -> str | None:  # noqa: ARG002
        """The first of some files that a store does not have; those of a folder are looked at one
        by one elsewhere. Raises OSError."""
        return None

    def read(self, location: str) -> bytes:
        """All bytes of a file, by its path or URL. Raises FileNotFoundError, OSError."""
        with open(location, "rb") as file:
            return file.read()

    @property
    def scoped_secret(self) -> ScopedSecret | None:
        """The DuckDB secret for the table, or None."""
        return None

    def storage_options(self) -> dict[str, str] | None:
        """The storage options for deltalake, or None."""
        return None


class StoreTableFiles(TableFiles):
    """Those under a prefix of a bucket, `s3://bucket/folder`."""

    def __init__(self, url: str, access: StoreAccess) -> None:
        super().__init__(url)
        self._access = access

    def has_folder(self, folder: str) -> bool:
        return bool(self.list_names(folder))

    def list_names(self, folder: str) -> list[str]:
        filesystem = self._access.filesystem
        prefix = f"{self.home.removeprefix('s3://')}/{folder}"
        with translate_errors(self.home):
            filesystem.invalidate_cache()
            try:
                return [
                    info["name"].rsplit("/", 1)[1]
                    for info in filesystem.ls(prefix, detail=True)
                    if info["type"] == "file"
                ]
            except FileNotFoundError:
                object_stores.check_bucket_exists(filesystem, prefix.split("/", 1)[0])
                return []

    def find_missing(self, locations: Iterable[str]) -> str | None:
        filesystem = self._access.filesystem
        with translate_errors(self.home):
            filesystem.invalidate_cache()
            found = set(filesystem.find(self.home.removeprefix("s3://")))
        for location in locations:
            name = location.removeprefix("s3://")
            if name not in found and urllib.parse.unquote(name) not in found:
                return location
        return None

    def read(self, location: str) -> bytes:
        with translate_errors(location):
            data: bytes = self._access.filesystem.cat_file(location.removeprefix("s3://"))
            return data

    @property
    def scoped_secret(self) -> ScopedSecret | None:
        secret = object_stores.duckdb_secret(self._access, f"{self.home.removeprefix('s3://')}/")
        if secret is None:
            raise SourceUnavailable(
                f"{self.home} cannot be read: DuckDB needs a key, a secret, and a region or "
                "endpoint, the same for everything under that URL.",
                hint='Set options={"region": …} or {"endpoint_url": …}, and secret= or the AWS_* '
                'variables; pip install "jammi-lab[s3]".',
            )
        return secret

    def storage_options(self) -> dict[str, str] | None:
        return object_stores.storage_options(self._access)


def first_outside(url: str, locations: list[str]) -> str | None:
    """The first file that is outside a table in a store. The writer of a table's log could
    otherwise make us read any file."""
    return next(
        (
            location
            for location in locations
            if not location.startswith(f"{url}/") or "/../" in location
        ),
        None,
    )


def local_path(location: str) -> str | None:
    """The path of a file that the metadata of a table name by a path or a file URL; None for any
    other URL."""
    parsed = urllib.parse.urlsplit(location)
    if parsed.scheme not in ("", "file"):
        return None
    return urllib.parse.unquote(parsed.path) if parsed.scheme else location


def s3_url(location: str) -> str:
    """An s3 URL in canonical form."""
    return f"s3://{location.split('://', 1)[1]}".rstrip("/")
