"""What a corpus of statements gives, as it was with the pinned DuckDB.

Each line of `tests/cases/results/statements.tsv` is a digest of the rows (names, types and values,
in the total order in which they would be stored) and a statement over the two files beside it.
`python -m tests.engine.test_results` writes the digests anew, and tells which changed.
"""

import sys
from pathlib import Path

import pytest

from jammi_lab.core.anchors import source_input
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.settings import Settings
from jammi_lab.engine import Engine
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.engine.sql import releases
from jammi_lab.sources.base import ReadPlan, Relation
from jammi_lab.storage.arrow_digests import table_digest

pytestmark = pytest.mark.one_engine

FOLDER = Path(__file__).parents[1] / "cases" / "results"
FILE = FOLDER / "statements.tsv"
CHANGED_IN_2 = (
    *("list_zip(", "epoch_ms(moment)", "round_even(", "skewness(", "fsum(", "row(1, 'a')"),
    "round(height, 1)",
)
WHAT_TO_DO = """gives other rows than with the DuckDB that the tables of today were made by.
If that is what the new release is meant to do, tables made before are not what their statements give now:
  1. raise REVISION in jammi_lab/steps/sql.py, which makes every SQL table stale,
  2. write the digests anew: python -m tests.engine.test_results,
  3. say in CHANGELOG.md what changed and that tables will be computed again.
If it is not meant, or is a bug of the release, do not move to it."""


class Files(NameResolver):
    """The two files as sources, read as text that says its types."""

    def resolve(self, parts: tuple[str, ...]) -> Relation | None:
        path = FOLDER / f"{parts[0].lower()}.csv"
        if len(parts) != 1 or not path.exists():
            return None
        types = {
            "people": {
                "id": "INTEGER",
                "name": "VARCHAR",
                "born": "DATE",
                "height": "DOUBLE",
                "score": "DECIMAL(9, 3)",
                "tags": "VARCHAR",
                "town": "VARCHAR",
            },
            "events": {
                "person": "BIGINT",
                "moment": "TIMESTAMP",
                "kind": "VARCHAR",
                "amount": "DOUBLE",
            },
        }[parts[0].lower()]
        columns = ", ".join(f"'{name}': '{kind}'" for name, kind in types.items())
        return Relation(
            source_input(parts[0].lower()),
            ReadPlan(
                body=f"SELECT * FROM read_csv('{path}', header = true, columns = {{{columns}}})"
            ),
        )

    def names(self) -> list[str]:
        return ["people", "events"]


def corpus() -> list[tuple[str, str]]:
    lines = [
        line
        for line in FILE.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    return [(digest, sql) for digest, sql in (line.split("\t", 1) for line in lines)]


def rows(engine: Engine, sql: str) -> str:
    [prepared] = engine.prepare(sql)
    assert not prepared.volatile and not prepared.reads_clock, (
        "what differs from day to day has no digest"
    )
    table = prepared.run_ordered().table()
    return digest_of([prepared.output, table_digest(table)])[:16]


def engine_here(folder: Path) -> Engine:
    engine = Engine(Settings({"engine.threads": 1}), folder)
    engine.register(Files())
    return engine


@pytest.mark.parametrize(("digest", "sql"), corpus(), ids=range(len(corpus())))
def test_a_statement_gives_the_rows_that_it_gave(engine_of_files, digest, sql):
    if releases.IS_2 and any(call in sql for call in CHANGED_IN_2):
        pytest.skip("DuckDB 2 returns other values or types")
    assert rows(engine_of_files, sql) == digest, f"{sql}\n{WHAT_TO_DO}"


def test_there_are_enough_statements():
    assert len(corpus()) >= 80


def test_a_digest_tells_rows_names_and_types_apart(engine_of_files):
    said = [
        rows(engine_of_files, sql)
        for sql in (
            "SELECT 1 AS a",
            "SELECT 2 AS a",
            "SELECT 1 AS b",
            "SELECT 1::BIGINT AS a",
            "SELECT NULL::INTEGER AS a",
            "SELECT 0.0::DOUBLE AS a",
            "SELECT -0.0::DOUBLE AS a",
        )
    ]
    assert len(set(said)) == len(said)


@pytest.fixture(scope="module")
def engine_of_files(tmp_path_factory: pytest.TempPathFactory) -> object:
    engine = engine_here(tmp_path_factory.mktemp("results"))
    yield engine
    engine.close()


def main() -> None:
    """Write the digests of all statements anew."""
    import tempfile

    head = [line for line in FILE.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    with tempfile.TemporaryDirectory() as folder:
        engine = engine_here(Path(folder))
        found = [(rows(engine, sql), digest, sql) for digest, sql in corpus()]
        engine.close()
    for now, before, sql in found:
        if now != before:
            sys.stdout.write(f"changed: {sql}\n")
    FILE.write_text(
        "\n".join([*head, *(f"{now}\t{sql}" for now, _, sql in found)]) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
