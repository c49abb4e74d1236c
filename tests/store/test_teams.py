"""A folder that a team shares, as docs/guides/share-in-a-team.md says: a group and umask 002."""

import errno
import fcntl
import math
import os
import re
import select
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import jammi_lab as jl
from jammi_lab.catalog.writer_locks import FileLocks
from jammi_lab.core.packaged_tables import packaged_table
from jammi_lab.steps import single_flight

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs two users")
ADA, BEN, GROUP = 5001, 5002, 5000
GUIDE = Path(__file__).parents[2] / "docs/guides/share-in-a-team.md"


def as_user(uid: int, action: Callable[[], object], umask: int = 0o002) -> str:
    """Run in a fork as a user of the group; the error as text, or nothing."""
    read, write = os.pipe()
    if not (pid := os.fork()):
        text = ""
        try:
            os.setgroups([GROUP])
            os.setgid(uid)
            os.setuid(uid)
            os.umask(umask)
            action()
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(write, text.encode()[:4000])
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    return text


@pytest.fixture
def lab(tmp_path):
    # what is imported later could not be read by the others
    use(tmp_path / "warm", "a")
    read(tmp_path / "warm")
    drop(tmp_path / "warm")
    folder = Path("/dev/shm" if os.path.isdir("/dev/shm") else "/tmp", f"team-{time.time_ns()}")
    folder.mkdir()
    os.chown(folder, ADA, GROUP)
    folder.chmod(0o2775)
    yield folder / "lab"
    shutil.rmtree(folder)


def _base(ws) -> str:
    ws.materialize("base", "SELECT * FROM (VALUES (1, 'a fox'), (2, 'a whale')) AS x(id, body)")
    return "jammi.base"


def use(lab: Path, name: str) -> None:
    with jl.open(lab) as ws:
        ws.materialize(name, f"SELECT length('{name}') AS n")
        ws.embed("v", _base(ws), key="id", text="body", model="hashing")
        assert ws.search("v", "a fox", k=1).arrow()["key"].to_pylist() == [1]
        ws.recompute()
        ws.expire(name, keep=1)
        report = ws.fsck(repair=True, grace=0)
        assert not (report.errors or report.missing or report.damaged), report


def read(lab: Path) -> None:
    with jl.open(lab, read_only=True) as ws:
        ws.table("base").read().fetchall()


def test_either_user_creates_reads_writes_recomputes_expires_and_checks(lab):
    for uid, name in ((ADA, "a"), (BEN, "bb"), (ADA, "ccc")):
        assert as_user(uid, lambda name=name: use(lab, name)) == ""
        assert as_user(BEN if uid == ADA else ADA, lambda: read(lab)) == ""
    assert as_user(BEN, lambda: drop(lab)) == ""
    private = [file for file in lab.rglob("*") if not file.stat().st_mode & 0o020]
    assert private == []


def test_a_folder_is_given_to_a_group_by_the_lines_of_the_guide(lab):
    """Before its workspace is made, and afterwards; without them the files have their maker's
    group."""
    lab.parent.chmod(0o777)
    before, afterwards = re.findall(r"^(?:mkdir|chgrp).*(?=  #)", GUIDE.read_text(), re.MULTILINE)
    for line, folder in ((before, lab), (afterwards, lab.with_name("later"))):
        command = line.replace("team", str(GROUP)).replace("lab", str(folder))
        if line is afterwards:
            assert as_user(ADA, lambda folder=folder: use(folder, "a")) == ""
            assert as_user(BEN, lambda folder=folder: use(folder, "bb")).startswith("WorkspaceRea")
        assert (
            as_user(ADA, lambda command=command: subprocess.run(command, shell=True, check=True))
            == ""
        )
        for uid, name in ((ADA, "a"), (BEN, "bb"), (ADA, "ccc")):
            assert as_user(uid, lambda name=name, folder=folder: use(folder, name)) == ""


def test_an_index_that_the_user_may_not_read_is_named_and_built_anew(lab):
    """Its table was compared with the rest, and a search did without it."""
    found = "v__embedding__hashing__.*: not readable by this user"

    def check(repair: bool) -> None:
        with jl.open(lab) as ws:
            report = ws.fsck(deep=True, repair=repair)
            assert not (report.damaged or report.errors), report
            assert bool(report.indexes) is not repair
            assert all(re.fullmatch(found, each) for each in report.indexes), report

    assert as_user(ADA, lambda: use(lab, "a")) == ""
    for file in lab.glob("results/*/*.idx.*"):
        file.chmod(0o600)
    assert as_user(BEN, lambda: check(repair=False)) == ""
    assert as_user(BEN, lambda: check(repair=True)) == ""
    assert {file.stat().st_uid for file in lab.glob("results/*/*.idx.*")} == {BEN}


def test_a_table_that_the_user_may_not_read_names_who_can_help(lab):
    assert as_user(ADA, lambda: use(lab, "a")) == ""
    for file in lab.glob("results/*/base__*.parquet"):
        file.chmod(0o600)
    said = as_user(BEN, lambda: read(lab))
    assert "cannot be read (Permission denied)" in said and "owner can let the group read" in said
    assert as_user(ADA, lambda: read(lab)) == ""


def drop(lab: Path) -> None:
    with jl.open(lab) as ws:
        ws.drop("a", force=True)


def test_either_user_takes_over_after_a_kill(lab):
    def build_and_die():
        ws = jl.open(lab)
        ws.materialize("base", "SELECT 1 AS id, 'a fox' AS body")
        os._exit(0)

    assert as_user(ADA, build_and_die) == ""
    assert list((lab / "writers").glob("*.lock"))
    assert as_user(BEN, lambda: use(lab, "bb")) == ""
    assert not list((lab / "writers").glob("*.lock"))


def test_a_reader_does_not_lock_the_owner_out_where_the_catalog_is_the_owners_alone(lab):
    """The owner forgot the umask, but the group may write to the folder."""
    assert as_user(ADA, lambda: use(lab, "a"), 0o022) == ""
    lab.chmod(0o2775)
    assert as_user(BEN, lambda: read(lab)) == ""
    assert as_user(ADA, lambda: use(lab, "a")) == ""


def test_a_lock_file_that_may_not_be_opened_belongs_to_a_living_writer(lab):
    def check():
        locks = FileLocks(lab)
        assert locks.is_held("w1") and locks.try_acquire("w1") is None
        assert locks.try_acquire_named("w1") is None and locks.read_note("w1") == (math.inf, "")

    lab.mkdir()
    (lab / "w1.lock").touch()
    os.chown(lab / "w1.lock", ADA, GROUP)
    (lab / "w1.lock").chmod(0o600)
    lab.chmod(0o777)
    assert as_user(BEN, check) == ""


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_that_locks_no_files_is_named_and_may_be_read(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    use(tmp_path / "lab", "a")
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(jl.InvalidArgument, match="does not lock files") as caught:
        jl.open(tmp_path / "lab")
    assert caught.value.hint == "Use a folder on a local disk."
    read(tmp_path / "lab")


def test_a_table_that_somebody_builds_whose_lock_may_not_be_opened_is_built_here_soon(
    lab, tmp_path, monkeypatch
):
    """Its heartbeat may not be read either, nor would its files."""
    read, write = os.pipe()
    may_end, end = os.pipe()

    def compute(step, folder=lab):
        with jl.open(folder) as ws:
            ws.compute("slow", step, inputs=["base"], version="1")

    compute(lambda base: base.arrow(), tmp_path / "warm")

    def hold(base):
        for lock in (lab / "writers").iterdir():
            lock.chmod(0o600)
        os.write(write, b"x")
        select.select([may_end], [], [], 15)
        return base.arrow()

    assert as_user(ADA, lambda: use(lab, "a")) == ""
    builder = threading.Thread(target=as_user, args=(ADA, lambda: compute(hold)))
    builder.start()
    assert select.select([read], [], [], 20)[0], "the build did not begin"
    began = time.monotonic()
    monkeypatch.setattr(single_flight, "MIN_SILENCE_SECONDS", 0.1)
    assert as_user(BEN, lambda: compute(lambda base: base.arrow())) == ""
    assert time.monotonic() - began < 12
    os.write(end, b"x")
    builder.join()


def test_what_a_team_mate_keeps_private_is_named_and_stops_nothing_else(lab, tmp_path):
    """A folder that was made without the umask of the guide."""

    def work(folder, name):
        with jl.open(folder) as ws:
            texts = _base(ws)
            ws.mutable.create(name, {"k": "int64"}, primary_key="k")
            ws.lexical("l", texts, key="id", text="body", cache="bypass")
            ws.mutable.drop(name)

    work(tmp_path / "warm", "bb")
    packaged_table("foreign_errors")
    assert as_user(ADA, lambda: work(lab, "a")) == ""
    (lab / "checkpoints").mkdir(exist_ok=True)
    os.chown(lab / "checkpoints", ADA, GROUP)
    (lab / "checkpoints").chmod(0o700)
    said = as_user(BEN, lambda: work(lab, "bb"))
    assert (
        said.startswith("WorkspaceReadOnly: The table is dropped, but ") and "checkpoints" in said
    )


@pytest.mark.parametrize("pattern", ["*/*.csv", "*/1.csv", "**", "*/part/*.csv"])
def test_no_rows_are_left_out_where_a_team_mate_keeps_a_folder_private(lab, pattern):
    data = lab.parent / "data"

    def read_data() -> None:
        os.environ["XDG_CONFIG_HOME"] = str(lab)  # where no folder is trusted
        with jl.open(lab) as ws:
            assert "cannot be read: permission denied" in str(ws.status()["t"].verdict)
            with pytest.raises(jl.SourceUnavailable, match="permission denied"):
                ws.materialize("t", "SELECT a FROM data", cache="bypass")

    for name in ("open", "private"):
        (data / name / "part").mkdir(parents=True)
        (data / name / "1.csv").write_text("a\n1\n")
        (data / name / "part/1.csv").write_text("a\n1\n")
    with jl.open(lab) as ws:
        ws.sources.add("data", data / pattern)
        ws.materialize("t", "SELECT a FROM data")
    for path in (lab, *lab.rglob("*")):
        os.chown(path, ADA, GROUP)
        path.chmod(0o2775 if path.is_dir() else 0o664)
    (data / "private").chmod(0o700)
    packaged_table("foreign_errors")
    assert as_user(BEN, read_data) == ""
