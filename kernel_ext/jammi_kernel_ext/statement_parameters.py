"""The `$name` parameters of a statement, whose values are variables of the notebook."""

import re
from collections.abc import Mapping
from typing import Any

from jammi_lab.core.errors import InvalidArgument, ParameterMissing
from jammi_lab.core.identifiers import near_names

# String literals, quoted names, $$strings$$ and comments are matched first: a `$` inside them is
# no parameter.
_TOKEN = re.compile(
    r"""
    '(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/
    | \$(?P<tag>[A-Za-z_]\w*|)\$.*?\$(?P=tag)\$ | \$(?P<name>[^\W\d]\w*) | \w+\$?
    """,
    re.VERBOSE | re.DOTALL,
)
_QUOTED_NAME = re.compile(r"'%?\$([^\W\d]\w*)%?'")
"""A text that may be meant as the value of a variable."""


def parameter_names(sql: str) -> list[str]:
    """The distinct names of the `$parameters` of a statement, in order."""
    return list(dict.fromkeys(m["name"] for m in _TOKEN.finditer(sql) if m["name"]))


def parameters(sql: str, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Values for the `$parameters` of a statement from the notebook's variables. ParameterMissing;
    InvalidArgument for a value that cannot be bound."""
    from jammi_lab.engine.parameters import to_bindable

    values: dict[str, Any] = {}
    for name in parameter_names(sql):
        if name not in namespace:
            known = [
                n
                for n, v in namespace.items()
                if not n.startswith("_") and isinstance(v, str | int | float)
            ]
            error = ParameterMissing(
                f"The statement uses ${name}, but the notebook has no variable {name}.",
                parameter=name,
                hint=f"Set it in a cell: {name} = …",
            )
            error.near = tuple(near_names(name, known))
            raise error.with_position(sql, _parameter_position(sql, name))
        try:
            to_bindable(namespace[name])
        except InvalidArgument as error:
            raise InvalidArgument(f"${name}: {error.message}", hint=error.hint).with_position(
                sql, _parameter_position(sql, name)
            ) from None
        values[name] = namespace[name]
    for token in _TOKEN.finditer(sql):
        # a value that no statement uses is refused by the engine
        if (quoted := _QUOTED_NAME.fullmatch(token[0])) and quoted[1] in namespace:
            values.setdefault(quoted[1], "")
    return values


def _parameter_position(sql: str, name: str) -> int:
    return next(m.start() for m in _TOKEN.finditer(sql) if m["name"] == name)
