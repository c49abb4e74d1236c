"""What to do about an error, as it is typed in a cell: errors speak Python, and where there is a line for it, a cell says the line."""

import ast
import contextlib
import re
import shlex
from collections.abc import Callable, Iterator

from jammi_lab.errors import JammiError

_QUOTED = r"(?:'([^']*)'|\"([^\"]*)\")"
_CALL = r"\((?:[^()'\"]|'[^']*'|\"[^\"]*\")*\)"


def _said(line: str) -> Callable[[re.Match[str]], str]:
    """The line with the quoted word of what was found, as a shell would want it quoted."""
    return lambda found: line.format(shlex.quote(next((g for g in found.groups() if g is not None), "")))


def _added(found: re.Match[str]) -> str:
    """A call of `ws.sources.add` as a line; as it is where a line cannot say it."""
    try:
        call = ast.parse(found[0], mode="eval").body
        assert isinstance(call, ast.Call), "the pattern is of one"
        words = [*_places(call.args)]
        for given in call.keywords:
            words += _flag(given.arg or "", ast.literal_eval(given.value))
    except (SyntaxError, ValueError):
        return found[0]
    return " ".join(["%jammi add", *words])


def _places(arguments: list[ast.expr]) -> Iterator[str]:
    """NAME and LOCATION; as these words where the call has such words, too."""
    for argument, general in zip(arguments, ("NAME", "LOCATION"), strict=False):
        word = argument.id if isinstance(argument, ast.Name) else str(ast.literal_eval(argument))
        if isinstance(argument, ast.Name) and word not in ("name", "location", "path"):
            raise ValueError("a frame is added in Python")
        yield general if word in ("name", "location", "path") else shlex.quote(word)


def _flag(name: str, value: object) -> list[str]:
    if name == "options" and isinstance(value, dict):
        return ["--option", *(shlex.quote(f"{k}={v}") for k, v in value.items())]
    flag = f"--{name.replace('_', '-')}"
    return [flag] if value is True else [flag, shlex.quote(str(value))]


def _options(found: re.Match[str]) -> str:
    pairs = re.findall(r"['\"](\w+)['\"]: ?(?:['\"](.*?)['\"]|(\w+)|)", found[1])
    return " ".join(["--option", *(f"{key}={shlex.quote(text) if text else word or '…'}" for key, text, word in pairs or [("KEY", "", "VALUE")])])


_LINES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"ws\.close\(\), %jammi close", "%jammi close"),
    (rf"ws\.materialize\({_QUOTED}, 'SELECT …'\), or %%jammi -m NAME in a cell", "%%jammi -m NAME"),
    (r"ws\.materialize\((?:'name', 'SELECT …'|name, sql)\)", "%%jammi -m NAME"),
    (rf"ws\.sources\.add{_CALL}", _added),
    (r"ws\.sources\.remove\((?:'name'|name)\)", "%jammi remove NAME"),
    (r"ws\.sources, ws\.mutable and ws\.recipes\(\)", "%jammi catalog and %jammi models"),
    (r"ws\.sources\[name\]", "%jammi schema NAME"),
    (r"ws\.sources\.list\(\)|ws\.sources\b(?=\s)", "%jammi sources"),
    (r"ws\.mutable\.list\(\)", "%jammi"),
    (rf"ws\.recompute\({_QUOTED}\)", _said("%jammi recompute {}")),
    (rf"ws\.verify\({_QUOTED}\)", _said("%jammi verify {}")),
    (rf"ws\.table\({_QUOTED}\)(?!\.)", _said("jammi.{}")),
    (r"ws\.status\(deep=True\)", "%jammi status --deep"),
    (r"with ws\.tenant\(\"name\"\): … or ws\.bind_tenant\(\"name\"\)", "%jammi tenant NAME"),
    (r"ws\.bind_tenant\(None\)", "%jammi tenant --none"),
    (r"ws\.ephemeral\(\)", "%jammi ephemeral open"),
    (r"ws\.check\(\)", "%jammi check"),
    (r"ws\.tables\(\)", "%jammi tables"),
    (r"ws\.settings shows", "%jammi config shows"),
    (r"ws\.recipes\(\)", "%jammi status"),
    (r"ws\.models\b(?![.(])", "%jammi models"),
    (r"ws\.embed\b(?!\()", "%jammi embed"),
    (r"ws\.search\(…, where=…\)", "%jammi search TABLE TEXT --where SQL"),
    (r"Write \$name, and pass name=value\.", "Write $name; a variable of that name in the notebook is its value."),
    (
        r"Close it, and open it with settings=\{\"([\w.]+)\": …\} or a line in jammi\.toml",
        r"%jammi close, then %jammi config \1 VALUE, or a line in jammi.toml; it holds from the next open on",
    ),
    (r", or jl\.open\(…, settings=\{…\}\)", ""),
    (r"jl\.open\(path\)", "%jammi open PATH"),
    (r"jl\.open\((?:'(.*?)'|…), catalog=\"(.*?)\"\)", r"%jammi open --catalog \2"),
    (r"replace=True \(in a cell --replace\)", "--replace"),
    (r"\bread_only=True", "--read-only"),
    (r"\boptions=\{(.*?)\}", _options),
    (r"(--option \S+) or \{\"(\w+)\": …\}", r"\1 or --option \2=…"),
    (r"\bkind=\"…\"", "--kind"),
    (r"\banchor=\"column:…\"", "--anchor column:…"),
    (r"\binputs=\['([^']*)'\]", r"--inputs \1"),
    (r"Define it and call (ws\.compute\(.*?\)) again", r"Run its %%jammi_py cell, or call \1, again"),
    (r"(?<![(,]\s)(?<!\()\b(key|secret|where|select|catalog|inputs)=(?=[\s'.,;])", r"--\1 "),
    (r"(--\w+) (?=[\s.,;])", r"\1"),
    (r"\bws\.(?=\w)", "jammi_lab.get_workspace()."),
)
"""What Python says and what a cell says, the longer first; what has no line is said for the notebook's own workspace."""


def in_cells(hint: str) -> str:
    """The hint as one types it in a cell."""
    for python, line in _LINES:
        hint = re.sub(python, line, hint)
    return hint


@contextlib.contextmanager
def typed() -> Iterator[None]:
    """A block that a magic runs: errors that leave it say what to type in a cell."""
    try:
        yield
    except JammiError as error:
        error.hint = in_cells(error.hint)
        raise
