"""There is one tenant predicate, and nothing goes past it."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jammi_lab.catalog import Catalog, models
from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.connection import AllTenantsStatement, Connection, Statement
from jammi_lab.catalog.logs import NewEntry
from jammi_lab.catalog.schema import TABLES
from jammi_lab.catalog.sessions import SessionRecord
from jammi_lab.core.model_records import ModelRecord, Training
from jammi_lab.core.records import SourceRecord, TableStatus
from tests.catalog.conftest import Lab

ROOM = Path(scope.__file__).parent
TENANTED = {table.name for table in TABLES.values() if "tenant_id" in table.columns}
PREDICATES = (scope.visible, scope.owned_by_reader, scope.owned_by, scope.referring)
DIRECT = {
    "backup.py",  # the rows of all tenants
    "catalog.py",  # no rows
    "database.py",
    "logs.py",  # of entries, which are reached through a record that was found in scope
    "connection.py",
}
OF_ALL_TENANTS = {
    # a row in the making belongs to whoever has its writer's id; which writers left something
    # behind is no tenant's affair; the newest version of a recipe is everybody's
    "table_status": {"_FAIL", "_PUBLISH", "_RECIPES_OF"},
    "writers": {"_UNSETTLED"},
    # a rename follows the node
    "recipes": {"_RENAME"},
    "aliases": {"_READERS_BY_NAME", "_RELEASE_EDGES"},
}


def test_texts_are_run_without_a_statement_only_where_the_rows_have_no_tenant():
    for file in ROOM.glob("*.py"):
        called = {
            node.func.attr
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and ast.unparse(node.func.value) in ("tx", "copy_tx", "self.connection.raw")
        }
        assert not called or file.name in DIRECT, f"{file.name}: {called}"


def all_statements() -> Iterator[tuple[str, str, Statement]]:
    """Every statement of the room, with its module and the name of the constant that holds it."""
    for module in pkgutil.iter_modules([str(ROOM)]):
        loaded = importlib.import_module(f"jammi_lab.catalog.{module.name}")
        for name, constant in vars(loaded).items():
            held = [constant]
            while held:
                each = held.pop()
                if isinstance(each, Statement):
                    yield module.name, name, each
                elif isinstance(each, tuple | list):
                    held += each
                elif isinstance(each, dict) and not name.startswith("__"):
                    held += each.values()
                elif isinstance(each, models._Records):
                    held += vars(each).values()


def of_tenants(text: str) -> list[str]:
    """The names by which a statement reads or changes rows of tenants."""
    found = re.findall(r"\b(?:FROM|JOIN|UPDATE) (\w+)(?: AS (\w+))?", text)
    return [alias or table for table, alias in found if table in TENANTED]


def test_every_statement_over_tenants_rows_has_a_predicate_or_says_that_it_is_over_all():
    statements = [each for _, _, each in all_statements()]
    assert len(statements) > 100
    for statement in statements:
        names = of_tenants(statement.text)
        if names and not isinstance(statement, AllTenantsStatement):
            assert any(
                predicate(name) in statement.text for predicate in PREDICATES for name in names
            ), statement.text


def test_only_these_statements_are_over_all_tenants():
    found: dict[str, set[str]] = {}
    for module, name, statement in all_statements():
        if isinstance(statement, AllTenantsStatement):
            found.setdefault(module, set()).add(name)
    assert found == OF_ALL_TENANTS


def test_every_statement_that_is_run_over_tenants_rows_carries_the_predicate(lab, monkeypatch):
    said: list[str] = []

    def hearing(run: Callable[..., Any]) -> Callable[..., Any]:
        return lambda tx, text, *given: said.append(text) or run(tx, text, *given)  # type: ignore[func-returns-value]

    for name in ("fetch", "execute", "execute_many"):
        monkeypatch.setattr(Connection, name, hearing(getattr(Connection, name)))
    with lab.scope.use("acme"):
        exercise(lab)
    reads = {text for text in said if not text.startswith("INSERT") and of_tenants(text)}
    assert len(reads) > 25
    bare = [text for text in reads if "tenant_id" not in text]
    assert all("writer_id" in text or "node_tenant" in text for text in bare)


def exercise(lab: Lab) -> None:
    catalog = lab.catalog
    lab.define("top")
    table = lab.ready("top", "source:papers", definition="h")
    lab.ready("reader", table.table_name)
    catalog.table_status.reuse("alias", table.table_name)
    catalog.table_status.mark_failed(lab.begin("top").table_name, lab.writer, "x")
    catalog.table_status.pin("top", 1)
    catalog.table_status.replace_manifest(table.table_name, b"")
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
    models = lab.models
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
    sessions.remove([session])
