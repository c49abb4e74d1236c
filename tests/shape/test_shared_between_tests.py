"""What tests share is put back between them."""

import pytest

import jammi_lab as jl
import jammi_lab.engine.tenant_instances
from tests import instances
from tests.inside import services_of
from tests.templates import Template


def main_of(ws):
    ws.sql("SELECT 1 AS x").fetchall()
    return services_of(ws).engine.instances_of(None).main


@pytest.mark.parametrize(
    "left",
    [
        "CREATE TABLE memory.main.t (x INTEGER)",
        "CREATE VIEW memory.main.v AS SELECT 1 AS x",
        "ATTACH ':memory:' AS another",
        "SET GLOBAL threads = 1",
    ],
)
def test_an_instance_comes_back_unless_something_is_left_in_it(tmp_path, left, monkeypatch):
    monkeypatch.setattr(instances, "idle", [])
    with jl.open(tmp_path / "a", settings={"engine.threads": 3}) as ws:
        main_of(ws)
    assert len(instances.idle) == 1
    with jl.open(tmp_path / "b", settings={"engine.threads": 3}) as ws:
        main = main_of(ws)
        assert not instances.idle
        main.execute(left)
    assert not instances.idle


@pytest.mark.own_instances
def test_a_test_may_have_instances_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(instances, "idle", [])
    with jl.open(tmp_path / "a") as ws:
        main_of(ws)
    assert not instances.idle


def test_a_template_is_put_back_in_its_place():
    built = []

    def build(folder):
        built.append(folder)
        (folder / "a.txt").write_text("a")

    template = Template(build)
    first = template.restore()
    (first / "a.txt").write_text("b")
    (first / "more").mkdir()
    assert template.restore() == first == built[0] and len(built) == 1
    assert [path.name for path in first.iterdir()] == ["a.txt"]
    assert (first / "a.txt").read_text() == "a"
