"""The manifest: the attestation beside each Parquet file."""

import hashlib
import re
from typing import Any

import msgspec

from jammi_lab.canonical import digest_of
from jammi_lab.values.anchors import Anchor
from jammi_lab.values.base import Value
from jammi_lab.values.descriptors import HASH_SCHEME, hashed

MANIFEST_VERSION = 1
_SEAL = re.compile(rb'\n "seal": "([0-9a-f]{64})"')
"""The seal as it stands in a manifest's text: only keys of the manifest itself are indented by one, and no text in JSON begins a line."""
_UNSEALED = b'\n "seal": ""'


class Artifact(Value, frozen=True):
    """The digest of the whole Parquet file."""

    digest: str
    """Hex digits."""
    algorithm: str = "sha256"
    """The hash function."""


class Leaf(Value, frozen=True):
    """The digest of one column chunk: the bytes [offset, offset + length) of the file."""

    column: str
    """Top-level column."""
    row_group: int
    """Counting from 0."""
    offset: int
    """First byte."""
    length: int
    """Bytes."""
    digest: str
    """SHA-256 of those bytes."""


class Column(Value, frozen=True):
    """A column of a result table."""

    name: str
    """Its name."""
    type: str
    """Its SQL type."""
    digest: str = ""
    """Digest over its leaves, in row-group order."""


class Manifest(Value, frozen=True, kw_only=True):
    """What a result table is, what it was made from, by whom and when."""

    _untold = ("produced_by", "produced_at", "table_name", "seconds", "seal")

    artifact: Artifact
    """The whole file."""
    leaves: list[Leaf]
    """Its column chunks."""
    schema_digest: str
    """Digest over names and types."""
    definition_hash: str
    """Digest of descriptor and environment."""
    descriptor: dict[str, Any]
    """What was computed, verbatim."""
    environment: dict[str, Any]
    """What else shapes the output, verbatim."""
    anchors: list[Anchor]
    """The states of its inputs."""
    row_count: int
    """Rows."""
    produced_by: str
    """The run that made it."""
    produced_at: str
    """When, RFC 3339."""
    engine_version: str
    """Release of jammi_lab; not part of the definition."""
    table_name: str
    """Physical name."""
    recipe: str
    """The recipe it was first made for."""
    version: int
    """The version it was first made as."""
    kind: str
    """Kind of table."""
    columns: list[Column]
    """Names, SQL types and digests of its columns."""
    tenant: str | None = None
    """Whose it is; None is shared."""
    source_id: str | None = None
    """Whose rows these are; None for several."""
    model_id: str | None = None
    """The encoder, when there is one."""
    derived_from: str | None = None
    """The one result table read, if it is one."""
    key: list[str] = []
    """The columns that identify a row."""
    dimensions: int | None = None
    """Width of its vectors."""
    order_sensitive: bool = False
    """Whether the rows depend on the order of the inputs' rows."""
    seconds: float = 0.0
    """How long it took; not part of the definition."""
    counts: dict[str, int] = {}
    """What of the inputs has no part in the rows, and how many: members without a vector, edges without an end. Of an embedding its `Reuse`."""
    hash_scheme: str = HASH_SCHEME
    """Scheme of the definition hash."""
    writer: str = ""
    """What wrote the Parquet file; column digests compare within one writer."""
    manifest_version: int = MANIFEST_VERSION
    """Version of this layout."""
    seal: str = ""
    """SHA-256 of the manifest's text as it is with an empty one; the first release wrote none."""

    def encode(self) -> bytes:
        """The JSON that is stored, the same bytes for the same manifest."""
        return msgspec.json.format(msgspec.json.encode(self, order="sorted"), indent=1) + b"\n"

    def sealed(self) -> bytes:
        """The JSON that is stored, with its seal."""
        text = (msgspec.structs.replace(self, seal="") if self.seal else self).encode()
        return text.replace(_UNSEALED, _UNSEALED[:-1] + hashlib.sha256(text).hexdigest().encode() + b'"', 1)

    def recomputed_hash(self) -> str:
        """The definition hash that descriptor and environment, as they are written here, amount to."""
        return digest_of({"scheme": self.hash_scheme, "descriptor": hashed(self.descriptor), "environment": self.environment})


def is_sealed(body: bytes) -> bool:
    """Whether the bytes of a manifest are those that were written: nothing in them has changed since, except by someone who sealed it again."""
    found = _SEAL.search(body)
    return found is not None and hashlib.sha256(body[: found.start(1)] + body[found.end(1) :]).hexdigest().encode() == found[1]
