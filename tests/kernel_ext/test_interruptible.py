"""Long work in a cell: ■ stops it and leaves nothing, progress speaks late and leaves nothing."""

import pytest

from tests.kernel_ext.test_saved import executed
from tests.processes import environment

LONG = "SELECT count(DISTINCT hash(range)) AS n FROM range(3000000000)"
READY = "import threading\nthreading.Timer(0.5, lambda: print('now', flush=True)).start()\n"
# What comes before the magic has begun is the kernel's own to hear: its handler lets a task end
# that does not wait.
ENTERED = """import signal, threading, time
def tell():
    while signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        time.sleep(0.05)
    print('now', flush=True)
threading.Timer(0.5, tell).start()
"""


def stop(kernel, code):
    return kernel(READY + code, interrupt_when=lambda text: "now" in text)


@pytest.mark.parametrize(
    "code",
    [
        f"get_ipython().run_cell_magic('jammi', '', {LONG!r})",
        f"get_ipython().run_cell_magic('jammi', '-m slow', {LONG!r})",
    ],
    ids=["rows", "recipe"],
)
def test_an_interrupt_is_one_line_fails_the_cell_and_the_next_cell_works(papers, code):
    shown = stop(papers, code)
    assert (
        shown.ename == "KeyboardInterrupt"
        and len(shown.error) == 1
        and shown.error[0].startswith("Interrupted. ")
    )
    assert papers("%%jammi\nSELECT 1 AS one").text.endswith("1 row")
    assert papers("%jammi tables").text.startswith("No result tables yet")


@pytest.mark.parametrize(
    "call",
    [
        f"ws.sql({LONG!r}).fetchall()",
        "[*ws.sql('SELECT range FROM range(3000000000) WHERE hash(range) % 3000000000 < 90').batches()]",
        f"ws.materialize('slow', {LONG!r})",
        "[*__import__('jammi_lab.core.interrupts').core.interrupts.attempts(600)]",
    ],
    ids=["rows", "batches", "recipe", "pauses"],
)
def test_an_interrupt_reaches_calls_of_a_cell_with_await_and_its_handler_comes_back(papers, call):
    papers("ws = %jammi")
    shown = papers(
        f"{ENTERED}import asyncio\nawait asyncio.sleep(0)\ntry:\n    {call}\n"
        "except KeyboardInterrupt:\n    print('stopped', signal.getsignal(signal.SIGINT).__module__)",
        interrupt_when=lambda text: "now" in text,
    )
    assert shown.stream.endswith("stopped ipykernel.ipkernel\n") and shown.error is None


@pytest.mark.parametrize("line", ["plan", "status", "recompute", "why top", "lineage"])
def test_an_interrupt_reaches_a_line_that_waits_for_a_source_and_says_which(gated, line):
    shown = stop(gated, f"get_ipython().run_line_magic('jammi', {line!r})")
    assert shown.error == [
        f"Interrupted. %jammi {line.split()[0]} was stopped; nothing was left behind."
    ]
    assert gated("%%jammi\nSELECT 1 AS one").text.endswith("1 row")


def test_an_interrupted_embedding_is_not_made_and_the_next_one_is(papers):
    papers("ws = %jammi\nimport time\npause = 0")
    papers(
        "mine = ws.models.register('mine', lambda t: time.sleep(pause) or [[1.0, 2.0]] * len(t), version=1)\npause = 600"
    )
    line = "embed vecs papers --key id --text venue --model mine --where 'venue IS NOT NULL'"
    shown = stop(papers, f"get_ipython().run_line_magic('jammi', {line!r})")
    assert shown.error == ["Interrupted. 'vecs' was not computed; nothing was left behind."]
    papers("pause = 0")
    assert papers(f"%jammi {line}").text.startswith("vecs, version")


SLOW_INDEX = """
import types
import jammi_lab.core.records
def nothing(*_, **__): pass
slow = types.SimpleNamespace(find_defect=nothing, restore=nothing, describe=nothing, on_removal=nothing, build=lambda *_: threading.Event().wait(600))
ws._services.results.vector_indexes = slow
"""


def test_an_interrupt_behind_the_vectors_says_that_the_table_is_there_and_its_index_is_not(papers):
    papers("import threading\nws = %jammi")
    papers(SLOW_INDEX)
    shown = stop(
        papers,
        "get_ipython().run_line_magic('jammi', 'embed vecs papers --key id --text venue --model hashing')",
    )
    assert shown.error == [
        "Interrupted. 'vecs' is stored, but its index is not built: until then, a search reads all vectors."
    ]
    assert (
        papers("%jammi search vecs A -k 1").text.endswith("1 row")
        and "vecs" in papers("%jammi tables").text
    )


@pytest.fixture
def labels(papers):
    assert (
        papers(
            "ws = %jammi\nm = ws.mutable.create('labels', {'id': 'int64', 'v': 'string'}, primary_key='id')"
        ).error
        is None
    )
    return papers


ENDLESS = "SELECT range + 10, 'x' FROM range(3000000000) WHERE hash(range) % 3000000000 = 1"


@pytest.mark.parametrize(
    ("text", "said", "ids"),
    [
        (f"INSERT INTO mutable.labels {ENDLESS}", "The change was rolled back.", []),
        (
            f"INSERT INTO mutable.labels VALUES (1, 'a'); INSERT INTO mutable.labels {ENDLESS}",
            "The change was rolled back. The change before it was committed.",
            [(1,)],
        ),
        (
            f"INSERT INTO mutable.labels VALUES (1, 'a'); {LONG}",
            "The statement was stopped. The change before it was committed.",
            [(1,)],
        ),
    ],
    ids=["one", "the second", "rows behind a change"],
)
def test_an_interrupted_change_is_rolled_back_and_the_cell_says_so_and_what_was_made_before(
    labels, text, said, ids
):
    shown = stop(labels, f"get_ipython().run_cell_magic('jammi', '', {text!r})")
    assert shown.error == [f"Interrupted. {said}"]
    assert labels.value("ws.sql('SELECT id FROM mutable.labels').fetchall()") == str(ids)


@pytest.mark.parametrize(
    "second",
    ["INSERT INTO mutable.labels VALUES (1, 'b')", "SELECT CAST(v AS INTEGER) FROM mutable.labels"],
)
def test_a_statement_that_fails_behind_a_change_says_that_the_change_was_made(labels, second):
    shown = labels(f"%%jammi\nINSERT INTO mutable.labels VALUES (1, 'a');\n{second}")
    assert len(shown.error) <= 5 and shown.error[-1].endswith("The change before it was committed.")
    assert labels.value("ws.sql('SELECT id FROM mutable.labels').fetchall()") == "[(1,)]"


@pytest.fixture
def eager(papers):
    """A notebook that shows progress at once."""
    names = ("PROGRESS_DELAY_SECONDS", "UPDATE_INTERVAL_SECONDS")
    left = ", ".join(f"running.{name}" for name in names)
    papers(f"import jammi_kernel_ext.interruptible as running\n{left} = 0, 0.02")
    yield papers
    papers(f"{left} = 0.5, 0.2")


def test_quick_work_shows_no_progress(eager):
    eager("running.PROGRESS_DELAY_SECONDS = 600")  # however busy the machine is
    shown = eager("%%jammi -m quick\nSELECT 1 AS one")
    assert len(shown.displays) == 1


def test_slow_work_says_how_far_it_is_and_takes_it_back(eager):
    shown = eager("%%jammi -m slow\nSELECT range AS n FROM range(5000000)")
    opened, *said = [d["data"] for d in shown.displays if "display_id" in d.get("transient", {})]
    assert opened == {} and {"wait": False} in shown.displays
    assert any("slow" in d.get("text/plain", "") for d in said)
    assert len({d["transient"]["display_id"] for d in shown.displays if d.get("transient")}) == 1


@pytest.mark.parametrize("first", ["%%jammi", "%%jammi -m slow", "%%jammi --as arrow"])
def test_a_statement_of_which_the_engine_cannot_tell_how_far_it_is_says_that_it_runs(eager, first):
    eager(
        "from jammi_lab.engine.stream import StreamWorker; percent = StreamWorker.percent; StreamWorker.percent = lambda self: -1.0"
    )
    shown = eager(f"{first}\nSELECT count(DISTINCT hash(range)) AS n FROM range(1000000)")
    eager("StreamWorker.percent = percent")
    said = [
        d["data"].get("text/plain", "")
        for d in shown.displays
        if "display_id" in d.get("transient", {})
    ]
    assert (
        any(text.startswith(("run …, ", "materialize slow …, ")) for text in said)
        and {"wait": False} in shown.displays
    )


SLOW = "%%jammi -m {0}\nSELECT count(DISTINCT hash(range + {1})) AS n FROM range(3_000_000)"
AFTER = """
print("before")
get_ipython().run_cell_magic("jammi", "-m after", "SELECT count(DISTINCT hash(range)) AS n FROM range(3_000_000)")
"""


@pytest.mark.only_soak
def test_a_saved_notebook_has_no_empty_output_and_all_that_was_printed(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    eager = "running.PROGRESS_DELAY_SECONDS, running.UPDATE_INTERVAL_SECONDS = 0, 0.01"
    quiet, alone, after = executed(
        tmp_path / "saved",
        [
            "%load_ext jammi_kernel_ext\nimport jammi_kernel_ext.interruptible as running\n"
            + eager,
            "%jammi open lab",
            SLOW.format("quiet --quiet", 1),
            SLOW.format("alone", 2),
            AFTER,
        ],
    ).cells[2:]
    assert quiet.outputs == []
    assert [each.output_type for each in alone.outputs] == ["execute_result"]
    assert after.outputs[0].text == "before\n"
