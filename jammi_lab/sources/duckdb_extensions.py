"""DuckDB extensions, installed as pinned wheels and loaded by path on first use.

A relation names the extensions that its body needs, `Requirements(extensions=("delta",))`. The code
that runs the body loads them: the engine into a tenant's instance (`engine/attachments.py`),
`sources/scratch_duckdb.py` into a temporary one. Neither network nor a home directory is needed.
"""

import importlib.util
from collections.abc import Iterable
from pathlib import Path

import duckdb

from jammi_lab.core.errors import ExtensionMissing
from jammi_lab.core.identifiers import sql_literal

EXTRAS = {
    "postgres_scanner": "postgres",
    "mysql_scanner": "mysql",
    "sqlite_scanner": "sqlite",
    "delta": "delta",
    "iceberg": "iceberg",
    "avro": "iceberg",
    "httpfs": "s3",
}
"""The extra of jammi-lab that installs each extension."""
_PREREQUISITES = {"iceberg": ("avro",)}
"""Extensions to load first; otherwise DuckDB would try to download them."""


def path_of(name: str) -> Path:
    """The file of an extension for this version of DuckDB. Raises ExtensionMissing, which names the
    extra to install."""
    spec = importlib.util.find_spec(f"duckdb_extension_{name}")
    if spec is not None and spec.origin is not None:
        path = (
            Path(spec.origin).parent
            / "extensions"
            / f"v{duckdb.__version__}"
            / f"{name}.duckdb_extension"
        )
        if path.is_file():
            return path
    extra = EXTRAS.get(name, name)
    raise ExtensionMissing(
        f"The DuckDB extension {name} is not installed for DuckDB {duckdb.__version__}.",
        hint=f'Run: pip install "jammi-lab[{extra}]"; it brings the DuckDB that it needs.',
    )


def load(connection: duckdb.DuckDBPyConnection, names: Iterable[str]) -> None:
    """Load extensions into the instance of a connection, which checks their signatures. Raises
    ExtensionMissing, duckdb.Error."""
    for path in _paths(names):
        connection.execute(f"LOAD {sql_literal(str(path))}")


def _paths(names: Iterable[str]) -> list[Path]:
    return [
        path_of(extension) for name in names for extension in (*_PREREQUISITES.get(name, ()), name)
    ]
