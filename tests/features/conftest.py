"""A workspace over small files, whose clock grain does not matter."""

from tests.store.conftest import PAPERS, VENUES, folder, lab, papers

__all__ = ["PAPERS", "VENUES", "folder", "lab", "papers"]
