"""What a relation needs beside its body: extensions, an attached database; made ready before, taken
away after."""

import threading
import time
from pathlib import Path

import duckdb
import pytest

from jammi_lab.core.anchors import source_input
from jammi_lab.core.errors import ExtensionMissing, SourceUnavailable
from jammi_lab.engine import Engine, attachments
from jammi_lab.sources import duckdb_extensions as extensions
from jammi_lab.sources.base import (
    Attachment,
    Consistency,
    ReadPlan,
    Relation,
    Requirements,
    attachment_key,
)
from tests import processes


def needing(attachment: Attachment) -> Relation:
    """A relation that needs an attached database."""
    return Relation(source_input(""), requirements=Requirements(attachment=attachment))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "it's.duckdb"
    with duckdb.connect(str(path)) as owner:
        owner.execute("CREATE TABLE t AS SELECT range AS i FROM range(100000)")
    return path


def attachment(file: Path, **how: object) -> Attachment:
    return Attachment(
        attachment_key(None, "crm"), "duckdb", path=str(file), **{"persistent": False, **how}
    )  # type: ignore[arg-type]


def relation(attached: Attachment, witness: object = None, **how: object) -> Relation:
    body = f'SELECT * FROM {attached.alias}."main"."t"'
    return Relation(
        source_input("crm"),
        ReadPlan(body=body),
        requirements=Requirements(attachment=attached),
        consistency=Consistency(witness=witness),  # type: ignore[arg-type]
        **how,  # type: ignore[arg-type]
    )


def attached_now(engine: Engine) -> list[str]:
    rows = (
        engine.instances_of(None)
        .main.cursor()
        .execute("SELECT database_name FROM duckdb_databases() WHERE NOT internal")
        .fetchall()
    )
    return [name for (name,) in rows if name != "memory"]


def owner_can_write(file: Path) -> bool:
    """Whether another process could: a second attachment of one process would be let in."""
    import sys

    write = f"import duckdb; duckdb.connect({str(file)!r}).execute('INSERT INTO t VALUES (-1)')"
    return (
        processes.run([sys.executable, "-c", write], capture_output=True, check=False).returncode
        == 0
    )


def test_an_attached_file_is_described_and_queried_and_nothing_of_it_stays(engine, shelf, file):
    crm = attachment(file)
    assert engine.describe(relation(crm)) == {"i": "BIGINT"}
    assert engine.query(f"SELECT count(*) FROM {crm.alias}.main.t", requirement=relation(crm)) == [
        (100000,)
    ]
    assert attached_now(engine) == []


def test_a_statement_attaches_and_is_read_to_its_end_before_its_call_returns(
    engine, shelf, prepare, file
):
    shelf.put("crm", relation=relation(attachment(file)))
    stream = prepare("SELECT i FROM crm").run()
    assert attached_now(engine) == [], "the call returned while the file was held"
    assert owner_can_write(file)
    assert sum(batch.num_rows for batch in stream.batches()) == 100000


def test_two_statements_share_an_attachment_and_the_last_one_lets_go(engine, shelf, prepare, file):
    shelf.put("crm", relation=relation(attachment(file)))
    first = prepare("SELECT i FROM crm, range(20)").run_ordered()
    second = prepare("SELECT -i AS j FROM crm, range(20)").run_ordered()
    assert len(attached_now(engine)) == 3  # two namespaces, one file
    first.close()
    assert next(second.batches()).num_rows
    second.close()
    assert attached_now(engine) == []


def test_a_lasting_attachment_stays_until_its_key_is_forgotten(engine, file):
    crm = attachment(file, persistent=True)
    engine.describe(relation(crm))
    assert attached_now(engine) == [crm.alias]
    engine.detach("another key")
    assert attached_now(engine) == [crm.alias]
    engine.detach(crm.key)
    assert attached_now(engine) == []


def test_another_tenant_s_instance_has_no_attachment(engine, file):
    crm = attachment(file, persistent=True)
    engine.describe(relation(crm), "acme")
    assert attached_now(engine) == []
    with pytest.raises(SourceUnavailable):
        engine.query(f"SELECT * FROM {crm.alias}.main.t")


def test_no_statement_can_name_an_attachment(engine, shelf, prepare, file):
    crm = attachment(file, persistent=True)
    shelf.put("crm", relation=relation(crm))
    prepare("SELECT i FROM crm LIMIT 1").run().close()
    for at in (f"{crm.alias}.main.t", f"{crm.alias}.t", "duckdb_databases()", "duckdb_secrets()"):
        with pytest.raises(Exception, match=r"There is no table|cannot be read"):
            prepare(f"SELECT * FROM {at}")
    engine.detach(crm.key)


def test_a_secret_is_made_with_quotes_and_never_shown():
    crm = Attachment("k", "postgres", secret={"PASSWORD": "it's; DROP SECRET x"})
    assert "DROP" not in repr(crm) and "DROP" not in crm.alias
    assert crm.alias != Attachment("k", "postgres", secret={"PASSWORD": "other"}).alias


def test_what_a_reach_asks_is_one_transaction(engine, file):
    crm = attachment(file)
    with duckdb.connect() as other:
        assert other is not None
    asked = engine.run(
        needing(crm), lambda query: query("SELECT txid_current()") + query("SELECT txid_current()")
    )
    assert asked[0] == asked[1]
    assert attached_now(engine) == []


def test_a_question_without_an_answer_ends_in_time_and_the_next_statement_works(engine, file):
    crm = attachment(file)
    started = time.monotonic()
    with pytest.raises(SourceUnavailable, match=r"does not respond within 0\.3 s"):
        engine.run(
            needing(crm),
            lambda query: query(
                f"SELECT sum(a.i * b.i) FROM {crm.alias}.main.t a, {crm.alias}.main.t b"
            ),
            timeout=0.3,
        )
    assert time.monotonic() - started < 3
    assert engine.query("SELECT 1") == [(1,)]


def test_who_does_not_answer_four_questions_is_asked_no_fifth_until_it_does(engine, file):
    crm, answer = attachment(file), threading.Event()
    try:
        for number in range(attachments.MAX_UNANSWERED_QUERIES):
            assert engine.run(needing(crm), lambda query: query("SELECT 2"), timeout=30) == [
                (2,)
            ], f"after {number} that is only busy with them is asked on"
            with pytest.raises(SourceUnavailable, match="does not respond within"):
                engine.run(needing(crm), lambda query: answer.wait(200) and [], timeout=0.1)
        started = time.monotonic()
        with pytest.raises(SourceUnavailable, match=r"The server does not respond\."):
            engine.run(needing(crm), lambda query: [], timeout=5)
        assert time.monotonic() - started < 3
        assert engine.query("SELECT 1") == [(1,)], "the instance itself still works"
    finally:
        answer.set()
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            assert engine.run(needing(crm), lambda query: query("SELECT 2"), timeout=5) == [(2,)]
            break
        except SourceUnavailable:
            time.sleep(0.02)
    while attached_now(engine) and time.monotonic() < until:
        time.sleep(0.02)
    assert attached_now(engine) == []


def test_the_state_is_witnessed_in_the_transaction_that_read_the_rows(engine, shelf, prepare, file):
    def witness(query, columns):
        return (columns, query("SELECT txid_current()"))

    shelf.put("crm", relation=relation(attachment(file), witness=witness))
    witnesses: dict = {}
    stream = prepare("SELECT i + 1 AS j FROM crm WHERE i < 10").run_ordered(
        observed_states=witnesses
    )
    assert len(stream.table()) == 10
    assert witnesses[("source", "crm", "")][0] == ("i",)


def test_what_the_connector_says_of_a_failure_is_what_is_raised(engine, file, tmp_path):
    gone = attachment(tmp_path / "gone.duckdb")
    said = SourceUnavailable("The file went away.")
    with pytest.raises(SourceUnavailable, match="The file went away"):
        engine.describe(
            relation(gone, explain=lambda text: said if "gone.duckdb" in text else None)
        )
    assert attached_now(engine) == []


@pytest.mark.parametrize("name", sorted(extensions.EXTRAS))
def test_a_missing_extension_names_the_extra_that_installs_it(engine, monkeypatch, name):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(
        ExtensionMissing, match=rf'pip install "jammi-lab\[{extensions.EXTRAS[name]}\]"'
    ):
        engine.describe(
            Relation(
                source_input("x"),
                ReadPlan(body="SELECT 1 AS x"),
                requirements=Requirements(extensions=(name,)),
            )
        )


def test_what_is_taken_away_goes_though_an_interrupt_meant_for_its_question_comes_late(file):
    class Interrupted:
        """A connection on which the first three statements of each kind are interrupted."""

        def __init__(self, connection):
            self.connection, self.times = connection, {}

        def execute(self, statement):
            self.times[statement] = self.times.get(statement, 0) + 1
            if self.times[statement] <= 3:
                raise duckdb.InterruptException("INTERRUPT Error: Interrupted!")
            return self.connection.execute(statement)

    crm = attachment(file)
    with duckdb.connect() as connection:
        attachments.attach.attach(connection, crm)
        attachments.attach.detach(Interrupted(connection), crm)
        assert connection.execute(
            "SELECT count(*) FROM duckdb_databases() WHERE NOT internal"
        ).fetchall() == [(1,)]
