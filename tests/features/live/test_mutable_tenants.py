"""Two tenants may have the same table and the same key, and learn nothing of each other; only the
owner drops or writes."""

import pytest

import jammi_lab as jl

SCHEMA = {"id": "int64", "label": "string"}


def rows(ws):
    return ws.sql("SELECT id, label FROM mutable.labels").fetchall()


@pytest.fixture
def lab(ws):
    for tenant, label in ((None, "shared"), ("acme", "acme's"), ("zeta", "zeta's")):
        with ws.tenant(tenant):
            ws.mutable.create("labels", SCHEMA, primary_key=["id"]).insert(
                [{"id": 1, "label": label}]
            )
    return ws


def test_the_same_name_and_key_are_three_tables(lab):
    assert rows(lab) == [(1, "shared")]
    for tenant in ("acme", "zeta"):
        with lab.tenant(tenant):
            assert rows(lab) == [(1, f"{tenant}'s")] and [m.tenant for m in lab.mutable.list()] == [
                tenant
            ]
            lab.mutable["labels"].insert([{"id": 2, "label": tenant}])
            assert lab.mutable["labels"].version == 2
    assert lab.mutable["labels"].version == 1 and rows(lab) == [(1, "shared")]


def test_a_dropped_own_table_uncovers_the_shared_one(lab):
    with lab.tenant("acme"):
        lab.mutable.drop("labels")
        assert rows(lab) == [(1, "shared")]
    with lab.tenant("zeta"):
        assert rows(lab) == [(1, "zeta's")]


def test_what_is_shared_is_read_and_not_written_while_a_tenant_is_bound(ws):
    ws.mutable.create("labels", SCHEMA, primary_key=["id"]).insert([{"id": 1, "label": "shared"}])
    with ws.tenant("acme"):
        held = ws.mutable["labels"]
        assert rows(ws) == [(1, "shared")] and len(held.read()) == 1
        for change in (
            lambda: held.insert([{"id": 2, "label": "x"}]),
            lambda: held.upsert([{"id": 1, "label": "x"}]),
            lambda: held.update({"label": "x"}, "true"),
            lambda: held.delete("true"),
            lambda: ws.sql("DELETE FROM mutable.labels"),
            lambda: ws.sql("INSERT INTO mutable.labels VALUES (5, 'x')"),
            lambda: ws.mutable.drop("labels"),
        ):
            with pytest.raises(jl.TenantForbidden):
                change()
    assert rows(ws) == [(1, "shared")] and ws.mutable["labels"].version == 1
