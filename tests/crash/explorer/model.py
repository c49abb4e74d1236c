"""Files and folders, each as programs see it and as it is for certain after the power went: the
states that a crash can leave."""

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.explorer.steps import ROOT, Names, Recorded, Said, Step, Sync, Truncate, Write

Image = Mapping[str, bytes | None]
"""What lies under each path; None is a folder."""

MODELS = ("kill", "power_min", "names_only", "zeroed", "data_only", "random_1", "random_2", "torn")
"""What of the unsynced effects is there afterwards: all · none · the names · names, and zeros for
the bytes · the bytes · some · all, the last write in part."""


@dataclass
class _File:
    seen: bytes = b""
    durable: bytes = b""
    unsynced: list[Write | Truncate] = field(default_factory=list)


@dataclass
class _Folder:
    seen: dict[str, int] = field(default_factory=dict)
    durable: dict[str, int] = field(default_factory=dict)
    unsynced: list[list[tuple[str, int | None]]] = field(default_factory=list)


class Disk:
    """A disk on which the steps of a run are done, one by one."""

    def __init__(self, folders: frozenset[int]) -> None:
        self._visible_files: dict[int, _File] = {}
        self._folders = {node: _Folder() for node in folders}
        self._last: Step | None = None

    def do(self, step: Step) -> None:
        """Let one step happen."""
        self._last = step
        match step:
            case Write() | Truncate():
                file = self._file(step.node)
                file.seen = _after(file.seen, step)
                file.unsynced.append(step)
            case Sync():
                kept = (
                    self._folders[step.node]
                    if step.node in self._folders
                    else self._file(step.node)
                )
                kept.durable = kept.seen.copy() if isinstance(kept.seen, dict) else kept.seen  # type: ignore[assignment]
                kept.unsynced.clear()
            case Names():
                for folder in dict.fromkeys(f for f, _, _ in step.changes):
                    mine = [(name, node) for f, name, node in step.changes if f == folder]
                    _rename(self._folders[folder].seen, mine)
                    self._folders[folder].unsynced.append(mine)
            case Said():
                pass

    def image(self, model: str, seed: int = 0) -> Image:
        """What a crash at this moment leaves, under one of MODELS."""
        chance = random.Random(f"{model} {seed}")
        seen, durable = (lambda f: f.seen), (lambda f: f.durable)
        match model:
            case "kill":
                return self._image(seen, seen)
            case "power_min":
                return self._image(durable, durable)
            case "names_only":
                return self._image(seen, durable)
            case "zeroed":
                return self._image(
                    seen, lambda f: f.durable[: len(f.seen)].ljust(len(f.seen), b"\0")
                )
            case "data_only":
                return self._image(durable, seen)
            case "torn":
                return self._image(seen, self._torn)
            case _:
                return self._image(
                    lambda f: _some_names(f, chance), lambda f: _some_data(f, chance)
                )

    def _torn(self, file: _File) -> bytes:
        """The bytes of a file of whose last write, if that is what happened last, only the first
        half is there."""
        last = self._last
        if not isinstance(last, Write) or self._file(last.node) is not file:
            return file.seen
        before = file.durable
        for step in file.unsynced[:-1]:
            before = _after(before, step)
        return _after(before, Write(last.node, last.at, last.data[: len(last.data) // 2]))

    def _image(
        self, names: Callable[[_Folder], dict[str, int]], data: Callable[[_File], bytes]
    ) -> Image:
        found: dict[str, bytes | None] = {}

        def walk(node: int, prefix: str) -> None:
            for name, child in sorted(names(self._folders[node]).items()):
                if child in self._folders:
                    found[prefix + name] = None
                    walk(child, f"{prefix}{name}/")
                else:
                    found[prefix + name] = data(self._file(child))

        walk(ROOT, "")
        return found

    def _file(self, node: int) -> _File:
        return self._visible_files.setdefault(node, _File())


@dataclass(frozen=True)
class State:
    """A crash: after so many steps, under one model."""

    steps: int
    model: str
    near: bool
    """Whether the step before it or after it is a sync, a change of names or a promise."""


def states(recorded: Recorded) -> list[State]:
    """Every different state that a crash of the run can leave, each under the first model and
    moment that lead to it with what was promised by then."""
    disk, found, promised = Disk(recorded.folders), {}, 0
    for at in range(len(recorded.steps) + 1):
        if at:
            disk.do(recorded.steps[at - 1])
            promised += isinstance(recorded.steps[at - 1], Said)
        near = any(not isinstance(step, Write) for step in recorded.steps[max(at - 1, 0) : at + 1])
        for model in MODELS:
            key = promised, fingerprint(disk.image(model, at))
            if key not in found or (near and not found[key].near):
                found[key] = State(at, model, near)
    return sorted(found.values(), key=lambda state: (state.steps, MODELS.index(state.model)))


def images(recorded: Recorded, chosen: list[State]) -> Iterator[tuple[State, str, Image]]:
    """Each of the states, in order, with what the run had said by then and what lies on the
    disk."""
    disk, done, said = Disk(recorded.folders), 0, ""
    for state in chosen:
        for step in recorded.steps[done : state.steps]:
            disk.do(step)
            said += step.text if isinstance(step, Said) else ""
        done = state.steps
        yield state, said, disk.image(state.model, state.steps)


def fingerprint(image: Image) -> bytes:
    """Equal for equal images."""
    whole = hashlib.sha256()
    for path, data in image.items():
        whole.update(f"{path}\0{-1 if data is None else len(data)}\0".encode())
        whole.update(data or b"")
    return whole.digest()


def lay(image: Image, folder: Path) -> None:
    """Make the files and folders of an image."""
    folder.mkdir()
    for path, data in image.items():
        if data is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(data)


def lying(folder: Path) -> Image:
    """What lies in a folder, without SQLite's shared memory."""
    found = sorted(
        (p.relative_to(folder).as_posix(), p)
        for p in folder.rglob("*")
        if not p.name.endswith("-shm")
    )
    return {name: None if path.is_dir() else path.read_bytes() for name, path in found}


def _after(data: bytes, step: Write | Truncate) -> bytes:
    if isinstance(step, Truncate):
        return data[: step.size].ljust(step.size, b"\0")
    return data[: step.at].ljust(step.at, b"\0") + step.data + data[step.at + len(step.data) :]


def _rename(names: dict[str, int], changes: list[tuple[str, int | None]]) -> None:
    for name, node in changes:
        names.pop(name, None)
        if node is not None:
            names[name] = node


def _some_data(file: _File, chance: random.Random) -> bytes:
    data = file.durable
    for step in file.unsynced:
        if chance.random() < 0.5:
            data = _after(data, step)
    return data


def _some_names(folder: _Folder, chance: random.Random) -> dict[str, int]:
    names = dict(folder.durable)
    for changes in folder.unsynced:
        if chance.random() < 0.5:
            _rename(names, changes)
    return names
