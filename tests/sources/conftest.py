"""Fixtures that tests of several servers share."""

import pytest

from jammi_lab.sources.databases.server import ServerConnector


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
