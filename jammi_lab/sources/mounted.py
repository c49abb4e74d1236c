"""A place behind fsspec as DuckDB sees it: under a protocol of its own, so that two places of one protocol are never mistaken for each other."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable
from typing import Any, BinaryIO

from fsspec.spec import AbstractFileSystem

from jammi_lab.sources.locations import literal_path

_numbers = itertools.count(1)


class Mounted(AbstractFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """Reads, through `opens`, the files whose addresses it is given; it lists nothing and writes nothing."""

    cachable = False
    protocol = "jammimount"

    def __init__(self, opens: Callable[[str], BinaryIO]) -> None:
        super().__init__()
        self.protocol = f"jammimount{next(_numbers)}"
        self._opens = opens
        self._sizes: dict[str, int] = {}

    def address(self, path: str, size: int) -> str:
        """The address under which DuckDB reads a file of that many bytes."""
        self._sizes[path] = size
        return f"{self.protocol}://{path}"

    def _path(self, address: str) -> str:
        return address.removeprefix(f"{self.protocol}://")

    def glob(self, path: str, **_: Any) -> list[str]:
        """The one address that an escaped address stands for; opening tells whether it is there."""
        literal = literal_path(path)
        return [] if literal is None else [literal]

    def exists(self, path: str, **_: Any) -> bool:
        """Always: opening tells."""
        return bool(path)

    def size(self, path: str) -> int:
        """The bytes of a file, as they were when it was listed."""
        return self._sizes[self._path(path)]

    def modified(self, path: str) -> datetime.datetime:  # noqa: ARG002  fsspec's signature
        """This moment: nothing that DuckDB keeps of a file may pass for the file."""
        return datetime.datetime.now(datetime.UTC)

    def open(self, path: str, mode: str = "rb", **_: Any) -> BinaryIO:
        """The bytes of a file. OSError; also for any other mode."""
        if mode != "rb":
            raise OSError("this place is only read")
        return self._opens(self._path(path))
