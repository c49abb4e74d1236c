"""What every test has: a workspace, a child process, and the proof that nothing is left behind."""

import gc
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.services.servers import fresh_postgres_url, mysql_server, mysql_url, postgres_server, postgres_url, strict_postgres_url
from tests.services.stores import bucket, endpoint

__all__ = [
    "bucket",
    "endpoint",
    "fresh_postgres_url",
    "mysql_server",
    "mysql_url",
    "postgres_server",
    "postgres_url",
    "strict_postgres_url",
]  # fixtures, for every folder

ROOT = Path(__file__).resolve().parent.parent
PACKAGE_ROOTS = (ROOT, ROOT / "kernel_ext", ROOT / "widgets")
# Threads that libraries keep for the life of a process, by the beginning of their name.
LASTING_THREADS = ("IPythonHistorySavingThread", "pytest_timeout", "ThreadPoolExecutor-jupyter", "raylet", "fsspecIO", "asyncio_", "jammi-idle")

settings.register_profile("dev", max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
settings.register_profile("ci", parent=settings.get_profile("dev"), max_examples=150, derandomize=True, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


def open_workspaces() -> list[Any]:
    """The workspaces that this process holds open, without importing anything."""
    module = sys.modules.get("jammi_lab.workspace")
    return list(getattr(module, "_open", ()))


def running_threads() -> set[threading.Thread]:
    """The Python threads of this process that a test could have started."""
    started = (t for t in threading.enumerate() if t.is_alive() and not t.name.startswith(LASTING_THREADS))
    return {t for t in started if not t.name.endswith(" - runner")}  # jupyter_core keeps one loop thread for each thread that drives a kernel


def descriptors_under(folder: Path) -> list[str]:
    """What this process holds open below a folder, removed files included; empty where the system does not tell."""
    prefix = str(folder.resolve()) + os.sep
    held = []
    for number in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if target.startswith(prefix):
            held.append(target)
    return held


def writers_under(folder: Path) -> list[str]:
    """Writers of this very process that still stand in a catalog below the folder, or whose lock file does."""
    left = []
    for catalog in filter(Path.is_file, folder.glob("**/catalog.sqlite3")):
        with sqlite3.connect(f"file:{catalog}?mode=ro", uri=True) as db:
            try:
                rows = db.execute("SELECT writer_id, retired_at FROM writers WHERE pid = ?", (os.getpid(),)).fetchall()
            except sqlite3.DatabaseError:  # a catalog that the test damaged
                rows = []
        db.close()
        left += [f"writer {name} in {catalog.parent}" for name, retired in rows if retired is None]
        left += [f"lock file of {name} in {catalog.parent}" for name, _ in rows if (catalog.parent / "writers" / f"{name}.lock").exists()]
    return left


def settled(look: Callable[[], Any], seconds: float = 3.0) -> Any:
    """What `look` still finds when it has had a moment to become empty."""
    until = time.monotonic() + seconds
    while (found := look()) and time.monotonic() < until:
        time.sleep(0.02)
    return found


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Closes the workspaces of a test and asserts that none leaves a thread, a descriptor or a lock file.

    A test that leaves something on purpose is marked `leaves_behind`, with the reason.
    """
    folder = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    before = running_threads()
    yield
    for workspace in open_workspaces():
        workspace.close()
    if "jammi_lab.workspace" not in sys.modules or request.node.get_closest_marker("leaves_behind"):
        return
    assert not settled(lambda: running_threads() - before), "a thread outlives the workspace that started it"
    if folder is not None:
        assert not settled(lambda: descriptors_under(folder)), "a file is still open after its workspace was closed"
        assert not writers_under(folder), "a closed workspace still counts as a writer"


@pytest.fixture
def ws(tmp_path: Path, nothing_left_behind: None) -> Iterator[Any]:
    """A new workspace in `tmp_path / "lab"`."""
    import jammi_lab as jl

    with jl.open(tmp_path / "lab") as workspace:
        yield workspace


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python code in a child process that can import the packages: `run_python(code, *argv, env={…}, timeout=60, check=True)`.

    The child's folder is `tmp_path`; its output comes back as text. With `check` a failing child fails the test with what it wrote.
    """

    def run(
        code: str, *argv: str, env: Mapping[str, str] | None = None, timeout: float = 120, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(map(str, PACKAGE_ROOTS))
        done = subprocess.run(
            [sys.executable, "-c", code, *argv],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path, "IPYTHONDIR": str(tmp_path / ".ipython"), **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode:
            pytest.fail(f"the child process ended with {done.returncode}\n{done.stdout}\n{done.stderr}", pytrace=False)
        return done

    return run


@pytest.fixture(scope="session")
def tell(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Prints what a test found out, also when it passes: `tell(text)`."""
    capturing = pytestconfig.pluginmanager.getplugin("capturemanager")
    assert capturing is not None

    def say(text: str) -> None:
        with capturing.global_and_fixture_disabled():
            print(text, file=sys.stderr, flush=True)

    return say


@pytest.fixture(autouse=True)
def _credentials_of_one_test() -> Iterator[None]:
    """What a test used as a credential is struck out of no later test's messages: it may be any word."""
    scrubbing = sys.modules.get("jammi_lab.scrubbing")
    before = [] if scrubbing is None else list(scrubbing._known)
    yield
    scrubbing = sys.modules.get("jammi_lab.scrubbing")
    if scrubbing is not None and list(scrubbing._known) != before:
        with scrubbing._lock:
            scrubbing._known.clear()
            scrubbing._known.update(dict.fromkeys(before))
            scrubbing._pattern.cache_clear()


@pytest.fixture
def interrupted_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt comes whenever a thread is started."""

    def start(_: threading.Thread) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            threading.Lock().release()  # what CPython does when the interrupt comes while it waits for the lock of the event `_started`

    monkeypatch.setattr(threading.Thread, "start", start)


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt in every test, also when the tests run in the background of a shell, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


SLOW = (
    "browser catalog/test_database.py catalog/test_models.py catalog/test_mutables.py catalog/test_newest.py catalog/test_writers.py crash "
    "docs/test_pages.py embedders/test_blas.py embedders/test_minilm.py engine/test_attachments.py engine/test_canonicaliser.py "
    "engine/test_faults.py engine/test_gate.py engine/test_order.py engine/test_readset.py engine/test_session.py execution kernel_ext "
    "live/test_ephemeral live/test_mutable live/test_te live/test_topics notebooks observing/test_paths.py observing/test_seen.py "
    "producers/test_asof.py producers/test_cache.py producers/test_context.py producers/test_embedding.py producers/test_external.py "
    "producers/test_imported.py producers/test_key_types.py producers/test_neighbors.py producers/test_projection.py "
    "producers/test_propagation.py producers/test_python.py producers/test_sql.py sensing/test_columns.py sensing/test_every_producer.py "
    "sensing/test_frames_made_again.py sensing/test_freshness.py sensing/test_lineage.py sensing/test_models_in_lineage.py "
    "sensing/test_openlineage.py sensing/test_plan sensing/test_python_steps.py sensing/test_relations.py sensing/test_rewritten_files.py "
    "sensing/test_second_opinion.py sensing/test_undecidable.py sensing/test_what_if.py sensing/test_why.py services sources/test_adding.py "
    "sources/test_delta.py sources/test_duckdb_files.py sources/test_files.py sources/test_frames.py sources/test_iceberg.py "
    "sources/test_lakes.py sources/test_objects.py sources/test_rows_deleted_beside.py sources/test_sqlite.py sources/test_statements.py sources/test_supposed.py "
    "sources/test_table_formats.py sources/test_tenants.py sources/test_tenants_in_errors.py sources/test_tenants_of_databases.py "
    "sources/test_web.py sources/test_xlsx.py stateful storage/test_plain_rows.py store/test_clock.py store/test_closing.py store/test_funnel.py "
    "store/test_manifests.py store/test_memory.py store/test_rebuild.py store/test_recovery.py store/test_removal.py store/test_two_kernels.py "
    "store/test_upkeep.py store/test_verify.py test_cli.py test_conditions.py test_credentials.py test_evaluating.py test_exploring.py test_models.py "
    "test_searching.py test_selecting.py test_taken_as_they_are.py test_vector_calls.py test_versions.py vectors/test_ann.py "
    "vectors/test_index_files.py vectors/test_indexes.py widgets/test_charts.py widgets/test_following.py widgets/test_lineage.py "
    "widgets/test_map.py widgets/test_neighbors.py widgets/test_results.py widgets/test_staleness.py"
).split()
"""Folders and files that take most of the time: `make test` runs them. `make check` keeps a test of every room and is done in about a minute."""


def is_slow(path: Path) -> bool:
    """Whether all tests below a path are slow ones."""
    here = Path(__file__).parent
    return path.is_relative_to(here) and path.relative_to(here).as_posix().startswith(tuple(SLOW))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where slow tests are not asked for, their files need not be imported: that took each worker longer than any test."""
    return True if config.option.markexpr.startswith("not slow") and is_slow(collection_path) else None


def pytest_collection_finish() -> None:
    """What was collected stays to the end: thousands of tests, which each full garbage collection would walk through again."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if is_slow(item.path):
            item.add_marker(pytest.mark.slow)
