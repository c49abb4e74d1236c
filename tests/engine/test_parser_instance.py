"""The instance that reads text is one for all workspaces of a process, and is replaced when it
cannot be used any more."""

import os
import signal

import duckdb
import pytest

from jammi_lab.core.errors import SqlError
from jammi_lab.engine import duckdb_instances as duck
from jammi_lab.engine import duckdb_instances as parser
from jammi_lab.engine.duckdb_messages import invalidates_instance
from jammi_lab.sources.scratch_duckdb import SharedInstance


@pytest.fixture
def opened(monkeypatch):
    """The instances that are opened, from none on."""
    made = []

    def open_parser(open_one=duck.open_parser):
        made.append(open_one())
        return made[-1]

    monkeypatch.setattr(parser, "_parser", SharedInstance(open_parser, invalidates_instance))
    yield made
    for one in made:
        one.close()


def asked():
    return parser.with_parser(lambda connection: connection.cursor().execute("SELECT 1").fetchall())


@pytest.mark.parametrize("told", [True, False], ids=["in our words", "as it is"])
def test_one_that_has_failed_is_left_and_the_next_text_is_read_by_another(opened, told):
    def fail(connection):
        try:
            raise duckdb.InternalException(
                "INTERNAL Error: Attempted to access index 1 within vector of size 1"
            )
        except duckdb.Error:
            if told:
                raise SqlError("It failed.") from None
            raise

    assert asked() == [(1,)]
    with pytest.raises(SqlError if told else duckdb.InternalException):
        parser.with_parser(fail)
    assert asked() == [(1,)] and len(opened) == 2


def test_a_forked_child_opens_its_own_while_another_thread_of_the_parent_reads(opened):
    assert asked() == [(1,)]
    with parser._parser._lock:  # as a thread would hold it at that moment
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            os._exit(0 if asked() == [(1,)] and len(opened) == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(opened) == 1
