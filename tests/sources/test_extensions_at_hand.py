"""DuckDB's extensions come from what is installed: no network is asked, and no home directory is
written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from jammi_lab.sources import duckdb_extensions as extensions
from jammi_lab.sources.scratch_duckdb import open_bare

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import socket, sys

def refused(*_, **__):
    raise OSError("the network is cut off")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refused

import duckdb
from jammi_lab.sources import duckdb_extensions as extensions

connection = duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
extensions.load(connection, sys.argv[1:])
loaded = {name for name, in connection.execute("SELECT extension_name FROM duckdb_extensions() WHERE loaded").fetchall()}
places = {place for place, in connection.execute("SELECT install_path FROM duckdb_extensions() WHERE install_path LIKE '%.duckdb/%'").fetchall()}
print(sorted(set(sys.argv[1:]) - loaded), sorted(places))
"""


def test_every_extension_is_loaded_without_a_home_directory_and_without_a_network(tmp_path):
    home = tmp_path / "no" / "home"
    wanted = sorted(extensions.EXTRAS)
    surroundings = {
        name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"
    } | {"HOME": str(home)}
    run = subprocess.run(
        [sys.executable, "-c", CHILD, *wanted],
        cwd=ROOT,
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (run.returncode, run.stdout.strip()) == (0, "[] []"), run.stderr
    assert not home.exists()


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the file of an extension, which is the one that is loaded."""
    path = tmp_path / "avro.duckdb_extension"
    shutil.copyfile(extensions.path_of("avro"), path)
    monkeypatch.setattr(extensions, "path_of", lambda _: path)
    return path


@pytest.mark.own_instances
def test_an_instance_loads_nothing_unsigned(copied):
    with open_bare(("avro",)) as connection:
        assert connection.execute(
            "SELECT loaded FROM duckdb_extensions() WHERE extension_name = 'avro'"
        ).fetchall() == [(True,)]
        with pytest.raises(duckdb.Error, match="Cannot change allow_unsigned_extensions"):
            connection.execute("SET GLOBAL allow_unsigned_extensions = true")


@pytest.mark.own_instances
def test_the_signature_of_a_file_is_checked_each_time(copied):
    with open_bare(("avro",)):
        pass
    times = copied.stat()
    with open(copied, "r+b") as file:
        file.seek(-1, os.SEEK_END)  # the signature stands at the end
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    os.utime(copied, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(duckdb.Error, match="signature"), open_bare(("avro",)):
        pass
