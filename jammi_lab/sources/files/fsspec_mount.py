"""fsspec filesystems with a unique protocol each, so that DuckDB never confuses two file sets with
different credentials."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable
from typing import Any, BinaryIO

from fsspec.spec import AbstractFileSystem

from jammi_lab.sources.locations import literal_path

_mount_numbers = itertools.count(1)


class MountedFilesystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """A read-only filesystem without listing."""

    cachable = False
    protocol = "jammimount"

    def __init__(self) -> None:
        super().__init__()
        self.protocol = f"jammimount{next(_mount_numbers)}"
        self._files: dict[str, tuple[int, Callable[[], BinaryIO]]] = {}

    def address(self, path: str, size: int, open_file: Callable[[], BinaryIO]) -> str:
        """Register a file of `size` bytes; return the address under which DuckDB reads it."""
        self._files[path] = size, open_file
        return f"{self.protocol}://{path}"

    def _path(self, address: str) -> str:
        return address.removeprefix(f"{self.protocol}://")

    def glob(self, path: str, **_: Any) -> list[str]:
        """The literal address of an escaped one, without checking that the file exists."""
        literal = literal_path(path)
        return [] if literal is None else [literal]

    def exists(self, path: str, **_: Any) -> bool:
        """True without a check: opening the file reports an error."""
        return bool(path)

    def size(self, path: str) -> int:
        """The size of a file in bytes when it was registered."""
        return self._files[self._path(path)][0]

    def modified(self, path: str) -> datetime.datetime:  # noqa: ARG002  fsspec's signature
        """The current time, so that DuckDB never uses cached data of a file."""
        return datetime.datetime.now(datetime.UTC)

    def open(self, path: str, mode: str = "rb", **_: Any) -> BinaryIO:
        """Open a file for reading. Raises OSError, also for any other mode."""
        if mode != "rb":
            raise OSError("this filesystem is read-only")
        return self._files[self._path(path)][1]()
