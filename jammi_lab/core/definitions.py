"""Producer descriptors: what a producer is to compute, as values stored verbatim, and the
definition hash over their identity."""

import datetime
import decimal
import uuid
from typing import Any

from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.value import Value

HASH_SCHEME = "definition-1"
TEXT_DIGEST_COLUMN = "_text_digest"
"""The column of embeddings and lexical tables that holds the digest of each text."""


class CanonicalStatement(Value, frozen=True):
    """The canonical form of an SQL statement: it differs whenever the rows could differ."""

    scheme: str
    """The canonicaliser and its scheme number."""
    digest: str
    """The digest of the canonical syntax tree."""
    output: list[tuple[str, str]]
    """Exact names and SQL types of the output columns."""


class StepInput(Value, frozen=True):
    """One input of a Python step, or of a producer over several tables."""

    asked: str
    """The source, table or SQL as written; not hashed."""
    statement: str
    """The SELECT of its rows; not hashed."""
    canonical: CanonicalStatement
    """Its canonical form; hashed."""


# `datetime` must come before `date`, of which it is a subclass.
_TEXT_CODECS: dict[str, tuple[type, Any, Any]] = {
    "datetime": (datetime.datetime, datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    "date": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
    "time": (datetime.time, datetime.time.isoformat, datetime.time.fromisoformat),
    "decimal": (decimal.Decimal, str, decimal.Decimal),
    "uuid": (uuid.UUID, str, uuid.UUID),
    "float": (float, float.hex, float.fromhex),
    "bytes": (bytes, bytes.hex, bytes.fromhex),
}


def encode_param(value: Any) -> Any:
    """A bound value as JSON that preserves its type: 1, 1.0, True and "1" stay distinct. Raises
    InvalidArgument for a value that SQL cannot bind."""
    # NumPy scalars are converted to their Python value, without importing NumPy.
    item = getattr(value, "item", None)
    if item is not None and getattr(value, "shape", None) == ():
        value = item()
    match value:
        case None | bool():
            return value
        case int():
            return int(value)  # JSON encoders reject subclasses of int
        case str():
            return _check_encodable(str.__str__(value))
        case datetime.timedelta():
            return {"timedelta": [value.days, value.seconds, value.microseconds]}
        case list() | tuple():
            return [encode_param(v) for v in value]
        case dict():
            return {"dict": [[encode_param(k), encode_param(v)] for k, v in value.items()]}
    for name, (kind, write, _) in _TEXT_CODECS.items():
        if isinstance(value, kind):
            return {name: write(value)}
    raise InvalidArgument(
        f"A value of type {type(value).__name__} cannot be bound as a parameter.",
        hint="Pass a number, text, bytes, date, time, list or dict.",
    )


def _check_encodable(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(
            f"The text {value[:40]!r} contains an unpaired surrogate and cannot be bound as a "
            "parameter.",
            hint="Replace it: text.encode('utf-8', 'replace').decode().",
        ) from None
    return value


def decode_param(plain: Any) -> Any:
    """The Python value that `encode_param` encoded."""
    if isinstance(plain, list):
        return [decode_param(v) for v in plain]
    if not isinstance(plain, dict):
        return plain
    [(name, body)] = plain.items()
    if name == "timedelta":
        return datetime.timedelta(*body)
    if name == "dict":
        return {decode_param(k): decode_param(v) for k, v in body}
    return _TEXT_CODECS[name][2](body)
