"""Ways by which a frame may lose the tables that it was made from: after one of them changed, no
table made from the frame is plainly fresh."""

import re
from collections.abc import Iterator

import pytest

from tests.cases import notebooks
from tests.kernel_ext.conftest import CLEAN, Kernel
from tests.sizes import sized, soak, thinned

NAMES = "import jammi_lab, pandas as pd, polars as pl\nws = jammi_lab.get_workspace()"
ALONE = "import jammi_kernel_ext as _k\nvars(_k._notebook).pop('frames', None)"
CSV = "id,year\n1,2020\n2,2021\n3,2022\n"

FOLLOWED = notebooks("frames/followed")
"""Cells that make the frame `out` from the frame `other`."""

CHANGED = notebooks("frames/changed")
"""Cells that change the frame `df`, read from another table, with what `other` holds."""
GROUNDED = notebooks("frames/grounded")
"""The same, which are not followed: a ground says so."""
WAYS = thinned(
    [
        *(("grounded", way) for way in GROUNDED),
        *(("followed", way) for way in FOLLOWED),
        *(("changed", way) for way in CHANGED),
    ],
    3,
)


@pytest.fixture(scope="module")
def verdicts(kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The verdict on the table of each way, after the table that `other` was read from changed."""

    folder, run = tmp_path_factory.mktemp("ways"), kernel.run
    for name in ("bases", "others"):
        (folder / f"{name}.csv").write_text(CSV)
    run(f"import os; os.chdir({str(folder)!r})", "%load_ext jammi_lab")
    run("%jammi add bases bases.csv", "%jammi add others others.csv", NAMES)
    run("%%jammi -m base -q\nFROM bases", "%%jammi -m other -q\nFROM others")
    cells_of = {"followed": FOLLOWED, "grounded": GROUNDED, "changed": CHANGED}
    for n, (kind, way) in enumerate(WAYS):
        frame = "df" if kind == "changed" else "out"
        reads = ("other = ws.table('other').pandas()", "df = ws.table('base').pandas()")
        store = f"%%jammi -m t{n} -q\nSELECT * FROM {frame}"
        cells = [*reads[: 1 + (kind == "changed")], *cells_of[kind][way], store]
        run(ALONE, *(re.sub(rf"\b{frame}\b", f"{frame}{n}", code) for code in cells))
    with (folder / "others.csv").open("a") as file:
        file.write("4,2023\n")
    told = kernel.value("{row.name: str(row.verdict) for row in ws.status()}")
    yield dict(re.findall(r"""'(\w+)': ['"](.*?)['"][,}]""", told))
    kernel.run(CLEAN)


@soak
def test_a_table_from_a_frame_is_never_plainly_fresh_after_an_ancestor_changed(verdicts):
    """One test, so that one worker runs all ways in one kernel."""
    wrong = {}
    for n, (kind, way) in enumerate(WAYS):
        verdict = verdicts[f"t{n}"]
        is_stale = verdict.startswith("possibly stale: others changed")
        if not (is_stale or (kind == "grounded" and verdict.startswith("fresh*"))):
            wrong[kind, way] = verdict
    assert len(verdicts) > len(WAYS) > sized(16, 50) and not wrong
