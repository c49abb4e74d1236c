"""Keyed tables that change, as the catalog has them."""

from jammi_lab.values.base import Value


class MutableRecord(Value, frozen=True):
    """One mutable table."""

    table_id: int
    """Which table it is. Never given twice: one that is made again under its name is another one."""
    name: str
    """Its name."""
    schema: bytes
    """Its Arrow schema, as an IPC message."""
    key: list[str]
    """The columns that identify a row."""
    tenant: str | None = None
    """Whose it is; None is shared."""
    version: int = 0
    """How many changes were committed."""
    first_kept: int = 0
    """The oldest version that the changes since are still known of."""
    row_count: int = 0
    """Rows."""
    session: str | None = None
    """The ephemeral session that it belongs to."""
    created_at: str = ""
    """When it was made, RFC 3339."""
    numbered: bool = False
    """Whether its keys are whole numbers, and lie in the database as such."""


class Committed(Value, frozen=True):
    """What one change did to a mutable table."""

    version: int
    """The table's version after it; the one before when nothing differed."""
    inserted: int = 0
    """Rows that were not there before."""
    updated: int = 0
    """Rows that were there and are different now."""
    deleted: int = 0
    """Rows that are gone."""
    matched: int = 0
    """Rows that the change was about, whether or not they became different."""
