"""The pages as the tests see them: their blocks, their links, and a notebook in which the blocks of
one page run from top to bottom.

A block is a fence. `python` and `ipython` (cells) run; ` ```text ` right after one of them is what
it shows, with `…` for what differs from run to run; `raises` after the language says that the block
fails, and the text after it is the error as a notebook shows it; `skip: reason` says why not to
run.
"""

import contextlib
import io
import os
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted(DOCS.rglob("*.md"))]
_FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```[ ]*$", re.MULTILINE | re.DOTALL)
_MEASURED = re.compile(r"\b[\d,.]+ (s|B|kB|MB)\b")
_DIGEST = re.compile(r"\b[0-9a-f]{12}\b")
_PROMPT = re.compile(r"^Out\[\d+\]: ?\n?", re.MULTILINE)


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@dataclass(frozen=True)
class Block:
    """One fence of a page."""

    page: Path
    line: int
    language: str
    """python, ipython, text …"""
    word: str
    """What follows the language."""
    body: str
    shows: str | None
    """The text that stands right after it."""

    @property
    def runs(self) -> bool:
        return self.language in ("python", "ipython") and not self.word.startswith("skip:")

    @property
    def cells(self) -> list[str]:
        """A Python block is one cell; of cell magics each is one, up to the blank line before the
        next line that begins with `%`."""
        if self.language == "python":
            return [self.body]
        return [cell for cell in re.split(r"\n\n+(?=%)", self.body.strip()) if cell]


def blocks(page: Path) -> list[Block]:
    text = read(page)
    found = list(_FENCE.finditer(text))
    made = []
    for at, fence in enumerate(found):
        language, _, word = fence[2].strip().partition(" ")
        body = textwrap.dedent(fence[3])
        if not language and re.search(r"^%(%jammi|jammi|load_ext)", body, re.MULTILINE):
            language = "ipython"
        after = found[at + 1] if at + 1 < len(found) else None
        shown = (
            after is not None
            and after[2].strip() == "text"
            and not text[fence.end() : after.start()].strip()
        )
        line = text.count("\n", 0, fence.start()) + 1
        made.append(
            Block(
                page,
                line,
                language,
                word.strip(),
                body,
                textwrap.dedent(after[3]) if after and shown else None,
            )
        )
    return made


class Reader:
    """Runs blocks in an IPython shell of this process, as somebody would who follows a page."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def run(self, block: Block) -> str:
        """What the block shows; for a block that `raises`, the error as a notebook shows it.
        AssertionError when it fails, or does not."""
        shown = io.StringIO()
        for cell in block.cells:
            with contextlib.redirect_stdout(shown):
                done = self._shell.run_cell(cell)
            error = done.error_before_exec or done.error_in_exec
            if block.word == "raises":
                assert error is not None, f"{where(block)} does not fail"
                rendered = getattr(error, "rendered_lines", None)
                return "\n".join(rendered() if rendered else [f"{type(error).__name__}: {error}"])
            if error is not None:
                raise AssertionError(f"{where(block)} fails: {error}") from error
        return _PROMPT.sub("", shown.getvalue())


def where(block: Block) -> str:
    return f"{block.page.relative_to(ROOT)}:{block.line}"


def same(shown: str, expected: str) -> bool:
    """Whether a text is as the page says. `…` stands for anything within a line, a line of only `…`
    for any lines; seconds, sizes, digests, and how wide columns are, do not count."""
    shown, expected = (
        _DIGEST.sub("0" * 12, _MEASURED.sub(lambda m: "0 s" if m[1] == "s" else "0 B", text))
        for text in (shown, expected)
    )
    lines = [line.rstrip() for line in expected.strip("\n").splitlines()]
    pattern = "\n".join(
        r"(?:.|\n)*?" if line.strip() == "…" else re.escape(re.sub(r"[ ─]{2,}|─", "\0", line))
        for line in lines
    )
    # possessive: a table of many columns that does not match would be tried in every division
    pattern = pattern.replace("…", ".*?").replace("\0", r"[ ─]++")
    given = "\n".join(line.rstrip() for line in shown.strip("\n").splitlines())
    return re.fullmatch(pattern, given) is not None


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[Reader]:
    """A shell in a folder of its own, which also finds the tour's data where the repository has
    them."""
    import shutil

    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    import jammi_kernel_ext
    from jammi_lab.core.errors import JammiError

    before = Path.cwd()
    shutil.copytree(ROOT / "notebooks" / "data", folder / "notebooks" / "data")
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.xmode = "Minimal"
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=config)
    os.chdir(folder)
    try:
        yield Reader(shell)
    finally:
        jammi_kernel_ext.unload_ipython_extension(shell)
        if jammi_kernel_ext._notebook is not None:
            jammi_kernel_ext._notebook.close()
            jammi_kernel_ext._notebook = None
        JammiError.full_traceback = False
        InteractiveShell.clear_instance()
        os.chdir(before)
