"""Models in the catalog: keys, versions, what refers to one, and the delete that nothing slips
past."""

import msgspec
import pytest

from jammi_lab.core.errors import ModelNotFound, ModelReferenced, TenantForbidden
from jammi_lab.core.model_records import Evaluation, ModelRecord, Reference, Training
from tests.catalog.conftest import Lab


def put(
    lab: Lab,
    name: str = "mine",
    digest: str | None = "d1",
    version: int | None = None,
    **fields: object,
) -> ModelRecord:
    record = msgspec.structs.replace(
        ModelRecord(name=name, tenant=lab.scope.current, digest=digest), **fields
    )
    return lab.models.put(record, version)


def trained(lab: Lab, output: str, base: str, record_id: str = "t") -> Training:
    record = Training(
        output=output, base=base, tenant=lab.scope.current, record_id=record_id, created_at="1"
    )
    lab.models.add(record)
    return record


def evaluated(lab: Lab, key: str, record_id: str = "e") -> Evaluation:
    record = Evaluation(
        model=key,
        metrics={"ndcg": 0.5, "recall": 1},
        tenant=lab.scope.current,
        record_id=record_id,
        created_at="2",
    )
    lab.models.add(record)
    return record


def refusal(lab: Lab, name: str = "mine", version: int | None = None) -> ModelReferenced:
    with pytest.raises(ModelReferenced) as caught:
        lab.models.remove(name, version)
    return caught.value


# -- registering -----------------------------------------------------------------------------------


def test_two_tenants_and_everybody_have_the_same_name_and_version_side_by_side(lab):
    put(lab, digest="s")
    for tenant in ("acme", "zeta"):
        with lab.scope.use(tenant):
            put(lab, digest=tenant)
    with lab.scope.use("acme"):
        assert [m.digest for m in lab.models.list()] == ["s", "acme"]


def test_a_new_version_follows_the_highest_one_and_not_the_number_of_versions(lab):
    put(lab, version=7)
    assert put(lab, digest="d2").version == 8


def test_a_name_alone_registered_again_is_the_same_version_and_never_one_with_weights(
    lab,
):
    put(lab, digest="d1")
    assert [put(lab, digest=None).version for _ in range(2)] == [2, 2]


def test_registering_a_key_again_replaces_what_describes_it_and_clears_what_is_absent(
    lab,
):
    put(lab, type="llm", backend="http", task="classify", base="parent", config={"a": 1})
    again = put(lab, type="lora", backend="files", task="embed")
    assert (again.type, again.backend, again.task, again.base, again.config) == (
        "lora",
        "files",
        "embed",
        None,
        None,
    )
    assert lab.models.get("mine") == again


def test_registering_again_keeps_status_and_age(lab):
    first = put(lab)
    again = put(lab, base="x")
    assert (again.status, again.created_at) == (first.status, first.created_at)
    assert first.created_at


# -- looking up ------------------------------------------------------------------------------------


def test_models_are_listed_in_the_order_in_which_they_were_registered(lab):
    for n, name in enumerate(("zebra", "ant", "moth")):
        put(lab, name, created_at=f"2026-01-0{n + 1}")
    assert [m.name for m in lab.models.list()] == ["zebra", "ant", "moth"]


def test_a_record_survives_the_catalog_as_it_is(lab, open_catalog):
    full = put(
        lab,
        dimensions=3,
        artifact="a",
        artifact_digest="x",
        base="b",
        config={"Größe": [1, None]},
        type="t",
        backend="u",
        task="v",
    )
    assert open_catalog().models.get("mine") == full  # type: ignore[attr-defined]


# -- what refers to a model ------------------------------------------------------------------------


def test_tables_and_outputs_refer_to_every_version_and_bases_and_evaluations_to_one(
    lab,
):
    one, two = put(lab, version=1), put(lab, version=2)
    lab.ready("vectors", model_id="mine")
    trained(lab, "mine", "x::1", "t1")
    trained(lab, "child", one.key, "t2")
    evaluated(lab, two.key)
    assert [r.edge for r in lab.models.references(one)] == [
        "result_tables",
        "training_output",
        "training_base",
    ]
    assert [r.edge for r in lab.models.references(two)] == [
        "result_tables",
        "training_output",
        "evaluation",
    ]


def test_ready_and_building_tables_count_and_failed_and_deleting_ones_do_not(lab):
    put(lab)
    lab.begin("building", model_id="mine")
    lab.ready("ready", model_id="mine")
    failed = lab.begin("failed", model_id="mine")
    lab.table_status.mark_failed(failed.table_name, lab.writer, "no")
    lab.drop(lab.ready("deleting", model_id="mine"))
    assert refusal(lab).references == [
        Reference("result_tables", "building", 1),
        Reference("result_tables", "ready", 1),
    ]


def test_a_table_that_spells_the_model_otherwise_refers_to_it_too(lab):
    put(lab, "Größe")
    lab.ready("vectors", model_id="GRÖSSE")
    lab.ready("vectors", model_id="größe")
    assert refusal(lab, "größe").references == [Reference("result_tables", "vectors", 2)]


def test_a_renamed_recipe_is_named_as_it_is_called_now(lab):
    put(lab)
    lab.define("old")
    lab.ready("old", model_id="mine")
    lab.recipes.rename("old", "new")
    assert refusal(lab).references == [Reference("result_tables", "new", 1)]


def test_names_that_are_patterns_refer_to_nothing_but_themselves(lab):
    for name in ("m%", "m_ne", "m'", 'm"', "m\\"):
        put(lab, name)
    lab.ready("vectors", model_id="mine")
    trained(lab, "mine", "mine::1")
    for name in ("m%", "m_ne", "m'", 'm"', "m\\"):
        assert lab.models.remove(name) is not None


# -- tenants ---------------------------------------------------------------------------------------


def test_every_tenants_references_protect_a_shared_model_as_a_number_without_names(
    lab,
):
    model = put(lab)
    lab.ready("shared", model_id="mine")
    for tenant in ("acme", "zeta"):
        with lab.scope.use(tenant):
            lab.ready(f"secret_{tenant}", model_id="mine")
            trained(lab, f"secret_{tenant}", model.key, tenant)
            evaluated(lab, model.key, tenant)
    error = refusal(lab)
    assert error.references == [
        Reference("result_tables", None, 3),
        Reference("training_base", None, 2),
        Reference("evaluation", None, 2),
    ]
    assert "secret" not in str(error)
    assert "acme" not in str(error)


def test_other_tenants_references_neither_keep_nor_name_a_tenants_own_model(lab):
    with lab.scope.use("zeta"):
        lab.ready("vectors", model_id="mine")
        trained(lab, "mine", "acme::mine::1", "z")
        evaluated(lab, "acme::mine::1", "z")
    lab.ready("vectors", model_id="mine")
    with lab.scope.use("acme"):
        put(lab)
        assert lab.models.remove("mine") is not None


def test_another_tenants_record_is_not_there_to_forget_and_a_shared_one_is_forbidden(
    lab,
):
    with lab.scope.use("acme"):
        record = trained(lab, "a", "b::1", "acme")
    shared = trained(lab, "a", "b::1", "shared")
    with lab.scope.use("zeta"):
        assert lab.models.records() == [shared]
        assert not lab.models.remove_record(record)
        with pytest.raises(TenantForbidden):
            lab.models.remove_record(shared)
    with lab.scope.use("acme"):
        assert lab.models.remove_record(record)


# -- beginning and deleting at once ----------------------------------------------------------------


def test_a_tenant_begins_with_its_own_and_shared_models_and_with_nobody_elses(lab):
    shared = put(lab)
    with lab.scope.use("zeta"):
        other = put(lab)
    with lab.scope.use("acme"):
        lab.begin("a", model_key=shared.key)
        with pytest.raises(ModelNotFound):
            lab.begin("b", model_key=other.key)
