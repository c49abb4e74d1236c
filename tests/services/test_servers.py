"""The servers that other tests use are there, and their databases come and go."""

import duckdb
import pytest

from tests.services import servers
from tests.services.servers import in_database, no_service, run_mysql, run_postgres

pytestmark = pytest.mark.services


def test_a_session_has_a_database_of_its_own_on_postgresql(postgres_url, fresh_postgres_url):
    assert run_postgres(
        postgres_url, "CREATE TABLE t (x int)", "INSERT INTO t VALUES (1)", "SELECT x FROM t"
    ) == [(1,)]
    assert run_postgres(fresh_postgres_url, "SELECT to_regclass('t')") == [(None,)]
    run_postgres(postgres_url, "DROP TABLE t")


def test_a_session_has_a_database_of_its_own_on_mysql(mysql_url, mysql_server):
    own = mysql_url.rsplit("/", 1)[-1]
    run_mysql(mysql_url, "CREATE TABLE t (x int)")
    with pytest.raises(duckdb.Error, match="already exists"):
        run_mysql(mysql_server, f"CREATE TABLE {own}.t (x int)")
    run_mysql(mysql_server, f"DROP TABLE {own}.t")


@pytest.mark.only_soak
@pytest.mark.parametrize("name", ["postgres", "mysql"])
def test_a_server_is_started_from_what_is_installed_when_none_listens(name):
    own, answers = getattr(servers, f"_own_{name}"), getattr(servers, f"_{name}_answers")
    try:
        with own() as url:
            assert answers(url)
    except servers.NoServer as why:
        no_service(str(why))
    assert not answers(url), "it ends with its block"


def test_a_missing_server_is_a_skip_with_a_word_and_a_failure_where_servers_are_required(
    monkeypatch,
):
    monkeypatch.delenv("JAMMI_REQUIRE_SERVICES", raising=False)
    with pytest.raises(pytest.skip.Exception, match="nothing listens"):
        no_service("nothing listens")
    monkeypatch.setenv("JAMMI_REQUIRE_SERVICES", "1")
    with pytest.raises(pytest.fail.Exception, match="nothing listens"):
        no_service("nothing listens")


def test_the_url_of_another_database_keeps_user_host_and_port():
    assert (
        in_database("postgresql://a:b@h:1/x?sslmode=disable", "y")
        == "postgresql://a:b@h:1/y?sslmode=disable"
    )
