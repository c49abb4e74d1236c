"""Every line and flag that the help lists, in a real kernel: it works, in both forms, its help says
how it is written, Tab offers its flags, and a word that is nearly right is answered with the right
one."""

import re

from jammi_lab.commands.table import CELL, LINE, commands
from tests.cases import cases

# In this order, one after the other, on a workspace with the source `papers` and the tables
# `venues` and `top`.
LINES = dict(cases("cells/every_line", "verb", "line"))
CELLS = dict(cases("cells/every_flag", "flag", "cell"))


VIEW = "application/vnd.jupyter.widget-view+json"
KINDS = {"text/plain", "text/html", VIEW}
ACTING = re.compile(
    r"<script|<iframe|<link|\bon\w+=\"|javascript:|require\(|(?:src|href)=\"(?!data:image/|#)"
)
"""What loads something or runs. Classic notebook, VS Code and Colab get the same outputs: plain
kinds, nothing from elsewhere."""


def check_outputs(kernel, code, *, is_quiet=False):
    """A cell works, and its outputs are of kinds that every front end shows, the first in both
    texts."""
    shown = kernel(code)
    assert shown.error is None and shown.stream == "", (code, shown.error)
    progress = [_display_id(each) for each in shown.displays if not each.get("data")]
    lasting = [  # a progress line ends in clear_output, which has neither data nor an id
        each
        for each in shown.displays
        if each.get("data") and (_display_id(each) or None) not in progress
    ]
    for display in lasting:
        data = display["data"]
        assert set(data) <= KINDS and "text/plain" in data, (code, set(data))
        assert not ACTING.search(data.get("text/html", "")), (code, data["text/html"][:500])
    assert bool(lasting) != is_quiet, code
    assert not lasting or "text/html" in lasting[0]["data"] or "polars" in code, code


def _display_id(display):
    """A progress line is an output that is empty at first."""
    return display.get("transient", {}).get("display_id", "")


def test_every_line_works_and_is_shown_as_html_and_as_text(chain, tmp_path):
    (tmp_path / "days.ipynb").write_text('{"cells": []}')
    assert sorted(LINES) == sorted(v.name for v in commands(LINE))
    chain(
        "ws = %jammi\nws.topics.register('events', {'page': 'string'})\nws.topics.publish('events', [{'page': 'home'}])\n"
        "with open('notes.md', 'w') as notes: notes.write('36.4 % are new.')"
    )
    for line in LINES.values():
        check_outputs(chain, f"%jammi {line}")


def test_every_flag_of_a_cell_works_and_is_shown_as_html_and_as_text(papers):
    assert sorted(CELLS) == sorted(f.spellings[-1] for f in CELL.flags)
    papers("%%jammi --plot bar venue id\nSELECT venue, id FROM papers")  # the first says so
    for flag, cell in CELLS.items():
        check_outputs(papers, cell, is_quiet=flag == "--quiet")
