"""A proxy in front of a server, which can lose its answers."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit


@contextlib.contextmanager
def listening(sends: bytes = b"", *, ends: bool = False) -> Iterator[int]:
    """The port of a server that takes connections, sends these bytes and says nothing more, until
    the block ends; with `ends` it tells that no more will come."""
    held: list[socket.socket] = []

    def take() -> None:
        with contextlib.suppress(OSError):
            while True:
                held.append(server.accept()[0])
                held[-1].sendall(sends)
                if ends:
                    held[-1].shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for line in held:
                line.close()


class Proxy:
    """Passes connections on to a server, until its answers end after some bytes: they are closed,
    or no more is sent."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.ends_after: int | None = None
        self.is_silent = False
        self.sent, self._target, self._closed = (
            0,
            (parts.hostname or "", parts.port or 0),
            threading.Event(),
        )
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        user = f"{parts.username}@" if parts.username else ""
        self.url = urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{self.port}"))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                for ends in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self.sent += len(data) if is_answer else 0
                if is_answer and self.ends_after is not None and self.sent > self.ends_after:
                    if self.is_silent:
                        self._closed.wait()
                    break
                target.sendall(data)
        for connection in (source, target):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
                connection.close()

    def close(self) -> None:
        self._closed.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
