"""What looks saw is kept for later ones; where it cannot be kept, nothing else fails."""

from typing import Any

import pytest

from jammi_lab.errors import ResourceExhausted
from jammi_lab.observing.memo import ObservationMemo
from jammi_lab.storage.digests import MemoEntry
from jammi_lab.storage.files import Stat
from jammi_lab.wiring import Rooms

ENTRY = MemoEntry(stat=Stat(1, 2, 3, 4), observed_at_ns=5, payload={"whole": "w"})


def test_an_observation_that_a_full_disk_does_not_take_is_kept_and_stored_by_the_next_flush(ws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise ResourceExhausted("There is no space left.")

    rooms: Rooms = ws._rooms
    memo = ObservationMemo(rooms.catalog)
    memo.put("k", ENTRY)
    with monkeypatch.context() as patched:
        patched.setattr(rooms.catalog.memo, "put_many", full)
        memo.flush()
    assert memo.get("k") == ENTRY and rooms.catalog.memo.get("k") is None
    memo.flush()
    assert rooms.catalog.memo.get("k") == ENTRY
