"""A kind of input from outside: one class and one line."""

import pyarrow as pa

from jammi_lab.core.anchors import Input, Observed, Vanished
from jammi_lab.core.verdicts import Fresh, InputVanished
from jammi_lab.inputs.observation import Kind, Observation, PinnedState
from jammi_lab.sources.base import ReadPlan, Relation
from jammi_lab.sources.frames import frame_snapshot
from tests.inside import services_of

LISTS = {"primes": [2, 3, 5]}


class ListKind(Kind):
    """Lists of numbers, `lists.<name>`."""

    kind, word, schema = "list", "list of numbers", "lists"

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        if parts[0] != self.schema or parts[1] not in LISTS:
            return None
        rows = pa.table({"n": LISTS[parts[1]]})
        token = PinnedState(frame_snapshot(rows))
        return Relation(Input(self.kind, parts[1]), ReadPlan(frame=rows), token=token)

    def observe(self, input: Input, observation: Observation) -> Observed:
        if input.name not in LISTS:
            return Vanished()
        return frame_snapshot(pa.table({"n": LISTS[input.name]}))


def test_a_kind_is_one_class_and_one_line(ws, monkeypatch):
    services = services_of(ws)
    services.add_kind(ListKind())
    ws.materialize("total", "SELECT sum(n) AS total FROM lists.primes")
    assert isinstance(ws.staleness("total"), Fresh)
    assert [(n.kind, n.name) for n in ws.lineage("total").nodes] == [
        ("list", "primes"),
        ("sql", "total"),
    ]
    monkeypatch.setitem(LISTS, "primes", [2, 3, 5, 7])
    assert [r.input.label for r in ws.staleness("total").reasons] == ["primes"]
    ws.recompute("total")
    assert ws.table("total").read().fetchall() == [(17,)]
    monkeypatch.delitem(LISTS, "primes")
    assert isinstance(ws.staleness("total").reasons[0], InputVanished)
