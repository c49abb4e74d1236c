"""What may stand in a manifest's place, and what comes of it."""

import json
import os
from pathlib import Path

import msgspec
import pytest

from jammi_lab.core.errors import ManifestUnsupported, TableDamaged
from jammi_lab.core.verdicts import Damaged, Fresh, Mismatch, MissingManifest
from jammi_lab.store import manifests
from tests.store.lab import resealed


@pytest.fixture
def body(table):
    return manifests.read(table.path)


def with_field(body, name, value):
    return json.dumps({**json.loads(body), name: value}).encode()


HOSTILE = {
    "empty": lambda b: b"",
    "truncated": lambda b: b[: len(b) // 2],
    "not json": lambda b: b"\x00\xff" + b,
    "utf-16": lambda b: b.decode().encode("utf-16"),
    "a byte order mark": lambda b: b"\xef\xbb\xbf" + b,
    "deep nesting": lambda b: b"[" * 100_000 + b"]" * 100_000,
    "deep nesting inside": lambda b: with_field(b, "descriptor", 0).replace(
        b'"descriptor": 0', b'"descriptor": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000
    ),
    "NaN": lambda b: b.replace(b'"row_count": 2', b'"row_count": NaN'),
    "infinity": lambda b: with_field(b, "seconds", float("inf")),
    "a key twice": lambda b: b.replace(b'"row_count": 2', b'"row_count": 2, "row_count": 3'),
    "a 10 MB array": lambda b: b"[" + b"1," * 5_000_000 + b"1]",
    "larger than any manifest": lambda b: b + b" " * (17 << 20),
    "a list": lambda b: b"[]",
    "null": lambda b: b"null",
}


EDITED = {
    "another value": lambda b: with_field(b, "produced_by", "somebody else"),
    "a number beyond a double": lambda b: with_field(b, "seconds", 0).replace(
        b'"seconds": 0', b'"seconds": 1e400'
    ),
    "a lone surrogate": lambda b: with_field(b, "recipe", "x").replace(
        b'"recipe": "x"', b'"recipe": "\\ud800"'
    ),
    "an array of 1 MB inside": lambda b: with_field(b, "leaves", [1] * 300_000),
    "another type": lambda b: with_field(b, "row_count", "two"),
    "a field too few": lambda b: json.dumps(
        {k: v for k, v in json.loads(b).items() if k != "artifact"}
    ).encode(),
    "a version that is true": lambda b: with_field(b, "manifest_version", True),
}


@pytest.mark.every_case
@pytest.mark.parametrize("how", HOSTILE)
def test_what_is_no_manifest_counts_as_lost_and_never_raises(lab, table, body, how):
    assert manifests.parse(body) is not None
    manifests.manifest_path(table.path).write_bytes(changed := HOSTILE[how](body))
    assert changed != body
    assert manifests.parse(manifests.read(table.path)) is None
    assert table.verify() == MissingManifest()
    assert table.manifest.encode() == body
    assert isinstance(table.staleness(), Fresh)


@pytest.mark.parametrize("version", [0, 2, 99, "1", None, [1], 1.5])
def test_a_manifest_of_an_unknown_version_is_a_typed_error(lab, table, body, version):
    manifests.manifest_path(table.path).write_bytes(with_field(body, "manifest_version", version))
    with pytest.raises(ManifestUnsupported):
        table.verify()


@pytest.mark.every_case
@pytest.mark.parametrize("how", EDITED)
def test_an_edited_manifest_is_damaged_in_verdict_status_and_verify_alike(lab, table, body, how):
    manifests.manifest_path(table.path).write_bytes(changed := EDITED[how](body))
    damage = Damaged(found=manifests.digest(changed), what="manifest")
    assert table.verify() == lab.verify("venues") == damage
    assert table.staleness() == lab.staleness("venues") == damage
    assert lab.status()["venues"].verdict == damage
    lab.recover()
    assert lab.fsck().damaged == lab.fsck(repair=True).damaged == [table.table_name]
    assert manifests.read(table.path) == changed  # never healed silently
    assert lab.recompute().executed == ["venues"] and lab.staleness("venues") == Fresh()


def test_a_whole_manifest_of_another_state_is_a_mismatch_of_the_manifest(lab, table, body):
    other = msgspec.structs.replace(manifests.parse(body), produced_by="somebody else")
    manifests.manifest_path(table.path).write_bytes(changed := other.encode_sealed())
    assert table.verify() == Mismatch(manifests.digest(body), manifests.digest(changed), "manifest")
    assert isinstance(lab.staleness("venues"), Damaged)


def test_a_descriptor_that_no_call_could_give_is_damage_and_the_table_is_still_displayed(
    table, body
):
    forged = json.loads(body)
    forged["descriptor"]["params"] = [1]
    manifests.manifest_path(table.path).write_bytes(resealed(json.dumps(forged)))
    with pytest.raises(TableDamaged):
        _ = table.manifest
    assert "venues" in table._repr_mimebundle_()[0]["text/plain"]


@pytest.mark.parametrize("put", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("elsewhere")])
def test_a_folder_a_pipe_or_a_link_in_a_manifests_place_is_a_lost_one(lab, table, body, put):
    path = manifests.manifest_path(table.path)
    path.unlink()
    path.with_name("elsewhere").write_bytes(body)
    put(path)
    assert table.verify() == MissingManifest() and isinstance(lab.staleness("venues"), Fresh)
    assert lab.fsck().missing == ["results/_global/" + path.name]
    assert str(path) not in [
        os.readlink(each) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()
    ]
    assert table.read().arrow().num_rows == 2


def test_the_manifest_names_the_package_and_the_run_outside_the_hash(lab, table, body):
    manifest = table.manifest
    assert manifest.engine_version and manifest.produced_by and manifest.produced_at.endswith("Z")
    assert manifest.recomputed_hash() == manifest.definition_hash == table.definition_hash
    other = json.loads(with_field(body, "engine_version", "9.9"))
    assert manifests.parse(json.dumps(other).encode()).recomputed_hash() == table.definition_hash
