"""Every state that a crash can leave of a real run, opened and held against what the run had
promised by then.

`JAMMI_CRASHES=all` looks at all of them, a number at so many beside those next to a sync, a new
name or a promise, which are always looked at.
"""

import functools
import hashlib
import itertools
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.core.verdicts import Fresh
from jammi_lab.storage.parquet import read_footer
from jammi_lab.store.sidecars import GRAPH_SUFFIX, MANIFEST_SUFFIX
from jammi_lab.workspace.result_table import ResultTable
from tests.crash.check import Promises, Server, asked, hold_true
from tests.crash.explorer import record
from tests.crash.explorer.child import (
    AGGREGATES,
    CHECK_MUTANTS,
    INSERTS,
    MUTANTS,
    NUMBERS,
    SCENARIOS,
)
from tests.crash.explorer.model import Disk, Image, State, images, lay, lying, states
from tests.crash.explorer.steps import Recorded, Said, read
from tests.features.words import bm25
from tests.inside import record_of, services_of
from tests.sizes import contract, every_case, product, sized, soak

LOOKS = asked(0, 0)
"""What JAMMI_CRASHES asks for."""
pytestmark = [soak, pytest.mark.slow, pytest.mark.timeout(3600 if LOOKS else sized(900, 1800))]

# Not openat: every thread counts its calls for itself, and those that import a library open
# hundreds of files that are not the workspace's.
FAILING = (
    "fsync:error=EIO",
    "fdatasync:error=EIO",
    "rename:error=EIO",
    "write:error=ENOSPC",
    "write:error=EIO",
    "pwrite64:error=ENOSPC",
    "pwrite64:error=EIO",
    "unlink:error=EIO",
)


NEAR = 1 if LOOKS else sized(20, 2)
"""Of the states near something that matters, one in so many is looked at."""


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    folder = record.memory()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def run_of(server, memory) -> Callable[[str], tuple[record.Run, Recorded]]:
    """The run of a scenario as it is meant to be."""
    record.needs_strace()
    return functools.cache(lambda scenario: recorded(server, memory / scenario, scenario))


def recorded(
    server: Server, folder: Path, scenario: str, *mutants: str
) -> tuple[record.Run, Recorded]:
    run = record.run(server, folder, scenario, *mutants)
    promised = run.said.count("TRY") - run.said.count("TRY open")
    assert run.code == 0 and "ERR" not in run.said and run.said.count("ACK") == promised >= 5, (
        run.said
    )
    return run, read(run.trace, run.world)


def chosen(every: list[State], others: int, share: int = 1) -> list[State]:
    """All states near something that matters, or one in `share` of them, and some of the others."""
    near = [n for n, state in enumerate(every) if state.near][::share]
    far = [n for n, state in enumerate(every) if not state.near]
    some = {*near, *random.Random(8).sample(far, min(others, len(far)))}
    return [state for n, state in enumerate(every) if n in some]


def rows_by_footer(ws: Any, table: ResultTable) -> int | None:
    """How many rows a table has, as its file says; None when it is torn."""
    footer = read_footer(table.path)
    return None if footer is None else int(footer.num_rows)


def rows_that_pass(_: Any, table: ResultTable) -> int | None:
    """How many rows a table has that passed its check."""
    rows = pq.read_table(table.path)["n"].to_pylist()
    assert min(rows) >= 0, f"version {table.version} of {table.name} was rejected and is ready"
    return len(rows)


def rows_that_are_found(ws: Any, table: ResultTable) -> int | None:
    """The same, when a search finds what numpy does, and nearly that through an index, which is
    there; of ten an index may miss some."""
    rows = pq.read_table(table.path, columns=["key", "vector"])
    vectors = np.array(rows["vector"].to_pylist(), np.float64)
    query = np.arange(1.0, 9.0)
    near = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    best = rows["key"].to_numpy()[np.argsort(-near)[:10]].tolist()
    assert services_of(ws).vectors.state(record_of(table)).status == "ready", (
        "the index was not made again"
    )
    found = {
        exact: ws.search(table, query, exact=exact).arrow()["key"].to_pylist()
        for exact in (None, True, False)
    }
    assert found[None] == found[True] == best
    assert len(found[False]) == len(best) and len({*found[False]} & {*best}) >= 8, found[False]
    assert services_of(ws).vectors.find_defect(record_of(table), deep=True) is None, (
        "a damaged index was left"
    )
    return int(rows.num_rows)


def rows_that_are_merged_or_found(ws: Any, table: ResultTable) -> int | None:
    """How many rows a table has, when they are those of the files that it was made from, or its
    search by words finds what an independent BM25 does."""
    rows = pq.read_table(table.path)
    if table.kind == "lexical":
        terms = [text.split(" ") for text in rows["terms"].to_pylist()]
        for query in (["w1"], ["w3", "second"], ["first", "same"]):
            hits = ws.search(table, " ".join(query), k=10).arrow()
            assert hits["key"].to_pylist() == bm25.ranked(terms, query, 10)
            np.testing.assert_allclose(
                hits["score"], sorted(bm25.scores(terms, query))[: -len(hits) - 1 : -1], atol=1e-6
            )
        return int(rows.num_rows)
    [files] = table.manifest.input_files
    numbers = sorted(int(Path(name).stem) for name in files.files)
    # Without an increment it may hold all three: the first life's version may have failed.
    assert numbers == [1, 2, 3] or (numbers == [1, 2] and table.manifest.increment is None)
    values = [(f"g{i % 3}", i * number) for number in numbers for i in range(20)]
    expected = [
        {"g": g, "n": len(xs), "s": sum(xs), "a": sum(xs) / len(xs)}
        for g in ("g0", "g1", "g2")
        for xs in [[x for group, x in values if group == g]]
    ]
    assert rows.to_pylist() == expected
    return int(rows.num_rows)


def rows_of_a_full_run(ws: Any, table: ResultTable) -> int | None:
    """How many rows a table has, when they are those of a full computation over its input at some
    moment; of a fresh table, at this one."""
    rows = pq.read_table(table.path)
    if table.name == "squares":
        numbers = range(rows.num_rows)
        assert len(numbers) in NUMBERS
        assert rows["id"].to_pylist() == [*numbers]
        assert rows["square"].to_pylist() == [n * n for n in numbers]
        return len(numbers)
    of, statement = AGGREGATES[table.name]
    assert rows.to_pylist() in AGGREGATED[of]
    if ws.table(table.name).version == table.version and isinstance(
        ws.staleness(table.name), Fresh
    ):
        assert ws.sql(f"{statement} ORDER BY ALL").arrow().to_pylist() == rows.to_pylist()
    return int(rows.num_rows)


def aggregated(values: Iterable[int]) -> list[dict[str, Any]]:
    """The rows of an aggregate over values."""
    groups = [[x for x in values if x % 3 == g] for g in range(3)]
    return [
        {"g": g, "n": len(xs), "s": sum(xs), "a": sum(xs) / len(xs)}
        for g, xs in enumerate(groups)
        if xs
    ]


AGGREGATED = {
    "squares": [aggregated([n * n for n in range(count)]) for count in NUMBERS],
    # any of the inserts may have failed
    "changing": [
        aggregated([x for insert in inserts for x in insert["x"].to_pylist()])
        for size in range(len(INSERTS) + 1)
        for inserts in itertools.combinations(INSERTS, size)
    ],
}
"""The rows that the aggregates over a table may have."""


def noting(
    looks: Iterable[tuple[State, str, Image]], seen: set[str]
) -> Iterator[tuple[State, str, Image]]:
    """The same, noting how the crashes left the indexes of the tables that lie there."""
    for state, said, image in looks:
        seen |= {"unfinished" for name in image if ".idx." in name and name.endswith(".tmp")}
        for stem in [name.removesuffix(".parquet") for name in image if name.endswith(".parquet")]:
            body, manifest = image.get(stem + GRAPH_SUFFIX), image.get(stem + MANIFEST_SUFFIX)
            seen.add(
                "missing"
                if not body or not manifest
                else "whole"
                if hashlib.sha256(body).hexdigest().encode() in manifest
                else "torn"
            )
        yield state, said, image


def wrongs(
    looks: Iterable[tuple[State, str, Image]],
    folder: Path,
    rows: Callable[[Any, Any], int | None] = rows_by_footer,
) -> Iterator[str]:
    """What is wrong after each of the crashes."""
    for state, said, image in looks:
        lay(image, folder)
        try:
            hold_true(folder / "lab", Promises().hear(said), rows)
        except Exception as error:  # all of them are wanted, not the first
            yield f"{state.model} after {state.steps} steps: {type(error).__name__}: {error}"
        finally:
            shutil.rmtree(folder)


FEW = 1 if LOOKS else sized(100, 4)
LOOKED = {
    "tables": (rows_by_footer, asked(10, 200), NEAR),
    "checks": (rows_that_pass, asked(10, 200), NEAR),
    "growth": (rows_that_are_merged_or_found, asked(6, 100), FEW),
    "changes": (rows_of_a_full_run, asked(3, 100), FEW),
    "indexes": (rows_that_are_found, asked(3, 60), NEAR),
}
"""By scenario: what is asked of a table, and how many states are looked at."""


def test_the_recorded_steps_lead_to_the_bytes_on_the_disk(run_of):
    run, steps = run_of("tables")
    disk = Disk(steps.folders)
    for step in steps.steps:
        disk.do(step)
    assert disk.image("kill") == lying(run.world)


@every_case
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_crash_breaks_a_promise_or_changes_rows_or_what_is_found(scenario, run_of, memory, tell):
    _, steps = run_of(scenario)
    rows, others, share = LOOKED[scenario]
    every, seen = states(steps), set[str]()
    if scenario == "indexes":
        begun = next(
            n
            for n, step in enumerate(steps.steps)
            if isinstance(step, Said) and "TRY materialize" in step.text
        )
        every = [state for state in every if state.steps > begun]
    looked = chosen(every, others, share)
    found = list(wrongs(noting(images(steps, looked), seen), memory / "crashed", rows))
    tell(
        f"crash explorer, {scenario}: {len(every)} states, {len(looked)} looked at, {len(found)} violations"
    )
    assert not found, "\n".join(found)
    # none is torn: an index that is written over is gone before
    assert scenario != "indexes" or seen == {"whole", "missing", "unfinished"}


@pytest.mark.only_soak
@contract
@pytest.mark.parametrize(
    ("scenario", "mutant"),
    [
        *(("tables", mutant) for mutant in MUTANTS),
        *(("checks", mutant) for mutant in CHECK_MUTANTS),
    ],
)
def test_a_wrong_order_of_things_is_found(scenario, mutant, server, memory, tell):
    record.needs_strace()
    _, steps = recorded(server, memory / mutant, scenario, mutant)
    assert violations(mutant, steps, memory / "crashed", LOOKED[scenario][0], tell)


def violations(
    mutant: str, steps: Recorded, folder: Path, rows: Callable[..., int | None], tell: Any
) -> int:
    """How many wrongs a mutant leaves; one is enough unless all states are looked at."""
    looked = states(steps)
    found = (
        wrongs(images(steps, looked), folder, rows) if LOOKS else first(steps, looked, folder, rows)
    )
    count = sum(1 for _ in found)
    tell(
        f"crash explorer: {mutant}: {f'{count} violations in {len(looked)} states' if LOOKS else 'found'}"
    )
    return count


def first(
    steps: Recorded, every: list[State], folder: Path, rows: Callable[..., int | None]
) -> list[str]:
    """The first wrong that is found, in an order that jumps about."""
    order = chosen(every, 0)
    for part in range(7):
        if found := next(wrongs(images(steps, order[part::7]), folder, rows), None):
            return [found]
    return []


@product
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("failing", FAILING)
def test_a_call_of_the_system_that_fails_is_a_typed_error_that_names_the_table_and_breaks_nothing(
    failing, scenario, server, memory, run_of
):
    call = failing.split(":", maxsplit=1)[0]
    rows = LOOKED[scenario][0]
    times = sorted({nth for name, nth in run_of(scenario)[1].calls if name == call})
    assert times
    for nth in random.Random(failing).sample(times, min(asked(1, 2, every=60), len(times))):
        run = record.run(server, memory / f"{call}-{nth}", scenario, inject=f"{failing}:when={nth}")
        assert run.trace.read_text().count("(INJECTED)"), "nothing failed"
        assert run.code == 0, (
            f"{failing} for the {nth}th time: an error that is not typed\n{run.said}"
        )
        for told in [
            line.split(" ", 4) for line in run.said.splitlines() if line.startswith("ERR")
        ]:
            table, message = told[2].split("@")[0], told[4]
            assert table in message or "catalog" in message or str(run.folder) in message, (
                nth,
                told,
            )
        if scenario == "indexes":
            # No writer died, so only an explicit recovery looks for an index that was not written.
            with jl.open(run.folder) as ws:
                assert not ws.recover().errors
        hold_true(run.folder, Promises().hear(run.said), rows)
        shutil.rmtree(run.world.parent)
