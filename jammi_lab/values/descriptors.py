"""Descriptors: what a producer was asked to compute, as values that are stored verbatim and hashed by their identity."""

import datetime
import decimal
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from jammi_lab.canonical import digest_of
from jammi_lab.errors import InvalidArgument
from jammi_lab.values.base import Value

HASH_SCHEME = "definition-1"


def hashed(descriptor: Mapping[str, Any]) -> dict[str, Any]:
    """A descriptor, as it is stored, without the fields that say how something was written and not what it means."""
    if descriptor.get("producer") == "python":
        said = {k: v for k, v in descriptor.items() if k not in ("function", "source")}
        return {**said, "inputs": [each["canonical"] for each in descriptor["inputs"]]}
    return {k: v["canonical"] if _is_input(v) else v for k, v in descriptor.items() if k not in ("statement", "asked")}


def _is_input(field: Any) -> bool:
    return isinstance(field, Mapping) and field.keys() == {"asked", "statement", "canonical"}


class Canonical(Value, frozen=True):
    """What an SQL statement says, without what does not matter: three parts that differ whenever the rows could."""

    scheme: str
    """Which canonicaliser made it, with its scheme number."""
    text: str
    """Canonical text."""
    constants: list[Any]
    """The typed constants of the syntax tree, in its order."""
    output: list[tuple[str, str]]
    """Exact names and SQL types of the output columns."""


class _Hashed(Value, frozen=True):
    """A descriptor whose definition is what `hashed` leaves of it."""

    def identity(self) -> dict[str, Any]:
        """What the definition hash covers."""
        return hashed(self.to_dict())


class SqlDescriptor(_Hashed, frozen=True, tag_field="producer", tag="sql"):
    """A statement with its bound values and key."""

    statement: str
    """The text as it was written; not hashed."""
    canonical: Canonical
    """What it says; hashed."""
    params: dict[str, Any] = {}
    """Bound values, encoded by `encode_param`."""
    key: list[str] = []
    """The columns that identify a row."""


class ExternalDescriptor(Value, frozen=True, tag_field="producer", tag="external"):
    """Rows that were computed elsewhere and handed in."""

    producer_id: str
    """Who computed them."""
    params: dict[str, Any]
    """What it was told, encoded by `encode_param`."""
    rows_digest: str
    """Digest of the rows handed in."""
    key: list[str] = []
    """The columns that identify a row."""

    def identity(self) -> dict[str, Any]:
        """What the definition hash covers."""
        return self.to_dict()


class EmbeddingDescriptor(_Hashed, frozen=True, tag_field="producer", tag="embedding"):
    """Texts of a table, turned into vectors by an encoder."""

    statement: str
    """The SELECT of key and texts; not hashed."""
    canonical: Canonical
    """What it says; hashed."""
    asked: str
    """The source, table or SQL, as it was written; not hashed."""
    key: str
    """The column that identifies a row."""
    text: list[str]
    """The columns whose texts are joined, in order."""
    encoder: dict[str, Any]
    """What shapes the vectors: the encoder's identity, its weights' digest first."""


class ImportedDescriptor(Value, frozen=True, tag_field="producer", tag="imported"):
    """Vectors that were computed elsewhere and handed in."""

    model_id: str
    """Who is said to have computed them."""
    rows_digest: str
    """Digest of the rows handed in."""
    key: str
    """The column that identifies a row, as it was called."""
    vector: str
    """The column of vectors, as it was called."""
    source: str | None = None
    """Whose rows these are."""

    def identity(self) -> dict[str, Any]:
        """What the definition hash covers."""
        return self.to_dict()


class StepInput(Value, frozen=True):
    """What a Python step, or a producer over several tables, reads as one argument."""

    asked: str
    """The source, table or SQL, as it was written; not hashed."""
    statement: str
    """The SELECT of its rows; not hashed."""
    canonical: Canonical
    """What it says; hashed."""


class PythonDescriptor(_Hashed, frozen=True, tag_field="producer", tag="python"):
    """A Python function over inputs."""

    function: str
    """`module:qualified name`, by which it is found again; not hashed."""
    source: str
    """Its source as it was, for people; not hashed."""
    version: str | None
    """The version that the caller gave; None when the source is what counts."""
    digest: str
    """Digest of its source and of what it names; with a version, the name of the recipe that the version is of."""
    inputs: list[StepInput] = []
    """What it is called with, in order."""
    params: dict[str, Any] = {}
    """Keyword arguments, encoded by `encode_param`."""
    key: list[str] = []
    """The columns that identify a row."""


class NeighborGraphDescriptor(_Hashed, frozen=True, kw_only=True, tag_field="producer", tag="neighbor_graph"):
    """The rows of an embedding table, each with those most similar to it."""

    vectors: StepInput
    """The embedding table."""
    k: int
    """How many of the others each row is joined with at most."""
    min_similarity: float | None = None
    """The floor of similarity; None for no floor."""
    mutual: bool = False
    """Whether both of two rows must be among the nearest of the other."""
    exact: bool | None = None
    """Whether every pair is compared; None for: while there are few rows."""
    exact_max_rows: int | None = None
    """How many rows are few; None unless `exact` is."""


class GraphPropagationDescriptor(_Hashed, frozen=True, kw_only=True, tag_field="producer", tag="graph_propagation"):
    """Vectors, each mixed with those of its neighbours in a graph."""

    vectors: StepInput
    """The embedding table."""
    edges: StepInput
    """The edges: src, dst and, when they are weighted, similarity."""
    hops: int
    """How often."""
    alpha: float
    """The share of a row's own first vector in each hop."""
    direction: str
    """Along which end of an edge: out, in, both."""
    weighting: str
    """What an edge weighs: uniform, similarity."""
    output: str
    """What is put out: final, concat."""


class ContextSetDescriptor(_Hashed, frozen=True, kw_only=True, tag_field="producer", tag="context_set"):
    """For each target one vector: its members' vectors, pooled."""

    vectors: StepInput
    """The embedding table."""
    members: StepInput
    """Who belongs to which target."""
    pool: str
    """How they are pooled: mean, sum, max."""


class ProjectionDescriptor(_Hashed, frozen=True, kw_only=True, tag_field="producer", tag="projection"):
    """The rows of an embedding table as points of a plane."""

    vectors: StepInput
    """The embedding table."""
    method: str
    """How they are placed: pca, tsne."""
    perplexity: float | None = None
    """To about how many others a row is held near; None where the method does not ask."""
    seed: int | None = None
    """Of the numbers drawn by chance; None where none are."""


class AsofJoinDescriptor(_Hashed, frozen=True, kw_only=True, tag_field="producer", tag="asof_join"):
    """Each row of a spine with the fact that was known at its time."""

    spine: StepInput
    """The rows that are kept."""
    facts: StepInput
    """The rows that are looked up."""
    spine_time: str
    """The spine's column of times."""
    facts_time: str
    """The facts' column of times."""
    by: list[tuple[str, str]] = []
    """Columns that must be equal, of the spine and of the facts."""
    direction: str = "backward"
    """Which way is looked: backward, forward, nearest."""
    boundary: str = "inclusive"
    """Whether a fact of the very time counts: inclusive, exclusive."""
    tolerance: Any = None
    """How far at most, encoded by `encode_param`; None for any distance."""
    tie_break: str | None = None
    """The column whose greatest value wins among facts of one time."""
    project: list[str] | None = None
    """The columns of the facts that are put out; None for all but `by`."""


Descriptor = (
    SqlDescriptor
    | ExternalDescriptor
    | EmbeddingDescriptor
    | ImportedDescriptor
    | PythonDescriptor
    | NeighborGraphDescriptor
    | GraphPropagationDescriptor
    | ContextSetDescriptor
    | ProjectionDescriptor
    | AsofJoinDescriptor
)


def parse_descriptor(plain: Mapping[str, Any]) -> Descriptor:
    """The descriptor that such a dict (from a manifest or the catalog) stands for. msgspec.ValidationError for anything else."""
    parsed: Descriptor = msgspec.convert(plain, type=Descriptor)
    return parsed


def definition_hash(descriptor: Descriptor, environment: Mapping[str, Any]) -> str:
    """SHA-256 over the identity of the descriptor and the environment that shapes its output."""
    return digest_of({"scheme": HASH_SCHEME, "descriptor": descriptor.identity(), "environment": dict(environment)})


_TEXTUAL: dict[str, tuple[type, Any, Any]] = {
    "datetime": (datetime.datetime, datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    "date": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
    "time": (datetime.time, datetime.time.isoformat, datetime.time.fromisoformat),
    "decimal": (decimal.Decimal, str, decimal.Decimal),
    "uuid": (uuid.UUID, str, uuid.UUID),
    "float": (float, float.hex, float.fromhex),
    "bytes": (bytes, bytes.hex, bytes.fromhex),
}


def bound(params: object, named: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The values of a statement's `$names`: those of a mapping, and keywords, which win. InvalidArgument when it is none."""
    if params is not None and not (isinstance(params, Mapping) and all(isinstance(name, str) for name in params)):
        raise InvalidArgument(f"params is a dict of values by name, not {params!r}.", hint='Write $name, and pass params={"name": …}.')
    return {**(params or {}), **(named or {})}


def encode_param(value: Any) -> Any:
    """A bound value as JSON that keeps its type: 1, 1.0, True and "1" stay four values. InvalidArgument for what SQL cannot bind."""
    item = getattr(value, "item", None)
    if item is not None and getattr(value, "shape", None) == ():
        value = item()
    match value:
        case None | bool():
            return value
        case int():
            return int(value)  # one of a class of its own is written as a number, too
        case str():
            return _text(str.__str__(value))
        case datetime.timedelta():
            return {"timedelta": [value.days, value.seconds, value.microseconds]}
        case list() | tuple():
            return [encode_param(v) for v in value]
        case dict():
            return {"dict": [[encode_param(k), encode_param(v)] for k, v in value.items()]}
    for name, (kind, write, _) in _TEXTUAL.items():
        if isinstance(value, kind):
            return {name: write(value)}
    raise InvalidArgument(
        f"A value of type {type(value).__name__} cannot be bound as a parameter.", hint="Pass a number, text, bytes, date, time, list or dict."
    )


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(
            f"The text {value[:40]!r} holds half a character and cannot be bound as a parameter.",
            hint="Make it whole: text.encode('utf-8', 'replace').decode().",
        ) from None
    return value


def decode_param(plain: Any) -> Any:
    """The Python value of what `encode_param` wrote."""
    if isinstance(plain, list):
        return [decode_param(v) for v in plain]
    if not isinstance(plain, dict):
        return plain
    [(name, body)] = plain.items()
    if name == "timedelta":
        return datetime.timedelta(*body)
    if name == "dict":
        return {decode_param(k): decode_param(v) for k, v in body}
    return _TEXTUAL[name][2](body)
