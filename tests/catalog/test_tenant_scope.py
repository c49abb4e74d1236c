"""There is one tenant predicate, and nothing goes past it."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

from jammi_lab.catalog import models, result_tables
from jammi_lab.catalog import tenant_scope as scope
from jammi_lab.catalog.connection import AllTenantsStatement, Statement
from jammi_lab.catalog.schema import TABLES

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
    """Every statement of the room, with its module and the name of the constant that holds it; of
    those that are made for some filters the one with none and the one with all."""
    for filters in ((), tuple(result_tables._FILTERS)):
        yield "result_tables", "_listing", result_tables._listing(filters)
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
