"""Random histories once more, with the catalog in PostgreSQL."""

from collections.abc import Iterator
from typing import ClassVar

import pytest
from hypothesis import settings

from jammi_lab.workspace.workspace import Workspace
from tests.features.live.clocks import opened
from tests.services.servers import run_postgres
from tests.stateful.test_histories import Histories

pytestmark = [pytest.mark.services, pytest.mark.slow]


class OnPostgres(Histories):
    """The same histories; each has a schema of its own."""

    server: ClassVar[str] = ""

    def open(self) -> Workspace:
        folder = self.root / "lab"
        folder.mkdir(exist_ok=True)
        schema = f"h_{self.root.name.rsplit('-', 1)[1].lower()}"
        return opened(folder, self.clock, {"catalog.url": f"{self.server}?schema={schema}"})

    def teardown(self) -> None:
        label = self.ws.settings["catalog.url"]
        super().teardown()
        run_postgres(self.server, f"DROP SCHEMA {label.rsplit('=', 1)[1]} CASCADE")


OnPostgres.TestCase.settings = settings(
    Histories.TestCase.settings, max_examples=6, stateful_step_count=10
)


@pytest.mark.only_soak
@pytest.mark.timeout(300)
class TestHistoriesOnPostgres(OnPostgres.TestCase):
    @pytest.fixture(autouse=True)
    def served(self, postgres_url: str) -> Iterator[None]:
        OnPostgres.server = postgres_url
        yield
        OnPostgres.server = ""
