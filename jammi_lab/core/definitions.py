"""Producer descriptors: what a producer is to compute, as values stored verbatim, and the
definition hash over their identity."""

import datetime
import decimal
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.errors import InvalidArgument, invalid_row_error
from jammi_lab.core.identifiers import fold
from jammi_lab.core.value import Value

HASH_SCHEME = "definition-1"
TEXT_DIGEST_COLUMN = "_text_digest"
"""The column of embeddings and lexical tables that holds the digest of each text."""


_NOT_HASHED = {
    "row_map": ("statement", "asked", "function", "source", "batch", "concurrency", "cost")
}
"""By producer: the fields that do not define its output, where they are not the usual ones."""


def hashed_fields(descriptor: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a stored descriptor that define its output, without those that record only how
    it was written."""
    # A Python step is identified by the digest of its code, not by where the code is.
    if descriptor.get("producer") == "python":
        fields = {k: v for k, v in descriptor.items() if k not in ("function", "source")}
        return {
            **fields,
            "inputs": [step_input["canonical"] for step_input in descriptor["inputs"]],
        }
    unhashed = _NOT_HASHED.get(descriptor.get("producer", ""), ("statement", "asked", "model"))
    return {
        k: v["canonical"] if _is_input(v) else v for k, v in descriptor.items() if k not in unhashed
    }


def _is_input(field: Any) -> bool:
    return isinstance(field, Mapping) and field.keys() == {"asked", "statement", "canonical"}


class CanonicalStatement(Value, frozen=True):
    """The canonical form of an SQL statement: three parts that differ whenever the rows could
    differ, and ignore everything else."""

    scheme: str
    """The canonicaliser and its scheme number."""
    text: str
    """The canonical text."""
    constants: list[Any]
    """The typed constants of the syntax tree, in order."""
    output: list[tuple[str, str]]
    """Exact names and SQL types of the output columns."""


class _HashedDescriptor(Value, frozen=True):
    """A descriptor whose identity is the result of `hashed_fields`."""

    def identity(self) -> dict[str, Any]:
        """What the definition hash covers."""
        return hashed_fields(self.to_dict())


class EmbeddingDescriptor(
    _HashedDescriptor, frozen=True, omit_defaults=True, tag_field="producer", tag="embedding"
):
    """Texts of a table, encoded as vectors."""

    statement: str
    """The SELECT of key and texts; not hashed."""
    canonical: CanonicalStatement
    """Its canonical form; hashed."""
    asked: str
    """The source, table or SQL as written; not hashed."""
    key: str
    """The key column."""
    text: list[str]
    """The text columns, joined in this order."""
    encoder: dict[str, Any]
    """What shapes the vectors: the identity of the encoder, beginning with the digest of its
    weights."""
    model: str | None = None
    """The model as named by the caller, `name` or `name::version`; not hashed. None for an encoder
    object."""


class LexicalDescriptor(_HashedDescriptor, frozen=True, tag_field="producer", tag="lexical"):
    """Texts of a table, as terms."""

    statement: str
    """The SELECT of key and texts; not hashed."""
    canonical: CanonicalStatement
    """Its canonical form; hashed."""
    asked: str
    """The source, table or SQL as written; not hashed."""
    key: str
    """The key column."""
    text: list[str]
    """The text columns, joined in this order."""
    analyzer: str
    """How texts become terms: english, simple, exact."""


class StepInput(Value, frozen=True):
    """One input of a Python step, or of a producer over several tables."""

    asked: str
    """The source, table or SQL as written; not hashed."""
    statement: str
    """The SELECT of its rows; not hashed."""
    canonical: CanonicalStatement
    """Its canonical form; hashed."""

    @property
    def reference(self) -> tuple[str, str]:
        """The input as written, and the statement that reads it: enough to bind it again."""
        return self.asked, self.statement


class RowMapDescriptor(
    _HashedDescriptor, frozen=True, kw_only=True, tag_field="producer", tag="row_map"
):
    """A Python function that is called for each row of a table."""

    statement: str
    """The SELECT of key and inputs; not hashed."""
    canonical: CanonicalStatement
    """Its canonical form; hashed."""
    asked: str
    """The source, table or SQL as written; not hashed."""
    key: str
    """The key column."""
    inputs: list[str]
    """The columns that the function receives."""
    function: str
    """`module:qualified name`, for finding it again; not hashed."""
    source: str
    """Its source code, for display; not hashed."""
    version: str | None
    """The version passed by the caller; None when the source code defines it."""
    digest: str
    """Digest of its source code and of what that refers to; with a version, the name of the
    versioned recipe."""
    params: dict[str, Any] = {}
    """Keyword arguments, encoded by `encode_param`."""
    schema: list[tuple[str, str]] | None = None
    """Names and Arrow types of the outputs; None when they follow from the values."""
    batched: bool = False
    """Whether the function receives an Arrow table instead of the values of one row."""
    on_error: str = "raise"
    """What an exception of the function does: raise, record."""
    batch: int = 1
    """Rows of one call at most; not hashed."""
    concurrency: int = 1
    """Calls at a time; not hashed."""
    cost: float | None = None
    """Cost of one call; not hashed."""

    VERB: ClassVar[str] = "ws.map"

    @property
    def _digest(self) -> str:
        return self.digest

    def calls_identity(self) -> str:
        """Digest of what defines the outputs of a row besides its inputs: two definitions with an
        equal one give equal outputs for equal inputs."""
        fields = self.identity()
        names = {fold(column) for column in self.inputs}
        types = [pair for pair in self.canonical.output if fold(pair[0]) in names]
        return digest_of({**fields, "canonical": types, "key": None, "on_error": None})


Descriptor = EmbeddingDescriptor | LexicalDescriptor | RowMapDescriptor


def parse_descriptor(plain: Mapping[str, Any]) -> Descriptor:
    """The descriptor in a dict from a manifest or the catalog. Raises TableDamaged for anything
    else."""
    try:
        parsed: Descriptor = msgspec.convert(plain, type=Descriptor)
    except msgspec.ValidationError:
        raise invalid_row_error() from None
    return parsed


def definition_hash(descriptor: Descriptor, environment: Mapping[str, Any]) -> str:
    """SHA-256 over the identity of the descriptor and the environment that shapes its output."""
    return digest_of(
        {
            "scheme": HASH_SCHEME,
            "descriptor": descriptor.identity(),
            "environment": dict(environment),
        }
    )


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


def merge_params(params: object, keywords: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The values of a statement's `$names`, from a mapping and from keywords, which take
    precedence. Raises InvalidArgument when `params` is not a mapping with string keys."""
    if params is not None and not (
        isinstance(params, Mapping) and all(isinstance(name, str) for name in params)
    ):
        raise InvalidArgument(
            f"params must be a dict of values by name, got {params!r}.",
            hint='For example: params={"name": 1}; a statement uses it as $name.',
        )
    return {**(params or {}), **(keywords or {})}


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
