"""Random histories of PostgreSQL tables against their contents.

What a table was made from is read from the server by another connection, whose texts are compared:
a `Fresh`, and a table that is reused, must have been made from the rows that are there.
"""

import collections
import contextlib
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import jammi_lab as jl
from tests.sizes import sized, soak

psycopg = pytest.importorskip("psycopg")
pytestmark = [pytest.mark.services, pytest.mark.slow]

PLAIN, PARTITIONED, HEIRS, VIEW = "plain", "parted", "heirs", "stored"
RECIPES = {
    "plain_all": (PLAIN, "*"),
    "plain_v": (PLAIN, "v"),
    "plain_n": (PLAIN, "n"),
    "parted_all": (PARTITIONED, "*"),
    "parted_v": (PARTITIONED, "v"),
    "heirs_v": (HEIRS, "v"),
    "stored_all": (VIEW, "*"),
}
"""What is derived: a table of the server, and the columns that are read."""
WRITABLE = st.sampled_from([PLAIN, PARTITIONED, HEIRS, "heir", "part_0", "spare_0", "beside"])
ALTERABLE = st.sampled_from([PLAIN, PARTITIONED, HEIRS, "spare_0", "spare_1"])
COLUMNS = st.sampled_from(["v", "n"])
VALUES = st.sampled_from(["a", "b", "", "9"])
KEYS = st.integers(0, 3)
figures: collections.Counter[str] = collections.Counter()
Contents = tuple[Any, ...]


class ServerHistories(RuleBasedStateMachine):
    """Tables of one schema, one workspace that derives from them, and transactions of others."""

    url: ClassVar[str] = ""

    @initialize()
    def begin(self) -> None:
        self.exit = contextlib.ExitStack()
        self.schema = f"rows_{secrets.token_hex(4)}"
        self.server = self.connect()
        self.exit.callback(self.server.close)
        self.server.execute(f"CREATE SCHEMA {self.schema}")
        self.exit.callback(self.drop_schema)
        self.server.execute(f"SET search_path = {self.schema}")
        columns = "(k integer, v text DEFAULT 'a', n integer DEFAULT 1)"
        self.server.execute(
            f"""
            CREATE TABLE beside {columns}; CREATE TABLE {PLAIN} {columns};
            CREATE INDEX plain_k ON {PLAIN} (k);
            CREATE TABLE {HEIRS} {columns}; CREATE TABLE heir () INHERITS ({HEIRS});
            CREATE TABLE {PARTITIONED} {columns} PARTITION BY LIST (k);
            CREATE TABLE part_0 PARTITION OF {PARTITIONED} FOR VALUES IN (0, 1);
            CREATE TABLE part_1 PARTITION OF {PARTITIONED} DEFAULT;
            CREATE TABLE spare_0 {columns}; CREATE TABLE spare_1 {columns};
            INSERT INTO {PLAIN} SELECT g FROM generate_series(0, 3) g;
            INSERT INTO {HEIRS} VALUES (0), (1); INSERT INTO heir VALUES (2);
            INSERT INTO {PARTITIONED} SELECT g FROM generate_series(0, 3) g;
            INSERT INTO spare_0 VALUES (0, 'x'), (1, 'y'); INSERT INTO spare_1 VALUES (2, 'x'), (3, 'y');
            CREATE MATERIALIZED VIEW {VIEW} AS SELECT k, v FROM {PLAIN};
            """
        )
        self.others: list[Any] = []
        """Transactions that are open."""
        self.made_from: dict[str, Contents] = {}
        """By physical table."""
        folder = self.exit.enter_context(tempfile.TemporaryDirectory())
        self.ws = self.exit.enter_context(jl.open(Path(folder) / "lab"))
        self.ws.sources.add("pg", self.url, options={"schemas": [self.schema]})
        for name, (table, columns) in RECIPES.items():
            self.ws.materialize(name, f"SELECT {columns} FROM pg.{table}")
        self.note()

    def connect(self) -> Any:
        connection = psycopg.connect(self.url, autocommit=True, prepare_threshold=None)
        connection.execute("SET lock_timeout = '50ms'; SET client_min_messages = error")
        return connection

    def drop_schema(self) -> None:
        self.server.execute(f"SET lock_timeout = '20s'; DROP SCHEMA {self.schema} CASCADE")

    def run(self, *statements: str, together: bool = False) -> None:
        """Run what the state of the tables allows."""
        figures["changes"] += 1
        try:
            with self.server.transaction() if together else contextlib.nullcontext():
                for statement in statements:
                    self.server.execute(statement)
        except psycopg.Error:
            figures["refused"] += 1
            self.server.rollback()

    # -- rows

    @rule(table=WRITABLE, k=KEYS, v=VALUES)
    def insert(self, table: str, k: int, v: str) -> None:
        self.run(f"INSERT INTO {table} (k, v) VALUES ({k}, '{v}')")

    @rule(table=WRITABLE, k=KEYS)
    def insert_long(self, table: str, k: int) -> None:
        """A value that lies outside of its row."""
        self.run(
            f"INSERT INTO {table} (k, v) SELECT {k}, string_agg(md5(g::text), '') "
            "FROM generate_series(1, 200) g"
        )

    @rule(table=WRITABLE, k=KEYS, v=VALUES)
    def update(self, table: str, k: int, v: str) -> None:
        self.run(f"UPDATE {table} SET v = '{v}' WHERE k = {k}")

    @rule(table=WRITABLE, k=KEYS)
    def delete(self, table: str, k: int) -> None:
        self.run(f"DELETE FROM {table} WHERE k = {k}")

    @rule(table=WRITABLE, k=KEYS, v=VALUES)
    def replace(self, table: str, k: int, v: str) -> None:
        """As many rows as before."""
        self.run(
            f"WITH gone AS (DELETE FROM {table} WHERE k = {k} RETURNING k) "
            f"INSERT INTO {table} (k, v) SELECT k, '{v}' FROM gone"
        )

    @rule(k=KEYS, other=KEYS)
    def move(self, k: int, other: int) -> None:
        """To another partition."""
        self.run(f"UPDATE {PARTITIONED} SET k = {other} WHERE k = {k}")

    @rule(table=WRITABLE, v=VALUES, frozen=st.booleans())
    def load(self, table: str, v: str, frozen: bool) -> None:
        """Truncated and filled with as many rows, which FREEZE shows as if they were old."""
        figures["changes"] += 1
        with contextlib.suppress(psycopg.Error), self.server.transaction():
            rows = self.server.execute(f"SELECT k FROM {table}").fetchall()
            self.server.execute(f"TRUNCATE {table}")
            option = " WITH (FREEZE)" if frozen else ""
            with self.server.cursor().copy(f"COPY {table} (k, v) FROM STDIN{option}") as copy:
                for (k,) in rows:
                    copy.write_row((k, v))

    @rule(table=WRITABLE, k=KEYS, v=VALUES, truncates=st.booleans())
    def roll_back(self, table: str, k: int, v: str, truncates: bool) -> None:
        work = f"TRUNCATE {table}" if truncates else f"UPDATE {table} SET v = '{v}' WHERE k = {k}"
        self.run(f"BEGIN; {work}; INSERT INTO {table} (k) VALUES ({k}); ROLLBACK")

    @rule(table=WRITABLE, k=KEYS, v=VALUES)
    def half(self, table: str, k: int, v: str) -> None:
        """A transaction of which a part is rolled back."""
        self.run(
            f"BEGIN; SAVEPOINT a; DELETE FROM {table} WHERE k = {k}; ROLLBACK TO a; SAVEPOINT b; "
            f"UPDATE {table} SET v = '{v}' WHERE k = {k}; RELEASE b; COMMIT"
        )

    # -- transactions of others

    @rule(table=WRITABLE, k=KEYS, v=VALUES, writes=st.sampled_from(["nothing", "update", "swap"]))
    def open_another(self, table: str, k: int, v: str, writes: str) -> None:
        if len(self.others) >= 2:
            return
        other = self.connect()
        self.exit.callback(other.close)
        other.execute(f"SET search_path = {self.schema}")
        other.execute("BEGIN; SELECT txid_current()")
        self.others.append(other)
        with contextlib.suppress(psycopg.Error):
            if writes == "update":
                other.execute(f"UPDATE {table} SET v = '{v}' WHERE k = {k}")
            elif writes == "swap":
                other.execute(
                    f"WITH gone AS (DELETE FROM {table} WHERE k = {k} RETURNING k) "
                    f"INSERT INTO {table} (k, v) SELECT k, '{v}' FROM gone"
                )

    @rule(commits=st.booleans(), which=st.integers(0, 1))
    def end_another(self, commits: bool, which: int) -> None:
        if which < len(self.others):
            other = self.others.pop(which)
            other.execute("COMMIT" if commits else "ROLLBACK")
            other.close()

    @rule(count=st.integers(1, 5))
    def pass_transactions(self, count: int) -> None:
        for _ in range(count):
            self.server.execute("SELECT txid_current()")

    # -- files

    @rule(
        table=WRITABLE,
        how=st.sampled_from(
            ["VACUUM", "VACUUM (FREEZE)", "VACUUM FULL", "ANALYZE", "REINDEX TABLE"]
        ),
    )
    def maintain(self, table: str, how: str) -> None:
        self.run(f"{how} {table}")

    @rule()
    def cluster(self) -> None:
        self.run(f"CLUSTER {PLAIN} USING plain_k")

    @rule(table=WRITABLE, kind=st.sampled_from(["LOGGED", "UNLOGGED"]))
    def log(self, table: str, kind: str) -> None:
        self.run(f"ALTER TABLE {table} SET {kind}")

    @rule(table=st.sampled_from([PLAIN, "spare_0", "spare_1"]), v=VALUES)
    def copy_in_place(self, table: str, v: str) -> None:
        """Another table under the name, with as many rows."""
        self.run(
            f"CREATE TABLE fresh_{table} (LIKE {table} INCLUDING ALL)",
            f"INSERT INTO fresh_{table} (k, v, n) SELECT k, v, n FROM {table}",
            f"UPDATE fresh_{table} SET v = '{v}' WHERE k = 0",
            f"DROP TABLE {table} CASCADE",
            f"ALTER TABLE fresh_{table} RENAME TO {table}",
            together=True,
        )

    @rule()
    def change_places(self) -> None:
        self.run(
            f"ALTER TABLE {PLAIN} RENAME TO meanwhile",
            f"ALTER TABLE beside RENAME TO {PLAIN}",
            "ALTER TABLE meanwhile RENAME TO beside",
            together=True,
        )

    @rule(concurrently=st.booleans())
    def refresh(self, concurrently: bool) -> None:
        if concurrently:
            self.run(f"CREATE UNIQUE INDEX IF NOT EXISTS stored_u ON {VIEW} (k)")
        self.run(f"REFRESH MATERIALIZED VIEW {'CONCURRENTLY ' * concurrently}{VIEW}")

    # -- columns

    @rule(table=ALTERABLE, column=COLUMNS, v=VALUES)
    def another_column(self, table: str, column: str, v: str) -> None:
        """Dropped and added with a default, which writes no row."""
        kind, default = ("text", f"'{v}'") if column == "v" else ("integer", f"{len(v)}")
        self.run(
            f"ALTER TABLE {table} DROP COLUMN {column} CASCADE",
            f"ALTER TABLE {table} ADD COLUMN {column} {kind} DEFAULT {default}",
            together=True,
        )

    @rule(table=ALTERABLE, default=VALUES)
    def default(self, table: str, default: str) -> None:
        self.run(f"ALTER TABLE {table} ALTER v SET DEFAULT '{default}'")

    @rule(table=ALTERABLE)
    def names_change_places(self, table: str) -> None:
        self.run(
            f"ALTER TABLE {table} RENAME v TO x",
            f"ALTER TABLE {table} RENAME n TO v",
            f"ALTER TABLE {table} RENAME x TO n",
            together=True,
        )

    @rule(
        table=ALTERABLE,
        change=st.sampled_from(
            [
                "v TYPE varchar(4000)",
                "v TYPE text",
                "v TYPE text USING v || 'x'",
                "v TYPE text USING 'q'",
                "n TYPE bigint",
                "n TYPE integer",
                "n TYPE integer USING n + 1",
                "n TYPE text",
            ]
        ),
    )
    def alter(self, table: str, change: str) -> None:
        self.run(f"ALTER TABLE {table} ALTER {change}")

    @rule(table=ALTERABLE, adds=st.booleans(), by=st.integers(1, 2))
    def generated(self, table: str, adds: bool, by: int) -> None:
        self.run(f"ALTER TABLE {table} DROP COLUMN IF EXISTS g")
        if adds:
            self.run(f"ALTER TABLE {table} ADD g integer GENERATED ALWAYS AS (k + {by}) STORED")

    # -- partitions and heirs

    @rule(number=st.integers(0, 1), column=st.sampled_from(["", *"vn"]), v=VALUES)
    def swap_partition(self, number: int, column: str, v: str) -> None:
        """The spare one in place of the partition, perhaps with another column of the same name."""
        kind, default = ("text", f"'{v}'") if column == "v" else ("integer", f"{len(v)}")
        bound = "FOR VALUES IN (0, 1)" if number == 0 else "DEFAULT"
        self.run(
            f"ALTER TABLE {PARTITIONED} DETACH PARTITION part_{number}",
            *(
                [
                    f"ALTER TABLE part_{number} DROP COLUMN {column}",
                    f"ALTER TABLE part_{number} ADD COLUMN {column} {kind} DEFAULT {default}",
                ]
                if column
                else [
                    f"ALTER TABLE part_{number} RENAME TO meanwhile",
                    f"ALTER TABLE spare_{number} RENAME TO part_{number}",
                    f"ALTER TABLE meanwhile RENAME TO spare_{number}",
                ]
            ),
            f"ALTER TABLE {PARTITIONED} ATTACH PARTITION part_{number} {bound}",
            together=True,
        )

    @rule(number=st.integers(0, 1))
    def swap_names_in_a_partition(self, number: int) -> None:
        bound = "FOR VALUES IN (0, 1)" if number == 0 else "DEFAULT"
        part = f"part_{number}"
        self.run(
            f"ALTER TABLE {PARTITIONED} DETACH PARTITION {part}",
            f"ALTER TABLE {part} RENAME v TO x",
            f"ALTER TABLE {part} ALTER x DROP DEFAULT, ALTER n DROP DEFAULT",
            f"ALTER TABLE {part} ALTER n TYPE text, ALTER x TYPE integer USING length(x)",
            f"ALTER TABLE {part} RENAME n TO v",
            f"ALTER TABLE {part} RENAME x TO n",
            f"ALTER TABLE {PARTITIONED} ATTACH PARTITION {part} {bound}",
            together=True,
        )

    @rule(inherits=st.booleans(), table=st.sampled_from(["heir", "spare_1"]))
    def inherit(self, inherits: bool, table: str) -> None:
        self.run(f"ALTER TABLE {table} {'' if inherits else 'NO '}INHERIT {HEIRS}")

    @rule(enables=st.booleans())
    def row_security(self, enables: bool) -> None:
        self.run(f"ALTER TABLE {PLAIN} {'ENABLE' if enables else 'DISABLE'} ROW LEVEL SECURITY")

    # -- what is derived

    @rule(names=st.none() | st.sampled_from(sorted(RECIPES)))
    def recompute(self, names: str | None) -> None:
        with contextlib.suppress(jl.JammiError):  # of a table without the column
            self.ws.recompute(names)
        self.note()

    @rule()
    def reopen(self) -> None:
        """What is known of the tables is in the catalog."""
        folder = self.ws.path
        self.ws.close()
        self.ws = self.exit.enter_context(jl.open(folder))

    def note(self) -> None:
        for name, recipe in RECIPES.items():
            table = self.ws.table(name).table_name
            now = self.contents(*recipe)
            if table not in self.made_from:
                self.made_from[table] = now

    def contents(self, table: str, columns: str) -> Contents:
        """The types of the columns, and the texts of the rows."""
        try:
            cursor = self.server.execute(f"SELECT {columns} FROM {table}")
            kinds = [(each.name, each.type_code) for each in cursor.description]
            return kinds, sorted(map(repr, cursor.fetchall()))
        except psycopg.Error as error:
            return (type(error).__name__,)

    @invariant()
    def nothing_is_fresh_that_is_not(self) -> None:
        if not hasattr(self, "ws"):
            return
        figures["steps"] += 1
        for row in self.ws.status(deep=True):
            figures["verdicts"] += 1
            made_from = self.made_from[self.ws.table(row.name).table_name]
            now = self.contents(*RECIPES[row.name])
            if row.verdict == jl.Fresh():
                figures["fresh"] += 1
                figures["false"] += made_from != now
                assert made_from == now, f"{row.name} is {row.verdict}: of {made_from}, not {now}"
            else:
                figures["alarms"] += made_from == now

    def teardown(self) -> None:
        if hasattr(self, "exit"):
            for other in self.others:
                other.close()
            self.exit.close()


ServerHistories.TestCase.settings = settings(
    max_examples=sized(3, 40),
    stateful_step_count=sized(15, 40),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@soak
@pytest.mark.timeout(sized(300, 7200))
class TestServerHistories(ServerHistories.TestCase):
    @pytest.fixture(autouse=True)
    def served(self, postgres_url: str, tell: Callable[[str], None]) -> Iterator[None]:
        ServerHistories.url = postgres_url
        figures.clear()
        yield
        tell(
            f"{figures['steps']} steps, {figures['changes']} changes of which the server refused "
            f"{figures['refused']}, {figures['verdicts']} verdicts, {figures['fresh']} of them fresh and all true, "
            f"{figures['alarms']} not fresh over equal rows"
        )
        assert figures["fresh"] and not figures["false"]
