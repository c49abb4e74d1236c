"""One browser for all tests here, and one JupyterLab for those that need it."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.browser.lab import CHROMIUM, FLAGS, Lab, server


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
