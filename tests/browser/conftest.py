"""One browser for all tests here, and one JupyterLab for those that need it."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import jammi_lab as jl
from tests.browser.bare import EVIL, Bare, named
from tests.browser.lab import CHROMIUM, FLAGS, Lab, server
from tests.templates import Template


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        missing = "no chromium on the PATH, and CHROMIUM is not set"
        if os.environ.get("JAMMI_REQUIRE_SERVICES") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def _labs(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Lab]]:
    """The lab of each theme, started when it is first needed."""
    started: dict[str, Lab] = {}
    with contextlib.ExitStack() as running:

        def lab_of(theme: str) -> Lab:
            if theme not in started:
                root, state = (tmp_path_factory.mktemp(name) for name in ("root", "state"))
                address, token = running.enter_context(server(root, state, theme))
                started[theme] = Lab(browser, root, address, token)
            return started[theme]

        yield lab_of


@pytest.fixture
def lab(_labs: Callable[[str], Lab], request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A running lab in the test's `theme`, else in the light one."""
    theme = (
        request.getfixturevalue("theme") if "theme" in request.fixturenames else "JupyterLab Light"
    )
    name = f"{request.module.__name__.rpartition('.')[2]}_{len(os.listdir(_labs(theme).root))}"
    with _labs(theme).for_one_test(name) as ready:
        yield ready


TEXTS = [
    "graph neural networks",
    "a recipe for bread",
    "message passing on graphs",
    "baking sourdough",
    "how to cook rice",
    "convolutional networks",
]


def _build(folder):
    path = folder / "papers.csv"
    path.write_text(
        "id,title,topic\n"
        + "".join(
            f'{i},"{text}",{"food" if i in (1, 3, 4) else "ml"}\n' for i, text in enumerate(TEXTS)
        )
    )
    with jl.open(folder / "lab") as ws:
        ws.sources.add("papers", path)
        ws.materialize("ml", "SELECT * FROM papers WHERE topic = 'ml'", key="id")
        ws.materialize("topics", "SELECT topic, count(*) AS n FROM jammi.ml GROUP BY ALL")
        ws.materialize(EVIL, "SELECT topic FROM jammi.ml")
        ws.embed("vectors", "papers", key="id", text="title", model="hashing")


_template = Template(_build)


@pytest.fixture
def papers():
    return _template.restore() / "papers.csv"


@pytest.fixture
def ws(papers):
    with jl.open(papers.parent / "lab") as ws:
        yield ws


@pytest.fixture
def on_page(browser):
    """Puts panels on pages; at the end nothing broke, nothing left the page, and no name has
    acted."""
    with contextlib.ExitStack() as stack:

        def put(panel, name, **size):
            bare = Bare(browser, panel, name, **size)
            stack.callback(bare.close)
            stack.callback(lambda: titles.append(bare.page.title()))
            return bare

        titles = []
        yield put
    assert "owned" not in titles


@pytest.fixture
def shown(on_page):
    """Puts a panel on a page and waits for a part of it."""

    def put(panel, part, **size):
        bare = on_page(panel, named(panel), **size)
        bare.shows(part)
        return bare

    return put


MARKS = (
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.leaves_behind("playwright keeps a loop and its pipes for the session"),
)


def pytest_itemcollected(item: pytest.Item) -> None:
    for mark in MARKS:
        item.add_marker(mark)
    if item.get_closest_marker("timeout") is None:
        item.add_marker(pytest.mark.timeout(300))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of the lab come first, then those of the browser, then those of the store.

    Workers begin with a quarter of the list each and take from the end of another's: so one worker
    runs nearly all of these, and one lab, one browser and one store are started instead of four.
    """
    items.sort(key=lambda item: next(n for n, name in enumerate(SHARED) if _uses(item, name)))


SHARED = ("_labs", "browser", "endpoint", "")


def _uses(item: pytest.Item, fixture: str) -> bool:
    return not fixture or fixture in getattr(item, "fixturenames", ())
