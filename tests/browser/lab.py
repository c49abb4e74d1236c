"""A quiet JupyterLab on loopback and a real browser in front of it."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat

CHROMIUM = (
    os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
SHOTS = os.environ.get("JAMMI_SHOTS")
"""Where pictures are kept, when they are wanted."""
THEMES = ["JupyterLab Light", "JupyterLab Dark"] if SHOTS else ["JupyterLab Light"]
"""Those in which whole stories are run: in another one nothing happens otherwise, and it is looked
at in pictures."""
JUPYTERLAB = "from jupyterlab.labapp import main; main()"
# The panel of that path, its document, its session and its kernel are waited for; the promise
# resolves after the last cell.
RUN_ALL = """async (name) => {
  const begun = Date.now(), nap = (ms) => new Promise((done) => setTimeout(done, ms));
  while (!window.jupyterapp) { if (Date.now() - begun > 60000) return 'no app'; await nap(50); }
  const app = window.jupyterapp; await app.restored;
  let panel;
  while (!(panel = [...app.shell.widgets('main')].find((x) => x.context && x.context.path === name))) {
    if (Date.now() - begun > 90000) return 'no panel'; await nap(50);
  }
  await panel.context.ready; await panel.sessionContext.ready; await panel.sessionContext.session.kernel.info;
  app.shell.activateById(panel.id);
  while (!app.commands.isEnabled('notebook:run-all-cells')) await nap(50);
  await app.commands.execute('notebook:run-all-cells');
  return 'ran';
}"""

# As a person closes every tab and puts the areas back; what is unsaved is lost.
CLEAR = """() => {
  const app = window.jupyterapp;
  for (const widget of [...app.shell.widgets('main')]) {
    if (widget.context) widget.context.model.dirty = false;
    widget.dispose();
  }
  app.shell.mode = 'multiple-document';
  app.shell.expandLeft();
  return document.querySelector('.jp-Dialog') === null;
}"""
# An empty lab shows its launcher, which goes when there is a notebook.
OPEN = """async path => {
  const { commands, shell } = window.jupyterapp;
  await commands.execute('docmanager:open', {path});
  for (const widget of [...shell.widgets('main')]) if (!widget.context) widget.dispose();
}"""
CLOSED = ("Disposed", "Canceled future")
"""How the lab reports a question that was open when its notebook was closed."""
NO_SESSION = "Cannot read properties of null (reading 'kernel')"
"""What the lab's own scripts say when the message that a kernel has ended arrives after its
notebook was closed."""

PAPERS = """import jammi_lab as jl
ws = jl.open("lab")
with open("papers.csv", "w") as f: _ = f.write("id,title,topic\\n1,graph networks,ml\\n2,sourdough bread,food\\n3,deep networks,ml\\n")
ws.sources.add("papers", "papers.csv")
ws.materialize("ml", "SELECT * FROM papers WHERE topic = 'ml'")
ws.materialize("counted", "SELECT topic, count(*) AS n FROM jammi.ml GROUP BY ALL")
_ = ws.embed("vectors", "SELECT id::VARCHAR AS id, title FROM papers", key="id", text="title", model="hashing")"""
"""A cell that makes a workspace `ws` with three papers, two tables and vectors."""


def settings(theme: str) -> dict[str, dict[str, object]]:
    """No news, no autosave, that theme, and every cell in the page, also those out of sight."""
    return {
        "@jupyterlab/apputils-extension:notification": {
            "fetchNews": "false",
            "checkForUpdates": False,
            "doNotDisturbMode": True,
        },
        "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
        "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
        "@jupyterlab/apputils-extension:themes": {"theme": theme, "adaptive-theme": False},
    }


@contextlib.contextmanager
def server(root: Path, state: Path, theme: str) -> Iterator[tuple[str, str]]:
    """A server over `root`, isolated from the user's settings: its address and token."""
    (state / "cfg" / "labconfig").mkdir(parents=True)
    (state / "cfg" / "labconfig" / "default_setting_overrides.json").write_text(
        json.dumps(settings(theme))
    )
    places = {
        "JUPYTER_CONFIG_DIR": "cfg",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "run",
        "IPYTHONDIR": "ipython",
    }
    places |= {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
    env = (
        os.environ
        | {name: str(state / folder) for name, folder in places.items()}
        | {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    )
    env.pop("JUPYTER_NO_CONFIG", None)  # any value makes jupyter ignore the overrides above
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token, address = secrets.token_hex(16), f"http://127.0.0.1:{port}"
    log = state / "lab.log"
    flags = [
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
    ]
    flags += [
        f"--ServerApp.root_dir={root}",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    flags += ["--LabApp.extension_manager=readonly", "--LabApp.expose_app_in_browser=True"]
    with log.open("wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-c", JUPYTERLAB, *flags],
            env=env,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _await(address, token, server, log)
        yield address, token
    finally:
        os.killpg(
            server.pid, signal.SIGTERM
        )  # the server's own process group: its kernels end with it
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:  # a busy machine: what is tested is over
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(20)


class Lab:
    """A running server and a browser's context in which it answers and nothing else does. The tests
    of a session share it and its page, whose loading takes 7 s of processor time; each has a folder
    of its own.

    Requests are watched and not routed: routes turn the browser's cache off."""

    def __init__(self, browser: Any, root: Path, address: str, token: str) -> None:
        self.folder = root
        self.context = browser.new_context()
        self.root, self._address, self._token = root, address, token
        self._refused: list[str] = []
        self._broken: list[str] = []
        self.context.on("request", self._note_request)
        self.context.on("weberror", lambda error: self._note_error(error.error))

    @contextlib.contextmanager
    def for_one_test(self, name: str) -> Iterator["Lab"]:
        """With an empty folder; at the end its pages and kernels are gone, nobody else was asked,
        and no script broke."""
        self.folder = self.root / name
        self.folder.mkdir()
        try:
            yield self
        finally:
            self._clear_page()
            self.context.clear_permissions()
            for session in json.loads(self._request("GET", "sessions")):
                self._request("DELETE", f"sessions/{session['id']}")
            refused, broken = self._refused[:], self._broken[:]
            self._refused.clear()
            self._broken.clear()
        assert (refused, broken) == ([], []), (refused, broken)

    def open(self, name: str, *, width: int, height: int, run: bool = True) -> Any:
        """The page, at that size, with no other than this notebook of the folder on it, and all its
        cells run."""
        self._clear_page()
        if self.context.pages:
            page = self.context.pages[0]
            page.set_viewport_size({"width": width, "height": height})
            page.evaluate(OPEN, f"{self.folder.name}/{name}")
        else:
            page = self.context.new_page()
            page.set_viewport_size({"width": width, "height": height})
            place = f"{self.folder.name}/{name}"
            page.goto(f"{self._address}/lab/tree/{place}?token={self._token}&reset")
        if run:
            self.run_all(page, name)
        return page

    def run_all(self, page: Any, name: str) -> None:
        """Run all cells of a notebook that is open on the page."""
        assert page.evaluate(RUN_ALL, f"{self.folder.name}/{name}") == "ran"

    def _clear_page(self) -> None:
        """Leave the page as it was when it was loaded, or none."""
        for page in self.context.pages:
            try:
                clear = page.evaluate(CLEAR)
            except Exception:  # crashed, or the lab has not started in it
                clear = False
            if not clear:
                page.close()

    def _note_request(self, request: Any) -> None:
        if not request.url.startswith((self._address, "data:", "blob:")):
            self._refused.append(request.url)

    def _note_error(self, error: Any) -> None:
        text = str(error).removeprefix("Error: ")
        stack = error.stack or ""
        ours = "jammi" in stack or "blob:" in stack  # the extension, a panel's module
        if not text.startswith(CLOSED) and (ours or NO_SESSION not in text):
            self._broken.append(f"{text}\n{error.stack}")

    def _request(self, method: str, what: str) -> bytes:
        request = urllib.request.Request(
            f"{self._address}/api/{what}",
            method=method,
            headers={"Authorization": f"token {self._token}"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bytes(answer.read())


def press(part: Any) -> None:
    """Click on a part of a panel, also on one behind "…"."""
    part.evaluate("e => { const menu = e.closest('.jammi-more'); if (menu) menu.open = true; }")
    part.click()


def picture(page: Any, name: str, theme: str) -> None:
    """Keep a picture of the page, when pictures are wanted."""
    if SHOTS:
        page.wait_for_timeout(300)
        page.screenshot(path=str(Path(SHOTS) / f"{name}-{theme.rpartition(' ')[2].lower()}.png"))


def written(path: Path, cells: Sequence[str], tags: Sequence[str] = ()) -> None:
    """A notebook of these cells."""
    book = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(c, metadata={"tags": list(tags)} if tags else {})
            for c in cells
        ]
    )
    book.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    nbformat.write(book, path)


def _await(address: str, token: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(600):
        if server.poll() is not None:
            raise RuntimeError(log.read_text())
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{address}/api/status?token={token}", timeout=1) as answer,
        ):
            answer.read()
            return
        time.sleep(0.1)
    raise RuntimeError("the lab did not answer: " + log.read_text())
