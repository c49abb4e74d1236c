"""Mistakes of somebody who has worked with it for a day: names, types, the order of arguments, quotes,
flags, habits of other tools. What the mistake is answered with alone leads to the line that works: the
words that do were written by hand."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cases import cases
from tests.kernel_ext.conftest import CLEAN, Kernel
from tests.shell import run_shell

SETUP = r"""
from pathlib import Path

import pandas as pd
import jammi_lab as jl

Path("sales.csv").write_text(
    "id,region,amount,day\n1,North,12.5,2024-01-01\n2,South,8,2024-01-02\n3,North,20,2024-02-01\n"
)
Path("kb").mkdir()
Path("kb/refunds.md").write_text("How to refund an order.")
Path("kb/login.md").write_text("Reset a password.")
Path("report.md").write_text("Nothing.")
Path("first.ipynb").touch()
%load_ext jammi_lab
%jammi open lab
ws = jl.get_workspace()
ws.sources.add("sales", "sales.csv")
ws.sources.add("kb", "kb/*.md")
text = "SELECT region, sum(amount) AS total, count(*) AS n FROM sales GROUP BY region"
t = ws.materialize("regions", text, key="region")
ws.materialize("top", "SELECT region FROM jammi.regions WHERE total > 20")
v = ws.embed("vectors", "kb", key="name", text="text", model="hashing")
ws.lexical("words", "kb", key="name", text="text")
ws.checks.add("positive", jl.checks.between("total", 0, None), on="regions")
r = ws.sql("SELECT * FROM sales")
df = pd.DataFrame({"id": [1, 2], "note": ["a", "b"]})
threshold = 5
"""


@pytest.fixture(scope="module")
def second_day(kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a notebook with sources, tables, vectors, words and a check."""
    folder = tmp_path_factory.mktemp("second_day")
    kernel(f"import os; os.chdir({str(folder)!r})")
    kernel.run(SETUP)
    yield folder
    kernel.run(CLEAN)


@pytest.mark.every_case
@pytest.mark.parametrize(("mistake", "leads"), cases("cells/mistakes", "cell", "leads"))
def test_the_answer_to_a_mistake_leads_to_the_line_that_works(
    kernel, second_day, monkeypatch, mistake, leads
):
    if mistake.startswith("!"):
        monkeypatch.chdir(second_day)
        answer = run_shell(*shlex.split(mistake)[1:]).output
    else:
        shown = kernel(mistake)
        answer = "\n".join([*shown.error, shown.stream]) if shown.error else shown.text
    assert [words for words in leads if words not in answer] == [], answer
