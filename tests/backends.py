"""Where the workspaces of tests lie. `JAMMI_TEST_BACKEND=postgres+s3+dask`, or a part of it, puts
the catalogs on PostgreSQL, the files into S3 and the work onto Dask, of every workspace that a test
or its child opens in a folder without saying where any of it lies. S3 alone takes PostgreSQL along:
a workspace in a store has no other catalog.

A test that is about a file, or about this process, is named with the reason in
`data/local_tests.json`, and skipped where that lies elsewhere.
"""

import contextlib
import functools
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PARTS = {"postgres": "catalog", "s3": "files", "dask": "work"}
_WORDS = set(filter(None, os.environ.get("JAMMI_TEST_BACKEND", "").split("+")))
ELSEWHERE = {PARTS[word] for word in _WORDS} | ({"catalog"} if "s3" in _WORDS else set())
"""What does not lie in a test's folder, or this process: of "catalog", "files" and "work"."""
THREADS = ("IO loop", "Dask-", "TCP-Executor", "Profile")
"""The threads of a client of Dask."""
_SERVERS = "JAMMI_TEST_SERVERS"
_opened = threading.local()


@contextlib.contextmanager
def servers(request: pytest.FixtureRequest) -> Iterator[None]:
    """The servers of a session, which its children learn from the environment."""
    found: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        if "catalog" in ELSEWHERE:
            found["catalog"] = request.getfixturevalue("postgres_url")
        if "files" in ELSEWHERE:
            from tests.services.stores import bucket_of

            found["endpoint"] = request.getfixturevalue("endpoint")
            found["bucket"] = bucket_of(found["endpoint"]).name
        if "work" in ELSEWHERE:
            found["work"] = stack.enter_context(_cluster())
        os.environ[_SERVERS] = json.dumps(found)
        install()
        if "work" in ELSEWHERE:
            stack.callback(_client().close)
        yield


@contextlib.contextmanager
def _cluster() -> Iterator[str]:
    """The address of a cluster in a process of its own."""
    command = [sys.executable, "-m", "tests.steps.lost_cluster"]
    path = os.pathsep.join(sys.path)
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


def install() -> None:
    """From now on this process opens workspaces there."""
    if not ELSEWHERE:
        return
    from jammi_lab.workspace import assembly, opening

    for module, name in (
        (opening, "parse_location"),
        (opening, "load_settings"),
        (assembly, "to_executor"),
    ):
        wrapper: Any = globals()[f"_{name}"]
        setattr(module, name, functools.partial(wrapper, getattr(module, name)))


def root_of(folder: Path) -> Any:
    """Where the files of the workspace of a folder are, for a test: the folder, or a path in the
    store that is read and written alike."""
    if "files" not in ELSEWHERE:
        return folder
    from tests.services.stores import stored

    return stored(_store()) / _name(folder)


def files_below(folder: Any) -> dict[str, Any]:
    """Every file below a folder of either kind, by its path from there."""
    names = (
        (str(each.relative_to(folder)) for each in folder.rglob("*") if not each.is_dir())
        if isinstance(folder, Path)
        else folder.list_objects()
    )
    return {name: folder / name for name in sorted(names)}


def catalog_url(folder: Path) -> str:
    """The URL of the catalog of the workspace of a folder."""
    return f"{json.loads(os.environ[_SERVERS])['catalog']}?schema=t_{_name(folder)}"


def skip(item: pytest.Item) -> None:
    """Skip a test that is about what lies elsewhere."""
    test = item.nodeid.split("[")[0]
    for what in ELSEWHERE:
        for reason, names in _local_tests().get(what, {}).items():
            if not {item.nodeid, test, test.split("::")[0]}.isdisjoint(names):
                item.add_marker(pytest.mark.skip(reason=f"JAMMI_TEST_BACKEND: {reason}"))


@functools.cache
def _local_tests() -> Any:
    return json.loads((Path(__file__).parent / "data" / "local_tests.json").read_text("utf-8"))


def _name(folder: Path) -> str:
    return hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:20]


def _parse_location(parse: Any, path: Any, options: Any) -> Any:
    found = parse(path, options)
    _opened.folder = found if isinstance(found, Path) else None
    return (
        found
        if _opened.folder is None or "files" not in ELSEWHERE
        else _open_store() / _name(found)
    )


def _load_settings(load: Any, folder: Any, overrides: Any) -> Any:
    settings = load(folder, overrides)
    if "catalog" in ELSEWHERE and _opened.folder is not None and not settings["catalog.url"]:
        settings.set("catalog.url", catalog_url(_opened.folder))
    return settings


def _to_executor(convert: Any, executor: Any) -> Any:
    return convert(_client() if executor is None and "work" in ELSEWHERE else executor)


@functools.cache
def _store() -> Any:
    """The bucket of the session, for what a test itself reads and writes there."""
    return _open_store()


def _open_store() -> Any:
    from jammi_lab.storage.object_store import remote_path
    from tests.services.stores import KEY, SECRET

    found = json.loads(os.environ[_SERVERS])
    options = {"key": KEY, "secret": SECRET, "endpoint_url": found["endpoint"]}
    return remote_path(f"s3://{found['bucket']}/labs", options)


@functools.cache
def _client() -> Any:
    from distributed import Client

    return Client(json.loads(os.environ[_SERVERS])["work"], set_as_default=False)
