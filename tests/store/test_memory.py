"""Making a table does not hold it in memory: what is computed goes to the file as it comes."""

import pytest

from tests.sizes import sized, soak

MAKE = """
import resource, sys
import jammi_lab as jl
rows = int(sys.argv[1])
columns = ", ".join(f"hash(i + {k})::UBIGINT AS c{k}" for k in range(8))
with jl.open(sys.argv[2], settings={"engine.memory_limit": sys.argv[3], "engine.threads": 2}) as ws:
    table = ws.materialize("wide", f"SELECT i, {columns} FROM range({rows}) t(i)" + (" ORDER BY c0" if "sorted" in sys.argv else ""))
    assert table.row_count == rows
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024 // (1024 if sys.platform == "darwin" else 1))
"""
LARGE = sized(2_400_000, 8_000_000)
SMALL = LARGE // 4
"""Large enough to fill the queue of batches and the row group that is being written, which take
their share of memory at any size."""
LIMIT = sized("60MB", "100MB")


@pytest.mark.only_soak
@soak
@pytest.mark.parametrize("order", ["as it comes", "sorted"])
def test_a_result_four_times_as_large_takes_about_the_same_memory(run_python, order):
    peaks = [
        int(run_python(MAKE, str(rows), f"lab{rows}", LIMIT, order, start=True).stdout)
        for rows in (SMALL, LARGE)
    ]
    megabytes = LARGE * 9 * 8 / 2**20
    assert peaks[1] - peaks[0] < megabytes / 2, (
        f"a result of {megabytes:.0f} MB took {peaks[1]} MB at its peak, one of a quarter {peaks[0]} MB"
    )
