"""One look: each input once, never for longer than it may take, and no error that is the input's
fault."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from jammi_lab.core.anchors import Input, Observed, Snapshot, Unknown, Vanished, set_key
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.core.redaction import remember_credential
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.inputs.observation import Kind, Observation
from tests.inside import services_of
from tests.waiting import until

if TYPE_CHECKING:
    from jammi_lab.workspace.assembly import Services

SEEN = Snapshot(columns={"id": "BIGINT"}, whole="w", method="digest")


def source(name: str, *columns: str) -> Input:
    return Input("source", name, columns=columns)


@pytest.fixture
def look(ws: Any) -> Callable[..., Observation]:
    services: Services = services_of(ws)

    def make(
        observer: Callable[[Input, Observation], Observed],
        timeout: float = 5.0,
        scope: TenantScope | None = None,
    ) -> Observation:
        kind = Kind()
        kind.observe = observer  # type: ignore[method-assign]
        return Observation(
            {"source": kind},
            scope=scope or services.scope,
            results=services.results,
            cache=services.observation_cache,
            clock=services.clock,
            deep=True,
            timeout=timeout,
        )

    return make


def test_an_input_is_observed_once_whatever_columns_are_asked_of_it(
    look,
):
    asked: list[str] = []
    one = look(lambda i, _: (asked.append(i.name), SEEN)[1])
    one.observe_all([(None, source("a", "x")), (None, source("a", "y")), (None, source("b"))])
    one.observe(source("a", "z"), None)
    one.observe_all([(None, source("a"))])
    assert sorted(asked) == ["a", "b"]


def test_what_a_tenant_sees_is_not_what_another_sees(look, ws):
    scope: TenantScope = services_of(ws).scope
    asked: list[str | None] = []
    one = look(lambda i, _: (asked.append(scope.current), SEEN)[1])
    one.observe_all([("acme", source("a")), (None, source("a")), ("other", source("a"))])
    assert sorted(asked, key=str) == [None, "acme", "other"] or set(asked) == {
        None,
        "acme",
        "other",
    }
    assert scope.current is None


@pytest.mark.parametrize(
    "error", [SourceUnavailable("The server is down."), PermissionError(13, "Permission denied")]
)
def test_what_goes_wrong_outside_is_unknown_with_its_reason(look, error):
    def fail(*_: object) -> Observed:
        raise error

    seen = look(fail).observe(source("a"), None)
    assert isinstance(seen, Unknown)
    assert seen.why in ("The server is down", "a file cannot be read: permission denied")


def test_a_kind_that_nothing_observes_is_unknown(look):
    assert isinstance(look(lambda *_: SEEN).observe(Input(kind="topic", name="t"), None), Unknown)


def test_what_does_not_answer_in_time_is_unknown_and_stays_so_for_this_look(
    look,
):
    go = threading.Event()

    def slow(input: Input, _: Observation) -> Observed:
        if input.name == "slow":
            go.wait(10)
        return SEEN

    one = look(slow, timeout=0.2)
    one.observe_all([(None, source("slow")), (None, source("quick"))])
    go.set()
    assert isinstance(one.observe(source("slow"), None), Unknown)
    assert one.observe(source("quick"), None) == SEEN


def test_what_never_answers_is_not_looked_at_again_before_its_look_ends(
    look,
):
    go, looks = threading.Event(), list[str]()

    def slow(input: Input, _: Observation) -> Observed:
        looks.append(input.name)
        go.wait(20)
        return SEEN

    for _ in range(5):
        one = look(slow, timeout=0.2)
        one.observe_all((None, source(n)) for n in "abcd")
        assert isinstance(one.observe(source("a"), None), Unknown)
    assert sorted(looks) == ["a", "b", "c", "d"]
    go.set()
    until(lambda: not one.cache.unfinished_looks)
    last = look(slow)
    last.observe_all([(None, source("a"))])
    assert last.observe(source("a"), None) == SEEN


def test_one_that_breaks_does_not_hide_the_others(look):
    def fail(input: Input, _: Observation) -> Observed:
        if input.name == "a":
            raise OSError(5, "Input/output error")
        return Vanished()

    one = look(fail)
    one.observe_all((None, source(n)) for n in "abcdefgh")
    assert [type(one.observe(source(n), None)).__name__ for n in "abc"] == [
        "Unknown",
        "Vanished",
        "Vanished",
    ]


def test_a_look_over_many_tables_asks_the_catalog_a_bounded_number_of_times(
    ws, tmp_path, monkeypatch
):
    (tmp_path / "s.csv").write_text("id\n1\n")
    ws.sources.add("s", tmp_path / "s.csv")

    def queries() -> int:
        asked = 0
        database = type(services_of(ws).catalog.database)
        read = database.read

        def counted(self: Any) -> Any:
            nonlocal asked
            asked += 1
            return read(self)

        with monkeypatch.context() as patch:
            patch.setattr(database, "read", counted)
            ws.status()
        return asked

    ws.materialize("t0", "SELECT id FROM s")
    few = queries()
    for n in range(1, 8):
        ws.materialize(f"t{n}", f"SELECT id + {n} AS id FROM jammi.t{n - 1}")
    assert queries() <= few + 1


def test_a_pass_asks_once_for_all_inputs_and_anew_after_a_restart(look):
    records, asked = {"a": 1, "b": 2}, list[set[str]]()

    def find(names):
        asked.append(set(names))
        return dict(records)

    found = list[int | None]()
    one = look(lambda i, observation: (found.append(observation.find(i.name, find)), SEEN)[1])
    inputs = [(None, source(name)) for name in ("a", "b", "B", "gone")]
    one.observe_all(inputs)
    assert asked == [{"a", "b", "B", "gone"}]
    assert sorted(found, key=str) == [1, 2, 2, None]
    records["a"] = 7
    one.restart()
    found.clear()
    one.observe_all(inputs[:1])
    assert found == [7] and asked[1:] == [{"a"}]


def test_what_was_asked_before_a_restart_is_no_answer_after_it(look):
    asks, goes_on = threading.Event(), threading.Event()
    one = look(lambda i, observation: (observation.find(i.name, slow), SEEN)[1], timeout=0.05)

    def slow(_):
        asks.set()
        assert goes_on.wait(10)
        return {"a": "old"}

    one.observe_all([(None, source("a"))])
    assert asks.is_set()
    one.restart()
    goes_on.set()
    until(lambda: not one.cache.unfinished_looks)
    assert one.find("a", lambda _: {"a": "new"}) == "new"


# -- sets of columns -------------------------------------------------------------------------------

COLUMNS = {"a": "BIGINT", "b": "VARCHAR"}


def crm(*columns: str) -> Input:
    return Input("source", "crm", "t", columns)


class Server:
    """Answers with a digest for each set that is wanted, and keeps what was wanted."""

    def __init__(self, state: str = "one") -> None:
        self.asked, self.state = [], state

    def __call__(self, input: Input, look: Observation) -> Snapshot:
        wanted = look.requested_columns(input)
        self.asked.append(wanted)
        return Snapshot(
            columns=COLUMNS,
            whole=self.state,
            method="m",
            by_set={set_key(each): digest_of([self.state, each]) for each in wanted},
            row_count=1,
        )


def test_all_sets_are_asked_for_at_once(look):
    server = Server()
    one = look(server)
    one.observe_all([(None, crm("a")), (None, crm("b")), (None, crm("a", "b")), (None, crm())])
    assert server.asked == [frozenset({("a",), ("b",), ("a", "b"), ()})]
    for columns in (("a",), ("b",), ("a", "b"), ()):
        assert one.observe(crm(*columns), None).anchor(crm(*columns), columns).pinned
    assert len(server.asked) == 1


def test_a_set_that_nobody_wanted_before_is_asked_for_with_the_others(look):
    server = Server()
    one = look(server)
    one.observe(crm("a"), None)
    seen = one.observe(crm("b"), None)
    assert seen.covers(("a",)) and seen.covers(("b",)) and not seen.covers(None)
    assert one.observe(crm(), None, all_columns=True).covers(None)
    assert len(server.asked) == 3


def test_an_anchor_over_columns_that_were_not_looked_at_is_unpinned():
    seen = Snapshot(
        columns=COLUMNS, whole="w", method="m", by_set={set_key(("a",)): "d"}, row_count=1
    )
    assert seen.anchor(crm(), ("a",)).pinned
    assert not seen.anchor(crm(), ("b",)).pinned and not seen.anchor(crm(), ("b",)).same_state(
        seen.anchor(crm(), ("b",))
    )


def test_all_columns_named_or_not_are_the_same_state():
    seen = Snapshot(
        columns=COLUMNS,
        whole="w",
        method="m",
        by_set={"*": "d", set_key(("b", "a")): "d"},
        row_count=1,
    )
    assert seen.anchor(crm(), None).same_state(seen.anchor(crm(), ("b", "a")))


def test_what_was_witnessed_is_not_asked_for_again(look):
    server = Server()
    one = look(server)
    witnessed = Snapshot(
        columns=COLUMNS,
        whole="two",
        method="m",
        by_set={set_key(("a",)): "seen in the transaction"},
        row_count=1,
    )
    one.add_state(crm().identity, None, witnessed)
    assert one.observe(crm("a"), None) is witnessed and server.asked == []


def test_no_credential_stands_in_a_reason(look):
    remember_credential("top-s3cret-word")
    one = look(lambda *_: Unknown("user=me password=top-s3cret-word refused"))
    assert "s3cret" not in one.observe(crm("a"), None).why
