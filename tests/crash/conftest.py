"""A server that forks children to be killed."""

from collections.abc import Iterator

import pytest

from tests.crash.check import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"))
    yield running
    running.close()
