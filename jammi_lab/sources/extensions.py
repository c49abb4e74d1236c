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
from jammi_lab.storage.files import Stat, plain_stat

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
UNSIGNED = {"allow_unsigned_extensions": "true"}
"""Settings of an instance that loads files without asking for their signature."""
_checked: dict[Path, Stat | None] = {}
"""What the file of each extension was when DuckDB found its signature right."""


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


def are_checked(names: Iterable[str]) -> bool:
    """Whether DuckDB has checked the signature of each in this process, and no file is another since. ExtensionMissing."""
    return all(_checked.get(path) == plain_stat(path) for path in _paths(names))


def load(connection: duckdb.DuckDBPyConnection, names: Iterable[str], *, checked: bool = False) -> None:
    """Load extensions into the instance of a connection; one that is loaded already costs nothing. ExtensionMissing, duckdb.Error.

    To check a signature, DuckDB hashes the whole file: 60 to 140 ms each time. Those that `are_checked` may go into an instance that is opened with
    `UNSIGNED`, which is taken from it afterwards.
    """
    for path in _paths(names):
        stat = plain_stat(path)
        connection.execute(f"LOAD {literal(str(path))}")
        if not checked:
            _checked[path] = stat
    if checked:
        connection.execute("SET GLOBAL allow_unsigned_extensions = false")  # DuckDB lets nobody set it again


def _paths(names: Iterable[str]) -> list[Path]:
    return [path_of(each) for name in names for each in (*_FIRST.get(name, ()), name)]
