"""What looks saw is kept for later ones; where it cannot be kept, nothing else fails."""

from typing import TYPE_CHECKING

from jammi_lab.core.errors import ResourceExhausted
from jammi_lab.inputs.observation_cache import ObservationCache
from jammi_lab.storage.digests import CacheEntry
from jammi_lab.storage.files import Stat
from tests.inside import services_of

if TYPE_CHECKING:
    from jammi_lab.workspace.assembly import Services

ENTRY = CacheEntry(stat=Stat(1, 2, 3, 4), observed_at_ns=5, payload={"whole": "w"})


def test_an_observation_that_a_full_disk_does_not_take_is_kept_and_stored_by_the_next_flush(
    ws, monkeypatch
):
    def full(_: object) -> None:
        raise ResourceExhausted("There is no space left.")

    services: Services = services_of(ws)
    memo = ObservationCache(services.catalog)
    memo.put("k", ENTRY)
    with monkeypatch.context() as patched:
        patched.setattr(services.catalog.observations, "put_many", full)
        memo.flush()
    assert memo.get("k") == ENTRY and services.catalog.observations.get("k") is None
    memo.flush()
    assert services.catalog.observations.get("k") == ENTRY
