"""Servers that are lost in the middle, and what else may listen on a port."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import pytest

import jammi_lab
from jammi_lab.core.errors import SourceUnavailable
from tests.services.servers import run_mysql, run_postgres

pytestmark = pytest.mark.services


class Proxy:
    """Passes connections on to a server; with `is_failing`, its answers end after 100 kB."""

    def __init__(self, host: str, port: int) -> None:
        self.is_failing, self.sent, self._target = False, 0, (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                for pair in ((client, server), (server, client)):
                    threading.Thread(
                        target=self._pump, args=(*pair, pair[0] is server), daemon=True
                    ).start()

    def _pump(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self.sent += len(data) if is_answer else 0
                if self.is_failing and is_answer and self.sent > 100_000:
                    break
                target.sendall(data)
        for connection in (source, target):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
                connection.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture(params=["postgresql", "mysql"])
def proxied(request, tmp_path) -> Iterator[tuple[jammi_lab.Workspace, Proxy, str]]:
    kind = request.param
    url = request.getfixturevalue("postgres_url" if kind == "postgresql" else "mysql_url")
    run = run_postgres if kind == "postgresql" else run_mysql
    rows = "generate_series(1, 100000) AS i" if kind == "postgresql" else "seq_1_to_100000"
    number = "i" if kind == "postgresql" else "seq"
    run(
        url,
        "DROP TABLE IF EXISTS lost",
        f"CREATE TABLE lost AS SELECT {number} AS id FROM {rows}",
    )
    parts = urlsplit(url)
    proxy = Proxy(parts.hostname or "", parts.port or 0)
    user = f"{parts.username}@" if parts.username else ""
    there = urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{proxy.port}"))
    with jammi_lab.open(tmp_path / "ws") as ws:
        ws.sources.add("s", there)
        yield ws, proxy, "SELECT id FROM s.lost"
        proxy.close()
    run(url, "DROP TABLE lost")


def test_a_server_that_is_lost_during_a_materialization_is_named(proxied):
    ws, proxy, statement = proxied
    proxy.sent, proxy.is_failing = 0, True
    with pytest.raises(
        SourceUnavailable, match=r"cannot be read.*(connection was lost|answer could not be read)"
    ) as raised:
        ws.materialize("t", statement)
    assert "file" not in str(raised.value)


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_bytes_of_another_program_are_a_typed_error(tmp_path, kind):
    listener, clients = socket.create_server(("127.0.0.1", 0)), list[socket.socket]()

    def answer() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                clients.append(client)
                client.sendall(b"\xff\xfe\x80garbage\xc3\x28" * 20)
                client.shutdown(socket.SHUT_WR)
                client.recv(4096)
                client.close()

    threading.Thread(target=answer, daemon=True).start()
    # the client of MariaDB waits on for the rest of a packet
    with jammi_lab.open(tmp_path / "ws", settings={"look.timeout_seconds": 3}) as ws:
        port = listener.getsockname()[1]
        with pytest.raises(SourceUnavailable):
            ws.sources.add("s", f"{kind}://u@127.0.0.1:{port}/d")
        for client in clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
