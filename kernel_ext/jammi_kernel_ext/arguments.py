"""The table of verbs and flags of `%jammi`, `%%jammi` and `%%jammi_py`. Parsing, help and
suggestions are all derived from it."""

import dataclasses
import itertools
import keyword
import math
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jammi_kernel_ext.hints import first_line_error, unknown_verb_error
from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.identifiers import near_names


def positive_integer(word: str) -> int:
    """Parse an integer of at least 1."""
    if not word.isascii() or not word.isdigit() or int(word) < 1:
        raise ValueError("a positive integer")
    return int(word)


def non_negative_number(word: str) -> float:
    """Parse a finite number of at least 0."""
    try:
        number = float(word)
    except ValueError:
        number = math.inf
    if not 0 <= number < math.inf:
        raise ValueError("a non-negative number")
    return number


def non_negative_integer(word: str) -> int:
    """Parse an integer of at least 0."""
    if not word.isascii() or not word.isdigit():
        raise ValueError("a non-negative integer")
    return int(word)


def number(word: str) -> float:
    """Parse a float."""
    try:
        return float(word)
    except ValueError:
        raise ValueError("a number") from None


def key_value_pair(word: str) -> tuple[str, str]:
    """Parse `key=value`."""
    key, separator, value = word.partition("=")
    if not separator or not key:
        raise ValueError("key=value")
    return key, value


@dataclasses.dataclass(frozen=True, slots=True)
class Argument:
    """A positional argument."""

    name: str
    """Its name in help, and the key of its value."""
    required: bool = True
    """Whether the verb needs it."""
    repeated: bool = False
    """Whether it takes all remaining words; its value is then a list."""
    allows_dash: bool = False
    """Whether its value may begin with a dash (for example a flag to look up in help)."""
    convert: Callable[[str], Any] = str
    """Converts the word to the value. ValueError names what was expected."""

    @property
    def description(self) -> str:
        """A noun phrase for error messages: `a NAME`, `open, close or list`."""
        *others, last = self.name.split("|")
        return f"{', '.join(others)} or {last}" if others else f"a {last}"


@dataclasses.dataclass(frozen=True, slots=True)
class Flag:
    """A flag and its value."""

    spellings: tuple[str, ...]
    """Its spellings, the long one last. The last one without dashes is the key of its value."""
    help: str
    """What it does, in one clause."""
    value_name: str = ""
    """The name of its value in help; empty for a switch."""
    repeated: bool = False
    """Whether it takes several words; its value is then a list."""
    convert: Callable[[str], Any] = str
    """Converts the word to the value. ValueError names what was expected."""
    choices: tuple[str, ...] = ()
    """The allowed values; empty for any."""
    required: bool = False
    """Whether the verb needs it."""

    @property
    def key(self) -> str:
        """The key of its value."""
        return self.spellings[-1].lstrip("-").replace("-", "_")

    def usage(self) -> str:
        """Its syntax in a usage line; brackets mark an optional flag."""
        value = "|".join(self.choices) or self.value_name
        text = "|".join(self.spellings) + (f" {value}" if value else "")
        text += " …" if self.repeated else ""
        return text if self.required else f"[{text}]"


@dataclasses.dataclass(frozen=True, slots=True)
class Verb:
    """A verb of `%jammi`; an empty name stands for a magic itself."""

    name: str
    """The verb as typed."""
    help: str
    """What it does, in one sentence."""
    arguments: tuple[Argument, ...] = ()
    """Positional arguments."""
    flags: tuple[Flag, ...] = ()
    """Flags."""
    magic: str = "%jammi"
    """The magic that it belongs to."""

    @property
    def usage(self) -> str:
        """Its usage line."""
        words = [
            f"{a.name}{' …' if a.repeated else ''}"
            if a.required
            else f"[{a.name}{' …' if a.repeated else ''}]"
            for a in self.arguments
        ]
        return " ".join([*self._command(), *words, *(f.usage() for f in self.flags)])

    def _command(self) -> list[str]:
        return [self.magic, self.name] if self.name else [self.magic]


def _flag(usage: str, help: str, convert: Callable[[str], Any] = str) -> Flag:
    """A flag by its usage: `-n|--limit N` has two spellings and a value, `--method pca|tsne` one of
    two values; `…` stands for several words, `!` for a flag that the verb needs."""
    spellings, *words = usage.split()
    value = next((word for word in words if word not in "…!"), "")
    return Flag(
        tuple(spellings.split("|")),
        help,
        value,
        repeated="…" in words,
        convert=convert,
        choices=tuple(value.split("|")) if "|" in value else (),
        required="!" in words,
    )


_NAME, _NAMES = Argument("NAME"), Argument("NAME", required=False, repeated=True)
_OPTIONAL_NAME = Argument("NAME", required=False)
_COLUMN_VALUES = ("C", "COL")

VERBS: tuple[Verb, ...] = (
    Verb("", "Show the open workspace and its contents."),
    Verb(
        "open",
        "Open a workspace folder (created if missing) instead of ./.jammi.",
        (Argument("PATH", required=False),),
        (
            _flag("--catalog URL", "the URL of the PostgreSQL database that stores its catalog"),
            _flag("--read-only", "open it read-only"),
            _flag("--tenant NAME", "bind this tenant"),
        ),
    ),
    Verb("close", "Close the workspace; the next command opens ./.jammi."),
    Verb(
        "help",
        "List all commands; with a word, explain that command or flag.",
        (Argument("WORD", required=False, allows_dash=True),),
    ),
    Verb(
        "config",
        "Show all settings, show one, or set one.",
        (Argument("KEY", required=False), Argument("VALUE", required=False)),
    ),
    Verb(
        "add",
        "Register a source under a name for SQL: files (local, object store, http), a database or "
        "a lakehouse table.",
        (_NAME, Argument("LOCATION")),
        (
            _flag("--kind KIND", "the kind of source, if the location does not show it"),
            _flag(
                "--anchor ANCHOR", "how changes are detected: auto, content, column:NAME or none"
            ),
            _flag("--secret NAME", "the environment variable that contains its credential"),
            _flag(
                "--option KEY=VALUE …", "options for this kind of source", convert=key_value_pair
            ),
            _flag(
                "--tenant-column COLUMN",
                "the column with each row's tenant: tenants see their own rows and those without a "
                "tenant",
            ),
            _flag("--replace", "replace the source of that name"),
        ),
    ),
    Verb(
        "remove",
        "Remove a source; tables computed from it stay.",
        (_NAME,),
        (_flag("--tables", "also remove the tables that read it"),),
    ),
    Verb("catalog", "Browse sources, tables and models, down to their columns."),
    Verb("sources", "List the registered sources."),
    Verb(
        "tables",
        "List the result tables, newest first.",
        (),
        (_flag("--all", "include failed and unfinished tables"),),
    ),
    Verb(
        "models",
        "List the registered models and the built-in encoders, and whether they can run here.",
    ),
    Verb("schema", "Show the columns of a source or result table and their types.", (_NAME,)),
    Verb(
        "preview",
        "Show the first rows of a source or result table.",
        (_NAME,),
        (_flag("-n|--limit N", "number of rows", convert=positive_integer),),
    ),
    Verb(
        "view",
        "Browse the rows of a result, source or table in a panel; without a name, of the last "
        "result.",
        (_OPTIONAL_NAME,),
    ),
    Verb(
        "embed",
        "Embed the texts of a source or table as vectors; a second run encodes only new and "
        "changed texts.",
        (_NAME, Argument("SOURCE")),
        (
            _flag("--key K !", "the column that identifies a row"),
            _flag("--text C … !", "the columns whose texts are joined and encoded"),
            _flag("--model M", "the encoder (minilm)"),
            _flag("--where SQL", "encode only rows that satisfy this condition"),
            _flag("--bypass", "encode all texts again"),
        ),
    ),
    Verb(
        "lexical",
        "Index the words of the texts of a source or table; a second run analyses only new and "
        "changed texts.",
        (_NAME, Argument("SOURCE")),
        (
            _flag("--key K !", "the column that identifies a row"),
            _flag("--text C … !", "the columns whose texts are joined"),
            _flag("--analyzer english|simple|exact", "what counts as a word (english)"),
            _flag("--where SQL", "index only rows that satisfy this condition"),
            _flag("--bypass", "analyse all texts again"),
        ),
    ),
    Verb(
        "search",
        "Find the rows that match a text best: by meaning in an embedding table, by words in a "
        "lexical table, or by both.",
        (Argument("TABLE"), Argument("TEXT", repeated=True)),
        (
            _flag("-k K", "number of hits (10)", convert=non_negative_integer),
            _flag("--words TABLE", "a lexical table of the same keys to search, too"),
            _flag("--where SQL", "a condition on the source's rows"),
            _flag("--select C …", "columns of the source to show"),
        ),
    ),
    Verb(
        "graph",
        "Compute a neighbour graph: for each row of an embedding table, the rows most similar to "
        "it.",
        (_NAME, Argument("TABLE")),
        (
            _flag("-k K", "neighbours per row (10)", convert=non_negative_integer),
            _flag("--min-similarity S", "omit pairs less similar than this", convert=number),
            _flag("--mutual", "keep only pairs in which each row is among the other's nearest"),
            _flag("--bypass", "compute again even if the same result exists"),
        ),
    ),
    Verb(
        "neighbors",
        "Find the rows most similar to one row of an embedding table; without a key, to its first "
        "row.",
        (Argument("TABLE"), Argument("KEY", required=False)),
        (
            _flag("-k K", "number of rows (10)", convert=non_negative_integer),
            _flag("--select C …", "columns of the source to show"),
        ),
    ),
    Verb(
        "map",
        "Draw an embedding table as a 2-D map: similar rows lie near each other.",
        (Argument("TABLE"),),
        (
            _flag(
                "--method pca|tsne",
                "compute the map with this method and store it as the table TABLE_pca or "
                "TABLE_tsne",
            ),
        ),
    ),
    Verb(
        "status",
        "Show the verdict of every recipe and its reasons.",
        (),
        (_flag("--deep", "check without limits: also scan large inputs"),),
    ),
    Verb("stale", "Show only the recipes that are not fresh."),
    Verb(
        "why",
        "Explain the verdict on one table as a tree: a line for each cause, with old and new "
        "state.",
        (_NAME,),
    ),
    Verb(
        "verify",
        "Check a table's files against its manifest; without a name, check every table.",
        (_OPTIONAL_NAME,),
    ),
    Verb(
        "lineage",
        "Draw the lineage of one table or, without a name, of the whole workspace.",
        (_OPTIONAL_NAME,),
        (
            _flag("--up", "only upstream: what it was computed from"),
            _flag("--down", "only downstream: what is computed from it"),
            _flag("--columns", "column lineage: which columns each column was computed from"),
        ),
    ),
    Verb(
        "plan",
        "Preview what recompute would do for these tables (or all), and why (dry run).",
        (_NAMES,),
    ),
    Verb(
        "recompute",
        "Bring these tables (or all) up to date, recomputing only what changed.",
        (_NAMES,),
        (_flag("--dry-run", "only show the plan"),),
    ),
    Verb(
        "what-if",
        "Show the status as it would be if these sources or tables changed (hypothetical).",
        (Argument("NAME", repeated=True),),
    ),
    Verb("history", "List the versions of a table with the time of each, newest first.", (_NAME,)),
    Verb(
        "diff",
        "Show the rows that differ between two versions of a table: B (the newest) against A (the "
        "one before it).",
        (
            _NAME,
            Argument("A", required=False, convert=positive_integer),
            Argument("B", required=False, convert=positive_integer),
        ),
    ),
    Verb(
        "restore",
        "Make an old version the newest again.",
        (_NAME, Argument("V", convert=positive_integer)),
    ),
    Verb(
        "export",
        "Write a table to a .parquet, .csv or .arrow file.",
        (_NAME, Argument("PATH")),
    ),
    Verb(
        "rename",
        "Rename a recipe; the old name stays as an alias.",
        (_NAME, Argument("NEW")),
    ),
    Verb("unalias", "Remove an alias.", (_NAME,)),
    Verb(
        "hold",
        "Leave a table as it is until it is named in recompute.",
        (_NAME,),
        (_flag("--note TEXT", "the reason"),),
    ),
    Verb("unhold", "End the hold of a table.", (_NAME,)),
    Verb(
        "drop",
        "Remove a recipe and all its versions, unless another table reads it.",
        (_NAME,),
        (_flag("--force", "also if other tables read it"),),
    ),
    Verb("edit", "Put the cell that makes a table below this one.", (_NAME,)),
    Verb(
        "expire",
        "Remove old versions of a table, except pinned ones and those that other tables were "
        "computed from.",
        (_NAME,),
        (_flag("--keep N", "number of newest versions to keep (1)", convert=positive_integer),),
    ),
    Verb(
        "check",
        "Run the checks that are due, of the named tables or all.",
        (_NAMES,),
    ),
    Verb(
        "fsck",
        "Check that the catalog matches the files.",
        (),
        (
            _flag(
                "--repair", "repair what can be repaired and remove files without a catalog entry"
            ),
            _flag("--deep", "also verify the bytes of every file"),
        ),
    ),
    Verb("recover", "Clean up after crashed kernels, and check every table's files."),
    Verb("topics", "List the topics."),
    Verb(
        "tail",
        "Show the last events of a topic.",
        (Argument("TOPIC"),),
        (_flag("-n|--events N", "number of events (10)", convert=positive_integer),),
    ),
    Verb(
        "ephemeral",
        "Open an ephemeral session for the bound tenant, close the sessions opened here, or list "
        "the open ones.",
        (Argument("open|close|list"),),
        (
            _flag(
                "--timeout S", "seconds until it closes by itself (600)", convert=positive_integer
            ),
        ),
    ),
    Verb(
        "tenant",
        "Show the bound tenant, or bind one.",
        (_OPTIONAL_NAME,),
        (_flag("--none", "unbind the tenant; only shared tables are visible then"),),
    ),
)
VERB_NAMES = tuple(verb.name for verb in VERBS if verb.name)

CELL = Verb(
    "",
    "Run SQL. The Python variable NAME gets the result; $variable in the statement takes its value "
    "from Python.",
    (_OPTIONAL_NAME,),
    (
        _flag("-m|--materialize RECIPE", "store the rows as a result table under this recipe name"),
        _flag("--key COL …", "the columns that identify a row (with -m)"),
        _flag("-t|--as arrow|polars|pandas", "return a frame instead of a Result"),
        _flag(
            "-n|--limit N",
            "number of rows to show; the result contains all rows",
            convert=positive_integer,
        ),
        _flag("--bypass", "compute again even if the same result exists (with -m)"),
        _flag(
            "--check CHECK",
            "keep the statement, which selects the failing rows, as a check (with --on)",
        ),
        _flag("--on TABLE", "the table whose versions are checked (with --check)"),
        _flag("--warn", "report failing rows but publish the version (with --check)"),
        _flag("-q|--quiet", "show nothing"),
        _flag("-v|--view", "browse the rows in a panel"),
        _flag("-e|--explain", "show the query plan instead of running the statement"),
        _flag("--analyze", "with -e: run the statement and show actual row counts and times"),
        _flag(
            "--plot KIND …",
            "show a chart: its kind (bar, line, point, area, box, hist), then the columns for x, y "
            "and colour",
        ),
    ),
    magic="%%jammi",
)

STEP = Verb(
    "",
    "Run Python as a step: inputs are Results under their names, and the frame in the last "
    "expression becomes a table of the recipe NAME.",
    (_NAME,),
    (
        _flag(
            "--inputs INPUT …",
            "sources, tables or name=ADDRESS that the cell reads; with --map columns of a row",
        ),
        _flag("--key COL …", "the columns that identify a row"),
        _flag(
            "--version V", "a version that identifies the definition, instead of the cell's text"
        ),
        _flag("--map OVER", "run the cell for each row of OVER, and only for changed ones"),
        _flag("--on-error raise|record", "with --map: end the run, or store the error in the row"),
        _flag("--concurrency N", "with --map: rows at a time (1)", convert=positive_integer),
        _flag(
            "--cost C", "with --map: the cost of one row, for plans", convert=non_negative_number
        ),
        _flag("--dry-run", "with --map: only count the rows that would run"),
        _flag("--bypass", "compute again even if the same result exists"),
        _flag("-q|--quiet", "show nothing"),
    ),
    magic="%%jammi_py",
)


HELP_FLAGS = ("--help", "-h", "-?")
"""The flags that request help after any verb."""
_HELP_VERB = next(verb for verb in VERBS if verb.name == "help")


def parse_line(line: str) -> tuple[Verb, dict[str, Any]]:
    """Parse a `%jammi` line into its verb and the values by key. InvalidArgument carries the usage
    and near matches."""
    words = _split_words(line)
    name = words[0] if words else ""
    if name in HELP_FLAGS:
        return _HELP_VERB, {"WORD": None}
    for verb in VERBS:
        if verb.name == name:
            return (
                (_HELP_VERB, {"WORD": name})
                if wants_help(words[1:])
                else (verb, _parse_words(verb, words[1:]))
            )
    raise unknown_verb_error(words, VERB_NAMES)


def wants_help(words: Sequence[str]) -> bool:
    """Whether the words contain a help flag before `--`."""
    return any(w in HELP_FLAGS for w in itertools.takewhile(lambda w: w != "--", words))


def cell_wants_help(line: str) -> bool:
    """Whether the first line of a cell contains a help flag."""
    return wants_help(_split_words(line))


def parse_cell(line: str) -> dict[str, Any]:
    """Parse the first line of a `%%jammi` cell into values by key. InvalidArgument carries the
    usage and near matches."""
    words = _split_words(line)
    try:
        values = _parse_words(CELL, words)
    except InvalidArgument as error:
        raise first_line_error(words, VERB_NAMES) or error from None
    name = values["NAME"]
    if name is not None and (not name.isidentifier() or keyword.iskeyword(name)):
        raise InvalidArgument(
            f"{name!r} is not a valid name for a Python variable.",
            hint=f"Usage: {CELL.usage}",
        )
    return values


def parse_step(line: str) -> dict[str, Any]:
    """Parse the first line of a `%%jammi_py` cell into values by key; `inputs` is a dict of
    variable to address. InvalidArgument carries the usage."""
    values = _parse_words(STEP, _split_words(line))
    _check_map_flags(values)
    inputs: dict[str, str] = {}
    for word in values["inputs"]:
        name, separator, address = word.partition("=")
        if not separator or not name.isidentifier():
            name, address = word.rpartition(".")[2], word
        if not name.isidentifier() or keyword.iskeyword(name):
            raise InvalidArgument(
                f"{word!r} is not a valid name for a Python variable.",
                hint=f"Give it a name: --inputs {shlex.quote(f'rows={word}')}",
            )
        if name in inputs:
            raise InvalidArgument(
                f"Two inputs are named {name}.",
                hint=f"Rename one: --inputs {shlex.quote(f'other={address}')}",
            )
        inputs[name] = address
    return {**values, "inputs": inputs}


def _check_map_flags(values: Mapping[str, Any]) -> None:
    """Raise InvalidArgument for `--map` without one key and inputs, and for its flags without
    it."""
    if values["map"] is None:
        given = [f for f in ("on_error", "concurrency", "cost", "dry_run") if values[f]]
        if given:
            flag = "--" + given[0].replace("_", "-")
            raise InvalidArgument(f"{flag} needs --map OVER.", hint=f"Usage: {STEP.usage}")
    elif len(values["key"]) != 1 or not values["inputs"]:
        raise InvalidArgument(
            "--map needs --key with one column, and --inputs with the columns that the cell reads.",
            hint=f"Usage: {STEP.usage}",
        )


def _split_words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        raise InvalidArgument(
            "A quotation mark is not closed.",
            hint="Put words with spaces between two equal quotation marks.",
        ) from None


def _parse_words(verb: Verb, words: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {a.name: [] if a.repeated else None for a in verb.arguments}
    values |= {f.key: [] if f.repeated else None if f.value_name else False for f in verb.flags}
    positional, remaining, flags_ended = [], _WordIterator(words), False
    for word in remaining:
        if word == "--" and not flags_ended:
            flags_ended = True
        elif _is_flag(word) and not flags_ended and not any(a.allows_dash for a in verb.arguments):
            _parse_flag(verb, word, remaining, values)
        else:
            positional.append(word)
    for argument in verb.arguments:
        if argument.repeated:
            values[argument.name], positional = positional, []
        elif positional:
            values[argument.name] = _convert_argument(verb, argument, positional.pop(0))
        if argument.required and not values[argument.name]:
            raise InvalidArgument(
                f"{' '.join(verb._command())} needs {argument.description}.",
                hint=f"Usage: {verb.usage}",
            )
    for flag in verb.flags:
        if flag.required and not values[flag.key]:
            raise InvalidArgument(
                f"{' '.join(verb._command())} needs {flag.spellings[-1]}, {flag.help}.",
                hint=f"Usage: {verb.usage}",
            )
    if positional:
        raise InvalidArgument(
            f"{' '.join(verb._command())} got an unexpected argument: {positional[0]!r}.",
            hint=f"Usage: {verb.usage}",
        )
    return values


class _WordIterator(Iterator[str]):
    """An iterator over words that can look at the next one."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words, self._position = words, 0

    def __next__(self) -> str:
        if self._position >= len(self._words):
            raise StopIteration
        self._position += 1
        return self._words[self._position - 1]

    def value_follows(self) -> bool:
        """Whether the next word exists and is not a flag."""
        return self._position < len(self._words) and not _is_flag(self._words[self._position])


def _is_flag(word: str) -> bool:
    """Whether a word is a flag: `-k` is; `-` and the number `-0.2` are not."""
    return word.startswith("-") and not re.match(r"-(\.?\d|$)", word)


def _parse_flag(verb: Verb, word: str, remaining: _WordIterator, values: dict[str, Any]) -> None:
    spelling, separator, inline_value = word.partition("=")
    flag = next((f for f in verb.flags if spelling in f.spellings), None)
    command = " ".join(verb._command())
    if flag is None:
        known = {s.lstrip("-"): s for f in verb.flags for s in f.spellings}
        covers_all = any(not a.required and "NAME" in a.name for a in verb.arguments)
        if spelling == "--all" and covers_all:
            raise InvalidArgument(
                f"{command} has no flag --all.",
                hint=f"Without a name, {command} covers everything.",
            )
        raise InvalidArgument(
            f"{command} has no flag {spelling}.",
            near=[known[name] for name in near_names(spelling.lstrip("-"), known)],
            hint=f"Usage: {verb.usage}",
        )
    if not flag.value_name:
        if separator:
            raise InvalidArgument(
                f"{spelling} of {command} takes no value.", hint=f"Usage: {verb.usage}"
            )
        values[flag.key] = True
        return
    words = [inline_value] if separator else []
    while (remaining.value_follows() and (flag.repeated or not words)) and not (
        separator and not flag.repeated
    ):
        words.append(next(remaining))
    if flag.repeated and flag.value_name in _COLUMN_VALUES:  # `--key a,b` as in SQL
        words = [part for word in words for part in word.split(",") if part or word == ""]
    if not words or "" in words:
        raise InvalidArgument(
            f"{spelling} of {command} needs a value: {'|'.join(flag.choices) or flag.value_name}.",
            hint=f"Usage: {verb.usage}",
        )
    converted = [_convert_word(flag, spelling, command, g) for g in words]
    values[flag.key] = values[flag.key] + converted if flag.repeated else converted[-1]


def _convert_argument(verb: Verb, argument: Argument, word: str) -> Any:
    try:
        return argument.convert(word)
    except ValueError as expected:
        raise InvalidArgument(
            f"{argument.name} of {' '.join(verb._command())} takes {expected}, not {word!r}."
        ) from None


def _convert_word(flag: Flag, spelling: str, command: str, word: str) -> Any:
    if flag.choices and word not in flag.choices:
        raise InvalidArgument(
            f"{spelling} of {command} takes {' or '.join(flag.choices)}, not {word!r}.",
            near=near_names(word, flag.choices),
        )
    try:
        return flag.convert(word)
    except ValueError as expected:
        raise InvalidArgument(f"{spelling} of {command} takes {expected}, not {word!r}.") from None
