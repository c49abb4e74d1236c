"""There is one tenant predicate, and nothing goes past it."""

import ast
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from jammi_lab.catalog import Catalog
from jammi_lab.catalog import database as direct
from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.logs import NewEntry
from jammi_lab.catalog.schema import metadata, versions
from jammi_lab.catalog.sessions import SessionRecord
from jammi_lab.core.errors import TenantForbidden
from jammi_lab.core.model_records import ModelRecord, Training
from jammi_lab.core.records import SourceRecord, TableStatus
from tests.catalog.conftest import Lab

ROOM = Path(scope.__file__).parent
TENANTED = {table.name for table in metadata.tables.values() if "tenant_id" in table.c}
BEGINNINGS = {"select", "update", "delete", "text"}
ALLOWED = {
    "tenant_scope.py": BEGINNINGS,
    "observations.py": {"delete", "text"},
    "writers.py": {"delete", "update"},  # writers have no tenant
    "lineage.py": {"select"},
}


def test_statements_are_begun_in_the_scope_module_and_nowhere_else() -> None:
    for file in ROOM.glob("*.py"):
        used = {
            node.func.attr
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and ast.unparse(node.func.value) == "sa"
            and node.func.attr in BEGINNINGS
        }
        assert used <= ALLOWED.get(file.name, set()), (
            f"{file.name} begins statements of its own: {used}"
        )


def test_texts_are_handed_to_the_driver_only_where_the_rows_have_no_tenant() -> None:
    for file in ROOM.glob("*.py"):
        called = {
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call)
        }
        assert not called & {"direct.fetch", "direct.execute"} or file.name == "logs.py", file.name


def test_every_statement_that_touches_tenants_rows_carries_the_predicate(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def hearing(run: Callable[..., Any]) -> Callable[..., Any]:
        return lambda tx, text, *given, **how: said.append(text) or run(tx, text, *given, **how)  # type: ignore[func-returns-value]

    monkeypatch.setattr(direct, "fetch", hearing(direct.fetch))
    monkeypatch.setattr(direct, "execute", hearing(direct.execute))

    @sa.event.listens_for(lab.catalog.database.engine, "before_cursor_execute")
    def _hear(_c: object, _cursor: object, statement: str, *_: object) -> None:
        said.append(statement)

    with lab.scope.use("acme"):
        exercise(lab)
    reads = [
        s
        for s in said
        if re.match(r"SELECT|WITH|UPDATE|DELETE", s)
        and any(re.search(rf"\b{name}\b", s) for name in TENANTED)
    ]
    assert len(set(reads)) > 25
    by_writer = [s for s in set(reads) if "tenant_id" not in s]
    # a row in the making belongs to whoever has its writer's id; which writers left something
    # behind is no tenant's affair; a rename follows the node
    assert {re.split(r"\s+(?:SET|FROM)\s", s)[0] for s in by_writer} <= {
        "UPDATE result_tables",
        "SELECT DISTINCT result_tables.writer_id",
        "SELECT result_tables.table_name, result_tables.writer_id",
        "UPDATE lineage",
        "SELECT DISTINCT lineage.input",
    }
    assert all("writer_id" in s or "node_tenant" in s for s in by_writer)


def exercise(lab: Lab) -> None:
    catalog = lab.catalog
    lab.define("top")
    table = lab.ready("top", "source:papers", definition="h")
    lab.ready("reader", table.table_name)
    catalog.table_status.reuse("alias", table.table_name)
    catalog.table_status.mark_failed(lab.begin("top").table_name, lab.writer, "x")
    catalog.table_status.pin("top", 1)
    catalog.table_status.replace_manifest(table.table_name, b"", "d")
    for read in (
        catalog.result_tables.current,
        catalog.result_tables.names,
        catalog.recipes.list,
        catalog.sources.list,
        catalog.lineage.all_edges,
        catalog.writers.suspects,
    ):
        read()
    catalog.result_tables.list(source="papers", model="m", kind="sql", definition="h")
    catalog.result_tables.by_definition("h")
    catalog.result_tables.building("h")
    catalog.result_tables.newest_of_owner("acme", "top")
    catalog.result_tables.manifest(table.table_name)
    catalog.result_tables.with_status(TableStatus.READY, lab.writer)
    catalog.lineage.closure("papers", "down", 2)
    catalog.lineage.closure("reader", "up")
    catalog.sources.put(SourceRecord(name="s", kind="csv", location="x", tenant="acme"))
    catalog.sources.remove("s")
    catalog.recipes.rename("top", "best")
    catalog.recipes.remove("best")
    catalog.table_status.drop_version("alias", 1)
    lab.drop(table)
    catalog.table_status.remove(table.table_name)
    exercise_models(lab)


def exercise_models(lab: Lab) -> None:
    models = lab.catalog.models
    for _ in range(2):
        models.put(ModelRecord(name="m", tenant="acme", digest="d"))
    models.list()
    models.get("m", 1)
    training = Training(output="m", base="m::1", tenant="acme", record_id="r")
    models.add(training)
    models.records()
    models.remove_record(training)
    lab.begin("made", model_key="acme::m::1")
    models.remove("m")
    exercise_what_changes(lab.catalog)


def exercise_what_changes(catalog: Catalog) -> None:
    sessions = catalog.sessions
    for logs in (catalog.topics, catalog.mutable_tables):
        log, _ = logs.create("t", b"", retention=1e-9)
        for _ in range(2):
            logs.append(log, lambda *_: NewEntry(b"", 1, 1))
        logs.set_retention(log, 1.0)
        (logs.get("t"), logs.list(), logs.sizes(log, 0, 1, 1), logs.check(log))
        logs.expire(logs.current(log))
        logs.trim(log, 1)
        logs.compact(logs.current(log), 2, b"", 1)
        logs.drop(log)
    session = SessionRecord(
        session_id="s", tenant="acme", writer_id="w", created_at="then", deadline=None
    )
    sessions.open(session)
    sessions.set_deadline(session, "then")
    (sessions.list(), sessions.get("s", "acme"), sessions.claim(session))
    sessions.mark_partial(session)
    sessions.remove([session])


def test_rows_with_tenants_cannot_be_read_as_if_they_had_none() -> None:
    with pytest.raises(ValueError, match="versions"):
        scope.select_untenanted(versions)


def test_the_admin_switch_is_not_seen_by_other_threads(lab: Lab) -> None:
    seen: list[bool] = []
    with lab.catalog.all_tenants():
        thread = threading.Thread(target=lambda: seen.append(lab.catalog.scope.is_unrestricted))
        thread.start()
        thread.join()
    assert seen == [False]


def test_what_is_shared_is_forbidden_ground_only_while_a_tenant_is_bound(lab: Lab) -> None:
    lab.catalog.scope.check_owner(None, "It")
    with lab.scope.use("acme"):
        lab.catalog.scope.check_owner("acme", "It")
        with pytest.raises(TenantForbidden, match="shared by all tenants"):
            lab.catalog.scope.check_owner(None, "It")
        with pytest.raises(TenantForbidden):
            lab.catalog.scope.check_owner("zeta", "It")
        with lab.catalog.all_tenants():
            lab.catalog.scope.check_owner("zeta", "It")
