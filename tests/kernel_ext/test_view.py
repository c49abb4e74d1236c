"""Looking through rows: `%%jammi --view` and `%jammi view`, in a kernel and in a terminal."""

import pytest

from jammi_kernel_ext import display
from jammi_lab.workspace.result import Result

VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def rows(papers):
    """A notebook whose variable `r` is a result."""
    papers.run("%%jammi r\nSELECT venue, year FROM papers ORDER BY year DESC")
    return papers


def panels(shown):
    """What a cell showed: the panels, and what is saved for each."""
    return [data for data in shown.data if VIEW in data]


def test_a_cell_shows_its_rows_as_a_panel_and_binds_the_result(rows):
    shown = rows("%%jammi s --view\nSELECT venue FROM papers")
    assert len(panels(shown)) == 1 and "<table" in shown.html and "varchar" in shown.text
    assert ["varchar" in data["text/html"] for data in shown.saved] == [True]
    assert rows.value("type(s).__name__") == rows.value("type(_).__name__") == "'Result'"


@pytest.mark.parametrize("name", ["r", "papers", ""])
def test_a_line_shows_the_rows_of_a_variable_of_a_source_and_of_the_last_output(rows, name):
    rows("r")
    shown = rows(f"%jammi view {name}")
    assert len(panels(shown)) == 1 and "venue" in shown.text
    assert panels(rows("r")) == []  # as before


def test_the_line_gives_the_panel(rows):
    rows("v = %jammi view r")
    assert rows.value("type(v).__name__") == "'ResultView'"
    rows("v.selection = ['2']")
    assert rows.value("v.selected().num_rows") == "1"


def test_the_rows_of_a_recipe_are_looked_through_when_it_is_made(rows):
    shown = rows("%%jammi t -m recent --view\nSELECT venue FROM papers")
    assert (
        len(panels(shown)) == 1
        and "venue" in shown.text
        and rows.value("type(t).__name__") == "'ResultTable'"
    )


def test_what_the_page_asks_the_kernel_answers(rows):
    [data] = panels(rows("%jammi view r"))
    content = {
        "comm_id": data[VIEW]["model_id"],
        "data": {"method": "custom", "content": {"v": 1, "ask": 7, "kind": "page", "column": 1}},
    }
    message = rows.client.session.msg("comm_msg", content)
    rows.client.shell_channel.send(message)
    while True:
        got = rows.client.get_iopub_msg(timeout=60)
        told = (
            got["content"].get("data", {}).get("content", {})
            if got["msg_type"] == "comm_msg"
            else {}
        )
        if told.get("ask") == 7:
            break
    assert told["kind"] == "answer" and [row[1] for row in told["body"]["rows"]] == [
        "2020",
        "2021",
        "2022",
        "2023",
    ]


def test_in_a_terminal_the_rows_are_a_table(ws):
    result = ws.sql("SELECT 1 AS a")
    assert display.view(None, result) is result
    assert isinstance(display.view(object(), ws.materialize("t", "SELECT 1 AS a")), Result)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("%jammi view nothing", "no source or table"),
        ("7\n", None),
        ("%%jammi --view --quiet\nSELECT 1", "--view cannot be combined with"),
    ],
)
def test_what_cannot_be_looked_through_is_said(rows, code, said):
    shown = rows(code)
    if said is None:
        shown, said = rows("%jammi view"), "no rows to browse"
    assert said in "\n".join(shown.error)


COMMS = "__import__('gc').collect() and 0 or len(get_ipython().kernel.comm_manager.comms)"


def run_as_lab(kernel, code):
    """Run a cell as JupyterLab does, which names the cell."""
    session = kernel.client.session
    content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
    kernel.client.shell_channel.send(
        session.msg("execute_request", content, metadata={"cellId": f"id of {code}"})
    )
    kernel.run("0")


@pytest.mark.parametrize(
    "code",
    [
        "jl.widgets.StalenessBoard(ws)",
        "jl.widgets.Workbench(ws)",
        "%jammi status",
        "board = jl.widgets.StalenessBoard(ws)\nboard",
    ],
)
def test_panels_of_earlier_runs_of_a_cell_are_closed(chain, code):
    chain("import jammi_lab as jl\nws = %jammi open")
    before = int(chain.value(COMMS))
    run_as_lab(chain, code)
    one = int(chain.value(COMMS)) - before
    for _ in range(4):
        run_as_lab(chain, code)
    assert one > 0 and int(chain.value(COMMS)) - before == one


def test_a_panel_that_a_variable_holds_stays_open(chain):
    chain("import jammi_lab as jl\nws = %jammi open\nboards = []")
    run_as_lab(chain, "boards.append(jl.widgets.StalenessBoard(ws))\nfirst = boards[0]\nboards[-1]")
    run_as_lab(chain, "boards.append(jl.widgets.StalenessBoard(ws))\nfirst = boards[0]\nboards[-1]")
    assert chain.value("first.comm is not None and boards[1].comm is not None") == "True"
