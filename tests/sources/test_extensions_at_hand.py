"""DuckDB's extensions come from what is installed: no network is asked, and no home directory is written."""

import os
import subprocess
import sys
from pathlib import Path

from jammi_lab.sources import extensions

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import socket, sys

def refused(*_, **__):
    raise OSError("the network is cut off")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refused

import duckdb
from jammi_lab.sources import extensions

connection = duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
extensions.load(connection, sys.argv[1:])
loaded = {name for name, in connection.execute("SELECT extension_name FROM duckdb_extensions() WHERE loaded").fetchall()}
places = {place for place, in connection.execute("SELECT install_path FROM duckdb_extensions() WHERE install_path LIKE '%.duckdb/%'").fetchall()}
print(sorted(set(sys.argv[1:]) - loaded), sorted(places))
"""


def test_every_extension_is_loaded_without_a_home_directory_and_without_a_network(tmp_path):
    home = tmp_path / "no" / "home"
    wanted = sorted(extensions.EXTRAS)
    surroundings = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"} | {"HOME": str(home)}
    run = subprocess.run([sys.executable, "-c", CHILD, *wanted], cwd=ROOT, env=surroundings, capture_output=True, text=True, timeout=120, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, "[] []"), run.stderr
    assert not home.exists()
