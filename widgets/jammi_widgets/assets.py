"""The JavaScript module and the style sheet of each panel, assembled from the files in `static/`
without a build step.

A panel's module begins with `import { … } from "./kit.js"`, so that editors and test pages can load
the files directly. A notebook gives a widget a single module without a URL, so the imports are
replaced by the code that they refer to.
"""

import functools
import json
import re
from importlib import resources

from jammi_lab.core.html import VERDICT_MEANINGS

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', re.MULTILINE)
_NO_MEANINGS = "const MEANINGS = {};"
"""The place of the meanings of verdicts, which panels share with static forms."""
_EXPORT = re.compile(r"^export (?=(async )?function |const |class )", re.MULTILINE)


def _read(name: str) -> str:
    text = resources.files("jammi_widgets").joinpath("static", name).read_text(encoding="utf-8")
    return text.replace(_NO_MEANINGS, f"const MEANINGS = {json.dumps(dict(VERDICT_MEANINGS))};")


@functools.cache
def module(name: str) -> str:
    """The JavaScript source of a panel with its imports inlined, each once, in dependency order."""
    parts: dict[str, str] = {}
    _collect(name, parts)
    return "".join(parts.values())


def _collect(name: str, parts: dict[str, str]) -> None:
    text = _read(f"{name}.js")
    for dependency in _IMPORT.findall(text):
        if dependency not in parts:
            _collect(dependency, parts)
            parts[dependency] = _EXPORT.sub("", parts[dependency])
    parts[name] = _IMPORT.sub("", text)


@functools.cache
def style() -> str:
    """The style sheet shared by all panels."""
    return _read("panel.css")
