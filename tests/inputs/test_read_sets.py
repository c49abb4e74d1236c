"""A look asks a source once for all the sets of columns that are wanted of it."""

from jammi_lab.core.anchors import Input, Snapshot, Unknown, set_key
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.clock import SystemClock
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.inputs.observation import Kind, Observation

COLUMNS = {"a": "BIGINT", "b": "VARCHAR"}


class Memo:
    unfinished_looks = set[object]()

    def flush(self) -> None:
        pass


def looking(observe) -> Observation:
    kind = Kind()
    kind.observe = observe
    return Observation(
        {"source": kind},
        scope=TenantScope(),
        results=None,
        cache=Memo(),
        clock=SystemClock(),
        deep=True,
        timeout=5,
    )


def source(*columns: str) -> Input:
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


def test_all_sets_are_asked_for_at_once():
    server = Server()
    look = looking(server)
    look.observe_all(
        [(None, source("a")), (None, source("b")), (None, source("a", "b")), (None, source())]
    )
    assert server.asked == [frozenset({("a",), ("b",), ("a", "b"), ()})]
    for columns in (("a",), ("b",), ("a", "b"), ()):
        assert look.observe(source(*columns), None).anchor(source(*columns), columns).pinned
    assert len(server.asked) == 1


def test_a_set_that_nobody_wanted_before_is_asked_for_with_the_others():
    server = Server()
    look = looking(server)
    look.observe(source("a"), None)
    seen = look.observe(source("b"), None)
    assert seen.covers(("a",)) and seen.covers(("b",)) and not seen.covers(None)
    assert look.observe(source(), None, all_columns=True).covers(None)
    assert len(server.asked) == 3


def test_an_anchor_over_columns_that_were_not_looked_at_is_unpinned():
    seen = Snapshot(
        columns=COLUMNS, whole="w", method="m", by_set={set_key(("a",)): "d"}, row_count=1
    )
    assert seen.anchor(source(), ("a",)).pinned
    assert not seen.anchor(source(), ("b",)).pinned and not seen.anchor(
        source(), ("b",)
    ).same_state(seen.anchor(source(), ("b",)))


def test_all_columns_named_or_not_are_the_same_state():
    seen = Snapshot(
        columns=COLUMNS,
        whole="w",
        method="m",
        by_set={"*": "d", set_key(("b", "a")): "d"},
        row_count=1,
    )
    assert seen.anchor(source(), None).same_state(seen.anchor(source(), ("b", "a")))


def test_what_was_witnessed_is_not_asked_for_again():
    server = Server()
    look = looking(server)
    witnessed = Snapshot(
        columns=COLUMNS,
        whole="two",
        method="m",
        by_set={set_key(("a",)): "seen in the transaction"},
        row_count=1,
    )
    look.add_state(source().identity, None, witnessed)
    assert look.observe(source("a"), None) is witnessed and server.asked == []


def test_no_credential_stands_in_a_reason():
    from jammi_lab.core import redaction as scrubbing

    scrubbing.remember_credential("top-s3cret-word")
    look = looking(lambda *_: Unknown("user=me password=top-s3cret-word refused"))
    assert "s3cret" not in look.observe(source("a"), None).why
