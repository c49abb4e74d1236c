import threading
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from jammi_lab.features.vectors.encoders.blas_threads import one_blas_thread, usable_cores
from tests.sizes import soak, thinned


def blas_threads():
    np.ones((2, 2)) @ np.ones((2, 2))
    return {
        lib["filepath"]: lib["num_threads"]
        for lib in threadpool_info()
        if lib["user_api"] == "blas"
    }


def test_the_limit_holds_until_the_last_of_overlapping_holders_is_done():
    with threadpool_limits(2, "blas"):
        before = blas_threads()
        with one_blas_thread():  # libraries that other tests load later have a BLAS of their own
            limited = {path for path, count in blas_threads().items() if count == 1}
        assert any("numpy" in path for path in limited)
        inside, leave = threading.Event(), threading.Event()

        def other():
            with one_blas_thread():
                inside.set()
                leave.wait(10)

        thread = threading.Thread(target=other)
        with one_blas_thread():
            thread.start()
            assert inside.wait(10)
        assert {blas_threads()[path] for path in limited} == {1}
        leave.set()
        thread.join()
        assert blas_threads() == before


def test_there_is_a_core_to_work_on():
    assert usable_cores() >= 1


KERNELS = {"Nehalem": "sse4_2", "Sandybridge": "avx", "Haswell": "avx2", "SkylakeX": "avx512dq"}
"""Kernels of OpenBLAS, and what a processor needs to run each."""
APART = """
import random
import numpy as np
from threadpoolctl import threadpool_info
from jammi_lab.features.vectors.encoders import minilm

draw = random.Random(0)
texts = [" ".join(draw.choices(["tree", "graphs", "of", "unseen", "tomatoes"], k=k)) for k in (1, 2, 9, 20, 21, 22, 23, 24, 40, 41, 90, 90, 9, 22, 200)]
encoder = minilm.MiniLM()
whole = encoder.encode(texts)
for chunk in (8, 100, 3072):
    minilm.MAX_CHUNK_TOKENS = chunk
    for picked in ([0], [5], [14], [11, 10], [13, 2, 7], draw.sample(range(15), 9)):
        assert np.array_equal(encoder.encode([texts[i] for i in picked]), whole[picked]), (chunk, picked)
print(threadpool_info()[0].get("architecture"))
"""


@pytest.mark.slow
@soak
@pytest.mark.parametrize("kernel", thinned(KERNELS, 3))
def test_a_text_has_its_bits_whatever_texts_are_beside_it_on_every_kernel(run_python, kernel):
    flags = Path("/proc/cpuinfo")
    if not flags.exists() or KERNELS[kernel] not in flags.read_text():
        pytest.skip(f"this processor does not run the kernel {kernel}")
    if run_python(APART, start=True, env={"OPENBLAS_CORETYPE": kernel}).stdout.split() != [kernel]:
        pytest.skip("numpy came with another BLAS")
