"""INSERT, UPDATE and DELETE on `mutable.*`: what they may read, what they give, what is refused."""

import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.core import cancellable as waiting
from jammi_lab.features.live import dml_commits as changing
from tests.inside import services_of

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
    [
        ("INSERT INTO mutable.labels VALUES (3, 'c')", 1, [A, B, (3, "c")]),
        ("insert into Mutable.LABELS (label, id) values ('c', 3), (DEFAULT, 4)", 2, [A, B, (3, "c"), (4, None)]),
        ("INSERT INTO mutable.labels BY NAME SELECT 3 AS id", 1, [A, B, (3, None)]),
        ("INSERT INTO mutable.labels SELECT id + 10, venue FROM papers WHERE id = $one", 1, [A, B, (11, "NIPS")]),
        ("INSERT INTO mutable.labels (SELECT 3, 'c')", 1, [A, B, (3, "c")]),
        ("INSERT INTO mutable.labels FROM (VALUES (3, 'c'))", 1, [A, B, (3, "c")]),
        ("INSERT INTO mutable.labels SELECT id + 10, label FROM mutable.labels", 2, [A, B, (11, "a"), (12, "b")]),
        ("INSERT INTO mutable.labels VALUES (1, 'x'), (3, 'c') ON CONFLICT DO NOTHING", 1, [A, B, (3, "c")]),
        ("INSERT INTO mutable.labels VALUES (1, 'x'), (3, 'c') ON CONFLICT (id) DO UPDATE SET label = excluded.label", 2, [(1, "x"), B, (3, "c")]),
        ("INSERT INTO mutable.labels AS l SELECT id, venue FROM papers ON CONFLICT (id) DO UPDATE SET label = l.label || excluded.label WHERE l.id = 1", 2, [(1, "aNIPS"), B, (3, "ICML")]),
        ("INSERT INTO mutable.labels WITH p AS (SELECT id + 10 AS id, venue FROM papers) SELECT * FROM p WHERE id = 12", 1, [A, B, (12, "ICML")]),
        ("UPDATE mutable.labels SET label = upper(label)", 2, [(1, "A"), (2, "B")]),
        ("UPDATE mutable.labels AS l SET label = p.venue FROM papers p WHERE p.id = l.id AND l.id = $one", 1, [(1, "NIPS"), B]),
        ("UPDATE mutable.labels SET label = v.n::VARCHAR FROM papers JOIN jammi.venues v USING (venue) WHERE papers.id = labels.id", 2, [(1, "1"), (2, "2")]),
        ("UPDATE mutable.labels SET label = note FROM mutable.other o WHERE o.id = labels.id", 1, [A, (2, "from other")]),
        ("UPDATE mutable.labels SET label = f.score::VARCHAR FROM frame f WHERE f.id = labels.id", 2, [(1, "0.5"), (2, "0.25")]),
        ("UPDATE mutable.labels SET label = DEFAULT WHERE label IS DISTINCT FROM 'a'", 1, [A, (2, None)]),
        ("UPDATE mutable.labels SET label = (id IS DISTINCT FROM 1)::VARCHAR", 2, [(1, "false"), (2, "true")]),
        ("UPDATE mutable.labels SET label = (SELECT max(label) FROM mutable.labels)", 2, [(1, "b"), B]),
        ("UPDATE mutable.labels SET label = 'from where set returning'", 2, [(1, "from where set returning"), (2, "from where set returning")]),
        ("UPDATE mutable.public.labels SET label = 'x' WHERE id = 1", 1, [(1, "x"), B]),
        ("DELETE FROM mutable.labels WHERE id IN (SELECT id FROM papers WHERE venue = 'ICML')", 1, [A]),
        ("DELETE FROM mutable.labels USING papers p WHERE p.id = labels.id AND p.venue = 'NIPS'", 1, [B]),
        ("DELETE FROM mutable.labels", 2, []),
        ("DELETE FROM mutable.labels WHERE id = 99", 0, [A, B]),
        ("-- a comment: SET x\nUPDATE /* FROM y */ mutable.labels SET label = 'x' -- WHERE\nWHERE id = 1;", 1, [(1, "x"), B]),
    ],
)  # fmt: skip
def test_a_change_gives_its_count_and_is_committed_once(lab, statement, count, after):
    params = {"one": 1} if "$one" in statement else {}
    assert lab.sql(statement, params).arrow().to_pydict() == {"Count": [count]}
    assert now(lab) == after
    assert lab.mutable["labels"].version == (1 if after == [A, B] else 2)


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
    [
        ("TRUNCATE mutable.labels", jl.StatementNotAllowed, "DELETE FROM"),
        ("MERGE INTO mutable.labels USING papers p ON p.id = labels.id WHEN MATCHED THEN DELETE", jl.StatementNotAllowed, "ON CONFLICT"),
        ("CREATE TABLE mutable.x (id INT)", jl.StatementNotAllowed, "CREATE"),
        ("DROP TABLE mutable.labels", jl.StatementNotAllowed, "DROP"),
        ("UPDATE mutable.labels SET id = id + 1", jl.StatementNotAllowed, "key"),
        ("INSERT INTO mutable.labels VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET id = 9", jl.StatementNotAllowed, "key"),
        ("UPDATE mutable.labels SET lable = 'x'", jl.SqlError, "label"),
        ("UPDATE mutable.labels SET label = nope", jl.SqlError, "nope"),
        ("UPDATE mutable.lables SET label = 'x'", jl.TableNotFound, "mutable.labels"),
        ("UPDATE papers SET venue = 'x'", jl.StatementNotAllowed, "papers"),
        ("DELETE FROM jammi.venues", jl.StatementNotAllowed, "venues"),
        ("INSERT INTO jammi_catalog.mutable_tables VALUES ('x', 1, 1, NULL)", jl.StatementNotAllowed, "mutable_tables"),
        ("INSERT INTO mutable.labels SELECT 3, current_setting('threads')", jl.StatementNotAllowed, "current_setting"),
        ("DELETE FROM mutable.labels WHERE getenv('HOME') = label", jl.StatementNotAllowed, "getenv"),
        ("UPDATE mutable.labels SET label = content FROM read_text('/etc/passwd')", jl.StatementNotAllowed, "read_text"),
        ("DELETE FROM mutable.labels RETURNING current_setting('threads')", jl.StatementNotAllowed, "current_setting"),
        ("INSERT INTO mutable.labels SELECT 3, name FROM duckdb_secrets()", jl.StatementNotAllowed, "duckdb_secrets"),
        ("WITH x AS (SELECT 'a' h) DELETE FROM mutable.labels USING x WHERE h = label", jl.StatementNotAllowed, "subquer"),
        ("INSERT OR REPLACE INTO mutable.labels VALUES (1, 'x')", jl.StatementNotAllowed, "ON CONFLICT"),
        ("INSERT INTO mutable.labels VALUES ('x', 'y')", jl.SqlError, "INT64"),
        ("INSERT INTO mutable.labels VALUES (1, 2, 3)", jl.SqlError, ""),
        ("INSERT INTO mutable.labels (id, nope) VALUES (1, 2)", jl.SqlError, "nope"),
        ("INSERT INTO mutable.labels DEFAULT VALUES", jl.SqlError, "DEFAULT"),
        ("INSERT INTO mutable.labels VALUES (2, 'x')", jl.DuplicateKey, "2"),
        ("INSERT INTO mutable.labels VALUES (3, 'x'), (3, 'y')", jl.DuplicateKey, "3"),
        ("UPDATE mutable.labels SET (label) = ('x')", jl.StatementNotAllowed, "UPDATE"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_typed_and_changes_nothing(lab, statement, error, says):
    with pytest.raises(error) as refused:
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
    import time

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
    until = time.monotonic() + 60
    while (
        running := [t.name for t in threading.enumerate() if t.name == "jammi-engine"]
    ) and time.monotonic() < until:
        time.sleep(0.02)
    assert running == [] and now(lab) == [A, B]


def test_an_interrupted_change_leaves_the_table_as_it_was_and_the_next_one_runs(lab):
    import _thread
    import threading

    with pytest.raises(KeyboardInterrupt):
        threading.Timer(0.3, _thread.interrupt_main).start()
        lab.sql(ENDLESS)
    assert now(lab) == [A, B] and lab.mutable["labels"].version == 1
    assert lab.sql("UPDATE mutable.labels SET label = 'x'").fetchall() == [(2,)]
