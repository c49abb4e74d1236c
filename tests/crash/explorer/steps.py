"""What a recorded run did to the files of its world, step by step: strace's lines, read strictly.

Whatever the run does in its world that is not understood here is an error: a state that leaves it
out would prove nothing.
"""

import collections
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = 0
"""The node of the world's own folder."""


@dataclass(frozen=True)
class Write:
    """Bytes put into a file."""

    node: int
    at: int
    data: bytes


@dataclass(frozen=True)
class Truncate:
    """A file made that long."""

    node: int
    size: int


@dataclass(frozen=True)
class Sync:
    """All that was done to a file's bytes, or to a folder's names, is durable when the call
    returns."""

    node: int


@dataclass(frozen=True)
class Names:
    """Names that come to mean something else, at once: (folder, name, node or None)."""

    changes: tuple[tuple[int, str, int | None], ...]


@dataclass(frozen=True)
class Said:
    """What the run told on its standard output."""

    text: str


Step = Write | Truncate | Sync | Names | Said

_LINE = re.compile(r"(\d+) +(.*)")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+|\?)")


@dataclass
class _Open:
    node: int
    at: int = 0
    appends: bool = False


@dataclass
class _Reader:
    """Follows names and descriptors as the kernel does."""

    world: str
    names: dict[int, dict[str, int]] = field(default_factory=lambda: {ROOT: {}})
    sizes: dict[int, int] = field(default_factory=dict)
    opened: dict[int, _Open] = field(default_factory=dict)
    nodes: int = 1

    def call(self, name: str, args: list[str], result: int) -> Iterator[Step]:
        """The steps that a call which succeeded amounts to."""
        match name:
            case "open" | "openat" | "creat":
                yield from self._open(args[1:] if name == "openat" else args, result)
            case "dup" | "dup2" | "dup3":
                if int(args[0]) in self.opened:
                    self.opened[result] = self.opened[int(args[0])]
            case "fcntl" if args[1].startswith("F_DUPFD") and int(args[0]) in self.opened:
                self.opened[result] = self.opened[int(args[0])]
            case "mkdir" | "mkdirat" | "unlink" | "unlinkat" | "rmdir":
                yield from self._name(
                    name.removesuffix("at"), args[1:] if name.endswith("at") else args
                )
            case "rename" | "renameat" | "renameat2":
                yield from self._rename(*(args if name == "rename" else (args[1], args[3])))
            case "write" if args[0] == "1":
                yield Said(_bytes(args[1]).decode())
            case "link" | "linkat" | "symlink" | "symlinkat" | "truncate":
                assert not any(
                    self._inside(_bytes(a).decode("utf-8", "replace"))
                    for a in args
                    if a.startswith('"')
                ), (name, args)
            case _ if args[0].isdigit() and int(args[0]) in self.opened:
                yield from self._through(name, args, self.opened[int(args[0])], result)
            case _:
                pass

    def _through(self, name: str, args: list[str], handle: _Open, result: int) -> Iterator[Step]:
        match name:
            case "write" | "pwrite64":
                at = (
                    int(args[3])
                    if name == "pwrite64"
                    else self.sizes[handle.node]
                    if handle.appends
                    else handle.at
                )
                data = _bytes(args[1])[:result]
                self.sizes[handle.node] = max(self.sizes[handle.node], at + result)
                if name == "write":
                    handle.at = at + result
                yield Write(handle.node, at, data)
            case "lseek":
                handle.at = result
            case "fsync" | "fdatasync":
                yield Sync(handle.node)
            case "fallocate":  # of the reserve, whose content nobody reads
                self.sizes[handle.node] = max(self.sizes[handle.node], int(args[2]) + int(args[3]))
                yield Truncate(handle.node, self.sizes[handle.node])
            case "ftruncate":
                self.sizes[handle.node] = int(args[1])
                yield Truncate(handle.node, int(args[1]))
            case "fcntl":
                pass
            case _:
                raise AssertionError(f"{name} is not modelled")

    def _open(self, args: list[str], result: int) -> Iterator[Step]:
        if (found := self._place(args[0])) is None:
            return
        folder, name = found
        flags = args[1].split("|") if len(args) > 1 else ["O_CREAT", "O_TRUNC"]
        node = self.names[folder].get(name) if name else folder
        if node is None:
            assert "O_CREAT" in flags, args
            node = self._new()
            self.names[folder][name], self.sizes[node] = node, 0
            yield Names(((folder, name, node),))
        elif "O_TRUNC" in flags and self.sizes[node]:
            self.sizes[node] = 0
            yield Truncate(node, 0)
        self.opened[result] = _Open(node, appends="O_APPEND" in flags)

    def _name(self, name: str, args: list[str]) -> Iterator[Step]:
        if (found := self._place(args[0])) is None:
            return
        folder, entry = found
        if name == "mkdir":
            node = self._new()
            self.names[folder][entry], self.names[node] = node, {}
            yield Names(((folder, entry, node),))
        else:
            del self.names[folder][entry]
            yield Names(((folder, entry, None),))

    def _rename(self, old: str, new: str) -> Iterator[Step]:
        source, target = self._place(old), self._place(new)
        if source is None and target is None:
            return
        assert source is not None and target is not None, (
            "a file came from, or went, out of the world"
        )
        node = self.names[source[0]].pop(source[1])
        self.names[target[0]][target[1]] = node
        yield Names(((*source, None), (*target, node)))

    def _new(self) -> int:
        self.nodes += 1
        return self.nodes - 1

    def _inside(self, path: str) -> bool:
        return path == self.world or path.startswith(self.world + "/")

    def _place(self, quoted: str) -> tuple[int, str] | None:
        """The folder's node and the name of what a path means; None outside the world, and for
        SQLite's shared memory, which is made anew."""
        path = os.path.normpath(
            os.path.join("/nowhere", _bytes(quoted).decode("utf-8", "surrogateescape"))
        )
        if not self._inside(path) or path.endswith("-shm"):
            return None
        *above, last = path[len(self.world) + 1 :].split("/")
        folder = ROOT
        for part in above:
            folder = self.names[folder][part]
        return folder, last


@dataclass(frozen=True)
class Recorded:
    """The steps of a run."""

    steps: list[Step]
    folders: frozenset[int]
    """The nodes that are folders."""
    calls: list[tuple[str, int]]
    """The calls that changed the world, each with which time its thread made that call: what
    strace's `when` counts."""


def read(trace: Path, world: Path) -> Recorded:
    """The steps of a recorded run."""
    reader, steps, calls = _Reader(str(world)), list[Step](), list[tuple[str, int]]()
    halves, made = dict[str, str](), collections.Counter[tuple[str, str]]()
    for line in trace.read_text(encoding="ascii").splitlines():
        found = _LINE.match(line)
        assert found is not None, line[:200]
        pid, said = found.groups()
        if resumed := _RESUMED.match(said):
            said = halves.pop(pid, "") + resumed[1]
        elif said.endswith("<unfinished ...>"):
            if said.startswith(
                "close("
            ):  # the number is free from here on, and another thread may be given it before this one is told
                reader.opened.pop(int(said[6 : said.index(" ")].rstrip(")")), None)
            else:
                halves[pid] = said.removesuffix("<unfinished ...>").rstrip(" ")
            continue
        call = _CALL.match(said)
        if call is None:
            continue  # a signal or an exit
        name, args = call[1], call[2].split(", ")
        made[pid, name] += 1
        if call[3] == "?" or int(call[3]) < 0:
            continue  # it failed, and did nothing
        if name == "close":
            reader.opened.pop(int(args[0]), None)
        elif done := list(reader.call(name, args, int(call[3]))):
            steps += done
            calls += [(name, made[pid, name])] if not isinstance(done[0], Said) else []
    return Recorded(steps, frozenset(reader.names), calls)


def _bytes(quoted: str) -> bytes:
    assert quoted.startswith('"') and quoted.endswith('"'), "strace cut a string short"
    return bytes.fromhex(quoted[1:-1].replace("\\x", ""))
