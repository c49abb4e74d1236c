"""A tenant bound in one cell is bound in the next, whatever context the kernel runs it in."""

import pytest

AWAIT = "import asyncio\nawait asyncio.sleep(0)\n"
BOUND = "__import__('jammi_lab').get_workspace().current_tenant"


@pytest.mark.parametrize(
    "bind",
    [
        "%jammi tenant acme",
        "import jammi_lab as jl\njl.get_workspace().bind_tenant('acme')",
        "%jammi open lab --tenant acme",
    ],
)
@pytest.mark.parametrize("first", ["", AWAIT], ids=["plain", "await"])
@pytest.mark.parametrize("then", ["", AWAIT], ids=["plain", "await"])
def test_a_binding_lasts_over_cells(cell, bind, first, then):
    cell("%jammi")
    cell.run(first + bind)
    assert cell(then + f"print({BOUND})").stream.strip() == "acme"
    assert cell(f"print({BOUND})").stream.strip() == "acme"


def test_unbinding_in_a_cell_with_await_lasts_too(cell):
    cell("%jammi tenant acme")
    cell(AWAIT + "%jammi tenant --none")
    assert cell.value(BOUND) == "None"


def test_a_block_ends_with_its_cell(cell):
    cell("ws = %jammi\nws.bind_tenant('acme')")
    cell("with ws.tenant('other'):\n    inside = ws.current_tenant")
    assert cell.value("inside, ws.current_tenant") == "('other', 'acme')"


def test_a_cell_run_inside_a_block_sees_the_block(cell):
    cell("ws = %jammi\nws.bind_tenant('acme')")
    cell("with ws.tenant('other'):\n    get_ipython().run_cell('inside = ws.current_tenant')")
    assert cell.value("inside, ws.current_tenant") == "('other', 'acme')"


def test_what_a_thread_or_a_task_binds_for_itself_stays_there(cell):
    cell("ws = %jammi\nws.bind_tenant('acme')\nimport threading, asyncio")
    cell("t = threading.Thread(target=ws.bind_tenant, args=('thread',)); t.start(); t.join()")
    cell("async def work():\n    ws.bind_tenant('task')\nawait asyncio.create_task(work())")
    assert cell.value("ws.current_tenant") == "'acme'"


def test_a_new_thread_starts_with_no_tenant(cell):
    cell("ws = %jammi\nws.bind_tenant('acme')\nimport threading\nseen = []")
    cell("t = threading.Thread(target=lambda: seen.append(ws.current_tenant)); t.start(); t.join()")
    assert cell.value("seen") == "[None]"
