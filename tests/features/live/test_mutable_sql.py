"""INSERT, UPDATE and DELETE on `mutable.*`: what they may read, what they give, what is refused."""

import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.core import cancellable as waiting
from jammi_lab.features.live import dml_commits as changing
from tests.cases import cases
from tests.inside import services_of
from tests.waiting import until

ENDLESS = "UPDATE mutable.labels SET label = (SELECT sum(a.range * b.range) FROM range(1000000) a, range(100000) b)::VARCHAR"


@pytest.fixture
def lab(ws, tmp_path):
    (tmp_path / "papers.csv").write_text("id,venue\n1,NIPS\n2,ICML\n3,ICML\n")
    ws.sources.add("papers", tmp_path / "papers.csv")
    ws.sources.add(
        "frame", pa.table({"id": pa.array([1, 2], pa.int64()), "score": pa.array([0.5, 0.25])})
    )
    ws.materialize("venues", "SELECT venue, count(*) AS n FROM papers GROUP BY venue")
    ws.mutable.create("labels", {"id": "int64", "label": "string"}, primary_key=["id"]).insert(
        [{"id": 1, "label": "a"}, {"id": 2, "label": "b"}]
    )
    ws.mutable.create("other", {"id": "int64", "note": "string"}, primary_key=["id"]).insert(
        [{"id": 2, "note": "from other"}]
    )
    return ws


def now(lab):
    return lab.mutable["labels"].read().fetchall()


A, B = (1, "a"), (2, "b")


@pytest.mark.parametrize(
    ("statement", "count", "after"),
    cases("statements/changes", "statement", "count", "after"),
)
def test_a_change_gives_its_count_and_is_committed_once(lab, statement, count, after):
    params = {"one": 1} if "$one" in statement else {}
    assert lab.sql(statement, params).arrow().to_pydict() == {"Count": [count]}
    assert now(lab) == [tuple(row) for row in after]
    assert lab.mutable["labels"].version == (2 if count else 1)


@pytest.mark.parametrize(
    ("statement", "columns", "answer"),
    [
        ("INSERT INTO mutable.labels VALUES (3, 'c') RETURNING *", ["id", "label"], [(3, "c")]),
        (
            "UPDATE mutable.labels SET label = label || '!' WHERE id = 1 RETURNING label AS l, id * 2 AS twice",
            ["l", "twice"],
            [("a!", 2)],
        ),
        ("DELETE FROM mutable.labels WHERE id = 2 RETURNING label", ["label"], [("b",)]),
    ],
)
def test_returning_gives_what_was_asked_for(lab, statement, columns, answer):
    result = lab.sql(statement)
    assert (result.columns, result.fetchall(), result.version) == (columns, answer, 2)


def test_a_statement_behind_a_change_sees_it_and_one_that_is_forbidden_refuses_all(lab):
    text = "INSERT INTO mutable.labels VALUES (3, 'c'); UPDATE mutable.labels SET label = 'x' WHERE id = 3; SELECT label FROM mutable.labels WHERE id = 3"
    assert lab.sql(text).fetchall() == [("x",)] and lab.mutable["labels"].version == 3
    with pytest.raises(jl.StatementNotAllowed):
        lab.sql("DELETE FROM mutable.labels; COPY papers TO 'x.csv'")
    assert lab.mutable["labels"].version == 3


@pytest.mark.parametrize(
    ("statement", "error", "says"),
    cases("statements/changes_refused", "statement", "error", "says"),
)
def test_what_is_wrong_is_refused_typed_and_changes_nothing(lab, statement, error, says):
    with pytest.raises(getattr(jl.errors, error)) as refused:
        lab.sql(statement)
    assert says in str(refused.value)
    assert now(lab) == [A, B] and lab.mutable["labels"].version == 1


def test_the_place_of_a_mistake_is_marked_in_the_statement(lab):
    with pytest.raises(jl.SqlError) as wrong:
        lab.sql("UPDATE mutable.labels SET label = upper(lable) WHERE id = 1")
    assert wrong.value.excerpt.split("\n")[1].index("^") == len(
        "UPDATE mutable.labels SET label = upper("
    )
    with pytest.raises(jl.TableNotFound) as missing:
        lab.sql("DELETE FROM mutable.labels USING paper p WHERE p.id = labels.id")
    assert missing.value.position == len(
        "DELETE FROM mutable.labels USING "
    ) and missing.value.near == ("papers",)


def test_a_change_is_no_recipe(lab):
    with pytest.raises(jl.StatementNotAllowed):
        lab.materialize("x", "DELETE FROM mutable.labels")
    assert now(lab) == [A, B]


def test_a_change_is_shown_in_a_sentence(lab):
    assert (
        repr(lab.sql("INSERT INTO mutable.labels SELECT id + 10, venue FROM papers"))
        == "3 rows inserted into mutable.labels, version 2"
    )
    assert (
        repr(lab.sql("UPDATE mutable.labels SET label = 'x' WHERE id = 1"))
        == "1 row updated in mutable.labels, version 3"
    )
    assert (
        repr(lab.sql("DELETE FROM mutable.labels WHERE id = 99"))
        == "No rows changed in mutable.labels, version 3"
    )


def test_conditions_and_values_of_methods_are_no_statements_of_their_own(lab):
    labels = lab.mutable["labels"]
    for where in ("true) OR (true", "id = 1; DROP TABLE x", "", None, "id = 1) RETURNING (id"):
        with pytest.raises((jl.StatementNotAllowed, jl.InvalidArgument)):
            labels.delete(where)
    assert (
        labels.update({"label": "'; DELETE FROM mutable.labels --"}, "id = 1 -- only the first")
        == 1
    )
    assert now(lab) == [(1, "'; DELETE FROM mutable.labels --"), B]
    for given in ({}, {"nope": 1}, "label = 1"):
        with pytest.raises((jl.SchemaMismatch, jl.InvalidArgument)):
            labels.update(given, "true")


def test_a_table_that_was_read_moves_and_the_change_is_evaluated_again(lab, monkeypatch):
    commit, others = services_of(lab).mutable.commit, []

    def late(record, change):
        if not others:
            others.append(1)
            lab.mutable["other"].update({"note": "newer"}, "id = 2")
        return commit(record, change)

    monkeypatch.setattr(services_of(lab).mutable, "commit", late)
    lab.sql("UPDATE mutable.labels SET label = note FROM mutable.other o WHERE o.id = labels.id")
    assert now(lab) == [A, (2, "newer")]


def test_an_interrupt_that_comes_long_before_the_query_ends_it_when_it_begins(lab, monkeypatch):
    import _thread
    import threading

    copy, copying, go_on = changing.copy_target, threading.Event(), threading.Event()

    def late(*given, empty, **how):
        if not empty:
            copying.set()
            assert go_on.wait(60)
        copy(*given, empty=empty, **how)

    monkeypatch.setattr(changing, "copy_target", late)
    monkeypatch.setattr(waiting, "STOP_TIMEOUT_SECONDS", 0.05)
    pressing = threading.Thread(target=lambda: copying.wait(60) and _thread.interrupt_main())
    pressing.start()
    with pytest.raises(KeyboardInterrupt):
        lab.sql(ENDLESS)
    pressing.join()
    go_on.set()
    assert until(lambda: "jammi-engine" not in [t.name for t in threading.enumerate()])
    assert now(lab) == [A, B]


def test_an_interrupted_change_leaves_the_table_as_it_was_and_the_next_one_runs(lab):
    import _thread
    import threading

    with pytest.raises(KeyboardInterrupt):
        threading.Timer(0.3, _thread.interrupt_main).start()
        lab.sql(ENDLESS)
    assert now(lab) == [A, B] and lab.mutable["labels"].version == 1
    assert lab.sql("UPDATE mutable.labels SET label = 'x'").fetchall() == [(2,)]
