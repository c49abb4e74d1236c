"""What Tab offers in `%jammi` lines and `%%jammi` cells: verbs, flags, names, and in SQL the relations, columns, functions and variables that fit."""

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from jammi_kernel_ext.arguments import CELL, STEP, VERBS, Argument, Flag, Verb
from jammi_kernel_ext.notebook import Notebook
from jammi_kernel_ext.places import ANCHORS, PLOTS, files, helped, kinds, unclosed
from jammi_kernel_ext.relations import Columns, bare, ctes, listed, meant, named, parts
from jammi_lab.config import CHOICES, DEFAULTS
from jammi_lab.errors import JammiError
from jammi_lab.names import fold, written

if TYPE_CHECKING:
    from jammi_lab.workspace import Workspace

MOST = 300
"""Candidates that are offered; typing one letter more finds the others."""
_OURS = re.compile(r"\s*(?:[\w.]+\s*=\s*)?(?P<magic>%%?jammi(?:_py)?)\b")
_FRAGMENT = re.compile(r'(?:\$?\w*|(?:(?:"(?:[^"]|"")*"|\w+)\s*\.\s*)*(?:"(?:[^"]|"")*|\w*))$')
_AFTER_FROM = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE|DESCRIBE|TABLE)\s+(?:[^;()]*,\s*)?$", re.IGNORECASE)
_KEYWORDS = """SELECT FROM WHERE GROUP BY ORDER BY HAVING LIMIT OFFSET JOIN LEFT JOIN INNER JOIN FULL JOIN CROSS JOIN ASOF JOIN ON USING AS WITH
    RECURSIVE UNION ALL INTERSECT EXCEPT DISTINCT CASE WHEN THEN ELSE END AND OR NOT IN IS NULL LIKE ILIKE BETWEEN EXISTS QUALIFY OVER PARTITION BY
    ASC DESC NULLS LAST PIVOT UNPIVOT VALUES INSERT INTO UPDATE SET DELETE FROM RETURNING CAST TRUE FALSE INTERVAL FILTER""".split()
_OF_TABLES = frozenset({"NAME", "TABLE", "SOURCE", "RECIPE", "INPUT"})
_OF_RECIPES = frozenset({"why", "verify", "plan", "recompute", "expire"})
_BEFORE_A_PATH = re.compile(r"(?:\b(?:FROM|JOIN)|,|\bread_\w+\()\s*$", re.IGNORECASE)

Candidate = tuple[str, str]
"""What is put in, and what it is."""


class Completion:
    """The matcher for IPython's completer. Whatever goes wrong inside offers nothing: a key pressed never shows an error."""

    def __init__(self, notebook: Notebook) -> None:
        self._notebook = notebook
        self._columns = Columns()

    def offered(self, text: str, line: int, column: int) -> tuple[list[Candidate], str] | None:
        """Candidates, and the fragment that each replaces; None where the text is none of ours."""
        lines = text.split("\n")
        head = "\n".join([*lines[:line], lines[line][:column]]) if line < len(lines) else text
        if (ours := _OURS.match(text)) is None or ours.end() > len(head):
            return None
        magic, rest = ours["magic"], head[ours.end() :]
        if "\n" not in rest:
            return self._in_line(magic, rest, text.partition("\n")[2])
        if magic == "%%jammi":
            return self._in_sql(rest.partition("\n")[2], text.partition("\n")[2])
        return self._in_step(*rest.split("\n", 1))

    # -- the first line ------------------------------------------------------------------------------------------------------------

    def _in_line(self, magic: str, rest: str, body: str) -> tuple[list[Candidate], str]:
        words = rest.split()
        fragment = "" if not rest or rest[-1].isspace() else words.pop()
        if magic == "%jammi" and (not words):
            return _starting(((v.name, "keyword") for v in VERBS if v.name), fragment), fragment
        verb = CELL if magic == "%%jammi" else STEP if magic == "%%jammi_py" else next((v for v in VERBS if v.name == words[0]), None)
        if verb is None:
            return [], fragment
        before = words if magic != "%jammi" else words[1:]
        if fragment.startswith("-") and not any(a.dashes for a in verb.arguments):
            return _starting(((s, "param") for f in verb.flags for s in f.spelled), fragment), fragment
        found = [(text, kind) for text, kind in self._values(verb, before, fragment, body) if text not in before]
        if not fragment and not found:
            found = [(f.spelled[-1], "param") for f in verb.flags if not set(f.spelled) & set(before)]
        return _starting(found, fragment), fragment

    def _values(self, verb: Verb, before: list[str], fragment: str, body: str) -> list[Candidate]:
        """What may stand where a word is begun: a flag's value, or the word of that place."""
        if verb.name == "config" and len(before) == 1:
            return [(word, "value") for word in CHOICES.get(before[0], ())]
        placed = [w for i, w in enumerate(before) if not w.startswith("-") and _open_flag(verb, before[:i]) is None]
        flag = _open_flag(verb, before)
        if flag is not None:
            return [(c, "value") for c in flag.choices] or self._of_flag(verb, flag, before, placed, body)
        if len(placed) >= len(verb.arguments) and not (verb.arguments and verb.arguments[-1].many):
            return []
        argument: Argument = verb.arguments[min(len(placed), len(verb.arguments) - 1)]
        match verb.name, argument.name:
            case "help", _:
                return [(word, "keyword") for word in helped()]
            case "config", "KEY":
                return [(key, "property") for key in DEFAULTS]
            case ("add", "LOCATION") | ("open", "PATH"):
                return files(fragment, folders=verb.name == "open")
            case ("add" | "embed" | "graph", "NAME") | ("tenant", _):
                return []
        return [(word, "keyword") for word in argument.name.split("|")] if "|" in argument.name else self._of(argument.name, verb)

    def _of_flag(self, verb: Verb, flag: Flag, before: list[str], placed: list[str], body: str) -> list[Candidate]:
        """What may be a flag's value: kinds of charts and sources, columns of what is read, models, tables."""
        match flag.key:
            case "plot" if before[-1] in flag.spelled:
                return [(kind, "value") for kind in PLOTS]
            case "key" | "text" | "plot":
                return self._columns_read(verb, placed, before, body)
            case "kind":
                return [(kind, "value") for kind in kinds()]
            case "anchor":
                return [(way, "value") for way in ANCHORS]
            case "model" if self._notebook.current is not None:
                return [(m, "class") for m in ("minilm", "hashing", *(m.name for m in self._notebook.current.models.list()))]
        return self._of(flag.takes, verb)

    def _columns_read(self, verb: Verb, placed: list[str], before: list[str], body: str) -> list[Candidate]:
        ws = self._notebook.current
        if ws is None:
            return []
        read: list[str | None] = [relation for _, relation in named(body)] if verb is CELL else []
        if verb is STEP:
            read = [meant(ws, word) for word in _after(before, "--inputs")]
        if verb.name == "embed":
            read = [meant(ws, word) for word in placed[1:2]]
        return [(c, "property") for relation in read if relation is not None for c, _ in self._columns.of(ws, relation)]

    def _of(self, kind: str, verb: Verb) -> list[Candidate]:
        ws = self._notebook.current
        if ws is None:
            return []
        names = listed(ws)
        sources, recipes = [(n, "module") for n in names[""]], [(n, "class") for n in names["jammi"]]
        if verb.name == "remove":
            return sources
        if kind in _OF_TABLES:
            return recipes if kind == "RECIPE" or verb.name in _OF_RECIPES else recipes + sources
        return [(n, "class") for n in names["topics"]] if kind == "TOPIC" else []

    # -- a step ----------------------------------------------------------------------------------------------------------------------

    def _in_step(self, line: str, body: str) -> tuple[list[Candidate], str] | None:
        """What an input, which is a Result there, can do; all else is Python's own."""
        found = re.search(r"(?<![\w.])(\w+)\.(\w*)$", body)
        inputs = {word.partition("=")[0].rpartition(".")[2] for word in _after(line.split(), "--inputs")}
        if found is None or found[1] not in inputs:
            return None
        from jammi_lab.result import Result

        return _starting(((f"{found[1]}.{name}", "function") for name in dir(Result) if not name.startswith("_")), found[0]), found[0]

    # -- SQL -----------------------------------------------------------------------------------------------------------------------

    def _in_sql(self, head: str, whole: str) -> tuple[list[Candidate], str]:
        if (text := unclosed(head)) is not None:
            opened, written_so_far = text
            is_path = opened == "'" and _BEFORE_A_PATH.search(head[: len(head) - len(written_so_far) - 1])
            return (_starting(files(written_so_far, quoted=True), written_so_far) if is_path else []), written_so_far if is_path else ""
        found = _FRAGMENT.search(head)
        fragment = found[0] if found else ""
        if fragment.startswith("$"):
            return _starting(((f"${n}", "variable") for n, v in self._variables() if _bindable(v)), fragment), fragment
        ws = self._notebook.current
        before = head[: len(head) - len(fragment)]
        whole = before + whole[len(head) :]  # what is being typed is no relation and no alias yet
        if ws is not None and "." in fragment:
            return _starting(self._after_dot(ws, fragment, before, whole), fragment), fragment
        if _AFTER_FROM.search(before):
            return _starting([*((written(n), "variable") for n in ctes(whole)), *self._relations(ws)], fragment), fragment
        if ws is None:
            return _starting(self._words(), fragment), fragment
        columns = [(written(c), "property") for _, relation in named(whole) for c, _ in self._columns.of(ws, relation)]
        aliases = [(written(alias), "variable") for alias, _ in named(whole)]
        return _starting([*columns, *aliases, *self._words()], fragment), fragment

    def _variables(self) -> Iterator[tuple[str, Any]]:
        """The notebook's own variables, without IPython's."""
        hidden = getattr(self._notebook.shell, "user_ns_hidden", {})
        yield from ((n, v) for n, v in list(self._notebook.namespace.items()) if not n.startswith("_") and n not in hidden)

    def _relations(self, ws: "Workspace | None") -> Iterator[Candidate]:
        names = listed(ws) if ws is not None else {}
        yield from ((written(n), "module") for n in names.get("", ()))
        for family in ("jammi", "mutable", "topics", "jammi_catalog"):
            yield from ((written(family, n), "class") for n in names.get(family, ()))
        yield from ((n, "variable") for n, v in self._variables() if _is_frame(v))
        yield from (
            (f"{n}(", "function") for n in ("search", "neighbors", "jammi_version", "read_parquet", "read_csv", "read_json", "unnest", "range")
        )

    def _after_dot(self, ws: "Workspace", fragment: str, before: str, whole: str) -> Iterator[Candidate]:
        """`alias.` its columns; `jammi.` the tables of that family; `source.` the tables inside."""
        owner, _, _ = fragment.rpartition(".")
        first = parts(owner)[0] if parts(owner) else ""
        for alias, relation in named(whole):
            if fold(alias) == fold(bare(owner)):
                yield from ((f"{owner}.{written(c)}", "property") for c, _ in self._columns.of(ws, relation))
                return
        names = listed(ws)
        if fold(first) in names and fold(first):
            yield from ((f"{owner}.{written('x', n)[2:]}", "class") for n in names[fold(first)])
        elif any(fold(first) == fold(s) for s in names[""]) and _AFTER_FROM.search(before):
            yield from ((written(first, *t.split(".")), "class") for t in self._columns.inside(ws, first))

    def _words(self) -> Iterator[Candidate]:
        from jammi_lab.engine import functions

        yield from ((word, "keyword") for word in dict.fromkeys(_KEYWORDS))
        yield from ((f"{name}(", "function") for name in functions.named())

    def __call__(self, context: Any) -> dict[str, Any]:
        """What IPython asks, by its second protocol for matchers."""
        try:
            found = self.offered(context.full_text, context.cursor_line, context.cursor_position)
        except (JammiError, LookupError, ValueError):
            found = None
        if found is None:
            return {"completions": []}
        from IPython.core.completer import SimpleCompletion

        candidates, fragment = found
        candidates = candidates or [(fragment, "text")]  # where nothing of ours fits, Python's names do not fit either
        completions = [SimpleCompletion(text=text, type=kind) for text, kind in candidates[:MOST]]
        return {"completions": completions, "matched_fragment": fragment, "suppress": True, "ordered": True}


def _starting(candidates: Iterable[Candidate], fragment: str) -> list[Candidate]:
    """Those that begin with what is typed, whatever its capitals and quotation marks; each once; in capitals or not as it is typed."""
    wanted = _unquoted(fragment)
    low = fragment[:1].islower()
    found: dict[str, str] = {}
    for text, kind in candidates:
        if _unquoted(text).startswith(wanted):
            found.setdefault(text.lower() if kind == "keyword" and low else text, kind)
    return list(found.items())


def _unquoted(text: str) -> str:
    return fold(text.translate({34: None, 39: None}))


def _after(words: list[str], flag: str) -> list[str]:
    """The words that belong to a flag."""
    behind = words[words.index(flag) + 1 :] if flag in words else []
    return list(itertools.takewhile(lambda w: not w.startswith("-"), behind))


def _open_flag(verb: Verb, words: list[str]) -> Flag | None:
    """The flag whose value would come after these words."""
    for back, word in enumerate(reversed(words)):
        if word.startswith("-"):
            flag = next((f for f in verb.flags if word in f.spelled and f.takes), None)
            return flag if flag is not None and (back == 0 or flag.many) else None
    return None


def _bindable(value: Any) -> bool:
    from jammi_lab.errors import InvalidArgument
    from jammi_lab.values.descriptors import encode_param

    if callable(value):
        return False
    try:
        encode_param(value)
    except (InvalidArgument, TypeError, ValueError):
        return False
    return True


def _is_frame(value: Any) -> bool:
    return hasattr(value, "__arrow_c_stream__") or (type(value).__name__ == "DataFrame" and type(value).__module__.startswith(("pandas", "polars")))
