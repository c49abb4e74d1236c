"""One browser for all tests here."""

import os

import pytest

from tests.browser.lab import CHROMIUM, FLAGS


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
