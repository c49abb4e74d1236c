"""Waiting for the write lock of a catalog in a file."""

import contextlib
import os
import signal
import sqlite3
import threading
import time

import pytest

from jammi_lab.catalog import Catalog
from jammi_lab.catalog import sqlite as dialects
from jammi_lab.core.errors import VersionConflict
from tests.catalog.conftest import sqlite_only
from tests.waiting import until

pytestmark = sqlite_only


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of this thread, which waits for the file; not those of who watches it."""
    paused: list[float] = []
    sleep, this = time.sleep, threading.get_ident()

    def pause(seconds: float) -> None:
        if threading.get_ident() == this:
            paused.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", pause)
    return paused


def write(catalog: Catalog, value: str = "1") -> None:
    with catalog.transaction():
        catalog.metadata.set("n", value)


def test_an_interrupt_ends_the_waiting(lab, monkeypatch, waits):
    monkeypatch.setattr(dialects, "LOCK_SECONDS", 20.0)
    with contextlib.closing(sqlite3.connect(lab.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        stop = threading.Thread(
            target=lambda: (until(lambda: waits), os.kill(os.getpid(), signal.SIGINT))
        )
        stop.start()
        with pytest.raises(KeyboardInterrupt):
            write(lab.catalog)
        stop.join()
        assert lab.metadata.get("n") is None
    write(lab.catalog)
    assert lab.metadata.get("n") == "1"


def test_a_writer_waits_for_another_tool_and_gives_up_in_the_end(lab, monkeypatch):
    monkeypatch.setattr(dialects, "LOCK_SECONDS", 0.05)
    with contextlib.closing(sqlite3.connect(lab.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(VersionConflict, match="locked"):
            write(lab.catalog)
        other.execute("ROLLBACK")
    write(lab.catalog)


def test_readers_wait_as_long_as_they_did_before_a_write(lab):
    write(lab.catalog)
    with lab.database.read() as tx:
        assert tx.fetch("PRAGMA busy_timeout")[0][0] == dialects.LOCK_SECONDS * 1000
