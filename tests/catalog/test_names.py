"""Sources, recipes, the memo and notes: small rows by name."""

import pytest

from jammi_lab.core.errors import DuplicateTable, SourceExists, TableNotFound, TenantForbidden
from jammi_lab.core.records import SourceRecord
from jammi_lab.storage.digests import CacheEntry
from jammi_lab.storage.files import Stat


def source(name: str, tenant: str | None = None, **fields: object) -> SourceRecord:
    return SourceRecord(name=name, kind="csv", location="a.csv", tenant=tenant, **fields)  # type: ignore[arg-type]


def test_a_source_reads_back_as_it_was(lab):
    put = lab.sources.put(
        source(
            "Größe",
            options={"delimiter": ";", "n": [1, None]},
            anchor="column:x",
            secret="ENV",
            tenant_column="t",
        )
    )
    assert put.created_at
    assert lab.sources.get("GRÖSSE") == put
    assert lab.sources.list() == [put]


def test_a_source_is_replaced_only_when_asked(lab):
    lab.sources.put(source("papers"))
    with pytest.raises(SourceExists, match="papers"):
        lab.sources.put(source("PAPERS"))
    assert lab.sources.put(source("PAPERS"), replace=True).name == "PAPERS"
    assert [s.name for s in lab.sources.list()] == ["PAPERS"]


def test_a_tenants_source_hides_a_shared_one_and_nobody_elses(lab):
    lab.sources.put(source("papers"))
    with lab.scope.use("acme"):
        own = lab.sources.put(source("Papers", "acme"))
        assert lab.sources.get("papers") == own
        assert lab.sources.list() == [own]
    with lab.scope.use("zeta"):
        assert lab.sources.get("papers").tenant is None
    with lab.all_tenants():
        assert len(lab.sources.list()) == 2


def test_removing_a_source_takes_the_own_one_and_never_a_shared_one(lab):
    lab.sources.put(source("papers"))
    with lab.scope.use("acme"):
        lab.sources.put(source("papers", "acme"))
        assert lab.sources.remove("PAPERS")
        with pytest.raises(TenantForbidden):
            lab.sources.remove("papers")
        with pytest.raises(TenantForbidden):
            lab.sources.put(source("new"))
    assert lab.sources.remove("papers")
    assert not lab.sources.remove("papers")


def test_an_equal_definition_changes_nothing_and_another_keeps_spelling_and_age(lab):
    first = lab.define("Top", "a")
    assert lab.define("TOP", "a") == first
    changed = lab.define("top", "b")
    assert (changed.name, changed.created_at, changed.definition_hash) == (
        "Top",
        first.created_at,
        "b",
    )
    assert lab.recipes.get("tOP") == changed
    assert lab.recipes.list() == [changed]


def test_a_recipe_made_anew_after_its_end_counts_from_one(lab):
    lab.define("top")
    table = lab.ready("top")
    lab.drop(table)
    assert lab.recipes.remove("TOP")
    assert lab.ready("top").version == 1
    assert not lab.recipes.remove("top")


def test_a_renamed_recipe_keeps_its_versions_and_its_count(lab):
    lab.define("top")
    lab.ready("top")
    lab.ready("top")
    lab.recipes.rename("TOP", "Best")
    assert lab.result_tables.newest("top") is None
    assert [(v.recipe, v.version) for v, _ in lab.result_tables.versions("best")] == [
        ("Best", 2),
        ("Best", 1),
    ]
    assert lab.ready("best").version == 3
    assert lab.ready("top").version == 1


def test_a_recipe_can_be_spelt_otherwise(lab):
    lab.define("top")
    lab.ready("top")
    lab.recipes.rename("top", "TOP")
    assert lab.result_tables.newest("top")[0].recipe == "TOP"


def test_a_rename_needs_an_own_recipe_and_a_free_name(lab):
    lab.define("top")
    lab.define("best")
    with pytest.raises(DuplicateTable):
        lab.recipes.rename("top", "BEST")
    with pytest.raises(TableNotFound):
        lab.recipes.rename("none", "x")
    with lab.scope.use("acme"), pytest.raises(TenantForbidden):
        lab.recipes.rename("top", "x")


def test_a_shared_recipe_that_an_own_one_hides_is_not_listed(lab):
    lab.define("top")
    with lab.scope.use("acme"):
        own = lab.define("TOP")
        assert lab.recipes.list() == [own]


def entry(size: int) -> CacheEntry:
    return CacheEntry(
        stat=Stat(size=size, mtime_ns=1, ctime_ns=2, inode=3),
        observed_at_ns=4,
        payload={"whole": "x", "rows": 5},
    )


def test_the_memo_keeps_the_latest_entry_of_each_key(lab):
    lab.observations.put_many({"a": entry(1), "b": entry(2)})
    lab.observations.put("a", entry(3))
    assert lab.observations.get("a") == entry(3)
    assert lab.observations.get("c") is None
    assert lab.observations.load() == {"a": entry(3), "b": entry(2)}


def test_a_read_only_catalog_reads_the_memo_and_adds_nothing(lab, open_catalog):
    lab.observations.put("a", entry(1))
    catalog = open_catalog(read_only=True)
    catalog.observations.put("b", entry(2))
    assert list(catalog.observations.load()) == ["a"]


def test_an_unbuilt_recipe_is_removed_and_one_that_is_built_is_not(lab):
    lab.define("top")
    definition = lab.recipes.get("top").definition_hash
    lab.begin("top")
    assert not lab.recipes.remove_unbuilt("top", definition)
    lab.define("other")
    assert lab.recipes.remove_unbuilt("other", definition)
    assert lab.recipes.get("other") is None
