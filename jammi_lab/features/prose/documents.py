"""Documents as prose: the texts of a file whose numbers are compared, with code, links and markup
made blank, and the ties in them. Positions are those of the file's own text."""

import json
import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from jammi_lab.core.errors import InvalidArgument
from jammi_lab.features.prose.written_numbers import (
    WrittenNumber,
    decimal_mark,
    find_numbers,
    last_number,
    parse_number,
)
from jammi_lab.sources.read_errors import read_outside_file, unreadable_text_error
from jammi_lab.storage.files import write_outside

MAX_PROSE_CHARS = 1 << 20
_TIE_WINDOW_CHARS = 80
"""How far before a tie's comment its number may begin."""


def _patterns(*texts: str) -> list[re.Pattern[str]]:
    return [re.compile(text, re.MULTILINE) for text in texts]


# Each pattern ends at the end of the text if what it opens is never closed, or has a largest
# length, so that no text is scanned again and again; no text is matched in two ways.
_COMMENT = r"<!--(?:[^-]|-(?!->))*+(?:-->|\Z)"
_HTML_CODE = _patterns(
    r"<(?P<tag>script|style|pre|code|kbd|samp|svg|math)\b[^<>]{0,2000}>(?:[^<]|<(?!/(?P=tag)\b))*+"
)
_MARKDOWN_CODE = _patterns(
    r"\A\ufeff?---\r?\n(?:.*\n)*?(?:---|\.\.\.)[ \t]*$",
    r"^(?P<indent>[ \t>]*)(?P<fence>`{3,}|~{3,})(?:.*\n?)(?:(?![ \t>]*(?P=fence)).*\n?)*+.*$",
    r"(?<!`)(?P<ticks>`+)(?!`)[^`\n]{1,500}(?:\n[^`\n]{1,500})?(?<!`)(?P=ticks)(?!`)",
)
_MARKDOWN_LINKS = _patterns(
    r"!?\[(?:[^\[\]\n\\]|\\.){0,500}+\](?:\([^()\n]{0,2000}(?:\([^()\n]*\)[^()\n]*)?\)|\[[^\]\n]{0,500}\])",
    r"^ {0,3}\[(?!\^)[^\]\n]+\]:.*$",
    r"\[(?:\^[^\]\n]{1,200}|-?@[^\]\n]{1,500}|\d+(?:[,;–-] ?\d+)*)\]",
    r"<?\b(?:https?|ftp|mailto|file)://?[^\s<>]+>?",
    r"^[ \t]{0,3}(?:>[ \t]?)+",
    r"\{(?:(?:[#.][\w-]++|[\w-]++=(?:\"[^\"\n]{0,200}\"|[^\s{}\"]++)) *+)++\}",
)
_TEX_CODE = _patterns(
    r"\A(?:(?!\\begin\{document\}).*\n)*+(?=.*\\begin\{document\})",
    r"(?<!\\)%.*$",
    r"\\begin\{(?P<env>verbatim\*?|lstlisting|minted|comment|tikzpicture)\}(?:[^\\]|\\(?!end\{(?P=env)\}))*+",
    r"\\(?:verb|lstinline)\*?(?P<mark>[^\w\s])[^\n]*?(?P=mark)",
)
_TEX_LINKS = _patterns(
    r"\\(?:\w*cite\w*|\w*ref|label|url|href|include\w*|input|usepackage|documentclass|biblio\w+|begin|end"
    r"|[vh]space\*?|setlength|hyperref|pageref|rule|cmidrule|multirow|multicolumn)(?:\([^()\n]{0,500}\))?(?:\[[^\[\]\n]{0,500}\])*"
    r"(?:\{[^{}\n]{0,500}\}){0,2}",
    r"\b\d+(?:\.\d+)?(?:cm|mm|em|ex|pt|in)\b",
    r"https?://[^\s{}]+",
)
_RST_CODE = _patterns(
    r"^(?P<in>[ \t]*)\.\. (?:(?:code|code-block|sourcecode|literalinclude|math|image|figure|raw|"
    r"highlight|parsed-literal|doctest|ipython|include|versionadded|versionchanged|deprecated)::"
    r"|_|\[|[^\s:]+(?:$| (?!.*::))).*\n?"
    r"(?:(?:[ \t]*\n|(?P=in)[ \t]+.*)\n?)*",
    r"(?<=::\n)(?:[ \t]*\n)*(?:[ \t]+.*\n?|[ \t]*\n)+",
    r"``[^`\n]+``",
    r"^>>> .*\n(?:.+\n)*",
)
_RST_LINKS = _patterns(
    r"(?::[\w:]{1,80}:)?`[^`<\n]*(?:\n[^`<\n]*)?<[^`<>\n]*>`_{0,2}",
    r":[\w:]{1,80}:`[^`\n]+`",
    r"\[[\w#*]+\]_",
    r"https?://[^\s<>]+",
)
_HTML_LINKS = _patterns(
    _COMMENT, r"<a\b[^<>]{0,2000}>(?:[^<]|<(?!/a\b))*+", r"</?[A-Za-z!][^<>]{0,2000}>"
)
_MARKDOWN_LINKS += _HTML_LINKS
_SPACE_ENTITY = re.compile(r"&(?:nbsp|thinsp|#160);")
_LIST_ITEM = re.compile(r"[ \t]*(?:[-*+]|\d+[.)])[ \t]")
_COMMENT_TIE = re.compile(r"<!--\s*jammi\s+(?P<path>[^\s<>]+)\s*-->")
_TEX_TIE = re.compile(r"\\jammi\{(?P<path>[^{}\n]*)\}\{(?P<number>[^{}\n]*(?:\{,\}[^{}\n]*)*)\}")


@dataclass(frozen=True)
class Markup:
    """How a kind of file is read."""

    code: Sequence[re.Pattern[str]]
    """What is code, in which there are no ties."""
    links: Sequence[re.Pattern[str]]
    """What else is no prose."""
    tie: re.Pattern[str] | None = _COMMENT_TIE
    """How a number names its value; None where there is no comment within a line."""
    has_indented_code: bool = False


_MARKDOWN = Markup([*_MARKDOWN_CODE, *_HTML_CODE], _MARKDOWN_LINKS, has_indented_code=True)
_MARKUPS = {
    **dict.fromkeys((".md", ".markdown", ".qmd", ".rmd", ".ipynb"), _MARKDOWN),
    **dict.fromkeys((".html", ".htm"), Markup(_HTML_CODE, _HTML_LINKS)),
    ".tex": Markup(_TEX_CODE, _TEX_LINKS, _TEX_TIE),
    ".rst": Markup(_RST_CODE, _RST_LINKS, None),
}


@dataclass(frozen=True, slots=True)
class Tie:
    """A number that names the value that it is."""

    path: tuple[str, ...]
    """The table, the parts of the row's key, and the column."""
    number: WrittenNumber | None
    """The number, at its position in the text; None when there is none before the comment."""
    start: int
    """Where the tie begins in the text."""


@dataclass
class Prose:
    """A text whose numbers are compared: a file, or a cell of a notebook."""

    text: str
    """The text as it is."""
    visible: str
    """The same with blanks in place of what is no prose."""
    numbers: list[WrittenNumber]
    """The numbers without ties that count."""
    ties: list[Tie]
    """The ties."""
    cell: int | None = None
    """The number of the cell, from 1."""
    edits: list[tuple[int, int, str]] = field(default_factory=list)
    """What is to be written: start, end and the new text."""

    @cached_property
    def _line_ends(self) -> list[int]:
        return [match.start() for match in re.finditer("\n", self.text)]

    def line_of(self, position: int) -> int:
        """The number of the line at a position, from 1."""
        return bisect_right(self._line_ends, position - 1) + 1

    def edited(self) -> str:
        """The text with its edits."""
        text = self.text
        for start, end, new in sorted(self.edits, reverse=True):
            text = text[:start] + new + text[end:]
        return text


@dataclass
class Document:
    """A file and its prose."""

    file: Path
    proses: list[Prose]
    raw: str
    """The text of the file."""
    notebook: dict[str, Any] | None = None

    def save(self) -> None:
        """Write the edits. InvalidArgument when the file cannot be written."""
        text = self.proses[0].edited() if self.notebook is None else self._notebook_text()
        try:
            write_outside(self.file.resolve(), text.encode("utf-8", "surrogatepass"))
        except OSError as error:
            raise InvalidArgument(
                f"{str(self.file)!r} cannot be written: {error.strerror}."
            ) from None

    def _notebook_text(self) -> str:
        assert self.notebook is not None
        for prose in self.proses:
            if prose.edits and prose.cell is not None:
                cell = self.notebook["cells"][prose.cell - 1]
                is_text = isinstance(cell["source"], str)
                cell["source"] = prose.edited() if is_text else prose.edited().splitlines(True)
        indent = re.match(r"\{\r?\n( +)", self.raw)
        text = json.dumps(
            self.notebook,
            ensure_ascii=self.raw.isascii(),
            indent=len(indent[1]) if indent else None,
        )
        return text + "\n" * self.raw.endswith("\n")


def read_document(file: Path) -> Document:
    """Read a file. InvalidArgument for another kind of file, one that is no text or too large."""
    if os.path.isdir(file):
        raise unreadable_text_error(file, IsADirectoryError())
    markup = _MARKUPS.get(file.suffix.lower())
    if markup is None:
        raise InvalidArgument(
            f"check-text does not read {file.suffix or 'a file without suffix'}: {str(file)!r}.",
            hint=f"It reads {', '.join(_MARKUPS)}.",
        )
    raw = _read_text(file)
    if file.suffix.lower() != ".ipynb":
        _check_length(file, len(raw))
        return Document(file, [read_prose(raw, markup, decimal_mark)], raw)
    try:
        notebook = json.loads(raw)
        sources = []
        for number, cell in enumerate(notebook["cells"], 1):
            if cell["cell_type"] == "markdown":
                sources.append((number, "".join(cell["source"])))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidArgument(f"{str(file)!r} is not a notebook of format 4.") from None
    _check_length(file, sum(len(source) for _, source in sources))
    return Document(file, notebook_proses(sources), raw, notebook)


def notebook_proses(cells: Sequence[tuple[int, str]]) -> list[Prose]:
    """The prose of Markdown cells, by their numbers."""
    mark = decimal_mark("\n\n".join(source for _, source in cells))
    proses = []
    for number, source in cells:
        prose = read_prose(source, _MARKDOWN, lambda _: mark)
        prose.cell = number
        proses.append(prose)
    return proses


def _read_text(file: Path) -> str:
    try:
        text = read_outside_file(file).decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InvalidArgument(
            f"{str(file)!r} is not a text in UTF-8.", hint="Save it as UTF-8 text."
        )
    return text


def _check_length(file: Path, length: int) -> None:
    if length > MAX_PROSE_CHARS:
        raise InvalidArgument(
            f"The prose of {str(file)!r} has {length:,} characters; at most {MAX_PROSE_CHARS:,} "
            "are compared.",
            hint="Split the file.",
        )


def read_prose(text: str, markup: Markup, mark_of: Callable[[str], str]) -> Prose:
    """The prose of a text."""
    visible = _blank(text, markup.code)
    if markup.has_indented_code:
        visible = _blank_indented_code(visible)
    ties = list(_find_ties(visible, markup.tie)) if markup.tie is not None else []
    visible = _cover(visible, [tie.number for tie in ties if tie.number is not None])
    if markup.tie is not None:
        visible = markup.tie.sub(_blanks, visible)
    visible = _SPACE_ENTITY.sub(lambda match: "\u00a0" * len(match[0]), visible)
    visible = _blank(visible, markup.links)
    mark = mark_of(visible)
    numbers = [number for number in find_numbers(visible, mark) if number.counts]
    return Prose(text, visible, numbers, ties)


def _find_ties(text: str, pattern: re.Pattern[str]) -> Iterator[Tie]:
    mark = decimal_mark(text)
    for match in pattern.finditer(text):
        path = tuple(unquote(part) for part in match["path"].replace("\\", "").split("/"))
        if pattern is _TEX_TIE:
            number, start = parse_number(match["number"], mark), match.start("number")
        else:
            start = max(0, match.start() - _TIE_WINDOW_CHARS)
            number = last_number(text[start : match.start()].rstrip(" *_"), mark)
        if number is not None:
            number = replace(number, start=number.start + start, end=number.end + start)
        yield Tie(path, number, match.start())


def tie_path(table: str, row: Sequence[str], column: str) -> str:
    """The path of a tie: names and values of keys with what would end them encoded."""
    reserved = re.compile(r"[\s%/<>{}\\\"|`]")
    return "/".join(
        reserved.sub(lambda match: quote(match[0], safe=""), part) for part in (table, *row, column)
    )


def _blank(text: str, patterns: Sequence[re.Pattern[str]]) -> str:
    for pattern in patterns:
        text = pattern.sub(_blanks, text)
    return text


def _blanks(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def _cover(text: str, numbers: Sequence[WrittenNumber]) -> str:
    """The text with blanks in place of some numbers, which are in its order."""
    pieces, position = list[str](), 0
    for number in numbers:
        pieces += [text[position : number.start], " " * (number.end - number.start)]
        position = number.end
    return "".join([*pieces, text[position:]])


def _blank_indented_code(text: str) -> str:
    """Blank what Markdown takes for code because four spaces stand before it: below a blank line,
    and not in an item of a list."""
    lines, is_code, follows_blank, in_list = list[str](), False, True, False
    for line in text.split("\n"):
        is_blank, is_indented = not line.strip(), line.startswith(("    ", "\t"))
        is_code = is_indented and not is_blank and not in_list and (is_code or follows_blank)
        if not is_indented and not is_blank:
            in_list = _LIST_ITEM.match(line) is not None or (in_list and line.startswith("  "))
        lines.append(" " * len(line) if is_code else line)
        follows_blank = is_blank
    return "\n".join(lines)
