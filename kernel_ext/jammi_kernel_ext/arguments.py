"""The one table of verbs and flags of `%jammi`, `%%jammi` and `%%jammi_py`: parsing, help and suggestions all come from it."""

import dataclasses
import itertools
import keyword
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jammi_kernel_ext.misplaced import no_verb, on_the_first_line
from jammi_kernel_ext.words import natural, number, pair, whole
from jammi_lab.errors import InvalidArgument
from jammi_lab.names import near


@dataclasses.dataclass(frozen=True, slots=True)
class Argument:
    """A word by its place."""

    name: str
    """What help calls it; the key of its value."""
    required: bool = True
    """Whether the verb needs it."""
    many: bool = False
    """Whether all further words belong to it; its value is then a list."""
    dashes: bool = False
    """Whether it may begin with a dash (a word to look up)."""

    @property
    def said(self) -> str:
        """What it is, in a sentence."""
        *others, last = self.name.split("|")
        return f"{', '.join(others)} or {last}" if others else f"a {last}"


@dataclasses.dataclass(frozen=True, slots=True)
class Flag:
    """A word that begins with a dash, and what it takes."""

    spelled: tuple[str, ...]
    """Its spellings, the long one last; without dashes that is the key of its value."""
    help: str
    """What it does, one clause."""
    takes: str = ""
    """What help calls its value; empty for a switch."""
    many: bool = False
    """Whether it takes one word or more; its value is then a list."""
    convert: Callable[[str], Any] = str
    """From the word to the value; ValueError when it does not fit."""
    choices: tuple[str, ...] = ()
    """The words allowed; empty for any."""
    required: bool = False
    """Whether the verb needs it."""

    @property
    def key(self) -> str:
        """The key of its value."""
        return self.spelled[-1].lstrip("-").replace("-", "_")

    def usage(self) -> str:
        """How it is written in a line of usage."""
        value = "|".join(self.choices) or self.takes
        written = f"{'|'.join(self.spelled)}{' ' + value if value else ''}{' …' if self.many else ''}"
        return written if self.required else f"[{written}]"


@dataclasses.dataclass(frozen=True, slots=True)
class Verb:
    """A verb of `%jammi`, or (with the empty name) a magic itself."""

    name: str
    """The word."""
    help: str
    """What it does, one sentence."""
    arguments: tuple[Argument, ...] = ()
    """Words by place."""
    flags: tuple[Flag, ...] = ()
    """Words with a dash."""
    magic: str = "%jammi"
    """Behind which magic it is written."""

    @property
    def usage(self) -> str:
        """How it is written."""
        words = [f"{a.name}{' …' if a.many else ''}" if a.required else f"[{a.name}{' …' if a.many else ''}]" for a in self.arguments]
        return " ".join([*self._called(), *words, *(f.usage() for f in self.flags)])

    def _called(self) -> list[str]:
        return [self.magic, self.name] if self.name else [self.magic]


_NAME, _NAMES = Argument("NAME"), Argument("NAME", required=False, many=True)
_MAYBE = Argument("NAME", required=False)

VERBS: tuple[Verb, ...] = (
    Verb("", "Where am I, and what is here."),
    Verb(
        "open",
        "Open a workspace (a folder; made if it is not there) instead of ./.jammi.",
        (Argument("PATH", required=False),),
        (
            Flag(("--catalog",), "the PostgreSQL database that holds its catalog, as a URL", "URL"),
            Flag(("--read-only",), "look only, change nothing"),
            Flag(("--tenant",), "bind a tenant", "NAME"),
        ),
    ),
    Verb("close", "Close the workspace; the next use opens ./.jammi."),
    Verb("help", "What can be typed; with a word, that verb or flag.", (Argument("WORD", required=False, dashes=True),)),
    Verb("config", "Show the settings, show one, or set it.", (Argument("KEY", required=False), Argument("VALUE", required=False))),
    Verb(
        "add",
        "Register a source: files here, on an object store or behind http, a database or lakehouse table, under a name for SQL.",
        (_NAME, Argument("LOCATION")),
        (
            Flag(("--kind",), "what it is, when its name does not say", "KIND"),
            Flag(("--anchor",), "how its state is told: auto, content, column:NAME or none", "ANCHOR"),
            Flag(("--secret",), "the environment variable that holds its credential", "NAME"),
            Flag(("--option",), "options of its kind", "KEY=VALUE", many=True, convert=pair),
            Flag(("--tenant-column",), "the column that says whose a row is: each tenant sees its own", "COLUMN"),
            Flag(("--replace",), "take the place of a source of that name"),
        ),
    ),
    Verb("remove", "Forget a source; tables made from it stay.", (_NAME,), (Flag(("--tables",), "remove the tables that read it, too"),)),
    Verb("catalog", "Everything that is here, down to columns, to look through."),
    Verb("sources", "The registered sources."),
    Verb("tables", "The result tables, newest first.", (), (Flag(("--all",), "also those that failed or are being built"),)),
    Verb("models", "The registered models and the encoders that come along, with what runs them."),
    Verb("schema", "The columns of a source or result table and their types.", (_NAME,)),
    Verb("preview", "The first rows of a source or result table.", (_NAME,), (Flag(("-n", "--limit"), "how many rows", "N", convert=natural),)),
    Verb("view", "The rows of a result, a source or a table as a panel to look through; without a name, of the last result.", (_MAYBE,)),
    Verb(
        "embed",
        "Turn the texts of a source or table into vectors; asked again, only new and changed texts are encoded.",
        (_NAME, Argument("SOURCE")),
        (
            Flag(("--key",), "the column that identifies a row", "K", required=True),
            Flag(("--text",), "the columns whose texts are joined", "C", many=True, required=True),
            Flag(("--model",), "the encoder; minilm when none is named", "M"),
            Flag(("--where",), "a condition that leaves rows out", "SQL"),
            Flag(("--bypass",), "encode even what was encoded before"),
        ),
    ),
    Verb(
        "search",
        "The rows of an embedding table most similar to a text.",
        (Argument("TABLE"), Argument("TEXT", many=True)),
        (
            Flag(("-k",), "how many", "K", convert=whole),
            Flag(("--where",), "a condition on the rows of the source", "SQL"),
            Flag(("--select",), "columns of the source to show", "C", many=True),
        ),
    ),
    Verb(
        "graph",
        "Join each row of an embedding table with the rows most similar to it.",
        (_NAME, Argument("TABLE")),
        (
            Flag(("-k",), "how many of them (10)", "K", convert=whole),
            Flag(("--min-similarity",), "leave out what is less similar than this", "S", convert=number),
            Flag(("--mutual",), "keep only pairs of which each is among the nearest of the other"),
            Flag(("--bypass",), "compute even if the same was computed before"),
        ),
    ),
    Verb(
        "neighbors",
        "The rows most similar to one row of an embedding table; without a key, to its first.",
        (Argument("TABLE"), Argument("KEY", required=False)),
        (Flag(("-k",), "how many (10)", "K", convert=whole), Flag(("--select",), "columns of the source to show", "C", many=True)),
    ),
    Verb(
        "map",
        "An embedding table as a map: rows that are alike lie near each other.",
        (Argument("TABLE"),),
        (Flag(("--method",), "keep the map as the table TABLE_pca or TABLE_tsne, placed so", "METHOD", choices=("pca", "tsne")),),
    ),
    Verb("status", "Every recipe with its verdict and why.", (), (Flag(("--deep",), "read whatever must be read to be sure"),)),
    Verb("stale", "Only the recipes that are not fresh."),
    Verb("why", "The verdict on one table as a tree: a line for each cause, with old and new state.", (_NAME,)),
    Verb("verify", "Whether a table's bytes are those that were published; without a name, every table's.", (_MAYBE,)),
    Verb(
        "lineage",
        "What a table was made from and what is made from it, as a picture; without a name, everything.",
        (_MAYBE,),
        (
            Flag(("--up",), "only what it was made from"),
            Flag(("--down",), "only what is made from it"),
            Flag(("--columns",), "by column: which column was made from which"),
        ),
    ),
    Verb("plan", "What would be computed to make these tables (or all) fresh, and why; runs nothing.", (_NAMES,)),
    Verb("recompute", "Make these tables (or all) fresh with the least work.", (_NAMES,), (Flag(("--dry-run",), "only show the plan"),)),
    Verb("what-if", "The status as it would be if these sources or tables changed; changes nothing.", (Argument("NAME", many=True),)),
    Verb(
        "expire",
        "Remove old versions of a table, but pinned ones and those that others were made from.",
        (_NAME,),
        (Flag(("--keep",), "how many of the newest stay (1)", "N", convert=natural),),
    ),
    Verb(
        "check",
        "Compare the catalog with the files.",
        (),
        (Flag(("--repair",), "mend what can be mended, remove what nothing accounts for"), Flag(("--deep",), "read all bytes again")),
    ),
    Verb("recover", "Settle what kernels that died left behind, and look after every table's files."),
    Verb("topics", "The registered topics."),
    Verb("tail", "The last events of a topic.", (Argument("TOPIC"),), (Flag(("-n", "--events"), "how many events (10)", "N", convert=natural),)),
    Verb(
        "ephemeral",
        "Open an ephemeral session of the bound tenant, close those opened here, or list the open ones.",
        (Argument("open|close|list"),),
        (Flag(("--timeout",), "after how many seconds it ends by itself (600)", "S", convert=natural),),
    ),
    Verb("tenant", "Show whose rows are seen, or bind a tenant.", (_MAYBE,), (Flag(("--none",), "back to what is shared by all"),)),
)
NAMES = tuple(verb.name for verb in VERBS if verb.name)

CELL = Verb(
    "",
    "Run SQL. NAME becomes a Python variable with the result; $variable in the statement is bound from Python.",
    (_MAYBE,),
    (
        Flag(("-m", "--materialize"), "keep the rows as a result table of this recipe", "RECIPE"),
        Flag(("--key",), "the columns that identify a row (with -m)", "COL", many=True),
        Flag(("-t", "--as"), "give a frame instead of the result", choices=("arrow", "polars", "pandas"), takes="FRAME"),
        Flag(("-n", "--limit"), "how many rows are shown; the result is whole", "N", convert=natural),
        Flag(("--bypass",), "compute even if the same was computed before (with -m)"),
        Flag(("-q", "--quiet"), "show nothing"),
        Flag(("-v", "--view"), "show the rows as a panel to look through"),
        Flag(("-e", "--explain"), "show how the statement would run instead of running it"),
        Flag(("--analyze",), "with -e: run it, and show real rows and times"),
        Flag(("--plot",), "show a chart: bar, line, point, area, box or hist, then the columns for x, y and colour", "KIND", many=True),
    ),
    magic="%%jammi",
)

STEP = Verb(
    "",
    "Run Python as a step: the inputs are Results under their names, the last expression is the frame, which becomes a table of the recipe NAME.",
    (_NAME,),
    (
        Flag(("--inputs",), "sources, tables or name=ADDRESS that the cell reads", "INPUT", many=True),
        Flag(("--key",), "the columns that identify a row", "COL", many=True),
        Flag(("--version",), "what the definition is, in place of the cell's text", "V"),
        Flag(("--bypass",), "compute even if the same was computed before"),
        Flag(("-q", "--quiet"), "show nothing"),
    ),
    magic="%%jammi_py",
)


HELP = ("--help", "-h", "-?")
"""What asks for help, behind any verb."""
_HELP = next(verb for verb in VERBS if verb.name == "help")


def parse_line(line: str) -> tuple[Verb, dict[str, Any]]:
    """The verb of a `%jammi` line and its values by key. InvalidArgument with the usage and near words."""
    words = _split(line)
    name = words[0] if words else ""
    if name in HELP:
        return _HELP, {"WORD": None}
    for verb in VERBS:
        if verb.name == name:
            return (_HELP, {"WORD": name}) if wants_help(words[1:]) else (verb, _parse(verb, words[1:]))
    raise no_verb(words, NAMES)


def wants_help(words: Sequence[str]) -> bool:
    """Whether somebody asks what can be typed here."""
    return any(w in HELP for w in itertools.takewhile(lambda w: w != "--", words))


def cell_wants_help(line: str) -> bool:
    """The same of the first line of a cell."""
    return wants_help(_split(line))


def parse_cell(line: str) -> dict[str, Any]:
    """The values of the first line of a `%%jammi` cell by key. InvalidArgument with the usage and near words."""
    words = _split(line)
    try:
        values = _parse(CELL, words)
    except InvalidArgument as error:
        raise on_the_first_line(words, NAMES) or error from None
    name = values["NAME"]
    if name is not None and (not name.isidentifier() or keyword.iskeyword(name)):
        raise InvalidArgument(f"{name!r} cannot be a Python variable, so the result cannot be bound to it.", hint=f"Usage: {CELL.usage}")
    return values


def parse_step(line: str) -> dict[str, Any]:
    """The values of the first line of a `%%jammi_py` cell by key, `inputs` as a dict of variable → address. InvalidArgument with the usage."""
    values = _parse(STEP, _split(line))
    inputs: dict[str, str] = {}
    for word in values["inputs"]:
        name, sign, address = word.partition("=")
        if not sign or not name.isidentifier():
            name, address = word.rpartition(".")[2], word
        if not name.isidentifier() or keyword.iskeyword(name):
            raise InvalidArgument(
                f"{word!r} cannot be a Python variable in the cell.", hint=f"Give it a name: --inputs {shlex.quote(f'rows={word}')}"
            )
        if name in inputs:
            raise InvalidArgument(f"Two inputs are called {name}.", hint=f"Give one another name: --inputs {shlex.quote(f'other={address}')}")
        inputs[name] = address
    return {**values, "inputs": inputs}


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        raise InvalidArgument("A quotation in the line is not closed.", hint="Words with spaces stand between two equal quotation marks.") from None


def _parse(verb: Verb, words: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {a.name: [] if a.many else None for a in verb.arguments}
    values |= {f.key: [] if f.many else None if f.takes else False for f in verb.flags}
    placed, rest, only_words = [], _Peekable(words), False
    for word in rest:
        if word == "--" and not only_words:
            only_words = True
        elif _is_flag(word) and not only_words and not any(a.dashes for a in verb.arguments):
            _flag(verb, word, rest, values)
        else:
            placed.append(word)
    for argument in verb.arguments:
        if argument.many:
            values[argument.name], placed = placed, []
        elif placed:
            values[argument.name] = placed.pop(0)
        if argument.required and not values[argument.name]:
            raise InvalidArgument(f"{' '.join(verb._called())} needs {argument.said}.", hint=f"Usage: {verb.usage}")
    for flag in verb.flags:
        if flag.required and not values[flag.key]:
            raise InvalidArgument(f"{' '.join(verb._called())} needs {flag.spelled[-1]}, {flag.help}.", hint=f"Usage: {verb.usage}")
    if placed:
        raise InvalidArgument(f"{' '.join(verb._called())} does not know what to do with {placed[0]!r}.", hint=f"Usage: {verb.usage}")
    return values


class _Peekable(Iterator[str]):
    """The words one after the other, with a look at the next one."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words, self._at = words, 0

    def __next__(self) -> str:
        if self._at >= len(self._words):
            raise StopIteration
        self._at += 1
        return self._words[self._at - 1]

    def value_follows(self) -> bool:
        """Whether the next word can be a flag's value."""
        return self._at < len(self._words) and not _is_flag(self._words[self._at])


def _is_flag(word: str) -> bool:
    """Whether a word begins a flag: `-k` does, `-` and the number `-0.2` do not."""
    return word.startswith("-") and not re.match(r"-(\.?\d|$)", word)


def _flag(verb: Verb, word: str, rest: _Peekable, values: dict[str, Any]) -> None:
    spelled, sign, joined = word.partition("=")
    flag = next((f for f in verb.flags if spelled in f.spelled), None)
    called = " ".join(verb._called())
    if flag is None:
        known = [s for f in verb.flags for s in f.spelled]
        raise InvalidArgument(f"{called} has no flag {spelled}.", near=near(spelled, known), hint=f"Usage: {verb.usage}")
    if not flag.takes:
        if sign:
            raise InvalidArgument(f"{spelled} of {called} takes no value.", hint=f"Usage: {verb.usage}")
        values[flag.key] = True
        return
    given = [joined] if sign else []
    while (rest.value_follows() and (flag.many or not given)) and not (sign and not flag.many):
        given.append(next(rest))
    if not given or "" in given:
        raise InvalidArgument(f"{spelled} of {called} needs a value: {'|'.join(flag.choices) or flag.takes}.", hint=f"Usage: {verb.usage}")
    converted = [_converted(flag, spelled, called, g) for g in given]
    values[flag.key] = values[flag.key] + converted if flag.many else converted[-1]


def _converted(flag: Flag, spelled: str, called: str, word: str) -> Any:
    if flag.choices and word not in flag.choices:
        raise InvalidArgument(f"{spelled} of {called} takes {' or '.join(flag.choices)}, not {word!r}.", near=near(word, flag.choices))
    try:
        return flag.convert(word)
    except ValueError as expected:
        raise InvalidArgument(f"{spelled} of {called} takes {expected}, not {word!r}.") from None
