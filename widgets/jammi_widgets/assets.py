"""The front-end modules as a page gets them: one text per panel, put together from the files in `static/`, with nothing to build.

A panel's module begins with `import { … } from "./kit.js"`, so that an editor and a test page take the files as they are; a notebook gives a
widget one module without an address, so the import is replaced by what it names.
"""

import functools
import re
from importlib import resources

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(async )?function |const |class )", re.MULTILINE)


def _read(name: str) -> str:
    return resources.files("jammi_widgets").joinpath("static", name).read_text(encoding="utf-8")


@functools.cache
def module(name: str) -> str:
    """The module of a panel with what it imports, each part once, in the order in which they are needed."""
    parts: dict[str, str] = {}
    _collect(name, parts)
    return "".join(parts.values())


def _collect(name: str, parts: dict[str, str]) -> None:
    text = _read(f"{name}.js")
    for needed in _IMPORT.findall(text):
        if needed not in parts:
            _collect(needed, parts)
            parts[needed] = _EXPORT.sub("", parts[needed])
    parts[name] = _IMPORT.sub("", text)


@functools.cache
def style() -> str:
    """The one style sheet of all panels; every rule begins with `.jammi`."""
    return _read("panel.css")
