"""What a manifest may say: one that lies promotes nothing, is left alone by a rebuild, and stops no
other table."""

import json
import shutil

import pytest

import jammi_lab as jl
from jammi_lab.core.manifest import is_sealed
from jammi_lab.core.verdicts import Damaged, Match, MissingManifest
from jammi_lab.store import manifests
from jammi_lab.store.manifests import manifest_path
from tests.cases import cases
from tests.store.conftest import VENUES
from tests.store.lab import catalog, resealed, row, statuses, unpublish

LIES = dict(cases("results/lies_of_manifests", "of", "lies"))


def tell(path, lies, *, sealed=False):
    """Let a manifest say something else."""
    place = manifest_path(path)
    said = json.dumps(json.loads(place.read_text()) | lies)
    place.write_bytes(resealed(said) if sealed else said.encode())


def test_a_manifest_that_says_what_cannot_be_is_named_by_a_rebuild_and_the_others_come_back(
    lab, folder, table, tmp_path, subtests
):
    path = table.path
    lab.materialize("other", "SELECT 1 AS x")
    lab.close()
    for name, lies, sealed in [
        ("what may be", {"row_count": 77}, False),
        *((name, lies, sealed) for name, lies in LIES.items() for sealed in (False, True)),
    ]:
        with subtests.test(name, sealed=sealed):
            spoilt = tmp_path / f"{name} {sealed}"
            shutil.copytree(folder / "results", spoilt / "results")
            tell(spoilt / path.relative_to(folder), lies, sealed=sealed)
            report = jl.rebuild(spoilt)
            assert (
                report.recipes == ["other"]
                and len(report.unreadable) == 1
                and manifest_path(path).name in report.unreadable[0]
            )
    with jl.open(spoilt) as ws:
        assert [r.name for r in ws.status()] == ["other"]


@pytest.mark.every_case
@pytest.mark.parametrize(
    "lies",
    [*LIES.values(), {}, {"tenant": "acme"}, {"recipe": "another"}, {"version": 2}],
    ids=[*LIES, "only its seal", "tenant", "recipe", "version"],
)
def test_a_manifest_that_was_edited_promotes_nothing(lab, folder, table, reopen, lies):
    path, rows = table.path, table.path.read_bytes()
    tell(path, lies)
    unpublish(folder, table.table_name)
    ws = reopen()
    kept = [each.read_bytes() for each in folder.glob(f"quarantine/{path.name}")]
    assert kept == [rows] * len(ws.recovery.quarantined)
    assert (
        statuses(folder) == {table.table_name: "failed"}
        and [*ws.recovery.failed, *ws.recovery.quarantined] == [table.table_name]
        and ws.recovery.promoted == ws.recovery.errors == []
    )
    assert [r.name for r in ws.status()] == ["venues"]


def test_a_manifest_is_sealed_until_a_bit_of_it_flips(table):
    body = bytearray(manifests.read(table.path))
    assert is_sealed(bytes(body)) and manifests.parse(bytes(body)).encode() == body
    for at in range(len(body)):
        body[at] ^= 1
        assert not is_sealed(bytes(body)), body[max(at - 20, 0) : at + 20]
        body[at] ^= 1


def test_a_table_of_a_recipe_that_was_renamed_meanwhile_is_promoted_under_the_new_name(
    lab, folder, table, reopen
):
    lab.rename("venues", "places")
    unpublish(folder, table.table_name)
    ws = reopen()
    assert ws.recovery.promoted == [table.table_name] and ws.table("places").verify() == Match()


def test_a_manifest_that_is_nested_without_end_counts_as_none(lab, table):
    plain = json.loads(manifest_path(table.path).read_text())
    for depth, sound in ((50, True), (500, False), (5000, False)):
        body = (
            json.dumps(plain)
            .replace(
                '"descriptor": {',
                '"descriptor": {"zzz": ' + '{"a": ' * depth + "1" + "}" * depth + ", ",
                1,
            )
            .encode()
        )
        parsed = manifests.parse(body)
        assert (parsed is not None) == sound
        assert parsed is None or manifests.parse(parsed.encode()) == parsed
    manifest_path(table.path).write_bytes(body)
    # Python 3.13 reads such nesting; then it is a manifest, and not the one that was written.
    assert isinstance(lab.verify("venues"), MissingManifest | Damaged)


def anchored_on(table, name):
    """What its manifest would say had it been made from a recipe."""
    [anchor] = json.loads(manifest_path(table.path).read_text())["anchors"]
    return {
        "anchors": [
            anchor
            | {"kind": "result_digest", "input": anchor["input"] | {"kind": "result", "name": name}}
        ]
    }


@pytest.mark.parametrize("through", ["venues", "VENUES", "top"])
def test_a_manifest_that_closes_a_circle_is_named_by_a_rebuild_and_the_version_before_it_stays(
    lab, folder, table, through
):
    second = lab.materialize("venues", VENUES, cache="bypass")
    lab.materialize("top", "SELECT * FROM jammi.venues")
    lab.materialize("apart", "SELECT 1 AS x")
    third = lab.materialize("venues", VENUES, cache="bypass")
    tell(third.path, anchored_on(third, through), sealed=True)
    lab.close()
    for path in folder.glob("catalog.sqlite3*"):
        path.unlink()
    report = jl.rebuild(folder)
    assert [each.split(": ")[0] for each in report.unreadable] == [
        f"results/_global/{manifest_path(third.path).name}"
    ]
    assert "derive from itself" in report.unreadable[0]
    with jl.open(folder) as ws:
        assert (
            sorted(r.name for r in ws.status()) == ["apart", "top", "venues"]
            and ws.plan() is not None
        )
        assert ws.table("venues").table_name == second.table_name


def test_a_time_in_the_catalog_that_is_none_gives_no_age_and_stops_no_other_table(
    lab, folder, table
):
    lab.materialize("other", "SELECT 1 AS x")
    with catalog(folder) as db:
        db.execute(
            "UPDATE result_tables SET completed_at = ? WHERE table_name = ?",
            ["<b>then</b>", table.table_name],
        )
    assert row(folder, table.table_name)["completed_at"] == "<b>then</b>"
    ages = {each.name: each.age for each in lab.status()}
    assert ages["venues"] is None and ages["other"] >= 0
    assert (
        lab.sql("SELECT name FROM jammi_catalog.status ORDER BY age_seconds").arrow().num_rows == 2
    )
    with pytest.raises(
        jl.errors.TableDamaged, match="invalid time for 'venues' version 1"
    ) as caught:
        lab.export_openlineage(str(folder / "events.ndjson"))
    assert caught.value.table == table.table_name
