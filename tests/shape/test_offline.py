"""Everything about vectors runs with the network cut off."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHILD = """
import socket, sys

if sys.argv[1] == "patched":
    def refused(*_, **__):
        raise OSError("the network is cut off")
    socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refused
try:
    socket.create_connection(("192.0.2.1", 80), timeout=5)
except TimeoutError:
    raise SystemExit("the network is not cut off")
except OSError:
    pass

import jammi_lab as jl

with jl.open("lab") as ws:
    texts = "SELECT * FROM (VALUES (1, 'Recursively delete a directory tree.'), (2, 'The middle value of the data.'), (3, 'Wait for a thread.')) t(id, text)"
    made = ws.embed("v", texts, key="id", text="text", model="minilm")
    assert made.dimensions == 384 and made.reuse.new == 3
    asked = "remove a folder with everything in it"
    print(ws.search("v", asked, k=1, select="text").fetchall()[0][0])
    print(ws.materialize("near", "SELECT key FROM search('v', $asked, k := 1)", params={"asked": asked}).read().fetchall()[0][0])
    print(ws.sql("SELECT key FROM neighbors('v', 1, k := 2) ORDER BY key").fetchall())
    print(ws.recompute().executed, ws.staleness("near"))
"""


def cut_off() -> list[str]:
    """What makes a child without a network here; empty where that is not permitted."""
    unshare = shutil.which("unshare")
    command = [] if unshare is None else [unshare, "--map-root-user", "--net"]
    return (
        command
        if command
        and subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
        else []
    )


@pytest.mark.only_soak
@pytest.mark.slow
def test_embedding_and_searching_with_the_sentence_model_need_no_network(tmp_path):
    command = cut_off()
    done = subprocess.run(
        [*command, sys.executable, "-c", CHILD, "unshared" if command else "patched"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == ["1", "1", "[(2,), (3,)]", "[] fresh"]
