"""kill -9 at every fault point that a real run passes: nothing acknowledged is lost, nothing is
half there."""

import os
import signal
from pathlib import Path

import pytest

import jammi_lab as jl
from jammi_lab.store.manifests import manifest_path
from tests.crash.check import Promises, hold_true
from tests.sizes import SOAK, soak
from tests.store.lab import DEAD, catalog, everything, files, files_of, flip, statuses, unpublish

FEW = not os.environ.get("JAMMI_CRASHES")
pytestmark = soak


@pytest.fixture(scope="module")
def passed(server, tmp_path_factory):
    """The points of an uncut run, in order."""
    code, said = server.run("points", tmp_path_factory.mktemp("whole") / "lab")
    assert code == 0, said
    promised = Promises().hear(said)
    assert set(promised.ready) == {"one", "two"} and promised.gone == {"gone"}
    return said.split("POINTS ")[1].split()


def cuts_of(points):
    """(point, which time it is passed); of the many that one point has, the first, in a soak the
    second, the last and every fourth too, unless all are asked for."""
    every = [(p, points[: n + 1].count(p)) for n, p in enumerate(points)]
    return [
        (p, n)
        for p, n in every
        if not FEW or n == 1 or (SOAK and (n % 4 in (0, 2) or n == points.count(p)))
    ]


def test_a_run_passes_the_points_that_matter(passed):
    assert set(passed) >= set(
        "lock.made publish:building parquet.before_row_group parquet.before_footer parquet.after_footer file.before_fsync file.before_rename file.before_folder_fsync "
        "file.after_folder_fsync publish:sealed publish:manifest-durable catalog:before-commit catalog:after-commit publish:ready removal:tombstone "
        "file.before_unlink file.after_unlink removal:bytes-gone removal:forgotten".split()
    )


@pytest.mark.timeout(900)
def test_a_process_killed_at_any_fault_point_leaves_only_what_recovery_knows(
    server, passed, tmp_path
):
    wrong, reports = [], []
    for i, (point, nth) in enumerate(cuts_of(passed)):
        code, said = server.run("die", folder := tmp_path / f"{i}", point, nth)
        assert code == -signal.SIGKILL, (point, nth, code, said)
        try:
            reports.append(hold_true(folder, Promises().hear(said)))
        except Exception as error:  # all of them are wanted, not the first
            wrong.append((point, nth, f"{type(error).__name__}: {error}"))
    assert not wrong, wrong
    for kind in ("failed", "promoted", "reaped"):
        assert any(getattr(r, kind) for r in reports), f"no cut led to {kind}"


@pytest.mark.timeout(900)
def test_a_recovery_that_is_killed_at_any_point_is_finished_by_the_next(server, tmp_path):
    code, said = server.run("recover", arrange(tmp_path / "whole"), "-", 0)
    assert code == 0, said
    wrong = []
    for i, (point, nth) in enumerate(cuts_of(said.split("POINTS ")[1].split())):
        code, said = server.run("recover", folder := arrange(tmp_path / f"{i}"), point, nth)
        assert code == -signal.SIGKILL, (point, nth, code, said)
        try:
            hold_settled(folder)
        except Exception as error:  # all of them are wanted, not the first
            wrong.append((point, nth, f"{type(error).__name__}: {error}"))
    assert not wrong, wrong


def arrange(folder: Path) -> Path:
    """A workspace with a table for each case of recovery, named by what is to become of it."""
    with jl.open(folder) as ws:
        names = ("whole", "promoted", "torn", "reaped", "healed", "quarantined")
        tables = {name: ws.materialize(name, f"SELECT {n} AS n") for n, name in enumerate(names)}
        paths = {name: t.path for name, t in tables.items()}
        physical = {name: t.table_name for name, t in tables.items()}
    for name in ("promoted", "torn"):
        unpublish(folder, physical[name])
    paths["torn"].write_bytes(b"PAR1 torn")
    with catalog(folder) as db:
        db.execute(
            "INSERT INTO writers(writer_id, host, boot_id, pid, started_at) VALUES (?, 'h', 'b', 1, '2026-01-01T00:00:00.000000Z')",
            [DEAD],
        )
        db.execute(
            "UPDATE result_tables SET status='deleting', writer_id=? WHERE table_name=?",
            [DEAD, physical["reaped"]],
        )
        db.execute("DELETE FROM versions WHERE table_name=?", [physical["reaped"]])
    manifest_path(paths["healed"]).unlink()
    manifest_path(paths["quarantined"]).unlink()
    flip(paths["quarantined"])
    return folder


def hold_settled(folder: Path) -> None:
    """Everything that `arrange` arranged is settled, and stays so."""
    with jl.open(folder) as ws:
        after = everything(folder)
        assert not ws.recover() and everything(folder) == after
        by_name = {t.name: t for t in ws.tables()}
        assert sorted(by_name) == ["healed", "promoted", "whole"], by_name
        assert files(folder) == sorted(f for t in by_name.values() for f in files_of(t)), files(
            folder
        )
        assert sorted(statuses(folder).values()) == ["failed"] * 2 + ["ready"] * 3, statuses(folder)
        aside = sorted(p.name.split("__")[0] for p in (folder / "quarantine").iterdir())
        assert aside == ["quarantined", "quarantined"], aside
