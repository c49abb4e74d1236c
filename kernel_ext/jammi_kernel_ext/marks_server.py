"""The Jupyter server extension that answers which cells of an open notebook no longer hold: a
WebSocket at `jammi/marks` for each notebook on a page, served by one process (`marks`).

It is part of the server, not of the kernel, so that marks need no kernel: they are right after a
restart, while a cell runs, and before the first one. The page sends the stamps that stand in the
metadata of the outputs; nothing in the notebook is executed.
"""

import asyncio
import contextlib
import itertools
import json
import sys
from asyncio.subprocess import PIPE, Process
from typing import Any

from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import ws_authenticated
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from jupyter_server.utils import ApiPath, to_os_path, url_path_join
from tornado.web import HTTPError
from tornado.websocket import WebSocketClosedError, WebSocketHandler

COMMAND = [sys.executable, "-P", "-m", "jammi_kernel_ext.marks"]
"""The process that checks notebooks. It imports nothing from the folder of the server, which may be
somebody else's."""
MAX_ANSWER_BYTES = 16 << 20
"""The longest line that the process may answer."""


class MarksProcess:
    """The process that checks notebooks. It runs while a page is connected."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._sockets: dict[int, MarksSocket] = {}
        self._starting = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None

    async def send(self, socket: "MarksSocket", request: dict[str, Any]) -> None:
        """Send a request of a page; the process is started for the first one."""
        self._sockets[socket.key] = socket
        async with self._starting:
            if self._process is None:
                self._process = await asyncio.create_subprocess_exec(
                    *COMMAND,
                    stdin=PIPE,
                    stdout=PIPE,
                    limit=MAX_ANSWER_BYTES,
                    start_new_session=True,  # Ctrl+C in the terminal is for the server
                )
                self._reader = asyncio.create_task(self._relay(self._process))
        self._write({**request, "id": socket.key})

    def remove(self, socket: "MarksSocket") -> None:
        """Stop watching the notebook of a page that is gone. The last one ends the process."""
        if self._sockets.pop(socket.key, None) is None or self._process is None:
            return
        self._write({"id": socket.key})
        if not self._sockets and self._process.stdin is not None:
            self._process.stdin.close()
            self._process = None

    def _write(self, request: dict[str, Any]) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")

    async def _relay(self, process: Process) -> None:
        """Pass answers on. When the process ends, pages connect again and start another one."""
        assert process.stdout is not None
        with contextlib.suppress(ValueError):  # a line that is too long
            async for line in process.stdout:
                socket = self._sockets.get(json.loads(line)["id"])
                if socket is not None:
                    with contextlib.suppress(WebSocketClosedError):
                        await socket.write_message(line.decode())
        if self._process is process:
            self._process = None
            for socket in [*self._sockets.values()]:
                socket.close()
        await process.wait()


class MarksSocket(WebSocketMixin, WebSocketHandler, JupyterHandler):
    """The connection of one notebook on a page."""

    auth_resource = "contents"
    _keys = itertools.count(1)

    def initialize(self, process: MarksProcess) -> None:
        """Set the process that serves the connection."""
        self._marks, self.key = process, next(self._keys)

    def set_default_headers(self) -> None:
        """Set no headers of a page."""

    @ws_authenticated
    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Open the connection of a user who may read files."""
        if not await ensure_async(
            self.authorizer.is_authorized(self, self.current_user, "read", "contents")
        ):
            raise HTTPError(403)
        await super().get(*args, **kwargs)

    async def on_message(self, message: str | bytes) -> None:
        """Watch the outputs that the page sent."""
        try:
            request = json.loads(message)
            path, stamps, texts = request["path"], request["stamps"], request.get("texts", [])
            if ".." in path.split("/"):
                raise ValueError("it leads out of the root folder")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self.close(1003, "a message must be a JSON object with path and stamps")
            return
        root = getattr(self.contents_manager, "root_dir", "")
        file = to_os_path(ApiPath(path), root)
        await self._marks.send(self, {"file": file, "stamps": stamps, "texts": texts})

    def on_close(self) -> None:
        """Stop watching the notebook."""
        self._marks.remove(self)
        super().on_close()


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(app: Any) -> None:
    pattern = url_path_join(app.web_app.settings["base_url"], "jammi", "marks")
    app.web_app.add_handlers(".*$", [(pattern, MarksSocket, {"process": MarksProcess()})])
