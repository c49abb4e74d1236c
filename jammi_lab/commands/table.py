"""The commands of cells and of the shell: those of `commands.txt`, and those that packages add.
Parsing, help, completion and the reference of both are derived from that table."""

import contextlib
import dataclasses
import inspect
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jammi_lab.core.entry_points import COMMANDS, load_package_entry, package_entries
from jammi_lab.core.errors import ExtensionMissing
from jammi_lab.core.identifiers import fold

SHELL, LINE = "jammi-lab", "%jammi"
"""What commands of the shell and lines of cells begin with."""


def _number_parser(
    kind: Callable[[str], float], least: float, expected: str
) -> Callable[[str], float]:
    """What parses a finite number that is not below `least`."""

    def parse(word: str) -> float:
        try:
            value = kind(word)
        except ValueError:
            value = math.nan
        if not least <= value < math.inf:
            raise ValueError(expected)
        return value

    return parse


positive_integer = _number_parser(int, 1, "a positive integer")
non_negative_integer = _number_parser(int, 0, "a non-negative integer")
non_negative_number = _number_parser(float, 0, "a non-negative number")
number = _number_parser(float, -sys.float_info.max, "a number")


def duration(word: str) -> float:
    """Parse a number with a unit, for example 90s or 24h, into seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", word)
    if match is None:
        raise ValueError("a duration such as 90s, 30m, 24h or 7d")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def option_pair(word: str) -> tuple[str, str | list[str]]:
    r"""Parse `key=value`; a value with commas between texts is a list, `\t` a tab."""
    key, separator, value = word.partition("=")
    if not separator or not key:
        raise ValueError("key=value")
    value = "\t" if value == r"\t" else value
    parts = value.split(",")
    return key, parts if all(parts) and parts[1:] and value[0] not in "[{" else value


_CONVERTERS: dict[str, Callable[[str], Any]] = {
    "A": positive_integer,
    "B": positive_integer,
    "V": positive_integer,
    "concurrency": positive_integer,
    "cost": non_negative_number,
    "events": positive_integer,
    "interval": duration,
    "k": non_negative_integer,
    "keep": positive_integer,
    "limit": positive_integer,
    "max_age": duration,
    "min_similarity": number,
    "option": option_pair,
    "timeout": positive_integer,
}
"""By argument or key of a flag: what converts its word to its value. ValueError names what was
expected. All others are texts."""


def _choices(name: str) -> tuple[str, ...]:
    return tuple(name.split("|")) if "|" in name else ()


def listing(words: Sequence[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


@dataclasses.dataclass(frozen=True, slots=True)
class Argument:
    """A positional argument."""

    name: str
    """Its name in help, and the key of its value."""
    required: bool
    """Whether the command needs it."""
    repeated: bool
    """Whether it takes all remaining words; its value is then a list."""

    @property
    def convert(self) -> Callable[[str], Any]:
        """Converts the word to the value. ValueError names what was expected."""
        return _CONVERTERS.get(self.name, str)

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed values; empty for any."""
        return _choices(self.name)

    @property
    def description(self) -> str:
        """A noun phrase for error messages: `a NAME`, `open, close or list`."""
        return listing(self.choices) if self.choices else f"a {self.name}"

    @property
    def usage(self) -> str:
        """Its form in a usage line; brackets mark an optional argument."""
        text = f"{self.name} …" if self.repeated else self.name
        return text if self.required else f"[{text}]"


@dataclasses.dataclass(frozen=True, slots=True)
class Flag:
    """A flag and its value."""

    spellings: tuple[str, ...]
    """Its spellings, the long one last. The last one without dashes is the key of its value."""
    help: str
    """What it does, in one clause."""
    value_name: str
    """The name of its value in help; empty for a switch."""
    repeated: bool
    """Whether it takes several words; its value is then a list."""
    required: bool
    """Whether the command needs it."""
    words: tuple[str, ...] = ()
    """The values that a switch may have. The value of such a switch is the list of those given, an
    empty text for the bare flag."""

    @property
    def key(self) -> str:
        """The key of its value."""
        return self.spellings[-1].lstrip("-").replace("-", "_")

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed values; empty for any."""
        return _choices(self.value_name)

    @property
    def needs(self) -> str:
        """The flag without which this one means nothing, as its help says."""
        found = _NEEDED.search(self.help)
        return "" if found is None else found[1] or found[2]

    @property
    def convert(self) -> Callable[[str], Any]:
        """Converts the word to the value. ValueError names what was expected."""
        return _CONVERTERS.get(self.key, str)

    @property
    def form(self) -> str:
        """How it is written."""
        text = "|".join(self.spellings)
        if self.value_name:
            text += f" {self.value_name}"
        if self.words:
            text += f"[={'|'.join(self.words)}]"
        return f"{text} …" if self.repeated else text

    @property
    def usage(self) -> str:
        """Its form in a usage line; brackets mark an optional flag."""
        return self.form if self.required else f"[{self.form}]"


@dataclasses.dataclass(frozen=True, slots=True)
class Verb:
    """A command; an empty name stands for a magic itself."""

    magic: str
    """What it begins with: `%jammi`, the magic of a cell, or `jammi-lab`."""
    name: str
    """The command as typed."""
    help: str
    """What it does."""
    arguments: tuple[Argument, ...]
    """Positional arguments."""
    flags: tuple[Flag, ...]
    """Flags."""
    chapter: str
    """The chapter of help that lists it."""
    function: Callable[[Any, dict[str, Any]], Any] | None = None
    """What runs it, of a package: called with the workspace and the values by key."""

    @property
    def command(self) -> str:
        """The words that it begins with."""
        return f"{self.magic} {self.name}".rstrip()

    @property
    def synopsis(self) -> str:
        """Its usage without flags."""
        return " ".join([self.command, *(argument.usage for argument in self.arguments)])

    @property
    def usage(self) -> str:
        """Its usage line."""
        return " ".join([self.synopsis, *(flag.usage for flag in self.flags)])

    @property
    def advice(self) -> str:
        """How it is written, for error messages."""
        return f"Usage: {self.usage}"

    def flag(self, spelling: str) -> Flag | None:
        """The flag with this spelling; None if there is none."""
        return next((flag for flag in self.flags if spelling in flag.spellings), None)


_NEEDED = re.compile(r"\(with (-[\w-]+)\)|^with (-[\w-]+):")
_USAGE = re.compile(r"(?P<magic>%{0,2}[\w-]+) ?(?P<name>[a-z-]*)(?P<arguments>[^·]*)(?P<shell>·)?")
_ARGUMENT = re.compile(r"(?P<optional>\[?)(?P<name>[\w|]+)(?P<repeated> …)?")
_ONLY_IN_SHELL, _ONLY_IN_NOTEBOOKS = "$ ", "% "
_FLAG_STARTS = ("-", _ONLY_IN_SHELL, _ONLY_IN_NOTEBOOKS)
_PATH = Argument("PATH", required=False, repeated=False)
_PACKAGES = "Packages"
"""The chapter of the commands that packages add."""


def _read_table(text: str) -> Iterator[Verb]:
    chapter = ""
    for block in text.replace("\n        ", " ").split("\n\n"):
        usage, *lines = block.strip().split("\n    ")
        if usage.startswith("== "):
            chapter = usage.removeprefix("== ")
        elif not usage.startswith("#"):
            yield from _read_command(usage, lines, chapter)


def _read_command(usage: str, lines: Sequence[str], chapter: str) -> Iterator[Verb]:
    match = _USAGE.match(usage)
    assert match is not None, usage
    arguments = tuple(
        Argument(found["name"], not found["optional"], found["repeated"] is not None)
        for found in _ARGUMENT.finditer(match["arguments"])
    )
    flags = [line for line in lines if line.startswith(_FLAG_STARTS)]
    about = " ".join(line for line in lines if line not in flags)
    for magic in [match["magic"], SHELL] if match["shell"] else [match["magic"]]:
        foreign = _ONLY_IN_NOTEBOOKS if magic == SHELL else _ONLY_IN_SHELL
        known = [_read_flag(line) for line in flags if not line.startswith(foreign)]
        if magic == SHELL and match["shell"]:
            arguments = (_PATH, *arguments)
        if magic == SHELL and _PATH in arguments:
            known += _COMMON_FLAGS
        yield Verb(magic, match["name"], about, arguments, tuple(known), chapter)


def _read_flag(line: str) -> Flag:
    usage, _, about = line.partition(": ")
    spellings, *words = usage.lstrip("$% ").split()
    spellings, _, switch_words = spellings.partition("=")
    return Flag(
        tuple(spellings.split("|")),
        about,
        next((word for word in words if word not in "…!"), ""),
        repeated="…" in words,
        required="!" in words,
        words=tuple(switch_words.split("|")) if switch_words else (),
    )


_COMMON_FLAGS = [
    _read_flag(
        "--catalog URL: the PostgreSQL database with the catalog, if it is not in the folder"
    ),
    _read_flag("--tenant NAME: the tenant whose tables to use; without it, shared tables only"),
    _read_flag("--json: print one JSON value on standard output"),
]
"""The flags of each command of the shell on a workspace."""
OWN_COMMANDS = tuple(
    _read_table(Path(__file__).with_name("commands.txt").read_text(encoding="utf-8"))
)
"""The commands of `commands.txt`, in its order."""
CELL, STEP = (verb for verb in OWN_COMMANDS if verb.magic in ("%%jammi", "%%jammi_py"))


def commands(magic: str) -> list[Verb]:
    """The commands that begin with it: our own, then those of packages that can be imported."""
    found = [verb for verb in OWN_COMMANDS if verb.magic == magic]
    for name in package_entries(COMMANDS):
        with contextlib.suppress(ExtensionMissing):
            found += _package_commands(name, magic)
    return found


def find_command(magic: str, name: str) -> Verb | None:
    """The command of that name; None if there is none. ExtensionMissing for one of a package that
    cannot be imported."""
    for verb in OWN_COMMANDS:
        if (verb.magic, verb.name) == (magic, name):
            return verb
    known = name and fold(name) in package_entries(COMMANDS)
    return next(iter(_package_commands(name, magic)), None) if known else None


def _package_commands(name: str, magic: str) -> list[Verb]:
    function = load_package_entry(COMMANDS, name)
    usage, *lines = [line.strip() for line in inspect.cleandoc(function.__doc__ or "").split("\n")]
    match = _USAGE.match(usage)
    if match is None or match["name"] != name:
        raise ExtensionMissing(
            f"The command {name!r} of a package has no usage.",
            hint=f"The first line of its docstring is to begin with `{LINE} {name}`.",
        )
    return [
        dataclasses.replace(verb, function=function)
        for verb in _read_command(usage, lines, _PACKAGES)
        if verb.magic == magic
    ]
