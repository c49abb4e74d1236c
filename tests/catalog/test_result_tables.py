"""What a name means, and to whom."""

import pytest

from jammi_lab.core.records import TableStatus
from tests.catalog.conftest import Lab


def names(pairs: list) -> list[tuple[str, int]]:
    return [(v.recipe, v.version) for v, _ in pairs]


def test_a_tenants_own_name_hides_a_shared_one(lab: Lab) -> None:
    shared = lab.ready("top")
    with lab.scope.use("acme"):
        assert lab.catalog.result_tables.newest("top")[1] == shared
        own = lab.ready("Top")
        assert own.version == 1
        assert lab.catalog.result_tables.newest("top")[1] == own
        assert lab.catalog.result_tables.version("top", 1)[1] == own
        assert lab.catalog.result_tables.current() == [
            (lab.catalog.result_tables.version("top", 1)[0], own)
        ]
    assert lab.catalog.result_tables.newest("top")[1] == shared


def test_an_own_recipe_that_was_never_computed_hides_a_shared_one_too(lab: Lab) -> None:
    lab.ready("top")
    with lab.scope.use("acme"):
        lab.define("TOP")
        assert lab.catalog.result_tables.newest("top") is None
        assert lab.catalog.result_tables.current() == []


def test_an_own_attempt_that_failed_hides_nothing(lab: Lab) -> None:
    shared = lab.ready("top")
    with lab.scope.use("acme"):
        begun = lab.begin("top")
        lab.catalog.table_status.mark_failed(begun.table_name, lab.writer, "x")
        assert lab.catalog.result_tables.newest("top")[1] == shared


def test_without_a_tenant_only_shared_rows_are_seen(lab: Lab) -> None:
    with lab.scope.use("acme"):
        own = lab.ready("top", definition="h")
    assert lab.catalog.result_tables.newest("top") is None
    assert lab.catalog.result_tables.list() == []
    assert lab.catalog.result_tables.names() == []
    assert lab.catalog.result_tables.get(own.table_name) is None


def test_candidates_for_reuse_are_this_tenants_alone(lab: Lab) -> None:
    shared = lab.ready("top", definition="h")
    newer = lab.ready("top", definition="h")
    with lab.scope.use("acme"):
        assert lab.catalog.result_tables.by_definition("h") == []
        assert lab.catalog.result_tables.building("h") is None
    assert lab.catalog.result_tables.by_definition("h") == [newer, shared]


def test_everyone_sees_all_rows_in_its_block_and_in_no_other(lab: Lab) -> None:
    shared = lab.ready("top")
    with lab.scope.use("acme"):
        own = lab.ready("mine")
    with lab.catalog.all_tenants():
        assert {t.table_name for t in lab.catalog.result_tables.with_status(TableStatus.READY)} == {
            shared.table_name,
            own.table_name,
        }
        assert lab.drop(own)
    assert lab.catalog.result_tables.with_status(TableStatus.READY) == [shared]
    with pytest.raises(KeyError), lab.catalog.all_tenants():
        raise KeyError
    assert not lab.catalog.scope.is_unrestricted


def test_newest_of_one_owner_does_not_depend_on_who_is_bound(lab: Lab) -> None:
    with lab.scope.use("acme"):
        own = lab.ready("top")
    shared = lab.ready("top")
    assert lab.catalog.result_tables.newest_of_owner("acme", "TOP")[1] == own
    assert lab.catalog.result_tables.newest_of_owner(None, "TOP")[1] == shared


def test_a_list_has_one_entry_per_version_newest_first(lab: Lab) -> None:
    table = lab.ready("a")
    lab.ready("b", "a")
    lab.catalog.table_status.reuse("c", table.table_name)
    assert names(lab.catalog.result_tables.list()) == [("c", 1), ("b", 1), ("a", 1)]


def test_a_list_is_narrowed_by_status_source_model_and_definition(lab: Lab) -> None:
    lab.ready("a", "source:Papers", definition="h", source_id="Papers", model_id="m")
    lab.ready("b", "a")
    begun = lab.begin("a")
    lab.catalog.table_status.mark_failed(begun.table_name, lab.writer, "x")
    tables = lab.catalog.result_tables
    assert names(tables.list(status="failed")) == [("a", 2)]
    assert names(tables.list(status=None)) == [("a", 2), ("b", 1), ("a", 1)]
    assert names(tables.list(source="papers")) == [("a", 1)]
    assert names(tables.list(source="A")) == [("b", 1)]
    assert names(tables.list(model="m")) == [("a", 1)]
    assert names(tables.list(definition="h")) == [("a", 1)]
    assert tables.list(kind="embedding") == []


def test_current_is_the_newest_ready_version_of_each_recipe_by_name(lab: Lab) -> None:
    lab.ready("b")
    lab.ready("B")
    lab.ready("a")
    lab.begin("a")
    assert names(lab.catalog.result_tables.current()) == [("a", 1), ("b", 2)]
    found = lab.catalog.result_tables.current(["a", "b"])
    assert found == lab.catalog.result_tables.current()  # rows one by one, and by column


@pytest.mark.parametrize(
    "name",
    ["%", "_", "\\", 'quo"te', "apo'str", "new\nline", "é" * 150, "a.b", "; DROP TABLE versions"],
)
def test_hostile_names_are_only_names(lab: Lab, name: str) -> None:
    lab.ready("other")
    lab.ready(name)
    assert lab.catalog.result_tables.newest(name)[0].recipe == name
    assert len(lab.catalog.result_tables.versions(name)) == 1
