"""Modules that a test writes, edits and loads again."""

import importlib
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from jammi_lab.steps.function_digest import function_digest

_numbers = itertools.count(1)


class Written:
    """A module in a file of its own, on the path while the test runs."""

    def __init__(self, folder: Path, text: str, name: str | None = None) -> None:
        self.name = name or f"written_{next(_numbers)}"
        self.path = folder / f"{self.name}.py"
        self.path.write_text(text)
        self.module: ModuleType = importlib.import_module(self.name)

    def digest(self) -> str:
        """The digest of its function `step`."""
        return function_digest(self.module.step)

    def edit(self, old: str, new: str) -> None:
        """Change the file; what was loaded from it stays as it is."""
        text = self.path.read_text()
        assert old in text
        self.path.write_text(text.replace(old, new))

    def reload(self) -> None:
        importlib.invalidate_caches()
        importlib.reload(self.module)

    def change(self, old: str, new: str) -> None:
        """Change the file and load it again."""
        self.edit(old, new)
        self.reload()

    def forget(self) -> None:
        """As after a restart: nothing has loaded it."""
        sys.modules.pop(self.name, None)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Written]]:
    """`write(text)` gives a loaded module."""
    folder = tmp_path / "code"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(
        sys, "dont_write_bytecode", True
    )  # the stat of a file that is edited twice in a second does not show it
    made: list[Written] = []

    def one(text: str, name: str | None = None) -> Written:
        importlib.invalidate_caches()
        made.append(Written(folder, text, name))
        return made[-1]

    yield one
    for each in made:
        each.forget()
