"""Tab completion in `%jammi` lines and `%%jammi` cells: verbs, flags and names; in SQL also
relations, columns, functions and variables."""

import glob
import itertools
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jammi_kernel_ext.cell_scope import (
    RelationColumnCache,
    likely_columns,
    relations_by_family,
)
from jammi_kernel_ext.notebook import NAME_IN_STRING, Notebook, is_workspace
from jammi_lab.commands.help import help_words
from jammi_lab.commands.table import CELL, LINE, STEP, Flag, Verb, commands, find_command
from jammi_lab.core.errors import JammiError
from jammi_lab.core.identifiers import find_name, fold, quoted_name
from jammi_lab.core.settings import CHOICES, DEFAULTS

if TYPE_CHECKING:
    from jammi_kernel_ext.sql_scope import Column, NameInStatement
    from jammi_lab.workspace.workspace import Workspace


CHART_KINDS = ("bar", "line", "point", "area", "box", "hist")
"""The kinds of charts."""
ANCHOR_KINDS = ("auto", "content", "none", "column:")
"""The anchor kinds of a source."""
MAX_CANDIDATES = 300
"""The number of candidates that are returned; typing another letter narrows the list."""
Candidate = tuple[str, str]
"""The inserted text and its kind."""
_MAX_FOLDER_ENTRIES = 2_000
"""The number of folder entries that are read."""
_CLOSED_TEXT = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*\n|/\*.*?\*/|\$\$.*?\$\$""", re.DOTALL
)
_OPEN_TEXT = re.compile(r"(?:'|--|/\*|\$\$)")


def _common_beside_columns(found: Sequence[Candidate]) -> list[Candidate]:
    """The candidates without the rare functions, if there is a column among them. JupyterLab sorts
    candidates that begin alike by name, and would put a column behind dozens of functions. A rare
    function is offered when another letter tells it from the columns."""
    if not any(kind == "property" for _, kind in found):
        return list(found)
    return [(t, kind) for t, kind in found if kind != "function" or t in _COMMON_FUNCTIONS]


def file_candidates(
    prefix: str, *, folders_only: bool = False, inside_quotes: bool = False
) -> Iterator[Candidate]:
    """Files and folders whose path begins with a prefix. `folders_only`: no files. `inside_quotes`:
    the cursor is inside quotation marks, so paths are not shell-quoted."""
    prefix = prefix.strip("'\"")
    if "://" in prefix:
        return
    expanded = os.path.expanduser(prefix)
    paths = glob.iglob(f"{glob.escape(expanded)}*")
    for path in sorted(itertools.islice(paths, _MAX_FOLDER_ENTRIES)):
        is_folder = os.path.isdir(path)
        text = prefix + path[len(expanded) :] + "/" * is_folder
        if "'" not in text and text[0] != "-" and (is_folder or not folders_only):
            yield text if inside_quotes else shlex.quote(text), "path"


_MAGIC = re.compile(r"\s*(?:[\w.]+\s*=\s*)?(?P<magic>%%?jammi(?:_py)?|%%sql)\b")
_FRAGMENT = re.compile(r'(?:\$?\w*|(?:(?:"(?:[^"]|"")*"|\w+)\s*\.\s*)*(?:"(?:[^"]|"")*|\w*))$')
_MAX_FRAGMENT = 1_000
"""Characters before the cursor that may be of one name; of more the search takes the square."""
_KEYWORDS = """
    WHERE FROM AND JOIN GROUP ORDER ON AS LIMIT OR BY IN IS LIKE SELECT HAVING OFFSET LEFT JOIN
    INNER JOIN FULL JOIN CROSS JOIN ASOF JOIN USING WITH RECURSIVE UNION ALL INTERSECT EXCEPT
    DISTINCT CASE WHEN THEN ELSE END NOT NULL ILIKE BETWEEN EXISTS QUALIFY OVER PARTITION ASC DESC
    NULLS LAST PIVOT UNPIVOT VALUES INSERT INTO UPDATE SET DELETE RETURNING CAST TRUE FALSE
    INTERVAL FILTER
""".split()
"""Those that often follow an operand first."""
_COMMON_FUNCTIONS = frozenset(
    "abs( avg( cast( coalesce( concat( count( date_trunc( first( lag( last( length( list( lower( "
    "max( mean( median( min( nullif( rank( replace( round( row_number( strftime( sum( trim( upper( "
    "year(".split()
)
"""The functions that are offered beside columns with the same beginning."""
_TABLE_FUNCTIONS = (
    "search neighbors jammi_version read_parquet read_csv read_json unnest range".split()
)
_RECIPE_VERBS = frozenset({"why", "verify", "plan", "recompute", "expire"})
_NAMING_VERBS = frozenset({"add", "embed", "lexical", "graph", "tenant"})
"""Verbs whose NAME is a new one."""
_BEFORE_A_PATH = re.compile(r"(?:\b(?:FROM|JOIN)|,|\bread_\w+\()\s*$", re.IGNORECASE)


_NAMED_BY: Mapping[str, tuple[str, ...]] = {
    "sources": ("",),
    "mutable": ("mutable",),
    "topics": ("topics",),
    "checks": ("checks",),
    **dict.fromkeys(
        "table recipe verify staleness why plan recompute expire hold unhold drop rename vector "
        "neighbors evaluate".split(),
        ("jammi",),
    ),
    **dict.fromkeys("search lineage derives_from what_if".split(), ("jammi", "")),
}
"""The kinds of names that members of a workspace take, as in FROM."""


class Completion:
    """The matcher for IPython's completer. An error yields no candidates: a key press must never
    show one."""

    def __init__(self, notebook: Notebook) -> None:
        self._notebook = notebook
        self._columns = RelationColumnCache()

    def candidates_at(
        self, text: str, line: int, column: int
    ) -> tuple[list[Candidate], str] | None:
        """The candidates and the fragment that each replaces; None when the text is not a jammi
        cell or line."""
        lines = text.split("\n")
        head = "\n".join([*lines[:line], lines[line][:column]]) if line < len(lines) else text
        if (match := _MAGIC.match(text)) is None or match.end() > len(head):
            return self._complete_name(head)
        magic, rest = match["magic"].replace("sql", "jammi"), head[match.end() :]
        _, newline, body = rest.partition("\n")
        if not newline:
            return self._complete_line(magic, rest, text.partition("\n")[2])
        if magic == CELL.magic:
            return self._complete_sql(body, text[len(head) :])
        return None

    def _complete_name(self, head: str) -> tuple[list[Candidate], str] | None:
        """Complete a name inside a string of Python, as in `ws.table("` and `ws.sources["`."""
        match = NAME_IN_STRING.search(head)
        if match is None:
            return None
        ws, member = self._notebook.namespace.get(match["workspace"]), match["member"]
        if not is_workspace(ws) or member not in _NAMED_BY:
            return None
        known: dict[str, Iterable[str]] = {
            **relations_by_family(ws),
            "checks": (check.name for check in ws.checks),
        }
        names = (name for family in _NAMED_BY[member] for name in known[family])
        # a quotation mark would end the string, and what follows it would be code
        whole = [name for name in names if not {*name} & {*"'\"\\"}]
        return _filter_by_prefix(_of_kind("class", whole), match["name"]), match["name"]

    # -- the first line
    # ----------------------------------------------------------------------------------------------

    def _complete_line(self, magic: str, rest: str, body: str) -> tuple[list[Candidate], str]:
        words = rest.split()
        fragment = "" if not rest or rest[-1].isspace() else words.pop()
        if magic == LINE and not words:
            names = ((verb.name, "keyword") for verb in commands(LINE) if verb.name)
            return _filter_by_prefix(names, fragment), fragment
        verb: Verb | None
        if magic == LINE:
            verb, words = find_command(LINE, words[0]), words[1:]
        else:
            verb = CELL if magic == CELL.magic else STEP
        if verb is None:
            return [], fragment
        if fragment.startswith("-") and verb.name != "help":
            flags = ((s, "param") for f in verb.flags for s in f.spellings)
            return _filter_by_prefix(flags, fragment), fragment
        candidates = [
            (text, kind)
            for text, kind in self._word_candidates(verb, words, fragment, body)
            if text not in words
        ]
        if not fragment and not candidates:
            unused = (f for f in verb.flags if not set(f.spellings) & set(words))
            candidates = [(flag.spellings[-1], "param") for flag in unused]
        return _filter_by_prefix(candidates, fragment), fragment

    def _word_candidates(
        self, verb: Verb, words: list[str], fragment: str, body: str
    ) -> Iterable[Candidate]:
        """Candidates for a word that is being typed: a flag's value or a positional argument."""
        positional = []
        for i, word in enumerate(words):
            if not word.startswith("-") and _open_flag(verb, words[:i]) is None:
                positional.append(word)
        flag = _open_flag(verb, words)
        if flag is not None:
            return self._flag_value_candidates(verb, flag, words, positional, body)
        arguments = verb.arguments[len(positional) :] or verb.arguments[-1:]
        if not arguments or (len(positional) >= len(verb.arguments) and not arguments[0].repeated):
            return []
        name = arguments[0].name
        if "|" in name:
            return _of_kind("keyword", name.split("|"))
        match name:
            case "WORD":
                return _of_kind("keyword", help_words(LINE))
            case "KEY" if verb.name == "config":
                return _of_kind("property", DEFAULTS)
            case "VALUE":
                return _of_kind("value", CHOICES.get(positional[0], ()))
            case "LOCATION" | "PATH":
                return file_candidates(fragment, folders_only=verb.name == "open")
            case "NAME" if verb.name in _NAMING_VERBS:
                return []
        return self._name_candidates(name, verb)

    def _flag_value_candidates(
        self, verb: Verb, flag: Flag, words: list[str], positional: list[str], body: str
    ) -> Iterable[Candidate]:
        """Candidates for a flag's value: kinds of charts and sources, columns of the inputs,
        models, tables."""
        ws, values = self._notebook.current, list(flag.choices)
        match flag.key:
            case "plot" if words[-1] in flag.spellings:
                values = [*CHART_KINDS]
            case "kind":
                from jammi_lab.sources.registry import CONNECTORS

                values = [*CONNECTORS]
            case "option":
                from jammi_lab.sources.files.formats import OPTIONS

                kinds = _flag_words(words, "--kind") or [*OPTIONS]
                return [(f"{key}=", "param") for each in kinds for key in OPTIONS.get(each, ())]
            case "anchor":
                values = [*ANCHOR_KINDS]
            case "model" if ws is not None:
                values = ["minilm", "hashing", *(model.name for model in ws.models.list())]
            case "key" | "text" | "plot" if ws is not None:
                return self._column_candidates(ws, verb, positional, words, body)
        if values:
            return _of_kind("value", values)
        return self._name_candidates(flag.value_name, verb)

    def _column_candidates(
        self, ws: "Workspace", verb: Verb, positional: list[str], words: list[str], body: str
    ) -> Iterator[Candidate]:
        """The columns of what the command reads."""
        load = self._loader(ws)
        columns: Iterable[list[Column]]
        if verb is CELL:
            from jammi_kernel_ext.sql_scope import NameInStatement

            columns = NameInStatement(body, -1).columns(load).values()
        else:
            columns = map(load, _flag_words(words, "--inputs") or positional[1:2])
        return ((name, "property") for each in columns for name, _ in each)

    def _loader(self, ws: "Workspace") -> "Callable[[str], list[Column]]":
        return lambda relation: self._columns.relation_columns(ws, relation)

    def _name_candidates(self, kind: str, verb: Verb) -> list[Candidate]:
        ws = self._notebook.current
        if ws is None:
            return []
        names = relations_by_family(ws)
        sources = _of_kind("module", names[""])
        recipes = _of_kind("class", names["jammi"])
        if kind == "TOPIC":
            return _of_kind("class", names["topics"])
        if kind == "RECIPE" or verb.name in _RECIPE_VERBS:
            return recipes
        if verb.name == "remove":
            return sources
        return recipes + sources if kind in ("NAME", "TABLE", "SOURCE", "INPUT") else []

    # -- SQL
    # ----------------------------------------------------------------------------------------------

    def _complete_sql(self, head: str, tail: str) -> tuple[list[Candidate], str]:
        outside = _CLOSED_TEXT.sub("", head)
        if (opening := _OPEN_TEXT.search(outside)) is not None:
            written = outside[opening.end() :]
            if opening[0] != "'" or not _BEFORE_A_PATH.search(outside[: opening.start()]):
                return [], ""
            return _filter_by_prefix(file_candidates(written, inside_quotes=True), written), written
        match = _FRAGMENT.search(head[-_MAX_FRAGMENT:])
        fragment = match[0] if match else ""
        candidates = [*self._sql_candidates(head, fragment, tail)]
        found = _filter_by_prefix(candidates, fragment)
        if fragment:
            found = _common_beside_columns(found)
        return found or _by_last_part(candidates, fragment), fragment

    def _sql_candidates(self, head: str, fragment: str, tail: str) -> Iterator[Candidate]:
        from sqlglot import exp

        from jammi_kernel_ext.sql_scope import UNWRITTEN, NameInStatement

        ws = self._notebook.current
        if fragment.startswith("$"):
            yield from ((f"${n}", "variable") for n, v in self._variables() if _bindable(v))
            return
        owner, dot, _ = fragment.rpartition(".")
        before = head[: len(head) - len(fragment)] + owner + dot
        place = NameInStatement(f"{before}{UNWRITTEN} {tail}", len(before))
        in_from = isinstance(place.parent, exp.Table)
        if dot and ws is not None:
            yield from self._dotted_candidates(ws, owner, place, in_from=in_from)
        elif in_from:
            yield from _of_kind("variable", map(quoted_name, place.ctes))
            yield from self._relation_candidates(ws)
        elif ws is None:
            yield from self._keyword_candidates()
        else:
            if place.follows_operand:
                yield from _of_kind("keyword", _KEYWORDS)
            yield from self._columns_in_scope(ws, place)
            yield from self._relation_candidates(ws)
            yield from self._keyword_candidates()

    def _columns_in_scope(self, ws: "Workspace", place: "NameInStatement") -> Iterator[Candidate]:
        """Columns of what the SELECT reads, names that it gives with AS, and relation aliases;
        before FROM is written, columns of what it could read."""
        columns = place.columns(self._loader(ws))
        known = [column for each in columns.values() for column in each]
        first = place.likely_first(columns)
        given = [(quoted_name(name), "property") for name, is_alias in place.outputs() if is_alias]
        if first:
            yield from given
        names = known if columns else likely_columns(ws, self._columns)
        yield from _of_kind("property", map(quoted_name, _in_order(names, first)))
        yield from given
        yield from _of_kind("variable", map(quoted_name, columns))

    def _variables(self) -> Iterator[tuple[str, Any]]:
        """The notebook's variables without IPython's own."""
        hidden = getattr(self._notebook.shell, "user_ns_hidden", {})
        yield from (
            (n, v)
            for n, v in list(self._notebook.namespace.items())
            if not n.startswith("_") and n not in hidden
        )

    def _relation_candidates(self, ws: "Workspace | None") -> Iterator[Candidate]:
        from jammi_lab.sources.frames import is_frame

        names = relations_by_family(ws) if ws is not None else {}
        yield from _of_kind("module", map(quoted_name, names.get("", ())))
        for family in ("jammi", "mutable", "topics", "jammi_catalog"):
            yield from ((quoted_name(family, n), "class") for n in names.get(family, ()))
        yield from ((n, "variable") for n, v in self._variables() if is_frame(v))
        yield from ((f"{name}(", "function") for name in _TABLE_FUNCTIONS)

    def _dotted_candidates(
        self, ws: "Workspace", owner: str, place: "NameInStatement", *, in_from: bool
    ) -> Iterator[Candidate]:
        """Complete after a dot: an alias gives its columns, a schema its relations, a source its
        tables."""
        name = fold(owner.replace('"', ""))
        columns = {} if in_from else place.columns(self._loader(ws))
        known = next((each for alias, each in columns.items() if fold(alias) == name), None)
        families = relations_by_family(ws)
        source = find_name(name, families[""])
        if known is not None:
            first = place.likely_first(columns)
            names = _in_order(known, first)
        elif name and name in families:
            names = families[name]
        elif in_from and source is not None:
            for table in self._columns.source_tables(ws, source):
                yield quoted_name(source, *table.split(".")), "class"
            return
        else:
            return
        kind = "class" if known is None else "property"
        yield from ((f"{owner}.{quoted_name('x', each)[2:]}", kind) for each in names)

    def _keyword_candidates(self) -> Iterator[Candidate]:
        from jammi_lab.engine.sql import function_list

        yield from _of_kind("keyword", dict.fromkeys(_KEYWORDS))
        yield from ((f"{name}(", "function") for name in function_list.function_names())

    def __call__(self, context: Any) -> dict[str, Any]:
        """Implements version 2 of IPython's matcher protocol."""
        try:
            result = self.candidates_at(
                context.full_text, context.cursor_line, context.cursor_position
            )
        except (JammiError, LookupError, ValueError):
            result = None
        if result is None:
            return {"completions": []}
        from IPython.core.completer import SimpleCompletion

        candidates, fragment = result
        candidates = candidates or [
            (fragment, "text")
        ]  # the fragment itself keeps IPython from offering Python names
        completions = [
            SimpleCompletion(text=text, type=kind) for text, kind in candidates[:MAX_CANDIDATES]
        ]
        return {
            "completions": completions,
            "matched_fragment": fragment,
            "suppress": True,
            "ordered": True,
        }


def _of_kind(kind: str, names: Iterable[str]) -> list[Candidate]:
    return [(name, kind) for name in names]


def _in_order(columns: "list[Column]", first: list[str]) -> list[str]:
    """The names of columns, those that are probably meant first."""
    names = [name for name, _ in columns]
    return sorted(names, key=lambda n: first.index(fold(n)) if fold(n) in first else len(first))


def _by_last_part(candidates: Iterable[Candidate], fragment: str) -> list[Candidate]:
    """The result tables whose name without its schema begins with the fragment."""
    tables = [each for each in candidates if each[0].startswith("jammi.")]
    return [
        each for each in tables if _unquoted(each[0]).startswith(f"jammi.{_unquoted(fragment)}")
    ]


def _filter_by_prefix(candidates: Iterable[Candidate], fragment: str) -> list[Candidate]:
    """The candidates that begin with the fragment, ignoring case and quotes, without duplicates.
    Keywords follow the case of the fragment."""
    prefix = _unquoted(fragment)
    lowercase = fragment[:1].islower()
    matches: dict[str, str] = {}
    for text, kind in candidates:
        # what follows a line break would be code of its own
        if text.isprintable() and _unquoted(text).startswith(prefix):
            matches.setdefault(text.lower() if kind == "keyword" and lowercase else text, kind)
    return list(matches.items())


def _unquoted(text: str) -> str:
    return fold(text.translate({34: None, 39: None}))


def _flag_words(words: list[str], flag: str) -> list[str]:
    """The words between a flag and the next one."""
    following = words[words.index(flag) + 1 :] if flag in words else []
    return list(itertools.takewhile(lambda w: not w.startswith("-"), following))


def _open_flag(verb: Verb, words: list[str]) -> Flag | None:
    """The flag whose value would follow these words; None if there is none."""
    for distance, word in enumerate(reversed(words)):
        if word.startswith("-"):
            flag = next((f for f in verb.flags if word in f.spellings and f.value_name), None)
            return flag if flag is not None and (distance == 0 or flag.repeated) else None
    return None


def _bindable(value: Any) -> bool:
    from jammi_lab.core.definitions import encode_param
    from jammi_lab.core.errors import InvalidArgument

    if callable(value):
        return False
    try:
        encode_param(value)
    except (InvalidArgument, TypeError, ValueError):
        return False
    return True
