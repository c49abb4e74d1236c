import threading

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from jammi_lab.embedders.blas import cores, one_blas_thread


def blas_threads():
    np.ones((2, 2)) @ np.ones((2, 2))
    return [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]


def test_the_limit_holds_until_the_last_of_overlapping_holders_is_done():
    with threadpool_limits(2, "blas"):
        before = blas_threads()
        inside, leave = threading.Event(), threading.Event()

        def other():
            with one_blas_thread():
                inside.set()
                leave.wait(10)

        thread = threading.Thread(target=other)
        with one_blas_thread():
            thread.start()
            assert inside.wait(10)
        assert set(blas_threads()) == {1}
        leave.set()
        thread.join()
        assert blas_threads() == before


def test_there_is_a_core_to_work_on():
    assert cores() >= 1
