"""A panel in voila, where that is installed: it is no dependency of the tests."""

import os
import signal
import subprocess
import sys

import pytest

from tests.browser.lab import PAPERS, written


@pytest.fixture
def address(tmp_path):
    pytest.importorskip("voila", reason="voila is not installed")
    written(tmp_path / "board.ipynb", [PAPERS, "jl.widgets.StalenessBoard(ws)"])
    command = [sys.executable, "-m", "voila", "board.ipynb", "--no-browser", "--Voila.ip=127.0.0.1"]
    server = subprocess.Popen(
        command,
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield next(line.strip() for line in server.stdout if line.startswith("http:"))
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.communicate(timeout=60)


@pytest.mark.only_soak
def test_a_panel_is_drawn_once(browser, address):
    page = browser.new_page()
    page.goto(address)
    page.get_by_test_id("verdict-ml").wait_for(timeout=90_000)
    assert page.get_by_test_id("jammi-staleness").count() == 1
    assert not page.locator(".jammi-saved").is_visible()
    page.close()
