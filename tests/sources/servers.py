"""What tests of one server have, whose module names it as SERVER."""

import secrets

import pytest

import jammi_lab
from jammi_lab.core.records import SourceRecord
from jammi_lab.core.settings import Settings
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.engine import Engine
from jammi_lab.engine.engine import EngineSourceAccess
from jammi_lab.sources.base import SourceContext
from jammi_lab.sources.registry import connector_for
from tests.services.servers import run_mysql, run_postgres

KINDS = {"postgres": "postgresql", "mysql": "mysql"}
URLS = {"postgresql": "postgres_url", "mysql": "mysql_url"}
RUN = {"postgresql": run_postgres, "mysql": run_mysql}


def as_user(url, user, password=""):
    """The URL for another user."""
    server = url.split("://")[1].rpartition("@")[2]
    return f"{url.split('://')[0]}://{user}{password and ':'}{password}@{server}"


@pytest.fixture
def url(request):
    return request.getfixturevalue(f"{request.module.SERVER}_url")


@pytest.fixture
def sql(request, url):
    """Runs statements on the server."""
    run = RUN[KINDS[request.module.SERVER]]
    return lambda *statements: run(url, *statements)


@pytest.fixture
def table(sql):
    """The name of a table of this test alone; dropped afterwards."""
    name = f"t_{secrets.token_hex(4)}"
    yield name
    sql(f"DROP TABLE IF EXISTS {name} CASCADE")


@pytest.fixture
def ws(tmp_path, url):
    """A workspace that has the server as its source crm."""
    with jammi_lab.open(tmp_path / "ws") as opened:
        opened.sources.add("crm", url)
        yield opened


def connector_of(engine, kind, url, **more):
    record = SourceRecord(**{"name": "s", "kind": kind, "location": url, **more})
    access = EngineSourceAccess(engine, TenantScope())
    return connector_for(record, context=SourceContext(access=access))


@pytest.fixture
def engine(tmp_path):
    made = Engine(Settings(), tmp_path / "spill")
    yield made
    made.close()


@pytest.fixture
def crm(request, engine, url):
    """Its connector."""
    return connector_of(engine, KINDS[request.module.SERVER], url, name="crm")
