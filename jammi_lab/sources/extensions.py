"""DuckDB's extensions: each comes as a pinned wheel of one file and is loaded by its path on first use.

A relation says what its body needs by name, `Relation(…, extensions=("delta",))`, and whoever runs the body loads it before: the engine into a
tenant's instance (`engine/attachments.py`), `sources/scratch.py` into a DuckDB of a moment. No network and no home directory is needed.
"""

import importlib.util
from collections.abc import Iterable
from pathlib import Path

import duckdb

from jammi_lab.errors import ExtensionMissing
from jammi_lab.names import literal

EXTRAS = {
    "postgres_scanner": "postgres",
    "mysql_scanner": "mysql",
    "sqlite_scanner": "sqlite",
    "delta": "delta",
    "iceberg": "iceberg",
    "avro": "iceberg",
    "excel": "excel",
    "httpfs": "s3",
}
"""For each extension the extra of jammi-lab that installs it."""
_FIRST = {"iceberg": ("avro",)}
"""What must be loaded before it; otherwise DuckDB would try to download it."""


def path_of(name: str) -> Path:
    """The file of an extension, made for this version of DuckDB. ExtensionMissing naming the extra that installs it."""
    spec = importlib.util.find_spec(f"duckdb_extension_{name}")
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
        if path.is_file():
            return path
    extra = EXTRAS.get(name, name)
    raise ExtensionMissing(
        f"DuckDB's extension {name} is not installed for DuckDB {duckdb.__version__}.", hint=f'Run: pip install "jammi-lab[{extra}]".'
    )


def load(connection: duckdb.DuckDBPyConnection, names: Iterable[str]) -> None:
    """Load extensions into the instance of a connection; one that is loaded already costs nothing. ExtensionMissing, duckdb.Error."""
    for name in names:
        for each in (*_FIRST.get(name, ()), name):
            connection.execute(f"LOAD {literal(str(path_of(each)))}")
