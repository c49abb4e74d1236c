"""What cells and lines advise: hints of errors in cell syntax instead of Python calls, hints for
the placeholders of other tools, and errors for misplaced input."""

import ast
import contextlib
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jammi_lab.core.errors import InvalidArgument, JammiError, SqlError, TableNotFound
from jammi_lab.core.identifiers import fold, near_names

if TYPE_CHECKING:
    from jammi_lab.workspace.workspace import Workspace

# -- Python calls as lines of %jammi

_QUOTED = r"(?:'([^']*)'|\"([^\"]*)\")"
_CALL = r"\((?:[^()'\"]|'[^']*'|\"[^\"]*\")*\)"


def _format_line(line: str) -> Callable[[re.Match[str]], str]:
    """A replacement function that inserts the shell-quoted group of the match into a line."""
    return lambda found: line.format(
        shlex.quote(next((g for g in found.groups() if g is not None), ""))
    )


def _add_command(match: re.Match[str]) -> str:
    """Translate a call of `ws.sources.add` into a `%jammi add` line; unchanged where no line can
    express it."""
    try:
        call = ast.parse(match[0], mode="eval").body
        assert isinstance(call, ast.Call), "the pattern is of one"
        words = [*_positional_words(call.args)]
        for keyword in call.keywords:
            words += _flag_words(keyword.arg or "", ast.literal_eval(keyword.value))
    except (SyntaxError, ValueError):
        return match[0]
    return " ".join(["%jammi add", *words])


def _positional_words(arguments: list[ast.expr]) -> Iterator[str]:
    """Yield NAME and LOCATION; placeholders of the call stay placeholders."""
    for argument, placeholder in zip(arguments, ("NAME", "LOCATION"), strict=False):
        word = argument.id if isinstance(argument, ast.Name) else str(ast.literal_eval(argument))
        if isinstance(argument, ast.Name) and word not in ("name", "location", "path"):
            raise ValueError("a frame is added in Python")
        yield placeholder if word in ("name", "location", "path") else shlex.quote(word)


def _flag_words(name: str, value: object) -> list[str]:
    if name == "options" and isinstance(value, dict):
        return ["--option", *(_option_word(k, v) for k, v in value.items())]
    flag = f"--{name.replace('_', '-')}"
    return [flag] if value is True else [flag, shlex.quote(str(value))]


def _option_word(name: str, value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return shlex.quote(f"{name}={text}")


def _nested_option_flags(match: re.Match[str]) -> str:
    """Translate options that contain a dict, such as the types of columns."""
    try:
        return " ".join(_flag_words("options", ast.literal_eval(match[1])))
    except (SyntaxError, ValueError):
        return match[0]


def _option_flags(match: re.Match[str]) -> str:
    pairs = re.findall(r"['\"](\w+)['\"]: ?(?:['\"](.*?)['\"]|(\w+)|)", match[1])
    return " ".join(
        [
            "--option",
            *(
                f"{key}={shlex.quote(text) if text else word or '…'}"
                for key, text, word in pairs or [("KEY", "", "VALUE")]
            ),
        ]
    )


_REPLACEMENTS: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"ws\.close\(\), %jammi close", "%jammi close"),
    (r"ws\.materialize\((?:'name', 'SELECT …'|name, sql)\)", "%%jammi -m NAME"),
    (r"; ws\.sources\.add\(name, frame\) adds a frame", ""),  # a cell reads it by its name
    (rf"ws\.sources\.add{_CALL}", _add_command),
    (r"ws\.sources\.remove\((?:'name'|name)\)", "%jammi remove NAME"),
    (r"ws\.sources, ws\.mutable and ws\.recipes\(\)", "%jammi catalog and %jammi models"),
    (r"ws\.sources\[name\]", "%jammi schema NAME"),
    (r"ws\.sources\.list\(\)|ws\.sources\b(?=\s)", "%jammi sources"),
    (r"ws\.mutable\.list\(\)", "%jammi"),
    (rf"ws\.recompute\({_QUOTED}\)", _format_line("%jammi recompute {}")),
    (rf"ws\.verify\({_QUOTED}\)", _format_line("%jammi verify {}")),
    (rf"ws\.drop\({_QUOTED}\)", _format_line("%jammi drop {}")),
    (rf"ws\.table\({_QUOTED}\)\.export\('path'\)", _format_line("%jammi export {} PATH")),
    (rf"ws\.table\({_QUOTED}\)(?!\.)", _format_line("jammi.{}")),
    (r"ws\.status\(deep=True\)", "%jammi status --deep"),
    (r"with ws\.tenant\(\"name\"\): … or ws\.bind_tenant\(\"name\"\)", "%jammi tenant NAME"),
    (r"ws\.bind_tenant\(None\)", "%jammi tenant --none"),
    (r"ws\.ephemeral\(\)", "%jammi ephemeral open"),
    (r"ws\.fsck\(\)", "%jammi fsck"),
    (r"ws\.tables\(\)", "%jammi tables"),
    (r"ws\.settings shows", "%jammi config shows"),
    (r"ws\.settings\.set\(key, value\)", "%jammi config KEY VALUE"),
    (r"ws\.recipes\(\)", "%jammi status"),
    (r"ws\.models\b(?![.(])", "%jammi models"),
    (r"ws\.embed\b(?!\()", "%jammi embed"),
    (
        rf"ws\.embed\(name, {_QUOTED}, key=…, text=…\)",
        _format_line("%jammi embed NAME {} --key K --text C"),
    ),
    (r"ws\.lexical\b(?!\()", "%jammi lexical"),
    (r"ws\.search\(…, where=…\)", "%jammi search TABLE TEXT --where SQL"),
    (
        r"Write \$name, and pass name=value\.",
        "Write $name; its value is the notebook variable of that name.",
    ),
    (
        r"Close it, and open it with settings=\{\"([\w.]+)\": …\} or a line in jammi\.toml",
        (
            r"%jammi close, then %jammi config \1 VALUE, or a line in jammi.toml; it takes effect "
            r"at the next open"
        ),
    ),
    (r", or jl\.open\(…, settings=\{…\}\)", ""),
    (r"jl\.open\(path\)", "%jammi open PATH"),
    (r"jl\.open\((?:'(.*?)'|…), catalog=\"(.*?)\"\)", r"%jammi open --catalog \2"),
    (r"replace=True \(in a cell --replace\)", "--replace"),
    (r"\bread_only=True", "--read-only"),
    (r"\bpass force=True", "use --force"),
    (r"\boptions=(\{[^{}]*\{[^{}]*\}\})", _nested_option_flags),
    (r"\boptions=\{([^{}]*)\}", _option_flags),
    (r"(--option \S+) or \{\"(\w+)\": …\}", r"\1 or --option \2=…"),
    (r"\bkind=\"…\"", "--kind"),
    (r"\bon_error=\"(\w+)\"", r"--on-error \1"),
    (r"\banchor=\"column:…\"", "--anchor column:…"),
    (r"\binputs=\['([^']*)'\]", r"--inputs \1"),
    (
        r"Define it and call (ws\.compute\(.*?\)) again",
        r"Run its %%jammi_py cell, or call \1, again",
    ),
    (r"(?<![(,]\s)(?<!\()\b(key|secret|where|select|catalog|inputs)=(?=[\s'.,;])", r"--\1 "),
    (r"(--\w+) (?=[\s.,;])", r"\1"),
    (r"\bws\.(?=\w)", "jammi_lab.get_workspace()."),
)
"""Python pattern and cell syntax, longer patterns first. A call without an equivalent line is shown
on the notebook's own workspace."""


def to_cell_syntax(hint: str) -> str:
    """Translate a hint into cell syntax."""
    for python, line in _REPLACEMENTS:
        hint = re.sub(python, line, hint)
    return hint


@contextlib.contextmanager
def cell_syntax_hints() -> Iterator[None]:
    """Translate the hints of errors that leave this block into cell syntax."""
    try:
        yield
    except JammiError as error:
        error.hint = to_cell_syntax(error.hint)
        raise


# -- placeholders of other tools

_PLACEHOLDER = re.compile(
    r"\{\{?\s*(?P<braces>[^\W\d]\w*)\s*\}|(?<![:\w]):(?P<colon>[^\W\d]\w*)|%\((?P<percent>\w+)\)s"
)


@contextlib.contextmanager
def foreign_syntax_hints(namespace: Mapping[str, Any]) -> Iterator[None]:
    """Add a hint to errors of the statement run in this block. `namespace` holds the notebook's
    variables."""
    try:
        yield
    except JammiError as error:
        if not error.near and not error.hint.startswith("Write "):
            error.hint = _hint(error, namespace) or error.hint
        raise


def _hint(error: JammiError, namespace: Mapping[str, Any]) -> str:
    if (
        isinstance(error, TableNotFound)
        and (match := re.fullmatch(r"There is no table (\w+)\.", error.message)) is not None
    ):
        name = match[1]
        return (
            f"The variable {name} is not a frame; its type is {type(namespace[name]).__name__}."
            if name in namespace
            else ""
        )
    if isinstance(error, TableNotFound) and (
        match := re.match(r"There is no source or table '(\w+)' to ", error.message)
    ):
        name = match[1]
        return f"ws.sources.add({name!r}, {name}) adds a frame." if name in namespace else ""
    is_syntax_error = isinstance(error, SqlError) and error.message.startswith(
        "Syntax error at or near"
    )
    if is_syntax_error and (placeholder := _PLACEHOLDER.search(error.statement or "")) is not None:
        return (
            "To use the value of a variable, write "
            f"${next(name for name in placeholder.groups() if name)}."
        )
    return ""


# -- misplaced input: SQL on the line of a magic, verbs of other tools, names in place of a verb

SQL_KEYWORDS = frozenset(
    "select with from values show describe explain insert update delete create drop alter "
    "pivot unpivot summarize attach".split()
)
"""Keywords that begin a SQL statement."""
# Operations that only Python has. The nearest verb would be misleading.
PYTHON_CALLS = {
    "define": "define(name, sql)",
    "pin": "table(name).pin()",
    "backup": "backup(path)",
}
_CELL_HINT = "To run SQL, start a cell with %%jammi."
_CELL_HINTS = {
    "sql": _CELL_HINT,
    "query": _CELL_HINT,
    "materialize": "%%jammi -m NAME stores the rows of the statement below it.",
    "compute": "%%jammi_py NAME stores the frame that the Python code below it returns.",
}
_SYNONYMS = {
    "refresh": "recompute",
    "update": "recompute",
    "show": "preview",
    "describe": "schema",
    "summarize": "view",
    "delete": "drop",
    "run": "recompute",
    "build": "recompute",
    "rm": "remove",
    "unregister": "remove",
    "register": "add",
    "ls": "tables",
    "list": "tables",
    "columns": "schema",
    "desc": "schema",
    "head": "preview",
    "purge": "drop",
    "versions": "history",
    "compare": "diff",
    "save": "export",
    "rollback": "restore",
    "use": "open",
    "connect": "open",
    "set": "config",
    "settings": "config",
    "explorer": "catalog",
    "dag": "lineage",
    "test": "check",
    "recipes": "status",
    "verdict": "why",
    "verdicts": "status",
}

_MAX_SYNONYM_WORDS = 2


def near_verbs(name: str, known: Sequence[str]) -> list[str]:
    """The verbs that a name may mean."""
    return [_SYNONYMS[fold(name)]] if fold(name) in _SYNONYMS else near_names(name, known)


def unknown_verb_error(words: Sequence[str], verbs: Sequence[str]) -> InvalidArgument:
    """The error for a line whose first word is not a verb."""
    name = words[0]
    message = f"Unknown command: %jammi {name}."
    if name in PYTHON_CALLS:
        return InvalidArgument(
            message, hint=f"In Python: jammi_lab.get_workspace().{PYTHON_CALLS[name]}"
        )
    # `update` alone and `show sales` are commands of other tools; a statement has more words
    is_synonym = fold(name) in _SYNONYMS and len(words) <= _MAX_SYNONYM_WORDS
    if not is_synonym and (fold(name) in SQL_KEYWORDS or name in _CELL_HINTS):
        return InvalidArgument(message, hint=_CELL_HINTS.get(name, _CELL_HINT))
    return InvalidArgument(
        message, near=near_verbs(name, verbs), hint="%jammi help lists all commands."
    )


def first_line_error(words: Sequence[str], verbs: Sequence[str]) -> InvalidArgument | None:
    """The error for a cell whose first line begins with SQL or with a verb of `%jammi`; None
    otherwise."""
    if words and words[0] in verbs:
        return InvalidArgument(
            f"{words[0]} is a line command, not a cell command.",
            hint=f"Write it with one %: %jammi {shlex.join(words)}",
        )
    if not words or fold(words[0]) not in SQL_KEYWORDS:
        return None
    return InvalidArgument(
        "The statement is on the first line of the cell.",
        hint="Write it below: the first line takes a NAME and flags.",
    )


def name_as_verb_error(
    line: str, ws: "Workspace | None", error: InvalidArgument
) -> InvalidArgument:
    """The error of a line that cannot be parsed. If its first word names a source or table, the
    hint says what to type."""
    word = line.split(maxsplit=1)[0] if line.strip() else ""
    if ws is None or not error.message.startswith("Unknown command: "):
        return error
    for kind, known in (("source", list(ws.sources)), ("table", [r.name for r in ws.recipes()])):
        if match := next((name for name in known if fold(name) == fold(word)), None):
            return InvalidArgument(
                error.message,
                hint=f"{match} is a {kind}: %jammi preview {shlex.quote(match)} shows its rows.",
            )
    return error
