"""What a page asks for that rests on a source which has to be read: answered from a thread, in
order, while the kernel is free."""

import threading

import pytest

from jammi_widgets import auto_refresh as following
from jammi_widgets.catalog import CatalogBrowser
from jammi_widgets.lineage import LineageGraph
from jammi_widgets.map import EmbeddingMap
from jammi_widgets.neighbors import NeighborExplorer
from jammi_widgets.staleness import StalenessBoard
from tests.inside import services_of, wait_for_refresh
from tests.widgets.conftest import N, Told, write_things


def page_of(panel):
    """A page that shows a panel."""
    page = Told(panel)
    page.send("here", view=1)
    return page


@pytest.fixture
def here(monkeypatch, lab):
    """Calling it gives the threads in which statements were bound since."""
    threads, prepare = [], type(services_of(lab).engine).prepare

    def seen(*args, **options):
        threads.append(threading.current_thread())
        return prepare(*args, **options)

    monkeypatch.setattr(type(services_of(lab).engine), "prepare", seen)

    def since():
        found, threads[:] = list(threads), []
        return found

    return since


CASES = [
    (EmbeddingMap, lambda page: page.send("hover", point=3)),
    (EmbeddingMap, lambda page: page.send("colour", column="group")),
    (NeighborExplorer, lambda page: page.send("near", row="3", k=2)),
]


@pytest.mark.parametrize(("panel", "ask"), CASES, ids=["hover", "colour", "near"])
def test_what_reads_the_source_is_answered_from_a_thread(lab, here, panel, ask):
    page = page_of(panel(lab, "v"))
    here()
    first = ask(page)
    page.wait()
    assert [m["kind"] for m in page.of(first)] == ["reading", "answer"]
    assert threading.main_thread() not in here()


@pytest.mark.parametrize(
    "panel", [LineageGraph, StalenessBoard, CatalogBrowser, EmbeddingMap, NeighborExplorer]
)
def test_a_refresh_is_answered_from_a_thread_and_the_kernel_is_free_meanwhile(
    lab, panel, monkeypatch
):
    page, gate, threads = (
        page_of(panel(lab, "v") if panel in (EmbeddingMap, NeighborExplorer) else panel(lab)),
        threading.Event(),
        [],
    )
    answer = page.panel._answer

    def held(message):
        threads.append(threading.current_thread())
        gate.wait(30)
        return answer(message)

    monkeypatch.setattr(page.panel, "_answer", held)
    asked = page.send("refresh")
    assert not page.of(asked)
    gate.set()
    page.wait()
    assert page.of(asked)[-1]["kind"] == "answer" and threads[0] is not threading.main_thread()


def test_without_a_page_all_is_answered_in_the_thread_that_asks(lab):
    panel = EmbeddingMap(lab, "v")
    page = page_of(panel)
    page.send("gone", view=1)
    assert [m["kind"] for m in page.of(page.send("hover", point=3))] == ["answer"]


def test_what_is_asked_while_a_source_is_read_is_answered_after_it_in_order(lab):
    page, gate = page_of(EmbeddingMap(lab, "v")), threading.Event()
    read = page.panel._read_columns
    page.panel._read_columns = lambda *what: (gate.wait(30), read(*what))[1]
    asked = [
        page.send("hover", point=1),
        page.send("lasso", outline=[[-2, -2], [2, -2], [2, 2], [-2, 2]]),
        page.send("hover", point=2),
    ]
    page.panel.filter = "id < 10"
    stopped = page.send("cancel")
    assert [m["kind"] for m in page.of(stopped)] == ["answer"]  # what stops work never waits
    assert not any(m["kind"] == "answer" for ask in asked for m in page.of(ask))
    gate.set()
    page.wait()
    answers = [m["ask"] for m in page.messages if m["kind"] == "answer" and m["ask"] in asked]
    assert answers == asked and page.panel.count == N  # the lasso came before the condition


def test_a_source_that_cannot_be_read_is_told_and_what_waits_is_answered(lab, things):
    page = page_of(EmbeddingMap(lab, "v"))
    things.unlink()
    first, second = (
        page.send("hover", point=1),
        page.send("lasso", outline=[[-2, -2], [2, -2], [2, 2]]),
    )
    page.wait()
    refused = page.of(first)[-1]
    assert refused["kind"] == "refused" and "things" in refused["lines"][0]
    assert "where=" not in str(refused["lines"])  # nobody searched
    assert page.of(second)[-1]["kind"] == "answer"


def test_a_look_reads_nothing_that_nobody_asked_for(lab, things, here):
    page_of(EmbeddingMap(lab, "v"))
    write_things(things, "h{}".format)
    here()
    following.schedule_refresh()
    wait_for_refresh()
    assert not here()
