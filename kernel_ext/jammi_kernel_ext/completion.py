"""Tab completion in `%jammi` lines and `%%jammi` cells: verbs, flags and names; in SQL also
relations, columns, functions and variables."""

import itertools
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from jammi_kernel_ext.cell_lines import CELL, STEP
from jammi_kernel_ext.cell_scope import (
    RelationColumnCache,
    aliased_relations,
    cte_names,
    likely_columns,
    name_parts,
    relation_sql,
    relations_by_family,
    unquote,
)
from jammi_kernel_ext.notebook import Notebook
from jammi_kernel_ext.select_scope import Column, SelectScope, scope_at, shared_names
from jammi_kernel_ext.verbs import VERBS
from jammi_lab.core.commands import Argument, Flag, Verb
from jammi_lab.core.errors import JammiError
from jammi_lab.core.identifiers import fold, quoted_name
from jammi_lab.core.settings import CHOICES, DEFAULTS

if TYPE_CHECKING:
    from jammi_lab.workspace.workspace import Workspace


CHART_KINDS = ("bar", "line", "point", "area", "box", "hist")
"""The kinds of charts."""
ANCHOR_KINDS = ("auto", "content", "none", "column:")
"""The anchor kinds of a source."""
_MAX_FOLDER_ENTRIES = 2_000
"""The number of folder entries that are read."""
_TOKENS = re.compile(
    r"(?P<end>')(?:[^']|'')*(?:'|$)|\"(?:[^\"]|\"\")*(?:\"|$)|--[^\n]*(?:\n|$)|/\*.*?(?:\*/|$)|\$\$.*?(?:\$\$|$)",
    re.DOTALL,
)
_CLOSINGS = {"'": "'", "--": "\n", "/*": "*/", "$$": "$$"}


def unclosed_token(head: str) -> tuple[str, str] | None:
    """The unclosed string literal or comment at the end of a statement: its opening and its text so
    far. None if there is none."""
    for token in _TOKENS.finditer(head):
        opening = next((o for o in _CLOSINGS if token[0].startswith(o)), None)
        if (
            opening is not None
            and token.end() == len(head)
            and (len(token[0]) == len(opening) or not token[0].endswith(_CLOSINGS[opening]))
        ):
            return opening, token[0][len(opening) :]
    return None


def file_candidates(
    prefix: str, *, folders_only: bool = False, inside_quotes: bool = False
) -> list[tuple[str, str]]:
    """Files and folders whose path begins with a prefix. `folders_only`: no files. `inside_quotes`:
    the cursor is inside quotation marks, so paths are not shell-quoted."""
    prefix = prefix.strip("'\"")
    if "://" in prefix:
        return []
    head = prefix[: prefix.rfind("/") + 1]
    try:
        with os.scandir(os.path.expanduser(head) or ".") as entries:
            listing = sorted(
                (entry.name, entry.is_dir())
                for entry, _ in zip(entries, range(_MAX_FOLDER_ENTRIES), strict=False)
            )
    except OSError:
        return []
    show_hidden = prefix[len(head) :].startswith(".")
    paths = [
        (f"{head}{name}{'/' if is_folder else ''}", is_folder)
        for name, is_folder in listing
        if show_hidden or not name.startswith(".")
    ]
    return [
        (path if inside_quotes else shlex.quote(path), "path")
        for path, is_folder in paths
        if (is_folder or not folders_only) and "'" not in path
    ]


def help_words() -> list[str]:
    """The words that `%jammi help` accepts."""
    return (
        [v.name for v in VERBS if v.name]
        + ["jammi", "jammi_py"]
        + [s for f in (*CELL.flags, *STEP.flags) for s in f.spellings]
    )


def source_kinds() -> Sequence[str]:
    """The kinds of sources."""
    from jammi_lab.sources.registry import _ALL_KINDS

    return _ALL_KINDS


MAX_CANDIDATES = 300
"""The number of candidates that are returned; typing another letter narrows the list."""
_MAGIC = re.compile(r"\s*(?:[\w.]+\s*=\s*)?(?P<magic>%%?jammi(?:_py)?)\b")
_FRAGMENT = re.compile(r'(?:\$?\w*|(?:(?:"(?:[^"]|"")*"|\w+)\s*\.\s*)*(?:"(?:[^"]|"")*|\w*))$')
_KEYWORDS = """
    SELECT FROM WHERE GROUP BY ORDER BY HAVING LIMIT OFFSET JOIN LEFT JOIN INNER JOIN FULL JOIN
    CROSS JOIN ASOF JOIN ON USING AS WITH RECURSIVE UNION ALL INTERSECT EXCEPT DISTINCT CASE WHEN
    THEN ELSE END AND OR NOT IN IS NULL LIKE ILIKE BETWEEN EXISTS QUALIFY OVER PARTITION BY ASC DESC
    NULLS LAST PIVOT UNPIVOT VALUES INSERT INTO UPDATE SET DELETE FROM RETURNING CAST TRUE FALSE
    INTERVAL FILTER
""".split()
_TABLE_ARGUMENTS = frozenset({"NAME", "TABLE", "SOURCE", "RECIPE", "INPUT"})
_RECIPE_VERBS = frozenset({"why", "verify", "plan", "recompute", "expire"})
_BEFORE_A_PATH = re.compile(r"(?:\b(?:FROM|JOIN)|,|\bread_\w+\()\s*$", re.IGNORECASE)

Candidate = tuple[str, str]
"""The inserted text and its kind."""


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
            return None
        magic, rest = match["magic"], head[match.end() :]
        if "\n" not in rest:
            return self._complete_line(magic, rest, text.partition("\n")[2])
        if magic == "%%jammi":
            return self._complete_sql(rest.partition("\n")[2], text.partition("\n")[2])
        return self._complete_step(*rest.split("\n", 1))

    # -- the first line
    # ----------------------------------------------------------------------------------------------

    def _complete_line(self, magic: str, rest: str, body: str) -> tuple[list[Candidate], str]:
        words = rest.split()
        fragment = "" if not rest or rest[-1].isspace() else words.pop()
        if magic == "%jammi" and (not words):
            return _filter_by_prefix(
                ((v.name, "keyword") for v in VERBS if v.name), fragment
            ), fragment
        verb = (
            CELL
            if magic == "%%jammi"
            else STEP
            if magic == "%%jammi_py"
            else next((v for v in VERBS if v.name == words[0]), None)
        )
        if verb is None:
            return [], fragment
        preceding = words if magic != "%jammi" else words[1:]
        if fragment.startswith("-") and not any(a.allows_dash for a in verb.arguments):
            return _filter_by_prefix(
                ((s, "param") for f in verb.flags for s in f.spellings), fragment
            ), fragment
        candidates = [
            (text, kind)
            for text, kind in self._word_candidates(verb, preceding, fragment, body)
            if text not in preceding
        ]
        if not fragment and not candidates:
            candidates = [
                (f.spellings[-1], "param")
                for f in verb.flags
                if not set(f.spellings) & set(preceding)
            ]
        return _filter_by_prefix(candidates, fragment), fragment

    def _word_candidates(
        self, verb: Verb, preceding: list[str], fragment: str, body: str
    ) -> list[Candidate]:
        """Candidates for a word that is being typed: a flag's value or a positional argument."""
        if verb.name == "config" and len(preceding) == 1:
            return [(word, "value") for word in CHOICES.get(preceding[0], ())]
        positional = [
            w
            for i, w in enumerate(preceding)
            if not w.startswith("-") and _open_flag(verb, preceding[:i]) is None
        ]
        flag = _open_flag(verb, preceding)
        if flag is not None:
            return [(c, "value") for c in flag.choices] or self._flag_value_candidates(
                verb, flag, preceding, positional, body
            )
        if len(positional) >= len(verb.arguments) and not (
            verb.arguments and verb.arguments[-1].repeated
        ):
            return []
        argument: Argument = verb.arguments[min(len(positional), len(verb.arguments) - 1)]
        match verb.name, argument.name:
            case "help", _:
                return [(word, "keyword") for word in help_words()]
            case "config", "KEY":
                return [(key, "property") for key in DEFAULTS]
            case ("add", "LOCATION") | ("open", "PATH"):
                return file_candidates(fragment, folders_only=verb.name == "open")
            case ("add" | "embed" | "lexical" | "graph", "NAME") | ("tenant", _):
                return []
        return (
            [(word, "keyword") for word in argument.name.split("|")]
            if "|" in argument.name
            else self._name_candidates(argument.name, verb)
        )

    def _flag_value_candidates(
        self, verb: Verb, flag: Flag, preceding: list[str], positional: list[str], body: str
    ) -> list[Candidate]:
        """Candidates for a flag's value: kinds of charts and sources, columns of the inputs,
        models, tables."""
        match flag.key:
            case "plot" if preceding[-1] in flag.spellings:
                return [(kind, "value") for kind in CHART_KINDS]
            case "key" | "text" | "plot":
                return self._column_candidates(verb, positional, preceding, body)
            case "kind":
                return [(kind, "value") for kind in source_kinds()]
            case "anchor":
                return [(anchor, "value") for anchor in ANCHOR_KINDS]
            case "model" if self._notebook.current is not None:
                return [
                    (m, "class")
                    for m in (
                        "minilm",
                        "hashing",
                        *(m.name for m in self._notebook.current.models.list()),
                    )
                ]
        return self._name_candidates(flag.value_name, verb)

    def _column_candidates(
        self, verb: Verb, positional: list[str], preceding: list[str], body: str
    ) -> list[Candidate]:
        ws = self._notebook.current
        if ws is None:
            return []
        relations: list[str | None] = (
            [relation for _, relation in aliased_relations(body)] if verb is CELL else []
        )
        if verb is STEP:
            relations = [relation_sql(ws, word) for word in _flag_words(preceding, "--inputs")]
        if verb.name in ("embed", "lexical"):
            relations = [relation_sql(ws, word) for word in positional[1:2]]
        return [
            (c, "property")
            for relation in relations
            if relation is not None
            for c, _ in self._columns.relation_columns(ws, relation)
        ]

    def _name_candidates(self, kind: str, verb: Verb) -> list[Candidate]:
        ws = self._notebook.current
        if ws is None:
            return []
        names = relations_by_family(ws)
        sources = [(n, "module") for n in names[""]]
        recipes = [(n, "class") for n in names["jammi"]]
        if verb.name == "remove":
            return sources
        if kind in _TABLE_ARGUMENTS:
            return recipes if kind == "RECIPE" or verb.name in _RECIPE_VERBS else recipes + sources
        return [(n, "class") for n in names["topics"]] if kind == "TOPIC" else []

    # -- a step
    # ----------------------------------------------------------------------------------------------

    def _complete_step(self, line: str, body: str) -> tuple[list[Candidate], str] | None:
        """Complete the methods of an input, which is a Result in the cell; Python completes
        everything else."""
        match = re.search(r"(?<![\w.])(\w+)\.(\w*)$", body)
        inputs = {
            word.partition("=")[0].rpartition(".")[2]
            for word in _flag_words(line.split(), "--inputs")
        }
        if match is None or match[1] not in inputs:
            return None
        from jammi_lab.workspace.result import Result

        return _filter_by_prefix(
            (
                (f"{match[1]}.{name}", "function")
                for name in dir(Result)
                if not name.startswith("_")
            ),
            match[0],
        ), match[0]

    # -- SQL
    # ----------------------------------------------------------------------------------------------

    def _complete_sql(self, head: str, statement: str) -> tuple[list[Candidate], str]:
        if (token := unclosed_token(head)) is not None:
            opening, written_so_far = token
            is_path = opening == "'" and _BEFORE_A_PATH.search(
                head[: len(head) - len(written_so_far) - 1]
            )
            return (
                _filter_by_prefix(
                    file_candidates(written_so_far, inside_quotes=True), written_so_far
                )
                if is_path
                else []
            ), written_so_far if is_path else ""
        match = _FRAGMENT.search(head)
        fragment = match[0] if match else ""
        if fragment.startswith("$"):
            return _filter_by_prefix(
                ((f"${n}", "variable") for n, v in self._variables() if _bindable(v)), fragment
            ), fragment
        ws = self._notebook.current
        preceding = head[: len(head) - len(fragment)]
        statement = (
            preceding + statement[len(head) :]
        )  # without the word being typed: it is not yet a relation or an alias
        scope = scope_at(statement, len(preceding))
        if ws is not None and "." in fragment:
            return _filter_by_prefix(
                self._dotted_candidates(ws, fragment, scope), fragment
            ), fragment
        if scope.expects_relation:
            relations = [
                *((quoted_name(n), "variable") for n in cte_names(statement)),
                *self._relation_candidates(ws),
            ]
            found = _filter_by_prefix(relations, fragment)
            return [*found, *_by_last_part(relations, fragment)], fragment
        if ws is None:
            return _filter_by_prefix(self._keyword_candidates(), fragment), fragment
        following = scope.following_keywords(_KEYWORDS)
        return _filter_by_prefix(
            [
                *((word, "keyword") for word in following),
                *self._columns_in_scope(ws, scope),
                *self._relation_candidates(ws),
                *self._keyword_candidates(),
            ],
            fragment,
        ), fragment

    def _columns_in_scope(self, ws: "Workspace", scope: SelectScope) -> Iterator[Candidate]:
        """Columns of what the SELECT reads, names that it gives with AS, and relation aliases;
        before FROM is written, columns of what it could read."""
        relations = scope.relations()
        lists = [self._columns_of(ws, scope, relation) for _, relation in relations]
        columns = [column for names in lists for column in names]
        given = [(quoted_name(name), "property") for name in scope.names_given()]
        if scope.clause in ("ORDER BY", "HAVING", "QUALIFY"):
            yield from given
        for column, _ in scope.ranked(
            columns if relations else likely_columns(ws, self._columns), shared_names(lists)
        ):
            yield quoted_name(column), "property"
        yield from given
        yield from ((quoted_name(alias), "variable") for alias, _ in relations)

    def _columns_of(self, ws: "Workspace", scope: SelectScope, relation: str) -> list[Column]:
        return scope.columns_of(relation, lambda name: self._columns.relation_columns(ws, name))

    def _variables(self) -> Iterator[tuple[str, Any]]:
        """The notebook's variables without IPython's own."""
        hidden = getattr(self._notebook.shell, "user_ns_hidden", {})
        yield from (
            (n, v)
            for n, v in list(self._notebook.namespace.items())
            if not n.startswith("_") and n not in hidden
        )

    def _relation_candidates(self, ws: "Workspace | None") -> Iterator[Candidate]:
        names = relations_by_family(ws) if ws is not None else {}
        yield from ((quoted_name(n), "module") for n in names.get("", ()))
        for family in ("jammi", "mutable", "topics", "jammi_catalog"):
            yield from ((quoted_name(family, n), "class") for n in names.get(family, ()))
        yield from ((n, "variable") for n, v in self._variables() if _is_frame(v))
        yield from (
            (f"{n}(", "function")
            for n in (
                "search",
                "neighbors",
                "jammi_version",
                "read_parquet",
                "read_csv",
                "read_json",
                "unnest",
                "range",
            )
        )

    def _dotted_candidates(
        self, ws: "Workspace", fragment: str, scope: SelectScope
    ) -> Iterator[Candidate]:
        """Complete after a dot: an alias gives its columns, a schema its relations, a source its
        tables."""
        owner, _, _ = fragment.rpartition(".")
        first = name_parts(owner)[0] if name_parts(owner) else ""
        relations = scope.relations()
        for alias, relation in relations:
            if fold(alias) == fold(unquote(owner)):
                lists = [self._columns_of(ws, scope, each) for _, each in relations]
                columns = self._columns_of(ws, scope, relation)
                yield from (
                    (f"{owner}.{quoted_name(c)}", "property")
                    for c, _ in scope.ranked(columns, shared_names(lists))
                )
                return
        names = relations_by_family(ws)
        if fold(first) in names and fold(first):
            yield from ((f"{owner}.{quoted_name('x', n)[2:]}", "class") for n in names[fold(first)])
        elif any(fold(first) == fold(s) for s in names[""]) and scope.expects_relation:
            yield from (
                (quoted_name(first, *t.split(".")), "class")
                for t in self._columns.source_tables(ws, first)
            )

    def _keyword_candidates(self) -> Iterator[Candidate]:
        from jammi_lab.engine.sql import function_list

        yield from ((word, "keyword") for word in dict.fromkeys(_KEYWORDS))
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


def _by_last_part(candidates: Iterable[Candidate], fragment: str) -> list[Candidate]:
    """The qualified result tables whose last part begins with the fragment."""
    prefix = _unquoted(fragment)
    return [
        (text, kind)
        for text, kind in candidates
        if prefix
        and kind == "class"
        and not text.startswith("jammi_catalog.")
        and _unquoted(text.partition(".")[2]).startswith(prefix)
    ]


def _filter_by_prefix(candidates: Iterable[Candidate], fragment: str) -> list[Candidate]:
    """The candidates that begin with the fragment, ignoring case and quotes, without duplicates.
    Keywords follow the case of the fragment."""
    prefix = _unquoted(fragment)
    lowercase = fragment[:1].islower()
    matches: dict[str, str] = {}
    for text, kind in candidates:
        if _unquoted(text).startswith(prefix):
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


def _is_frame(value: Any) -> bool:
    return hasattr(value, "__arrow_c_stream__") or (
        type(value).__name__ == "DataFrame"
        and type(value).__module__.startswith(("pandas", "polars"))
    )
