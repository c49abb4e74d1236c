"""What mutable tables are held to, once more with the catalog in PostgreSQL: the tests themselves
are those of a catalog in a file."""

import pytest

import jammi_lab as jl
from jammi_lab.catalog import logs
from tests.features.live.test_live_inputs import (
    live,  # noqa: F401
    test_a_commit_makes_readers_stale_and_recompute_makes_them_fresh,  # noqa: F401
)
from tests.features.live.test_mutable_processes import check_that_two_writers_lose_no_update
from tests.features.live.test_mutable_tables import *  # noqa: F403
from tests.features.live.test_mutable_tenants import (
    test_what_is_shared_is_read_and_not_written_while_a_tenant_is_bound,  # noqa: F401
)
from tests.inside import services_of
from tests.services.servers import catalog_on_a_server  # noqa: F401  of every workspace here
from tests.sizes import contract, repeated

del test_a_catalog_without_room_refuses_what_does_not_fit_typed_and_takes_what_does  # noqa: F821  it fills a file

pytestmark = [contract, repeated, pytest.mark.services, pytest.mark.slow]


def test_a_backup_of_a_server_holds_the_tables_and_their_rows(ws, tmp_path, monkeypatch, labels):
    (tmp_path / "other").mkdir()
    ws.backup(str(tmp_path / "other" / "catalog.sqlite3"))
    labels.delete("true")
    monkeypatch.delenv("JAMMI_CATALOG__URL")
    with jl.open(tmp_path / "other") as other:
        there = other.mutable["labels"]
        assert there.read().fetchall() == [(1, "a"), (2, "b")] and len(there.changes(0)) == 2
        there.insert([{"id": 3}])


@pytest.mark.parametrize("ask", [lambda held: held.read(), lambda held: held.changes(0)])
def test_a_table_that_another_kernel_drops_while_it_is_read_is_gone_and_no_damage(
    ws, tmp_path, monkeypatch, labels, ask
):
    services_of(ws).mutable._folds._cached.clear()  # else the rows are in memory
    with jl.open(tmp_path / "lab") as other:
        own = logs.entries_table

        def dropped(*given):
            monkeypatch.setattr(logs, "entries_table", own)
            other.mutable.drop("labels")
            return own(*given)

        monkeypatch.setattr(logs, "entries_table", dropped)
        with pytest.raises(jl.TableNotFound, match="no longer exists"):
            ask(labels)


def test_two_processes_on_a_server_lose_no_update(ws, tmp_path, start_python):
    check_that_two_writers_lose_no_update(ws, tmp_path, start_python)
