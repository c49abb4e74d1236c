"""What every test has: a workspace, a child process, and the proof that nothing is left behind."""

import collections
import contextlib
import gc
import importlib
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests import backends, durations, folders, instances, processes, releases, sizes, templates
from tests.processes import PACKAGE_ROOTS, ROOT
from tests.services.servers import (
    fresh_postgres_url,
    mysql_server,
    mysql_url,
    postgres_server,
    postgres_url,
    strict_postgres_url,
)
from tests.services.stores import bucket, endpoint

__all__ = [
    "PACKAGE_ROOTS",
    "ROOT",
    "bucket",
    "endpoint",
    "fresh_postgres_url",
    "mysql_server",
    "mysql_url",
    "postgres_server",
    "postgres_url",
    "strict_postgres_url",
]  # for every folder

# Threads that libraries keep for the life of a process, by the beginning of their name.
LASTING_THREADS = (
    "IPythonHistorySavingThread",
    "pytest_timeout",
    "ThreadPoolExecutor-jupyter",
    "raylet",
    "fsspecIO",
    "asyncio_",
    "jammi-idle",
    *(backends.THREADS if "work" in backends.ELSEWHERE else ()),
)

# Bytecode is kept, whatever images of containers ask for: without it every worker and every child
# compiles the packages and rewrites the assertions of all test files anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

folders.write_to_memory()
folders.use_own_configuration()
importlib.import_module("jammi_lab.workspace.infrastructure")  # has the table of kinds of input
gc.disable()  # until all tests are collected: what is made for them stays

sys.path.insert(0, str(processes.LEFT_OUT))
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(processes.LEFT_OUT), *filter(None, [os.environ.get("PYTHONPATH")])]
)

settings.register_profile(
    "short",
    max_examples=25,
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("long", parent=settings.get_profile("short"), max_examples=150)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", sizes.sized("short", "long")))


def open_workspaces() -> list[Any]:
    """The workspaces that this process holds open, without importing anything."""
    module = sys.modules.get("jammi_lab.workspace.workspace")
    return list(getattr(module, "_open", ()))


def running_threads() -> set[threading.Thread]:
    """The Python threads of this process that a test could have started."""
    started = (
        t for t in threading.enumerate() if t.is_alive() and not t.name.startswith(LASTING_THREADS)
    )
    return {
        t for t in started if not t.name.endswith((" - runner", "(process_request_thread)"))
    }  # jupyter_core's loop for each thread that drives a kernel; a test's server whose client is kept


def descriptors_under(folder: Path) -> list[str]:
    """What this process holds open below a folder, removed files included; empty where the system
    does not tell."""
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
    """Writers of this very process that still stand in a catalog below the folder, or whose lock
    file does."""
    left = []
    for catalog in filter(Path.is_file, folder.glob("**/catalog.sqlite3")):
        with sqlite3.connect(f"file:{catalog}?mode=ro", uri=True) as db:
            try:
                rows = db.execute(
                    "SELECT writer_id, retired_at FROM writers WHERE pid = ?", (os.getpid(),)
                ).fetchall()
            except sqlite3.DatabaseError:  # a catalog that the test damaged
                rows = []
        db.close()
        left += [f"writer {name} in {catalog.parent}" for name, retired in rows if retired is None]
        left += [
            f"lock file of {name} in {catalog.parent}"
            for name, _ in rows
            if (catalog.parent / "writers" / f"{name}.lock").exists()
        ]
    return left


def settled(look: Callable[[], Any], seconds: float = 3.0) -> Any:
    """What `look` still finds when it has had a moment to become empty."""
    until = time.monotonic() + seconds
    while (found := look()) and time.monotonic() < until:
        time.sleep(0.002)
    return found


@pytest.fixture(scope="session", autouse=True)
def _servers_of_the_session(request: pytest.FixtureRequest) -> Iterator[None]:
    """What the workspaces of all tests lie on, by JAMMI_TEST_BACKEND."""
    with backends.servers(request) if backends.ELSEWHERE else contextlib.nullcontext():
        yield


@pytest.fixture
def tmp_path(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The folder of a test; that of the template which its module names in TEMPLATES for one of the
    test's fixtures."""
    for name, template in getattr(request.module, "TEMPLATES", {}).items():
        if name in request.fixturenames:
            yield template.restore()
            return
    if request.node.nodeid.startswith(folders.ON_DISK):
        with tempfile.TemporaryDirectory(dir=folders.disk, ignore_cleanup_errors=True) as on_disk:
            yield Path(on_disk).resolve()
    else:
        yield tmp_path


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Closes the workspaces of a test and asserts that none leaves a thread, a descriptor or a lock
    file.

    A test that leaves something on purpose is marked `leaves_behind`, with the reason.
    """
    folders = [request.getfixturevalue("tmp_path")] if "tmp_path" in request.fixturenames else []
    templates.restored.clear()
    before = running_threads()
    templates.install()
    templates.enabled = request.node.get_closest_marker("own_catalog") is None
    instances.install()
    instances.use_again(request.node.get_closest_marker("own_instances") is None)
    yield
    for workspace in open_workspaces():
        workspace.close()
    if "jammi_lab.workspace.workspace" not in sys.modules or request.node.get_closest_marker(
        "leaves_behind"
    ):
        return
    assert not settled(lambda: running_threads() - before), (
        "a thread outlives the workspace that started it"
    )
    for folder in (*folders, *templates.restored):
        assert not settled(lambda: descriptors_under(folder)), (  # noqa: B023
            "a file is still open after its workspace was closed"
        )
        assert not writers_under(folder), "a closed workspace still counts as a writer"


@pytest.fixture
def ws(tmp_path: Path, nothing_left_behind: None) -> Iterator[Any]:
    """A new workspace in `tmp_path / "lab"`."""
    import jammi_lab as jl

    with jl.open(tmp_path / "lab") as workspace:
        yield workspace


@pytest.fixture
def fault_hook() -> Iterator[Callable[[Callable[[str], object] | None], None]]:
    """Has a function called with the name of each fault point that is passed, until it has another
    or the test ends."""
    from jammi_lab.storage.files import install_fault_hook

    yield install_fault_hook
    install_fault_hook(None)


@pytest.fixture
def start_python() -> Iterator[Callable[..., processes.Popen]]:
    """Starts Python code in a child process that is talked to by lines, and ends it after the test:
    `start_python(code, *argv)`."""
    started: list[processes.Popen] = []

    def start(code: str, *argv: object) -> processes.Popen:
        process = processes.Popen(
            [sys.executable, "-c", code, *map(str, argv)],
            env=processes.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.communicate()


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python code in a child process that can import the packages: `run_python(code, *argv,
    env={…}, timeout=60, check=True)`.

    The child's folder is `tmp_path`; its output comes back as text. With `check` a failing child
    fails the test with what it wrote. With `start` it is a new interpreter that has imported
    nothing, else one that was forked (tests/processes.py).
    """

    def run(
        code: str,
        *argv: str,
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
        check: bool = True,
        start: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        done = (subprocess.run if start else processes.run)(
            [sys.executable, "-c", code, *argv],
            cwd=tmp_path,
            env=processes.environment({"IPYTHONDIR": str(tmp_path / ".ipython"), **(env or {})}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode:
            pytest.fail(
                f"the child process ended with {done.returncode}\n{done.stdout}\n{done.stderr}",
                pytrace=False,
            )
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
    """What a test used as a credential is struck out of no later test's messages: it may be any
    word."""
    redaction = sys.modules.get("jammi_lab.core.redaction")
    before = [] if redaction is None else list(redaction._credentials)
    yield
    redaction = sys.modules.get("jammi_lab.core.redaction")
    if redaction is not None and list(redaction._credentials) != before:
        with redaction._lock:
            redaction._credentials.clear()
            redaction._credentials.update(dict.fromkeys(before))
            redaction._credential_pattern.cache_clear()


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt in every test, also when the tests run in the background of a
    shell, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--store-durations",
        action="store_true",
        help="write what tests took to tests/durations.json",
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where slow tests are not asked for, their files need not be imported: that took each worker
    longer than any test."""
    return (
        True
        if config.option.markexpr.startswith("not slow") and durations.file_is_slow(collection_path)
        else None
    )


def pytest_collection(session: pytest.Session) -> None:
    """A worker that collects all tests begins to import them at its own place in the list: in a
    new clone each rewrites the assertions of a share of them, and reads what others have written.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    if worker == "0" or session.config.args_source != pytest.Config.ArgsSource.TESTPATHS:
        return
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    place = len(files) * int(worker) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    for file in files[place:] + files[:place]:
        if not pytest_ignore_collect(file, session.config):
            with contextlib.suppress(Exception, pytest.skip.Exception):  # told when collected
                importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))


def pytest_collection_finish() -> None:
    """What was collected stays to the end: thousands of tests, which each full garbage collection
    would walk through again.

    What tests make is mostly freed by reference counts; collecting less often leaves the rest to
    fewer walks.
    """
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Also in the process that only hands out tests, which collects none."""
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks by measured durations and by kind, and, unless it is a soak, leaves to it what
    tests/README.md says."""
    runs = _runs_in_make_test(items)
    for item in items:
        if durations.is_slow(item.nodeid):
            item.add_marker(pytest.mark.slow)
        if item in runs or item.get_closest_marker("hypothesis"):
            item.add_marker(pytest.mark.soak)
        backends.skip(item)
    if not sizes.SOAK:
        config.hook.pytest_deselected(items=[item for item in items if not runs.get(item, True)])
        items[:] = [item for item in items if runs.get(item, True)]


def _runs_in_make_test(items: list[pytest.Item]) -> dict[pytest.Item, bool]:
    """Whether `make test` runs an item, for the items of each test of which it runs a part or
    none."""
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        tests.setdefault(item.nodeid.split("[")[0], []).append(item)
    runs: dict[pytest.Item, bool] = {}
    rows = collections.Counter[str]()
    for function, cases in tests.items():
        suite = function.rpartition("::")[0]
        rows[suite] += 1
        chosen = _chosen(cases, rows[suite], durations.seconds_of(function))
        if chosen is not None:
            runs |= {item: n in chosen for n, item in enumerate(cases)}
    return runs


def _chosen(cases: list[pytest.Item], row: int, seconds: float) -> Collection[int] | None:
    """Positions of the cases of a test that `make test` runs; None when that is no question of its
    size. The test is the so manieth of its suite, and all of its cases take so long."""
    is_marked = cases[0].get_closest_marker
    if is_marked("only_soak") or (_is_repeated(cases[0]) and row % 4):
        return ()
    if not hasattr(cases[0], "callspec") or is_marked("every_case"):
        return None
    cells = [_cell(item, item.callspec.params) for item in cases]
    if is_marked("product"):
        return sizes.covering(cells)
    if is_marked("contract") or _has_implementations(cases[0]):
        return [n for n in range(len(cases)) if sizes.rotated(row, n, len(cases))]
    count = sizes.affordable(len(cases), seconds)
    if count == len(cases):
        return None
    for item in cases:
        item.stash[_STANDS_FOR] = len(cases) / count
    return sizes.spread(cells, count)


def _has_implementations(item: pytest.Item) -> bool:
    """Whether a fixture gives a test one implementation of several."""
    return len(item.callspec.params) > sum(map(len, _names_of_lists(item)))


def _names_of_lists(item: pytest.Item) -> list[list[str]]:
    """The parameters that a test names itself, by list."""
    return [
        [n.strip() for n in names.split(",")] if isinstance(names := mark.args[0], str) else names
        for mark in item.iter_markers("parametrize")
    ]


def _is_repeated(item: pytest.Item) -> bool:
    """Whether a test comes from another module, which runs it, and its own module runs it once
    more."""
    function, module = getattr(item, "function", None), item.getparent(pytest.Module)
    return (
        item.get_closest_marker("repeated") is not None
        and function is not None
        and module is not None
        and function.__module__ != module.obj.__name__
    )


def _cell(item: pytest.Item, params: Mapping[str, object]) -> tuple[Any, ...]:
    """One value for each list of parameters; the values of a list are the same objects in all of
    its cells."""
    together = _names_of_lists(item)
    alone = [[n] for n in sorted(params) if not any(n in names for names in together)]
    return tuple(tuple(id(params[n]) for n in names) for names in together + alone)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Measures a test; the last of its reports carries the seconds to the process that writes them.

    What stays for good, such as the modules that tests have imported by then, is set apart from
    garbage collection now and then: a full one took 0.6 s with it, and tests ask for some.
    """
    if next(_tests_run) % TESTS_BETWEEN_FREEZES == 0:
        gc.collect()
        gc.freeze()
    item.stash[_WATCH] = durations.Stopwatch()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, Any, Any]:
    return (yield from releases.skip_without_extension())


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup() -> Generator[None, Any, Any]:
    return (yield from releases.skip_without_extension())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if call.when == "teardown" and _WATCH in item.stash:
        seconds = item.stash[_WATCH].seconds() * item.stash.get(_STANDS_FOR, 1.0)
        report.user_properties.append(("seconds", seconds))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    for name, value in report.user_properties:
        if name == "seconds" and report.when == "teardown":
            _took[report.nodeid] = float(value)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.getoption("--store-durations") and not hasattr(session.config, "workerinput"):
        durations.store(_took, durations.measured())


TESTS_BETWEEN_FREEZES = 50
_tests_run = itertools.count(1)
_WATCH = pytest.StashKey[durations.Stopwatch]()
_STANDS_FOR = pytest.StashKey[float]()  # how many cases of its test a case stands for
_took: dict[str, float] = {}
