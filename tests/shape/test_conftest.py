"""What tests/conftest.py holds every test to is itself seen to bite."""

import os
import threading

import pytest

from jammi_lab.catalog import Catalog
from jammi_lab.core.clock import SystemClock
from jammi_lab.core.tenancy import TenantScope
from tests.conftest import descriptors_under, running_threads, settled, writers_under


def test_an_open_file_below_the_folder_is_seen_until_it_is_closed(tmp_path):
    with (tmp_path / "held").open("w"):
        assert [name.rsplit("/", 1)[-1] for name in descriptors_under(tmp_path)] == ["held"]
    assert not descriptors_under(tmp_path)


def test_an_open_file_that_was_removed_is_seen(tmp_path):
    with (tmp_path / "gone").open("w"):
        (tmp_path / "gone").unlink()
        assert descriptors_under(tmp_path)


def test_a_running_thread_is_seen_until_it_ends():
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    before = running_threads()
    thread.start()
    assert running_threads() - before == {thread}
    stop.set()
    assert not settled(lambda: running_threads() - before)


def test_a_writer_of_this_process_is_seen_until_it_retires(tmp_path):
    with Catalog(tmp_path / "catalog.sqlite3", scope=TenantScope(), clock=SystemClock()) as catalog:
        writer = catalog.writers.register()
        assert writers_under(tmp_path) == [
            f"writer {writer} in {tmp_path}",
            f"lock file of {writer} in {tmp_path}",
        ]
        catalog.writers.retire(writer)
        assert not writers_under(tmp_path)


def test_a_new_catalog_is_a_copy_with_all_tables(tmp_path):
    with Catalog(tmp_path / "catalog.sqlite3", scope=TenantScope(), clock=SystemClock()) as catalog:
        assert catalog.database.existed and catalog.database.has_table("catalog_format")
    assert os.listdir(tmp_path) == ["catalog.sqlite3"]


@pytest.mark.own_catalog
def test_a_catalog_of_a_test_with_its_own_is_created_in_the_usual_way(tmp_path):
    with Catalog(tmp_path / "catalog.sqlite3", scope=TenantScope(), clock=SystemClock()) as catalog:
        assert not catalog.database.existed and catalog.database.has_table("catalog_format")
