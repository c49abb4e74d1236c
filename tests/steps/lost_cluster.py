"""A cluster in a process of its own: `python -m tests.steps.lost_cluster` prints its address."""

import sys

if __name__ == "__main__":
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        protocol="tcp://",
        dashboard_address=None,
        memory_limit=None,
    ) as made:
        print(made.scheduler_address, flush=True)
        sys.stdin.read()
