"""A catalog in a temporary folder or in PostgreSQL, and short ways to put rows into it."""

import itertools
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jammi_lab.catalog import Catalog
from jammi_lab.core.anchors import Anchor, AnchorKind, Input
from jammi_lab.core.clock import SystemClock
from jammi_lab.core.manifest import ManifestColumn
from jammi_lab.core.records import RecipeRecord, TableRecord, TableStatus
from jammi_lab.core.tenancy import TenantScope
from tests.services.servers import run_postgres

_numbers = itertools.count(1)
EDGE_KINDS = {
    "result": AnchorKind.RESULT_DIGEST,
    "source": AnchorKind.SOURCE_VERSION,
}


class Lab:
    """A catalog with its scope and one writer."""

    def __init__(self, place: Path | str) -> None:
        self.place = place
        self.scope = TenantScope()
        self.catalog = Catalog(place, scope=self.scope, clock=SystemClock())
        self.writer = self.catalog.writers.register()

    def __getattr__(self, name: str) -> Any:
        """What is no short way is asked of the catalog."""
        return getattr(self.__dict__["catalog"], name)

    @property
    def path(self) -> Path:
        """Of a catalog that is a file."""
        assert isinstance(self.place, Path)
        return self.place

    def record(self, recipe: str, definition: str | None = None, **fields: object) -> TableRecord:
        """A record that was not begun yet, of the bound tenant."""
        n = next(_numbers)
        record = TableRecord(
            table_name=f"{recipe.lower()}__sql__{n}",
            kind="sql",
            status=TableStatus.BUILDING,
            recipe=recipe,
            version=0,
            tenant=self.scope.current,
            writer_id=self.writer,
            definition_hash=definition or f"hash {n}",
            path=f"results/_global/{n}.parquet",
        )
        return msgspec.structs.replace(record, **fields)

    def begin(
        self,
        recipe: str,
        definition: str | None = None,
        *,
        model_key: str | None = None,
        **fields: object,
    ) -> TableRecord:
        return self.catalog.table_status.begin(self.record(recipe, definition, **fields), model_key)

    def ready(
        self, recipe: str, *reads: str | Input, definition: str | None = None, **fields: object
    ) -> TableRecord:
        """A published table; a text in `reads` is a recipe or physical table, one with `source:`
        before it a source."""
        begun = self.begin(recipe, definition, **fields)
        return self.catalog.table_status.publish(
            msgspec.structs.replace(begun, anchors=[anchored(r) for r in reads]), b"{}\n"
        )

    def drop(self, table: TableRecord) -> tuple[str, bool] | None:
        """Take away the version that a table was made as; this writer removes its files."""
        return self.catalog.table_status.drop_version(table.recipe, table.version, self.writer)

    def define(self, name: str, definition: str = "d") -> RecipeRecord:
        return self.catalog.recipes.put(
            RecipeRecord(
                name=name,
                kind="sql",
                descriptor={"sql": definition},
                environment={},
                definition_hash=definition,
                tenant=self.scope.current,
            )
        )

    def close(self) -> None:
        self.catalog.writers.retire(self.writer)
        self.catalog.close()


def anchored(read: str | Input) -> Anchor:
    if isinstance(read, str):
        kind, _, name = read.rpartition(":") if read.startswith("source:") else ("result", "", read)
        read = Input(kind, name)
    return Anchor(
        input=read, kind=EDGE_KINDS[read.kind], value="v", method="test", types=("BIGINT",)
    )


def place_of(said: str) -> Path | str:
    """What a catalog is opened by, from the text that a child process was given."""
    return said if "://" in said else Path(said)


sqlite_only = pytest.mark.parametrize("catalog_place", ["sqlite"], indirect=True)
"""For tests of what only a catalog in a file has; all others are run over both."""
postgresql_only = pytest.mark.parametrize(
    "catalog_place", [pytest.param("postgresql", marks=pytest.mark.services)], indirect=True
)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def catalog_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | str]:
    """Where a new catalog may be made: a path, or a URL with a schema that is dropped
    afterwards."""
    if request.param == "sqlite":
        yield tmp_path / "catalog.sqlite3"
        return
    url, schema = request.getfixturevalue("postgres_url"), f"t_{secrets.token_hex(8)}"
    yield f"{url}?schema={schema}"
    run_postgres(url, f"DROP SCHEMA IF EXISTS {schema} CASCADE")


@pytest.fixture
def lab(catalog_place: Path | str) -> Iterator[Lab]:
    made = Lab(catalog_place)
    yield made
    made.close()


@pytest.fixture
def open_catalog(catalog_place: Path | str) -> Iterator[Callable[..., Catalog]]:
    """Opens the catalog of `lab` (or a new one) once more; closed after the test."""
    opened: list[Catalog] = []

    def again(place: Path | str = catalog_place, **options: object) -> Catalog:
        opened.append(Catalog(place, scope=TenantScope(), clock=SystemClock(), **options))  # type: ignore[arg-type]
        return opened[-1]

    yield again
    for catalog in opened:
        catalog.close()


FULL = {
    "source_id": "papers",
    "model_id": "m",
    "derived_from": "x",
    "key": ["a", 'b"c'],
    "dimensions": 3,
    "row_count": 7,
    "bytes": 99,
    "seconds": 0.25,
    "columns": [ManifestColumn(name="Größe", type="BIGINT", digest="d")],
    "digest": "0" * 64,
    "manifest_digest": "1" * 64,
    "order_sensitive": True,
    "flight": False,
}
