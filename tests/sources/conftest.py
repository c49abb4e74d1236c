"""Fixtures that tests of several servers share."""

from collections.abc import Iterator

import pytest

from jammi_lab.sources.databases.server import ServerConnector
from tests.services.stores import Web, web_server


@pytest.fixture
def site() -> Iterator[Web]:
    """A web server whose answers a test shapes."""
    with web_server() as site:
        yield site


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The queries that a server is asked."""
    queries: list[str] = []
    make = ServerConnector.query_by_server

    def query_by_server(connector: ServerConnector, sql: str) -> str:
        queries.append(sql)
        return make(connector, sql)

    monkeypatch.setattr(ServerConnector, "query_by_server", query_by_server)
    return queries
