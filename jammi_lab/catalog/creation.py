"""Creating a catalog, and recognising its format."""

from jammi_lab.catalog.connection import Connection
from jammi_lab.catalog.database import Database
from jammi_lab.catalog.schema import CREATE_STATEMENTS, FORMAT, format_table
from jammi_lab.core.errors import CatalogTooNew

_GET_FORMAT = f"SELECT format FROM {format_table.name}"


def create_tables(database: Database, created_at: str) -> None:
    """Create the tables of a new catalog in one transaction; an existing one costs one query.

    Raises CatalogTooNew, and changes nothing, when another release has written the catalog.
    """
    if database.existed and database.has_table(format_table.name):
        with database.read() as tx:
            _check_format(database, tx)
        return
    with database.write() as tx:
        # looked up again under the write lock: another kernel may have created it meanwhile
        if database.has_table(format_table.name):
            _check_format(database, tx)
            return
        for statement in database.dialect.setup_statements:
            tx.execute(statement)
        for statement in CREATE_STATEMENTS:
            tx.execute(database.dialect.ddl(statement))
        tx.execute(format_table.insert, {"format": FORMAT, "created_at": created_at})


def _check_format(database: Database, tx: Connection) -> None:
    [(found,)] = tx.fetch(_GET_FORMAT) or [("unknown",)]
    if found != FORMAT:
        raise CatalogTooNew(
            f"The catalog {database.label} was written by a later release (format {found}; this "
            f"one reads format {FORMAT}).",
            hint="Update jammi_lab to open it: pip install --upgrade jammi-lab",
        )
