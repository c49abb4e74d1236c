"""Where the files of a Delta or Iceberg table are: a folder of this machine, or a prefix of an s3 bucket."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from jammi_lab.errors import SourceUnavailable
from jammi_lab.sources import objects
from jammi_lab.sources.objects import Access, asking

if TYPE_CHECKING:
    from jammi_lab.sources.base import ScopedSecret


class Lake(Protocol):
    """One table's place."""

    def has(self, folder: str) -> bool:
        """Whether a folder of the table is there. OSError."""
        ...

    def names(self, folder: str) -> list[str]:
        """The names of the files right in a folder of the table; empty when it is not there. OSError."""
        ...

    def read(self, place: str) -> bytes:
        """All bytes of a file, by its path or URL. FileNotFoundError, OSError."""
        ...

    @property
    def scoped(self) -> ScopedSecret | None:
        """What DuckDB's own reader needs to be told."""
        ...

    def options(self) -> dict[str, str] | None:
        """What deltalake needs to be told."""
        ...


class Folder:
    """A folder of this machine."""

    scoped = None

    def __init__(self, path: str) -> None:
        self._path = path

    def has(self, folder: str) -> bool:
        return os.path.isdir(os.path.join(self._path, folder))

    def names(self, folder: str) -> list[str]:
        try:
            return os.listdir(os.path.join(self._path, folder))
        except FileNotFoundError:
            return []

    def read(self, place: str) -> bytes:
        with open(place, "rb") as file:
            return file.read()

    def options(self) -> dict[str, str] | None:
        return None


class Bucket:
    """A prefix of a bucket, `s3://bucket/folder`."""

    def __init__(self, url: str, access: Access) -> None:
        self.url, self._access = url, access

    def has(self, folder: str) -> bool:
        return bool(self.names(folder))

    def names(self, folder: str) -> list[str]:
        files = self._access.filesystem
        at = f"{self.url.removeprefix('s3://')}/{folder}"
        with asking(self.url):
            files.invalidate_cache()
            try:
                return [info["name"].rsplit("/", 1)[1] for info in files.ls(at, detail=True) if info["type"] == "file"]
            except FileNotFoundError:
                objects.look_for(files, at.split("/", 1)[0])
                return []

    def read(self, place: str) -> bytes:
        files = self._access.filesystem
        with asking(place):
            data: bytes = files.cat_file(place.removeprefix("s3://"))
            return data

    @property
    def scoped(self) -> ScopedSecret | None:
        said = objects.scoped(self._access, f"{self.url.removeprefix('s3://')}/")
        if said is None:
            raise SourceUnavailable(
                f"{self.url} cannot be read: DuckDB's reader must be told a key, a secret, and a region or endpoint, one for all that lies there.",
                hint='Give options={"region": …} or {"endpoint_url": …}, and secret= or the AWS_* variables; pip install "jammi-lab[s3]".',
            )
        return said

    def options(self) -> dict[str, str] | None:
        return objects.for_deltalake(self._access)


def outside_of(url: str, places: list[str]) -> str | None:
    """The first of these files that does not lie below a table in a store; whoever writes its log could have other files read."""
    return next((place for place in places if not place.startswith(f"{url}/") or "/../" in place), None)


def s3_url(location: str) -> str:
    """The one way to write an address of s3."""
    return f"s3://{location.split('://', 1)[1]}".rstrip("/")
